"""Several rows that judge the same two outcomes: each is somebody's judgement, and together they are one comparison.

Nine for A and one for B make a preference of 0.9, not one comparison each way: the reward model's loss is linear in the
preference, so that is as training on each. Which rows it is made of, and what each said, stays known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from rrm.core.judgements import Comparison
from rrm.core.remarks import Remark
from rrm.store.store import Origin

Key = tuple[str, int, str]
"""Node, round, and the two outcomes, whichever was shown first."""
Read = tuple[Comparison, tuple[Origin, ...]]


def key_of(comparison: Comparison) -> Key:
    """What a row's comparison is of."""
    pair = comparison.pair
    return pair.task, comparison.round, min(pair.id, pair.swapped().id)


@dataclass
class Votes:
    """What rows say of one pair of outcomes, in the order that the first of them shows it in."""

    first: str
    """The pair, as the first row shows it."""
    preferences: list[float | None] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)
    remarks: tuple[list[Remark], list[Remark]] = field(default_factory=lambda: ([], []))
    """Of A alone, and of B, as each of the users made them."""

    def add(self, comparison: Comparison, origins: Iterable[Origin]) -> None:
        """Count a row."""
        preference = comparison.preference
        turned = comparison.pair.id != self.first
        self.preferences.append(1 - preference if turned and preference is not None else preference)
        sides = (comparison.judgement.remarks_a, comparison.judgement.remarks_b)
        for kept, said in zip(self.remarks, reversed(sides) if turned else sides, strict=True):
            kept += [replace(one, by=one.by or comparison.user) for one in said]
        self.users.append(comparison.user)
        self.origins += origins

    def together(self, comparison: Comparison) -> Comparison:
        """The rows as one comparison; `comparison` is the first of them, and one row alone stays as it is."""
        if len(self.preferences) == 1:
            return comparison
        given = [preference for preference in self.preferences if preference is not None]
        mean = sum(given) / len(given) if given else None
        people = list(dict.fromkeys(self.users))
        said = {"for A": sum(p > 0.5 for p in given), "for B": sum(p < 0.5 for p in given), "ties": given.count(0.5),
                "abstained": self.preferences.count(None)}  # fmt: skip
        counts = ", ".join(f"{n} {what}" for what, n in said.items() if n)
        note = f"{len(self.preferences)} judgements: {counts}" + (f"; {'; '.join(people)}" if len(people) > 1 else "")
        own = comparison.judgement.note
        a, b = (tuple(dict.fromkeys(side)) for side in self.remarks)
        judgement = replace(
            comparison.judgement, preference=mean, note=f"{own}; {note}" if own else note, remarks_a=a, remarks_b=b
        )
        user = people[0] if len(people) == 1 else f"{len(people)} people"
        return replace(comparison, judgement=judgement, user=user)


def combined(found: Iterable[Read], votes: Mapping[Key, Votes]) -> Iterator[Read]:
    """Each pair once, where its first row stands, as all rows together judge it."""
    seen: set[Key] = set()
    for comparison, _ in found:
        key = key_of(comparison)
        if key not in seen:
            seen.add(key)
            yield votes[key].together(comparison), tuple(votes[key].origins)
