"""What the score of an episode is made of, exactly: what each step is worth, and what assistants found of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rrm.acting.episodes import episode_of
from rrm.acting.step_reward import StepReward
from rrm.core.records import Group
from rrm.models.attribution import LIMITED, OFFSET, Parts, finding_part
from rrm.models.features import FINDINGS

STEPS = "its steps"


@dataclass(frozen=True)
class StepParts:
    """Of one outcome, in standard deviations."""

    parts: Parts
    """They sum to the score."""
    steps: tuple[float, ...]
    """What each step is worth; they sum to the part `STEPS`."""


def parts_in_steps(reward: StepReward, groups: Sequence[Group], assistants: Sequence[str]) -> list[list[StepParts]]:
    """The parts of every outcome's score, per group; `assistants`: the paths of those whose findings it knows, in their
    order. See `rrm.models.attribution.parts_of`."""
    known = reward.parameters["findings"].shape[1] // FINDINGS
    names = [f"assistant {i + 1}" if i >= len(assistants) else assistants[i] for i in range(known)]
    weight = (reward.parameters["findings"].detach().double() / reward.scale.double()).mean(0)
    out = []
    for group, scores in zip(groups, reward.score(groups), strict=True):
        rows = reward.rows([group])
        found = []
        for i, score in enumerate(scores.mean.tolist()):
            episode = episode_of(group.outcomes[i])
            seen, actions = torch.as_tensor(episode.observations[:-1]), torch.as_tensor(episode.actions)
            steps = reward.worth(seen, actions).mean(1).double()
            parts = {STEPS: float(steps.sum())}
            for n, name in enumerate(names):
                own = slice(n * FINDINGS, (n + 1) * FINDINGS)
                parts[finding_part(name)] = float(rows.beside[i][own].double() @ weight[own])
            parts[OFFSET] = float(reward.nothing.mean())
            rest = score - sum(parts.values())
            found.append(StepParts(parts | ({LIMITED: rest} if abs(rest) > 1e-3 else {}), tuple(steps.tolist())))
        out.append(found)
    return out
