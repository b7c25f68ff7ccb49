"""What a frozen trunk reads in an outcome: features that never change, so each row is computed once.

The trunk is the starting model, so one pass gives both the last hidden state and the log-probabilities that the
surprise features are made of.

Features that are kept over rounds must not depend on what happened to share their pass, or a resumed run, which
computes them in other company, would differ in the last bits. So a pass holds the rows of one case, and they are kept
together: when a later round adds a row to the case, all of them are computed again, in the going and the resumed run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rrm.models.fork import Fork
from rrm.models.packing import Packed, PrefixGroup, pack, unpack

if TYPE_CHECKING:
    from rrm.core.records import Assistance

SURPRISE = 4
"""Number of surprise features."""
LOW = -1.2
"""A token with a lower log-probability (nats; p < 0.30) under the starting model counts as surprising."""

FINDINGS = 3
"""Number of features of what an assistant found."""

Key = tuple[str, str, str, tuple[tuple[str, str], ...]]
"""The trunk's version, a case's prompt and form, and the content of its rows: outcome and assistance."""


def surprise(logprobs: Tensor) -> Tensor:
    """(SURPRISE,) features of an outcome's token log-probabilities under the starting model, each O(1): their
    mean, their minimum, how many are low (as a logarithm), and their sum."""
    low = (logprobs < LOW).sum()
    return torch.stack([logprobs.mean(), logprobs.min() / 4, torch.log1p(low.float()), logprobs.sum() / 32])


def found(assistance: Sequence[Assistance], assistants: int) -> Tensor:
    """(assistants * FINDINGS,) features of what each assistant found, each O(1): four times the share of facts it calls
    wrong, the same by whoever spoke of a fact deepest in its tree, and whether it answered N/A. Zeros where there is
    no assistance at all (a comparison from elsewhere)."""
    if not assistance:
        return torch.zeros(assistants * FINDINGS)
    values: list[float] = []
    for top in assistance:
        deepest: dict[str, bool] = {}
        for one in top.tree():
            deepest |= {finding.fact: finding.holds for finding in one.findings}
        said = [finding.holds for finding in top.findings]
        values.append(4 * said.count(False) / max(1, len(said)))
        values.append(4 * [*deepest.values()].count(False) / max(1, len(deepest)))
        values.append(float(top.na))
    return torch.tensor(values)


def read_packed(trunk: Fork, packed: Packed, own: Sequence[int], surprised: bool) -> tuple[Tensor, list[Tensor]]:
    """Features of the segments of packed rows, and their outcomes' log-probabilities (empty unless `surprised`).

    Parameters
    ----------
    trunk: the starting model.
    own: per segment, how many of its tokens, from its beginning, are the outcome's.

    Returns
    -------
    (segments, features) and per segment (own,), on the CPU.
    """
    hidden = trunk.hidden(packed)
    ends = packed.ends
    last = hidden[packed.row[ends], packed.col[ends]].float().cpu()
    if not surprised:
        return last, []
    sizes = torch.tensor(own)
    begin = packed.lengths.cumsum(0) - packed.lengths
    wanted = torch.arange(len(packed.segment)) - begin[packed.segment] < sizes[packed.segment]
    at = hidden[packed.row[wanted], packed.source[wanted]]
    allowed = None if packed.allowed is None else packed.allowed[wanted]
    logprobs = [*torch.split(trunk.logprobs_at(at, packed.targets[wanted], allowed), sizes.tolist())]
    return torch.cat([last, torch.stack([surprise(value) for value in logprobs])], 1), logprobs


def read_case(trunk: Fork, case: PrefixGroup, own: Sequence[int], surprised: bool) -> Tensor:
    """(rows, features) of one case's rows, which share its pass; the bits depend on that case's rows only.

    own: per row, how many of its tokens, from its beginning, are the outcome's.
    """
    batches = pack([case], d=trunk.backbone.d, budget=trunk.backbone.budget(False))
    values = [read_packed(trunk, b, [own[i] for i in b.index.tolist()], surprised)[0].unbind() for b in batches]
    return torch.stack(unpack(batches, values, [len(own)])[0])


def read_spans(trunk: Fork, case: PrefixGroup, spans: Sequence[Sequence[tuple[int, int]]]) -> list[Tensor]:
    """What a frozen trunk reads where parts of a segment end: the steps of a solution, or an outcome before what was
    said of it.

    Parameters
    ----------
    spans: per segment of the case, the parts, as (first token, one after the last).

    Returns
    -------
    Per segment (spans, features): the hidden state at each part's last token, and how surprising its tokens are
    (`surprise`). A part's features depend on what stands before its end only.
    """
    batches = pack([case], d=trunk.backbone.d, budget=trunk.backbone.budget(False))
    values: list[list[Tensor]] = []
    for batch in batches:
        hidden = trunk.hidden(batch)
        logprobs = trunk.token_logprobs(batch, hidden)
        begin = (batch.lengths.cumsum(0) - batch.lengths).tolist()
        rows = []
        for segment, start in zip(batch.index.tolist(), begin, strict=True):
            at = torch.tensor([start + stop - 1 for _, stop in spans[segment]])
            last = hidden[batch.row[at], batch.col[at]].float()
            values_of = [surprise(logprobs[start + first : start + stop]) for first, stop in spans[segment]]
            rows.append(torch.cat([last, torch.stack(values_of)], 1))
        values.append(rows)
    return unpack(batches, values, [len(spans)])[0]


class Features:
    """The features of cases' rows, each computed once while it is kept. Bounded by what the last `keep` was given."""

    def __init__(self) -> None:
        self._known: dict[Key, Tensor] = {}

    def of(
        self,
        keys: Sequence[Key],
        compute: Callable[[Sequence[int]], Sequence[Tensor]],
    ) -> list[Tensor]:
        """Per case (rows, features). `compute(cases)` is asked for what is not known, by number."""
        missing = {key: number for number, key in reversed([*enumerate(keys)]) if key not in self._known}
        numbers = sorted(missing.values())
        self._known |= dict(zip((keys[n] for n in numbers), compute(numbers), strict=True))
        return [self._known[key] for key in keys]

    def keep(self, keys: set[Key]) -> None:
        """Forget all others."""
        self._known = {key: value for key, value in self._known.items() if key in keys}

    def __len__(self) -> int:
        return len(self._known)
