"""What a text reward model's score is made of: what its trunk reads, surprise, and what each assistant found.

The heads are linear in [hidden state | surprise | findings] (`rrm.models.reward`), and so is their mean: a score is a
sum of these parts, exactly, but for its ends (`LIMIT`). What is read is one number here. How it comes of the words is
not linear; gradient times input (Simonyan, Vedaldi and Zisserman 2014, arXiv 1312.6034; Shrikumar et al. 2017, arXiv
1704.02685) is its first order only, and says by how much it misses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rrm.core.records import Group
from rrm.models.agent import tokens_of
from rrm.models.features import FINDINGS, SURPRISE
from rrm.models.reward import LIMIT, TextRewardModel

READING = "what it reads"
SURPRISED = "surprise"
OFFSET = "offset"
LIMITED = "limit"
Parts = Mapping[str, float]
"""Part -> its share of a score, in standard deviations; they sum to the score."""


def finding_part(assistant: str) -> str:
    """The name of the part that an assistant's findings are."""
    return f"findings of {assistant}"


def parts_of(reward: TextRewardModel, groups: Sequence[Group], assistants: Sequence[str]) -> list[list[Parts]]:
    """The parts of every outcome's score, per group.

    Of one outcome the parts hang on where each feature has its zero, and `OFFSET` makes up for that; between two
    outcomes it cancels (`less`). `LIMITED` is what the ends of the score take away, and is there only if they do.

    Parameters
    ----------
    reward: fitted.
    assistants: the paths of those whose findings it knows, in their order.
    """
    d, known = reward.backbone.d, reward.assistants
    names = [f"assistant {i + 1}" if i >= len(assistants) else assistants[i] for i in range(known)]
    rows = reward.features(groups) if reward.frozen else reward.trained_features(groups)
    weight = reward.weight.detach().cpu().double()
    scale, shift = reward.scale.double(), reward.shift.double()
    mean, offset = weight.mean(0) / scale, float((shift / scale).mean())
    edges = [(READING, d), *([(SURPRISED, SURPRISE)] if reward.settings.surprise else [])]
    edges += [(finding_part(name), FINDINGS) for name in names]
    out: list[list[Parts]] = []
    for features in (row.cpu().double() for row in rows):
        each = torch.split(features * mean, [size for _, size in edges], 1)
        sums = torch.stack([part.sum(1) for part in each], 1).tolist()
        ended = ((features @ weight.T - shift) / scale).clamp(-LIMIT, LIMIT).mean(1).tolist()
        found: list[Parts] = []
        for values, score in zip(sums, ended, strict=True):
            parts = {name: value for (name, _), value in zip(edges, values, strict=True)} | {OFFSET: -offset}
            rest = score - sum(parts.values())
            found.append(parts | ({LIMITED: rest} if abs(rest) > 1e-9 * LIMIT else {}))
        out.append(found)
    return out


def less(a: Parts, b: Parts) -> dict[str, float]:
    """The parts of a difference of scores; offsets cancel."""
    names = [name for name in {**a, **b} if name != OFFSET]
    return {name: a.get(name, 0.0) - b.get(name, 0.0) for name in names}


@dataclass(frozen=True)
class Gradients:
    """Gradient times input of the embeddings for what is read of one outcome, in standard deviations, summed over the
    tokens of the case, of the outcome, and of what assistants said (with the end-of-text that is read)."""

    case: float
    outcome: float
    assistance: float
    gap: float
    """What is read less the three: what the first order misses. 0 where the network is linear."""


def gradients(reward: TextRewardModel, group: Group, index: int) -> Gradients:
    """Gradient times input of one outcome of a group; a pass there and back over its tokens."""
    one = Group(group.case, (group.outcomes[index],), (group.seen(index),) if group.assistance else ())
    row = reward.rows([one])[0]
    ids = torch.tensor([[*row.prefix, *row.segments[0]]])
    own = len(tokens_of(reward.backbone, group.case, group.outcomes[index]))
    direction = reward.weight.detach()[:, : reward.backbone.d].mean(0) / reward.scale
    with reward.fork.training(), _Watched(reward) as held, torch.enable_grad():
        last = reward.fork.run(ids, torch.arange(ids.shape[1])[None], None)[0, -1].float()
        value = last @ direction.to(last.device)
        slope = torch.autograd.grad(value, held.tensor)[0]
    each = (slope * held.tensor.detach())[0].sum(1).double().cpu()
    begin = len(row.prefix)
    case, outcome, said = (float(part.sum()) for part in (each[:begin], each[begin : begin + own], each[begin + own :]))
    return Gradients(case, outcome, said, float(value.detach()) - case - outcome - said)


class _Watched:
    """Within it the embeddings of the reward model's network are leaves of the graph; the last are kept in `tensor`."""

    tensor: Tensor

    def __init__(self, reward: TextRewardModel) -> None:
        self._module: Any = reward.fork.network.get_input_embeddings()  # type: ignore[operator]
        self._remove: Callable[[], None] = lambda: None

    def __enter__(self) -> _Watched:
        def leaf(module: object, given: object, out: Tensor) -> Tensor:
            self.tensor = out.detach().requires_grad_()
            return self.tensor

        self._remove = self._module.register_forward_hook(leaf).remove
        return self

    def __exit__(self, *error: object) -> None:
        self._remove()
