"""A node's settings. Unknown keys are errors; each field's docstring becomes its `--help`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import pydantic
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)

from rrm.core.errors import RRMError
from rrm.core.remarks import Kind, parse
from rrm.core.spelling import nearest

PYDANTIC = str(Path(pydantic.__file__).parent)
OURS = str(Path(__file__).parent.parent)


class SettingError(RRMError, TypeError):
    """A setting does not exist, or its value is not allowed.

    found: what pydantic found.
    where: the file and line that said it; empty if that was not in a file of somebody's.
    """

    def __init__(self, kind: type[BaseModel], found: ValidationError, where: str) -> None:
        self.found, self.where = found, where
        at = f" ({where})" if where else ""
        super().__init__("\n".join(f"{kind.__name__}{at}: {line}" for line in _explained(kind, found)))


class Explained(BaseModel):
    """Settings whose errors are ours: with the nearest name, and where they were said. (`SettingError` is no
    `ValueError`: pydantic would take it for one of its own.)"""

    @model_validator(mode="wrap")
    @classmethod
    def _made(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(given)
        except ValidationError as error:
            raise SettingError(cls, error, _where()) from None


def _explained(kind: type[BaseModel], found: ValidationError) -> list[str]:
    lines = []
    for fault in found.errors(include_url=False):
        key = ".".join(map(str, fault["loc"])) or "settings"
        field = kind.model_fields.get(str(fault["loc"][0])) if fault["loc"] else None
        if fault["type"] == "extra_forbidden":
            known = [name for name, field in kind.model_fields.items() if not callable(field.default)]
            near = nearest(key, known) or f"; there are {', '.join(known)}"
            lines.append(f"no setting {key!r}{near}")
        else:
            secret = kind.model_config.get("hide_input_in_errors") or field is None or not field.repr
            given = "" if secret or fault["type"] == "missing" else f"={fault['input']!r}"
            doc = f" ({' '.join(field.description.split())})" if field is not None and field.description else ""
            lines.append(f"{key}{given[:80]}: {fault['msg']}{doc}")
    return lines


def _where() -> str:
    """The file and line, outside of rrm and pydantic, that is making settings now."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith((PYDANTIC, __file__)):
        frame = frame.f_back
    file = frame.f_code.co_filename
    if file.startswith((OURS, "<")):
        return ""
    path = Path(file)
    return f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}, line {frame.f_lineno}"


class Settings(Explained):
    """How one node is trained. Set from Python, or on the command line as `--set NODE.KEY=VALUE`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    # the loop
    rounds: int = Field(default=2, ge=1)
    """Turns of the loop: sample, assist, compare, fit, improve."""
    until: float = Field(default=0.0, ge=0, le=1)
    """Go on beyond `rounds`, to `most_rounds` at most, until the reward model predicts at least this share of the
    comparisons held out from its fit (with `holdout` 0: of those it was fitted to), and a round's optimization gains
    less than `settled`. 0: `rounds` and no more. A level's errors are in everything above it, so it should have
    converged before the next is built on it."""
    most_rounds: int = Field(default=8, ge=1)
    """Limit of the rounds that `until` adds up to."""
    settled: float = Field(default=0.1, ge=0)
    """See `until`; in units of reward, whose variance is 1."""
    feedback: str = Field(default="online", pattern=r"^(online|frozen|refresh=[1-9][0-9]{0,3})$")
    """When the user judges: in every round (online); in the first only, after which the agent goes on being optimized
    against a reward model that stays as it is (frozen); or in the first and every N-th after it (refresh=N). In other
    rounds nobody is asked whether the improvement stands. Online feedback is the paper's first approach (Leike et al.
    2018, 5.1); frozen is what it helps against (Ibarz et al. 2018, arXiv 1811.06521)."""
    ask: str = ""
    """What the user also says of each outcome of a pair, beside which is better, separated by commas: rating (of 5
    levels; rating=7 of 7), approval, unacceptable, correction, note. Ratings and approvals teach the reward model, too;
    of what is marked unacceptable a constraint is learned (`unacceptable`); see `rrm.core.remarks`."""
    begin: Literal["start", "assistant"] = "start"
    """The weights that the agent begins with: the starting model's, or those of its first assistant, where the two do
    the same kind of thing (a chain: `rrm.climb`)."""
    cases: int = Field(default=48, ge=1)
    """Cases drawn for judging in each round."""
    outcomes: int = Field(default=4, ge=2)
    """Outcomes sampled for each of those cases."""
    comparisons: int = Field(default=200, ge=1)
    """The user's comparisons in each round."""
    choose: Literal["disagreement", "random"] = "disagreement"
    """Which pairs the user is asked about: where the ensemble disagrees most, or any."""
    repeat: bool = False
    """Ask about a pair as often as it comes up, where cases have few outcomes and the user's noise is drawn anew for
    each question (people, --user playout; that of --user bounded hangs on the outcome); else once a round."""
    refresh: int = Field(default=0, ge=0)
    """Extra rounds of training for each assistant in each later round of its parent, on the parent's new outcomes."""
    parts: float = Field(default=0.0, ge=0, lt=1)
    """Share of a round's comparisons that are about parts of outcomes, the others about whole ones: one reward model
    learns from both (hierarchical feedback: Leike et al. 2018, 5.4). Of each outcome that is sampled to be judged one
    part is cut: of an episode `part_steps` steps, anywhere in it; of a text, where its task says what parts there are
    (`Task.divide`), one of a name that is drawn for its case (a section, the first steps). Rounded down."""
    part_steps: int = Field(default=12, ge=1)
    """Steps of such a part of an episode; a shorter one is one part."""
    frame_cases: int = Field(default=16, ge=0)
    """Extra cases sampled, beyond `cases`, to build subtasks' cases."""

    # outcomes
    max_tokens: int = Field(default=96, ge=1)
    """Longest outcome, in tokens."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature of outcomes that are judged, and of those that subtasks' cases are built from. Improvers
    always sample at 1: the KL is estimated of the policy's own distribution."""
    explore: float = Field(default=0.0, ge=0, lt=1)
    """Share of the outcomes to be judged, and of those that best_of_n chooses from, that the agent samples with the
    weights of the starting model: what the policy gave up too early still comes up. Rounded down."""
    adversary: float = Field(default=0.0, ge=0, lt=1)
    """Share of the outcomes to be judged, from the second round on, that an adversary writes: the agent optimized by
    as many steps again against the reward model as it is, without caution and at no price of KL. What the reward model
    overrates so comes up, and is judged (adversarial training: Leike et al. 2018, 5.8). Rounded down."""
    drafts: int = Field(default=2, ge=1)
    """Drafts of each answer a user will see; the reward model picks the best. 1: the greedy answer."""

    abstain: float = Field(default=0.0, ge=0)
    """An assistant answers N/A, and the user looks for themselves, where its reward model's heads differ on the answer
    by more than so many standard deviations of reward (a fallback where it is uncertain: Leike et al. 2018, 5.9). 0: it
    always answers. Nobody sees the drafts of policy optimization, which stay as they are."""

    # the reward model
    reward_sees: Literal["assistance", "outcome"] = "assistance"
    """What the reward model reads beside the case: the outcome and its assistance, or the outcome only."""
    surprise: bool = True
    """Give the reward model the outcome's log-probabilities under the starting model (an inductive bias)."""
    findings: bool = True
    """Give the reward model, beside the text of the assistance, the share of facts that each assistant, and the
    deepest that speaks of them, calls wrong (an inductive bias)."""
    reward_trunk: Literal["auto", "trained", "frozen"] = "auto"
    """Train the reward model's trunk with its heads, or keep it frozen and compute its features once: refits take
    less than a second. auto: frozen on a CPU, trained on a GPU."""
    heads: int = Field(default=4, ge=1)
    """Reward heads in the bootstrap ensemble."""
    reward_epochs: int = Field(default=2, ge=1)
    """Passes over all comparisons so far, in each round (trained trunk; this and the next two)."""
    reward_lr: float = Field(default=1e-3, gt=0)
    """Learning rate of the reward model's trunk, if it is trained. Unless it is set, by the model's size: adapters get
    2e-4 (`rrm.learning.rates`)."""
    notes: float = Field(default=0.0, ge=0)
    """Weight of what the user's notes teach the reward model (`ask` note; trained trunk): to foretell them, in mean
    nats a token, beside the loss of comparisons (`rrm.learning.noting`). 0: they are kept and shown."""
    reward_batch: int = Field(default=16, ge=1)
    """Cases in one step of reward-model training."""
    imported: float = Field(default=1.0, ge=0)
    """Weight of a judgement that was imported, of outcomes that this agent did not produce, against one that was asked
    for in training (off-policy feedback: Leike et al. 2018, 5.2)."""
    holdout: float = Field(default=0.1, ge=0, lt=1)
    """Share of cases whose comparisons are kept for measuring the reward model; of pairs, while there are fewer
    than ten cases."""
    holdout_by: Literal["auto", "case", "pair"] = "auto"
    """What is held out: cases, unless there are fewer than ten (auto); cases; or pairs, where cases are few and each is
    needed."""

    too_long: Literal["error", "skip", "cut"] = "error"
    """What becomes of comparisons that are too long for the model (imported ones, say): an error that names the first;
    left out of the fit; or the ends of their outcomes cut off for it. The run says how many."""

    # the improver
    improver: Literal["rloo", "dpo", "best_of_n"] = "rloo"
    """How the agent is optimized against the reward model."""
    steps: int = Field(default=16, ge=0)
    """Policy steps in each round."""
    batch: int = Field(default=16, ge=1)
    """Cases in a policy step."""
    group: int = Field(default=8, ge=2)
    """Outcomes sampled for each of them."""
    lr: float = Field(default=5e-4, gt=0)
    """Learning rate of the agent: reached in 3 steps, falling linearly to 0 over the round. Unless it is set, by the
    model's size: adapters get 2e-4 (`rrm.learning.rates`)."""
    kl: float = Field(default=0.05, ge=0)
    """Price of a nat of KL to the starting policy, per outcome, in units of reward (its variance is 1)."""
    max_kl: float = Field(default=8.0, gt=0)
    """Stop a round's optimization when the mean KL per outcome to the starting policy exceeds this many nats. The KL
    adds up over rounds: a round that begins above the limit takes no step."""
    caution: float = Field(default=0.5, ge=0)
    """The agent optimizes mean - caution * standard deviation of the ensemble."""
    malformed: float = -3.0
    """At most this reward for an outcome that does not parse: a side-constraint (Leike et al. 2018, 5.7)."""
    unacceptable: float = Field(default=1.0, ge=0, le=1)
    """At most this share of the agent's outcomes may be unacceptable, by a constraint that is learned from what was
    marked so (`ask`), apart from the reward. It is held by a multiplier that grows while it is broken (a Lagrangian:
    Leike et al. 2018, 5.7; Dai et al. 2023, arXiv 2310.12773, section 3.3). 1: no constraint."""
    multiplier: float = Field(default=0.05, gt=0)
    """How fast the multiplier of `unacceptable` grows: by so much, in units of reward, for each outcome that is
    unacceptable beyond what may be."""
    clone: int = Field(default=0, ge=0)
    """Passes over the demonstrations that are in the run, before the first round: the agent learns to do what was
    demonstrated (behavior cloning: Leike et al. 2018, 5.3)."""
    demonstrated: int = Field(default=16, ge=0)
    """Cases of demonstrations, in each round, of which the agent's own outcomes are sampled, too: the reward model
    learns that a demonstration is better than these (Ibarz et al. 2018, arXiv 1811.06521, section 2.2). Nobody is asked
    about them. 0: none."""
    accept: int = Field(default=24, ge=0)
    """Comparisons of the improved agent with the one before. The improvement is kept unless the user clearly prefers
    the old agent."""
    beta: float = Field(default=0.1, gt=0)
    """DPO's inverse temperature."""

    @field_validator("ask")
    @classmethod
    def _kinds(cls, ask: str) -> str:
        parse(ask)
        return ask

    @property
    def asked(self) -> Mapping[Kind, int]:
        """Kinds of remarks that the user is asked for -> levels, of ratings; see `ask`."""
        return parse(self.ask)

    @property
    def constrained(self) -> bool:
        """Whether `unacceptable` is to be held."""
        return self.unacceptable < 1

    @property
    def adversarial(self) -> int:
        """Outcomes of each judged case that the adversary writes; see `adversary`."""
        return int(self.adversary * self.outcomes)

    @property
    def partial(self) -> int:
        """Comparisons of a round that are about parts of outcomes; see `parts`."""
        return int(self.parts * self.comparisons)

    @property
    def explored(self) -> int:
        """Outcomes of each judged case that are sampled with the starting model's weights; see `explore`."""
        return int(self.explore * self.outcomes)

    def asks(self, round: int) -> bool:
        """Whether the user judges in this round, from 0: see `feedback`."""
        if self.feedback == "frozen":
            return round == 0
        return round % int(self.feedback.partition("=")[2] or 1) == 0
