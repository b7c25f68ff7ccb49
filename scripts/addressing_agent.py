"""A small agent that may speak to its judge, and a reward model of what the judge prefers (scripts/addressing.py).

Its outcome is one of a case's two answers, with an address behind it or none. It has a taste for each answer of each
case, and a habit of addressing that is the same everywhere; the reward model has the same form. Neither is told which
answer is better, nor what an address is. Contracts: `rrm.core.protocols`; `rrm.testing` checks them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor, nn

import rrm
from rrm.core.judgements import FitReport, ImproveReport
from rrm.core.parallel import World
from rrm.core.protocols import Cases, Judge, Log, Progressed
from rrm.core.records import Group, digest
from rrm.core.seeding import generator
from rrm_tasks.addressed import answered


@dataclass(frozen=True)
class Table:
    """Cases and addresses ("" for none), and where each outcome stands among a case's: (answer, address) in order."""

    cases: tuple[rrm.Case, ...]
    addresses: tuple[str, ...]

    def outcomes(self, case: rrm.Case) -> tuple[rrm.Outcome, ...]:
        """All that an agent may do about a case."""
        return tuple(answered(case, answer, address) for answer in (0, 1) for address in self.addresses)

    def rows(self, cases: Sequence[rrm.Case]) -> Tensor:
        """(cases,) their places."""
        places = {case.id: i for i, case in enumerate(self.cases)}
        return torch.tensor([places[case.id] for case in cases], dtype=torch.long)

    def place(self, outcome: rrm.Outcome) -> int:
        """Of an outcome, in `outcomes`."""
        data = outcome.data or {}
        return int(data["answer"]) * len(self.addresses) + self.addresses.index(data["address"])

    def values(self, weights: Mapping[str, Tensor], cases: Sequence[rrm.Case]) -> Tensor:
        """(cases, outcomes): the value of the answer in this case, and that of the address."""
        return (weights["answer"][self.rows(cases)][:, :, None] + weights["address"]).flatten(1)

    def zeros(self) -> dict[str, Tensor]:
        """Weights of no taste and no habit."""
        return {"answer": torch.zeros(len(self.cases), 2), "address": torch.zeros(len(self.addresses))}


def _version(weights: Mapping[str, Tensor]) -> str:
    return hashlib.sha256(b"".join(weights[name].numpy().tobytes() for name in sorted(weights))).hexdigest()[:16]


def _checked(state: Mapping[str, Tensor], zeros: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if {name: one.shape for name, one in state.items()} != {name: one.shape for name, one in zeros.items()}:
        raise rrm.RRMError(f"a state of {sorted(state)} in other shapes: it belongs to other cases or addresses")
    return {name: state[name].clone() for name in zeros}


class Addressing:
    """A softmax over a case's outcomes. Begins with all alike."""

    repeatable = True

    def __init__(self, table: Table) -> None:
        self.table, self.weights = table, table.zeros()

    @property
    def version(self) -> str:
        """Of its weights."""
        return _version(self.weights)

    def logprobs(self, cases: Sequence[rrm.Case], weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """(cases, outcomes)"""
        return self.table.values(weights or self.weights, cases).log_softmax(1)

    def sample(
        self, cases: Sequence[rrm.Case], n: int, key: str, temperature: float = 1.0, greedy: bool = False
    ) -> list[Group]:
        """See `rrm.Agent`."""
        groups = []
        for case in cases:
            odds = (self.logprobs([case])[0] / temperature).softmax(0)
            drawn = torch.multinomial(odds, n, replacement=True, generator=generator(key, case.id)).tolist()
            own = self.table.outcomes(case)
            groups.append(Group(case, tuple(own[i] for i in ([int(odds.argmax())] * n if greedy else drawn))))
        return groups

    def improve(
        self, judge: Judge, cases: Cases, settings: rrm.Settings, key: str, log: Log
    ) -> ImproveReport:
        """Gradient ascent on the expected reward less the price of KL to the uniform policy; outcomes are so few that
        the expectation is taken over all of them."""
        weights = {name: value.clone().requires_grad_() for name, value in self.weights.items()}
        optimizer, earned, kl = torch.optim.Adam(weights.values(), lr=settings.lr), [], 0.0
        for step in range(settings.steps):
            drawn = cases.draw(settings.batch, f"{key}/{step}")
            rewards = torch.stack([*judge([Group(case, self.table.outcomes(case)) for case in drawn])])
            if not rewards.isfinite().all():
                raise rrm.RRMError("the judge gave a reward that is no number")
            logprobs = self.logprobs(drawn, weights)
            chances = logprobs.exp()
            reward = (chances * rewards).sum(1).mean()
            nats = (chances * (logprobs + math.log(logprobs.shape[1]))).sum(1).mean()
            optimizer.zero_grad()
            (settings.kl * nats - reward).backward()
            optimizer.step()
            self.weights = {name: value.detach().clone() for name, value in weights.items()}
            earned.append(reward.item())
            kl = nats.item()
            log(step, {"reward": earned[-1], "kl": kl})
        return ImproveReport(settings.steps, earned[0] if earned else 0.0, earned[-1] if earned else 0.0, kl)

    def state(self) -> dict[str, Tensor]:
        """See `rrm.Agent`."""
        return {name: value.clone() for name, value in self.weights.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `rrm.Agent`."""
        self.weights = _checked(state, self.table.zeros())


class Tasting:
    """Bradley and Terry's model of the user's preferences, in the agent's form, with a normal prior of deviation 1; one
    member, so it never disagrees with itself. Scores have mean 0 and variance 1 over all outcomes."""

    def __init__(self, table: Table) -> None:
        self.table, self._weights = table, dict[str, Tensor]()

    @property
    def weights(self) -> dict[str, Tensor]:
        """What was fitted. Raises `RRMError` before the first fit."""
        if not self._weights:
            raise rrm.RRMError("the reward model is not fitted yet")
        return self._weights

    @property
    def version(self) -> str:
        """Of its weights."""
        return _version(self.weights)

    def score(self, groups: Sequence[Group]) -> list[rrm.Scores]:
        """See `rrm.RewardModel`."""
        everything = self.table.values(self.weights, self.table.cases)
        center, width = everything.mean(), everything.std(correction=0).clamp(min=1e-6)
        found: list[rrm.Scores] = []
        for group in groups:
            values = self.table.values(self.weights, [group.case])[0]
            row = ((values - center) / width)[torch.tensor([self.table.place(o) for o in group.outcomes])]
            found.append(SimpleNamespace(mean=row, std=torch.zeros(len(row)), heads=row[:, None]))
        return found

    def fit(
        self, comparisons: Sequence[rrm.Comparison], settings: rrm.Settings, key: str,
        progress: Progressed | None = None,
    ) -> FitReport:  # fmt: skip
        """See `rrm.Learner`."""
        judged = [one for one in comparisons if one.preference is not None]
        if not judged:
            raise rrm.RRMError("nobody preferred anything")
        at = self.table.rows([one.case for one in judged])
        a, b = (torch.tensor([self.table.place(side) for side in sides]) for sides in
                ([one.a for one in judged], [one.b for one in judged]))  # fmt: skip
        preferred = torch.tensor([one.preference for one in judged])
        weights = {name: value.requires_grad_() for name, value in self.table.zeros().items()}
        optimizer = torch.optim.LBFGS(weights.values(), max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            values = self.table.values(weights, self.table.cases)
            missed = nn.functional.binary_cross_entropy_with_logits(
                values[at, a] - values[at, b], preferred, reduction="sum"
            )
            total = missed + sum((value**2).sum() for value in weights.values()) / 2
            total.backward()
            return total

        optimizer.step(loss)  # type: ignore[no-untyped-call]
        self._weights = {name: value.detach() for name, value in weights.items()}
        return FitReport(len(judged), ties=sum(one.preference == 0.5 for one in judged),
                         abstentions=len(comparisons) - len(judged))  # fmt: skip

    def state(self) -> dict[str, Tensor]:
        """See `rrm.RewardModel`."""
        return {name: value.clone() for name, value in self.weights.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `rrm.RewardModel`."""
        self._weights = _checked(state, self.table.zeros())


@dataclass
class Speakers:
    """The maker of both."""

    table: Table
    world: World = World()

    name = "addressing"

    @property
    def fingerprint(self) -> str:
        """Of what it may do."""
        return digest([case.id for case in self.table.cases], self.table.addresses)

    def policy(self, task: rrm.Task, seed: int) -> Addressing:
        """See `rrm.Maker`."""
        return Addressing(self.table)

    def reward(self, task: rrm.Task, seed: int) -> Tasting:
        """See `rrm.Maker`."""
        return Tasting(self.table)
