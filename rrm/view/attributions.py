"""What moved the reward model's judgement of a comparison, as `rrm explain` kept it beside the run; read without torch.

RUN/trust/NODE/attributions.jsonl: a line that says of which weights they are, then a line per pair.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrm.store.files import file_name
from rrm.view.reading import Reader

LEAST = 0.005
"""Standard deviations; pieces that are worth less are not listed."""


@dataclass(frozen=True)
class Bar:
    """A part of a difference: of A's score less B's, in standard deviations. `share`: of the longest bar."""

    name: str
    value: float
    share: float


@dataclass(frozen=True)
class ShownPiece:
    """A piece that was exchanged, or a step: what stands there in A and in B (both empty for what was `said`, by whom),
    what it is worth, and which facts are there."""

    kind: str
    by: str
    a: str
    b: str
    worth: float
    facts: Sequence[str]

    @property
    def words(self) -> str:
        """What it is, in words."""
        if self.kind == "said":
            return f"what {self.by or 'the assistants'} said"
        if self.kind == "tokens":
            return "tokens other than these texts are read in here, or an end that is missing"
        if self.kind == "step":
            return f"{self.a} of A" if self.a else f"{self.b} of B"
        if self.a and self.b:
            return f"{self.a!r} in A, {self.b!r} in B"
        return f"{self.a or self.b!r} in {'A' if self.a else 'B'} only"


@dataclass(frozen=True)
class Attributed:
    """What the difference of a comparison's scores is made of."""

    difference: float
    bars: Sequence[Bar]
    pieces: Sequence[ShownPiece]
    """Those worth the most first; empty where the comparison was not taken apart."""


def file_of(folder: Path, node: str) -> Path:
    """Where a node's attributions are."""
    return folder / "trust" / file_name(node) / "attributions.jsonl"


def attributed(run: Reader, node: str, pair: str) -> Attributed | None:
    """Of a pair; None if nothing was kept of it, or of other weights than the newest, or what was kept cannot be read.
    """
    newest = [sha256 for _, part, _, sha256, _ in run.checkpoints.get(node, ()) if part == "reward"]
    try:
        with file_of(run.folder, node).open(encoding="utf-8") as lines:
            if not newest or json.loads(next(lines, "{}")).get("weights") != newest[-1]:
                return None
            wanted = f'{{"pair": "{pair}",'
            found = next((line for line in lines if line.startswith(wanted)), None)
        return None if found is None else _shown(json.loads(found))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # changed by hand, or being written: the page is about the comparison


def _shown(body: Mapping[str, Any]) -> Attributed:
    parts = {str(name): float(value) for name, value in body["parts"].items()}
    longest = max((abs(value) for value in parts.values()), default=0.0) or 1.0
    bars = [Bar(name, value, abs(value) / longest) for name, value in parts.items()]
    pieces = [
        ShownPiece(one["kind"], one["by"], one["a"], one["b"], float(one["worth"]), [*map(str, one["facts"])])
        for one in body["pieces"] if abs(one["worth"]) >= LEAST
    ]  # fmt: skip
    return Attributed(sum(parts.values()), bars, sorted(pieces, key=lambda one: -abs(one.worth)))
