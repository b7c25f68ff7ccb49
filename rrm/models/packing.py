"""The packed row: a group's case once, then its outcomes side by side, none seeing another.

    row        [ prefix | segment 1 | segment 2 | ... | padding ]
    positions    0..p-1   p..         p..               (restart)
    attends      causal   prefix and own segment, causally

One forward pass over the row gives the same numbers as one pass per `prefix + segment`, and computes the
prefix once. What is real is carried by index tensors; it is never read off the ids, because
the padding id may be the end-of-text id.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from rrm.models.visibility import PADDING, Visibility

Ids = Sequence[int]

ATTENTION = 2.0
"""Cost of one (query, key) cell, in units of one multiply of the linear layers (A in `choose_width`)."""

SPANNED = 1.05
"""Of a token, what it costs to attend in two passes instead of one."""

SHARED = 8192
"""Cells up to which a row that is over the budget anyway is shared: a dense mask, a number for each two of them, takes
0.3 GB then, and grows with the square."""

FREE = 0
"""The number of the mask that allows every token (`rrm.models.form`)."""


@dataclass(frozen=True)
class PrefixGroup:
    """A case's token ids and the token ids of the segments that follow it; all of them non-empty.

    allowed: per segment, what its form lets come at each of its first tokens (`Forms.allowed`); empty: anything.
    at: per segment, behind how many of the case's tokens it begins, and sees no later one: questions about each step of
        a solution, which share the steps before it. Empty: each begins behind the whole case.
    """

    prefix: Ids
    segments: Sequence[Ids]
    allowed: Sequence[Tensor] = ()
    at: Sequence[int] = ()

    def begins(self, member: int) -> int:
        """How many of the case's tokens a segment sees."""
        return self.at[member] if self.at else len(self.prefix)


@dataclass(frozen=True)
class Packed:
    """A batch of packed rows. `tokens` counts the segment tokens, `segments` the segments, in the batch."""

    ids: Tensor  # (rows, length) int64
    positions: Tensor  # (rows, length) int64
    visibility: Visibility | None  # which of a row's tokens see which; None: plain causal is right
    group: Tensor  # (segments,) index into the groups that were given to `pack`
    index: Tensor  # (segments,) index of the segment within its group
    lengths: Tensor  # (segments,)
    row: Tensor  # (tokens,) row of each segment token, segment by segment
    col: Tensor  # (tokens,) its column
    source: Tensor  # (tokens,) column of the token that predicts it (the last prefix token for the first)
    segment: Tensor  # (tokens,) index into `group`, `index`, `lengths`
    longest: int  # 1 + the largest position
    allowed: Tensor | None = None  # (tokens,) the masks of what a form lets come (`rrm.models.form`); None: anything

    @property
    def targets(self) -> Tensor:
        """(tokens,) the segment tokens themselves."""
        return self.ids[self.row, self.col]

    @property
    def ends(self) -> Tensor:
        """(segments,) index into the token tensors of each segment's last token."""
        return self.lengths.cumsum(0) - 1


def choose_width(prefix: int, segments: int, mean: float, d: int, masked: bool = True) -> int:
    """How many segments one row should hold: the k that minimizes

        (n/k) * (c + k*o) * (12*d + A*(c + k*o))

    with c the prefix, o the mean segment, n segments, d the hidden size; 12*d is the linear layers' cost of
    a token (per layer, in units of d multiplies), A that of a key it may attend to. A dense kernel also
    computes the cells that the mask hides, so short cases want short rows, long cases one row per group. Where there is
    no mask (`masked`; `rrm.models.spans`) nothing hidden is computed, and it is all or one by one.
    """
    if not masked:
        return segments if SPANNED * (prefix + segments * mean) < segments * (prefix + mean) else 1

    def cost(k: int) -> float:
        length = prefix + k * mean
        return math.ceil(segments / k) * length * (12 * d + ATTENTION * length * (0.5 if k == 1 else 1.0))

    return min(range(1, segments + 1), key=cost)


@dataclass(frozen=True)
class _Row:
    group: int
    prefix: Ids
    members: tuple[int, ...]
    length: int


def _rows(
    number: int, group: PrefixGroup, d: int, budget: int, width: int | None, masked: bool
) -> list[_Row]:
    sizes = [len(s) for s in group.segments]
    if not group.prefix or not sizes or not all(sizes):
        raise ValueError("a packed group needs a non-empty prefix and non-empty segments")
    head = len(group.prefix)
    if group.at and (len(group.at) != len(sizes) or not all(0 < at <= head for at in group.at)):
        raise ValueError(f"each of the {len(sizes)} segments begins behind 1 to {head} tokens, not {list(group.at)}")
    width = width or choose_width(head, len(sizes), sum(sizes) / len(sizes), d, masked or bool(group.at))
    order = sorted(range(len(sizes)), key=lambda i: (-group.begins(i), -sizes[i]))
    rows: list[_Row] = []
    for start in range(0, len(order), width):
        part: list[int] = []
        used = 0
        for i in order[start : start + width]:
            if part and used + sizes[i] > max(budget, min(2 * group.begins(part[0]), SHARED)):
                rows.append(_row(number, group, part, used))
                part = []
            used = (used if part else group.begins(i)) + sizes[i]
            part.append(i)
        rows.append(_row(number, group, part, used))
    return rows


def _row(number: int, group: PrefixGroup, part: Sequence[int], used: int) -> _Row:
    """The case as far as its first segment sees it, and no other sees more."""
    return _Row(number, group.prefix[: group.begins(part[0])], tuple(part), used)


def pack(
    groups: Sequence[PrefixGroup],
    *,
    d: int,
    budget: int = 8192,
    whole: bool = False,
    width: int | None = None,
    masked: bool = True,
) -> list[Packed]:
    """Lay groups out in batches of rows of similar length, at most `budget` cells (rows * length) each.

    A batch has at least one row, so a row longer than the budget is alone; a case that fills the budget by itself is
    shared all the same, by as many segments as are no longer than it together, up to `SHARED` cells. With `whole`, a
    group is never split over batches (for losses that couple its outcomes), nor are its rows cut below `SHARED`: they
    are all held at once anyway, and each would repeat the case. Batches come in an order that suits the
    machine; `group` and `index` say what is what, and `unpack` restores the order of the input.

    Parameters
    ----------
    d: hidden size of the model, for `choose_width`.
    width: segments per row; by default whatever is cheapest.
    masked: whether what a row's tokens do not see is computed all the same, and hidden by a mask.
    """
    return [*batches(groups, d=d, budget=budget, whole=whole, width=width, masked=masked)]


def batches(
    groups: Sequence[PrefixGroup], *, d: int, budget: int = 8192, whole: bool = False, width: int | None = None,
    masked: bool = True,
) -> Iterator[Packed]:  # fmt: skip
    """What `pack` makes, each batch when it is asked for: a GPU computes with one while the next is made."""
    return (_build(batch, groups) for batch in _lay_out(groups, d, budget, whole, width, masked))


def shapes(
    groups: Sequence[PrefixGroup], *, d: int, budget: int = 8192, whole: bool = False, width: int | None = None,
    masked: bool = True,
) -> list[tuple[int, int]]:  # fmt: skip
    """(rows, length) of each batch that `pack` makes of the same, without making it; of the ids only how many there
    are counts."""
    batches = _lay_out(groups, d, budget, whole, width, masked)
    return [(len(batch), max(row.length for row in batch)) for batch in batches]


def _lay_out(
    groups: Sequence[PrefixGroup], d: int, budget: int, whole: bool, width: int | None, masked: bool = True
) -> list[list[_Row]]:
    rows = [_rows(i, g, d, max(budget, SHARED) if whole else budget, width, masked) for i, g in enumerate(groups)]
    units = rows if whole else [[row] for row in chain.from_iterable(rows)]
    # Segments that see a part of their case need a mask: where the others have none, they are by themselves.
    apart = [not masked and bool(groups[unit[0].group].at) for unit in units]
    order = sorted(range(len(units)), key=lambda i: (apart[i], -max(row.length for row in units[i])))  # stable
    batches: list[list[_Row]] = []
    length, before = 0, False
    for i in order:
        unit = units[i]
        alike, before = before == apart[i], apart[i]
        if batches and alike and (len(batches[-1]) + len(unit)) * length <= budget:
            batches[-1].extend(unit)
        else:
            batches.append(list(unit))
            length = max(row.length for row in unit)
    return batches


def _build(rows: Sequence[_Row], groups: Sequence[PrefixGroup]) -> Packed:
    length = max(row.length for row in rows)
    ids: list[int] = []
    positions: list[int] = []
    owner: list[int] = []  # 0 prefix, 1.. segment
    sees: list[int] = []  # so many tokens of the prefix
    group, index, lengths, starts, heads, where = [], [], [], [], [], []
    allowed: list[Tensor | None] = []
    longest = 0
    for r, row in enumerate(rows):
        head = len(row.prefix)
        ids.extend(row.prefix)
        positions.extend(range(head))
        owner.extend([0] * head)
        sees.extend([head] * head)
        col = head
        for number, member in enumerate(row.members, 1):
            segment, begins = groups[row.group].segments[member], groups[row.group].begins(member)
            ids.extend(segment)
            positions.extend(range(begins, begins + len(segment)))
            owner.extend([number] * len(segment))
            sees.extend([begins] * len(segment))
            group.append(row.group)
            index.append(member)
            lengths.append(len(segment))
            allowed.append(groups[row.group].allowed[member] if groups[row.group].allowed else None)
            starts.append(col)
            heads.append(begins - 1)
            where.append(r)
            col += len(segment)
            longest = max(longest, begins + len(segment))
        ids.extend([0] * (length - col))  # any id: never looked at
        positions.extend([0] * (length - col))
        owner.extend([PADDING] * (length - col))
        sees.extend([head] * (length - col))

    plain = all(len(row.members) == 1 for row in rows)
    shape = (len(rows), length)
    sizes = torch.tensor(lengths)
    segment_of = torch.repeat_interleave(torch.arange(len(lengths)), sizes)
    offset = torch.arange(len(segment_of)) - (sizes.cumsum(0) - sizes)[segment_of]
    col_of = torch.tensor(starts)[segment_of] + offset
    return Packed(
        ids=torch.tensor(ids).view(shape),
        # One segment per row and padding last is a plain causal batch: no mask. Its positions then run on
        # into the padding, for transformers reads a restart as the beginning of another document.
        positions=torch.arange(length).repeat(len(rows), 1) if plain else torch.tensor(positions).view(shape),
        visibility=None if plain else Visibility(torch.tensor(owner).view(shape), torch.tensor(sees).view(shape)),
        group=torch.tensor(group),
        index=torch.tensor(index),
        lengths=sizes,
        row=torch.tensor(where)[segment_of],
        col=col_of,
        source=torch.where(offset == 0, torch.tensor(heads)[segment_of], col_of - 1),
        segment=segment_of,
        longest=longest,
        allowed=aligned(allowed, lengths),
    )


def aligned(parts: Sequence[Tensor | None], lengths: Sequence[int]) -> Tensor | None:
    """The numbers of what is allowed along segments, one after the other: (tokens,). A part that is shorter than its
    segment, or None, leaves the rest free. None if all are."""
    if all(part is None for part in parts):
        return None
    out = torch.full((sum(lengths),), FREE)
    start = 0
    for part, length in zip(parts, lengths, strict=True):
        if part is not None:
            out[start : start + min(len(part), length)] = part[:length]
        start += length
    return out


def unpack(
    batches: Sequence[Packed], values: Sequence[Sequence[Tensor]], sizes: Sequence[int]
) -> list[list[Tensor]]:
    """Per-segment values of each batch -> one list per group, in the order of the input.

    Parameters
    ----------
    values: for each batch, one tensor per segment.
    sizes: the number of segments of each group given to `pack`.
    """
    out: list[list[Tensor]] = [[torch.empty(0)] * size for size in sizes]
    for batch, parts in zip(batches, values, strict=True):
        for g, i, value in zip(batch.group.tolist(), batch.index.tolist(), parts, strict=True):
            out[g][i] = value
    return out
