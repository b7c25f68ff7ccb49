"""Protocols show what they say they show, and errors are put in where and as often as they say."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from rrm.core.judgements import Pair
from rrm.core.records import Assistance, Finding, Outcome
from rrm.loop.recursion import frame_all
from rrm.measure.arms import HeldOut
from rrm.measure.experiment import agreement, lift, packed
from rrm.measure.experiments.misleading import found_out, misled, mixed, trust
from rrm.measure.mistakes import Unlearning, disputed, optimized, shallow, spoiled, voted
from rrm.measure.oracle import OracleUser, matter
from rrm.measure.oversight import (
    Show,
    another,
    assistants_alone,
    assistants_in,
    consultancy,
    debate,
    everything,
    judged,
    nothing,
    placebo,
    pruned,
)
from rrm.measure.users import Ally, Noisy, Unaided
from rrm.users.bounded import BoundedUser
from tests.measure.material import TASK, alone, assisted

BARE = alone()
HELPED = assisted(BARE)


def verdicts(show: Show) -> list[list[float]]:
    return packed(judged(TASK, BoundedUser(attention=4), HELPED, show))


def pairs() -> list[Pair]:
    held = HELPED.held
    return [Pair.of(TASK.path, held.groups[g], i, j) for g, i, j in held.pairs]


def findings(side: tuple[Assistance, ...]) -> set[tuple[str, bool]]:
    return {(f.fact, f.holds) for top in side for a in top.tree() for f in a.findings}


def test_assistance_that_sees_the_truth_lifts_and_an_oracle_is_right() -> None:
    bare = packed(judged(TASK, BoundedUser(attention=4), BARE))
    assert lift([verdicts(everything)], [bare])["low"] > 0.1
    assert agreement([packed(judged(TASK, OracleUser(), BARE))])["mean"] == 1
    assert agreement([packed(assistants_alone(HELPED.held))])["mean"] > 0.95


def test_placebo_has_the_form_and_no_truth() -> None:
    show = placebo(HELPED, 0)
    for pair in pairs()[:20]:
        for before, after in zip(pair.assistance_a, show(pair).assistance_a, strict=True):
            assert [f.fact for a in before.tree() for f in a.findings] == [
                f.fact for a in after.tree() for f in a.findings
            ]
    said = [
        (a.assistant, f)
        for pair in pairs()
        for top in show(pair).assistance_a
        for a in top.tree()
        for f in a.findings
    ]
    assert {f.holds for _, f in said} == {True, False}
    found = lift([verdicts(show)], [verdicts(nothing)])
    assert found["low"] < 0.02 and -0.15 < found["mean"] < 0.05, "no help; it costs the attention it draws"
    assert lift([verdicts(everything)], [verdicts(show)])["low"] > 0.1


def test_pruned_to_nothing_is_alone_and_pruned_to_the_bottom_is_everything() -> None:
    assert verdicts(pruned(0)) == verdicts(nothing) == packed(judged(TASK, BoundedUser(attention=4), BARE))
    assert verdicts(pruned(2)) == verdicts(everything)
    assert all(not top.below for top in pruned(1)(pairs()[0]).assistance_a)


@pytest.mark.parametrize("show", [debate, consultancy(0)])
def test_advocates_say_only_what_assistants_found(show: Show) -> None:
    sides = 0
    for pair in pairs():
        for before, after in (
            (pair.assistance_a, show(pair).assistance_a),
            (pair.assistance_b, show(pair).assistance_b),
        ):
            assert findings(after) <= findings(before)
            sides += bool(findings(after))
    assert sides > 10


def test_in_a_debate_each_speaks_for_its_own_side_and_in_consultancy_one_for_one() -> None:
    for pair in pairs()[:30]:
        shown = debate(pair)
        for side, own, other in ((shown.assistance_a, "a", "b"), (shown.assistance_b, "b", "a")):
            by = {a.assistant: [f.holds for f in a.findings] for a in side}
            assert all(by[f"advocate-{own}"]) and not any(by[f"advocate-{other}"])
            assert all(len(said) <= 2 for said in by.values())
        (for_a,), (for_b,) = consultancy(0)(pair).assistance_a, consultancy(0)(pair).assistance_b
        assert len({f.holds for f in for_a.findings}) <= 1
        assert not ({f.holds for f in for_a.findings} & {f.holds for f in for_b.findings})


def test_a_copied_user_has_not_met_anyone() -> None:
    user = BoundedUser()
    judged(TASK, user, HELPED)
    assert user.trust(TASK.path, "paper/proofs", True) != another(user, seed=1).trust(TASK.path, "paper/proofs", True)
    assert another(user, attention=9).attention == 9


# --- errors put in -----------------------------------------------------------------------------------


def wrong_of(held: HeldOut, child: str) -> tuple[int, int]:
    """(wrong, all) findings of an assistant."""
    wrong = total = 0
    for group in held.groups:
        for i, outcome in enumerate(group.outcomes):
            truth = {f.name: matter(f) for f in TASK.facts(group.case, outcome)}
            for f in (f for top in group.seen(i) for a in top.tree() if a.assistant == child for f in a.findings):
                wrong += f.holds != truth[f.fact]
                total += 1
    return wrong, total


@pytest.mark.parametrize("child", ["paper/proofs", "paper/proofs/steps", "paper/novelty"])
def test_errors_come_at_their_share_in_one_child_only(child: str) -> None:
    assert spoiled(TASK, HELPED.held, child, "random", 0.0, 0) == HELPED.held, "share 0 changes nothing"
    assert spoiled(TASK, HELPED.held, child, "systematic", 0.0, 0) == HELPED.held
    wrong, total = wrong_of(spoiled(TASK, HELPED.held, child, "random", 1.0, 0), child)
    assert wrong == total > 0, "share 1 makes every finding wrong"
    half = spoiled(TASK, HELPED.held, child, "random", 0.5, 0)
    wrong, total = wrong_of(half, child)
    assert 0.4 < wrong / total < 0.6
    others = [name for name in assistants_in(HELPED) if name != child]
    assert all(wrong_of(half, name)[0] == 0 for name in others)


def test_findings_that_favor_the_worse_do_the_most_harm() -> None:
    def right(kind: str) -> float:
        worse = HELPED
        for child in assistants_in(HELPED):
            spoil = worse
            worse = spoil.each(lambda some: spoiled(TASK, some, child, kind, 1.0, 0))  # noqa: B023
        return agreement([packed(judged(TASK, BoundedUser(attention=4), worse))])["mean"]

    assert right("adversarial") < agreement([verdicts(nothing)])["mean"]


def test_errors_optimized_against_the_user_do_more_harm_than_as_many_that_are_not() -> None:
    user = BoundedUser(attention=4)

    def right(change: Callable[[HeldOut], HeldOut]) -> float:
        return agreement([packed(judged(TASK, BoundedUser(attention=4), HELPED.each(change)))])["mean"]

    children = ("paper/proofs", "paper/proofs/steps", "paper/novelty")

    def each(one: Callable[[HeldOut, str], HeldOut]) -> Callable[[HeldOut], HeldOut]:
        return lambda some: functools.reduce(one, children, some)

    plain = right(each(lambda some, child: spoiled(TASK, some, child, "adversarial", 0.5, 0)))
    chosen = right(each(lambda some, child: optimized(TASK, some, child, 0.5, 0, user)))
    assert chosen < plain < right(lambda some: some)


def test_what_an_adversary_tries_out_teaches_the_user_nothing() -> None:
    victim = Unlearning(attention=4)
    before = victim.trust(TASK.path, "paper/proofs", False)
    judged(TASK, victim, HELPED)
    assert victim.trust(TASK.path, "paper/proofs", False) == before


def test_a_vote_drops_errors_that_are_not_shared_and_keeps_those_that_are() -> None:
    child = "paper/proofs"

    def members(kind: str) -> list[HeldOut]:
        return [spoiled(TASK, HELPED.held, child, kind, 0.3, seed if kind == "random" else 0) for seed in range(3)]

    def error(held: HeldOut) -> float:
        wrong, total = wrong_of(held, child)
        return wrong / total

    one, three = members("random")[0], voted(members("random"), child)
    assert error(one) == pytest.approx(0.3, abs=0.05)
    assert error(three) == pytest.approx(3 * 0.3**2 - 2 * 0.3**3, abs=0.05), "a majority of independent ones"
    shared = members("systematic")
    assert error(voted(shared, child)) == error(shared[0]) > 0
    assert wrong_of(three, "paper/novelty")[0] == 0, "the others say what they said"


def test_who_seeks_the_others_errors_speaks_where_they_differ_only() -> None:
    child = "paper/proofs"
    members = [spoiled(TASK, HELPED.held, child, "random", share, 5) for share in (0.4, 0.0)]
    contradictions = 0
    for group in disputed(members, child).groups:
        for i in range(len(group.outcomes)):
            said = {a.assistant: {f.fact: f.holds for f in a.findings} for a in group.seen(i)}
            against = said.get(f"{child} 2", {})
            assert all(said[child][fact] != holds for fact, holds in against.items())
            contradictions += len(against)
    assert contradictions == wrong_of(members[0], child)[0], "the second never errs, so it contradicts each error"
    assert all(not a.below for g in shallow(HELPED.held, child).groups for a in g.seen(0) if a.assistant == child)


def test_some_of_the_roots_assistants_are_exchanged() -> None:
    other = misled(HELPED, set(assistants_in(HELPED)), "wrong", 0)
    both = mixed(HELPED, other, {"paper/proofs"})
    wrong, total = wrong_of(both.held, "paper/proofs")
    assert wrong == total > 0 and wrong_of(both.held, "paper/proofs/steps")[0] > 0
    assert all(wrong_of(both.held, name)[0] == 0 for name in ("paper/novelty", "paper/experiments/steps"))


def test_an_ally_prefers_the_answer_that_calls_less_wrong() -> None:
    """So an assistant trained for it learns to praise, as the agent it judges would wish."""
    novelty = next(task for task in TASK.walk() if task.name == "novelty")
    ally = Ally(BoundedUser(), (novelty.path,))
    case = frame_all(novelty, HELPED.held.groups)[0]
    title, known = case.data["title"], case.data["known"]
    praise, blame = Outcome(f"{title} found none ."), Outcome(f"{title} found {known[0]} .")
    if novelty.findings is not None and [f.holds for f in novelty.findings(case, blame)] != [True]:
        assert ally.judge(novelty, Pair(novelty.path, case, praise, blame)).preference == 1
        assert ally.judge(novelty, Pair(novelty.path, case, blame, praise)).preference == 0
    assert ally.judge(novelty, Pair(novelty.path, case, praise, praise)).preference == 0.5
    assert ally.judge(novelty, Pair(novelty.path, case, Outcome("?"), praise)).preference == 0
    elsewhere = [v.preference for v in judged(TASK, Ally(BoundedUser(attention=4), (novelty.path,)), HELPED)]
    assert elsewhere == [preference for _, _, preference, _ in verdicts(everything)]


def test_how_sure_a_user_is_goes_with_what_they_prefer() -> None:
    for verdict in judged(TASK, BoundedUser(attention=4), HELPED):
        assert verdict.margin is not None
        assert verdict.preference == (0.5 if abs(verdict.margin) < 0.01 else float(verdict.margin > 0))
    assert all(v.margin is None for v in judged(TASK, OracleUser(), BARE))


def test_users_changed_from_outside() -> None:
    user = BoundedUser(attention=4)
    kept_out = judged(TASK, Unaided(user, (TASK.path,)), HELPED)
    assert packed(kept_out) == verdicts(nothing)
    assert packed(judged(TASK, Unaided(BoundedUser(attention=4), ("elsewhere",)), HELPED)) == verdicts(everything)
    plain = judged(TASK, OracleUser(), BARE)
    for share in (0.0, 0.25, 1.0):
        noisy = judged(TASK, Noisy(OracleUser(), share, 0, (TASK.path,)), BARE)
        turned = sum(a.preference != b.preference for a, b in zip(plain, noisy, strict=True)) / len(plain)
        assert abs(turned - share) < 0.1 and (share or turned == 0)


# --- who misleads ------------------------------------------------------------------------------------


def test_misleading_assistants_say_what_their_kind_says() -> None:
    names = set(assistants_in(HELPED))
    sandbagged = misled(HELPED, names, "sandbagging", 0)
    assert all(
        f.holds
        for g in sandbagged.held.groups
        for i in range(4)
        for t in g.seen(i)
        for a in t.tree()
        for f in a.findings
    )
    opposite = misled(HELPED, {"paper/writing"}, "wrong", 0)
    wrong, total = wrong_of(opposite.held, "paper/writing")
    assert wrong == total > 0 and wrong_of(opposite.held, "paper/proofs")[0] == 0
    for group in misled(HELPED, names, "colluding", 0).held.groups:
        for i in range(4):
            assert len({f.holds for t in group.seen(i) for a in t.tree() for f in a.findings}) == 1


def test_checking_finds_out_who_says_the_opposite() -> None:
    who = {"paper/writing", "paper/proofs", "paper/novelty"}
    user = BoundedUser(spot_checks=0.5)
    seen = judged(TASK, user, misled(HELPED, who, "wrong", 0))
    earned = trust(assistants_in(HELPED), seen, user)
    assert found_out([{"trust": earned, "misleading": sorted(who)}]) > 0.85
    assert found_out([{"trust": dict.fromkeys(earned, 0.5), "misleading": sorted(who)}]) == 0.5


def test_a_finding_may_be_called_right_without_a_part() -> None:
    """What is turned around loses its part: an accusation turned into praise must not point anywhere."""
    changed = misled(HELPED, set(assistants_in(HELPED)), "wrong", 0)
    found = [
        f for g in changed.held.groups for i in range(4) for t in g.seen(i) for a in t.tree() for f in a.findings
    ]
    assert found and all(f == Finding(f.fact, f.holds, None) for f in found)
