"""Where was the user wrong? The truth of what a run judged, written beside it: `rrm measure truth RUN`.

It goes to truth.db, which viewers read and nothing that trains does; run.db stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rrm.core.errors import Malformed, RRMError
from rrm.core.records import Assistance, Case, Outcome, digest
from rrm.core.task import Task
from rrm.core.validation import plant
from rrm.loop.provenance import PACKAGES, code_digests
from rrm.measure.oracle import matter, score
from rrm.store.store import Store
from rrm.store.truths import Told, TrueOutcome, Truths

NAME = "truth"
QUESTION = "Where were user, reward model and assistants of a run wrong?"
AT_ONCE = 200
"""Outcomes after which what was found is kept, and `say` hears how far it is."""


def write_truths(folder: Path, task: Task, say: Callable[[str], None] = lambda text: None) -> Path:
    """Write what is so of every outcome that was compared in a run; what is known already is not asked again.

    `task` is the root of the run's tree; what other code than its own found before is found anew. Returns the file.
    Raises `RRMError` if the run is of another tree, or its tasks know of no facts.
    """
    tasks = {one.path: one for one in plant(task).walk()}
    if not (folder / "run.db").exists():
        raise RRMError(f"{folder}: no run there (a run's folder holds run.db)")
    _archive(folder)
    run = Store(folder / "run.db")
    try:
        judged = list(dict.fromkeys(path for path, _ in run.rounds()))
        strange = [path for path in judged if path not in tasks]
        if strange:
            raise RRMError(
                f"{folder} judged at {strange[0]!r}, which the tree {task.name!r} lacks (its nodes: "
                f"{', '.join(tasks)}); give the run's own with --tree"
            )
        for path in judged:  # a tree that knows of no facts leaves no file
            _first(run, tasks[path])
        truths = Truths(folder)
        try:
            if truths.begin(digest(code_digests(task))):
                say("other code than this found what was known before: it is found anew")
            for path in judged:
                known = truths.known(path)
                waiting = [ids for ids in run.compared(path) if ids not in known]
                for done in range(0, len(waiting), AT_ONCE):
                    some = waiting[done : done + AT_ONCE]
                    truths.put([true_outcome(tasks[path], ids, *run.record(ids)) for ids in some])
                    say(f"{path}: {done + len(some):,} of {len(waiting):,} outcomes")
        finally:
            truths.close()
    finally:
        run.close()
    return truths.path


def knows_truth(folder: Path, task: Task) -> bool:
    """Whether `write_truths` would find one: every node that was judged knows of facts, and what is so of them."""
    tasks = {one.path: one for one in plant(task).walk()}
    _archive(folder)
    run = Store(folder / "run.db")
    try:
        judged = {path for path, _ in run.rounds()}
        for path in judged:
            _first(run, tasks[path])
        return bool(judged)
    except (RRMError, KeyError, AssertionError):  # without a truth, `matter` has nothing to open
        return False
    finally:
        run.close()


def _first(run: Store, task: Task) -> None:
    """What is so of the first outcome that was compared at a node. Raises as `true_outcome`."""
    ids = run.compared(task.path)[0]
    true_outcome(task, ids, *run.record(ids))


def _archive(folder: Path) -> None:
    """Where agents act, what they did lies there; without what that needs, none did."""
    with suppress(ImportError):
        from rrm.acting.episodes import ARCHIVE

        ARCHIVE.open(folder)


def true_outcome(
    task: Task, ids: tuple[str, str, str], case: Case, outcome: Outcome, assistance: Sequence[Assistance]
) -> TrueOutcome:
    """What is so of an outcome, and how right its assistants were; one that cannot be read has the score -1.

    Raises `RRMError` where the task knows of no facts, so that there is no truth.
    """
    try:
        facts = task.facts_of(case, outcome)
    except Malformed:
        return TrueOutcome(task.path, *ids[:2], -1.0, {}, ids[2], told_of(assistance, {}))
    holds = {fact.name: matter(fact) for fact in facts}
    return TrueOutcome(task.path, *ids[:2], score(facts), holds, ids[2], told_of(assistance, holds))


def told_of(assistance: Sequence[Assistance], holds: Mapping[str, bool]) -> tuple[Told, ...]:
    """How right assistants were; who has nothing to say is among them, with nothing."""
    found: dict[str, Told] = {}
    for one in assistance:
        said = [(holds[finding.fact], finding.holds) for finding in one.findings if finding.fact in holds]
        before = found.get(one.assistant, Told(one.assistant))
        found[one.assistant] = Told(
            one.assistant, before.sound + sum(so for so, _ in said),
            before.alarms + sum(so and not says for so, says in said), before.flawed + sum(not so for so, _ in said),
            before.misses + sum(not so and says for so, says in said),
        )  # fmt: skip
    return tuple(found.values()) or (Told(""),)


def tree_named(folder: Path) -> str:
    """The name of a run's root, by which its tree may be known (`rrm trees`). Raises `RRMError` if there is no run, or
    it was trained with code of its own beside ours, so that a tree of the same name would be another."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        tops = [path for path in config["tree"] if "/" not in path]
        code = [name for name in config.get("about", {}).get("code", {}) if name not in PACKAGES]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise RRMError(f"{folder}: no run there that says what its tree is ({error}); give --tree") from error
    if code:
        raise RRMError(f"{folder} was trained with a tree in {', '.join(code)}; give that one with --tree")
    return str(tops[-1]) if tops else ""
