"""The bounded user: the truth is paid for, assistance helps by pointing, and misleading assistance hurts."""

import itertools
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrm import BoundedUser, Case, Fact, Finding, Outcome, Pair, RRMError, Sealed, Task
from rrm.core.errors import SealedOracle
from rrm.core.judgements import Check, Judgement
from rrm.core.records import Answer, Assistance
from rrm.measure.adversary import mislead
from rrm.measure.oracle import OracleUser, is_true, matter, true_score
from rrm.users.bounded import Attention
from rrm.worlds.papers import Brief, facts, make_brief, surface, write
from rrm.worlds.papers.corpus import Corpus
from tests import toy

PAPER = Task("paper", "which is better?", facts=facts, surface=surface)
Say = Callable[[Case, Outcome], tuple[Assistance, ...]]


def pairs(n: int, say: Say = lambda case, outcome: ()) -> list[Pair]:
    """Pairs of corpus papers that truly differ, with what `say` says of each."""
    found: list[Pair] = []
    for seed in itertools.count():
        if len(found) == n:
            return found
        rng = random.Random(seed)
        case = make_brief(rng).case()
        a, b = (Outcome(write(Brief.of(case), Corpus(rng).paper(Brief.of(case)))) for _ in range(2))
        if true_score(PAPER, case, a) != true_score(PAPER, case, b):
            found.append(Pair("paper", case, a, b, say(case, a), say(case, b)))
    raise AssertionError


def pointing(case: Case, outcome: Outcome) -> tuple[Assistance, ...]:
    """A faultless assistant: says of every fact whether it holds, and which part fails."""
    findings = []
    for fact in facts(case, outcome):
        wrong = [j for j, part in enumerate(fact.parts) if not is_true(part)]
        findings.append(Finding(fact.name, matter(fact), wrong[0] if wrong else None))
    return (Assistance("paper/all", "v1", (Answer(case, Outcome("..."), tuple(findings), 0.5),)),)


def misleading(case: Case, outcome: Outcome) -> tuple[Assistance, ...]:
    return tuple(mislead(one) for one in pointing(case, outcome))


def agreement(user: BoundedUser, asked: list[Pair]) -> float:
    oracle = OracleUser()
    rights = []
    for pair in asked:
        said, true = user.judge(PAPER, pair).preference, oracle.judge(PAPER, pair).preference
        assert said is not None and true is not None
        rights.append(1 - abs(said - true))
    return sum(rights) / len(rights)


def test_assistance_that_points_well_helps_and_misleading_assistance_hurts() -> None:
    alone = agreement(BoundedUser(), pairs(400))
    helped = agreement(BoundedUser(), pairs(400, pointing))
    misled = agreement(BoundedUser(), pairs(400, misleading))
    assert alone < 0.75
    assert helped > 0.9
    assert misled < helped - 0.2  # where there was help there is none
    assert misled < alone + 0.02  # and the liar is not worth more than nobody, though he is always wrong


def test_the_user_learns_whom_to_believe() -> None:
    user = BoundedUser()
    before = user.trust("paper", "paper/all", False)
    agreement(user, pairs(100, pointing))
    assert user.trust("paper", "paper/all", False) > 0.9 > before
    user = BoundedUser()
    agreement(user, pairs(100, misleading))
    assert user.trust("paper", "paper/all", False) < 0.2


def test_a_contested_claim_has_a_record_of_its_own() -> None:
    """An assistant that its own assistant contradicts does not live on the record of its other claims."""
    user = BoundedUser()
    for _ in range(50):
        user.recall(PAPER, Judgement(1.0, (Check("paper/all", False, True),)))
    assert user.trust("paper", "paper/all", False) > 0.9
    assert user.trust("paper", "paper/all", False, contested=True) == pytest.approx(1 - user.prior)


def test_a_check_says_which_fact_of_which_outcome_was_looked_at() -> None:
    """It tells nothing that the fact it names would not: who was right is who said what is so of that fact."""
    user = BoundedUser(attention=8, error=0.0, spot_checks=0.5)
    sides = set()
    for pair in pairs(20, misleading):
        for check in user.judge(PAPER, pair).checks:
            named = {fact.name: fact for fact in facts(pair.case, pair.a if check.side == "a" else pair.b)}
            assert check.right == (check.said == matter(named[check.fact]))
            sides.add(check.side)
    assert sides == {"a", "b"}


def test_more_attention_is_not_worse() -> None:
    asked = pairs(300)
    low, middle, high = (agreement(BoundedUser(attention=n, error=0, biases={}), asked) for n in (0, 12, 200))
    assert low < middle < high
    assert high == 1.0


def test_the_biases_move_an_unassisted_judgement() -> None:
    """With no attention at all, only the surface is left to judge by."""
    rng = random.Random(0)
    case = make_brief(rng).case()
    brief = Brief.of(case)
    plain = Corpus(rng).paper(brief)
    texts = [write(brief, plain), write(brief, plain).replace(" it .", " it . indeed we know it all .", 1)]
    if "indeed" in texts[0]:
        texts = [texts[0].replace(" indeed we know it all .", ""), texts[0]]
    pair = Pair("paper", case, Outcome(texts[0]), Outcome(texts[1]))
    assert BoundedUser(attention=0, biases={"length": 0.5}).judge(PAPER, pair).preference == 0.0
    assert BoundedUser(attention=0, biases={}).judge(PAPER, pair).preference == 0.5


@given(st.integers(0, 10**6), st.integers(0, 20), st.booleans())
def test_swapping_a_and_b_flips_the_judgement(seed: int, attention: int, assisted: bool) -> None:
    rng = random.Random(seed)
    case = make_brief(rng).case()
    a, b = (Outcome(write(Brief.of(case), Corpus(rng).paper(Brief.of(case)))) for _ in range(2))
    say = pointing if assisted else (lambda case, outcome: ())
    pair = Pair("paper", case, a, b, say(case, a), say(case, b))
    first = BoundedUser(attention=attention, seed=seed).judge(PAPER, pair).preference
    second = BoundedUser(attention=attention, seed=seed).judge(PAPER, pair.swapped()).preference
    assert first is not None and second is not None
    assert first == 1 - second


@given(st.integers(0, 10**6), st.integers(0, 30))
def test_no_more_attention_is_spent_than_there_is(seed: int, attention: int) -> None:
    (pair,) = pairs(1, pointing)
    assert BoundedUser(attention=attention, seed=seed).judge(PAPER, pair).attention <= attention


def test_recalling_judgements_equals_having_made_them() -> None:
    asked = pairs(60, pointing)
    made, told = BoundedUser(), BoundedUser()
    for pair in asked[:40]:
        told.recall(PAPER, made.judge(PAPER, pair))
    for pair in asked[40:]:
        assert made.judge(PAPER, pair) == told.judge(PAPER, pair)


def test_a_malformed_outcome_is_seen_at_a_glance() -> None:
    (pair,) = pairs(1)
    bad = Pair("paper", pair.case, Outcome("title title"), pair.b)
    judgement = BoundedUser(attention=0).judge(PAPER, bad)
    assert judgement.preference == 0.0


# --- the sealed oracle -------------------------------------------------------------------------------


def test_reading_a_truth_raises() -> None:
    case = make_brief(random.Random(0)).case()
    outcome = Outcome(write(Brief.of(case), Corpus(random.Random(0)).paper(Brief.of(case))))
    plain = next(fact for fact in facts(case, outcome) if fact.truth is not None)
    with pytest.raises(SealedOracle):
        bool(plain.truth)
    with pytest.raises(SealedOracle):
        assert plain.truth == True  # noqa: E712  the comparison itself must raise
    assert "<sealed>" in repr(plain) and repr(plain) == repr(replace(plain, truth=Sealed(False)))
    assert issubclass(SealedOracle, RRMError)


def test_a_check_must_be_paid() -> None:
    fact = Fact("f", "x", parts=(Fact("f.0", "x", Sealed(True)), Fact("f.1", "x", Sealed(False))))
    meter = Attention(1, 0.0, random.Random(0))
    assert meter.check(fact) is None and meter.left == 1
    assert meter.check(fact.parts[1]) is False and meter.left == 0
    assert meter.check(fact.parts[0]) is None


def test_a_part_is_looked_at_once_and_who_was_refuted_is_not_believed_again() -> None:
    """Two accuse the same sound part: one look refutes both, and nothing is left of the accusation."""
    parts = tuple(Fact(f"f.{k}", "x", Sealed(True)) for k in range(9))

    def known(case: Case, outcome: Outcome) -> list[Fact]:
        return [Fact("f", "x", parts=parts)]

    def says(*accusers: str) -> tuple[Assistance, ...]:
        return tuple(Assistance(by, "v", (Answer(case, Outcome(by), (Finding("f", False, 0),), None),))
                     for by in accusers)  # fmt: skip

    case, a, b = Case("c"), Outcome("a"), Outcome("b")
    task = Task("t", "which?", facts=known)
    for accusers in (("one",), ("one", "two")):
        said = BoundedUser(attention=6, error=0).judge(task, Pair("t", case, a, b, says(*accusers), ()))
        assert said.attention == 1 and [check.by for check in said.checks] == [*accusers]
        assert {(check.side, check.fact, check.part) for check in said.checks} == {("a", "f", 0)}
        assert said.preference == 0.5, "b was accused by nobody, and looks no better"


def test_unchecked_facts_do_not_move_the_user() -> None:
    """Two outcomes that differ only in facts nobody looks at are judged alike."""

    def hidden(case: Case, outcome: Outcome) -> list[Fact]:
        return [Fact("seen", "x", Sealed(True)), Fact("unseen", "x", Sealed(outcome.text == "good"), cost=99)]

    task = Task("t", "", facts=hidden)
    pair = Pair("t", Case("c"), Outcome("good"), Outcome("bad"))
    assert BoundedUser(attention=4, error=0).judge(task, pair).preference == 0.5
    assert BoundedUser(attention=400, error=0).judge(task, pair).preference == 1.0


def test_a_copy_of_a_user_has_met_nobody() -> None:
    user = BoundedUser(prior=0.7)
    user.recall(toy.task(), Judgement(1.0, tuple(Check("a", True, False) for _ in range(40))))
    other = user.model_copy(update={"seed": 1})
    assert user.trust("toy", "a", True) < 0.1 and other.trust("toy", "a", True) == 0.7
