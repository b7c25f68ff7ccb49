"""What was said of one outcome alone, beside comparisons and without them, to be looked at. Older runs have none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from rrm.core.records import rendering
from rrm.core.remarks import KINDS
from rrm.view.reading import Reader

STANDING = "kind != '' AND NOT EXISTS (SELECT 1 FROM remarks later WHERE later.supersedes = r.seq)"
COUNTED: Mapping[str, str] = {
    "rating": "ratings", "approval": "approvals", "unacceptable": "marks", "correction": "corrections",
    "demonstration": "demonstrations", "note": "notes",
}  # fmt: skip


@dataclass(frozen=True)
class ShownRemark:
    """A remark in words: `said`, and, in their own words, `text` and what it should have been, `better`. Texts are cut
    (`cut`). `by`: who said it, where that is not simply the user."""

    kind: str
    said: str
    text: str = ""
    better: str = ""
    by: str = ""
    cut: bool = False


def in_words(kind: str, value: float | None, levels: int) -> str:
    """What it says, but for texts."""
    if kind == "rating":
        return f"rated {value or 0:g} of {levels}"
    if kind == "approval":
        return "approved" if value else "not approved"
    if kind == "unacceptable":
        return "unacceptable" if value else "looked at, and not unacceptable"
    return {"correction": "should be", "demonstration": "shown by somebody"}.get(kind, kind)


def remarks_beside(run: Reader, task: str, round: int, pair: str, limit: int) -> dict[str, list[ShownRemark]]:
    """What was said beside a comparison, of "a" and of "b"; texts cut at `limit` characters."""
    found: dict[str, list[ShownRemark]] = {"a": [], "b": []}
    if "remarks" not in run.tables:
        return found
    rows = run.rows(
        f"SELECT side, body FROM remarks r WHERE task = ? AND round = ? AND pair = ? AND side != '' AND {STANDING}"
        " ORDER BY seq",
        (task, round, pair),
    )
    for side, body in rows:
        found[side].append(_shown(json.loads(body), limit))
    return found


def _shown(one: Mapping[str, object], limit: int) -> ShownRemark:
    better = one.get("better")
    proposed = rendering(str(better.get("text", "")), better.get("data")) if isinstance(better, dict) else ""
    text, kind = str(one.get("text", "")), str(one["kind"])
    value, levels = one.get("value"), one.get("levels", 0)
    said = in_words(kind, value if isinstance(value, int | float) else None, levels if isinstance(levels, int) else 0)
    cut = max(len(text), len(proposed)) > limit
    return ShownRemark(kind, said, text[:limit], proposed[:limit], str(one.get("by", "")), cut)


def counted_remarks(run: Reader, task: str) -> dict[str, int]:
    """How many remarks of each kind a task has, by their plural, imported ones included."""
    if "remarks" not in run.tables:
        return {}
    rows = run.rows(f"SELECT kind, COUNT(*) FROM remarks r WHERE task = ? AND {STANDING} GROUP BY kind", (task,))
    found = dict(rows)
    return {COUNTED[kind]: found[kind] for kind in KINDS if kind in found}
