"""A reward model over steps: what a step is worth, summed over an episode, learned from comparisons of episodes.

Christiano et al. 2017 (arXiv 1706.03741), section 2.2: a small network reads (observation, action), its values are
summed over a clip, and the preference of one clip over another is Bradley-Terry in the two sums. An ensemble, each
member with a bootstrap of the comparisons; its disagreement decides what is asked next, and how cautious the agent is.

Beside the sum stands, as for texts (`rrm.models.features.found`), what assistants found, with a weight of its own
(`settings.reward_sees` "assistance"). With "outcome" the steps alone must explain what the user said, assisted or not.

A rating of an episode is about the same sum, against thresholds (`rrm.learning.ordinal`). What was marked unacceptable
teaches a constraint of its own, apart from the reward (`rrm.acting.hazard`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rrm.acting.episodes import episode_of
from rrm.acting.hazard import NAME, Hazard, chance
from rrm.acting.places import Place
from rrm.acting.step_network import LAYERS, begun, scale_of, through
from rrm.acting.step_rows import StepRows, readable
from rrm.core.errors import RRMError
from rrm.core.judgements import DERIVED, Comparison, FitReport, Margin, ignorance
from rrm.core.parts import is_part, whole_case
from rrm.core.protocols import Progressed
from rrm.core.records import Assistance, Case, Group, Outcome
from rrm.core.remarks import Kind, Remarked, of_kind
from rrm.core.seeding import generator
from rrm.core.settings import Settings
from rrm.learning.fitting import HEAD_LR, weights_of
from rrm.learning.heldout import split
from rrm.learning.losses import bradley_terry
from rrm.learning.ordinal import Levels, first_thresholds, levels_of, scales_of, tells
from rrm.models.features import FINDINGS, found
from rrm.models.reward import FLAT, LIMIT, NOTHING, EnsembleScores
from rrm.models.weights import check_keys, hash_tensors

DECAY = 0.01
"""Weight decay of AdamW."""


@dataclass(frozen=True)
class _Judged:
    """Comparisons by the numbers of their outcomes."""

    a: Tensor  # (pairs,)
    b: Tensor
    preference: Tensor
    weight: Tensor  # (pairs, heads)
    case: Tensor  # (pairs,) number of the case
    ids: tuple[str, ...]
    given: Tensor  # (pairs,) bool, whether somebody judged it, and it does not only follow from something
    part: Tensor  # (pairs,) bool, whether it is of parts of outcomes


@dataclass(frozen=True)
class _Rated:
    """Ratings, as rows of thresholds."""

    levels: Levels
    case: Tensor  # (rows,) number of the case
    thresholds: int


class StepReward:
    """An ensemble of `settings.heads` networks over (observation, action), and a weight for each finding. Raises
    `RRMError` where it is asked before the first fit.

    Parameters
    ----------
    name: of the random streams that it begins with.
    seen: numbers of an observation. actions: their space.
    assistants: of how many assistants it knows the findings, in their order; 0: of none.
    quantile: of the members' disagreement about steps that were judged, which is to be known (`bound`); 0: it is not.
    limit: most steps of an episode; one that the environment ended earlier is in an absorbing state until then, whose
        worth is learned (`rrm.acting.step_rows`). 0: it is over when it ended.

    Attributes
    ----------
    constraint: learned of the user's marks; None where not both were seen, what is unacceptable and what is not.
    """

    heeds: tuple[Kind, ...] = ("rating", "approval", "unacceptable")

    def __init__(
        self, name: str, seen: int, actions: spaces.Space[Any], settings: Settings, assistants: int = 0,
        limit: int = 0, quantile: float = 0.0,
    ) -> None:
        self.name, self.settings, self.limit, self.quantile = name, settings, limit, quantile
        self.assistants = assistants if settings.findings and settings.reward_sees == "assistance" else 0
        wide, self._read = readable(actions)
        width, heads = seen + wide + bool(limit), settings.heads
        self.parameters = self._start(width)
        self.norm = {
            "shift": torch.zeros(heads), "scale": torch.ones(()), "center": torch.zeros(width),
            "spread": torch.ones(width), "unit": torch.ones(()),
        } | ({"ends": torch.zeros(())} if limit else {})  # fmt: skip
        if quantile:
            self.norm |= {"middle": torch.zeros(heads), "bound": torch.ones(())}
        self.constraint: Hazard | None = None
        self.fitted = False

    def _start(self, width: int) -> dict[str, Tensor]:
        """Weights at random, by the name."""
        heads = self.settings.heads
        made = begun(width, heads, generator("step reward", self.name))
        made["findings"] = torch.zeros((heads, self.assistants * FINDINGS))
        return made

    # --- what it reads -------------------------------------------------------------------------------

    def rows(self, groups: Sequence[Group], absorbing: bool = True) -> StepRows:
        """The steps of all outcomes, counting through the groups; without those after an end unless `absorbing`."""
        steps, left, beside = [], [], []
        for group in groups:
            limit = self.limit_of(Place.of(group.case)) if self.limit and absorbing else 0
            for i, outcome in enumerate(group.outcomes):
                episode = episode_of(outcome)
                left.append(max(0, limit - len(episode)) if episode.ended else 0)
                made = self.table(torch.as_tensor(episode.observations[:-1]), torch.as_tensor(episode.actions))
                end = [self._over(torch.as_tensor(episode.observations[-1:]))] if left[-1] else []
                steps.append(torch.cat([made, *end]))
                beside.append(self._found(group.seen(i)))
        return StepRows(steps, left, torch.stack(beside))

    def limit_of(self, place: Place) -> int:
        """Steps after which an episode there, or a part of one, is over in any case."""
        return min(self.limit, place.segment or place.steps)

    def table(self, seen: Tensor, actions: Tensor) -> Tensor:
        """Observations (steps, numbers) and actions taken in them -> (steps, numbers)."""
        parts = [seen.float(), self._read(actions)]
        return torch.cat([*parts, torch.zeros(len(seen), 1)] if self.limit else parts, 1)

    def _over(self, seen: Tensor) -> Tensor:
        """Last observations (n, numbers) -> (n, numbers), the absorbing states after them: nothing is done in them."""
        n, width = len(seen), len(self.norm["center"])
        return torch.cat([seen.float(), torch.zeros(n, width - seen.shape[1] - 1), torch.ones(n, 1)], 1)

    def _found(self, assistance: Sequence[Assistance]) -> Tensor:
        if self.assistants and len(assistance) not in (0, self.assistants):
            raise RRMError(
                f"the reward model {self.name!r} knows {self.assistants} assistants, but an outcome comes with the "
                f"assistance of {len(assistance)}; let all of the task's assistants examine it, or set findings=false"
            )
        return found(assistance, self.assistants) if self.assistants else torch.zeros(0)

    # --- what it says --------------------------------------------------------------------------------

    def _values(self, steps: Tensor) -> Tensor:
        """(steps, numbers) -> (steps, heads), what each is worth before normalization."""
        x = (steps - self.norm["center"]) / self.norm["spread"]
        return through(self.parameters, x) * self.norm["unit"]

    def _raw(self, rows: StepRows) -> Tensor:
        """(outcomes, heads)."""
        return rows.summed(self._values(rows.steps)) + rows.beside @ self.parameters["findings"].T

    def _hazards(self, rows: StepRows) -> Tensor:
        """(outcomes, heads), summed over the steps that were made: after its end nothing happens in an episode."""
        assert self.constraint is not None
        hazards = self.constraint.of(rows.steps)
        return rows.summed(hazards if bool(rows.made.all()) else hazards * rows.made[:, None])

    def score(self, groups: Sequence[Group]) -> list[EnsembleScores]:
        """Normalized scores of every outcome of every group."""
        self._known()
        out = []
        for group in groups:  # each alone, so that a score hangs on nothing else that is asked
            with torch.no_grad():
                rows = self.rows([group], self.absorbs)
                raw = self._raw(rows)
                marked = None if self.constraint is None else chance(self._hazards(rows))
            heads = ((raw - self.norm["shift"]) / self.norm["scale"]).clamp(-LIMIT, LIMIT)
            out.append(EnsembleScores(heads.mean(1), heads.std(1, correction=0), heads, marked))
        return out

    def worth(self, seen: Tensor, actions: Tensor) -> Tensor:
        """(steps, heads) of the normalized score: the part that each step has in it. What assistants found is of the
        whole and in no step; nor is what an episode of no steps would get (`nothing`).

        seen: (steps, numbers). actions: as the environment takes them.
        """
        self._known()
        with torch.no_grad():
            return self._values(self.table(seen, actions)) / self.norm["scale"]

    def after(self, seen: Tensor, left: Tensor) -> Tensor:
        """(n, heads) of the normalized score: what is in it for having ended, before the limit; 0 where that is not
        known (`absorbs`).

        seen: (n, numbers) last observations. left: (n,) steps that were left.
        """
        self._known()
        if not self.absorbs:
            return torch.zeros(len(seen), self.settings.heads)
        with torch.no_grad():
            return self._values(self._over(seen)) * left[:, None] / self.norm["scale"]

    def danger(self, seen: Tensor, actions: Tensor) -> Tensor:
        """(steps, heads) the hazard of each step, of which an episode's chance to be unacceptable is made
        (`rrm.acting.hazard.chance` of their sum); 0 where no constraint was learned.

        seen: (steps, numbers). actions: as the environment takes them.
        """
        if self.constraint is None:
            return torch.zeros(len(seen), self.settings.heads)
        with torch.no_grad():
            return self.constraint.of(self.table(seen, actions))

    def doubt(self, seen: Tensor, actions: Tensor) -> Tensor:
        """(steps,) how much the members disagree about a step: the standard deviation of what it is worth to them, in
        units of the score, each member's mean over the steps that were judged (a constant that no comparison of equally
        long episodes knows of) taken away. Of one with a quantile.

        seen: (steps, numbers). actions: as the environment takes them.
        """
        return (self.worth(seen, actions) - self.norm["middle"]).std(1, correction=0)

    @property
    def bound(self) -> Tensor:
        """() the quantile of `doubt` over the steps that its last fit was about."""
        return self.norm["bound"]

    @property
    def absorbs(self) -> bool:
        """Whether an episode goes on after its end: it is to, and the last fit saw one that ended before its limit."""
        return bool(self.limit) and bool(self.norm["ends"])

    @property
    def nothing(self) -> Tensor:
        """(heads,) the normalized score of an episode of no steps, of which nothing was found."""
        self._known()
        return -self.norm["shift"] / self.norm["scale"]

    @property
    def scale(self) -> Tensor:
        """() what a normalized score is multiplied by to be in nats of the user's preference."""
        return self.norm["scale"]

    def _known(self) -> None:
        if not self.fitted:
            raise RRMError(f"the reward model {self.name!r} is not fitted, so its scores are noise; fit or load it")

    @property
    def ignorant(self) -> bool:
        """Whether its last fit taught it nothing: then every score is 0."""
        return self.fitted and not bool(self.norm["scale"].isfinite())

    # --- learning ------------------------------------------------------------------------------------

    def fit(
        self, comparisons: Sequence[Comparison], settings: Settings, key: str, progress: Progressed | None = None,
        remarks: Sequence[Remarked] = (),
    ) -> FitReport:  # fmt: skip
        """See `Learner` and `Heeding`. It begins anew each time: what it has learned hangs on what was judged alone."""
        if not settings.imported:  # what weighs nothing would be fitted as noise
            comparisons = [c for c in comparisons if c.round >= 0]
            remarks = [one for one in remarks if one.round >= 0]
        usable = [c for c in comparisons if c.preference is not None]
        if not usable and not of_kind(remarks, "rating", "approval"):
            raise RRMError(
                f"no comparison and no rating to fit: the user abstained from all {len(comparisons)}; ask other pairs"
                + ("" if settings.imported else ", or let what was imported count (imported)")
            )
        sides = split(usable, settings, remarks, whole_case)
        rated, marked = of_kind(sides.remarks, "rating", "approval"), of_kind(sides.remarks, "unacceptable")
        numbers, groups = _outcomes(usable, [*rated, *marked])
        table = self.rows(groups)
        if self.limit:
            self.norm["ends"] = torch.tensor(float(not table.made.all()))
        within = [*(c.case for c in sides.train), *(one.case for one in rated)]
        cases = {name: n for n, name in enumerate(dict.fromkeys(map(whole_case, within)))}
        train = _judged(sides.train, numbers, settings, cases)
        held = _judged(sides.heldout, numbers, settings, {})
        told = _rated(rated, numbers, settings, cases)
        loss = self._train(table, train, told, settings, key, progress)
        with torch.no_grad():
            raw = self._raw(table)
        if not bool(raw.isfinite().all()):
            raise RRMError(f"the reward model {self.name!r} gives scores that are no numbers; lower reward_lr")
        decided = int(((train.preference != 0.5) & train.given).sum())
        given = sum(c.purpose != DERIVED for c in sides.train)
        shown = torch.unique(torch.cat([train.a, train.b, told.levels.outcome]))
        wholes = torch.tensor([not is_part(group.case) for group in groups])[shown]
        ordered = bool((train.preference != 0.5).any()) or tells(rated)
        learned = self._normalize(raw[shown[wholes] if bool(wholes.any()) else shown], ordered)
        self._mark(table, marked, numbers, settings)
        if self.quantile:
            self._calibrate(table)
        why = "" if learned else ignorance(given, decided)
        raw = raw if learned else torch.zeros_like(raw)
        right, decided_whole = _right(raw, train, parts=False)
        right_out, decided_out = _right(raw, held, parts=False)
        right_part, decided_part = _right(raw, held, parts=True)
        return FitReport(
            n=given, n_holdout=len(held.ids), ties=sum(c.preference == 0.5 for c in usable),
            abstentions=len(comparisons) - len(usable), train_loss=loss,
            accuracy=right / decided_whole if decided_whole and learned else None,
            holdout_accuracy=right_out / decided_out if decided_out and learned else None, decided=decided,
            holdout_right=right_out if learned else None, holdout_decided=decided_out, holdout_pairs=sides.by_pair,
            ignorant=why, disagreement=((raw - raw.mean(0)).std(1, correction=0).mean() / self.norm["scale"]).item(),
            derived=len(train.ids) - given, ratings=len(rated), marks=len(marked),
            parts=sum(is_part(c.case) for c in sides.train if c.purpose != DERIVED),
            parts_right=right_part if learned else None, parts_decided=decided_part,
            margins=(*_margins(raw, train, False), *_margins(raw, held, True)),
        )  # fmt: skip

    def _mark(
        self, table: StepRows, marked: Sequence[Remarked], numbers: Mapping[tuple[str, ...], int], settings: Settings
    ) -> None:
        """Learn the constraint, if anything was marked."""
        self.constraint = None
        marks = torch.tensor([float(one.remark.value or 0) for one in marked])
        if not len(marks):
            return
        rows = table.of(torch.tensor([numbers[_named(one.case, one.outcome, one.assistance)] for one in marked]))
        made, weight = rows.made, weights_of(marked, settings)
        self.constraint = Hazard.fitted(rows.steps[made], rows.owner[made], marks, weight, self.name)

    def _calibrate(self, table: StepRows) -> None:
        """How much the members disagree about what was judged, step by step."""
        with torch.no_grad():
            worth = self._values(table.steps[table.made]) / self.norm["scale"]
        self.norm["middle"] = worth.mean(0)
        apart = (worth - self.norm["middle"]).std(1, correction=0)
        self.norm["bound"] = torch.tensor(np.quantile(apart.numpy(), self.quantile), dtype=torch.float32)

    def _train(
        self, table: StepRows, train: _Judged, told: _Rated, settings: Settings, key: str, progress: Progressed | None
    ) -> float:
        """AdamW over `reward_epochs` passes, the rate falling to 0. Returns the last pass's loss, per head. Thresholds
        of ratings are learned with the network, faster, from where they would be if all outcomes were alike."""
        width, levels = table.steps.shape[1], told.levels
        self.parameters = {name: value.requires_grad_() for name, value in self._start(width).items()}
        self.norm["center"], self.norm["spread"] = scale_of(table.steps, table.times)
        self.norm["unit"] = torch.tensor(table.length**-0.5)  # sums of many steps begin at the size of one
        names = [f"{layer}.{part}" for layer in LAYERS for part in ("weight", "bias")]
        groups: list[dict[str, Any]] = [
            {"params": [self.parameters[name] for name in names]}, {"params": [self.parameters["findings"]]}
        ]  # fmt: skip
        limits = torch.zeros(0, settings.heads)
        if told.thresholds:
            limits = first_thresholds(levels, told.thresholds)[:, None].repeat(1, settings.heads).requires_grad_()
            groups.append({"params": [limits], "weight_decay": 0.0})
        optimizer = torch.optim.AdamW(groups, lr=settings.reward_lr, weight_decay=DECAY)
        rates = [settings.reward_lr, settings.reward_lr, settings.reward_lr * HEAD_LR]
        cases = torch.unique(torch.cat([train.case, told.case]))
        batches = -(-len(cases) // settings.reward_batch)
        total, step, losses = batches * settings.reward_epochs, 0, [math.nan]
        for epoch in range(settings.reward_epochs):
            order = cases[torch.randperm(len(cases), generator=generator("fit", key, epoch))]
            losses = []
            for some in order.split(settings.reward_batch):
                for group, rate in zip(optimizer.param_groups, rates, strict=False):
                    group["lr"] = rate * (total - step) / total
                pairs = torch.isin(train.case, some).nonzero()[:, 0]
                rows = levels.among(torch.isin(told.case, some).nonzero()[:, 0])
                shown, place = torch.unique(
                    torch.cat([train.a[pairs], train.b[pairs], rows.outcome]), return_inverse=True
                )
                raw, n = self._raw(table.of(shown)), len(pairs)
                loss = torch.zeros(())
                if n:
                    a, b = place[:n], place[n : 2 * n]
                    loss = bradley_terry(raw[a], raw[b], train.preference[pairs], train.weight[pairs])
                if len(rows):  # a judgement is one, of which kind it ever is
                    own = bradley_terry(raw[place[2 * n :]], limits[rows.threshold], rows.above, rows.weight)
                    loss = (loss * n + own * len(rows)) / (n + rows.ratings)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], 1.0)
                optimizer.step()
                losses.append(loss.item() / settings.heads)
                step += 1
                if progress is not None:
                    progress(step, total)
        self.parameters = {name: value.detach() for name, value in self.parameters.items()}
        return sum(losses) / len(losses)

    def _normalize(self, raw: Tensor, decided: bool) -> bool:
        """As `TextRewardModel.normalize`: mean 0 for each head, standard deviation 1 of their mean; over whole episodes
        where parts of such were compared, too, since whole ones are what an agent is paid for."""
        self.norm["shift"] = raw.mean(0)
        spread = (raw - self.norm["shift"]).mean(1).std(correction=0)
        learned = decided and bool(spread >= NOTHING)
        self.norm["scale"] = spread.clamp(min=FLAT) if learned else torch.full_like(spread, math.inf)
        self.fitted = True
        return learned

    # --- storage -------------------------------------------------------------------------------------

    def _tensors(self) -> dict[str, Tensor]:
        own = {**self.parameters, **{f"norm.{name}": value for name, value in self.norm.items()}}
        return own if self.constraint is None else own | self.constraint.tensors()

    def state(self) -> dict[str, Tensor]:
        """A copy of what fitting changes."""
        self._known()
        return {name: value.clone() for name, value in self._tensors().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `RewardModel`. Raises `ModelError` on a missing or unexpected key, `RRMError` on another shape."""
        own = {name: value for name, value in self._tensors().items() if not name.startswith(NAME)}
        marks = {name: value for name, value in state.items() if name.startswith(NAME)}
        if marks:
            shapes = begun(len(self.norm["center"]), self.settings.heads, generator("shapes"))
            own |= Hazard(shapes, self.norm["center"], self.norm["spread"]).tensors()
        check_keys(f"the weights of the reward model {self.name!r}", [*own], state)
        for name, value in own.items():
            if value.shape != state[name].shape:
                raise RRMError(
                    f"{self.name}: {name} has shape {tuple(state[name].shape)}, not {tuple(value.shape)}; it was made "
                    "with other `heads`, other assistants or another environment"
                )
        self.parameters = {name: state[name].clone() for name in self.parameters}
        self.norm = {name: state[f"norm.{name}"].clone() for name in self.norm}
        self.constraint = Hazard.of_tensors(marks) if marks else None
        self.fitted = True

    @property
    def version(self) -> str:
        """A hash of its weights."""
        return hash_tensors(sorted(self._tensors().items()))


def _outcomes(
    comparisons: Sequence[Comparison], remarks: Sequence[Remarked]
) -> tuple[dict[tuple[str, ...], int], list[Group]]:
    """Each outcome with what was said of it once, numbered, as groups of one."""
    numbers: dict[tuple[str, ...], int] = {}
    groups = []
    sides = [(c.case, *side) for c in comparisons for side in ((c.a, c.assistance_a), (c.b, c.assistance_b))]
    for case, outcome, said in (*sides, *((one.case, one.outcome, one.assistance) for one in remarks)):
        name = _named(case, outcome, said)
        if name not in numbers:
            numbers[name] = len(numbers)
            groups.append(Group(case, (outcome,), (said,)))
    return numbers, groups


def _named(case: Case, outcome: Outcome, said: Sequence[Assistance]) -> tuple[str, ...]:
    return (case.id, outcome.id, *(one.text for one in said))


def _judged(
    comparisons: Sequence[Comparison], numbers: Mapping[tuple[str, ...], int], settings: Settings,
    cases: Mapping[str, int],
) -> _Judged:  # fmt: skip
    """cases: their numbers; of what is held out none are asked for."""
    return _Judged(
        torch.tensor([numbers[_named(c.case, c.a, c.assistance_a)] for c in comparisons], dtype=torch.long),
        torch.tensor([numbers[_named(c.case, c.b, c.assistance_b)] for c in comparisons], dtype=torch.long),
        torch.tensor([float(c.preference or 0.0) for c in comparisons]),
        weights_of(comparisons, settings),
        torch.tensor([cases.get(whole_case(c.case), -1) for c in comparisons], dtype=torch.long),
        tuple(c.id for c in comparisons),
        torch.tensor([c.purpose != DERIVED for c in comparisons], dtype=torch.bool),
        torch.tensor([is_part(c.case) for c in comparisons], dtype=torch.bool),
    )


def _rated(
    remarks: Sequence[Remarked], numbers: Mapping[tuple[str, ...], int], settings: Settings, cases: Mapping[str, int]
) -> _Rated:
    scales, thresholds = scales_of(remarks)
    places = [numbers[_named(one.case, one.outcome, one.assistance)] for one in remarks]
    levels = levels_of(remarks, places, [*weights_of(remarks, settings)], scales)
    thresholds_of = [one.remark.level[1] - 1 for one in remarks if one.remark.level is not None]
    numbered = torch.tensor([cases[whole_case(one.case)] for one in remarks], dtype=torch.long)
    return _Rated(levels, numbered.repeat_interleave(torch.tensor(thresholds_of, dtype=torch.long)), thresholds)


def _right(raw: Tensor, judged: _Judged, parts: bool) -> tuple[int, int]:
    """Of how many comparisons, of parts or of whole outcomes, the preferred one scores higher, and how many are not
    ties."""
    mean, decided = raw.mean(1), (judged.preference != 0.5) & judged.given & (judged.part == parts)
    agrees = (mean[judged.a] > mean[judged.b]) == (judged.preference > 0.5)
    return int((agrees & decided).sum()), int(decided.sum())


def _margins(raw: Tensor, judged: _Judged, heldout: bool) -> list[Margin]:
    if not judged.ids:
        return []
    margin = raw[judged.a] - raw[judged.b]
    mean, std = margin.mean(1).tolist(), margin.std(1, correction=0).tolist()
    rows = zip(judged.ids, mean, std, strict=True)
    return [Margin(*row, heldout) for row, asked in zip(rows, judged.given.tolist(), strict=True) if asked]
