"""Fit the reward model to the user's comparisons (Christiano et al. 2017, arXiv 1706.03741, section 2.2.3).

The unit is the case: all its distinct (outcome, assistance) rows go forward once per step, in one packed
group, however many comparisons they are part of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from rrm.core.errors import RRMError
from rrm.core.judgements import Comparison, FitReport, Margin, ignorance
from rrm.core.protocols import Progressed
from rrm.core.records import Group, Outcome
from rrm.core.seeding import generator
from rrm.core.settings import Settings
from rrm.learning.heads import fit_heads
from rrm.learning.heldout import hold_out
from rrm.learning.losses import bradley_terry
from rrm.learning.rates import rate
from rrm.models.reward import TextRewardModel

if TYPE_CHECKING:
    from rrm.core.records import Assistance

HEAD_LR = 10.0
"""The heads' learning rate over the trunk's: they start from nothing, the trunk from a language model."""


@dataclass(frozen=True)
class _Judgements:
    """A case's outcomes, each once, and the comparisons between them."""

    group: Group
    a: Tensor  # (pairs,) index of the outcome shown as A
    b: Tensor  # (pairs,)
    preference: Tensor  # (pairs,)
    weight: Tensor  # (pairs, heads)
    ids: tuple[str, ...]  # (pairs,)


def fit_reward(
    reward: TextRewardModel,
    comparisons: Sequence[Comparison],
    settings: Settings,
    key: str,
    progress: Progressed | None = None,
) -> FitReport:
    """Train the reward model on all comparisons so far, then normalize its scores.

    Continues from the current weights with a fresh optimizer. What is held out stays so in every round: see
    `hold_out`. Where nothing can be learned, because all are ties or because everything is scored alike, scores are 0
    and the report says why. Raises `RRMError` if nobody expressed a preference.
    """
    usable = [c for c in comparisons if c.preference is not None]
    if not usable:
        raise RRMError(f"no comparison to fit: the user abstained from all {len(comparisons)}; ask about other pairs")
    by_case, by_pair = hold_out(usable, settings.holdout, settings.holdout_by)
    away = by_case | by_pair
    heldout = [c for i, c in enumerate(usable) if i in away]
    train = [c for i, c in enumerate(usable) if i not in away]
    if not train:  # every case happens to be one to hold out
        train, heldout, by_pair = heldout, [], set()
    seen, out = _by_case(train, reward), _by_case(heldout, reward)

    if reward.frozen:
        features = reward.features([j.group for j in (*seen, *out)], progress)
        loss = _fit_heads(reward, seen, features[: len(seen)])
        scores = [rows @ reward.weight.detach().T for rows in features]
        raw, raw_out = scores[: len(seen)], scores[len(seen) :]
    else:
        with reward.backbone.remember():
            loss = _train(reward, seen, settings, key, progress)
            raw = reward.raw_scores([j.group for j in seen])
            raw_out = reward.raw_scores([j.group for j in out]) if out else []
    if not all(bool(values.isfinite().all()) for values in raw):
        raise RRMError(f"the reward model {reward.fork.name!r} gives scores that are no numbers; nothing was fitted")
    decided = sum(c.preference != 0.5 for c in train)
    ignorant = ""
    learned = reward.normalize(torch.cat(raw), decided > 0)
    disagreement = (torch.cat(raw) - reward.shift).std(1, correction=0).mean().item() / reward.scale.item()
    if not learned:
        ignorant = ignorance(len(train), decided)
        raw, raw_out = ([torch.zeros_like(values) for values in every] for every in (raw, raw_out))
    right_out, decided_out = _right(out, raw_out)
    right, _ = _right(seen, raw)
    return FitReport(
        n=len(train),
        n_holdout=len(heldout),
        ties=sum(c.preference == 0.5 for c in usable),
        abstentions=len(comparisons) - len(usable),
        train_loss=loss,
        accuracy=right / decided if decided and not ignorant else None,
        holdout_accuracy=right_out / decided_out if decided_out and not ignorant else None,
        decided=decided,
        holdout_right=None if ignorant else right_out,
        holdout_decided=decided_out,
        holdout_pairs=len(by_pair),
        ignorant=ignorant,
        disagreement=disagreement,
        margins=(*_margins(seen, raw, heldout=False), *_margins(out, raw_out, heldout=True)),
    )


def _by_case(comparisons: Sequence[Comparison], reward: TextRewardModel) -> list[_Judgements]:
    """Gather comparisons by case; an outcome judged several times with the same assistance appears once."""
    heads, sees = reward.settings.heads, reward.settings.reward_sees == "assistance"
    cases: dict[str, list[Comparison]] = {}
    for c in comparisons:
        cases.setdefault(c.case.id, []).append(c)
    out = []
    for members in cases.values():
        place: dict[tuple[str, tuple[str, ...]], int] = {}
        shown: list[tuple[Outcome, tuple[Assistance, ...]]] = []
        indices: list[int] = []  # A and B of each pair in turn
        for c in members:
            for outcome, assistance in ((c.a, c.assistance_a), (c.b, c.assistance_b)):
                name = (outcome.id, tuple(s.text for s in assistance) if sees else ())
                if name not in place:
                    place[name] = len(shown)
                    shown.append((outcome, assistance))
                indices.append(place[name])
        a, b = torch.tensor(indices).view(-1, 2).T
        preference = torch.tensor([float(c.preference) for c in members if c.preference is not None])
        weight = torch.stack([bootstrap(c.stream, heads) for c in members])
        group = Group(members[0].case, tuple(o for o, _ in shown), tuple(s for _, s in shown))
        out.append(_Judgements(group, a, b, preference, weight, tuple(c.id for c in members)))
    return out


def bootstrap(comparison: str, heads: int) -> Tensor:
    """(heads,) weights of a comparison: Exponential(1), the Bayesian bootstrap (Rubin 1981).

    They hang on what was compared, so every round and every order gives it the same. A head alone
    has nothing to disagree with: weight 1.
    """
    if heads == 1:
        return torch.ones(1)
    return -torch.rand(heads, generator=generator("bootstrap", comparison)).clamp_(min=1e-7).log()


def _fit_heads(reward: TextRewardModel, cases: Sequence[_Judgements], features: Sequence[Tensor]) -> float:
    """Solve for the heads of a frozen trunk. Returns the loss, as `_train` does."""
    sizes = [len(rows) for rows in features]
    first = [sum(sizes[:i]) for i in range(len(sizes))]
    a = torch.cat([c.a + start for c, start in zip(cases, first, strict=True)])
    b = torch.cat([c.b + start for c, start in zip(cases, first, strict=True)])
    preference, weight = torch.cat([c.preference for c in cases]), torch.cat([c.weight for c in cases])
    case = torch.arange(len(cases)).repeat_interleave(torch.tensor([len(c.a) for c in cases]))
    rows = torch.cat([*features])
    heads, _ = fit_heads(rows, a, b, preference, weight, reward.anchor, case)
    with torch.no_grad():
        reward.weight.copy_(heads)
        scores = rows @ heads.T
    return bradley_terry(scores[a], scores[b], preference, weight).item() / reward.settings.heads


def _train(
    reward: TextRewardModel,
    cases: Sequence[_Judgements],
    settings: Settings,
    key: str,
    progress: Progressed | None,
) -> float:
    """AdamW over `reward_epochs` passes: warm-up, then linear decay. Returns the last epoch's loss."""
    trunk: dict[str, Any] = {"params": reward.fork.parameters()}
    lr = rate(settings, "reward_lr", reward.backbone)
    heads: dict[str, Any] = {"params": [reward.weight], "lr": lr * HEAD_LR}
    optimizer = torch.optim.AdamW(
        [trunk, heads],
        lr=lr,
        weight_decay=0.01,
        fused=True,
    )
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
            for part in _parts(reward, [cases[i] for i in order[start : start + settings.reward_batch]]):
                part.backward()  # type: ignore[no-untyped-call]
                loss += part.item()
            loss = reward.backbone.world.add_up(reward.parameters(), loss)
            nn.utils.clip_grad_norm_(reward.parameters(), 1.0)
            optimizer.step()
            increment_version(reward.parameters())  # the fused step does not, and `Fork.version` would miss the change
            optimizer.zero_grad()
            schedule.step()
            step += 1
            losses.append(loss / reward.settings.heads)
            if progress is not None:
                progress(step, total)
    return sum(losses) / len(losses)


def _parts(reward: TextRewardModel, cases: Sequence[_Judgements]) -> Iterator[Tensor]:
    """The loss of a batch of cases, in parts that fit in memory and add up to it exactly.

    A comparison couples two outcomes of a case, never two cases, so parts are made of whole cases. Where several
    processes train together, these are the parts of this one's share of the cases.
    """
    pairs = sum(len(c.a) for c in cases)
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
        yield bradley_terry(scores[a], scores[b], preference, weight) * (len(a) / pairs)


def _margins(cases: Sequence[_Judgements], raw: Sequence[Tensor], heldout: bool) -> Iterator[Margin]:
    for case, scores in zip(cases, raw, strict=True):
        margin = scores[case.a] - scores[case.b]  # (pairs, heads)
        mean, std = margin.mean(1).tolist(), margin.std(1, correction=0).tolist()
        yield from (Margin(*row, heldout) for row in zip(case.ids, mean, std, strict=True))


def _right(cases: Sequence[_Judgements], raw: Sequence[Tensor]) -> tuple[int, int]:
    """Of how many comparisons the preferred outcome scores higher, and how many are not ties."""
    right = total = 0
    for case, scores in zip(cases, raw, strict=True):
        mean = scores.mean(1)
        decided = case.preference != 0.5
        agrees = (mean[case.a] > mean[case.b]) == (case.preference > 0.5)
        right += int((agrees & decided).sum())
        total += int(decided.sum())
    return right, total
