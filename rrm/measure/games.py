"""What the experiments in the games share: which positions are looked at, chains at a budget, and what they reached.

Everything is measured on deciding positions: some moves win there and some lose, and none ends the game at once. Beside
those that were trained on stand positions of the next larger game, which no level ever met: what is learned by heart
does not carry over to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from rrm.core.errors import RRMError
from rrm.core.judgements import Pair
from rrm.core.parties import User
from rrm.core.protocols import Agent
from rrm.core.records import Group, Outcome, digest
from rrm.core.settings import Settings
from rrm.core.task import Assistant, Task, assist, climb
from rrm.measure.stage import Stage
from rrm.store.store import Store
from rrm.worlds.games import Game, PlayoutUser, Position, Positions, behind, case_of, positions
from rrm.worlds.games.ceilings import deciding
from rrm.worlds.games.corpus import vocabulary
from rrm.worlds.games.game import after, wins

Graded = list[list[float]]
"""[position's number, how right] rows."""
REPLY = "reply"
SAMPLES = 4
"""Moves sampled of an agent at each position."""


@dataclass(frozen=True)
class Board:
    """The game of a stage's tree, and where it is measured."""

    game: Game
    trained: tuple[Position, ...]
    unseen: tuple[Position, ...]
    """Of the next larger game."""

    @classmethod
    def of(cls, stage: Stage) -> Board:
        """Raises `RRMError` for a tree of another world, and for a game that is too small or too large."""
        supply = stage.task.cases
        if not isinstance(supply, Positions):
            raise RRMError(
                f"this experiment is of the games, and {stage.task.name!r} is a tree of another world; give --tree "
                "moves, king or nim, or a tree of your own whose cases are rrm.worlds.games.Positions"
            )
        game = supply.game
        mine = set(positions(game))
        beyond = [one for one in positions(game.larger()) if one not in mine]
        trained = tuple(deciding(game, supply.all()))
        if not trained:
            raise RRMError(f"{game} has no position in which the choice of a move decides the game; take a larger one")
        words = set(vocabulary())
        if unknown := {word for one in beyond for word in game.larger().words(one).split()} - words:
            raise RRMError(
                f"{game}, or the next larger game, is measured at positions that this world has no words for "
                f"({', '.join(sorted(unknown)[:5])}); take a smaller one"
            )
        return cls(game, trained, tuple(deciding(game.larger(), beyond)))

    def both(self) -> dict[str, tuple[Position, ...]]:
        """By name: what was trained on, and what was not."""
        return {"trained": self.trained, "unseen": self.unseen}

    @cached_property
    def _larger(self) -> Game:
        return self.game.larger()

    def groups(self, among: Sequence[Position]) -> list[Group]:
        """Every legal move at these positions. The game is written as it was trained on."""
        moves = [tuple(Outcome(move) for move in after(self._larger, one)) for one in among]
        return [Group(case_of(self._larger, one), some) for one, some in zip(among, moves, strict=True)]

    def wins(self, position: Position, move: str) -> bool:
        """The truth about a move; what is none does not win."""
        there = after(self._larger, position).get(" ".join(move.split()))
        return there is not None and not wins(self._larger, there)

    def agreement(self, user: User, node: Assistant, among: Sequence[Position]) -> Graded:
        """How right the user, with the node's assistants, judges each pair of a winning and a losing move; a tie counts
        half."""
        groups = assist(node.helpers, self.groups(among))
        rows: Graded = []
        for number, (position, group) in enumerate(zip(among, groups, strict=True)):
            good = [self.wins(position, outcome.text) for outcome in group.outcomes]
            pairs = [(i, j) for i in range(len(good)) for j in range(len(good)) if good[i] and not good[j]]
            for i, j in pairs:
                said = user.judge(node.task, Pair.of(node.task.path, group, i, j)).preference
                rows += [] if said is None else [[number, float(said)]]
        return rows

    def skill(self, agent: Agent, among: Sequence[Position], key: str) -> Graded:
        """Which of an agent's moves win."""
        groups = agent.sample([group.case for group in self.groups(among)], SAMPLES, key=f"skill {key}")
        return [
            [number, float(self.wins(position, outcome.text))]
            for number, (position, group) in enumerate(zip(among, groups, strict=True))
            for outcome in group.outcomes
        ]

    def measured(self, user: User, node: Assistant, key: str) -> dict[str, Graded]:
        """Both, at both kinds of positions."""
        found = {}
        for where, among in self.both().items():
            found[f"agreement {where}"] = self.agreement(user, node, among)
            found[f"skill {where}"] = self.skill(node.agent, among, key)
        return found


def step(stage: Stage) -> Task:
    """One step of the stage's chain, without assistants. Of a user whose playouts are noisy a pair is asked again as it
    comes up again: else further rounds at one node would only repeat the answers of the first."""
    user = stage.user()
    noisy = isinstance(user, PlayoutUser) and not user.exact
    settings = stage.task.settings.model_copy(update={"repeat": True}) if noisy else stage.task.settings
    return replace(stage.task, assistants=(), path="", covers=stage.task.aspects, settings=settings)


def chain(
    stage: Stage, levels: int, rounds: int = 1, name: str = "", user: User | None = None,
    below: Assistant | None = None, settings: Settings | None = None, **how: Any,
) -> Assistant:  # fmt: skip
    """Train, or load, a chain with so many levels of replies, each node in so many rounds; `how`: see `climb`."""
    base = step(stage)
    several = (settings or base.settings).model_copy(update={"rounds": rounds, "until": 0.0})
    task = replace(climb(replace(base, settings=several), levels, REPLY, below=below, **how), covers=())
    return stage.train(name or f"depth {levels} in {rounds} rounds", task, user)


def spent(node: Assistant) -> dict[str, float]:
    """What a tree took to train: judgements given, playouts, and tokens sampled to be optimized."""
    assert isinstance(node.memo, Store)
    path = node.task.path
    comparisons = node.memo.comparisons(path)
    lengths = [value for *_, name, value in node.memo.metrics(path, "improve") if name == "length"]
    s = node.task.settings
    own = {
        "judgements": float(len(comparisons)),
        "playouts": float(sum(c.judgement.attention for c in comparisons)),
        "tokens": sum(lengths) * s.batch * s.group,
    }
    for helper in node.helpers:
        if helper.memo is node.memo:
            own = {what: value + spent(helper)[what] for what, value in own.items()}
    return own


@dataclass(frozen=True)
class Erring:
    """An agent that answers a share of the cases with a random legal move: a replier that did not look."""

    agent: Agent
    share: float
    seed: int = 0
    repeatable: bool = True

    @property
    def version(self) -> str:
        """Another for another share."""
        return digest("erring", self.agent.version, self.share, self.seed)

    def sample(
        self, cases: Sequence[Any], n: int, key: str, temperature: float = 1.0, greedy: bool = False
    ) -> list[Group]:
        """See `Agent`."""
        return [self._err(group) for group in self.agent.sample(cases, n, key, temperature, greedy)]

    def _err(self, group: Group) -> Group:
        draw = int(digest("erring", self.seed, group.case.id), 16)
        if draw >= self.share * 16**16:
            return group
        moves = list(after(*behind(group.case)))
        return Group(group.case, tuple(Outcome(moves[draw % len(moves)]) for _ in group.outcomes))

    def state(self) -> dict[str, Any]:
        """The agent's."""
        return self.agent.state()

    def load(self, state: Any) -> None:
        """Into the agent."""
        self.agent.load(state)


def erring(node: Assistant, share: float, seed: int) -> Assistant:
    """The finished node, but for the share of its answers that are random."""
    return replace(node, agent=Erring(node.agent, share, seed), reward=None)
