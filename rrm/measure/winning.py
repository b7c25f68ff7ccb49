"""What a trained agent of the games does at every position, by looking at all of them: a proof by enumeration.

A game has so few positions that nothing is sampled. At each that can be won (`rrm.worlds.games.game.wins` works it out)
the agent is asked for the move that it likeliest writes, and for the chance of each legal move; both hang on its
weights alone. What holds at every one of them is proved, for this model on this processor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from rrm.core.errors import RRMError
from rrm.core.protocols import Agent
from rrm.core.records import Case, Group, Outcome
from rrm.models.agent import TextAgent, prefix_groups
from rrm.models.packing import pack, unpack
from rrm.worlds.games import Game, Position, behind, case_of, positions
from rrm.worlds.games.game import after, wins

Chances = Callable[[Sequence[Group]], list[list[float]]]
"""Groups of legal moves -> the agent's chance of each."""
TOLD = 0.001
"""A smaller chance is none to speak of."""
SHOWN = 20
"""Counterexamples that are written out."""


@dataclass(frozen=True)
class AtPosition:
    """What an agent does at a position that can be won."""

    position: Position
    move: str
    """The likeliest, as it is written; maybe none that is legal."""
    winning: Mapping[str, float]
    """The moves that win -> the agent's chance of each; what it writes otherwise may not be legal."""

    @property
    def right(self) -> bool:
        """Whether the likeliest wins."""
        return self.move in self.winning

    @property
    def chance(self) -> float:
        """Of a winning move."""
        return sum(self.winning.values())


@dataclass(frozen=True)
class Enumerated:
    """An agent at all positions of a game that can be won, the smallest first."""

    game: Game
    up_to: int
    """Positions of which the numbers sum to at most this."""
    choices: tuple[AtPosition, ...]
    temperature: float

    @cached_property
    def _by(self) -> dict[Position, AtPosition]:
        return {choice.position: choice for choice in self.choices}

    @cached_property
    def certain(self) -> frozenset[Position]:
        """Where it wins the game by its likeliest moves, whatever the opponent does. What a winning move leads to is
        lost for the opponent, so that each reply leads to a position that can be won again."""
        found: set[Position] = set()
        for choice in self.choices:  # replies lead to smaller ones
            if choice.right:
                there = after(self.game, choice.position)[choice.move]
                if all(reply in found for reply in after(self.game, there).values()):
                    found.add(choice.position)
        return frozenset(found)

    @cached_property
    def least(self) -> dict[Position, float]:
        """How often it wins the game at least, its moves being drawn, whatever the opponent does."""
        found: dict[Position, float] = {}
        for choice in self.choices:
            steps = after(self.game, choice.position)
            found[choice.position] = sum(
                chance * min((found[reply] for reply in after(self.game, steps[move]).values()), default=1.0)
                for move, chance in choice.winning.items()
            )
        return found

    def statements(self) -> list[dict[str, Any]]:
        """What is proved and what is not, as a certificate has it."""
        n = len(self.choices)
        where = f"each of the {n} positions of {self.game} up to {self.up_to} that can be won"
        wrong = [choice for choice in self.choices if not choice.right]
        lost = [choice for choice in self.choices if choice.position not in self.certain]
        worst = min(self.choices, key=lambda choice: self.least[choice.position])
        mean, least = (sum(some) / n for some in ((one.chance for one in self.choices), self.least.values()))
        drawn = f"drawn at temperature {self.temperature:g}"
        found = [
            _said(f"At {where}, the move that the agent likeliest writes wins.", n, wrong, self._shown(wrong)),
            _said(f"From {where}, it wins the game by its likeliest moves, whatever the opponent does.", n, lost,
                  self._shown(lost)),
        ]  # fmt: skip
        if (chance := min(choice.chance for choice in self.choices)) >= TOLD:
            says = f"At {where}, it makes a winning move with a chance of at least {_down(chance)}, {drawn}."
            found.append({"statement": says, "verdict": "holds", "why": f"by enumeration; the mean is {mean:.3f}"})
        if (chance := self.least[worst.position]) >= TOLD:
            says = f"From {where}, it wins the game with a chance of at least {_down(chance)}, {drawn}, whatever the "
            why = f"by enumeration; least at {self.game.words(worst.position)!r}, and the mean is {least:.3f}"
            found.append({"statement": f"{says}opponent does.", "verdict": "holds", "why": why})
        return found

    def _shown(self, some: Sequence[AtPosition]) -> list[dict[str, Any]]:
        return [
            {"position": self.game.words(one.position), "move": one.move, "wins": [*one.winning],
             "chance of a winning move": round(one.chance, 6)}
            for one in some[:SHOWN]
        ]  # fmt: skip


def _said(says: str, n: int, wrong: Sequence[AtPosition], shown: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not wrong:
        return {"statement": says, "verdict": "holds", "why": f"by enumeration of all {n}"}
    why = f"not at {len(wrong)} of {n}" + (f"; the first {SHOWN} are listed" if len(wrong) > SHOWN else "")
    return {"statement": says, "verdict": "fails", "why": why, "counterexamples": list(shown)}


def _down(chance: float) -> str:
    return f"{math.floor(chance * 1000) / 1000:g}"


def enumerate_agent(
    agent: Agent, game: Game, up_to: int | None = None, temperature: float = 1.0, chances: Chances | None = None
) -> Enumerated:
    """An agent at every position that can be won, up to a size; by default all of the game. Raises `RRMError` if there
    are none, or if its model has no words for some.

    Parameters
    ----------
    up_to: positions of which the numbers sum to at most this; beyond the game's own, those of larger games.
    chances: of the moves; by default of a `TextAgent`, by `chances_of`.
    """
    size = sum(game.start) if up_to is None else up_to
    whole = game
    while sum(whole.start) < size:
        whole = whole.larger()
    among = [one for one in positions(whole) if sum(one) <= size and wins(whole, one)]
    if not among:
        raise RRMError(f"no position of {game} up to {size} can be won; take more")
    cases = [case_of(game, one) for one in among]
    if isinstance(agent, TextAgent):
        _know_words(agent, cases)
    if chances is None:
        if not isinstance(agent, TextAgent):
            raise RRMError("say how likely the agent's moves are: it is no language model")
        chances = chances_of(agent, temperature)
    steps = [[Outcome(move) for move in after(whole, one)] for one in among]
    likely = chances([Group(case, tuple(some)) for case, some in zip(cases, steps, strict=True)])
    greedy = agent.sample(cases, 1, key="winning", greedy=True)
    return Enumerated(whole, size, tuple(
        AtPosition(one, " ".join(group.outcomes[0].text.split()), {
            o.text: p for o, p in zip(some, row, strict=True) if not wins(whole, after(whole, one)[o.text])
        })
        for one, some, row, group in zip(among, steps, likely, greedy, strict=True)
    ), temperature)  # fmt: skip


def chances_of(agent: TextAgent, temperature: float = 1.0) -> Chances:
    """The chance that an agent writes each outcome, token by token as it is usually encoded, and ends: at least so
    often it is drawn. temperature: what divides the logits, as where an agent samples."""

    def chances(groups: Sequence[Group]) -> list[list[float]]:
        rows = prefix_groups(agent.backbone, groups)
        batches = pack(rows, d=agent.backbone.d, budget=agent.backbone.budget(False))
        found: list[Sequence[torch.Tensor]] = []
        for batch in batches:
            with torch.no_grad():
                hidden = agent.fork.hidden(batch)
                logits = agent.fork.logits_at(hidden[batch.row, batch.source], batch.allowed)
                logp = (logits.log_softmax(-1) / temperature).log_softmax(-1)
                each = logp.gather(1, batch.targets.to(logp.device)[:, None])[:, 0].double().cpu()
            found.append([part.sum().exp() for part in torch.split(each, batch.lengths.tolist())])
        return [[float(one) for one in row] for row in unpack(batches, found, [len(g.outcomes) for g in groups])]

    return chances


def game_behind(case: Case) -> Game | None:
    """The game that a case is a position of; None if it is none, or asks for something else than a move."""
    if not {"rules", "position"} <= set(case.data) or "asks" in case.data:
        return None
    return behind(case)[0]


def _know_words(agent: TextAgent, cases: Sequence[Case]) -> None:
    unknown = getattr(agent.backbone.tokenizer, "unk_token_id", None)
    for case in cases:
        if unknown is not None and unknown in agent.backbone.render(case.prompt):
            raise RRMError(f"the model has no words for {case.prompt!r}; enumerate fewer positions")
