"""What is enumerated of an agent is what the solver says of its moves."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from rrm import Group
from rrm.core.errors import RRMError
from rrm.measure.winning import Enumerated, chances_of, enumerate_agent, game_behind
from rrm.models.agent import TextAgent
from rrm.models.backbone import Backbone
from rrm.worlds.games import Game, King, Nim, Pile, Position, case_of, positions
from rrm.worlds.games.game import after, wins
from tests.games import scripted

GAMES: list[Game] = [Pile(), Nim((1, 2, 3)), King(6)]


def perfect(game: Game, position: Position) -> str:
    steps = after(game, position)
    return next((move for move, there in steps.items() if not wins(game, there)), next(iter(steps)))


def enumerated(game: Game, choose: scripted.Choose, up_to: int | None = None) -> Enumerated:
    def chances(groups: Sequence[Group]) -> list[list[float]]:
        return [[1.0 / len(group.outcomes)] * len(group.outcomes) for group in groups]

    return enumerate_agent(scripted.Rule("rule", choose), game, up_to, chances=chances)


@pytest.mark.parametrize("game", GAMES, ids=str)
def test_who_plays_perfectly_wins_what_can_be_won(game: Game) -> None:
    found = enumerated(game, perfect)
    assert {choice.position for choice in found.choices} == {one for one in positions(game) if wins(game, one)}
    assert len(found.certain) == len(found.choices)
    assert [one["verdict"] for one in found.statements()[:2]] == ["holds", "holds"]


@pytest.mark.parametrize("game", GAMES, ids=str)
def test_who_errs_once_is_caught_there_and_wherever_it_leads(game: Game) -> None:
    places = [
        one for one in positions(game)
        if wins(game, one) and any(wins(game, there) for there in after(game, one).values())
    ]  # fmt: skip
    weak = places[len(places) // 2]

    def errs(game: Game, position: Position) -> str:
        steps = after(game, position)
        worse = next((move for move, led in steps.items() if wins(game, led)), "")
        return worse if position == weak else perfect(game, position)

    found = enumerated(game, errs)
    assert [choice.position for choice in found.choices if not choice.right] == [weak]
    assert found.statements()[0]["verdict"] == "fails"
    assert found.statements()[0]["counterexamples"][0]["position"] == game.words(weak)
    for one in found.choices:  # against every opponent, played out
        assert (one.position in found.certain) == beats_all(game, errs, one.position)


def beats_all(game: Game, choose: scripted.Choose, position: Position) -> bool:
    there = after(game, position)[choose(game, position)]
    return all(bool(after(game, reply)) and beats_all(game, choose, reply) for reply in after(game, there).values())


def test_a_game_is_won_at_least_as_often_as_its_worst_line() -> None:
    game = Pile(9)
    found = enumerated(game, perfect)

    def least(position: Position) -> float:  # moves at random, and the worst opponent
        there = after(game, position).values()
        won = [1.0 if not after(game, one) else min(map(least, after(game, one).values())) for one in there]
        return sum(won) / len(won) if won else 0.0

    for position, chance in found.least.items():
        assert chance == pytest.approx(least(position))


def test_a_model_is_asked_at_every_position() -> None:
    backbone = Backbone.load("embedded-games")
    agent = TextAgent(backbone, backbone.start, 8)
    found = enumerate_agent(agent, Pile(9), 13)
    assert found.game == Pile(13) and len(found.choices) == 10
    assert all(0 <= choice.chance <= 1 for choice in found.choices)
    group = Group(case_of(Pile(9), (7,)), tuple(scripted.Outcome(move) for move in after(Pile(9), (7,))))
    (row,), (warm,) = chances_of(agent)([group]), chances_of(agent, 5.0)([group])
    assert row == pytest.approx([float(one.sum().exp()) for one in agent.logprobs([group])[0]], rel=1e-4)
    assert sum(warm) < sum(row)  # what is no move grows likelier
    with pytest.raises(RRMError, match="no words for"):
        enumerate_agent(agent, Pile(9), 60)


def test_only_positions_are_enumerated() -> None:
    assert game_behind(case_of(Pile(9), (7,))) == Pile(9)
    assert game_behind(case_of(Pile(9), (7,), "verdict")) is None
