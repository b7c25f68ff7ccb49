"""The games themselves: what is true of them, how they are written, and what a user who plays on at random sees."""

from __future__ import annotations

import random
from functools import reduce
from operator import xor
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrm import Case, Malformed, Outcome, Pair, Task
from rrm.core.errors import ConfigError, RRMError, SealedOracle
from rrm.core.records import Answer, Assistance
from rrm.measure.experiments.share import _assisted, _right, _searched
from rrm.measure.games import Board, step
from rrm.measure.oracle import true_score
from rrm.worlds.games import (
    Game,
    King,
    Nim,
    Pile,
    PlayoutUser,
    Position,
    Positions,
    case_of,
    chance,
    facts,
    findings,
    frame,
    game_of,
    line,
    positions,
)
from rrm.worlds.games.ceilings import agreement, deciding
from rrm.worlds.games.corpus import Corpus, vocabulary
from rrm.worlds.games.game import after, wins
from rrm.worlds.games.playout import play
from rrm_tasks.moves import moves

GAMES: list[Game] = [Pile(), Pile(30, 4), Nim(), Nim((4, 4, 4)), King(7), King(9)]


def lost(game: Game, position: Position) -> bool:
    """By theory, not by search."""
    if isinstance(game, Pile):
        return position[0] % (game.most + 1) == 0
    return reduce(xor, position) == 0 if isinstance(game, Nim) else all(part % 2 == 0 for part in position)


@pytest.mark.parametrize("game", GAMES, ids=str)
def test_who_wins_is_what_the_theory_of_the_game_says(game: Game) -> None:
    for position in positions(game):
        assert wins(game, position) != lost(game, position)


@pytest.mark.parametrize("game", GAMES, ids=str)
def test_the_expectation_is_what_random_games_come_to(game: Game) -> None:
    rng = random.Random(0)
    for position in rng.sample(positions(game), 4):
        won = sum(play(game, position, rng) for _ in range(4000)) / 4000
        assert won == pytest.approx(chance(game, position), abs=0.04)


@pytest.mark.parametrize("game", GAMES, ids=str)
def test_positions_moves_and_games_survive_being_written(game: Game) -> None:
    assert game_of(game.rules()) == game
    words = set(vocabulary())
    for position in positions(game)[:40]:
        assert set(case_of(game, position).prompt.split()) <= words
        for move, there in after(game, position).items():
            assert set(move.split()) <= words
            assert sum(there) < sum(position), "every game ends"
        assert game.drawn(position)


def test_two_positions_are_never_written_alike() -> None:
    for game in GAMES:
        prompts = [case_of(game, position).prompt for position in positions(game)]
        assert len(set(prompts)) == len(prompts)


def test_an_illegal_move_is_malformed_and_names_the_legal_ones() -> None:
    case = case_of(Pile(), (2,))
    for text in ("take 3", "take", "", "left"):
        with pytest.raises(Malformed, match="take 1, take 2"):
            facts(case, Outcome(text))
    with pytest.raises(ConfigError, match="pile, nim, king"):
        game_of({"game": "chess"})
    with pytest.raises(ConfigError, match="nim has 1 to 4 heaps"):
        Nim((1, 2, 3, 4, 5))


def test_the_truth_of_a_move_is_sealed() -> None:
    (fact,) = facts(case_of(Pile(), (21,)), Outcome("take 1"))
    with pytest.raises(SealedOracle):
        bool(fact.truth)


def test_a_move_that_ends_the_game_leaves_nothing_to_reply_to() -> None:
    assert not frame(case_of(Pile(), (3,)), Outcome("take 3"))
    (left,) = frame(case_of(Pile(), (3,)), Outcome("take 1"))
    assert left == case_of(Pile(), (2,))


def test_unseen_positions_are_apart_and_the_same_for_every_key() -> None:
    kept, held = Positions(King(9), "train", 0.2), Positions(King(9), "unseen", 0.2)
    assert set(kept.all()) | set(held.all()) == set(positions(King(9)))
    assert not set(kept.all()) & set(held.all())
    drawn = kept.draw(2 * len(kept.all()), "a key")
    assert {case.id for case in drawn} == {case_of(King(9), one).id for one in kept.all()}
    assert drawn == kept.draw(2 * len(kept.all()), "a key") != kept.draw(2 * len(kept.all()), "another")
    assert Positions(King(9), "unseen").draw(3, "none is held out") == []


def test_the_corpus_writes_legal_moves_only_and_all_of_them_alike() -> None:
    corpus = Corpus(random.Random(0))
    seen: dict[str, int] = {}
    for _ in range(900):
        case = case_of(Pile(), (9,))
        seen[move] = seen.get(move := corpus.write("pile", case), 0) + 1
    assert min(seen.values()) > 240
    for role in ("pile", "nim", "king"):
        facts(case := corpus.case(role), Outcome(corpus.write(role, case)))


# --- the user ------------------------------------------------------------------------------------------

TASK = Task("moves", "Which move is better?", facts, cases=Positions(Pile()))


def replied(case: Case, outcome: Outcome, moves: list[str]) -> tuple[Assistance, ...]:
    """Assistance of these replies, each to the one before."""
    if not moves or not (framed := frame(case, outcome)):
        return (Assistance("moves/reply", "v", ()),) if moves else ()
    reply = Outcome(moves[0])
    below = replied(framed[0], reply, moves[1:])
    answer = Answer(framed[0], reply, tuple(findings(framed[0], reply)), None, below)
    return (Assistance("moves/reply", "v", (answer,)),)


@given(st.integers(4, 21), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99), st.booleans())
def test_swapping_the_moves_flips_an_exact_judgement(left: int, a: int, b: int, seed: int, noisy: bool) -> None:
    pair = Pair("moves", case_of(Pile(), (left,)), Outcome(f"take {a}"), Outcome(f"take {b}"))
    exact = PlayoutUser(exact=True)
    one, two = exact.judge(TASK, pair).preference, exact.judge(TASK, pair.swapped()).preference
    assert one is not None and two is not None and one + two == 1
    user = PlayoutUser(attention=8, seed=seed)
    assert user.judge(TASK, pair) == user.judge(TASK, pair)


def test_noise_is_drawn_anew_for_each_question() -> None:
    user, case = PlayoutUser(attention=2), case_of(Pile(), (21,))
    asked = [Pair("moves", case, Outcome("take 1"), Outcome("take 2"), again=i) for i in range(40)]
    assert {user.judge(TASK, pair).preference for pair in asked} == {0.0, 0.5, 1.0}


def test_playouts_are_counted_as_attention_and_a_finished_game_needs_none() -> None:
    case = case_of(Pile(), (3,))
    judged = PlayoutUser(attention=10).judge(TASK, Pair("moves", case, Outcome("take 3"), Outcome("take 1")))
    assert (judged.preference, judged.attention) == (1.0, 5)
    assert PlayoutUser(exact=True).judge(TASK, Pair("moves", case, Outcome("take 3"), Outcome("take 1"))).attention == 0


def test_what_is_no_move_is_worse_than_a_lost_one() -> None:
    pair = Pair("moves", case_of(Pile(), (5,)), Outcome("take 9"), Outcome("take 3"))
    assert PlayoutUser().judge(TASK, pair).preference == 0.0


def test_a_line_of_replies_is_followed_as_far_as_it_is_legal() -> None:
    case, move = case_of(Pile(), (21,)), Outcome("take 1")
    assert line(case, move, ()) == [(20,)]
    assert line(case, move, replied(case, move, ["take 3", "take 2"])) == [(20,), (17,), (15,)]
    said = replied(case, move, ["take 3"])
    broken = Answer(said[0].answers[0].case, Outcome("take 9"), (), None)
    assert line(case, move, (Assistance("moves/reply", "v", (broken,)),)) == [(20,)]


def test_the_user_goes_on_from_the_end_of_the_line() -> None:
    case, a, b = case_of(Pile(), (6,)), Outcome("take 2"), Outcome("take 1")
    user = PlayoutUser(exact=True)
    alone = user.judge(TASK, Pair("moves", case, a, b))
    pair = Pair("moves", case, a, b, replied(case, a, ["take 3", "take 1"]), replied(case, b, ["take 1"]))
    assisted = user.judge(TASK, pair)  # take 2, 3, 1 makes the last move; 4 stones are left to me after 1, 1
    assert assisted.margin == pytest.approx(1.0 - chance(Pile(), (4,)))
    assert assisted.margin != alone.margin


def test_the_world_is_not_decided_by_what_its_user_sees() -> None:
    """The bias that recursion has to mend: alone, with endless attention, the user prefers many losing moves."""
    user, wrong = PlayoutUser(exact=True), 0
    for position in positions(Pile()):
        case, moves = case_of(Pile(), position), list(after(Pile(), position))
        for a in moves:
            for b in moves:
                pair = Pair("moves", case, Outcome(a), Outcome(b))
                better = true_score(TASK, case, pair.a) - true_score(TASK, case, pair.b)
                wrong += better > 0 and user.judge(TASK, pair).preference == 0.0
    assert wrong >= 5


def test_what_would_be_measured_wrongly_is_refused() -> None:
    with pytest.raises(ConfigError, match="unseen keeps positions out"):
        moves(unseen=0.2, cases="framed")
    for game, why in ((Pile(3), "no position in which the choice"), (Pile(40), "no words for")):
        with pytest.raises(RRMError, match=why):
            Board.of(SimpleNamespace(task=moves(game, 0)))  # type: ignore[arg-type]
    for wrong in (lambda: Pile(-1), lambda: Pile(5, 0), lambda: King(1)):
        with pytest.raises(ConfigError):
            wrong()
    with pytest.raises(ConfigError, match="is no position of a game"):
        facts(Case("a brief"), Outcome("take 1"))


def test_a_noisy_user_is_asked_again_and_an_exact_one_is_not() -> None:
    for exact in (False, True):
        stage = SimpleNamespace(task=moves(), user=lambda exact=exact: PlayoutUser(exact=exact))
        assert step(stage).settings.repeat != exact  # type: ignore[arg-type]


def test_a_search_that_remembers_looks_at_no_more_than_one_that_does_not() -> None:
    places = deciding(Pile(), positions(Pile()))
    for depth in range(6):
        price, kept, right = _searched(Pile(), places, depth)
        assert kept <= price and kept <= 2 * 21 * (depth + 1) and 0.5 < right <= 1
    assert _assisted(Pile(), places, 5, 4096) == pytest.approx(agreement(Pile(), places, 5), abs=0.01)
    assert _right(0.5, 0.5, 8) == pytest.approx(0.5) and _right(1.0, 0.0, 1) == 1.0
