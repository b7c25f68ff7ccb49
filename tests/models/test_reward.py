"""The reward model: what it reads, what it stores, and what it learns from comparisons."""

from dataclasses import dataclass, replace

import pytest
import torch

from rrm.core.errors import ModelError, RRMError
from rrm.core.records import Case, Group, Outcome, digest
from rrm.core.settings import Settings
from rrm.learning.fitting import bootstrap, fit_reward
from rrm.learning.losses import bradley_terry
from rrm.models.reward import TextRewardModel


@dataclass(frozen=True)
class Said:
    text: str


@dataclass(frozen=True)
class Pair:
    case: Case
    a: Outcome
    b: Outcome
    preference: float | None
    assistance_a: tuple = ()
    assistance_b: tuple = ()
    round: int = 0
    purpose: str = ""

    @property
    def id(self):
        return digest(self.case.id, self.a.id, self.b.id)

    stream = id


def text(generator, n):
    return " ".join(f"w{i}" for i in torch.randint(5, 40, (n,), generator=generator).tolist())


def pairs(n=48, good="w7", per=3):
    """Comparisons decided by how often `good` occurs."""
    g = torch.Generator().manual_seed(0)
    out = []
    for _ in range(n):
        case = Case(text(g, 4))
        for _ in range(per):
            a, b = text(g, 5), text(g, 5)
            a = a + f" {good}" * int(torch.randint(0, 3, (1,), generator=g))
            difference = a.split().count(good) - b.split().count(good)
            pair = Pair(case, Outcome(a), Outcome(b), 0.5 + 0.5 * ((difference > 0) - (difference < 0)))
            out.append(pair if len(out) % 2 else Pair(case, pair.b, pair.a, 1 - pair.preference))
    return out


SETTINGS = Settings(heads=3, reward_epochs=6, reward_batch=8, reward_lr=3e-3, holdout=0.2)


def fitted(b, comparisons=None, settings=SETTINGS, key="k"):
    reward = TextRewardModel(b, b.fork("reward"), settings)
    return reward, fit_reward(reward, comparisons or pairs(), settings, key)


def groups_of(comparisons):
    return [Group(c.case, (c.a, c.b), (c.assistance_a, c.assistance_b)) for c in comparisons]


@pytest.mark.parametrize("adapters", ["full", "lora"])
def test_it_learns_what_the_user_wants(tiny, adapters):
    _, report = fitted(tiny(adapters), settings=SETTINGS.model_copy(update={"reward_epochs": 12}))
    assert report.holdout_accuracy > 0.8 and report.accuracy > 0.85
    assert report.n + report.n_holdout == 144 and report.n_holdout > 0 and report.ties > 0
    assert report.disagreement > 0


def test_scores_are_normalized_and_reload(tiny, tmp_path):
    b = tiny()
    comparisons = pairs(16)
    reward, _ = fitted(b, comparisons, SETTINGS.model_copy(update={"holdout": 0.0}))
    unique = {(c.case.id, o.id): Group(c.case, (o,)) for c in comparisons for o in (c.a, c.b)}
    means = torch.cat([s.mean for s in reward.score(list(unique.values()))])
    assert abs(means.mean()) < 1e-3 and abs(means.std(correction=0) - 1) < 1e-3
    reward.save(tmp_path / "reward.safetensors")
    again = TextRewardModel.load_from(tmp_path / "reward.safetensors", b)
    for x, y in zip(reward.score(groups_of(comparisons)), again.score(groups_of(comparisons)), strict=True):
        assert torch.equal(x.heads, y.heads) and torch.equal(x.mean, y.mean) and torch.equal(x.std, y.std)
    assert again.version == reward.version
    with pytest.raises(ModelError, match="another starting model"):
        TextRewardModel.load_from(tmp_path / "reward.safetensors", tiny(seed=1))
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(ModelError, match="cannot read"):
        TextRewardModel.load_from(tmp_path / "junk", b)


def test_a_missing_head_is_an_error(tiny):
    b = tiny()
    reward, _ = fitted(b, pairs(8))
    state = reward.state()
    with pytest.raises(ModelError, match=r"heads\.weight"):
        reward.load({k: v for k, v in state.items() if k != "heads.weight"})
    with pytest.raises(ModelError, match=r"norm\.scale"):
        reward.load({k: v for k, v in state.items() if k != "norm.scale"})
    with pytest.raises(ModelError, match="shape"):
        TextRewardModel(b, b.fork("x"), SETTINGS.model_copy(update={"heads": 4})).load(state)


def test_before_a_fit_it_refuses_to_score(tiny):
    b = tiny()
    reward = TextRewardModel(b, b.fork("reward"), SETTINGS)
    with pytest.raises(RRMError, match="not fitted"):
        reward.score(groups_of(pairs(1)))


def test_a_score_does_not_depend_on_the_batch(tiny):
    reward, _ = fitted(tiny(), pairs(8))
    groups = groups_of(pairs(12))
    together = reward.score(groups)
    for group, score in zip(groups, together, strict=True):
        swapped = Group(group.case, group.outcomes[::-1])
        torch.testing.assert_close(reward.score([swapped])[0].heads.flip(0), score.heads, atol=1e-3, rtol=1e-3)
        alone = reward.score([Group(group.case, group.outcomes[1:])])[0]
        torch.testing.assert_close(alone.heads[0], score.heads[1], atol=1e-3, rtol=1e-3)


def test_it_reads_assistance_unless_told_not_to(tiny):
    case, outcome = Case("w5"), Outcome("w6")
    group = Group(case, (outcome, outcome), ((Said("w8 w9"),), (Said("w10"),)))
    b = tiny()
    assert [len(s) for s in TextRewardModel(b, b.fork("r"), SETTINGS).rows([group])[0].segments] == [5, 4]
    blind = SETTINGS.model_copy(update={"reward_sees": "outcome"})
    assert [len(s) for s in TextRewardModel(b, b.fork("r"), blind).rows([group])[0].segments] == [3, 3]


def test_swapping_a_and_b_flips_the_label():
    a, b, p = torch.randn(7, 3), torch.randn(7, 3), torch.rand(7)
    weight = torch.rand(7, 3)
    torch.testing.assert_close(bradley_terry(a, b, p, weight), bradley_terry(b, a, 1 - p, weight))


def test_a_head_learns_as_fast_in_an_ensemble_as_alone():
    a, b, p = torch.randn(7, 3, requires_grad=True), torch.randn(7, 3), torch.rand(7)
    alone = a[:, 1].detach().requires_grad_()
    bradley_terry(a, b, p).backward()
    bradley_terry(alone, b[:, 1], p).backward()
    torch.testing.assert_close(a.grad[:, 1], alone.grad)


def test_abstentions_are_ignored_and_order_hardly_matters(tiny):
    b = tiny()
    comparisons = pairs(12)
    silent = [replace(c, preference=None, a=Outcome("w39")) for c in comparisons[:5]]
    one, first = fitted(b, comparisons)
    two, second = fitted(b, [*comparisons, *silent])
    assert second.abstentions == 5 and first.n == second.n
    groups = groups_of(comparisons)
    assert all(torch.equal(x.heads, y.heads) for x, y in zip(one.score(groups), two.score(groups), strict=True))
    with pytest.raises(RRMError, match="abstained"):
        fitted(b, silent)


def test_the_same_key_gives_the_same_bits(tiny):
    one, two, other = (fitted(tiny(), pairs(12), key=k)[0] for k in ("k", "k", "other"))
    assert one.version == two.version != other.version


def test_a_small_memory_gives_the_same_gradient(tiny, monkeypatch):
    """Parts of a batch of cases add up to the large batch."""
    b = tiny()
    settings = SETTINGS.model_copy(update={"reward_epochs": 1})
    large, _ = fitted(b, pairs(12), settings)
    monkeypatch.setattr(type(b), "budget", lambda self, training: 40)
    small, _ = fitted(b, pairs(12), settings)
    for x, y in zip(large.parameters(), small.parameters(), strict=True):
        # Adam divides by the gradient's size, so a rounding error can flip the step of a zero gradient
        assert (x - y).abs().mean() < 1e-4


def test_bootstrap_weights_belong_to_the_comparison():
    assert torch.equal(bootstrap("x", 4), bootstrap("x", 4)) and not torch.equal(bootstrap("x", 4), bootstrap("y", 4))
    assert abs(torch.stack([bootstrap(str(i), 4) for i in range(2000)]).mean() - 1) < 0.05
    assert torch.equal(bootstrap("x", 1), torch.ones(1))


@pytest.mark.parametrize("adapters", ["full", "lora"])
def test_the_version_follows_the_weights(tiny, adapters):
    b = tiny(adapters)
    reward = TextRewardModel(b, b.fork("reward"), SETTINGS)
    before = reward.fork.version
    fit_reward(reward, pairs(8), SETTINGS.model_copy(update={"reward_epochs": 1}), "k")
    fresh = b.fork("fresh")
    fresh.load(reward.fork.state())
    assert reward.fork.version == fresh.version != before
