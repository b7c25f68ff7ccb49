"""The page of scripts/words.py: tables with intervals over seeds and questions, and what was written by hand, kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from words_stage import quality

from rrm.measure.catalog import with_own_words
from rrm.measure.experiment import agreement, cells, lift, misses
from rrm.measure.stats import clipped, of_numbers, over_seeds, share_over_seeds

Rows = list[dict[str, Any]]
Found = Mapping[int, Mapping[str, Any]]
"""Seed -> what its part gave."""


def page(found: Mapping[str, Found], command: str, where: Path | None) -> str:
    """The page; what stands below the line BY_HAND in the file `where` is kept."""
    parts = ["# words", HEAD, f"    {command}", *(section(part, one) for part, one in found.items() if one)]
    seconds = {part: sum(r["processor seconds"] for r in one.values()) for part, one in found.items() if one}
    spent = ", ".join(f"{part} {value / 3600:.2f}" for part, value in seconds.items())
    parts += [f"Processor hours: {spent}; {sum(seconds.values()) / 3600:.2f} in all."]
    text = "\n\n".join(parts) + "\n"
    return text if where is None else with_own_words(text, where)


HEAD = """Critics in words over real solutions of word problems: do they help who judges, does a level below them help \
them, what do they do to a weak judge, and what if they mislead?"""


def section(part: str, one: Found) -> str:
    """A part's tables, and how it was measured."""
    results = [one[seed]["result"] for seed in sorted(one)]
    about = [one[seed]["about"] for seed in sorted(one)]
    apart = {key for key in about[0] if len({str(a[key]) for a in about}) > 1}
    if apart:
        raise SystemExit(f"{part}: the seeds were measured with different {', '.join(sorted(apart))}")
    said = "; ".join(f"{key} {value}" for key, value in about[0].items() if key != "quick")
    by = ", ".join(dict.fromkeys(one[seed]["code"] for seed in sorted(one)))
    head = f"## {part}\n\nSeeds {', '.join(map(str, sorted(one)))}; {said}; {by}."
    if about[0]["quick"]:
        head += " **A smoke test: a random model, nothing was learned.**"
    tables = {"judging": judging, "weak-judge": weak, "misleading": misleading, "acting": acting}[part](results)
    drawn = [shown(one) for one in results[0].get("examples", ())]
    if drawn:
        drawn = [f"The first of seed {min(one)}, picked by nobody:", *drawn]
    return "\n\n".join([head, *(f"{title}\n\n{table(rows)}" for title, rows in tables.items()), *drawn])


def shown(example: Mapping[str, str]) -> str:
    """A question, a solution and what was said of it, as text that nothing in it can break out of."""
    lines = [line for key, value in example.items() for line in f"{key}: {value}".splitlines()]
    return "\n".join(f"    {line}" for line in lines)


def table(rows: Rows) -> str:
    """Markdown."""
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in cells(rows)]
    return "\n".join([f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *(f"| {' | '.join(r)} |" for r in body)])


def judging(results: Sequence[Mapping[str, Any]]) -> dict[str, Rows]:
    """Arms, the sweep of attention, and the critics' claims."""
    of = {name: [r["arms"][name] for r in results] for name in results[0]["arms"]}
    rows: Rows = []
    for name, own in of.items():
        row: dict[str, Any] = {"arm": name, "user agrees with the key": agreement(own), **misses(own)}
        row["attention spent"] = float(np.mean([spent for r in own for *_, spent in r]))
        row["less alone"] = "" if name == "alone" else lift(own, of["alone"])
        row["depth 2 less this"] = "" if name == "depth 2" else lift(of["depth 2"], own)
        rows.append(row)
    swept = results[0]["attention"]
    by_attention: Rows = []
    for a in swept:
        found = {name: [r["attention"][a][name] for r in results] for name in swept[a]}
        row = {"attention": a, **{name: agreement(one) for name, one in found.items()}}
        helped = {name for name in found if name.startswith("depth")}
        by_attention.append(row | {f"{name} less alone": lift(found[name], found["alone"]) for name in sorted(helped)})
    return {
        "Agreement of the bounded user, one pair of each question.": rows,
        "The same user with more and less attention.": by_attention,
        **claimed(results),
    }


def claimed(results: Sequence[Mapping[str, Any]]) -> dict[str, Rows]:
    """What critics say against what is so, with what saying always the same would get."""
    names = list(results[0]["claims"])
    seen = [r["claims"][names[0]]["steps"] for r in results]
    rows: Rows = [
        {"critic": name, **quality([r["claims"][name]["steps"] for r in results])} for name in names
    ]
    if "position" in results[0]:
        places = [r["position"] for r in results]
        constant = [
            [[case, wrong, min(place, n), n] for case, wrong, _, n in rows_of]
            for rows_of, place in zip(seen, places, strict=True)
        ]
        rows.append({"critic": f"always line {', '.join(map(str, dict.fromkeys(places)))}", **quality(constant)})
    lines: Rows = []
    for name in names:
        said = [r["claims"][name]["step"] for r in results]
        if any(said):
            lines.append({"step, below": name, **of_lines(said)})
    return {"`steps`: solutions called wrong, and the line accused. Half of the solutions are wrong.": rows,
            "`step`: the line that the answer above speaks of.": lines}  # fmt: skip


def of_lines(seeds: Sequence[Sequence[Sequence[Any]]]) -> dict[str, Any]:
    """How right `step` is."""

    def share(value: Callable[[bool, bool], bool], among: Callable[[bool, bool], bool]) -> Any:
        return share_over_seeds([grouped((c, value(h, s)) for c, h, s in rows if among(h, s)) for rows in seeds])

    return {
        "the line holds": share(lambda h, s: h, lambda h, s: True),
        "said to hold": share(lambda h, s: s, lambda h, s: True),
        "... of those that hold": share(lambda h, s: s, lambda h, s: h),
        "... of those that do not": share(lambda h, s: s, lambda h, s: not h),
    }


def weak(results: Sequence[Mapping[str, Any]]) -> dict[str, Rows]:
    """The weak judge: agreement in both orders together and in each, and what moved it."""
    rows: Rows = []
    alone = [r["arms"]["alone"] for r in results]
    for name in results[0]["arms"]:
        own = [r["arms"][name] for r in results]
        rows.append({
            "the judge is shown": name,
            "agrees with the key": share_over_seeds([grouped((r[0], agrees(r)) for r in rows_) for rows_ in own]),
            "less alone": "" if name == "alone" else over_seeds(
                [grouped((a[0], agrees(a) - agrees(b)) for a, b in zip(x, y, strict=True))
                 for x, y in zip(own, alone, strict=True)]),
            "one order only": share_over_seeds(
                [grouped((r[0], float((p > 0.5) == (t > 0.5))) for r in rows_ for p, t in
                         ((r[2], r[1]), (r[3], 1 - r[1]))) for rows_ in own]),
            "prefers what is first": share_over_seeds(
                [grouped((r[0], float(p > 0.5)) for r in rows_ for p in r[2:4]) for rows_ in own]),
            "verdict turned": "" if name == "alone" else share_over_seeds(
                [grouped((a[0], float((chance(a) > 0.5) != (chance(b) > 0.5))) for a, b in zip(x, y, strict=True))
                 for x, y in zip(own, alone, strict=True)]),
            "chance moved to the side the critic speaks for": "" if name == "alone" else over_seeds(
                [grouped((a[0], (chance(a) - chance(b)) * a[5]) for a, b in zip(x, y, strict=True) if a[5])
                 for x, y in zip(own, alone, strict=True)]),
            "probability on either answer": float(np.mean([r[4] for rows_ in own for r in rows_])),
            "pairs where it speaks for one": float(np.mean([abs(r[5]) for rows_ in own for r in rows_])),
        })  # fmt: skip
    return {f"Judge: {results[0]['judge']}; both orders, averaged.": rows}


def chance(row: Sequence[float]) -> float:
    """Of preferring the first, free of a preference for a position."""
    return (row[2] + 1 - row[3]) / 2


def agrees(row: Sequence[float]) -> float:
    """1 if the judge prefers the right one, 0.5 for a tie."""
    lead = chance(row) - 0.5
    return 0.5 if abs(lead) < 1e-9 else float((lead > 0) == (row[1] > 0.5))


def misleading(results: Sequence[Mapping[str, Any]]) -> dict[str, Rows]:
    """Agreement and earned trust, by kind and rate of spot checks."""
    alone = [r["alone"] for r in results]
    rows: Rows = [{"critics": "none (alone)", "agreement": agreement(alone)}]
    earned: Rows = []
    for name, rates in results[0]["misled"].items():
        own = {rate: [r["misled"][name][rate] for r in results] for rate in rates}
        usual = own["0.1"]
        honest = [r["misled"]["honest"]["0.1"] for r in results]
        rows.append({"critics": name, "agreement": agreement(usual), "less alone": lift(usual, alone),
                     "less honest": "" if name == "honest" else lift(usual, honest),
                     **{f"spot checks {rate}": agreement(own[rate]) for rate in rates if rate != "0.1"}})  # fmt: skip
        for who in results[0]["trust"][name]["0.1"]:
            row: dict[str, Any] = {"critics": name, "who": who}
            for rate in rates:
                trusted = [r["trust"][name][rate][who] for r in results]
                row[f"spot checks {rate}"] = clipped(of_numbers(trusted))
                honestly = [r["trust"]["honest"][rate][who] for r in results]
                less = [one - other for one, other in zip(trusted, honestly, strict=True)]
                if rate == "0.1" and name != "honest":
                    row["less honest, 0.1"] = of_numbers(less)
            earned.append(row)
    return {
        "Agreement with critics that mislead (10 % spot checks, and other rates).": rows,
        "Trust earned: the share of checked claims that were right, drawn to the prior.": earned,
        **claimed(results),
    }


def acting(results: Sequence[Mapping[str, Any]]) -> dict[str, Rows]:
    """Solved share of the model's own solutions: by chance, by vote, by reward models, and at best."""

    def solved(choose: Callable[[Mapping[str, Any], int], float]) -> list[list[list[float]]]:
        return [[[choose(r, q)] for q in range(len(r["right"]))] for r in results]

    def best(name: str) -> Callable[[Mapping[str, Any], int], float]:
        return lambda r, q: r["right"][q][int(np.argmax(r["scores"][name][q]))]

    ways = {
        "one at random (mean of four): before": solved(lambda r, q: float(np.mean(r["right"][q]))),
        "majority vote": solved(vote),
        **{f"best by the reward model, user {name}": solved(best(name)) for name in results[0]["scores"]},
        "best possible": solved(lambda r, q: max(r["right"][q])),
    }
    first = next(iter(ways))
    return {
        "Solved share of held-out questions, of four solutions each.": [
            {"solution given": name, "solved": share_over_seeds(values), "less one at random": "" if name == first else
             over_seeds([[[x[0] - y[0]] for x, y in zip(a, b, strict=True)]
                         for a, b in zip(values, ways[first], strict=True)])}
            for name, values in ways.items()
        ]
    }  # fmt: skip


def vote(r: Mapping[str, Any], q: int) -> float:
    """How right a solution with the commonest answer is; the mean where several are as common."""
    counts = Counter(a for a in r["answers"][q] if a is not None)
    if not counts:
        return 0.0
    most = max(counts.values())
    return float(np.mean([ok for a, ok in zip(r["answers"][q], r["right"][q], strict=True) if counts.get(a) == most]))


def grouped(values: Any) -> list[list[float]]:
    """(case, value) pairs -> the values of each case."""
    by: dict[int, list[float]] = {}
    for case, value in values:
        by.setdefault(case, []).append(float(value))
    return list(by.values())
