"""A reward model over steps: what a step is worth, summed over an episode, learned from comparisons of episodes.

Christiano et al. 2017 (arXiv 1706.03741), section 2.2: a small network reads (observation, action), its values are
summed over a clip, and the preference of one clip over another is Bradley-Terry in the two sums. An ensemble, each
member with a bootstrap of the comparisons; its disagreement decides what is asked next, and how cautious the agent is.

Beside the sum stands, as for texts (`rrm.models.features.found`), what assistants found, with a weight of its own
(`settings.reward_sees` "assistance"). With "outcome" the steps alone must explain what the user said, assisted or not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rrm.acting.episodes import episode_of
from rrm.acting.places import CUT, whole_case
from rrm.core.errors import RRMError
from rrm.core.judgements import Comparison, FitReport, Margin, ignorance
from rrm.core.protocols import Progressed
from rrm.core.records import Assistance, Group, Outcome
from rrm.core.seeding import generator
from rrm.core.settings import Settings
from rrm.learning.fitting import bootstrap
from rrm.learning.heldout import hold_out
from rrm.learning.losses import bradley_terry
from rrm.models.features import FINDINGS, found
from rrm.models.reward import FLAT, LIMIT, NOTHING, EnsembleScores
from rrm.models.weights import check_keys, hash_tensors

WIDTH = 64
"""Of the two hidden layers, as in Christiano et al. 2017, appendix A.1."""
DECAY = 0.01
"""Weight decay of AdamW."""


def readable(actions: spaces.Space[Any]) -> tuple[int, Callable[[Tensor], Tensor]]:
    """How many numbers an action is read as, and the reading: (steps,) or (steps, numbers) -> (steps, numbers)."""
    if isinstance(actions, spaces.Discrete):
        n = int(actions.n)
        return n, lambda taken: nn.functional.one_hot(taken.long(), n).float()
    if isinstance(actions, spaces.MultiDiscrete):
        sizes = [int(n) for n in actions.nvec.ravel()]
        return sum(sizes), lambda taken: torch.cat(
            [nn.functional.one_hot(taken[:, i].long(), n).float() for i, n in enumerate(sizes)], 1
        )
    width = int(np.prod(actions.shape or (1,)))
    return width, lambda taken: taken.float().reshape(len(taken), width)


class _Rows:
    """Outcomes as one table of steps. beside: (outcomes, numbers) of what assistants found."""

    def __init__(self, steps: Sequence[Tensor], beside: Tensor) -> None:
        self._parts = [*steps]
        self.steps = torch.cat(self._parts)  # (steps of all, numbers)
        self.beside = beside
        sizes = torch.tensor([len(rows) for rows in steps])
        self.owner = torch.arange(len(steps)).repeat_interleave(sizes)
        self.length = float(sizes.float().mean())

    def of(self, outcomes: Tensor) -> _Rows:
        """Some of the outcomes, in this order."""
        return _Rows([self._parts[i] for i in outcomes.tolist()], self.beside[outcomes])


@dataclass(frozen=True)
class _Judged:
    """Comparisons by the numbers of their outcomes."""

    a: Tensor  # (pairs,)
    b: Tensor
    preference: Tensor
    weight: Tensor  # (pairs, heads)
    case: Tensor  # (pairs,) number of the case
    ids: tuple[str, ...]


class StepReward:
    """An ensemble of `settings.heads` networks over (observation, action), and a weight for each finding. Raises
    `RRMError` where it is asked before the first fit.

    Parameters
    ----------
    name: of the random streams that it begins with.
    seen: numbers of an observation. actions: their space.
    assistants: of how many assistants it knows the findings, in their order; 0: of none.
    """

    def __init__(
        self, name: str, seen: int, actions: spaces.Space[Any], settings: Settings, assistants: int = 0
    ) -> None:
        self.name, self.settings = name, settings
        self.assistants = assistants if settings.findings and settings.reward_sees == "assistance" else 0
        wide, self._read = readable(actions)
        self.parameters = self._start(seen + wide)
        heads = settings.heads
        self.norm = {
            "shift": torch.zeros(heads), "scale": torch.ones(()), "center": torch.zeros(seen + wide),
            "spread": torch.ones(seen + wide), "unit": torch.ones(()),
        }  # fmt: skip
        self.fitted = False

    def _start(self, width: int) -> dict[str, Tensor]:
        """Weights at random, by the name: uniform as torch begins linear layers; members apart."""
        rng, heads = generator("step reward", self.name), self.settings.heads
        shapes = {"one": (width, WIDTH), "two": (WIDTH, WIDTH), "three": (WIDTH, 1)}
        made = {}
        for layer, (into, out) in shapes.items():
            bound = 1 / math.sqrt(into)
            made[f"{layer}.weight"] = (torch.rand((heads, into, out), generator=rng) * 2 - 1) * bound
            made[f"{layer}.bias"] = (torch.rand((heads, 1, out), generator=rng) * 2 - 1) * bound
        made["findings"] = torch.zeros((heads, self.assistants * FINDINGS))
        return made

    # --- what it reads -------------------------------------------------------------------------------

    def rows(self, groups: Sequence[Group]) -> _Rows:
        """The steps of all outcomes, counting through the groups."""
        steps, beside = [], []
        for group in groups:
            for i, outcome in enumerate(group.outcomes):
                steps.append(self.steps(outcome))
                beside.append(self._found(group.seen(i)))
        return _Rows(steps, torch.stack(beside))

    def steps(self, outcome: Outcome) -> Tensor:
        """(steps, numbers) of an outcome."""
        episode = episode_of(outcome)
        return self.table(torch.as_tensor(episode.observations[:-1]), torch.as_tensor(episode.actions))

    def table(self, seen: Tensor, actions: Tensor) -> Tensor:
        """Observations (steps, numbers) and actions taken in them -> (steps, numbers)."""
        return torch.cat([seen.float(), self._read(actions)], 1)

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
        p = self.parameters
        x = (steps - self.norm["center"]) / self.norm["spread"]
        one = nn.functional.leaky_relu(x @ p["one.weight"] + p["one.bias"], 0.01)  # (heads, steps, WIDTH)
        two = nn.functional.leaky_relu(one @ p["two.weight"] + p["two.bias"], 0.01)
        return (two @ p["three.weight"] + p["three.bias"])[..., 0].T * self.norm["unit"]

    def _raw(self, rows: _Rows) -> Tensor:
        """(outcomes, heads)."""
        sums = torch.zeros((len(rows.beside), self.settings.heads)).index_add(0, rows.owner, self._values(rows.steps))
        return sums + rows.beside @ self.parameters["findings"].T

    def score(self, groups: Sequence[Group]) -> list[EnsembleScores]:
        """Normalized scores of every outcome of every group."""
        self._known()
        out = []
        for group in groups:  # each alone, so that a score hangs on nothing else that is asked
            with torch.no_grad():
                raw = self._raw(self.rows([group]))
            heads = ((raw - self.norm["shift"]) / self.norm["scale"]).clamp(-LIMIT, LIMIT)
            out.append(EnsembleScores(heads.mean(1), heads.std(1, correction=0), heads))
        return out

    def worth(self, seen: Tensor, actions: Tensor) -> Tensor:
        """(steps, heads) of the normalized score: the part that each step has in it. What assistants found is of the
        whole and in no step; nor is what an episode of no steps would get (`nothing`).

        seen: (steps, numbers). actions: as the environment takes them.
        """
        self._known()
        with torch.no_grad():
            return self._values(self.table(seen, actions)) / self.norm["scale"]

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
        self, comparisons: Sequence[Comparison], settings: Settings, key: str, progress: Progressed | None = None
    ) -> FitReport:
        """See `Learner`. It begins anew each time: what it has learned hangs on the comparisons alone."""
        usable = [c for c in comparisons if c.preference is not None]
        if not usable:
            raise RRMError(f"no comparison to fit: the user abstained from all {len(comparisons)}; ask other pairs")
        by_case, by_pair = hold_out(usable, settings.holdout, settings.holdout_by, lambda c: whole_case(c.case))
        away = by_case | by_pair
        if len(away) == len(usable):
            away, by_pair = set(), set()
        numbers, groups = _outcomes(usable)
        table = self.rows(groups)
        train = _judged([c for i, c in enumerate(usable) if i not in away], numbers, settings.heads)
        held = _judged([c for i, c in enumerate(usable) if i in away], numbers, settings.heads)
        loss = self._train(table, train, settings, key, progress)
        with torch.no_grad():
            raw = self._raw(table)
        if not bool(raw.isfinite().all()):
            raise RRMError(f"the reward model {self.name!r} gives scores that are no numbers; lower reward_lr")
        decided = int((train.preference != 0.5).sum())
        shown = torch.unique(torch.cat([train.a, train.b]))
        wholes = torch.tensor([CUT not in group.case.data for group in groups])[shown]
        learned = self._normalize(raw[shown[wholes] if bool(wholes.any()) else shown], decided > 0)
        why = "" if learned else ignorance(len(train.ids), decided)
        raw = raw if learned else torch.zeros_like(raw)
        right, _ = _right(raw, train)
        right_out, decided_out = _right(raw, held)
        return FitReport(
            n=len(train.ids), n_holdout=len(held.ids), ties=sum(c.preference == 0.5 for c in usable),
            abstentions=len(comparisons) - len(usable), train_loss=loss,
            accuracy=right / decided if decided and learned else None,
            holdout_accuracy=right_out / decided_out if decided_out and learned else None, decided=decided,
            holdout_right=right_out if learned else None, holdout_decided=decided_out, holdout_pairs=len(by_pair),
            ignorant=why, disagreement=((raw - raw.mean(0)).std(1, correction=0).mean() / self.norm["scale"]).item(),
            margins=(*_margins(raw, train, False), *_margins(raw, held, True)),
        )  # fmt: skip

    def _train(
        self, table: _Rows, train: _Judged, settings: Settings, key: str, progress: Progressed | None
    ) -> float:
        """AdamW over `reward_epochs` passes, the rate falling to 0. Returns the last pass's loss, per head."""
        width = table.steps.shape[1]
        self.parameters = {name: value.requires_grad_() for name, value in self._start(width).items()}
        spread = table.steps.std(0, correction=0)
        self.norm["center"], self.norm["spread"] = table.steps.mean(0), torch.where(spread < 1e-6, 1.0, spread)
        self.norm["unit"] = torch.tensor(table.length**-0.5)  # sums of many steps begin at the size of one
        names = [f"{layer}.{part}" for layer in ("one", "two", "three") for part in ("weight", "bias")]
        optimizer = torch.optim.AdamW(
            [{"params": [self.parameters[name] for name in names]}, {"params": [self.parameters["findings"]]}],
            lr=settings.reward_lr, weight_decay=DECAY,
        )
        cases = torch.unique(train.case)
        batches = -(-len(cases) // settings.reward_batch)
        total, step, losses = batches * settings.reward_epochs, 0, [math.nan]
        for epoch in range(settings.reward_epochs):
            order = cases[torch.randperm(len(cases), generator=generator("fit", key, epoch))]
            losses = []
            for some in order.split(settings.reward_batch):
                for group in optimizer.param_groups:
                    group["lr"] = settings.reward_lr * (total - step) / total
                pairs = torch.isin(train.case, some).nonzero()[:, 0]
                shown, place = torch.unique(torch.cat([train.a[pairs], train.b[pairs]]), return_inverse=True)
                raw = self._raw(table.of(shown))
                a, b = place[: len(pairs)], place[len(pairs) :]
                loss = bradley_terry(raw[a], raw[b], train.preference[pairs], train.weight[pairs])
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
        return {**self.parameters, **{f"norm.{name}": value for name, value in self.norm.items()}}

    def state(self) -> dict[str, Tensor]:
        """A copy of what fitting changes."""
        self._known()
        return {name: value.clone() for name, value in self._tensors().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `RewardModel`. Raises `ModelError` on a missing or unexpected key, `RRMError` on another shape."""
        own = self._tensors()
        check_keys(f"the weights of the reward model {self.name!r}", [*own], state)
        for name, value in own.items():
            if value.shape != state[name].shape:
                raise RRMError(
                    f"{self.name}: {name} has shape {tuple(state[name].shape)}, not {tuple(value.shape)}; it was made "
                    "with other `heads`, other assistants or another environment"
                )
        self.parameters = {name: state[name].clone() for name in self.parameters}
        self.norm = {name: state[f"norm.{name}"].clone() for name in self.norm}
        self.fitted = True

    @property
    def version(self) -> str:
        """A hash of its weights."""
        return hash_tensors(sorted(self._tensors().items()))


def _outcomes(comparisons: Sequence[Comparison]) -> tuple[dict[tuple[str, ...], int], list[Group]]:
    """Each outcome with what was said of it once, numbered, as groups of one."""
    numbers: dict[tuple[str, ...], int] = {}
    groups = []
    for c in comparisons:
        for outcome, said in ((c.a, c.assistance_a), (c.b, c.assistance_b)):
            name = _named(c, outcome, said)
            if name not in numbers:
                numbers[name] = len(numbers)
                groups.append(Group(c.case, (outcome,), (said,)))
    return numbers, groups


def _named(comparison: Comparison, outcome: Outcome, said: Sequence[Assistance]) -> tuple[str, ...]:
    return (comparison.case.id, outcome.id, *(one.text for one in said))


def _judged(comparisons: Sequence[Comparison], numbers: Mapping[tuple[str, ...], int], heads: int) -> _Judged:
    cases = {case: n for n, case in enumerate(dict.fromkeys(whole_case(c.case) for c in comparisons))}
    return _Judged(
        torch.tensor([numbers[_named(c, c.a, c.assistance_a)] for c in comparisons], dtype=torch.long),
        torch.tensor([numbers[_named(c, c.b, c.assistance_b)] for c in comparisons], dtype=torch.long),
        torch.tensor([float(c.preference or 0.0) for c in comparisons]),
        torch.stack([bootstrap(c.stream, heads) for c in comparisons]) if comparisons else torch.zeros(0, heads),
        torch.tensor([cases[whole_case(c.case)] for c in comparisons], dtype=torch.long),
        tuple(c.id for c in comparisons),
    )


def _right(raw: Tensor, judged: _Judged) -> tuple[int, int]:
    """Of how many comparisons the preferred outcome scores higher, and how many are not ties."""
    mean, decided = raw.mean(1), judged.preference != 0.5
    agrees = (mean[judged.a] > mean[judged.b]) == (judged.preference > 0.5)
    return int((agrees & decided).sum()), int(decided.sum())


def _margins(raw: Tensor, judged: _Judged, heldout: bool) -> list[Margin]:
    if not judged.ids:
        return []
    margin = raw[judged.a] - raw[judged.b]
    mean, std = margin.mean(1).tolist(), margin.std(1, correction=0).tolist()
    return [Margin(*row, heldout) for row in zip(judged.ids, mean, std, strict=True)]
