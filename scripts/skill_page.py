"""What the kept answers of models amount to: tables for scripts/model_skills.py, on a console or as a page.

Intervals are 95 %, by resampling whole questions, traces or pairs. A log-odds is of Yes against No, in nats; asked
whether something is wrong, its sign is turned, so that above 0 always says "right". The mean of both is free of a
liking for one of the words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from frozen import cell
from kept_rows import Row, costs, read

from rrm.measure.stats import Interval, auc, interval
from rrm_assistants.expressions import numbers
from rrm_assistants.solution import answer

Scored = tuple[float, bool]
"""A score, the higher the rather right, and whether it is right."""
Clusters = Sequence[Sequence[Scored]]
"""Per trace or question, what was judged."""


@dataclass(frozen=True)
class Sheet:
    """A table of results."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str = ""

    def markdown(self) -> str:
        """As a page has it."""
        lines = [f"## {self.title}", "", f"| {' | '.join(self.head)} |", f"| {' | '.join('---' for _ in self.head)} |"]
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        return "\n".join([*lines, *(["", self.note] if self.note else []), ""])


# --- numbers -----------------------------------------------------------------------------------------


def resampled(clusters: Sequence[Any], of: Callable[[Sequence[Any]], float], resamples: int = 400) -> Interval:
    """A statistic of all clusters, with a 95 % percentile interval by resampling whole ones. Draws in which it is no
    number (only right ones were drawn) are left out."""
    rng, n = np.random.default_rng(0), len(clusters)
    drawn = [of([clusters[i] for i in rng.integers(n, size=n)]) for _ in range(resamples)] if n > 1 else []
    kept = [value for value in drawn if not np.isnan(value)]
    mean = of(clusters)
    low, high = np.percentile(kept, [2.5, 97.5]) if kept else (mean, mean)
    return Interval(mean=mean, low=float(low), high=float(high), n=n)


def area(clusters: Clusters) -> float:
    """The chance that a right one scores above a wrong one, over all clusters."""
    flat = [one for cluster in clusters for one in cluster]
    return auc([score for score, right in flat if right], [score for score, right in flat if not right])


def balanced(clusters: Clusters) -> float:
    """The mean of the shares of right ones scored above 0 and of wrong ones below; a score of 0 counts half."""
    flat = [one for cluster in clusters for one in cluster]
    hits = {side: [0.5 + 0.5 * float(np.sign(s)) * (1 if side else -1) for s, right in flat if right == side]
            for side in (True, False)}  # fmt: skip
    return float(np.mean([np.mean(one) for one in hits.values()])) if all(hits.values()) else float("nan")


def within(clusters: Clusters) -> Interval:
    """The chance that a right one scores above a wrong one of the same question, over all such pairs."""
    return interval(
        [
            [0.5 + 0.5 * float(np.sign(a - b)) for a, good in one if good for b, bad in one if not bad]
            for one in clusters
        ]
    )


def lean(pair: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Log-odds of "right" when it was asked whether something is right, and whether it is wrong."""
    (yes, no), (also, nay) = pair
    return yes - no, nay - also


def too_long(number: int) -> str:
    """What did not fit into the model's context, and was not asked."""
    return f"; {number} too long" if number else ""


def share(values: Sequence[float]) -> str:
    """Of items of their own each: mean and interval."""
    return cell(interval([[value] for value in values])) if values else "-"


# --- parts -------------------------------------------------------------------------------------------


def gsm8k(models: dict[str, Path]) -> Sheet:
    """Questions solved."""
    rows = []
    for name, folder in models.items():
        for arm in ("form", "free"):
            _, kept = read(folder / f"gsm8k-{arm}.jsonl")
            if not kept:
                continue
            said, keys = [answer(row["text"]) for row in kept], [Fraction(row["key"]) for row in kept]
            solved = share([float(one == key) for one, key in zip(said, keys, strict=True)])
            readable = share([float(one is not None) for one in said])
            last = share([float(numbers(row["text"])[-1:] == [abs(key)]) for row, key in zip(kept, keys, strict=True)])
            ended = f"{np.mean([row['ended'] for row in kept]):.2f}"
            tokens = f"{np.mean([row['tokens'] for row in kept]):.0f}"
            rows.append((name, arm, str(len(kept)), solved, readable, last, ended, tokens))
    note = (
        "Greedy, one try. *form*: the prompt and form of `word_problems`; *free*: the same prompt, held to nothing. "
        "*Readable*: a last line `A: number` (or `####`, or \"The answer is\"). *Last number*: the last number of the "
        "text is the key's, wherever it stands. No question is of the quarter that tools and prompts were written "
        "looking at."
    )
    head = ("model", "arm", "questions", "solved", "readable", "last number is the key's", "ended", "tokens")
    return Sheet("GSM8K test questions", head, rows, note)


def roles(models: dict[str, Path]) -> Sheet:
    """What can be read of each role."""
    found: dict[str, dict[tuple[str, bool], Row]] = {}
    for name, folder in models.items():
        for row in read(folder / "roles.jsonl")[1]:
            for one in row["roles"]:
                found.setdefault(one["role"], {})[name, row["free"]] = one
    rows = []
    for role, said in found.items():
        cells = []
        for name in models:
            for free in (True, False):
                one = said.get((name, free))
                if one is None:
                    cells.append("-")
                    continue
                number = len(one["faults"])
                text = f"{number - sum(map(bool, one['faults']))} of {number}"
                cells.append(text if one["verdicts"] is None else f"{text} ({'/'.join(map(str, one['verdicts']))})")
        rows.append((role, *cells))
    head = ("role", *(f"{name}, {how}" for name in models for how in ("told only", "held to the form")))
    note = (
        "Readable outcomes of the untrained model (`rrm look`, `--free` and not); in brackets how often its verdicts "
        "say that something holds, and that it does not. `novelty` compares by words, without MiniLM. A role whose "
        "parent wrote nothing that asks it anything is \"-\"."
    )
    return Sheet("Readable answers of each role", head, rows, note)


def verdict_rows(name: str, what: str, pairs: Sequence[Sequence[tuple[tuple[float, float], bool]]]) -> list[list[str]]:
    """Per way of asking: balanced accuracy at 0, AUC. pairs: per cluster, both log-odds and the truth."""
    ways: dict[str, Callable[[float, float], float]] = {
        "asked whether right": lambda right, wrong: right,
        "asked whether wrong": lambda right, wrong: wrong,
        "mean of both": lambda right, wrong: (right + wrong) / 2,
    }
    out = []
    for way, of in ways.items():
        clusters = [[(of(*both), truth) for both, truth in one] for one in pairs]
        yes = [s > 0 if "wrong" not in way else s < 0 for one in clusters for s, _ in one]
        said = "" if way.startswith("mean") else f"{np.mean(yes):.2f}"
        out.append([name, what, way, cell(resampled(clusters, balanced)), cell(resampled(clusters, area)), said])
    return out


def bias(pairs: Sequence[Sequence[tuple[tuple[float, float], bool]]]) -> str:
    """How much rather Yes than No is said, whatever was asked, in nats."""
    return f"{np.mean([(right - wrong) / 2 for one in pairs for (right, wrong), _ in one]):+.2f}"


def steps(models: dict[str, Path]) -> Sheet:
    """Verdicts on steps."""
    rows: list[tuple[str, ...]] = []
    for task in ("multistep_arithmetic", "word_sorting"):
        shown: set[int] = set()  # a model that was asked about fewer has a baseline of its own
        for name, folder in models.items():
            _, kept = read(folder / f"steps-{task}.jsonl")
            fit = [row for row in kept if row["said"]]
            if not fit:
                continue
            pairs = []
            for row in fit:
                asked = [lean(row["said"][i : i + 2]) for i in range(0, len(row["said"]), 2)]
                pairs.append([(both, i != row["mistake"]) for i, both in enumerate(asked)])
            if len(fit) not in shown:
                shown.add(len(fit))
                places = [[(-float(i), truth) for i, (_, truth) in enumerate(one)] for one in pairs]
                base = np.mean([truth for one in pairs for _, truth in one])
                how = f"the earlier, the rather right ({base:.2f} are right)"
                rows.append(("its position alone", task, how, "0.500", cell(resampled(places, area)), "", "",
                             f"{len(fit)} / {sum(map(len, pairs))}"))  # fmt: skip
            counted = f"{len(fit)} / {sum(map(len, pairs))}{too_long(len(kept) - len(fit))}"
            rows += [(*row, bias(pairs), counted) for row in verdict_rows(name, task, pairs)]
    head = ("who", "traces of", "how", "balanced accuracy at 0", "AUC", "says yes", "yes-bias, nats",
            "traces / steps")  # fmt: skip
    note = (
        "BIG-Bench-Mistake: each step up to the first mistake, which people named, and none after it; the first step "
        "of multistep_arithmetic, which they were not shown, is left out. Is step k right (is it wrong), given the "
        "steps before it? Yes or No. Nothing is fitted. Mistakes come late, so a step's position alone tells much."
    )
    return Sheet("Verdicts on steps", head, rows, note)


def solutions(models: dict[str, Path]) -> Sheet:
    """Verdicts on whole solutions."""
    rows: list[tuple[str, ...]] = []
    shown: set[int] = set()
    for name, folder in models.items():
        _, kept = read(folder / "solutions.jsonl")
        if not kept:
            continue
        if len(kept) not in shown:
            shown.add(len(kept))
            for what, key, sign in (("length", "length", -1.0), ("majority", "votes", 1.0)):
                clusters = [
                    [(sign * value, right) for value, right in zip(row[key], row["right"], strict=True)] for row in kept
                ]
                says = {"length": "the shorter, the rather right", "majority": "models with the same answer"}[what]
                truth = f"{says} ({np.mean([right for row in kept for right in row['right']]):.2f} are right)"
                rows.append((what, truth, "", cell(resampled(clusters, area)), cell(within(clusters)), "", "",
                             str(len(kept))))  # fmt: skip
        pairs = [
            [(lean(said), right) for said, right in zip(row["said"], row["right"], strict=True) if said]
            for row in kept
        ]
        lost = sum(said is None for row in kept for said in row["said"])
        for who, _, way, accuracy, over_all, yes in verdict_rows(name, "", pairs):
            pick = {"asked whether right": 0, "asked whether wrong": 1}.get(way)
            clusters = [
                [(both[pick] if pick is not None else sum(both) / 2, right) for both, right in one] for one in pairs
            ]
            rows.append((who, way, accuracy, over_all, cell(within(clusters)), yes, bias(pairs),
                         f"{len(kept)}{too_long(lost)}"))  # fmt: skip
    head = ("who", "how", "balanced accuracy at 0", "AUC over all", "AUC within a question", "says yes",
            "yes-bias, nats", "questions")  # fmt: skip
    note = (
        "GSM8K's solutions by four models, of questions that some of them solved and some did not; without the "
        "calculator's `<<...>>`. Is this solution right (is it wrong)? Yes or No. *Within a question*: a right one "
        "above a wrong one of the same question."
    )
    return Sheet("Verdicts on whole solutions", head, rows, note)


def pairs_judged(models: dict[str, Path]) -> Sheet:
    """LLMBar."""
    rows: list[tuple[str, ...]] = []
    for kind in ("natural", "adversarial"):
        shown: set[int] = set()
        for name, folder in models.items():
            _, kept = read(folder / f"llmbar-{kind}.jsonl")
            if not kept:
                continue
            if len(kept) not in shown:
                shown.add(len(kept))
                longer = [0.5 if a == b else float((a > b) == (row["label"] == 1))
                          for row in kept for a, b in (row["length"],)]  # fmt: skip
                rows.append(("the longer answer", kind, str(len(kept)), share(longer), *[""] * 6))
            fit = [row for row in kept if row["chances"]]
            if fit:
                rows.append((name, kind, f"{len(fit)}{too_long(len(kept) - len(fit))}", *judged(fit)))
    head = ("who", "kind", "pairs", "accuracy", "accuracy by the sign", "ties", "abstains", "A, first order",
            "A, second order", "orders disagree")  # fmt: skip
    note = (
        "LLMBar; the judge is `rrm.ModelUser`, asked in both orders. *Accuracy*: a tie or an abstention counts half. "
        "*By the sign*: the mean of both orders decides, however near to one half. *A*: how often what is shown as A "
        "is preferred; *disagree*: the two orders prefer different answers."
    )
    return Sheet("Pairs of answers, as a judge", head, rows, note)


def judged(rows: Sequence[Row]) -> tuple[str, ...]:
    """A judge's accuracy, accuracy by the sign, ties, abstentions, A in each order, disagreement."""
    said = [row["preference"] for row in rows]
    wanted = [float(row["label"] == 1) for row in rows]
    hits = [0.5 if p is None or p == 0.5 else float(p == w) for p, w in zip(said, wanted, strict=True)]
    first, second = ([row["chances"][i] for row in rows] for i in (0, 1))
    sign = [0.5 + 0.5 * float(np.sign(a - b)) * (1 if w else -1) for a, b, w in zip(first, second, wanted, strict=True)]
    apart = [float((a > 0.5) == (b > 0.5)) for a, b in zip(first, second, strict=True)]
    shares = ([p == 0.5 for p in said], [p is None for p in said], [a > 0.5 for a in first], [b > 0.5 for b in second])
    return share(hits), share(sign), *(f"{np.mean(one):.2f}" for one in shares), f"{np.mean(apart):.2f}"


def speed(models: dict[str, Path]) -> Sheet:
    """Tokens a second and memory."""
    rows: list[tuple[str, ...]] = []
    note = ""
    for name, folder in models.items():
        settings, kept = read(folder / "speed.jsonl")
        for row in kept:
            rates = (f"{per_processor:.0f} ({by_clock:.0f})" for per_processor, by_clock in
                     (row["cases"], row["one case"]))  # fmt: skip
            rows.append((name, row["engine"], *rates, f"{row['load']:.0f}", f"{row['loaded_mb'] / 1024:.1f}",
                         f"{row['peak_mb'] / 1024:.1f}"))  # fmt: skip
        if settings:
            note = (
                "Tokens per processor second (in brackets by the clock, on a machine that other work shares): "
                f"{settings['rows']} cases of about 40 tokens greedily, or one case as often at temperature 1; "
                f"{settings['tokens']} tokens each, none ends early; {settings['threads']} thread(s); same weights, "
                "same precision, a process each. The peak includes loading: `rrm` loads in float32, tries the model "
                "out and rounds then, `generate` loads in the precision it computes in."
            )  # fmt: skip
    head = ("model", "engine", "tokens/s, cases", "tokens/s, one case", "processor seconds to load",
            "peak after loading, GB", "peak in all, GB")  # fmt: skip
    return Sheet("Speed and memory, beside `generate`", head, rows, note)


def cost(models: dict[str, Path]) -> Sheet:
    """Processor time of every part."""
    rows, whole = [], 0.0
    for name, folder in models.items():
        for part, sums in costs(folder).items():
            rows.append((name, part, f"{sums['items']:.0f}", f"{sums['tokens']:.0f}",
                         f"{sums['tokens'] / max(sums['wall'], 1e-9):.0f}", f"{sums['cpu'] / 60:.2f}"))  # fmt: skip
            whole += sums["cpu"] / 3600
    head = ("model", "part", "items", "tokens", "tokens/s", "processor minutes")
    return Sheet("What it cost", head, rows, f"In all {whole:.2f} processor hours.")


SHEETS: dict[str, Callable[[dict[str, Path]], Sheet]] = {
    "gsm8k": gsm8k, "roles": roles, "steps": steps, "solutions": solutions, "llmbar": pairs_judged, "speed": speed,
    "cost": cost,
}  # fmt: skip


def sheets(models: dict[str, Path]) -> list[Sheet]:
    """The tables of which there is anything to show. models: name -> the folder of its files."""
    return [sheet for sheet in (of(models) for of in SHEETS.values()) if sheet.rows]
