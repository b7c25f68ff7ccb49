"""An agent without a language model: a three-armed bandit, its reward model, and a tree that trains them.

    python examples/custom_agent.py

The outcome is an arm, kept in `Outcome.data`. Nobody tells the agent which arm is good: the user compares pulls, a
table learns the user's judgement, and the policy climbs the softmax gradient of that table. `rrm.testing` checks that
both keep their contracts; see `rrm/core/protocols.py`.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import torch
from torch import Tensor

import rrm
from rrm.core.parallel import World
from rrm.core.protocols import Judge, Log, Progressed
from rrm.core.seeding import generator

ARMS = ("left", "middle", "right")


def arm_of(outcome: rrm.Outcome) -> int:
    return ARMS.index((outcome.data or {}).get("arm", ""))


# --- the policy: 40 lines ----------------------------------------------------------------------------


class Bandit:
    """A softmax over arms."""

    repeatable = True

    def __init__(self) -> None:
        self.logits = torch.zeros(len(ARMS))

    @property
    def version(self) -> str:
        return hashlib.sha256(self.logits.numpy().tobytes()).hexdigest()[:16]

    def sample(
        self, cases: Sequence[rrm.Case], n: int, key: str, temperature: float = 1.0, greedy: bool = False
    ) -> list[rrm.Group]:
        odds = (self.logits / temperature).softmax(0)
        groups = []
        for case in cases:
            drawn = torch.multinomial(odds, n, replacement=True, generator=generator(key, case.id))
            arms = [int(odds.argmax())] * n if greedy else drawn.tolist()
            groups.append(rrm.Group(case, tuple(rrm.Outcome("", data={"arm": ARMS[arm]}) for arm in arms)))
        return groups

    def improve(
        self, judge: Judge, cases: rrm.Cases, settings: rrm.Settings, key: str, log: Log
    ) -> rrm.ImproveReport:
        means = []
        for step in range(settings.steps):
            groups = self.sample(cases.draw(settings.batch, f"{key}/{step}"), settings.group, f"{key}/{step}")
            rewards = torch.stack([*judge(groups)])
            if not rewards.isfinite().all():
                raise rrm.RRMError("the judge gave a reward that is no number")
            pulls = torch.tensor([[arm_of(o) for o in g.outcomes] for g in groups])
            gain = (rewards - rewards.mean())[..., None] * (torch.eye(len(ARMS))[pulls] - self.logits.softmax(0))
            self.logits = self.logits + settings.lr * gain.mean((0, 1))
            means.append(rewards.mean().item())
            log(step, {"reward": means[-1]})
        return rrm.ImproveReport(settings.steps, means[0], means[-1])

    def state(self) -> dict[str, Tensor]:
        return {"logits": self.logits.clone()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        if set(state) != {"logits"}:
            raise rrm.RRMError(f"a bandit's state has logits only, not {sorted(state)}")
        self.logits = state["logits"].clone()


# --- the reward model --------------------------------------------------------------------------------


class WinRates:
    """How often each arm was preferred, in standard deviations; one member, so it never disagrees with itself."""

    def __init__(self) -> None:
        self.values: Tensor | None = None

    @property
    def version(self) -> str:
        return hashlib.sha256(self._fitted().numpy().tobytes()).hexdigest()[:16]

    def _fitted(self) -> Tensor:
        if self.values is None:
            raise rrm.RRMError("the win rates are not fitted yet")
        return self.values

    def score(self, groups: Sequence[rrm.Group]) -> list[rrm.Scores]:
        rows = [self._fitted()[torch.tensor([arm_of(o) for o in group.outcomes])] for group in groups]
        return [SimpleNamespace(mean=row, std=torch.zeros(len(row)), heads=row[:, None]) for row in rows]

    def fit(
        self, comparisons: Sequence[rrm.Comparison], settings: rrm.Settings, key: str,
        progress: Progressed | None = None,
    ) -> rrm.FitReport:  # fmt: skip
        judged = [(arm_of(c.a), arm_of(c.b), c.preference) for c in comparisons if c.preference is not None]
        if not judged:
            raise rrm.RRMError("nobody preferred an arm")
        wins, pulls = torch.ones(len(ARMS)), torch.full((len(ARMS),), 2.0)
        for a, b, preference in judged:
            wins[a] += preference
            wins[b] += 1 - preference
            pulls[a] += 1
            pulls[b] += 1
        rates = wins / pulls
        self.values = (rates - rates.mean()) / rates.std().clamp(min=0.05)
        return rrm.FitReport(n=len(judged))

    def state(self) -> dict[str, Tensor]:
        return {"values": self._fitted().clone()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        if set(state) != {"values"}:
            raise rrm.RRMError(f"the win rates' state has values only, not {sorted(state)}")
        self.values = state["values"].clone()


class Bandits:
    """The maker: a policy and a reward model for each node of a tree."""

    name, fingerprint = "bandit", "uniform"
    world = World()

    def policy(self, task: rrm.Task, seed: int) -> Bandit:
        return Bandit()

    def reward(self, task: rrm.Task, seed: int) -> WinRates:
        return WinRates()


# --- a tree ------------------------------------------------------------------------------------------


def facts(case: rrm.Case, outcome: rrm.Outcome) -> list[rrm.Fact]:
    """The right arm is the good one; only whoever checks that fact, or measures, may know."""
    return [rrm.Fact("pays", "pay", rrm.Sealed(arm_of(outcome) == 2))]


pull = rrm.Task(
    "pull",
    instruction="Which arm pays more?",
    cases=rrm.Pool(tuple(rrm.Case(f"machine {i}") for i in range(8))),
    facts=facts,
    settings=rrm.Settings(rounds=2, cases=8, comparisons=16, steps=8, lr=0.3, accept=8),
)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as out:
        root = rrm.train(pull, rrm.BoundedUser(attention=4), Bandits(), out)
        (group,) = root.agent.sample([rrm.Case("machine 0")], 100, key="look")
        print({arm: sum(o.data == {"arm": arm} for o in group.outcomes) for arm in ARMS})
