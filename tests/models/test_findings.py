"""What assistants found, as features of the reward model: what they are, and that it learns judgement from them."""

from dataclasses import replace

import pytest
import torch

from rrm.core.errors import RRMError
from rrm.core.records import Answer, Assistance, Case, Finding, Group, Outcome
from rrm.learning.fitting import fit_reward
from rrm.models.features import FINDINGS, found
from rrm.models.reward import TextRewardModel, trunk
from tests.models.test_reward import SETTINGS, Pair, pairs


def said(name, holds, below=()):
    """An assistant's answer: which facts it says hold, by name."""
    findings = tuple(Finding(fact, value) for fact, value in holds.items())
    return Assistance(name, "v", (Answer(Case(name), Outcome("w8"), findings, None, below),) if holds else ())


def test_the_deepest_word_counts_beside_an_assistants_own():
    below = (said("top/steps", {"s1": False, "s2": True}),)
    one = said("top", {"s0": True, "s1": True, "s2": False, "s3": True}, below)
    assert found([one, said("mute", {})], 2).tolist() == [1.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    assert found([said("top", {"s0": False})], 1).tolist() == [4.0, 4.0, 0.0]
    assert found([], 2).tolist() == [0.0] * 2 * FINDINGS


@pytest.mark.parametrize("how", ["frozen", "trained"])
def test_it_learns_whom_the_user_follows(tiny, how):
    """The user goes by what one assistant calls wrong, and minds neither the other one nor the text."""
    g = torch.Generator().manual_seed(1)

    def wrong():
        return int(torch.randint(0, 5, (1,), generator=g))

    def shown(k):
        return tuple(said(who, {f"f{i}": i >= n for i in range(4)}) for who, n in (("minded", k), ("ignored", wrong())))

    judged = []
    for pair in pairs(40):
        a, b = wrong(), wrong()
        preference = 0.5 + 0.5 * ((a < b) - (a > b))
        judged.append(replace(pair, preference=preference, assistance_a=shown(a), assistance_b=shown(b)))
    scores = {}
    for findings in (True, False):
        b = tiny()
        settings = SETTINGS.model_copy(update={"reward_trunk": how, "findings": findings, "reward_epochs": 2})
        reward = TextRewardModel(b, trunk(b, "r", how), settings, assistants=2)
        scores[findings] = fit_reward(reward, judged, settings, "k").holdout_accuracy
    assert scores[True] > 0.75 and scores[True] > scores[False] + 0.1


def test_every_assistant_is_expected(tiny):
    b = tiny()
    reward = TextRewardModel(b, trunk(b, "r", "frozen"), SETTINGS, assistants=2)
    one = said("top", {"s0": True})
    group = Group(Case("w3"), (Outcome("w4"), Outcome("w5")), ((one,), (one,)))
    for read in (reward.features, reward.raw_scores):
        with pytest.raises(RRMError, match="knows 2 assistants"):
            read([group])
    nobody = replace(group, assistance=())
    assert reward.features([nobody])[0].shape == (2, reward.weight.shape[1])
    blind = SETTINGS.model_copy(update={"reward_sees": "outcome"})
    assert TextRewardModel(b, trunk(b, "r", "frozen"), blind, assistants=2).findings([group]) is None


@pytest.mark.parametrize("how", ["frozen", "trained"])
def test_it_reloads_with_its_assistants(tiny, tmp_path, how):
    b = tiny()
    reward = TextRewardModel(b, trunk(b, "r", how), SETTINGS, assistants=1)
    group = Group(Case("w3"), (Outcome("w4"), Outcome("w5")), ((said("x", {"f": False}),), (said("x", {"f": True}),)))
    judged = [Pair(group.case, *group.outcomes, 0.0, *group.assistance)]
    fit_reward(reward, judged, SETTINGS, "k")
    reward.save(tmp_path / "r.safetensors")
    again = TextRewardModel.load_from(tmp_path / "r.safetensors", b)
    assert torch.equal(again.score([group])[0].heads, reward.score([group])[0].heads)
    assert reward.score([group])[0].mean.diff() > 0
