"""What counts as one: several users' one decision, a case that comes again, a finding that became wrong."""

from __future__ import annotations

import pytest

from rrm.core.errors import RRMError
from rrm.core.judgements import Judgement
from rrm.core.records import Case, Group, Outcome
from rrm.measure.arms import HeldOut
from rrm.measure.experiments.propagation import wrong_share
from rrm.measure.mistakes import spoiled
from rrm.measure.oracle import score
from rrm.measure.oversight import judged, together
from rrm.measure.stage import Material
from rrm.users.bounded import BoundedUser
from tests.measure.material import TASK, alone, assisted


def test_several_users_decide_together() -> None:
    votes = [Judgement(1.0), Judgement(1.0), Judgement(0.0)]
    assert together(votes, None) == 1.0 and together(votes, -0.1) == 0.0  # not 2/3, which is one of them on average
    assert together([Judgement(1.0), Judgement(None), Judgement(0.0)], None) == 0.5
    assert together([Judgement(None)], None) == 0.5 and together([Judgement(0.0)], 0.3) == 0.0


def test_a_case_that_comes_again_is_the_same_cluster() -> None:
    groups = [Group(Case(prompt), (Outcome("x"),)) for prompt in ("a", "b", "a")]
    assert HeldOut(groups, [], []).case == [0, 1, 0]
    some = alone(6)
    held = some.held
    twice = HeldOut(held.groups * 2, [*held.pairs, *((g + len(held.groups), i, j) for g, i, j in held.pairs)],
                    held.truth * 2)  # fmt: skip
    verdicts = judged(TASK, BoundedUser(), Material(twice, some.practice))
    assert {v.case for v in verdicts} == {held.case[g] for g, *_ in held.pairs}


def test_the_share_of_wrong_findings_is_measured() -> None:
    held = assisted(alone(20)).held
    assert wrong_share(TASK, held, "paper/proofs") == 0
    assert wrong_share(TASK, spoiled(TASK, held, "paper/proofs", "random", 1.0, 0), "paper/proofs") == 1
    favored = wrong_share(TASK, spoiled(TASK, held, "paper/proofs", "adversarial", 1.0, 0), "paper/proofs")
    assert 0.2 < favored < 0.8, "what favors the worse is at times true"


def test_without_facts_there_is_no_truth() -> None:
    with pytest.raises(RRMError, match="needs facts="):
        score([])
