"""The frozen trunk: features computed once, the same in any company, and heads solved to their optimum in no time."""

import time
from dataclasses import replace

import pytest
import torch

from rrm.core.records import Case, Group, Outcome
from rrm.core.settings import Settings
from rrm.learning.fitting import fit_reward
from rrm.learning.heads import Problem, choose, fit_heads, solve
from rrm.learning.losses import bradley_terry
from rrm.models.agent import reference_logprobs
from rrm.models.backbone import Backbone
from rrm.models.reward import TextRewardModel, trunk
from tests.models.conftest import network, tokenizer
from tests.models.test_reward import SETTINGS, Pair, Said, groups_of, pairs

FROZEN = SETTINGS.model_copy(update={"reward_trunk": "frozen", "holdout": 0.0})


def model(b, settings=FROZEN, name="reward"):
    return TextRewardModel(b, trunk(b, name, settings.reward_trunk), settings)


def test_it_learns_what_the_user_wants(tiny):
    b = tiny(kv=1)
    reward = model(b, FROZEN.model_copy(update={"holdout": 0.2}))
    done = []
    report = fit_reward(reward, pairs(96), reward.settings, "k", lambda step, of: done.append((step, of)))
    assert report.holdout_accuracy > 0.75 and report.accuracy > 0.75 and report.disagreement > 0
    assert report.n + report.n_holdout == 288 and report.ties > 0
    assert done[-1] == (96, 96)  # every case's features were computed
    assert set(reward.state()) == {"heads.weight", "norm.shift", "norm.scale"}


@pytest.mark.parametrize("kv", [1, 2, 4])
@pytest.mark.parametrize("surprised", [True, False])
def test_features_alone_and_packed_are_the_same(tiny, kv, surprised):
    """With end-of-text tokens inside, which are padding too, and assistance behind some outcomes."""
    b = tiny(kv=kv)
    reward = model(b, FROZEN.model_copy(update={"surprise": surprised}))
    long, short = Outcome("", (5, 2, 9, 2, 7, 7, 2)), Outcome("w6 w8")
    groups = [
        Group(Case("w3 w4 w5"), (long, short, short), ((Said("w8 w9"),), (), (Said("w10"),))),
        Group(Case("w9"), (short, long)),
    ]
    apart = reward.features(groups)
    with b.remember():
        packed = reward.raw_scores(groups)
        remembered = reference_logprobs(b, groups)
    for f, raw in zip(apart, packed, strict=True):
        torch.testing.assert_close(f @ reward.weight.T, raw, atol=1e-5, rtol=1e-4)
    for row, plain in zip(remembered, reference_logprobs(b, groups), strict=True):  # the same pass gave them
        for x, y in zip(row, plain, strict=True):
            torch.testing.assert_close(x, y, atol=1e-5, rtol=0)
    trained = TextRewardModel(b, b.fork("reward"), reward.settings)  # at its start: the same trunk, the usual way
    for x, y in zip(trained.raw_scores(groups), packed, strict=True):
        torch.testing.assert_close(x, y, atol=1e-4, rtol=1e-4)


def test_a_restart_gives_the_same_bits(tiny):
    """Rounds one after another, features kept; or the last round alone in a fresh process, all computed again."""
    comparisons = pairs(24)
    going, resumed = model(tiny()), model(tiny())
    fit_reward(going, comparisons[:30], FROZEN, "0")
    going.score(groups_of(comparisons[30:]))
    fit_reward(going, comparisons, FROZEN, "1")
    fit_reward(resumed, comparisons, FROZEN, "1")
    assert going.version == resumed.version


def test_cases_are_computed_once_and_forgotten_when_unused(tiny, monkeypatch):
    computed = []
    from rrm.models import reward as module

    original = module.read_case
    monkeypatch.setattr(module, "read_case", lambda t, case, *more: computed.append(case) or original(t, case, *more))
    reward, comparisons = model(tiny()), pairs(8)
    fit_reward(reward, comparisons, FROZEN, "0")
    first = len(computed)
    fit_reward(reward, comparisons, FROZEN, "1")
    assert len(computed) == first == len(reward.cache) == len({c.case.prompt for c in comparisons})
    assisted = replace(comparisons[0], assistance_a=(Said("w8"),))
    fit_reward(reward, [*comparisons, assisted], FROZEN, "2")
    assert len(computed) == first + 1  # other assistance is another row, and its case is computed again
    fit_reward(reward, comparisons[:6], FROZEN, "3")
    assert len(reward.cache) < first


def test_auto_is_frozen_on_a_cpu(tiny):
    assert TextRewardModel(tiny(), trunk(tiny(), "r", "auto"), SETTINGS).frozen
    b = tiny("lora")
    assert trunk(b, "r", "auto").trainable == {} and trunk(b, "r", "trained").trainable
    frozen = trunk(b, "r", "auto")
    b.fork("agent")
    with torch.no_grad():
        before = b.start.logprobs(model(b).rows(groups_of(pairs(1))))[0][0]
        assert torch.equal(frozen.logprobs(model(b).rows(groups_of(pairs(1))))[0][0], before)


@pytest.mark.parametrize("adapters", ["full", "lora"])
def test_it_reloads(tiny, adapters, tmp_path):
    b = tiny(adapters)
    reward = model(b)
    fit_reward(reward, pairs(16), FROZEN, "k")
    reward.save(tmp_path / "reward.safetensors")
    again = TextRewardModel.load_from(tmp_path / "reward.safetensors", b)
    groups = groups_of(pairs(4))
    assert again.frozen and again.version == reward.version
    assert all(torch.equal(x.heads, y.heads) for x, y in zip(reward.score(groups), again.score(groups), strict=True))


def random_problem(n=300, f=40, heads=3):
    g = torch.Generator().manual_seed(0)
    difference = torch.randn(n, f, generator=g) @ (torch.randn(f, f, generator=g) * torch.linspace(2, 0.02, f)[:, None])
    preference = (difference[:, 0] + torch.randn(n, generator=g) > 0).float()
    preference[::10] = 0.5  # ties
    return difference, preference, -torch.rand(n, heads, generator=g).log(), torch.randn(heads, f, generator=g)


def test_the_heads_are_at_the_optimum():
    difference, preference, weight, anchor = random_problem()
    found = solve(Problem.of(difference, preference), weight, anchor, 0.1).requires_grad_()
    margin = difference @ found.T
    loss = bradley_terry(margin, torch.zeros_like(margin), preference, weight) + 0.05 * ((found - anchor) ** 2).sum()
    loss.backward()
    assert found.grad.abs().max() < 1e-3
    from_elsewhere = solve(Problem.of(difference, preference), weight, anchor, 0.1, torch.randn_like(anchor))
    torch.testing.assert_close(found.detach(), from_elsewhere, atol=5e-3, rtol=1e-2)
    far = solve(Problem.of(difference, preference), weight, anchor, 1e6)  # nothing but the anchor counts
    torch.testing.assert_close(far, anchor, atol=1e-3, rtol=0)


def test_more_evidence_asks_for_less_regularization():
    difference, preference, _, _ = random_problem(1200)
    noise = torch.rand(60, generator=torch.Generator().manual_seed(1)).round()
    strong = choose(Problem.of(difference[:60], noise), torch.arange(60) // 3)
    assert choose(Problem.of(difference, preference), torch.arange(1200) // 3) < strong


def test_heads_do_not_care_how_features_are_scaled():
    difference, preference, weight, anchor = random_problem()
    rows = torch.cat([difference, torch.zeros_like(difference)])
    a, b, case = torch.arange(300), torch.arange(300, 600), torch.arange(300) // 3
    one, _ = fit_heads(rows, a, b, preference, weight, anchor, case)
    stretch = torch.linspace(0.1, 10, rows.shape[1])
    two, _ = fit_heads(rows * stretch + 5, a, b, preference, weight, anchor, case)
    torch.testing.assert_close(difference @ one.T, (difference * stretch) @ two.T, atol=0.05, rtol=0.02)


def test_a_refit_on_5000_comparisons_takes_less_than_a_second():
    b = Backbone("wide", network(hidden=576, layers=1), tokenizer(), "lora")
    g = torch.Generator().manual_seed(0)
    comparisons = []
    for i in range(250):
        case = Case(f"w{3 + i % 30} w{3 + i // 30}")
        outcomes = [Outcome("", (*torch.randint(3, 40, (5,), generator=g).tolist(), 2)) for _ in range(7)]
        both = [(x, y) for n, x in enumerate(outcomes) for y in outcomes[:n]][:20]
        comparisons += [Pair(case, x, y, float(x.tokens.count(7) >= y.tokens.count(7))) for x, y in both]
    settings = Settings(holdout=0.0)  # 4 heads, 580 features, the trunk frozen as by default
    reward = TextRewardModel(b, trunk(b, "r", settings.reward_trunk), settings)
    assert reward.frozen and len(comparisons) == 5000
    took = []
    for key in "0123":  # the first computes the features; the best of the others, for the machine may be busy
        began = time.perf_counter()
        report = fit_reward(reward, comparisons, settings, key)
        took.append(time.perf_counter() - began)
    assert min(took[1:]) < 1.0, took
    assert report.n == 5000 and report.accuracy > 0.6
