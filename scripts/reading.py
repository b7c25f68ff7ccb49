"""Features of real text, computed once: for the scripts that fit many heads on what one frozen trunk reads."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from rrm.models.backbone import Backbone
from rrm.models.features import read_spans
from rrm.models.pack import PrefixGroup
from rrm.models.precision import Precision
from rrm.run import write_atomically
from rrm.task import digest

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
