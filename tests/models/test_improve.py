"""The improvers: losses by hand, exact accumulation, and a toy task each of them gets better at."""

import math

import pytest
import torch

from rrm.core.errors import RRMError
from rrm.core.records import Case
from rrm.core.settings import Settings
from rrm.core.task import Pool
from rrm.learning.losses import best_of_n_kl, dpo_loss, kl_estimates, policy_gradient, rloo_advantages
from rrm.learning.text_maker import IMPROVERS
from rrm.models.agent import TextAgent, reference_logprobs

CASES = Pool(tuple(Case(f"w{5 + i} w{6 + i} w9") for i in range(12)))
TOY = Settings(steps=12, batch=8, group=8, lr=5e-3, kl=0.0, max_kl=1e9)


def count(groups):
    """The toy reward: how often `w7` occurs."""
    return [torch.tensor([float(o.text.split().count("w7")) for o in g.outcomes]) for g in groups]


def agent_of(b, max_tokens=8):
    return TextAgent(b, b.fork("agent"), max_tokens)


@pytest.mark.parametrize("name", IMPROVERS)
@pytest.mark.parametrize("adapters", ["full", "lora"])
def test_it_improves(tiny, name, adapters):
    agent, rows = agent_of(tiny(adapters)), []
    report = IMPROVERS[name](agent, count, CASES, TOY, "k", lambda step, m: rows.append(m))
    assert report.steps == len(rows) == 12 and not report.stopped
    assert report.last_reward > report.first_reward + 0.15, (name, [r["reward"] for r in rows])
    assert abs(rows[0]["kl"]) < 1e-4 and rows[-1]["kl"] > 0.01  # KL is 0 at the start
    assert all(math.isfinite(v) for r in rows for v in r.values())


@pytest.mark.parametrize("name", IMPROVERS)
def test_the_same_key_gives_the_same_bits(tiny, name):
    settings = TOY.model_copy(update={"steps": 2})
    versions = []
    for key in ("k", "k", "other"):
        agent = agent_of(tiny())
        IMPROVERS[name](agent, count, CASES, settings, key, lambda step, m: None)
        versions.append(agent.version)
    assert versions[0] == versions[1] != versions[2]


@pytest.mark.parametrize("name", IMPROVERS)
@pytest.mark.parametrize("adapters", ["full", "lora"])
def test_the_version_follows_the_weights(tiny, name, adapters):
    """Answers are remembered by the version: it must not be remembered over a training step."""
    agent = agent_of(tiny(adapters))
    before = agent.version
    IMPROVERS[name](agent, count, CASES, TOY.model_copy(update={"steps": 1}), "k", lambda step, m: None)
    fresh = agent_of(tiny(adapters))
    fresh.load(agent.state())
    assert agent.version == fresh.version != before


@pytest.mark.parametrize("name", IMPROVERS)
def test_it_stops_at_the_kl_limit_and_skips_what_teaches_nothing(tiny, name):
    agent = agent_of(tiny())
    before, rows = agent.version, []
    flat = lambda groups: [torch.zeros(len(g.outcomes)) for g in groups]  # noqa: E731
    report = IMPROVERS[name](
        agent, flat, CASES, TOY.model_copy(update={"steps": 2}), "k", lambda s, m: rows.append(m)
    )
    assert agent.version == before and report.skipped == 16 and rows[0]["skipped"] == 8
    limit, rows = TOY.model_copy(update={"max_kl": 0.05}), []
    stopped = IMPROVERS[name](agent, count, CASES, limit, "k", lambda s, m: rows.append(m))
    assert stopped.stopped and stopped.steps == len(rows) - 1 < 12  # in the last of these nothing changed
    before = agent.version
    again = IMPROVERS[name](agent, count, CASES, limit, "k2", lambda s, m: None)
    assert again.stopped and again.steps == 0 and agent.version == before


@pytest.mark.parametrize("name", IMPROVERS)
def test_it_samples_from_the_policy_itself_whatever_the_temperature(tiny, name):
    """Else the KL would be that of another distribution."""
    rows = []
    for temperature in (1.0, 0.3):
        settings = TOY.model_copy(update={"steps": 2, "temperature": temperature})
        IMPROVERS[name](agent_of(tiny()), count, CASES, settings, "k", lambda s, m: rows.append(m))
    assert rows[:2] == rows[2:]


@pytest.mark.parametrize("name", IMPROVERS)
def test_a_judge_that_fails_is_not_a_zero(tiny, name):
    broken = lambda groups: [torch.full((8,), math.nan) for _ in groups]  # noqa: E731
    with pytest.raises(RRMError, match="not finite"):
        IMPROVERS[name](agent_of(tiny()), broken, CASES, TOY, "k", lambda s, m: None)


@pytest.mark.parametrize("whole", [False, True])
def test_gradient_accumulation_equals_the_large_batch(tiny, monkeypatch, whole):
    b = tiny()
    groups = agent_of(b).sample(CASES.cases, 4, "k")
    advantage = torch.randn(48, generator=torch.Generator().manual_seed(0))
    grads = []
    for budget in (10**6, 40):
        agent = agent_of(b)
        monkeypatch.setattr(type(b), "budget", lambda self, training, budget=budget: budget)
        parts = 0
        for part in agent.microbatches(groups, whole):
            policy_gradient(part.logprobs, None, advantage[part.outcome], 48).backward()
            parts += 1
        grads.append([p.grad for p in agent.fork.parameters()])
        assert (parts == 1) == (budget == 10**6)
    for x, y in zip(*grads, strict=True):
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-3)


def test_sums_are_per_outcome(tiny):
    b = tiny()
    agent = agent_of(b)
    groups = agent.sample(CASES.cases, 3, "k")
    sums = torch.empty(36)
    for part in agent.microbatches(groups):
        sums[part.outcomes] = part.sums().detach()
    kept = torch.tensor([sum(o.logprobs) for g in groups for o in g.outcomes])
    torch.testing.assert_close(sums, kept, atol=1e-3, rtol=1e-4)


def test_the_formulas():
    r = torch.tensor([[1.0, 2.0, 6.0]])
    torch.testing.assert_close(rloo_advantages(r), torch.tensor([[1 - 4.0, 2 - 3.5, 6 - 1.5]]))
    logp = torch.tensor([-1.0, -2.0], requires_grad=True)
    policy_gradient(logp, logp.detach(), torch.tensor([1.0, -3.0]), 2).backward()  # the ratio's gradient at 1
    torch.testing.assert_close(logp.grad, torch.tensor([-0.5, 1.5]))
    zero = torch.zeros(1)
    torch.testing.assert_close(dpo_loss(zero, zero, zero, zero, 0.1), torch.tensor([math.log(2)]))
    torch.testing.assert_close(
        dpo_loss(zero + 2, zero, zero, zero + 1, 0.5), torch.tensor([math.log1p(math.exp(-1.5))])
    )
    k1, k3 = kl_estimates(torch.tensor([0.0, -1.0]), torch.tensor([0.0, -1.5]))
    assert k1.tolist() == [0.0, 0.5] and k3[0] == 0 and k3[1] > 0
    assert best_of_n_kl(1) == 0 and abs(best_of_n_kl(8) - (math.log(8) - 7 / 8)) < 1e-12


@pytest.mark.parametrize("name", IMPROVERS)
def test_what_ran_before_does_not_change_a_bit(tiny, name):
    """A resumed run starts an improvement in a fresh process; an uninterrupted one after other work."""
    settings = TOY.model_copy(update={"steps": 2, "kl": 0.1})
    fresh, used = agent_of(tiny()), agent_of(tiny())
    groups = used.sample(CASES.draw(8, "k/0"), 3, "k/0")
    reference_logprobs(used.backbone, groups)
    for agent in (fresh, used):
        IMPROVERS[name](agent, count, CASES, settings, "k", lambda s, m: None)
    assert fresh.version == used.version and used.backbone.reference is None
