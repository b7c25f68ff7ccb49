"""Five figures of a node, named after the five challenges of reward modeling (Leike et al. 2018, arXiv 1811.07871,
section 4): amount of feedback, feedback distribution, reward hacking, unacceptable outcomes, reward-result gap.

From run.db alone, without a truth and without models; where a watcher kept true scores (`rrm.measure.watch.Truth`),
they stand beside. What a run does not hold is `Unknown`, with the reason, and never a number. Rounds are from 0.
docs/challenges.md says how to read them.
"""

from __future__ import annotations

import gc
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rrm.core.parties import ACTED, EPISODES, FALLBACKS, IMAGINED, STAGES, STEPS, TAMPERED, UNACCEPTABLE
from rrm.core.shares import Known, exact, most
from rrm.view import challenge_records as records
from rrm.view.challenge_records import (
    ActedOut,
    Challenges,
    Convergence,
    Gamed,
    Met,
    Spent,
    Tampered,
    Unacceptable,
    Unknown,
    unasked,
)
from rrm.view.margins import JudgedRow, distribution, parts_of, promised, rows_of, spread
from rrm.view.reading import NodeView, Reader


def challenges_of(
    run: Reader, node: NodeView, measured: Mapping[int, float] | None = None, untrue: str = records.UNTRUE
) -> Challenges:
    """The five figures of a node, from what its run keeps.

    measured: round -> true score after it (-1: at the start), as measured beside the run; by default what a report.json
    there says. Where a watcher kept true scores, these count. untrue: why the others are not known; by default in the
    words of certificates, which stay what they are (others: `rrm.view.truth.untold`).
    """
    with _uncollected():
        return _challenges(run, node, measured, untrue)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the collection of garbage: of a hundred thousand rows none refers to another, and to look at them again
    and again takes a quarter of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _challenges(run: Reader, node: NodeView, measured: Mapping[int, float] | None, untrue: str) -> Challenges:
    metrics = run.metrics(node.path, ("fit", "improve", "accept", "truth", "sample", ACTED))
    parts = parts_of(run, node.path)
    rows = rows_of(run, node.path, parts)
    accept = _accepted(metrics)
    kept = _kept(metrics)
    truth = _truth(run, node, metrics, measured)
    improved = _improved(metrics)
    return Challenges(
        node.path,
        _amount(run, node, accept, kept, truth, Unknown(untrue)),
        distribution(run, node, rows),
        _gaming(run, node, rows, improved, accept, kept, truth, Unknown(untrue)),
        _tampering(metrics),
        _unacceptable(node, metrics, improved),
        spread(run, node, rows, parts),
        _convergence(node, improved),
    )


# --- what is read ------------------------------------------------------------------------------------

_Metrics = Mapping[tuple[int, str, int], Mapping[str, float]]


def _improved(metrics: _Metrics) -> dict[int, list[Mapping[str, float]]]:
    """Round -> what each step of its optimization logged."""
    found: dict[int, list[Mapping[str, float]]] = {}
    for (round, phase, _), values in metrics.items():
        if phase == "improve":
            found.setdefault(round, []).append(values)
    return found


def _accepted(metrics: _Metrics) -> dict[int, Known]:
    found = {}
    for (round, phase, _), values in metrics.items():
        if phase == "accept":
            n = int(values["comparisons"])
            low, high = exact(values["preferred"] * n, n)
            found[round] = Known(values["preferred"], low, high, n, n)
    return found


def _kept(metrics: _Metrics) -> dict[int, bool]:
    found = {round: bool(values["kept"]) for (round, *_), values in metrics.items() if "kept" in values}
    return found | {round: False for (round, *_), values in metrics.items() if "undone" in values}


def watched_truth(metrics: _Metrics) -> dict[int, float]:
    """Round -> the true score after it, as a watcher kept it in the run; -1: at the start."""
    return {
        round if step else round - 1: values["truth"]
        for (round, phase, step), values in metrics.items() if phase == "truth" and "truth" in values
    }  # fmt: skip


def _truth(run: Reader, node: NodeView, metrics: _Metrics, given: Mapping[int, float] | None) -> dict[int, float]:
    """As `watched_truth`, else from a measurement beside the run: of the start and of the last round, no other."""
    if found := watched_truth(metrics):
        return found
    last = max((round for round, phase, _ in metrics if phase == "improve"), default=0)
    if given is None:
        measured = run.measured_nodes.get(node.path, {})
        given = {at: measured[when]["mean"] for at, when in ((-1, "start"), (last, "trained")) if when in measured}
    told = {at: given[at] for at in (-1, last) if at in given}
    return {at: one for at, one in told.items() if isinstance(one, int | float) and math.isfinite(one)}


# --- 1. amount of feedback ---------------------------------------------------------------------------


def _amount(
    run: Reader, node: NodeView, accept: Mapping[int, Known], kept: Mapping[int, bool], truth: Mapping[int, float],
    untrue: Unknown,
) -> Sequence[Spent] | Unknown:  # fmt: skip
    groups = run.rows(
        "SELECT task, round, COUNT(*), SUM(attention), SUM(seconds), MAX(at) FROM comparisons WHERE supersedes = 0"
        " AND (task = :task OR substr(task, 1, :length) = :below) GROUP BY task, round",
        {"task": node.path, "below": f"{node.path}/", "length": len(node.path) + 1},
    )
    ends: dict[int, float] = {}
    for task, round, *_, at in groups:
        if task == node.path:
            ends[max(round, -1)] = max(at, ends.get(max(round, -1), 0.0))
    if not ends:
        return Unknown("nothing was judged here")
    saved = {round: at for round, part, _, _, at in run.checkpoints.get(node.path, ()) if part == "agent"}
    for round in truth:  # also where nobody was asked
        ends.setdefault(round, saved.get(round, math.inf) if round >= 0 else -math.inf)
    found = []
    for round in sorted(ends):
        own = [g for g in groups if g[0] == node.path and g[1] <= round]
        last = round == max(ends)
        tree = own + [g for g in groups if g[0] != node.path and (last or g[5] <= ends[round])]
        found.append(
            Spent(
                round, sum(g[2] for g in own), sum(g[2] for g in tree), sum(g[3] for g in own),
                sum(g[3] for g in tree), sum(g[4] for g in tree),
                Unknown("before the first round") if round < 0 else accept.get(round, unasked(node)),
                kept.get(round), truth.get(round, untrue),
            )
        )  # fmt: skip
    return found


# --- 3. reward hacking -------------------------------------------------------------------------------


def _gaming(
    run: Reader, node: NodeView, rows: Sequence[JudgedRow], improved: Mapping[int, Sequence[Mapping[str, float]]],
    accept: Mapping[int, Known], kept: Mapping[int, bool], truth: Mapping[int, float], untrue: Unknown,
) -> Sequence[Gamed] | Unknown:  # fmt: skip
    asked: dict[int, list[JudgedRow]] = defaultdict(list)
    for row in rows:
        if row.accept and row.preference is not None:
            asked[row.round].append(row)
    found = []
    for round, steps in sorted(improved.items()):
        rewards = [values["reward"] for values in steps if "reward" in values]
        if not rewards:
            continue
        preferred: Known | Unknown = accept.get(round, unasked(node))
        predicted, gap = promised(run, node, round, asked[round], preferred)
        before, after = truth.get(round - 1), truth.get(round)
        true = untrue if before is None or after is None else (before, after)
        found.append(
            Gamed(
                round, (rewards[0], rewards[-1]), _last(steps, "kl"), predicted, preferred, gap,
                true, kept.get(round),
            )
        )  # fmt: skip
    return found or Unknown("nothing was optimized against a reward model yet")


def _last(steps: Sequence[Mapping[str, float]], name: str) -> float | None:
    return next((values[name] for values in reversed(steps) if name in values), None)


def _tampering(metrics: _Metrics) -> Tampered | Unknown:
    acted = {(round, STAGES[stage]): values for (round, phase, stage), values in metrics.items() if phase == ACTED}
    judged = {round: values for (round, stage), values in acted.items() if stage == "to judge"}
    own = [values for (_, stage), values in acted.items() if stage == "own steps"]
    if not any(TAMPERED in values for values in acted.values()):
        return Unknown(
            "nothing in this run measures whether an agent changes what its judges see (an environment says so in a "
            "number `tampered` of its infos)"
        )
    last = [judged[max(judged)]] if judged else []
    return Tampered(_met(TAMPERED, [*judged.values()]), _met(TAMPERED, last), _met(TAMPERED, own))


def _met(name: str, rows: Sequence[Mapping[str, float]]) -> Met | Unknown:
    """In how many real episodes something was met."""
    real = [one for one in rows if one.get(EPISODES)]
    if not real:
        return Unknown("nothing was real")
    if any(name not in one for one in real):
        return Unknown(f"the environment does not say what that is, in a number `{name}` of its infos")
    k, n = (int(sum(one[key] for one in real)) for key in (name, EPISODES))
    return Met(k, n, most(k, n))


# --- 4. unacceptable outcomes ------------------------------------------------------------------------


def _acted(metrics: _Metrics) -> Sequence[ActedOut] | None:
    rows: dict[str, list[Mapping[str, float]]] = {"all": []}
    for (_, phase, stage), values in metrics.items():
        if phase == ACTED:
            rows["all"].append(values)
            rows.setdefault(STAGES[stage], []).append(values)
    if not rows["all"]:
        return None
    return [_summed(what, rows[what]) for what in ("all", *STAGES) if what in rows]


def _summed(what: str, rows: Sequence[Mapping[str, float]]) -> ActedOut:
    episodes, steps, imagined = (int(sum(one.get(name, 0) for one in rows)) for name in (EPISODES, STEPS, IMAGINED))
    safe = [int(one[FALLBACKS]) for one in rows if FALLBACKS in one]
    return ActedOut(what, episodes, steps, imagined, sum(safe) if safe else None, _met(UNACCEPTABLE, rows))


def _unacceptable(
    node: NodeView, metrics: _Metrics, improved: Mapping[int, Sequence[Mapping[str, float]]]
) -> Unacceptable:
    shares = {at: values["malformed"] for (at, phase, _), values in sorted(metrics.items())
              if phase == "sample" and "malformed" in values}  # fmt: skip
    sizes = [_looked_at(node, at) for at in shares]
    steps = [values for _, some in sorted(improved.items()) for values in some]
    names = dict.fromkeys(name for values in steps for name in values if name.startswith(records.HIDDEN))
    ends = {name.removeprefix(records.HIDDEN): tuple(v[name] for v in steps if name in v) for name in names}
    outer = {name: (values[0], values[-1]) for name, values in ends.items()}
    acted = _acted(metrics) or Unknown(records.UNACTED)
    if not shares:
        never = Unknown("it has sampled nothing to be judged, or an older version did, which did not count")
        return Unacceptable(never, never, ends=outer, acted=acted)
    counts = [round(one * n) for one, n in zip(shares.values(), sizes, strict=True)]
    if 0 in sizes or any(abs(one * n - k) > 1e-3 for one, n, k in zip(shares.values(), sizes, counts, strict=True)):
        odd = Unknown("the shares that were kept are not of as many outcomes as the settings say")
        return Unacceptable(odd, odd, ends=outer, acted=acted)
    each = [Met(k, n, most(k, n)) for k, n in zip(counts, sizes, strict=True)]
    asked = max(shares) + 1 if max(shares) < max(improved, default=0) else 0
    total = Met(sum(counts), sum(sizes), most(sum(counts), sum(sizes)))
    return Unacceptable(total, each[-1], asked, each, outer, acted)


def _looked_at(node: NodeView, at: int) -> int:
    """How many outcomes of a round are looked at for their form: all that are to be judged but an adversary's."""
    s = node.settings
    outcomes = int(s.get("outcomes", 0))
    return int(s.get("cases", 0)) * (outcomes - (int(s.get("adversary", 0.0) * outcomes) if at else 0))


# --- 5. reward-result gap ----------------------------------------------------------------------------


def _convergence(node: NodeView, improved: Mapping[int, Sequence[Mapping[str, float]]]) -> Convergence | Unknown:
    paid = {round: [v for v in steps if "reward" in v] for round, steps in improved.items()}
    last = max((round for round, steps in paid.items() if steps), default=None)
    if last is None:
        return Unknown("nothing was optimized against a reward model yet")
    steps, asked, limit = paid[last], node.settings.get("steps"), node.settings.get("max_kl")
    stopped = any("stopped" in values for values in improved[last])
    taken = sum(bool(values.keys() - {"stopped", "undone"}) for values in improved[last])  # the one it stopped at, too
    return Convergence(
        last, steps[-1]["reward"] - steps[0]["reward"], _last(steps, "reward_std"), taken - stopped,
        None if asked is None else int(asked), stopped, _last(steps, "kl"), None if limit is None else float(limit),
    )  # fmt: skip
