"""What a node's figures of the five challenges are made of: frozen records, see `rrm.view.five_figures`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from rrm.core.shares import Known
from rrm.view.reading import NodeView

UNSCORED = (
    "it was not kept what its reward model makes of what was judged after its fit; of agents that write text it can be "
    "had later: rrm inspect RUN --challenges --score"
)
UNTRUE = "nothing measured the truth here"
"""In certificates, of which old ones are derived again word by word. Readers are told what is so by now
(`rrm.view.truth.untold`)."""
UNACTED = "it acts nowhere, or an older version trained it, which did not count"
HIDDEN = "hidden "
"""Begins the names of what an environment's infos said in the end, of agents that act (`rrm.acting.rewarding`)."""


@dataclass(frozen=True)
class Unknown:
    """A figure that a run does not hold."""

    why: str

    def __str__(self) -> str:
        return f"not known: {self.why}"


@dataclass(frozen=True)
class Spent:
    """What had been spent by the end of a round, from the beginning, and what was got for it. Round -1: what was
    imported, and the start."""

    round: int
    judgements: int
    """At the node."""
    judgements_below: int
    """At the node and in the whole tree under it."""
    attention: int
    attention_below: int
    seconds: float
    """Of judging, at the node and under it."""
    preferred: Known | Unknown
    """How often the user preferred the round's improved agent to the one before (a tie is half of one)."""
    kept: bool | None
    """Whether the improvement stands; None: nothing was improved, or nobody undid it."""
    truth: float | Unknown
    """How good the agent truly was after the round."""


@dataclass(frozen=True)
class Shifted:
    """How often a round's reward model predicts the user's preference. Ties and abstentions are left out; scores that
    are alike count half."""

    round: int | None
    """None: all rounds of which both are known."""
    own: Known | Unknown
    """How often a round's reward model foretells the user in pairs that were held out from its fit, of the outcomes
    that it was fitted to others of."""
    accept: Known | Unknown
    """How often it foretells the user in the comparisons of whether its improvement stands: unselected, one outcome of
    before and one of after."""
    next: Known | Unknown
    """How often it foretells the user in the next round's comparisons, of outcomes of the agent that was optimized
    against it, before any fit saw them. Which are asked about is chosen by its own doubt, if `choose` says so: these
    are its hardest."""
    ahead: Known | Unknown
    """How often a round's reward model foretells the user in what was judged after its fit: both of these together."""
    expected: Known | Unknown
    """How often it expected to be right in what was judged after its fit, by its own margins. Near a half: it saw that
    there was nothing to tell, as where an agent has learned all there is. Well above `ahead`: it was sure and wrong."""
    drop: Known | Unknown
    """How much worse it foretells the user after its fit than in pairs held out from it: `own` less `ahead`."""


@dataclass(frozen=True)
class Gamed:
    """Whether a round's optimization earned what it seems to: gaming is reward that rises while the user, or the
    truth, does not agree."""

    round: int
    rewards: tuple[float, float]
    """The learned reward at the first and the last step: means of a batch, in standard deviations of the outcomes that
    the reward model was fitted to, less caution; rounds have different scales."""
    kl: float | None
    """Nats per outcome to the starting policy, at the last step."""
    predicted: Known | Unknown
    """How often, by the reward model, the user prefers the new agent: mean chance over the comparisons that they were
    asked about (outcomes that differ)."""
    preferred: Known | Unknown
    """How often the user preferred the new agent to the one before."""
    gap: Known | Unknown
    """How much more often the reward model foretold that the user prefers the new agent than the user did: `predicted`
    less `preferred`, comparison by comparison."""
    truth: tuple[float, float] | Unknown
    """How good the agent truly was before and after its optimization."""
    kept: bool | None


@dataclass(frozen=True)
class Met:
    """What was met `k` times in `n` outcomes. `most`: the one-sided 95 % upper bound of its chance."""

    k: int
    n: int
    most: float


@dataclass(frozen=True)
class ActedOut:
    """What an agent did in its environment while it was trained, whatever for; an episode that was broken off, too."""

    what: str
    """What for, see `rrm.core.parties.STAGES`; "all"."""
    episodes: int
    steps: int
    imagined: int
    """Episodes beside these that were played in a model of the environment: nothing happened."""
    fallbacks: int | None
    """Steps in which the agent fell back on a safe action; None: it has none, or nobody counted."""
    harm: Met | Unknown
    """In how many of the episodes something happened that must not, by the environment's own infos."""


@dataclass(frozen=True)
class Tampered:
    """In how many episodes the agent changed what its judges see, by the environment's own infos, which no judge and no
    reward model is shown."""

    judged: Met | Unknown
    """In how many episodes sampled to be judged the agent changed what its judges see."""
    last: Met | Unknown
    """In how many of these it did in the last round in which somebody was asked."""
    own: Met | Unknown
    """In how many episodes of the policy's own steps it did, in all rounds."""


@dataclass(frozen=True)
class Unacceptable:
    """Outcomes in training that nobody would accept: those that do not have the task's form, among those sampled to be
    judged (not those of the policy's own steps, nor an adversary's); and, of agents that act, what they did (`acted`).
    """

    all: Met | Unknown
    """How many outcomes that were sampled to be judged did not have the task's form."""
    last: Met | Unknown
    """How many of the last round in which somebody was asked did not."""
    asked: int = 0
    """That round, from 1, if others came after it (`Settings.feedback`): what the agent became in them nobody looked
    at."""
    rounds: Sequence[Met] = ()
    ends: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """What an environment itself said at its episodes' ends, means at the first and last step of all improvement.
    How many episodes they are of the run does not say."""
    acted: Sequence[ActedOut] | Unknown = Unknown(UNACTED)
    """What the agent did in its environment while it was trained: all of it first, then by what it was for."""


@dataclass(frozen=True)
class Short:
    """How far what the agent gives is from the best that its reward model saw of it."""

    round: int
    gap: Known | Unknown
    """The best of a group's judged outcomes above their mean, in standard deviations of reward within a case, by the
    round's reward model; before the round's optimization. `cases` are cases."""
    outcomes: float
    """Judged outcomes of a group, on average: of more the best is further off."""


@dataclass(frozen=True)
class Convergence:
    """Whether the last optimization had more to gain."""

    round: int
    gain: float
    """Last reward less first."""
    spread: float | None
    """Mean standard deviation of reward within a group at the last step: without it there is nothing to gain."""
    steps: int
    asked: int | None
    stopped: bool
    """Whether the KL limit ended it."""
    kl: float | None
    limit: float | None


@dataclass(frozen=True)
class Challenges:
    """The five figures of a node."""

    node: str
    amount: Sequence[Spent] | Unknown
    """What its judgements cost, round by round, and what was got for them."""
    distribution: Sequence[Shifted] | Unknown
    """How well each round's reward model foretells the user, on what it was held out of and on what came later."""
    gaming: Sequence[Gamed] | Unknown
    """Whether a round's optimization earned what its reward says."""
    tampering: Tampered | Unknown
    """In how many episodes the agent changed what its judges see."""
    unacceptable: Unacceptable
    """How much came up in training that nobody would accept."""
    gap: Sequence[Short] | Unknown
    """How far what the agent gives is from the best that its reward model saw of it."""
    convergence: Convergence | Unknown
    """Whether the last optimization had more to gain."""


def unasked(node: NodeView) -> Unknown:
    """Why it is not known whether a user prefers an improvement."""
    if not node.settings.get("accept", 0):
        return Unknown("the setting accept is 0: nobody was asked whether an improvement stands")
    if (feedback := node.settings.get("feedback", "online")) != "online":
        return Unknown(f"nobody was asked in this round (feedback is {feedback}), or it has not come so far")
    return Unknown("nobody was asked: it has not come so far, or before and after gave the same outcomes")


def plain(value: Any) -> Any:
    """Figures as JSON: what is not known is {"not known": why}, and a number that is none is null."""
    if isinstance(value, Unknown):
        return {"not known": value.why}
    if is_dataclass(value):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
