"""Text that models wrote, in short."""

from __future__ import annotations

from rrm.core.clean import visible


def line(text: str, limit: int = 200) -> str:
    """`text` as one line of at most `limit` characters."""
    cut = text[: limit * 4]
    flat = visible(" ".join(cut.split()))
    return flat if len(flat) <= limit and len(cut) == len(text) else flat[: limit - 1] + "…"
