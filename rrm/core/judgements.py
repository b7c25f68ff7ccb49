"""Comparisons: what a user is asked, what it says, and what training reports of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field as Kept

from rrm.core.records import Assistance, Case, Group, Outcome, digest
from rrm.core.remarks import Remark, Remarked
from rrm.core.seeding import seed_of

ACCEPT = "accept"
"""The purpose of a comparison that decides whether an improvement stands."""
DERIVED = "derived"
"""The purpose of a comparison that nobody made: it follows from a correction or a demonstration. Fits see such, and
nothing keeps, counts or measures them."""


@dataclass(frozen=True)
class Pair:
    """Two outcomes of one case, and the assistance to be shown on each."""

    task: str
    case: Case
    a: Outcome
    b: Outcome
    assistance_a: tuple[Assistance, ...] = ()
    assistance_b: tuple[Assistance, ...] = ()
    again: int = 0
    """How many times its node asked about these outcomes, by these assistants, before: see `Settings.repeat`."""

    @cached_property
    def id(self) -> str:
        """What was asked: the outcomes, by which versions of which assistants they were examined, and which time."""
        shown = [[(a.assistant, a.version) for a in side] for side in (self.assistance_a, self.assistance_b)]
        return digest(self.task, self.case.id, self.a.id, self.b.id, shown, *self._times)

    @cached_property
    def stream(self) -> str:
        """A name for what is random about it, whichever assistants examined it: a hash of their weights would change
        with the last bit of one, and so with the number of processes."""
        return digest(self.task, self.case.id, self.a.id, self.b.id, *self._times)

    @property
    def _times(self) -> list[int]:
        return [self.again] if self.again else []

    @classmethod
    def of(cls, task: str, group: Group, i: int, j: int) -> Pair:
        """Outcomes `i` and `j` of a group, at the node with the path `task`."""
        return cls(task, group.case, group.outcomes[i], group.outcomes[j], group.seen(i), group.seen(j))

    def swapped(self) -> Pair:
        """B in A's place."""
        return Pair(self.task, self.case, self.b, self.a, self.assistance_b, self.assistance_a, self.again)


@dataclass(frozen=True)
class Check:
    """A claim the user checked: assistant `by` `said` whether a fact's matter holds, and was `right`.

    `by` may be the node itself, by its path: an outcome that is an assistant's answer says something of the facts of
    what it is about, and was checked at its own node.
    """

    by: str
    said: bool
    right: bool
    contested: bool = False
    """Whether an assistant of `by` said otherwise."""
    spot: Annotated[float | None, Kept(exclude_if=lambda chance: chance is None)] = None
    """A spot check: the chance with which it was drawn, at random and whatever anybody said, that this fact of the
    outcome is looked at. None: whoever judges chose to look, or it is not known. Shares of the former say something of
    all that was claimed; those of the latter of what was chosen."""
    side: Annotated[Literal["", "a", "b"], Kept(exclude_if=lambda side: not side)] = ""
    """The outcome of the pair that the claim is about. Empty: it is not known, as in older runs."""
    fact: Annotated[str, Kept(exclude_if=lambda fact: not fact)] = ""
    """The fact of that outcome that was looked at. Empty: an answer as a whole, or it is not known."""
    part: Annotated[int | None, Kept(exclude_if=lambda part: part is None)] = None
    """The part of the fact, from 0, where only that was looked at: it holds, and so who pointed at it was wrong."""

    def turned(self) -> Check:
        """The same check of a pair with B in A's place."""
        return replace(self, side="b" if self.side == "a" else "a") if self.side else self


@dataclass(frozen=True)
class Judgement:
    """The user's preference: 1.0 A is better, 0.0 B is, 0.5 a tie, None no judgement (abstained)."""

    preference: float | None
    checks: tuple[Check, ...] = ()
    attention: int = 0
    """Attention spent."""
    note: str = ""
    assisted: bool = True
    """Whether the pair's assistance was shown, if there is any."""
    by: str = ""
    """Who judged, if that is not simply the user's name."""
    seconds: float | None = None
    """How long the judging took; None: as long as `judge` did."""
    margin: float | None = None
    """Perceived value of A less that of B, where the user has such a thing: how sure the preference is."""
    remarks_a: Annotated[tuple[Remark, ...], Kept(exclude_if=lambda remarks: not remarks)] = ()
    """What is said of A alone; of B: `remarks_b`."""
    remarks_b: Annotated[tuple[Remark, ...], Kept(exclude_if=lambda remarks: not remarks)] = ()


@dataclass(frozen=True)
class Margin:
    """A reward model's view of a comparison: by how much A scores above B, over its ensemble."""

    comparison: str
    mean: float
    """In nats: its logistic is the predicted chance that the user prefers A."""
    std: float
    heldout: bool
    """Whether the comparison was held out from the fit, or judged after it."""


@dataclass(frozen=True)
class Comparison:
    """A pair, the assistance shown, and the user's preference: what reward models are trained on."""

    pair: Pair
    judgement: Judgement
    round: int
    user: str
    seconds: float = 0.0
    purpose: str = ""
    """`ACCEPT` if it was asked whether an improvement stands, which is after its round's fit; `DERIVED` if nobody was;
    else empty."""

    @property
    def id(self) -> str:
        """Of its pair."""
        return self.pair.id

    @property
    def stream(self) -> str:
        """A name for what is random about it; see `Pair.stream`."""
        return digest(self.pair.stream, self.round)

    @property
    def case(self) -> Case:
        """Of its pair; so are the next four."""
        return self.pair.case

    @property
    def a(self) -> Outcome:
        """What was shown as A."""
        return self.pair.a

    @property
    def b(self) -> Outcome:
        """What was shown as B."""
        return self.pair.b

    @property
    def assistance_a(self) -> tuple[Assistance, ...]:
        """What assistants said of A, shown or not."""
        return self.pair.assistance_a

    @property
    def assistance_b(self) -> tuple[Assistance, ...]:
        """What assistants said of B, shown or not."""
        return self.pair.assistance_b

    @property
    def preference(self) -> float | None:
        """The user's: 1.0 A, 0.0 B, 0.5 a tie, None no judgement."""
        return self.judgement.preference

    @property
    def remarks(self) -> list[Remarked]:
        """What was said of A alone, then of B."""
        sides = (
            (self.a, self.assistance_a, self.judgement.remarks_a), (self.b, self.assistance_b, self.judgement.remarks_b)
        )  # fmt: skip
        return [
            Remarked(self.pair.task, self.case, outcome, one, self.user, self.round, said)
            for outcome, said, remarks in sides for one in remarks
        ]  # fmt: skip


def improved_first(key: str, case: str) -> bool:
    """Whether the improved agent's outcome is shown first, as A, where it is judged against the old one's.

    key: of the node's round, the digest of (seed, task, round). case: its id.
    """
    return seed_of("accept", key, case) % 2 == 1


# --- what training reports ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """Something happened at a node. `phase`: open, frame (it samples what its assistants' cases are made of), sample,
    compare, fit, improve, accept, done; or a watcher's own.

    `step` of `of`: how far the phase is; `of` is 0 where it is done in one. A phase that ended has metrics.
    """

    task: str
    round: int
    phase: str
    step: int = 0
    of: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FitReport:
    """How a fit went. Accuracies are of the ensemble's mean, on comparisons of whole outcomes that are not ties; those
    of parts (`Settings.parts`) are told apart."""

    n: int
    """Comparisons trained on."""
    n_holdout: int = 0
    """Comparisons held out, by case or by pair."""
    ties: int = 0
    abstentions: int = 0
    """Comparisons that the user declined to judge: ignored."""
    train_loss: float | None = None
    """Per comparison and head (bootstrap-weighted), over the last epoch."""
    accuracy: float | None = None
    """On what was trained on: it says how well it was fitted, and not how good it is."""
    holdout_accuracy: float | None = None
    decided: int | None = None
    """Comparisons trained on that are not ties, those of parts too."""
    holdout_right: int | None = None
    """Held-out comparisons of whole outcomes that it predicts, of `holdout_decided`."""
    holdout_decided: int | None = None
    """Held-out comparisons of whole outcomes that are not ties."""
    holdout_pairs: int | None = None
    """How many of `n_holdout` were held out by pair, as there were too few cases: their cases were trained on."""
    ignorant: str = ""
    """Why it has learned nothing, so that all it scores is 0; empty if it has learned something."""
    disagreement: float | None = None
    """Mean standard deviation over heads of the training outcomes' scores, in units of normalized score."""
    derived: int | None = None
    """Comparisons trained on that follow from corrections and demonstrations, beside `n`."""
    ratings: int | None = None
    """Ratings and approvals trained on."""
    marks: int | None = None
    """Outcomes that were marked unacceptable or not, of which the constraint was learned."""
    parts: int | None = None
    """How many of `n` are of parts of outcomes."""
    parts_right: int | None = None
    """Held-out comparisons of parts that it predicts, of `parts_decided`."""
    parts_decided: int | None = None
    """Held-out comparisons of parts that are not ties."""
    margins: tuple[Margin, ...] = ()
    """What the fitted model makes of each comparison."""

    def metrics(self) -> dict[str, float]:
        """The numbers by name, those that are None left out."""
        named = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "margins"}
        named["ignorant"] = 1.0 if self.ignorant else None
        named |= {name: named[name] or None for name in ("derived", "ratings", "marks", "parts")}
        named |= {} if self.parts or self.parts_decided else {"parts_right": None, "parts_decided": None}
        return {name: float(value) for name, value in named.items() if value is not None}


def ignorance(n: int, decided: int) -> str:
    """Why a reward model has learned nothing from `n` comparisons, of which `decided` are not ties; of none: from
    ratings."""
    if not n:
        return "all ratings it was fitted to are alike"
    if decided:
        return "it scores all outcomes alike"
    what = "the one comparison" if n == 1 else f"all {n} comparisons"
    return f"{what} it was fitted to {'is a tie' if n == 1 else 'are ties'}"


@dataclass(frozen=True)
class ImproveReport:
    """What one call of an improver did. Rewards and KL are means over a step's outcomes."""

    steps: int
    """Steps in which the weights changed or could have; fewer than asked if `stopped`, maybe none."""
    first_reward: float
    last_reward: float
    kl: float | None = None
    """Nats per outcome to the starting policy, at the last step, or where it stopped; None if nobody counted."""
    skipped: int = 0
    """Groups that gave no signal because their outcomes were rewarded alike."""
    stopped: bool = False
    """Whether the KL limit ended it."""
    undone: bool = False
    """Whether the agent is as it was before, since what was learned earned less."""
