"""Following an answer down, and the record of one's own node: off by default, and paid for where they are on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrm import BoundedUser, Case, Fact, Finding, Outcome, Pair, Pool, Sealed, Task
from rrm.core.judgements import Check, Comparison, Judgement
from rrm.core.records import Answer, Assistance, digest
from rrm.core.task import Assistant
from rrm.core.validation import plant
from rrm.loop.differences import compared
from rrm.measure.users import acquainted
from rrm.store.store import Store
from rrm.users.bounded import Attention
from rrm.users.claims import Way, claims_of
from rrm.users.descent import Descent
from tests.test_user import PAPER, pointing
from tests.test_user import pairs as papers

# --- a small world: one dear fact, a critic whose verdict is as dear, and a second below it whose answer is cheap -----


def sound(case: Case, outcome: Outcome) -> list[Fact]:
    return [Fact("sound", "x", Sealed(outcome.text.startswith("good")), cost=4)]


def verdict(case: Case, outcome: Outcome) -> list[Fact]:
    """Of a critic's answer: it is right, which costs what settling the matter costs."""
    parts = tuple(Fact(f"part{k}", "x", Sealed(held)) for k, held in enumerate(case.data["parts"]))
    return [Fact("sound", "x", parts=parts, claims=outcome.text == "holds")]


def evidence(case: Case, outcome: Outcome) -> list[Fact]:
    """Of the second's answer: one cheap fact, on which all that it says rests."""
    return [Fact("evidence", "x", Sealed(case.data["evidence"]))]


def said(case: Case, outcome: Outcome) -> list[Finding]:
    return [Finding("sound", outcome.text == "holds")]


def unframed(case: Case, outcome: Outcome) -> list[Case]:
    return []


SECOND = Task("second", "is the verdict right?", facts=evidence, frame=unframed, findings=said)
CRITIC = Task("critic", "is it sound?", facts=verdict, frame=unframed, findings=said, assistants=(SECOND,))
TREE = plant(Task("t", "which is sound?", facts=sound, cases=Pool((Case("c"),)), assistants=(CRITIC,)))
(CRITIC,) = TREE.subtasks
(SECOND,) = CRITIC.subtasks
CAN = {"attention": 6, "error": 0.0, "biases": {}, "spot_checks": 0.0}
"""Three of attention a side, and a fact costs four."""


def assistance(outcome: Outcome, kind: str) -> tuple[Assistance, ...]:
    """What a critic, and a second below it, say of an outcome.

    truthful; misleading: both say the contrary of what is true; below: only the second does; above: only the critic.
    Where they accuse, the second points at a part: at the one that fails, if any does.
    guessing: both toss a coin, their answers' facts are what they are; noise: the facts at the bottom toss one, too.
    sophist: both say the contrary of what is true, and all that can be checked at the bottom holds.
    """
    rng = random.Random(digest(outcome.text, kind))
    good = outcome.text.startswith("good")
    parts = [True] * 4
    if not good:
        parts[rng.randrange(4)] = False
    above = below = good
    if kind in ("misleading", "sophist"):
        above = below = not good
    elif kind == "below":
        below = not good
    elif kind == "above":
        above = not good
    elif kind in ("guessing", "noise"):
        above = below = rng.random() < 0.5
    true = {"noise": rng.random() < 0.5, "sophist": True}.get(kind, below == good)
    where = None
    if not below and kind not in ("noise", "sophist"):
        where = rng.randrange(4) if good else parts.index(False)
    word = {True: "holds", False: "wrong"}
    second = Answer(
        Case(outcome.text, {"evidence": true}), Outcome(word[below]), (Finding("sound", below, where),), None
    )
    critic = Answer(
        Case(outcome.text, {"parts": parts}), Outcome(word[above]), (Finding("sound", above),), None,
        (Assistance(SECOND.path, "v", (second,)),),
    )  # fmt: skip
    return (Assistance(CRITIC.path, "v", (critic,)),)


def asked(kind: str, n: int = 400) -> list[Pair]:
    """Pairs of a sound and an unsound outcome, the sound one first in every other."""
    found = []
    for i in range(n):
        good, bad = Outcome(f"good {i}"), Outcome(f"bad {i}")
        pair = Pair(TREE.path, Case(f"c {i}"), good, bad, assistance(good, kind), assistance(bad, kind))
        found.append(pair if i % 2 else pair.swapped())
    return found


def agreement(user: BoundedUser, pairs: Sequence[Pair]) -> float:
    """How often the sound one is preferred; a tie counts half."""
    total = 0.0
    for pair in pairs:
        judgement = user.judge(TREE, pair)
        assert judgement.attention <= user.attention and judgement.preference is not None
        total += judgement.preference if pair.a.text.startswith("good") else 1 - judgement.preference
    return total / len(pairs)


def test_without_descent_a_dear_claim_is_believed_at_the_prior_for_ever() -> None:
    user = BoundedUser(**CAN)
    for pair in asked("truthful"):
        judgement = user.judge(TREE, pair)
        assert (judgement.preference, judgement.attention) == (0.5, 0)


@pytest.mark.parametrize(
    "kind, levels, low, high",
    [
        ("truthful", 0, 0.5, 0.5),
        ("truthful", 1, 0.99, 1.0),  # the second points at the part of the verdict that fails
        ("truthful", 2, 0.99, 1.0),
        ("above", 2, 0.99, 1.0),  # the answer below tells that the one above it is false
        ("below", 2, 0.43, 0.57),
        ("misleading", 2, 0.43, 0.57),
        ("noise", 2, 0.43, 0.57),
        ("guessing", 2, 0.8, 0.95),  # a guess that can be checked cheaply is worth something: it was paid for
        ("sophist", 2, 0.0, 0.05),  # what descent assumes does harm where it is wrong
    ],
)
def test_descent_is_worth_what_the_answers_below_are(kind: str, levels: int, low: float, high: float) -> None:
    assert low <= agreement(BoundedUser(**CAN, descent=levels), asked(kind)) <= high


def test_reading_is_paid_for_and_not_done_where_nothing_would_be_left_to_check_with() -> None:
    pair = asked("truthful", 1)[0]
    judged = {price: BoundedUser(**CAN, descent=2, reading=price).judge(TREE, pair) for price in (0, 1, 2, 3)}
    assert [judgement.attention for judgement in judged.values()] == [2, 5, 5, 0]
    assert [judgement.preference for judgement in judged.values()] == [0.0, 0.0, 0.0, 0.5]
    assert judged[1].note.endswith("; answers read: 3, stood: 3")


def test_an_answer_that_fell_is_ignored_and_not_turned_around() -> None:
    """An assistant with the best of records says that a bad outcome is sound, and a good one is not."""
    tree = plant(replace(TREE, assistants=(SECOND,)))
    (sub,) = tree.subtasks
    (pair,) = asked("misleading", 1)
    sides = [tuple(replace(below, assistant=sub.path) for below in side[0].below)
             for side in (pair.assistance_a, pair.assistance_b)]  # fmt: skip
    pair = replace(pair, assistance_a=sides[0], assistance_b=sides[1])
    bad = float(pair.a.text.startswith("bad"))
    for levels, preference in ((0, bad), (1, 0.5)):
        user = BoundedUser(**CAN, descent=levels)
        user.recall(tree, Judgement(1.0, tuple(Check(sub.path, said, True) for said in (True, False)) * 50))
        assert user.judge(tree, pair).preference == preference


def test_an_answer_does_not_stand_for_what_it_does_not_say() -> None:
    """What was made of a true answer afterwards (a placebo, say) is not believed because the answer is true."""
    top = assistance(Outcome("good 0"), "truthful")[0]
    (answer,) = top.answers
    turned = replace(top, answers=(replace(answer, findings=(Finding("sound", False),)),))
    meter = Attention(40, 0.0, random.Random(0))
    down = Descent(TREE, 2, 0.9, lambda: meter.read(1), meter.check)
    assert down.follow("sound", claims_of((turned,))["sound"]) == {(CRITIC.path, False): 0.0}


def test_each_level_that_a_claim_stood_by_makes_it_less_sure() -> None:
    def found(levels: int, side: tuple[Assistance, ...]) -> dict[tuple[str, bool], float]:
        meter = Attention(3, 0.0, random.Random(0))
        down = Descent(TREE, levels, 0.9, lambda: meter.read(1), meter.check)
        return down.follow("sound", claims_of(side)["sound"])

    good, bad = (assistance(Outcome(f"{word} 0"), "truthful") for word in ("good", "bad"))
    assert found(1, bad) == {(SECOND.path, False): 0.9, (CRITIC.path, False): 0.9}  # a look at the part that fails
    assert found(1, good) == {}
    assert found(2, good) == {(SECOND.path, True): 0.9, (CRITIC.path, True): pytest.approx(0.81)}


def test_what_is_no_assistant_of_the_tree_cannot_be_followed() -> None:
    pair = asked("truthful", 1)[0]
    renamed = [tuple(replace(a, assistant="advocate") for a in side) for side in (pair.assistance_a, pair.assistance_b)]
    strange = replace(pair, assistance_a=renamed[0], assistance_b=renamed[1])
    assert BoundedUser(**CAN, descent=2).judge(TREE, strange).attention == 0


def test_a_claim_of_an_answer_below_is_followed_by_way_of_the_answers_above_it() -> None:
    (claims,) = claims_of(assistance(Outcome("bad 0"), "below")).values()
    (above, below) = claims
    assert above.contested and not below.contested and below.by == SECOND.path
    assert above.way == below.way == Way(CRITIC.path, assistance(Outcome("bad 0"), "below")[0].answers[0])


def test_other_matters_of_the_same_name_are_no_evidence_above() -> None:
    """A reply that "wins" refutes the move that was said to win: one name, two matters. What speaks against the reply
    must not be taken to speak against the move."""

    def wins(case: Case, outcome: Outcome) -> list[Fact]:
        return [Fact("wins", "x", Sealed(True), cost=case.data["cost"])]

    def refutes(case: Case, outcome: Outcome) -> list[Finding]:
        return [Finding("wins", False)]

    counter = Task("counter", "", facts=wins, findings=refutes, frame=unframed)
    reply = replace(counter, name="reply", assistants=(counter,))
    tree = plant(Task("t", "", facts=wins, cases=Pool((Case("c"),)), assistants=(reply,)))
    deep = Answer(Case("z", {"cost": 1}), Outcome("z"), (Finding("wins", False),), None)
    top = Answer(Case("y", {"cost": 4}), Outcome("y"), (Finding("wins", False),), None,
                 (Assistance("t/reply/counter", "v", (deep,)),))  # fmt: skip
    meter = Attention(3, 0.0, random.Random(0))
    down = Descent(tree, 2, 0.9, lambda: meter.read(1), meter.check)
    assert down.follow("wins", claims_of((Assistance("t/reply", "v", (top,)),))["wins"]) == {("t/reply", False): 0.0}


# --- the record of an assistant's own node ------------------------------------------------------------


def at_own_node(kind: str, i: int) -> Pair:
    """Two answers of the critic about one outcome, a true and a false one, or two of one kind."""
    word = {"right": ("holds", "holds"), "wrong": ("wrong", "wrong"), "mixed": ("holds", "wrong")}[kind]
    a, b = (Outcome(text, tokens=(k,)) for k, text in enumerate(word))
    return Pair(CRITIC.path, Case(f"good {i}", {"parts": [True] * 3}), a, b)


def judged_there(kind: str, n: int = 40, **settings: object) -> BoundedUser:
    user = BoundedUser.model_validate({**CAN, "own_record": True, **settings})
    for i in range(n):
        user.judge(CRITIC, at_own_node(kind, i))
    return user


def test_trust_starts_from_what_was_checked_at_the_assistants_own_node() -> None:
    prior = BoundedUser().trust(TREE.path, CRITIC.path, True)
    assert judged_there("right").trust(TREE.path, CRITIC.path, True) > 0.95
    assert judged_there("wrong").trust(TREE.path, CRITIC.path, False) < 0.05
    mixed = judged_there("mixed")
    assert mixed.trust(TREE.path, CRITIC.path, True) > 0.9 and mixed.trust(TREE.path, CRITIC.path, False) < 0.1
    assert judged_there("right", own_record=False).trust(TREE.path, CRITIC.path, True) == prior


def test_what_was_not_paid_for_leaves_the_prior() -> None:
    """The node was judged, without attention to check anything: its answers' truth does not show."""
    for kind, said in (("right", True), ("wrong", False)):
        poor = judged_there(kind, attention=4)
        assert poor.trust(TREE.path, CRITIC.path, said) == pytest.approx(poor.prior if said else 1 - poor.prior)
    assert judged_there("right").trust(TREE.path, SECOND.path, True) == 0.7  # nobody judged that node


def test_a_record_of_ones_own_node_is_overruled_by_the_parents() -> None:
    user = judged_there("right")
    user.recall(TREE, Judgement(1.0, tuple(Check(CRITIC.path, True, False) for _ in range(40))))
    assert user.trust(TREE.path, CRITIC.path, True) < 0.15


def test_a_good_record_is_believed_at_the_parent_and_a_bad_one_is_not() -> None:
    assert agreement(judged_there("mixed"), asked("truthful")) > 0.99  # "holds" is believed
    assert agreement(judged_there("wrong"), asked("truthful")) == 0.5


def test_the_root_has_no_record_of_its_own() -> None:
    user = BoundedUser(own_record=True, attention=40)
    judgements = [user.judge(TREE, pair) for pair in asked("truthful", 20)]
    assert {check.by for one in judgements for check in one.checks} == {CRITIC.path, SECOND.path}


def test_a_user_is_made_acquainted_with_finished_assistants_by_what_was_judged_at_their_nodes(tmp_path: Path) -> None:
    store = Store(tmp_path / "run.db")
    judge = judged_there("right", 0)
    for i in range(20):
        pair = at_own_node("right", i)
        store.add(Comparison(pair, judge.judge(CRITIC, pair), 0, judge.name), i)
    helper = Assistant(CRITIC, cast(Any, None), None, (), store)
    fresh = acquainted(BoundedUser(**CAN, own_record=True), [helper])
    assert fresh.trust(TREE.path, CRITIC.path, True) == judge.trust(TREE.path, CRITIC.path, True) > 0.9
    assert agreement(acquainted(BoundedUser(**CAN), [helper]), asked("truthful", 40)) == 0.5


# --- both ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("abilities", [{"descent": 2}, {"own_record": True}, {"descent": 2, "own_record": True}])
def test_recalling_judgements_equals_having_made_them(abilities: dict[str, int]) -> None:
    made, told = (BoundedUser(attention=8, error=0.1, **abilities) for _ in range(2))
    for i in range(30):
        there = at_own_node("mixed", i)
        told.recall(CRITIC, made.judge(CRITIC, there))
        told.recall(TREE, made.judge(TREE, asked("guessing", i + 1)[i]))
    assert made._record == told._record
    for pair in asked("truthful", 60):
        assert made.judge(TREE, pair) == told.judge(TREE, pair)


def grown(seed: int) -> tuple[Task, Pair]:
    """A tree and a pair of it, all at random: prices, parts, claims, what is said of them, what is true."""
    rng = random.Random(seed)

    def some(case: Case, outcome: Outcome) -> list[Fact]:
        drawn = random.Random(digest(seed, case.prompt, outcome.text))
        found = []
        for name in "abc"[: drawn.randint(1, 3)]:
            parts = tuple(Fact(f"{name}{k}", "x", Sealed(drawn.random() < 0.7), drawn.randint(1, 2))
                          for k in range(drawn.choice([0, 0, 2, 4])))  # fmt: skip
            truth = None if parts else Sealed(drawn.random() < 0.6)
            found.append(Fact(name, drawn.choice("xy"), truth, drawn.randint(1, 6), parts, drawn.random() < 0.6))
        return found

    def find(case: Case, outcome: Outcome) -> list[Finding]:
        drawn = random.Random(digest(seed, "says", case.prompt, outcome.text))
        return [Finding(name, drawn.random() < 0.5, drawn.choice([None, None, 0, 1, 3]))
                for name in "abcd" if drawn.random() < 0.6]  # fmt: skip

    def node(name: str, depth: int) -> Task:
        below = tuple(node(f"{name}{k}", depth - 1) for k in range(rng.randint(1, 2))) if depth else ()
        return Task(name, "", facts=some, findings=find, frame=unframed, assistants=below)

    tree = plant(replace(node("t", rng.randint(1, 3)), cases=Pool((Case("c"),))))

    def say(task: Task, about: str) -> tuple[Assistance, ...]:
        told = []
        for sub in task.subtasks:
            answers = []
            for k in range(rng.randint(0, 2)):
                case, outcome = Case(f"{about} {sub.name} {k}"), Outcome(rng.choice(["yes", "no"]))
                answers.append(Answer(case, outcome, tuple(find(case, outcome)), None, say(sub, case.prompt)))
            told.append(Assistance(sub.path, "v", tuple(answers)))
        return tuple(told)

    a, b = Outcome("a"), Outcome("b")
    return tree, Pair(tree.path, Case("c"), a, b, say(tree, "a"), say(tree, "b"))


@given(st.integers(0, 10**6), st.integers(0, 30), st.integers(0, 4), st.integers(0, 3), st.booleans())
def test_swapping_flips_and_no_more_is_spent_than_there_is(
    seed: int, attention: int, descent: int, reading: int, own: bool
) -> None:
    tree, pair = grown(seed)
    users = [BoundedUser(attention=attention, descent=descent, reading=reading, own_record=own, seed=seed)
             for _ in range(2)]  # fmt: skip
    for task in (tree, *tree.subtasks):  # at a node with findings of its own, too
        one, other = (user.judge(task, each) for user, each in zip(users, (pair, pair.swapped()), strict=True))
        assert one.preference is not None and other.preference is not None
        assert one.preference == 1 - other.preference and one.margin == -(other.margin or 0.0)
        assert one.attention == other.attention <= attention


def test_switched_off_they_change_nothing() -> None:
    """The judgements of 300 grown and 60 written pairs are those of the code from before there were these settings."""
    user, said = BoundedUser(attention=9, error=0.1, spot_checks=0.3), []
    explicit = BoundedUser(attention=9, error=0.1, spot_checks=0.3, descent=0, own_record=False, reading=3, stands=0.5)
    for task, pair in [*map(grown, range(300)), *((PAPER, pair) for pair in papers(60, pointing))]:
        judgement = user.judge(task, pair)
        assert judgement == explicit.judge(task, pair)
        checks = [[c.by, c.said, c.right, c.contested] for c in judgement.checks]
        said.append([judgement.preference, checks, judgement.attention, judgement.note])
    assert digest(said) == BEFORE


BEFORE = "8ba0213b77b64e93"


def test_a_run_from_before_is_resumed_and_one_with_other_abilities_is_not() -> None:
    """config.json names these settings only where they are not the defaults."""
    assert not {"descent", "reading", "stands", "own_record"} & set(BoundedUser().model_dump())
    can = BoundedUser(descent=2, own_record=True)
    assert BoundedUser.model_validate(can.model_dump()) == can and can.model_dump()["descent"] == 2
    assert can.name == "bounded(attention=6, descent=2, own record)"
    for there, now in ((BoundedUser(), can), (can, BoundedUser()), (can, can.model_copy(update={"stands": 0.8}))):
        assert compared({"user": there.model_dump()}, {"user": now.model_dump()}), "resumed as another user"
