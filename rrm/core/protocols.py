"""What a run asks of an agent, a reward model, and a supply of cases: the seam at which another kind of agent plugs in.

Nothing in `rrm.loop` or `rrm.store` knows that outcomes are text. `rrm.learning.text_maker` is the pair over a language
model; a bandit of 40 lines is in `examples/custom_agent.py`. `rrm.testing` checks these contracts for
any implementation.
Who makes a pair for a task, who judges and who watches: `rrm.core.parties`.

Shapes: a group has n outcomes; an ensemble has `heads` members. Rewards and scores are in standard deviations of the
outcomes that the reward model was fitted on; log-probabilities and KL are in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from rrm.core.judgements import Comparison, FitReport, ImproveReport
from rrm.core.records import Answer, Case, Group, Outcome
from rrm.core.remarks import Kind
from rrm.core.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor  # looking at a run needs no torch, which takes seconds and 200 MB

Judge = Callable[[Sequence[Group]], "Sequence[Tensor]"]
"""Rewards of the outcomes of each group, (n,) each and finite: what a policy is optimized for. A judge that cannot
judge raises; it never gives a made-up number."""
Log = Callable[[int, dict[str, float]], None]
"""Receives a step of an optimization, from 0, and its metrics."""
Progressed = Callable[[int, int], None]
"""Receives the step just done, from 1, and the number of steps."""


class Cases(Protocol):
    """Where a task's cases come from."""

    def draw(self, n: int, key: str) -> list[Case]:
        """`n` cases. They depend on `n` and `key` only, so that a resumed run repeats them."""


class Agent(Protocol):
    """Produces outcomes: a language model, a tool, an endpoint, a policy in an environment."""

    @property
    def version(self) -> str:
        """A short name of everything that decides its outcomes. Another after any change of weights."""

    @property
    def repeatable(self) -> bool:
        """Whether the same call of `sample` gives the same outcomes in another process on this machine. Where it does
        not (a server, a real environment), a run keeps the outcomes before anyone is asked about them, and a resumed
        run reads them."""

    def sample(
        self, cases: Sequence[Case], n: int, key: str, temperature: float = 1.0, greedy: bool = False
    ) -> list[Group]:
        """A group of `n` outcomes for each case, in order; for no cases, no groups.

        Parameters
        ----------
        key: names the random stream. Another key, other outcomes.
        temperature: of sampling, where the agent has such a thing.
        greedy: the outcomes it thinks best; `key` and `temperature` then do not matter.
        """

    def state(self) -> dict[str, Tensor]:
        """A copy of everything that training changes, on the CPU."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Become what `state` was taken of. Raises `RRMError` on a missing or unexpected key or shape."""


class Policy(Agent, Protocol):
    """An agent that can be optimized."""

    def improve(self, judge: Judge, cases: Cases, settings: Settings, key: str, log: Log) -> ImproveReport:
        """Optimize against `judge` on cases drawn from `cases`, in place, as `settings` say.

        Everything random in it is named by `key`. Calls `log` after each step. Raises `RRMError` if a reward is not
        finite, or if there are no cases. Where the policy has a starting policy to stay near, `settings.kl` is the
        price of a nat, and `settings.max_kl` ends it; the report says so.
        """


class Scores(Protocol):
    """A reward model's judgement of a group's outcomes. One that has learned a constraint (`Heeding`) says in a further
    attribute, `unacceptable` (n,), how likely the user would mark each outcome so; else that is None, or not there."""

    @property
    def mean(self) -> Tensor:
        """(n,) over the ensemble."""

    @property
    def std(self) -> Tensor:
        """(n,) over the ensemble; zeros where it has one member."""

    @property
    def heads(self) -> Tensor:
        """(n, heads) the members' own. Where they differ most, a user is asked first."""


class RewardModel(Protocol):
    """Predicts the user's judgement, with its own uncertainty."""

    @property
    def version(self) -> str:
        """A short name of everything that decides its scores. Another after any change of weights."""

    def score(self, groups: Sequence[Group]) -> Sequence[Scores]:
        """For each group, in order. Scores do not depend on what else is asked in the same call. Raises `RRMError`
        before the first fit."""

    def state(self) -> dict[str, Tensor]:
        """A copy of everything that fitting changes, on the CPU. Raises `RRMError` before the first fit."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Become what `state` was taken of. Raises `RRMError` on a missing or unexpected key or shape."""


@runtime_checkable
class Knowing(Protocol):
    """A reward model that can tell that it has learned nothing. Its scores are then no ground for a confidence."""

    @property
    def ignorant(self) -> bool:
        """Whether its last fit taught it nothing: no comparison had a preference, or all outcomes score alike."""


@runtime_checkable
class Heeding(Protocol):
    """A reward model that learns from remarks, too: its `fit` takes them as a further argument, `remarks`, all of a
    node's so far (`rrm.core.remarks`), wherever there are any."""

    @property
    def heeds(self) -> tuple[Kind, ...]:
        """The kinds that it learns from. One that learns of what is unacceptable says so in its scores (`Scores`)."""


@runtime_checkable
class Cloning(Protocol):
    """A policy that can begin with what others did."""

    def clone(self, shown: Sequence[tuple[Case, Outcome]], settings: Settings, key: str, log: Log) -> None:
        """`settings.clone` passes of maximum likelihood over demonstrations, in place (behavior cloning). Everything
        random in it is named by `key`. Calls `log` after each pass, with its `loss`: mean nats of an outcome."""


class Learner(RewardModel, Protocol):
    """A reward model that can be fitted."""

    def fit(
        self, comparisons: Sequence[Comparison], settings: Settings, key: str, progress: Progressed | None = None
    ) -> FitReport:
        """Learn from all of a node's comparisons so far, the earlier rounds' included.

        Everything random in it is named by `key`. Preferences of None (the user abstained) teach nothing. Raises
        `RRMError` if nobody preferred anything.
        """


class Memo(Protocol):
    """What was already asked. `put` is atomic: all answers of one call are remembered, or none."""

    def get(self, version: str, cases: Sequence[Case]) -> Mapping[str, Answer]:
        """Case id -> the answer that this version of an assistant gave, for the cases that it was asked about."""

    def put(self, version: str, answers: Mapping[str, Answer]) -> None:
        """Remember answers, by case id. One that is there already stays as it is."""
