"""Everything that is dealt out to processes, computed by as many as there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from rrm.core.parallel import World
from rrm.core.records import Case, Group
from rrm.core.settings import Settings
from rrm.core.task import Pool
from rrm.learning import best_of_n, dpo, rloo
from rrm.learning.fitting import fit_reward
from rrm.models.agent import TextAgent, reference_logprobs
from rrm.models.backbone import Backbone
from rrm.models.precision import Precision
from rrm.models.reward import TextRewardModel, trunk
from rrm.models.weights import sha256_of
from tests.models.conftest import network, tokenizer
from tests.models.test_reward import groups_of, pairs

CASES = tuple(Case(f"w{i} w{i + 1}" + " w5" * (i % 3)) for i in range(3, 14))
SETTINGS = Settings(steps=3, batch=5, group=4, max_tokens=6, lr=1e-3, reward_lr=1e-3, heads=2, reward_batch=5)
IMPROVERS = {"rloo": rloo.improve, "dpo": dpo.improve, "best_of_n": best_of_n.improve}


def prefer_short(groups: Sequence[Group]) -> list[Tensor]:
    return [torch.tensor([len(o.tokens) + 0.1 * i for i, o in enumerate(g.outcomes)]).neg() for g in groups]


def whole(adapters: Literal["full", "lora"]) -> Backbone:
    """A model that every process holds whole."""
    return Backbone("tiny", network(), tokenizer(), adapters)


def shared(adapters: Literal["full", "lora"]) -> Backbone:
    """The same one, its layers shared out among the processes."""
    named = sha256_of(sorted(network().named_parameters()), wide=True)
    part = (Precision(), torch.device("cpu"))
    return Backbone("tiny", network(), tokenizer(), adapters, named=named, shared=part)


def pieces(
    world: World, make: Callable[[Any], Backbone] = whole, ways: Sequence[str] = ("full", "lora")
) -> dict[str, Tensor]:
    """Everything that is dealt out, on tiny random models, by name. The numbers of items are odd on purpose."""
    found: dict[str, Tensor] = {}
    for adapters in ways:
        backbone = make(adapters)
        backbone.world = world
        agent = TextAgent(backbone, backbone.fork("agent"), 6)
        groups = agent.sample(CASES, 3, "key")
        found[f"{adapters} tokens"] = torch.tensor([t for g in groups for o in g.outcomes for t in (*o.tokens, -1)])
        found[f"{adapters} kept logprobs"] = torch.tensor([v for g in groups for o in g.outcomes for v in o.logprobs])
        reference = reference_logprobs(backbone, groups)
        found[f"{adapters} reference"] = torch.cat([value for row in reference for value in row])
        for part in agent.microbatches(groups):
            (part.sums() * torch.arange(1.0, 34)[part.outcomes]).sum().backward()
        world.add_up(agent.fork.parameters(), 0)
        found |= {f"{adapters} gradient {n}": p.grad for n, p in agent.fork.trainable.items() if p.grad is not None}
        for name, improve in IMPROVERS.items():
            agent = TextAgent(backbone, backbone.fork(name), 6)
            improve(agent, prefer_short, Pool(CASES), SETTINGS, "key", lambda step, metrics: None)
            found |= {f"{adapters} {name} {key}": value for key, value in agent.state().items()}
        for how in ("trained", "frozen"):
            reward = TextRewardModel(backbone, trunk(backbone, how, how), SETTINGS)  # type: ignore[arg-type]
            report = fit_reward(reward, pairs(13), SETTINGS, "fit")
            found[f"{adapters} {how} loss"] = torch.tensor([report.train_loss, report.disagreement])
            with backbone.remember():
                scores = reward.score(groups_of(pairs(13)))
                found[f"{adapters} {how} scores"] = torch.cat([score.heads for score in scores])
                again = reference_logprobs(backbone, groups_of(pairs(13)))
                found[f"{adapters} {how} passed on"] = torch.cat([value for row in again for value in row])
    return {name: value.clone() for name, value in found.items()}
