"""What moved one judgement, piece by piece: B becomes A, one at a time, and each is worth what the score gains.

A piece is a stretch of words in which A and B differ, or what one assistant said of them. A score is no sum over
pieces, so what one is worth hangs on those that were exchanged before it. That is averaged over an order and its
reverse, which gives the Shapley value wherever at most two pieces act together (Shapley 1953; sampled as in Castro,
Gomez and Tejada 2009), and whatever the order, the pieces sum to the difference. No gradient is taken. Every text that
is scored is a mixture of two that were written, though maybe one that nobody would write.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from rrm.core.judgements import Comparison
from rrm.core.records import Assistance, Group, Outcome
from rrm.models.attribution import Parts, less, parts_of
from rrm.models.reward import TextRewardModel

MOST = 12
"""Pieces of words; of more, neighbors are taken together."""
LONG = 3000
"""Words; a longer text is one piece."""
WORDS, SAID, TOKENS = "words", "said", "tokens"


@dataclass(frozen=True)
class Exchanged:
    """A piece, and the parts of the score's difference that it makes, in standard deviations.

    `kind`: `WORDS`; `SAID`, by the assistant `by` (all together, where A and B were not examined by the same);
    `TOKENS`, what is left where a text was not written in the tokens that it is read in here, or did not end. `at_a`
    and `at_b`: where it is in A's text and in B's, first character and one after the last.
    """

    kind: str
    parts: Parts
    by: str = ""
    at_a: tuple[int, int] = (0, 0)
    at_b: tuple[int, int] = (0, 0)

    @property
    def worth(self) -> float:
        """All its parts."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class Stretch:
    """A stretch of both texts; `same` if they say the same there."""

    a: str
    b: str
    same: bool


def stretches(a: str, b: str, most: int = MOST) -> list[Stretch]:
    """Two texts cut where they begin and cease to differ, by words. Joined, the stretches are the texts; `most` differ
    at most."""
    words = [re.findall(r"\s*\S+|\s+$", text) for text in (a, b)]
    if most == 1 or max(map(len, words)) > LONG:
        return [Stretch(a, b, a == b)]
    matcher = SequenceMatcher(None, words[0], words[1], autojunk=False)
    found = [
        Stretch("".join(words[0][i:j]), "".join(words[1][k:m]), kind == "equal")
        for kind, i, j, k, m in matcher.get_opcodes()
    ]
    while sum(not one.same for one in found) > most:
        inner = [n for n in range(1, len(found) - 1) if found[n].same]
        n = min(inner, key=lambda n: len(found[n].a))
        whole = found[n - 1 : n + 2]
        found[n - 1 : n + 2] = [Stretch("".join(s.a for s in whole), "".join(s.b for s in whole), False)]
    return found


def exchanged(reward: TextRewardModel, one: Comparison, assistants: Sequence[str], most: int = MOST) -> list[Exchanged]:
    """The pieces of a comparison, in the order of the text, then what assistants said. Their parts sum to those of A's
    score less B's."""
    texts = stretches(one.a.whole, one.b.whole, most)  # what is shown of data, too: so it is read
    pieces = [n for n, stretch in enumerate(texts) if not stretch.same]
    spoken = _spoken(one, reward)
    players = [*((WORDS, n) for n in pieces), *((SAID, n) for n in range(len(spoken)))]
    rows: dict[frozenset[tuple[str, int]], int] = {}
    orders = [players, players[::-1]]
    for order in orders:  # from B, where none is exchanged, to A
        for n in range(len(order) + 1):
            rows.setdefault(frozenset(order[:n]), len(rows))

    def outcome(of_a: frozenset[tuple[str, int]]) -> Outcome:
        if not pieces:
            return one.b
        return Outcome("".join(s.a if (WORDS, n) in of_a else s.b for n, s in enumerate(texts)))

    def said(of_a: frozenset[tuple[str, int]]) -> tuple[Assistance, ...]:
        return tuple(x for n, (_, a, b) in enumerate(spoken) for x in (a if (SAID, n) in of_a else b))

    ends = ((one.a, one.assistance_a), (one.b, one.assistance_b))  # as they were written
    mixed = [(outcome(key), said(key)) for key in rows]
    if not spoken:
        mixed = [(each, one.assistance_b) for each, _ in mixed]
    both = [*ends, *mixed]
    group = Group(one.case, tuple(o for o, _ in both), tuple(s for _, s in both))
    whole_a, whole_b, *scored = parts_of(reward, [group], assistants)[0]
    gains: dict[tuple[str, int], list[Parts]] = {player: [] for player in players}
    for order in orders:
        for n, player in enumerate(order):
            before, after = (scored[rows[frozenset(order[:m])]] for m in (n, n + 1))
            gains[player].append(less(after, before))
    found = [_made(player, gains[player], texts, spoken) for player in players]
    left = less(whole_a, whole_b)
    for part in (part for each in found for part in each.parts.items()):
        left[part[0]] = left.get(part[0], 0.0) - part[1]
    if sum(map(abs, left.values())) > 1e-3:
        found.append(Exchanged(TOKENS, left))
    return found


Spoken = tuple[str, tuple[Assistance, ...], tuple[Assistance, ...]]
"""Who spoke, and what they said of A and of B."""


def _spoken(one: Comparison, reward: TextRewardModel) -> list[Spoken]:
    """Each assistant, where the same spoke of both; else all together; nobody, where both were told the same."""
    if one.assistance_a == one.assistance_b or (reward.settings.reward_sees != "assistance" and not reward.assistants):
        return []
    paths = [[each.assistant for each in side] for side in (one.assistance_a, one.assistance_b)]
    if paths[0] != paths[1]:
        return [("", one.assistance_a, one.assistance_b)]
    return [(a.assistant, (a,), (b,)) for a, b in zip(one.assistance_a, one.assistance_b, strict=True)]


def _made(
    player: tuple[str, int], gains: Sequence[Parts], texts: Sequence[Stretch], spoken: Sequence[Spoken]
) -> Exchanged:
    kind, n = player
    parts = {name: sum(gain.get(name, 0.0) for gain in gains) / len(gains) for gain in gains for name in gain}
    if kind == SAID:
        return Exchanged(kind, parts, spoken[n][0])
    start_a, start_b = (sum(len(text) for text in side) for side in
                        ([s.a for s in texts[:n]], [s.b for s in texts[:n]]))  # fmt: skip
    return Exchanged(
        kind, parts, "", (start_a, start_a + len(texts[n].a)), (start_b, start_b + len(texts[n].b))
    )
