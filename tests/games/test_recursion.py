"""What the recursion is worth is in the repliers' answers, and in nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from rrm import Assistant, Group, Outcome, Pair
from rrm.core.judgements import Judgement
from rrm.core.task import assist
from rrm.measure.games import Erring
from rrm.worlds.games import Game, King, Nim, Pile, PlayoutUser, Position, case_of, positions
from rrm.worlds.games import ceilings as exact
from rrm.worlds.games.game import after, wins
from tests.games import scripted

GAMES: list[Game] = [Pile(), Nim(), King(9)]
USER = PlayoutUser(exact=True)


def agreement(game: Game, helpers: Sequence[Assistant], user: PlayoutUser = USER) -> float:
    """The mean over deciding positions of how often a winning move is preferred to a losing one."""
    places, shares = exact.deciding(game, positions(game)), []
    for position in places:
        moves = list(after(game, position))
        (group,) = assist(helpers, [Group(case_of(game, position), tuple(map(Outcome, moves)))])
        good = [not wins(game, after(game, position)[move]) for move in moves]
        said = [
            user.judge(scripted.task(game), Pair.of("moves", group, i, j)).preference
            for i in range(len(moves)) for j in range(len(moves)) if good[i] and not good[j]
        ]  # fmt: skip
        shares.append(sum(map(float, said)) / len(said))  # type: ignore[arg-type]
    return sum(shares) / len(shares)


def converged(depth: int) -> scripted.Choose:
    """The reply that is best under the user's view with `depth` levels of converged replies, the first if several."""

    def choose(game: Game, position: Position) -> str:
        best = exact.best(game, position, depth)
        return next(move for move, there in after(game, position).items() if there in best)

    return choose


@pytest.mark.parametrize("game", GAMES, ids=str)
@pytest.mark.parametrize("depth", [0, 1, 2, 4])
def test_with_converged_repliers_the_user_reaches_the_ceiling(game: Game, depth: int) -> None:
    helpers = scripted.chain(game, [converged(level) for level in reversed(range(depth))])
    expected = exact.agreement(game, exact.deciding(game, positions(game)), depth)
    assert agreement(game, helpers) == pytest.approx(expected, abs=0.03)  # the first of equals, not their mean


@pytest.mark.parametrize(("game", "more"), [(Pile(), 0.06), (Nim(), 0.06), (King(9), 0.12)], ids=str)
def test_random_replies_lift_next_to_nothing(game: Game, more: float) -> None:
    """No line of code says that depth helps: turned into random legal moves, answers at the same places do not.

    On the board a little is left: there the user alone is wrong so often that any noise brings it nearer to a coin, and
    one game in place of their mean is noise. The converged lifts are 0.31 (pile, 5 levels), 0.36 and 0.35.
    """
    alone, salts = agreement(game, ()), 12 if isinstance(game, King) else 6
    for depth in (1, 3, 5):
        lifted = [
            agreement(game, scripted.chain(game, [scripted.at_random(f"{salt} {i}") for i in range(depth)], f"r{salt}"))
            for salt in range(salts)
        ]
        assert sum(lifted) / len(lifted) < alone + more, (depth, lifted)


@pytest.mark.parametrize("game", GAMES, ids=str)
def test_over_all_replies_the_user_sees_on_average_what_it_sees_alone(game: Game) -> None:
    for position in positions(game)[-20:]:
        case, (a, *others) = case_of(game, position), map(Outcome, after(game, position))
        for b in others:
            alone = USER.judge(scripted.task(game), Pair("moves", case, a, b)).margin
            replies = list(after(game, after(game, position)[a.text]))
            margins = []
            for reply in replies:
                def always(game: Game, position: Position, reply: str = reply) -> str:
                    return reply

                (group,) = assist(scripted.chain(game, [always], reply), [Group(case, (a,))])
                pair = Pair("moves", case, a, b, group.seen(0))
                margins.append(USER.judge(scripted.task(game), pair).margin)
            assert not replies or sum(map(float, margins)) / len(margins) == pytest.approx(alone)  # type: ignore[arg-type]


def test_replies_that_help_the_other_side_mislead() -> None:
    def worst(game: Game, position: Position) -> str:
        steps = after(game, position)
        return next((move for move, there in steps.items() if wins(game, there)), next(iter(steps)))

    assert agreement(Pile(), scripted.chain(Pile(), [worst] * 5)) < agreement(Pile(), ()) - 0.1


class Perfect(PlayoutUser):
    """Plays perfectly alone, as far as it looks."""

    def judge(self, task: object, pair: Pair) -> Judgement:
        game, position = Pile(), tuple(pair.case.data["position"])
        a, b = (not wins(game, after(game, position)[one.text]) for one in (pair.a, pair.b))
        return Judgement(0.5 if a == b else float(a))


def test_a_user_who_is_perfect_alone_gains_nothing_by_depth() -> None:
    user = Perfect()
    assert agreement(Pile(), (), user) == 1.0
    assert agreement(Pile(), scripted.chain(Pile(), [converged(2), converged(1), converged(0)]), user) == 1.0


def test_deeper_is_better_up_to_the_end_only_where_the_repliers_are() -> None:
    places = exact.deciding(Pile(), positions(Pile()))
    by_depth = [exact.agreement(Pile(), places, depth) for depth in range(9)]
    assert by_depth[1] < by_depth[0] < by_depth[2] < by_depth[4] < by_depth[5] == by_depth[8] == 1.0
    assert exact.policy(Pile(), places, 5) == 1.0


def test_errors_are_put_in_at_their_share_and_are_legal() -> None:
    agent = scripted.Rule("best", converged(5))
    cases = [case_of(King(9), position) for position in positions(King(9))]
    right = agent.sample(cases, 1, "k")
    for share in (0.0, 0.3, 1.0):
        found = Erring(agent, share).sample(cases, 1, "k")
        assert found == Erring(agent, share).sample(cases, 1, "another key"), "an error hangs on the case alone"
        changed = sum(one != two for one, two in zip(found, right, strict=True)) / len(cases)
        assert share / 3 - 0.1 <= changed <= share + 0.1
        for group in found:
            assert group.outcomes[0].text in after(King(9), tuple(group.case.data["position"]))
    assert Erring(agent, 0.3).version != Erring(agent, 0.2).version
