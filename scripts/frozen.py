"""Heads on what a frozen trunk reads in real text: features computed once and kept, folds of whole cases.

For scripts that fit many heads on columns of the same features.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from rrm.core.records import digest
from rrm.core.seeding import generator
from rrm.learning.fitting import bootstrap
from rrm.learning.heads import fit_heads
from rrm.measure.stats import Interval, interval
from rrm.models.backbone import Backbone
from rrm.models.features import read_spans
from rrm.models.packing import PrefixGroup
from rrm.models.precision import Precision
from rrm.store.files import write_atomically

Spans = Sequence[Sequence[tuple[int, int]]]
CHUNK = 16
"""Cases in one file of the cache."""


def trunk(model: str, precision: Literal["float32", "bfloat16"]) -> Backbone:
    """The starting model. bfloat16 is faster where the processor computes in it, and slower where it does not."""
    backbone = Backbone.load(model, adapters="lora")
    backbone.precision = Precision(precision)
    return backbone


def read(
    backbone: Backbone, cases: Sequence[tuple[PrefixGroup, Spans]], cache: Path, minutes: float = float("inf")
) -> list[list[Tensor]]:
    """Per case, per segment (spans, features); see `read_spans`. What was read before is taken from the folder `cache`;
    after `minutes` it stops early, and gives the cases it has."""
    start, began, tokens = backbone.start, time.monotonic(), 0
    out: list[list[Tensor]] = []
    for first in range(0, len(cases), CHUNK):
        chunk = cases[first : first + CHUNK]
        content = [[list(c.prefix), [list(s) for s in c.segments], [list(map(list, s)) for s in sp]] for c, sp in chunk]
        path = cache / f"{digest(start.version, content)}.safetensors"
        if not path.exists():
            if time.monotonic() - began > 60 * minutes:
                break
            with torch.no_grad():
                rows = {
                    f"{i} {s}": row.contiguous()
                    for i, (case, spans) in enumerate(chunk)
                    for s, row in enumerate(read_spans(start, case, spans))
                }
            write_atomically(path, save(rows))
            tokens += sum(len(c.prefix) + sum(map(len, c.segments)) for c, _ in chunk)
            print(f"read {first + len(chunk)} of {len(cases)}, {tokens / (time.monotonic() - began):.0f} tokens/s",
                  file=sys.stderr, flush=True)  # fmt: skip
        kept = load_file(path)
        out += [[kept[f"{i} {s}"] for s in range(len(case.segments))] for i, (case, _) in enumerate(chunk)]
    return out


Seeds = Sequence[Sequence[Sequence[float]]]
"""Per seed, per scored case, its values: the same cases in every seed."""


def over(seeds: Seeds) -> Interval:
    """Mean, and a 95 % interval by resampling whole cases: each value is first averaged over the seeds, which fold the
    same cases differently. (`stats.over_seeds` is for seeds with cases of their own, and would be too sure here.)"""
    return interval([np.mean(case, axis=0).tolist() for case in zip(*seeds, strict=True)])


def cell(found: Interval) -> str:
    """ "0.930 [0.912, 0.951]"."""
    return f"{found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def is_tuning(name: str) -> bool:
    """Whether a case is of the quarter that tools and settings were written looking at: trained on, never scored."""
    return int(digest("tuning", name), 16) % 4 == 0


def folds(tuning: Sequence[bool], seed: int, number: int) -> list[tuple[Tensor, Tensor]]:
    """(cases to train on, cases to score) `number` times; every case that is not for tuning is scored once."""
    rest = torch.tensor([i for i, t in enumerate(tuning) if not t])
    always = torch.tensor([i for i, t in enumerate(tuning) if t], dtype=torch.long)
    parts = rest[torch.randperm(len(rest), generator=generator("folds", seed))].tensor_split(number)
    return [(torch.cat([always, *parts[:i], *parts[i + 1 :]]), part) for i, part in enumerate(parts)]


def heads(
    features: Tensor, a: Tensor, b: Tensor, preference: Tensor, case: Tensor, weight: Tensor | None = None,
    number: int = 4,
) -> Tensor:  # fmt: skip
    """(features,) the mean of an ensemble of heads, fitted as a reward model's are; see `fit_heads`.

    weight: (pairs,), default 1. An ensemble of one for few features, where there is nothing to disagree about.
    """
    chance = torch.stack([bootstrap(f"{i}", number) for i in range(len(a))])
    anchor = torch.randn(number, features.shape[1], generator=generator("anchor"))
    weight = torch.ones(len(a)) if weight is None else weight
    return fit_heads(features, a, b, preference, chance * weight[:, None], anchor, case)[0].mean(0)
