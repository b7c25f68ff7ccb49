"""Repliers without a model: the whole recursion by rule, so that tests know what each level must come to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rrm import Assistant, Case, Group, Outcome, Task
from rrm.core.records import digest
from rrm.core.task import Forgetful
from rrm.worlds.games import Game, Position, Positions, behind, facts, findings, frame
from rrm.worlds.games.game import after

Choose = Callable[[Game, Position], str]


class Rule:
    """An agent that follows a rule."""

    repeatable = True

    def __init__(self, name: str, choose: Choose) -> None:
        self.version, self._choose = name, choose

    def sample(
        self, cases: Sequence[Case], n: int, key: str, temperature: float = 1.0, greedy: bool = False
    ) -> list[Group]:
        return [Group(case, (Outcome(self._choose(*behind(case))),) * n) for case in cases]

    def state(self) -> dict[str, Any]:
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        pass


def at_random(salt: str) -> Choose:
    """A legal move that hangs on the position and the salt alone."""

    def choose(game: Game, position: Position) -> str:
        moves = list(after(game, position))
        return moves[int(digest(salt, list(position)), 16) % len(moves)]

    return choose


def task(game: Game) -> Task:
    return Task("moves", "Which move is better?", facts, cases=Positions(game), frame=frame, findings=findings)


def chain(game: Game, rules: Sequence[Choose], name: str = "rule") -> tuple[Assistant, ...]:
    """Repliers by these rules, the outermost first; the assistants of whoever is to be judged."""
    helpers: tuple[Assistant, ...] = ()
    for level, rule in reversed([*enumerate(rules)]):
        own = replace(task(game), name="reply", path="moves" + "/reply" * (level + 1), assistants=helpers)
        helpers = (Assistant(own, Rule(f"{name} {level}", rule), None, helpers, Forgetful()),)
    return helpers
