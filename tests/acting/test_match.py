"""Games as environments: the solver wins what it says, the surprising move exists, agents of both kinds share words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import rrm
from rrm.acting import Place, cases, episode_of
from rrm.acting.playing import Player
from rrm.core.errors import ConfigError, Malformed
from rrm.core.records import Case, Outcome
from rrm.core.validation import check
from rrm.loop.training import maker_of
from rrm.measure.oracle import is_true
from rrm.worlds.games import Game, King, Nim, Pile, PlayoutUser, Position, case_of, facts, positions
from rrm.worlds.games.game import after, wins
from rrm.worlds.games.match import ENV, Match, moves_of, openings, surprising, won
from rrm.worlds.games.moves import told
from rrm_tasks.match import match, whole

GAMES: list[Game] = [Pile(), Nim((2, 3, 4)), King(6)]
NAMES = ["pile", "nim", "king"]


def solver(game: Game, position: Position) -> str:
    """A move that wins, if there is one."""
    there = after(game, position)
    return next((move for move, led in there.items() if not wins(game, led)), next(iter(there)))


def played(env: Match, choose: Callable[[Game, Position], str], seed: int = 0) -> dict[str, Any]:
    """A game to its end: the last info."""
    _, info = env.reset(seed=seed)
    while not info["won"] and not info["lost"]:
        *_, info = env.step(np.int64(env.words.index(choose(env.game, env.at))))
    return info


@pytest.mark.parametrize("game", GAMES, ids=NAMES)
@pytest.mark.parametrize("errs", [0.0, 0.3])
def test_it_keeps_gymnasiums_contract(game: Game, errs: float) -> None:
    check_env(Match(game.rules(), errs=errs), skip_render_check=True)
    env = Match(game.rules(), render_mode="ansi")
    env.reset(seed=1)
    assert env.render() == game.drawn(env.at)


@pytest.mark.parametrize("game", GAMES, ids=NAMES)
def test_whoever_plays_the_solvers_moves_wins_what_the_solver_says(game: Game) -> None:
    """From every position, against an opponent who never errs: won exactly where the solver says so."""
    for position in positions(game):
        for seed in range(2):
            info = played(Match(game.rules(), position), solver, seed)
            assert (info["won"], info["lost"]) == ((1, 0) if wins(game, position) else (0, 1)), position


@pytest.mark.parametrize("game", GAMES, ids=NAMES)
def test_one_losing_move_loses_against_who_never_errs_and_may_not_against_who_does(game: Game) -> None:
    def blunder(game: Game, position: Position) -> str:
        return next((move for move, led in after(game, position).items() if wins(game, led)), solver(game, position))

    bad = [one for one in won(game) if any(wins(game, led) for led in after(game, one).values())]

    for position in bad:
        env, blundered = Match(game.rules(), position), [False]

        def choose(game: Game, at: Position, blundered: list[bool] = blundered) -> str:
            move = solver(game, at) if blundered[0] else blunder(game, at)
            blundered[0] = True
            return move

        assert played(env, choose)["lost"] == 1, position
    saved = [played(Match(game.rules(), bad[-1], errs=1.0), blunder, seed)["won"] for seed in range(40)]
    assert any(saved)


@pytest.mark.parametrize("game", [Pile(), King(5)], ids=["pile", "king"])
def test_the_surprising_move_is_there(game: Game) -> None:
    """Move 37: a user who plays on at random, exactly, prefers another move to it, and the solver proves it wrong."""
    user, found = PlayoutUser(exact=True), 0
    for case in openings(game):
        position = tuple(case.data["position"])
        for good, bad in surprising(game, position):
            found += 1
            task, pair = match(game, 0), rrm.Pair("match", case, Outcome(good), Outcome(bad))
            assert user.judge(task, pair).preference == 0.0, "alone, it prefers the move that loses"
            assert [is_true(fact) for one in (good, bad) for fact in facts(case, Outcome(one))] == [True, False]
    assert found > 4


def test_in_nim_that_user_is_blind_and_not_misled() -> None:
    assert not any(surprising(Nim(), position) for position in positions(Nim()))


def test_an_illegal_move_loses_and_has_no_form() -> None:
    case = next(case for case in openings(Pile()) if case.data["position"] == [1])
    player = Player(Place.of(case).make())
    player.begin()
    player.act(moves_of(Pile()).index("take 3"))
    episode = player.episode()
    assert episode.ended and episode.hidden["lost"][-1] == 1 and episode.hidden["reward"].sum() == -1
    with pytest.raises(Malformed):
        facts(case, Outcome(player.env.unwrapped.describe(episode)))  # type: ignore[attr-defined]


@pytest.mark.parametrize("game", GAMES, ids=NAMES)
def test_an_episode_is_told_as_the_moves_world_tells_it(game: Game) -> None:
    """Broken off after a move, the move; played to its end, a line that this world reads, to where it ended."""
    for case in openings(game)[:6]:
        player = Player(Place.of(case).make())
        player.begin()
        move = next(iter(after(game, tuple(case.data["position"]))))
        player.act(moves_of(game).index(move))
        assert player.done and player.env.unwrapped.describe(player.episode()) == move  # type: ignore[attr-defined]
        assert case.prompt == case_of(game, tuple(case.data["position"])).prompt
    rng = np.random.default_rng(0)
    for seed in range(5):
        (case,) = cases(ENV, 1, kwargs={"rules": dict(game.rules()), "errs": 0.5}, steps=99)
        env = Place.of(Case(case.prompt, {**case.data, "seed": seed})).make()
        player = Player(env)
        player.begin()
        inner: Match = env.unwrapped  # type: ignore[assignment]
        begun = inner.at
        while not player.done:
            player.act(inner.words.index(str(rng.choice(list(after(game, inner.at))))))
        assert told(game, begun, inner.describe(player.episode()))[-1] == inner.at


@pytest.mark.parametrize(
    "given", [{"errs": 2.0}, {"moves": -1}, {"position": (0,)}, {"position": (1, 2)}, {"position": (99,)}], ids=str
)
def test_what_is_no_game_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Match(Pile().rules(), **given)


def test_the_trees_are_sound() -> None:
    for tree in (match(), match(levels=0), whole()):
        check(tree)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_agent_that_learns_from_games_to_their_end_wins_those_that_can_be_won(tmp_path: Path) -> None:
    """From comparisons alone: which of two games was won."""
    game = King(5)
    agent = rrm.train(whole(game), rrm.BoundedUser(), maker_of("ppo"), tmp_path).agent
    data = {"env": ENV, "seed": 0, "steps": 100}
    games = [Case("Win.", data | {"kwargs": {"rules": dict(game.rules()), "position": list(one)}}) for one in won(game)]
    results = [episode_of(group.outcomes[0]).hidden["won"][-1] for group in agent.sample(games, 1, "play", greedy=True)]
    assert sum(results) / len(results) > 0.85
