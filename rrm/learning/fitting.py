"""Fit the reward model to the user's comparisons (Christiano et al. 2017, arXiv 1706.03741, section 2.2.3).

The unit is the case: all its distinct (outcome, assistance) rows go forward once per step, in one packed
group, however many comparisons they are part of.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from rrm.core.errors import RRMError
from rrm.core.judgements import DERIVED, Comparison, FitReport, Margin, ignorance
from rrm.core.parts import is_part, whole_case
from rrm.core.protocols import Progressed
from rrm.core.records import Group, Outcome
from rrm.core.remarks import Remarked, of_kind
from rrm.core.seeding import generator
from rrm.core.settings import Settings
from rrm.learning.heads import fit_heads, fit_marks
from rrm.learning.heldout import split
from rrm.learning.losses import bradley_terry
from rrm.learning.noting import Noted, note_losses
from rrm.learning.ordinal import Levels, Scales, first_thresholds, joined, levels_of, scales_of, tells
from rrm.learning.rates import rate
from rrm.models.repeating import repeatable
from rrm.models.reward import TextRewardModel

if TYPE_CHECKING:
    from rrm.core.records import Assistance

HEAD_LR = 10.0
"""The heads' learning rate over the trunk's: they start from nothing, the trunk from a language model."""


@dataclass(frozen=True)
class _Judgements:
    """A case's outcomes, each once, the comparisons between them, and what was said of each."""

    group: Group
    a: Tensor  # (pairs,) index of the outcome shown as A
    b: Tensor  # (pairs,)
    preference: Tensor  # (pairs,)
    weight: Tensor  # (pairs, heads)
    ids: tuple[str, ...]  # (pairs,)
    given: Tensor  # (pairs,) bool, whether somebody judged it, and it does not only follow from something
    levels: Levels
    marked: Tensor  # (marks,) outcome
    mark: Tensor  # (marks,) 1 unacceptable, 0 not
    mark_weight: Tensor  # (marks, heads)
    notes: Noted  # (outcome, words)

    @property
    def count(self) -> int:
        """Judgements of the reward."""
        return len(self.a) + self.levels.ratings


def fit_reward(
    reward: TextRewardModel,
    comparisons: Sequence[Comparison],
    settings: Settings,
    key: str,
    progress: Progressed | None = None,
    remarks: Sequence[Remarked] = (),
) -> FitReport:
    """Train the reward model on all comparisons so far, and on ratings and approvals among the remarks; then normalize
    its scores, and learn the constraint of what was marked unacceptable.

    Continues from the current weights with a fresh optimizer. Comparisons of parts of outcomes are learned from like
    those of whole ones, held out with their wholes, and reported apart; scores are normalized over whole outcomes,
    which the agent is paid for. What people say of a part alone, on a scale, is not learned from: its levels are not
    those of whole outcomes. What is held out stays so in every round: see `hold_out`.

    Where nothing can be learned, because all are ties or because everything is scored alike, scores are 0 and the
    report says why. Raises `RRMError` if nobody expressed a preference.
    """
    if not settings.imported:  # what weighs nothing would be fitted as noise
        comparisons = [c for c in comparisons if c.round >= 0]
        remarks = [one for one in remarks if one.round >= 0]
    remarks = [one for one in remarks if one.remark.kind == "note" or not is_part(one.case)]
    usable = [c for c in comparisons if c.preference is not None]
    rated = of_kind(remarks, "rating", "approval")
    if not usable and not rated:
        raise RRMError(
            f"no comparison and no rating to fit: the user abstained from all {len(comparisons)}; ask about other pairs"
            + ("" if settings.imported else ", or let what was imported count (imported)")
        )
    sides = split(usable, settings, remarks, whole_case)
    scales, thresholds = scales_of(of_kind(sides.remarks, "rating", "approval"))
    seen = _by_case(sides.train, reward, sides.remarks, scales)
    out = _by_case(sides.heldout, reward)

    if reward.frozen:
        features = reward.features([j.group for j in (*seen, *out)], progress)
        loss = _fit_heads(reward, seen, features[: len(seen)])
        scores = [rows @ reward.weight.detach().T for rows in features]
        raw, raw_out = scores[: len(seen)], scores[len(seen) :]
        reward.constraint = _fit_marks(seen, features[: len(seen)])
    else:
        with reward.backbone.remember(), reward.fork.training():
            loss = _train(reward, seen, settings, key, progress, thresholds)
            raw = reward.raw_scores([j.group for j in seen])
            raw_out = reward.raw_scores([j.group for j in out]) if out else []
            marked = [j for j in seen if len(j.marked)]
            reward.constraint = _fit_marks(marked, reward.trained_features([j.group for j in marked]))
    if not all(bool(values.isfinite().all()) for values in raw):
        raise RRMError(f"the reward model {reward.fork.name!r} gives scores that are no numbers; nothing was fitted")
    given = [c for c in sides.train if c.purpose != DERIVED]
    decided = sum(c.preference != 0.5 for c in given)
    ignorant = ""
    told = any(c.preference != 0.5 for c in sides.train) or tells(sides.remarks)
    wholes = torch.cat([values for _, values in _those(seen, raw, parts=False)] or raw)
    learned = reward.normalize(wholes, told)
    disagreement = (wholes - reward.shift).std(1, correction=0).mean().item() / reward.scale.item()
    if not learned:
        ignorant = ignorance(len(given), decided)
        raw, raw_out = ([torch.zeros_like(values) for values in every] for every in (raw, raw_out))
    right_out, decided_out = _right(_those(out, raw_out, parts=False))
    right_part, decided_part = _right(_those(out, raw_out, parts=True))
    right, decided_whole = _right(_those(seen, raw, parts=False))
    return FitReport(
        n=len(given),
        n_holdout=len(sides.heldout),
        ties=sum(c.preference == 0.5 for c in usable),
        abstentions=len(comparisons) - len(usable),
        train_loss=loss,
        accuracy=right / decided_whole if decided_whole and not ignorant else None,
        holdout_accuracy=right_out / decided_out if decided_out and not ignorant else None,
        decided=decided,
        holdout_right=None if ignorant else right_out,
        holdout_decided=decided_out,
        holdout_pairs=sides.by_pair,
        ignorant=ignorant,
        disagreement=disagreement,
        derived=len(sides.train) - len(given),
        ratings=sum(j.levels.ratings for j in seen),
        marks=sum(len(j.marked) for j in seen),
        parts=sum(is_part(c.case) for c in given),
        parts_right=None if ignorant else right_part,
        parts_decided=decided_part,
        margins=(*_margins(seen, raw, heldout=False), *_margins(out, raw_out, heldout=True)),
    )


def _by_case(
    comparisons: Sequence[Comparison], reward: TextRewardModel, remarks: Sequence[Remarked] = (),
    scales: Scales | None = None,
) -> list[_Judgements]:  # fmt: skip
    """Gather judgements by case; an outcome judged several times with the same assistance appears once."""
    sees = reward.settings.reward_sees == "assistance"
    compared: dict[str, list[Comparison]] = {}
    for c in comparisons:
        compared.setdefault(c.case.id, []).append(c)
    told: dict[str, list[Remarked]] = {}
    for one in of_kind(remarks, "rating", "approval", "unacceptable", "note"):
        told.setdefault(one.case.id, []).append(one)
    out = []
    for case in dict.fromkeys([*compared, *told]):
        members, here = compared.get(case, []), told.get(case, [])
        rated, marked = of_kind(here, "rating", "approval"), of_kind(here, "unacceptable")
        place_of: dict[tuple[str, tuple[str, ...]], int] = {}
        shown: list[tuple[Outcome, tuple[Assistance, ...]]] = []

        def placed(
            outcome: Outcome, assistance: tuple[Assistance, ...],
            place_of: dict[tuple[str, tuple[str, ...]], int] = place_of,
            shown: list[tuple[Outcome, tuple[Assistance, ...]]] = shown,
        ) -> int:  # fmt: skip
            name = (outcome.id, tuple(s.text for s in assistance) if sees else ())
            if name not in place_of:
                place_of[name] = len(shown)
                shown.append((outcome, assistance))
            return place_of[name]

        a, b = torch.tensor(
            [(placed(c.a, c.assistance_a), placed(c.b, c.assistance_b)) for c in members], dtype=torch.long
        ).view(-1, 2).T  # fmt: skip
        preference = torch.tensor([float(c.preference) for c in members if c.preference is not None])
        weight = weights_of(members, reward.settings)
        drawn = [*weights_of(rated, reward.settings)]
        levels = levels_of(rated, [placed(o.outcome, o.assistance) for o in rated], drawn, scales or {})
        places = torch.tensor([placed(o.outcome, o.assistance) for o in marked], dtype=torch.long)
        mark = torch.tensor([float(o.remark.value or 0) for o in marked])
        notes = [(placed(o.outcome, o.assistance), o.remark.text) for o in of_kind(here, "note")]
        group = Group((members or here)[0].case, tuple(o for o, _ in shown), tuple(s for _, s in shown))
        ids = tuple(c.id for c in members)
        asked = torch.tensor([c.purpose != DERIVED for c in members], dtype=torch.bool)
        marks_weight = weights_of(marked, reward.settings)
        out.append(_Judgements(group, a, b, preference, weight, ids, asked, levels, places, mark, marks_weight, notes))
    return out


def weights_of(judged: Sequence[Comparison | Remarked], settings: Settings) -> Tensor:
    """(judged, heads): the bootstrap's, and less or more for what was imported."""
    if not judged:
        return torch.empty(0, settings.heads)
    counts = torch.tensor([[settings.imported if one.round < 0 else 1.0] for one in judged])
    return torch.stack([bootstrap(one.stream, settings.heads) for one in judged]) * counts


def bootstrap(comparison: str, heads: int) -> Tensor:
    """(heads,) weights of a comparison: Exponential(1), the Bayesian bootstrap (Rubin 1981).

    They hang on what was compared, so every round and every order gives it the same. A head alone
    has nothing to disagree with: weight 1.
    """
    if heads == 1:
        return torch.ones(1)
    return -torch.rand(heads, generator=generator("bootstrap", comparison)).clamp_(min=1e-7).log()


def _fit_heads(reward: TextRewardModel, cases: Sequence[_Judgements], features: Sequence[Tensor]) -> float:
    """Solve for the heads of a frozen trunk. Returns the loss of comparisons, as `_train` does."""
    first = _firsts(features)
    a = torch.cat([c.a + start for c, start in zip(cases, first, strict=True)])
    b = torch.cat([c.b + start for c, start in zip(cases, first, strict=True)])
    preference, weight = torch.cat([c.preference for c in cases]), torch.cat([c.weight for c in cases])
    named = [whole_case(c.group.case) for c in cases]  # cross-validation parts no case from its parts
    places = {name: n for n, name in enumerate(dict.fromkeys(named))}
    numbers = torch.tensor([places[name] for name in named], dtype=torch.long)
    case = numbers.repeat_interleave(torch.tensor([len(c.a) for c in cases]))
    rated = numbers.repeat_interleave(torch.tensor([len(c.levels) for c in cases]))
    rows, levels = torch.cat([*features]), joined([c.levels for c in cases], first)
    heads, _ = fit_heads(rows, a, b, preference, weight, reward.anchor, case, levels, rated)
    with torch.no_grad():
        reward.weight.copy_(heads)
        scores = rows @ heads.T
    if not len(a):
        return math.nan
    return bradley_terry(scores[a], scores[b], preference, weight).item() / reward.settings.heads


def _fit_marks(cases: Sequence[_Judgements], features: Sequence[Tensor]) -> Tensor | None:
    """The constraint, (heads, features + 1); None where nothing was marked."""
    marks = torch.cat([torch.empty(0), *(c.mark for c in cases)])
    if not len(marks):
        return None
    rows = torch.cat([own[c.marked] for c, own in zip(cases, features, strict=True)])
    case = torch.arange(len(cases)).repeat_interleave(torch.tensor([len(c.marked) for c in cases]))
    return fit_marks(rows, marks, torch.cat([c.mark_weight for c in cases]), case)


def _firsts(features: Sequence[Tensor]) -> list[int]:
    """The row of each case's first outcome, among all."""
    return torch.tensor([0, *(len(rows) for rows in features)]).cumsum(0)[:-1].tolist()


def _train(
    reward: TextRewardModel,
    cases: Sequence[_Judgements],
    settings: Settings,
    key: str,
    progress: Progressed | None,
    thresholds: int,
) -> float:
    """AdamW over `reward_epochs` passes: warm-up, then linear decay. Returns the last epoch's loss. Thresholds of
    ratings begin where they would be if all outcomes were alike, and are learned with the heads."""
    trunk: dict[str, Any] = {"params": reward.fork.parameters()}
    lr = rate(settings, "reward_lr", reward.backbone)
    heads: dict[str, Any] = {"params": [reward.weight], "lr": lr * HEAD_LR}
    own = [trunk, heads]
    limits = None
    if thresholds:
        begin = first_thresholds(joined([c.levels for c in cases], [0] * len(cases)), thresholds)
        limits = nn.Parameter(begin[:, None].repeat(1, reward.settings.heads).contiguous())
        own.append({"params": [limits], "lr": lr * HEAD_LR, "weight_decay": 0.0})
    learned = [*reward.parameters(), *([] if limits is None else [limits])]
    optimizer = torch.optim.AdamW(
        own,
        lr=lr,
        weight_decay=0.01,
        fused=True,
    )
    optimizer.zero_grad()  # somebody's, of a pass before, or of a fit that broke off
    per_epoch = -(-len(cases) // settings.reward_batch)
    total = per_epoch * settings.reward_epochs
    warmup = max(1, total // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (total - step) / max(1, total - warmup + 1))
    )
    step = 0
    losses: list[float] = []
    for epoch in range(settings.reward_epochs):
        order = torch.randperm(len(cases), generator=generator("fit", key, epoch)).tolist()
        losses = []
        for start in range(0, len(order), settings.reward_batch):
            loss = 0.0
            batch = [cases[i] for i in order[start : start + settings.reward_batch]]
            for part in _parts(reward, batch, limits):
                with repeatable(reward.backbone.device):
                    part.backward()  # type: ignore[no-untyped-call]
                loss += part.item()
            for part in _notes(reward, batch, settings.notes):  # in no loss that is reported
                with repeatable(reward.backbone.device):
                    part.backward()  # type: ignore[no-untyped-call]
            loss = reward.backbone.world.add_up(learned, loss)
            nn.utils.clip_grad_norm_(learned, 1.0)
            optimizer.step()
            increment_version(reward.parameters())  # the fused step does not, and `Fork.version` would miss the change
            optimizer.zero_grad()
            schedule.step()
            step += 1
            losses.append(loss / reward.settings.heads)
            if progress is not None:
                progress(step, total)
    return sum(losses) / len(losses)


def _parts(
    reward: TextRewardModel, cases: Sequence[_Judgements], limits: Tensor | None = None
) -> Iterator[Tensor]:
    """The loss of a batch of cases, in parts that fit in memory and add up to it exactly; limits: (thresholds, heads).

    A comparison couples two outcomes of a case, never two cases, so parts are made of whole cases. Where several
    processes train together, these are the parts of this one's share of the cases.
    """
    judgements = sum(c.count for c in cases)
    groups = [c.group for c in cases]
    first = torch.tensor([0, *(len(g.outcomes) for g in groups)]).cumsum(0)
    beside = reward.beside(groups)
    own = reward.backbone.world.share(len(cases))
    for batch in reward.pack([groups[i] for i in own], whole=True):
        which = torch.tensor(own)[batch.group]
        flat = first[which] + batch.index
        scores = reward.raw(batch, None if beside is None else beside[flat])
        place = torch.empty(int(first[-1]), dtype=torch.long)
        place[flat] = torch.arange(len(flat))  # outcome of the batch of cases -> row of `scores`
        here = sorted(set(which.tolist()))
        a = torch.cat([place[first[i] + cases[i].a] for i in here])
        b = torch.cat([place[first[i] + cases[i].b] for i in here])
        preference = torch.cat([cases[i].preference for i in here])
        weight = torch.cat([cases[i].weight for i in here])
        loss = scores.sum() * 0.0 if not len(a) else (
            bradley_terry(scores[a], scores[b], preference, weight) * (len(a) / judgements)
        )  # fmt: skip
        levels = joined([cases[i].levels for i in here], [0] * len(here))
        if len(levels) and limits is not None:
            rated = torch.cat([place[first[i] + cases[i].levels.outcome] for i in here])
            rows = bradley_terry(scores[rated], limits[levels.threshold], levels.above, levels.weight)
            loss = loss + rows * (len(levels) / judgements)
        yield loss


def _notes(reward: TextRewardModel, cases: Sequence[_Judgements], weight: float) -> Iterator[Tensor]:
    """`weight` times the mean, over a batch's notes, of what it costs to foretell them; see `rrm.learning.noting`."""
    total = sum(len(case.notes) for case in cases)
    if weight and total:
        for part in note_losses(reward, [case.group for case in cases], [case.notes for case in cases]):
            yield part * (weight / total)


def _margins(cases: Sequence[_Judgements], raw: Sequence[Tensor], heldout: bool) -> Iterator[Margin]:
    for case, scores in zip(cases, raw, strict=True):
        if not case.ids:  # only rated
            continue
        margin = scores[case.a] - scores[case.b]  # (pairs, heads)
        mean, std = margin.mean(1).tolist(), margin.std(1, correction=0).tolist()
        rows = zip(case.ids, mean, std, strict=True)
        yield from (Margin(*row, heldout) for row, asked in zip(rows, case.given.tolist(), strict=True) if asked)


def _those(cases: Sequence[_Judgements], raw: Sequence[Tensor], parts: bool) -> list[tuple[_Judgements, Tensor]]:
    """The cases of parts, or those of whole outcomes, with their scores."""
    return [(case, scores) for case, scores in zip(cases, raw, strict=True) if is_part(case.group.case) == parts]


def _right(scored: Sequence[tuple[_Judgements, Tensor]]) -> tuple[int, int]:
    """Of how many comparisons the preferred outcome scores higher, and how many are not ties."""
    right = total = 0
    for case, scores in scored:
        mean = scores.mean(1)
        decided = (case.preference != 0.5) & case.given
        agrees = (mean[case.a] > mean[case.b]) == (case.preference > 0.5)
        right += int((agrees & decided).sum())
        total += int(decided.sum())
    return right, total
