"""What a user checked of what assistants said: which fact of which outcome, and what came out, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rrm.core.judgements import Check

_checks = TypeAdapter(tuple[Check, ...])


@dataclass(frozen=True)
class ShownCheck:
    """A check (`rrm.core.judgements.Check`).

    Attributes
    ----------
    side: A or B; empty where it is not known, as of older runs.
    fact: its name, or what else was looked at; `located` is its name, or its part's, as the outcome's places have it.
    came_out: what is so of it.
    by: whose claim it is; itself: the outcome's own.
    """

    side: str
    fact: str
    located: str
    came_out: str
    by: str
    itself: bool
    said: bool
    right: bool
    contested: bool
    spot: float | None


def shown_checks(checks: Sequence[Mapping[str, Any]], task: str) -> list[ShownCheck]:
    """The checks of a comparison at a task, as they are stored: what was looked at in A first, then in B."""
    try:
        found = [_shown(one, task) for one in _checks.validate_python(list(checks))]
    except ValidationError:  # a stranger's run may say anything
        return []
    return sorted(found, key=lambda one: (one.side, one.fact))


def _shown(check: Check, task: str) -> ShownCheck:
    itself, located = check.by == task, check.fact
    if itself:
        came_out = f"what the outcome says of it is {'right' if check.right else 'wrong'}"
    elif check.part is not None:
        located, came_out = f"{check.fact}.{check.part}", f"its part {check.part + 1} holds"
    elif check.side and not check.fact:
        came_out = f"{'right' if check.right else 'wrong'}, says who judged"
    else:
        came_out = "holds" if check.said == check.right else "does not hold"
    fact = check.fact or ("the answer as a whole" if check.side else "")
    return ShownCheck(
        check.side.upper(), fact, located, came_out, check.by.rsplit("/", 1)[-1], itself, check.said, check.right,
        check.contested, check.spot,
    )  # fmt: skip
