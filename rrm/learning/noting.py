"""Notes, read by the reward model: its trunk learns to write what the user wrote of an outcome.

A preference is one bit of a judgement; a note beside it says what was seen (Leike et al. 2018, section 5.5). A reward
model that has to foretell it must have seen it, too: an auxiliary loss, minus the mean log-probability of a note's
tokens behind `[case | outcome, assistance, end-of-text]`, the very state that the heads read. After reward models that
write a critique before they score (Ankner et al. 2024, arXiv 2408.11791), whose joint loss it is; here nothing is
written when it scores, so a score costs what it cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from rrm.core.records import Group
from rrm.models.packing import PrefixGroup, pack
from rrm.models.reward import TextRewardModel

Noted = Sequence[tuple[int, str]]
"""Of a group: (outcome, note)."""


def note_losses(reward: TextRewardModel, groups: Sequence[Group], notes: Sequence[Noted]) -> Iterator[Tensor]:
    """Sums over notes of minus the mean log-probability of a note's tokens, nats, in parts that fit in memory; those of
    this process's share of the groups."""
    backbone = reward.backbone
    own = [i for i in backbone.world.share(len(groups)) if notes[i]]
    read = reward.rows([groups[i] for i in own])
    rows, begins = [], []
    for row, i in zip(read, own, strict=True):
        segments = []
        for place, text in notes[i]:
            note = (*backbone.encode(f" {text}"), backbone.eos_id)
            segments.append((*row.segments[place], *note)[: backbone.limit - len(row.prefix)])
            begins.append(len(row.segments[place]))
        rows.append(PrefixGroup(row.prefix, segments))
    first = torch.tensor([0, *(len(row.segments) for row in rows)]).cumsum(0)
    start = torch.tensor(begins, dtype=torch.long)
    for part in pack(rows, d=backbone.d, budget=backbone.budget(True), whole=True) if rows else ():
        logprobs = reward.fork.token_logprobs(part)
        where = torch.arange(len(logprobs)) - (part.ends - part.lengths + 1)[part.segment]
        behind = where >= start[first[part.group] + part.index][part.segment]
        tokens = torch.zeros(len(part.lengths)).index_add(0, part.segment, behind.float())
        means = torch.zeros(len(part.lengths)).index_add(0, part.segment, logprobs * behind) / tokens.clamp(min=1)
        yield -means.sum()
