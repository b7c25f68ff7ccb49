"""The engine on another device than the CPU: the same numbers, and nothing is mixed up. The device is pretended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from rrm.core.errors import ModelError
from rrm.core.records import Case, Group
from rrm.core.settings import Settings
from rrm.core.task import Pool
from rrm.learning import best_of_n, dpo, rloo
from rrm.learning.fitting import fit_reward
from rrm.models.agent import TextAgent
from rrm.models.backbone import Backbone
from rrm.models.probing import probe
from rrm.models.reward import TextRewardModel, trunk
from tests.models.conftest import network, tokenizer
from tests.models.elsewhere import DEVICE, Accelerator, Elsewhere, moved
from tests.models.test_reward import groups_of, pairs

CASES = tuple(Case(f"w{i} w{i + 1}") for i in range(3, 11))
SETTINGS = Settings(
    steps=2, batch=4, group=4, max_tokens=6, lr=1e-3, reward_lr=1e-3, heads=2, reward_batch=4, holdout=0.25
)


@pytest.fixture(params=["full", "lora"])
def both(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Backbone, Backbone]]:
    """The same model here and elsewhere. The fused optimizer asks for a device by name; the plain one does the same."""
    plain = {"fused": False, "foreach": False}
    adamw = torch.optim.AdamW
    monkeypatch.setattr(torch.optim, "AdamW", lambda parameters, **kwargs: adamw(parameters, **(kwargs | plain)))
    here = Backbone("tiny", network(), tokenizer(), request.param)
    with Accelerator():
        there = Backbone("tiny", moved(network()), tokenizer(), request.param)
        assert there.device == DEVICE and there.engine.groups
        yield here, there


def test_the_pretense_tells_devices_apart() -> None:
    with Accelerator():
        here, there = torch.ones(3), torch.ones(3, device=DEVICE)
        assert isinstance(there, Elsewhere) and there.sum().item() == 3
        with pytest.raises(RuntimeError, match="same device"):
            _ = here + there
        with pytest.raises(RuntimeError, match="same device"):
            _ = torch.cat([here, there])
        with pytest.raises(RuntimeError, match="same device"):
            _ = here[torch.zeros(1, dtype=torch.long, device=DEVICE)]
        assert there[torch.zeros(1, dtype=torch.long)].cpu().tolist() == [1]
        assert (there * 2).to("cpu").tolist() == [2, 2, 2] == (here.to(DEVICE) + there).cpu().tolist()


def test_samples_and_log_probabilities_are_the_same(both: tuple[Backbone, Backbone]) -> None:
    found: list[list[Group]] = []
    for backbone in both:
        agent = TextAgent(backbone, backbone.fork("agent"), 6)
        found.append(agent.sample(CASES, 4, "key"))
        values = agent.logprobs(found[0])
        assert all(not isinstance(v, Elsewhere) for row in values for v in row)
    for here, there in zip(*found, strict=True):
        assert [o.tokens for o in here.outcomes] == [o.tokens for o in there.outcomes]
        for one, other in zip(here.outcomes, there.outcomes, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    assert both[0].fingerprint == both[1].fingerprint


@pytest.mark.parametrize("improve", [rloo.improve, dpo.improve, best_of_n.improve])
def test_improving_gives_the_same_weights(both: tuple[Backbone, Backbone], improve: object) -> None:
    states = []
    for backbone in both:
        agent = TextAgent(backbone, backbone.fork("agent"), 6)

        def judge(groups: list[Group]) -> list[torch.Tensor]:
            return [torch.tensor([float(len(o.tokens) + i) for i, o in enumerate(g.outcomes)]) for g in groups]

        improve(agent, judge, Pool(CASES), SETTINGS, "key", lambda step, metrics: None)  # type: ignore[operator]
        states.append(agent.state())
        assert all(not isinstance(value, Elsewhere) for value in agent.state().values())
        agent.load(agent.state())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value)


@pytest.mark.parametrize("how", ["trained", "frozen"])
def test_a_reward_model_fits_and_scores_the_same(both: tuple[Backbone, Backbone], how: str) -> None:
    scores = []
    for backbone in both:
        settings = SETTINGS.model_copy(update={"reward_trunk": how})
        reward = TextRewardModel(backbone, trunk(backbone, "reward", how), settings)  # type: ignore[arg-type]
        judged = pairs(12)
        groups = groups_of(judged)
        fit_reward(reward, judged, settings, "fit")
        scores.append(torch.cat([s.mean for s in reward.score(groups)]))
        assert all(not isinstance(value, Elsewhere) for value in reward.state().values())
        reward.load(reward.state())
        torch.testing.assert_close(torch.cat([s.mean for s in reward.score(groups)]), scores[-1])
    torch.testing.assert_close(scores[1], scores[0], rtol=1e-3, atol=3e-3)  # a fit amplifies last bits


def test_precision_is_probed_where_the_model_is() -> None:
    with Accelerator():
        backbone = Backbone("tiny", moved(network()), tokenizer(), "lora")
        timed = {f"{what} {which}" for what in ("training", "decoding") for which in ("float32", "bfloat16")}
        assert set(probe(backbone)[1]) == timed


def test_a_device_that_is_not_there_is_an_error() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ModelError, match="use device='cpu'"):
        Backbone.load("embedded", device="cuda")
    with pytest.raises(ModelError, match="nowhere"):
        Backbone.load("embedded", device="nowhere")
