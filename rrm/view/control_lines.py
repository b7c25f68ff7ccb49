"""How people judged gold questions and pairs shown twice, for whoever looks at a run. Looking changes nothing."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from rrm.labels import controls
from rrm.store.database import read_only
from rrm.view.damage import torn


def judged_controls(folder: Path) -> list[str]:
    """A line or two for each person who judged any; none where nobody did, as in older runs."""
    path = folder / "labels.db"
    if not path.exists() or torn(path):
        return []
    try:
        with read_only(path) as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'current_controls'").fetchone():
                return []
            return [line for name, own in controls.results(db).items() for line in own.lines(name)]
    except sqlite3.DatabaseError:  # not made yet, or unreadable: then nobody can judge either
        return []
