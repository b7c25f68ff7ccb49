"""A user who judges a move by playing on at random: what it cannot see is what a good opponent would do."""

from __future__ import annotations

import random
from collections.abc import Sequence

from pydantic import ConfigDict, Field

from rrm.core.errors import Malformed
from rrm.core.judgements import Judgement, Pair
from rrm.core.records import Assistance, Case, Outcome, digest
from rrm.core.settings import Explained
from rrm.core.task import Task
from rrm.worlds.games.game import Game, Position, after, chance
from rrm.worlds.games.moves import asks, behind, line, told
from rrm.worlds.games.rivals import read_verdict

LONG = 50
"""Moves of a line that is longer than any here."""


class PlayoutUser(Explained):
    """Plays on at random from where a move leads, `attention` times, and prefers the move that won more often.

    It knows the rules and nothing else, and never reads a sealed truth. It is biased, not only noisy: random play is no
    good opponent, so more attention mends it only in part. Shown a reply, it plays the reply first, then the reply to
    that, as far as the line of replies goes, and goes on at random from there. So assistance helps exactly as far as
    the replies are what a good opponent would do: nothing here says that they are, and bad ones mislead it.

    Of the rivals (`rrm.worlds.games.rivals`): a verdict is believed, and its own view decides between moves of the same
    verdict; a line of play is followed as replies are. It judges a verdict by whether random play agrees, and a line by
    how many more of its moves are, by random play, no worse than another than are worse.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, title="playout")

    attention: int = Field(default=16, ge=1)
    """Playouts for one comparison; half of them for each move (an odd number loses one, but each has at least one)."""
    exact: bool = False
    """Take the exact expectation of random play instead of playouts: what endless attention would see."""
    margin: float = Field(default=1e-6, ge=0)
    """Shares of won playouts closer than this are a tie."""
    seed: int = 0
    """Decides the playouts, together with the pair: noise is drawn anew for each question."""

    @property
    def name(self) -> str:
        """Its kind, and how it looks."""
        return "playout(exact)" if self.exact else f"playout(attention={self.attention})"

    def judge(self, task: Task, pair: Pair) -> Judgement:
        """Prefer the move that wins more often. What is no legal move is worse than any."""
        rng = random.Random(digest("playout", self.seed, pair.id))
        (a, spent_a), (b, spent_b) = (
            self._look(pair.case, outcome, assistance, rng)
            for outcome, assistance in ((pair.a, pair.assistance_a), (pair.b, pair.assistance_b))
        )
        difference = a - b
        preference = 0.5 if abs(difference) <= self.margin else float(difference > 0)
        return Judgement(preference, attention=spent_a + spent_b, note=f"{a:.3f} against {b:.3f}", margin=difference)

    def recall(self, task: Task, judgement: Judgement) -> None:
        """It learns nothing about anybody."""

    def _look(
        self, case: Case, outcome: Outcome, assistance: Sequence[Assistance], rng: random.Random
    ) -> tuple[float, int]:
        """The share of playouts that whoever makes the move wins, and how many were played; -1 for no legal move."""
        game, position = behind(case)
        n = max(1, self.attention // 2)
        try:
            if asks(case) == "verdict":
                won, spent = self._won(game, position, rng, n)
                return (won if read_verdict(outcome) else 1 - won), spent
            if asks(case) == "line":
                return self._sound(game, position, told(game, position, outcome.text), rng, n)
            there = line(case, outcome, assistance)
        except Malformed:
            return -1.0, 0
        won, spent = self._won(game, there[-1], rng, n)
        value = won if len(there) % 2 == 0 else 1 - won  # after an even number whoever made the move is to move again
        return (value + (1 - verdict)) / 2 if (verdict := _verdict(assistance)) is not None else value, spent

    def _won(self, game: Game, position: Position, rng: random.Random, n: int) -> tuple[float, int]:
        """The share of `n` random games that whoever is to move wins, and how many had to be played to see it."""
        if self.exact or not after(game, position):
            return chance(game, position), 0
        return sum(play(game, position, rng) for _ in range(n)) / n, n

    def _sound(
        self, game: Game, position: Position, there: Sequence[Position], rng: random.Random, n: int
    ) -> tuple[float, int]:
        """How many of a line's moves look no worse than another, picked at random (for an exact look, the mean over all
        others), less how many do not, in units of `LONG` moves; and the playouts it took. A share instead would be best
        for a line of one move.
        """
        sound, spent = 0.0, 0
        each = max(1, n // (2 * len(there)))
        for led in there:
            others = list(after(game, position).values())
            if not self.exact:
                others = [rng.choice(others)]
            mine, played = self._won(game, led, rng, each)
            spent += played
            for other in others:
                his, played = self._won(game, other, rng, each)
                sound += (1 if mine <= his + self.margin else -1) / len(others)  # what the opponent wins
                spent += played
            position = led
        return sound / max(LONG, len(there)), spent


def _verdict(assistance: Sequence[Assistance]) -> bool | None:
    """What a critic says of whoever is to move after the move; None if no critic gives verdicts."""
    answers = [answer for one in assistance for answer in one.answers if asks(answer.case) == "verdict"]
    try:
        return read_verdict(answers[0].outcome) if answers else None
    except Malformed:
        return None


def play(game: Game, position: Position, rng: random.Random) -> bool:
    """Play on at random to the end. Whether whoever is to move first won."""
    first = True
    while steps := after(game, position):
        position = rng.choice(list(steps.values()))
        first = not first
    return not first  # who is to move at the end has lost
