"""Language models as agents and reward models of a tree: the maker over one backbone."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from rrm.core.errors import ConfigError
from rrm.core.judgements import Comparison, FitReport, ImproveReport
from rrm.core.parallel import World
from rrm.core.protocols import Cases, Judge, Log, Progressed
from rrm.core.records import Assistance, Case, Group, Outcome
from rrm.core.remarks import Kind, Remarked
from rrm.core.settings import Settings
from rrm.core.task import Task
from rrm.learning import best_of_n, dpo, rloo
from rrm.learning.cloning import clone
from rrm.learning.fitting import fit_reward
from rrm.learning.improving import Improve
from rrm.learning.rates import usual
from rrm.models.agent import TextAgent
from rrm.models.backbone import TINY, Backbone
from rrm.models.precision import Precision
from rrm.models.probing import probe
from rrm.models.reward import TextRewardModel, trunk

IMPROVERS: dict[str, Improve] = {"rloo": rloo.improve, "dpo": dpo.improve, "best_of_n": best_of_n.improve}
"""`settings.improver` -> the function; all have the same signature."""


class TextPolicy(TextAgent):
    """A language model that can be optimized."""

    def improve(self, judge: Judge, cases: Cases, settings: Settings, key: str, log: Log) -> ImproveReport:
        """See `Policy`; by `settings.improver`."""
        return IMPROVERS[settings.improver](self, judge, cases, settings, key, log)

    def clone(self, shown: Sequence[tuple[Case, Outcome]], settings: Settings, key: str, log: Log) -> None:
        """See `Cloning`."""
        clone(self, shown, settings, key, log)


class TextLearner(TextRewardModel):
    """A reward model that reads, and can be fitted."""

    heeds: tuple[Kind, ...] = ("rating", "approval", "unacceptable", "note")

    def fit(
        self, comparisons: Sequence[Comparison], settings: Settings, key: str, progress: Progressed | None = None,
        remarks: Sequence[Remarked] = (),
    ) -> FitReport:  # fmt: skip
        """See `Learner`, `Heeding` and `fit_reward`."""
        return fit_reward(self, comparisons, settings, key, progress, remarks)

    def too_long(self, comparisons: Sequence[Comparison]) -> list[Comparison]:
        """Those that do not fit into the model's context, with what is said of their outcomes."""
        return [one for one in comparisons if self._fitting(one) != one]

    def shortened(self, comparison: Comparison) -> Comparison | None:
        """The comparison, the ends of its outcomes cut off until it fits; None if nothing tells them apart then."""
        cut = self._fitting(comparison)
        same = cut.a == cut.b or not (cut.a.shown.strip() and cut.b.shown.strip())
        return None if same and cut != comparison else cut

    def _fitting(self, comparison: Comparison) -> Comparison:
        pair = comparison.pair
        a = self._beginning(pair.case, pair.a, pair.assistance_a)
        b = self._beginning(pair.case, pair.b, pair.assistance_b)
        return comparison if (a, b) == (pair.a, pair.b) else replace(comparison, pair=replace(pair, a=a, b=b))

    def _beginning(self, case: Case, outcome: Outcome, said: tuple[Assistance, ...]) -> Outcome:
        """The outcome, or as much of its text as fits beside the case and what is said of it; an empty one if nothing
        does, or if it is more than a text."""

        def length(one: Outcome) -> int:
            (row,) = self.rows([Group(case, (one,), (said,))])
            return len(row.prefix) + len(row.segments[0])

        if length(outcome) <= self.backbone.limit:
            return outcome
        most = 0 if outcome.data is not None else len(outcome.text)
        fits = bisect_right(range(most), self.backbone.limit, key=lambda n: length(Outcome(outcome.text[:n])))
        return Outcome(outcome.text[: max(0, fits - 1)], finished=False, around=(outcome.around[0], ""))


class TextMaker:
    """Makes forks of one backbone: a node's agent and its reward model (Leike et al. 2018, section 3.2).

    Adapters and heads begin at random, by the name of their fork: another seed, another beginning.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.name, self.fingerprint, self.prompts = backbone.name, backbone.fingerprint, backbone.prompts
        self.identity = backbone.identity
        self._decided = ""

    @property
    def world(self) -> World:
        """The backbone's: its passes are what several processes share."""
        return self.backbone.world

    @world.setter
    def world(self, world: World) -> None:
        self.backbone.world = world

    def policy(self, task: Task, seed: int) -> TextPolicy:
        """See `Maker`."""
        fork = self.backbone.fork(f"{task.path} agent, seed {seed}")
        return TextPolicy(self.backbone, fork, task.settings.max_tokens)

    def reward(self, task: Task, seed: int) -> TextLearner:
        """See `Maker`. Its trunk is trained or frozen as `settings.reward_trunk` says."""
        fork = trunk(self.backbone, f"{task.path} reward, seed {seed}", task.settings.reward_trunk)
        return TextLearner(self.backbone, fork, task.settings, len(task.assistants))

    @property
    def device(self) -> str:
        """The kind of device that it computes on: cpu, cuda."""
        return self.backbone.device.type

    @property
    def computing(self) -> str:
        """See `Computing`."""
        return f"{self.backbone.precision.weights} on {self.device}{self._decided}"

    def doubts(self, cases: Sequence[Case]) -> list[str]:
        """What of these cases the model cannot read, in words."""
        return [line] if (line := self.backbone.chat.unread([case.prompt for case in cases])) else []

    def decide(self, before: Mapping[str, Any] | None) -> dict[str, Any]:
        """Adopt the precision and the learning rates that were decided before; or decide them, the precision by what
        was asked for when the model was loaded, else by a probe, and say how. A tiny model is not worth asking:
        float32. Raises `ConfigError` if another was decided before than was asked for."""
        asked = self.backbone.asked
        if before is not None:
            precision = Precision(**before.get("precision", {}))
            if asked not in ("auto", precision.weights):
                raise ConfigError(
                    f"this run computes in {precision.weights}, as was decided when it began, and not in {asked}; "
                    "leave the precision out, or train in another folder"
                )
            self.backbone.precision = precision
            self._decided = self._decided or ", as was decided when the run began"
            # Before there was a choice, all models had the settings' own.
            plain = {name: Settings.model_fields[name].default for name in ("lr", "reward_lr")}
            self.backbone.rates = before.get("rates", plain)
            return dict(before)
        self.backbone.rates = rates = usual(self.backbone)
        if asked != "auto":
            self._decided = ", as asked"
            self.backbone.precision = Precision(asked, "float32" if asked == "float32" else "bfloat16")
            return {"precision": asdict(self.backbone.precision), "probe_seconds": None, "rates": rates}
        tiny = self.backbone.size < TINY
        self.backbone.precision, seconds = (Precision(), None) if tiny else probe(self.backbone)
        if tiny:
            self._decided = ", as every model this small"
        elif seconds:
            other = "float32" if self.backbone.precision.weights == "bfloat16" else "bfloat16"
            self._decided = f", as a probe of this processor decided; --precision {other} for another"
        return {"precision": asdict(self.backbone.precision), "probe_seconds": seconds, "rates": rates}
