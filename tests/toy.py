"""A toy tree for tests: counting words. Nothing here needs a model that can do anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rrm import Case, Fact, Finding, Malformed, Outcome, Pool, Sealed, Settings, Task

CASES = Pool(tuple(Case(f"w{i} w{i + 1}", {"n": i, "words": ["a", {"b": i}]}) for i in range(3, 11)))
SMALL = Settings(
    rounds=1, cases=3, outcomes=2, comparisons=3, max_tokens=4, heads=2, reward_epochs=1, steps=2, batch=2,
    group=2, accept=0,
)  # fmt: skip


def facts(case: Case, outcome: Outcome) -> Sequence[Fact]:
    if outcome.text == "malformed":
        raise Malformed("it says so")
    words = outcome.text.split()
    return [
        Fact("even", "form", Sealed(len(words) % 2 == 0)),
        Fact("varied", "form", Sealed(len(set(words)) > 1)),
    ]


def frame(case: Case, outcome: Outcome) -> Sequence[Case]:
    return [Case(f"w3 {outcome.text}", {"of": case.id})]


def findings(case: Case, outcome: Outcome) -> Sequence[Finding]:
    return [Finding("even", "w5" in outcome.text)]


def task(name: str = "toy", **changes: Any) -> Task:
    """A root without assistants."""
    fields: dict[str, Any] = {
        "instruction": "Which is better?",
        "facts": facts,
        "cases": CASES,
        "settings": SMALL,
    }
    return Task(name, **(fields | changes))


def sub(name: str = "sub", **changes: Any) -> Task:
    """A subtask."""
    fields: dict[str, Any] = {"cases": None, "frame": frame, "findings": findings, "covers": ("form",)}
    return task(name, **(fields | changes))
