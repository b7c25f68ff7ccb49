"""A trained node's reward model on pairs, or labels of steps, that others published: how often it is right, beside
what needs no training.

Of pairs: does the outcome that people preferred score higher? Of labels of steps (ProcessBench, PRM800K and the like):
of all that a critic can answer ("yes", or "no" and a step), is what scores highest the label? Intervals resample cases
(prompts), as pairs of one are not independent.

The baselines of a pair: the longer outcome; the first of the two, where the file has an order; the likelier to the
starting model, by the sum over its tokens and by their mean. A tie is half right, everywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from rrm.core.errors import ContextError
from rrm.core.records import Assistance, Group, Outcome
from rrm.core.task import Assistant, assist
from rrm.exchange.exporting import ExchangeError
from rrm.exchange.imports import steps
from rrm.exchange.imports.columns import LeftOut, Row
from rrm.exchange.imports.converting import Kind, Reading, Tally, prepared, read
from rrm.exchange.imports.mapped import Columns
from rrm.exchange.imports.sources import Source
from rrm.measure.stats import Interval, clipped, interval
from rrm.models.agent import reference_logprobs, tokens_of
from rrm.models.reward import TextRewardModel

AT_ONCE = 8
"""Cases that are scored at once."""
NODE = "the node"
LENGTH, FIRST, LIKELY, MEAN = "the longer", "the first", "the likelier", "the likelier, a token"
NONE_WRONG, LAST_STEP = "no step is wrong", "the last step"
Progress = Callable[[int], None]
"""Hears how many cases are done."""


@dataclass(frozen=True)
class JudgeLine:
    """How often one judge is right, and the node less it on the same rows; None of the node itself."""

    name: str
    right: Interval
    behind: Interval | None


@dataclass(frozen=True)
class ScoredPart:
    """The lines of all rows, or of those with one value in the column that was asked for."""

    name: str
    pairs: int
    cases: int
    lines: tuple[JudgeLine, ...]


@dataclass(frozen=True)
class Published:
    """What became of a file's rows.

    Attributes
    ----------
    kind: the format that its rows are of.
    what: "pairs" or "steps".
    left: reasons for rows to be left out -> how many.
    f1: of steps only, judge -> the harmonic mean of how often it names the first wrong step, and how often it finds
        none where none is (ProcessBench's figure).
    """

    source: str
    kind: Kind
    what: str
    parts: tuple[ScoredPart, ...]
    left: Mapping[str, int]
    f1: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class _Judged:
    """One pair, or one worked-out answer: how right each judge is, 0 to 1."""

    cluster: str
    part: str
    right: Mapping[str, float]


def score_file(
    reward: TextRewardModel, given: Source, format: str = "auto", columns: Columns | None = None,
    ignore: Sequence[str] = (), by: str = "subset", helpers: Sequence[Assistant] = (), most: int | None = None,
    question: str = steps.QUESTION, progress: Progress = lambda n: None,
) -> Published:  # fmt: skip
    """Score a file's rows, which are read as `rrm import` reads them. Raises `ExchangeError` for rows that are of no
    known format, or if none gives a comparison.

    Parameters
    ----------
    by: a column by whose values the figures are told apart, where rows have it.
    helpers: assistants that examine every outcome first; the reward model reads what they say. Each is a judge of its
        own, too: the outcome of which it calls less wrong.
    most: only the first so many comparisons (or, of steps, rows).
    question: what a critic of steps is asked.
    """
    kinds: Any = format
    opened, kind = prepared(given, "scored", kinds, columns)
    left: Counter[str] = Counter()
    if kind == "steps":
        judged = _steps(reward, opened, frozenset(ignore), by, helpers, most, question, left, progress)
        f1 = _f1(judged)
    else:
        how = Reading(kind, columns=columns, ignored=frozenset(ignore), drawn=False)
        judged, f1 = _pairs(reward, opened, how, by, helpers, most, left, progress), {}
    if not judged:
        why = "; ".join(f"{n}: {reason}" for reason, n in left.most_common())
        raise ExchangeError(f"{opened.name}: none of its rows can be scored{f' ({why})' if why else ''}")
    named = sorted({one.part for one in judged} - {""})
    parts = [_part("all", judged)]
    parts += [_part(name, [one for one in judged if one.part == name]) for name in named if len(named) > 1]
    return Published(opened.name, kind, "steps" if kind == "steps" else "pairs", tuple(parts), dict(left), f1)


def _part(name: str, judged: Sequence[_Judged]) -> ScoredPart:
    clusters: dict[str, list[_Judged]] = {}
    for one in judged:
        clusters.setdefault(one.cluster, []).append(one)
    lines = []
    for judge in judged[0].right:
        values = [[one.right[judge] for one in some] for some in clusters.values()]
        less = [[one.right[NODE] - one.right[judge] for one in some] for some in clusters.values()]
        lines.append(JudgeLine(judge, clipped(interval(values)), None if judge == NODE else interval(less)))
    return ScoredPart(name, len(judged), len(clusters), tuple(lines))


# --- pairs ---------------------------------------------------------------------------------------------


def _pairs(
    reward: TextRewardModel, opened: Source, how: Reading, by: str, helpers: Sequence[Assistant], most: int | None,
    left: Counter[str], progress: Progress,
) -> list[_Judged]:  # fmt: skip
    named = {(row.file, row.number): str(row.values[by]) for row in opened.rows() if row.values.get(by) is not None}
    first = next(iter(opened.rows()))
    ordered = "chosen_is_a" in first.values or (how.told is not None and "a" in how.told.of)
    tally, judged = Tally(), list[_Judged]()
    rows = islice(read(opened, "scored", how, tally), most)
    while some := list(islice(rows, AT_ONCE)):
        kept = []
        for comparison, origins in some:
            group = Group(comparison.case, (comparison.a, comparison.b))
            if comparison.preference in (None, 0.5):
                left["nobody preferred either"] += 1
            elif _too_long(reward, group):
                left["too long for the model"] += 1
            else:
                part = named.get((origins[0].file, origins[0].row), "")
                kept.append((group, float(comparison.preference or 0.0) > 0.5, part))
        seen = _examined(reward, helpers, [group for group, _, _ in kept], left)
        fit = [(group, a, part) for group, (_, a, part) in zip(seen, kept, strict=True) if group is not None]
        differing = _differences(reward, [group for group, _, _ in fit], ordered)
        for (group, a_better, part), diffs in zip(fit, differing, strict=True):
            right = {name: _right(diff, a_better) for name, diff in diffs.items()}
            judged.append(_Judged(group.case.id, part, right))
        progress(len(judged))
    left.update(tally.left)
    return judged


def _differences(reward: TextRewardModel, groups: Sequence[Group], ordered: bool) -> Iterator[dict[str, float]]:
    """Of each pair and judge: by how much it favors the first."""
    for group, (score, likely, mean) in zip(groups, _scored(reward, groups), strict=True):
        a, b = group.outcomes
        found = {NODE: score[0] - score[1], LENGTH: len(a.shown) - len(b.shown)}
        found |= {FIRST: 1.0} if ordered else {}
        found |= {LIKELY: likely[0] - likely[1], MEAN: mean[0] - mean[1]}
        for of_a, of_b in zip(group.seen(0), group.seen(1), strict=True):
            found[f"{of_a.name} alone"] = _wrong(of_b) - _wrong(of_a)
        yield found


def _scored(
    reward: TextRewardModel, groups: Sequence[Group]
) -> Iterator[tuple[list[float], list[float], list[float]]]:
    """Of each group's outcomes: scores, log-probabilities under the starting model, and their means a token."""
    if not groups:
        return
    with reward.backbone.remember():  # one pass gives both, where the trunk is frozen
        scores = reward.score(groups)
        logprobs = reference_logprobs(reward.backbone, groups)
    for one, rows in zip(scores, logprobs, strict=True):
        yield one.mean.tolist(), [float(row.sum()) for row in rows], [float(row.mean()) for row in rows]


def _wrong(said: Assistance) -> int:
    """Of how many facts an assistant says that they do not hold."""
    return sum(not finding.holds for finding in said.findings)


def _right(difference: float, a_better: bool) -> float:
    return 0.5 if difference == 0 else float((difference > 0) == a_better)


def _too_long(reward: TextRewardModel, group: Group) -> bool:
    """Whether an outcome, with what was said of it so far, does not fit into the model's context."""
    front = len(reward.backbone.render(group.case.prompt))
    longest = max(
        len(tokens_of(reward.backbone, group.case, outcome)) + len(reward.backbone.encode(reward.said(group, i)))
        for i, outcome in enumerate(group.outcomes)
    )
    return bool(front + longest + 1 > reward.backbone.limit)


def _examined(
    reward: TextRewardModel, helpers: Sequence[Assistant], groups: Sequence[Group], left: Counter[str]
) -> list[Group | None]:
    """The groups with assistance; None where that is too long, for an assistant or for the reward model."""
    try:
        seen = assist(helpers, groups)
    except ContextError:
        if len(groups) > 1:  # which is it?
            return [found for group in groups for found in _examined(reward, helpers, [group], left)]
        left["too long for an assistant"] += 1
        return [None]
    fitting = [None if _too_long(reward, group) else group for group in seen]
    if helpers and (long := fitting.count(None)):
        left["too long for the model, with what assistants say"] += long
    return fitting


# --- labels of steps -----------------------------------------------------------------------------------


def _steps(
    reward: TextRewardModel, opened: Source, ignored: frozenset[str], by: str, helpers: Sequence[Assistant],
    most: int | None, question: str, left: Counter[str], progress: Progress,
) -> list[_Judged]:  # fmt: skip
    judged: list[_Judged] = []
    for row in islice(opened.rows(), most):
        try:
            labeled = steps.labeled_of(Row({k: v for k, v in row.values.items() if k not in ignored}))
        except LeftOut as why:
            left[str(why)] += 1
            continue
        answers = steps.answers_of(labeled)
        group = Group(steps.case_of(labeled, question), tuple(map(Outcome, answers.values())))
        if labeled.mistake not in answers:
            left["its wrong step has no words of its own that can be quoted"] += 1
        elif _too_long(reward, group) or len(group.case.data["outcome"]) > len(group.case.data["text"]):
            left["too long for the model, or for what a critic is shown"] += 1
        else:
            numbers = list(answers)
            seen = [one for one in _examined(reward, helpers, [group], left) if one is not None]
            if not seen:
                continue
            ((score, likely, mean),) = _scored(reward, seen)
            says = {NODE: numbers[int(np.argmax(score))], NONE_WRONG: None, FIRST: 0, LAST_STEP: len(labeled.steps) - 1}
            says |= {LIKELY: numbers[int(np.argmax(likely))], MEAN: numbers[int(np.argmax(mean))]}
            right = {name: float(said == labeled.mistake) for name, said in says.items()}
            part = str(row.values.get(by) or "")
            judged.append(_Judged(f"{'right' if labeled.mistake is None else 'wrong'} {group.case.id}", part, right))
            progress(len(judged))
    return judged


def _f1(judged: Sequence[_Judged], resamples: int = 2000) -> dict[str, Interval]:
    """Judge -> the harmonic mean of its shares on answers with and without a wrong step, resampling both apart; none
    where there are no answers of either kind."""
    kinds = [[one for one in judged if one.cluster.startswith(kind)] for kind in ("wrong", "right")]
    if not all(kinds):
        return {}
    found = {}
    for name in judged[0].right:
        rng = np.random.default_rng(0)
        values = [np.array([one.right[name] for one in some]) for some in kinds]
        shares = [value.mean() for value in values]
        drawn = [rng.choice(value, (resamples, len(value))).mean(1) for value in values]
        low, high = np.percentile(_harmonic(*drawn), [2.5, 97.5])
        mean = float(_harmonic(*(np.array([share]) for share in shares))[0])
        found[name] = Interval(mean=mean, low=float(low), high=float(high), n=len(judged))
    return found


def _harmonic(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    total = one + other
    mean: np.ndarray = np.divide(2 * one * other, total, out=np.zeros_like(total), where=total > 0)
    return mean
