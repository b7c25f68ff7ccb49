"""What kept margins say of a node's reward models: are they right where the agent has gone (feedback distribution), do
they promise what the user then sees (gaming), and how far apart are a group's outcomes (reward-result gap)?

A margin is a difference of two scores, in nats of the user's preference. Kept are, of each round's reward model, those
of what it was fitted to, of what was held out from that, and of what was judged after it (`rrm.loop.foreseeing`).
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from typing import NamedTuple

from rrm.core.judgements import improved_first
from rrm.core.records import Case, digest
from rrm.core.shares import Known, difference, mean, share
from rrm.view.agent_outcomes import apart
from rrm.view.challenge_records import UNSCORED, Shifted, Short, Unknown, unasked
from rrm.view.comparisons import CASES_OF_PARTS, accepting
from rrm.view.reading import NodeView, Reader


class JudgedRow(NamedTuple):
    """A comparison, and the margins of its own round's reward model and of the one before (None: not kept)."""

    round: int
    pair: str
    case: str
    a: str
    b: str
    preference: float | None
    accept: bool
    own: float | None
    own_held: bool | None
    before: float | None


def parts_of(run: Reader, task: str) -> frozenset[str]:
    """The cases of a node's comparisons of parts."""
    return frozenset(case for (case,) in run.rows(CASES_OF_PARTS, {"task": task}))


def rows_of(run: Reader, task: str, parts: Set[str]) -> list[JudgedRow]:
    """A node's comparisons of whole outcomes, those that later ones supersede left out. parts: the cases of others."""
    margins, joins = "NULL, NULL, NULL", ""
    if "scores" in run.tables:
        margins = "s.margin, s.held, p.margin"
        joins = (
            " LEFT JOIN scores s ON s.task = c.task AND s.round = c.round AND s.pair = c.pair"
            " LEFT JOIN scores p ON p.task = c.task AND p.round = c.round - 1 AND p.pair = c.pair"
        )
    found = run.rows(
        f"SELECT c.round, c.pair, c.case_id, c.a || c.assistance_a, c.b || c.assistance_b, c.preference,"
        f" {accepting(run)}, {margins} FROM comparisons c{joins} WHERE c.task = :task"
        " AND c.seq NOT IN (SELECT supersedes FROM comparisons WHERE supersedes > 0) ORDER BY c.seq",
        {"task": task},
    )
    rows = [*map(JudgedRow._make, found)]
    return [row for row in rows if row.case not in parts] if parts else rows


# --- is it right where the agent has gone? -----------------------------------------------------------

_Clusters = dict[str, list[float]]


ID = 16
"""Letters of an id; behind an outcome's stands that of what was said of it."""


def _alike(row: JudgedRow) -> tuple[str, ...]:
    """What was compared, whichever was shown as A, with whosever assistance, and for which time."""
    a, b = row.a[:ID], row.b[:ID]
    return (row.case, a, b) if a <= b else (row.case, b, a)


def _decided(row: JudgedRow) -> bool:
    return row.preference is not None and row.preference != 0.5


def _right(row: JudgedRow, margin: float) -> float:
    """Whether a margin predicts a row's preference; half where it says nothing."""
    assert row.preference is not None
    return 0.5 if margin == 0 else float((row.preference - 0.5) * margin > 0)


def _note(clusters: _Clusters, row: JudgedRow, value: float) -> None:
    cluster = clusters.setdefault(row.case, [0.0, 0.0])
    cluster[0] += value
    cluster[1] += 1


def _merged(parts: Iterable[_Clusters]) -> list[tuple[float, float]]:
    """Those of one case as one."""
    merged: _Clusters = {}
    for part in parts:
        for case, (k, n) in part.items():
            cluster = merged.setdefault(case, [0.0, 0.0])
            cluster[0] += k
            cluster[1] += n
    return [(k, n) for k, n in merged.values()]


def _once(told: Iterable[tuple[JudgedRow, float]]) -> _Clusters:
    """What is held out stays so in every later round: each comparison once, by the mean over the rounds' models."""
    values: dict[tuple[int, str], list[float]] = {}
    rows: dict[tuple[int, str], JudgedRow] = {}
    for row, value in told:
        rows[row.round, row.pair] = row
        values.setdefault((row.round, row.pair), []).append(value)
    clusters: _Clusters = {}
    for key, row in rows.items():
        _note(clusters, row, sum(values[key]) / len(values[key]))
    return clusters


def _shared(parts: Iterable[_Clusters], why: Unknown) -> Known | Unknown:
    """The share over all of these clusters."""
    return share(_merged(parts)) or why


def _meant(parts: Iterable[_Clusters], why: Unknown) -> Known | Unknown:
    """The mean chance over all of these clusters."""
    found = mean(_merged(parts))
    return why if found is None else _within(found, 0.0)


def _chance(margin: float) -> float:
    """That the user prefers A, by a margin in nats."""
    return 1 / (1 + math.exp(max(-700.0, min(700.0, -margin))))


def distribution(run: Reader, node: NodeView, rows: Sequence[JudgedRow]) -> Sequence[Shifted] | Unknown:
    """How often each round's reward model is right, at home and a round ahead; and over all rounds."""
    saved = {round: sha256 for round, part, _, sha256, _ in run.checkpoints.get(node.path, ()) if part == "reward"}
    if "scores" not in run.tables or not rows:
        return Unknown("this run kept no margins of its reward models" if rows else "nothing was judged here")
    judged: dict[str, list[JudgedRow]] = defaultdict(list)
    for row in rows:
        judged[row.pair].append(row)
    own: dict[int, _Clusters] = defaultdict(dict)
    told: dict[int, list[tuple[JudgedRow, float]]] = defaultdict(list)
    for round, pair, margin in run.rows("SELECT round, pair, margin FROM scores WHERE task = ? AND held", (node.path,)):
        for row in judged.get(pair, ()):
            if row.round + row.accept <= round and _decided(row):
                _note(own[round], row, _right(row, margin))
                told[round].append((row, _right(row, margin)))
    ahead: dict[tuple[int, bool], _Clusters] = defaultdict(dict)
    sure: dict[int, _Clusters] = defaultdict(dict)
    missing: dict[tuple[int, bool], list[str]] = defaultdict(list)
    seen: set[tuple[str, ...]] = set()
    for row in rows:
        at, margin = (row.round, row.own) if row.accept else (row.round - 1, row.before)
        compared = _alike(row)
        again = compared in seen
        seen.add(compared)
        if at < 0 or not _decided(row):
            continue
        if again or margin is None:
            missing[at, row.accept].append("every pair was judged before" if again else UNSCORED)
        else:
            _note(ahead[at, row.accept], row, _right(row, margin))
            _note(sure[at], row, _chance(abs(margin)))
    for round in sorted(saved):  # where nobody was asked, it is the one of before: see `Settings.feedback`
        if round not in own and round - 1 in own and saved.get(round - 1) == saved[round]:
            own[round] = own[round - 1]
    rounds = sorted({*saved, *own})
    found = [
        _shift(node, round, own[round], {which: ahead[round, which] for which in (True, False)}, sure[round], missing)
        for round in rounds
    ]
    both = [one.round for one in found if isinstance(one.drop, Known) and one.round is not None]
    if len(both) > 1:
        known = Unknown("not of any round")
        accept, later = (_shared((ahead[r, which] for r in both), known) for which in (True, False))
        all_own = _shared([_once(pair for r in both for pair in told[r])], known)
        all_ahead = _shared((ahead[r, which] for r in both for which in (True, False)), known)
        all_sure = _meant((sure[r] for r in both), known)
        found.append(Shifted(None, all_own, accept, later, all_ahead, all_sure, _drop(all_own, all_ahead)))
    return found or Unknown("no reward model was fitted yet")


def _shift(
    node: NodeView, round: int, own: _Clusters, ahead: Mapping[bool, _Clusters], sure: _Clusters,
    missing: Mapping[tuple[int, bool], Sequence[str]],
) -> Shifted:  # fmt: skip
    """One round's reward model."""

    def why(accept: bool) -> Unknown:
        if found := missing.get((round, accept)):
            return Unknown(UNSCORED if UNSCORED in found else found[0])
        return unasked(node) if accept else Unknown("no round was judged after it")

    held = _shared([own], Unknown("nothing with a preference was held out from its fit"))
    accept, later = (_shared([ahead[which]], why(which)) for which in (True, False))
    unscored = next((one for one in (accept, later) if one == Unknown(UNSCORED)), later)
    neither = unscored if isinstance(unscored, Unknown) else why(True)
    both = _shared(ahead.values(), neither)
    return Shifted(round, held, accept, later, both, _meant([sure], neither), _drop(held, both))


def _drop(own: Known | Unknown, ahead: Known | Unknown) -> Known | Unknown:
    if isinstance(own, Unknown):
        return own
    return ahead if isinstance(ahead, Unknown) else difference(own, ahead)


# --- does it promise what the user sees? -------------------------------------------------------------


def promised(
    run: Reader, node: NodeView, round: int, asked: Sequence[JudgedRow], preferred: Known | Unknown
) -> tuple[Known | Unknown, Known | Unknown]:
    """How often, by the reward model, the user prefers the improved agent; and that less how often they do."""
    if isinstance(preferred, Unknown) or not asked:
        return (preferred, preferred) if isinstance(preferred, Unknown) else (unasked(node), unasked(node))
    first = [_first(run, node, round, row) for row in asked]
    wins = [row.preference if one else 1 - row.preference for row, one in zip(asked, first, strict=True)
            if row.preference is not None]  # fmt: skip
    if abs(sum(wins) / len(wins) - preferred.mean) > 1e-6:
        unsure = Unknown("which of the two outcomes is the improved agent's cannot be told")
        return unsure, unsure
    chance: _Clusters = {}
    more: _Clusters = {}
    for row, one, won in zip(asked, first, wins, strict=True):
        if row.own is not None and row.own_held:
            p = _chance(row.own if one else -row.own)
            _note(chance, row, p)
            _note(more, row, p - won)
    predicted, gap = (mean((k, n) for k, n in clusters.values()) for clusters in (chance, more))
    if predicted is None or gap is None:
        return Unknown(UNSCORED), Unknown(UNSCORED)
    return _within(predicted, 0.0), _within(gap, -1.0)


def _within(one: Known, least: float) -> Known:
    """A mean of what lies between `least` and 1, where Student's interval need not end."""
    return one if math.isnan(one.low) else replace(one, low=max(least, one.low), high=min(1.0, one.high))


def _first(run: Reader, node: NodeView, round: int, row: JudgedRow) -> bool:
    """Whether the improved agent's outcome is A: by the seed and the case, as it was drawn."""
    body = json.loads(run.row("SELECT body FROM blobs WHERE id = ?", (row.case,))[0])
    case = Case(body["prompt"], body.get("data", {}), body.get("form", ""))
    return improved_first(digest(run.config.get("seed"), node.path, round), case.id)


# --- how far apart are a group's outcomes? -----------------------------------------------------------


def spread(
    run: Reader, node: NodeView, rows: Sequence[JudgedRow], parts: Set[str]
) -> Sequence[Short] | Unknown:  # fmt: skip
    """How far the best of a group is above its mean, round by round; `parts` as in `rows_of`.

    Margins are differences of scores, so within what was compared with each other scores are known but for a constant,
    of which neither the best less the mean nor a deviation knows.
    """
    if "scores" not in run.tables:
        return Unknown("this run kept no margins of its reward models")
    whole = "" if not parts else (
        " AND s.pair NOT IN (SELECT c.pair FROM comparisons c WHERE c.task = :task"
        f" AND c.case_id IN ({CASES_OF_PARTS}))"
    )
    squares = {
        round: [total, n] for round, total, n in run.rows(
            f"SELECT s.round, SUM(s.margin * s.margin), COUNT(*) FROM scores s WHERE s.task = :task{whole}"
            " GROUP BY s.round",
            {"task": node.path},
        )
    }  # fmt: skip
    fitted: dict[str, int] = {}  # pair -> the first round whose fit had it
    for row in rows:
        fitted[row.pair] = min(row.round + row.accept, fitted.get(row.pair, row.round + row.accept))
    apart: dict[tuple[int, str], float] = {}  # margins of what was judged after the fit, which are none of the unit
    rounds: dict[int, dict[str, list[JudgedRow]]] = {}
    for row in rows:
        at, margin = (row.round, row.own) if row.accept else (row.round - 1, row.before)
        if margin is not None and at < fitted[row.pair]:
            apart[at, row.pair] = margin
        if row.round >= 0 and not row.accept and row.own is not None:
            rounds.setdefault(row.round, {}).setdefault(row.case, []).append(row)
    for (at, _), margin in apart.items():
        squares[at] = [squares[at][0] - margin * margin, squares[at][1] - 1]
    found = []
    for round, cases in sorted(rounds.items()):
        total, n = squares[round]
        unit = math.sqrt(max(0.0, total) / (2 * n)) if n else 0.0  # of two scores alike in spread, sqrt(2) of it
        groups = {case: _groups(some) for case, some in cases.items()}
        sizes = [len(group) for some in groups.values() for group in some]
        gap: Known | Unknown = Unknown("its reward model scores all alike")
        if unit > 1e-6:
            clusters = [(sum(max(g) - sum(g) / len(g) for g in some) / unit, len(some)) for some in groups.values()]
            gap = mean(clusters) or gap
        found.append(Short(round, gap, sum(sizes) / len(sizes)))
    return found or Unknown("nothing was judged and fitted here")


def _groups(rows: Sequence[JudgedRow]) -> list[list[float]]:
    """A case's outcomes that were compared with one another, directly or through others, each as its scores but for a
    constant."""
    edges = [(row.a, row.b, row.own) for row in rows if row.own is not None]
    if len({end for a, b, _ in edges for end in (a, b)}) == 2 * len(edges):  # mostly: no outcome twice
        return [[0.0, 0.0 - more] for _, _, more in edges]
    return [[*one.values()] for one in apart(edges)]
