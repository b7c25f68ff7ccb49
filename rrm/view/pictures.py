"""The pictures that people were shown of a comparison's outcomes, for its page; they stand beside their questions."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence

from rrm.store.database import check_version, read_only
from rrm.store.upgrades import LABELS
from rrm.view.clips import Clip, Frame, steps_of
from rrm.view.comparisons import ShownComparison
from rrm.view.damage import torn
from rrm.view.reading import Reader


def seen(run: Reader, c: ShownComparison) -> tuple[Sequence[Mapping[str, str]], Sequence[Mapping[str, str]]]:
    """Caption and text of each picture, of A and of B: as the assistance makes them only if it was shown. None where no
    person was asked, or the task draws none."""
    path = run.folder / "labels.db"
    if not path.exists() or torn(path):
        return (), ()
    try:
        with read_only(path) as db:
            check_version(db, path, len(LABELS))
            row = db.execute(
                "SELECT json_extract(body, '$.drawn') FROM questions WHERE task = ? AND round = ? AND pair = ?",
                (c.task, c.round, c.pair),
            ).fetchone()
    except sqlite3.DatabaseError:  # not made yet, or unreadable
        return (), ()
    if row is None or row[0] is None:
        return (), ()
    which = "assisted" if c.shown else "alone"
    try:
        a, b = ([{key: str(one[key]) for key in ("caption", "text")} for one in side[which]]
                for side in json.loads(row[0]))  # fmt: skip
    except (ValueError, KeyError, TypeError, RecursionError):  # somebody else's
        return (), ()
    return a, b


def framed(pictures: Sequence[Mapping[str, str]], clip: Clip | None) -> tuple[Frame, ...]:
    """What a person was shown, in its order; of an episode by its steps. Where nobody was, what its clip has."""
    if not pictures:
        return clip.frames if clip else ()
    steps = steps_of(len(pictures), clip.of) if clip else range(len(pictures))
    return tuple(Frame(step, one["caption"], one["text"]) for step, one in zip(steps, pictures, strict=True))
