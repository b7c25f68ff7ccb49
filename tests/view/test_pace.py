"""Time left, with made-up clocks: what assistants write counts, and so does the fit; nothing real is trained here."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch

from rrm import Case, Group, Outcome, Task
from rrm.core.judgements import Event
from rrm.core.task import Assistant
from rrm.view.pace import PARTS, TIMES, Load, Pace, answering
from tests import toy

RATE = 0.01
"""Seconds for a sampled token."""


def some(rng: random.Random, depth: int, name: str = "toy", sub: bool = False) -> Task:
    """A tree of random settings, with assistants of `depth` levels."""
    settings = toy.SMALL.model_copy(update={
        "rounds": rng.randint(1, 3), "cases": rng.randint(2, 9), "comparisons": rng.randint(2, 20),
        "steps": rng.randint(1, 6), "accept": rng.choice((0, 4)), "drafts": rng.choice((1, 2, 4)),
        "max_tokens": rng.randint(4, 60), "reward_sees": rng.choice(("assistance", "outcome")),
    })  # fmt: skip
    below = [some(rng, depth - 1, f"a{i}", True) for i in range(rng.randint(1, 2))] if depth else []
    return (toy.sub if sub else toy.task)(name, settings=settings, assistants=below)


def loads_of(task: Task, parent: str = "") -> dict[str, Load]:
    path = f"{parent}/{task.name}" if parent else task.name
    found = {path: Load(task, parent, task.settings.rounds)}
    for sub in task.subtasks:
        found |= loads_of(sub, path)
    return found


def events(loads: dict[str, Load], path: str, rates: dict[str, float], ask: float) -> Iterator[tuple[float, Event]]:
    """What a run does, in its order: (seconds since the event before, event)."""
    load = loads[path]
    s = load.task.settings
    children = [one for one in loads if loads[one].parent == path]
    for i, child in enumerate(children):
        below = events(loads, child, rates, ask)
        seconds, first = next(below)
        yield seconds + (0.0 if i else load.size(0, "frame") * rates["frame"]), first
        yield from below
    for round in range(load.rounds):

        def took(part: str, round: int = round) -> float:
            return load.size(round, part) * rates[part]

        yield 0.0, Event(path, round, "sample", 0, s.cases)
        yield took("sample"), Event(path, round, "sample", metrics={"malformed": 0.0})
        n = s.comparisons
        yield took("assist"), Event(path, round, "compare", 0 if not children else 1, n)
        yield n * ask, Event(path, round, "compare", n, n, {"comparisons": float(n)})
        yield took("fit"), Event(path, round, "fit", metrics={"n": float(n)})
        for step in range(s.steps):
            yield took("improve") / s.steps, Event(path, round, "improve", step, s.steps, {"reward": 0.0})
        if s.accept:
            yield took("accept"), Event(path, round, "compare", 1, s.accept)
            yield s.accept * ask, Event(path, round, "accept", metrics={"kept": 1.0})
        yield 0.0, Event(path, round, "done", metrics={"seconds": 1.0})


def played(seed: int, spread: float) -> list[tuple[float, float | None, bool, tuple[float, float] | None]]:
    """(really left, said to be left, whether a first round is done, between what it is said to be) after each event."""
    rng = random.Random(seed)
    loads = loads_of(some(rng, depth=2))
    rates = {part: RATE * TIMES.get(part, 1.0) * spread ** rng.uniform(-1, 1) for part in PARTS}
    all_of_them = list(events(loads, "toy", rates, ask=0.02 * spread ** rng.uniform(-1, 1)))
    total, now, found = sum(seconds for seconds, _ in all_of_them), 0.0, []
    pace = Pace(loads)
    for i, (seconds, event) in enumerate(all_of_them):
        now += seconds
        pace(event, now)
        rounds_done = any(one.phase == "done" for _, one in all_of_them[:i])
        found.append((total - now, pace.left(now), rounds_done, pace.span(now)))
    return found


@pytest.mark.parametrize("seed", range(25))
def test_at_the_usual_proportions_it_is_right_from_the_first_round_on(seed: int) -> None:
    course = played(seed, spread=1.0)
    for really, said, begun, _ in course:
        if begun:
            assert said == pytest.approx(really, rel=0.35, abs=0.04 * course[0][0])


@pytest.mark.parametrize("seed", range(25))
def test_at_other_proportions_it_is_not_several_times_too_low(seed: int) -> None:
    for really, said, begun, _ in played(seed, spread=2.0):
        if begun:
            assert said is not None and said >= really / 3 - 0.5
    assert said == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_really_left_lies_in_what_is_said_from_the_first_event_on(seed: int) -> None:
    """Within a twentieth of the whole; and it is said ever more closely, to nothing."""
    course = played(seed, spread=2.0)
    slack = 0.05 * course[0][0]
    spans = [(really, span) for really, _, _, span in course if span is not None]
    assert all(least - slack <= really <= most + slack for really, (least, most) in spans)
    assert spans[-1][1] == pytest.approx((0.0, 0.0), abs=1e-6)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("quick", [False, True])
def test_what_an_answer_costs_is_what_assistants_write(seed: int, quick: bool) -> None:
    """Counted on assistants that are asked, whose agents only count."""
    written: list[int] = []

    class Counting:
        version, repeatable = "c", True

        def __init__(self, task: Task) -> None:
            self.task = task

        def sample(self, cases: Sequence[Case], n: int, key: str, temperature: float = 1.0, greedy: bool = False):  # type: ignore[no-untyped-def]
            written.append(len(cases) * n * self.task.settings.max_tokens)
            return [Group(case, tuple(Outcome(f"w{i} {random.random()}") for i in range(n))) for case in cases]

    class Flat:
        version = "f"

        def score(self, groups: Sequence[Group]):  # type: ignore[no-untyped-def]
            flat = [torch.zeros(len(group.outcomes)) for group in groups]
            return [type("S", (), {"mean": one, "std": one, "heads": one[:, None]})() for one in flat]

    def finished(task: Task) -> Assistant:
        helpers = tuple(finished(sub) for sub in task.subtasks)
        return Assistant(replace(task, assistants=helpers), Counting(task), Flat(), helpers)

    task = some(random.Random(seed), depth=2, name="a", sub=True)
    finished(task).examine([Group(Case("w5"), (Outcome("w6"),))], quick)
    assert sum(written) == answering(task, quick)


def test_what_was_done_before_an_interruption_is_no_work() -> None:
    loads = loads_of(toy.task(settings=toy.SMALL.model_copy(update={"rounds": 4})))
    pace = Pace(loads)
    pace.restored("toy", 3)
    assert pace.left(5.0) is None
    pace(Event("toy", 3, "sample", 0, 3), 100.0)
    pace(Event("toy", 3, "sample", metrics={"malformed": 0.0}), 101.0)
    left = pace.left(101.0)
    assert left is not None and 0 < left < 10
    assert pace.left(101.0 + left / 2) == pytest.approx(left / 2)
    pace(Event("toy", 3, "done", metrics={"seconds": 1.0}), 102.0)
    assert pace.left(102.0) == 0.0
