"""Protocols show what they say they show, and errors are put in where and as often as they say."""

from __future__ import annotations

import pytest

from rrm.assistance import Assistance
from rrm.measure.arms import HeldOut
from rrm.measure.errors import spoiled
from rrm.measure.experiment import agreement, lift, packed
from rrm.measure.judging import (
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
from rrm.measure.misleading import found_out, misled, trust
from rrm.measure.oracle import OracleUser, matter
from rrm.measure.users import Noisy, Unaided
from rrm.task import Finding
from rrm.user import BoundedUser, Pair
from tests.measure.material import TASK, alone, assisted

BARE = alone()
HELPED = assisted(BARE)


def verdicts(show: Show) -> list[list[float]]:
    return packed(judged(TASK, BoundedUser(attention=4), HELPED, show))


def pairs() -> list[Pair]:
    held = HELPED.held
    return [Pair.of(TASK, held.groups[g], i, j) for g, i, j in held.pairs]


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
