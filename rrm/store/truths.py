"""The truth of what a run judged: truth.db, beside run.db and apart from it, since nothing that trains may know it.

`rrm measure truth RUN` writes it, viewers read it where it is there. It holds ids and numbers, no texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path

from rrm.store.database import Database
from rrm.store.upgrades import TRUTHS

FILE = "truth.db"
"""In a run's folder."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS origin (code TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS outcomes (
    task TEXT NOT NULL, case_id TEXT NOT NULL, outcome TEXT NOT NULL, score REAL NOT NULL,
    PRIMARY KEY (task, case_id, outcome)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (
    task TEXT NOT NULL, case_id TEXT NOT NULL, outcome TEXT NOT NULL, fact TEXT NOT NULL, holds INTEGER NOT NULL,
    PRIMARY KEY (task, case_id, outcome, fact)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS said (
    task TEXT NOT NULL, case_id TEXT NOT NULL, outcome TEXT NOT NULL, assistance TEXT NOT NULL,
    assistant TEXT NOT NULL, sound INTEGER NOT NULL, alarms INTEGER NOT NULL, flawed INTEGER NOT NULL,
    misses INTEGER NOT NULL, PRIMARY KEY (task, case_id, outcome, assistance, assistant)
) WITHOUT ROWID;
"""



@dataclass(frozen=True)
class Told:
    """How right an assistant was about an outcome: of its findings about what holds (`sound`) so many call it wrong
    (`alarms`), of those about what does not hold (`flawed`) so many call it right (`misses`)."""

    assistant: str
    sound: int = 0
    alarms: int = 0
    flawed: int = 0
    misses: int = 0


@dataclass(frozen=True)
class TrueOutcome:
    """What is so of an outcome, at the task that judged it.

    Attributes
    ----------
    case: the id of its case's record in run.db; `outcome`, `assistance` likewise.
    score: its true score, 0 to 1; -1 if it cannot be read.
    holds: by fact, whether its matter holds.
    """

    task: str
    case: str
    outcome: str
    score: float
    holds: Mapping[str, bool]
    assistance: str = ""
    told: tuple[Told, ...] = field(default=())


class Truths(Database):
    """A run's truth.db. Raises `StoreError` saying what could not be written and how to mend it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / FILE, SCHEMA, (), TRUTHS)

    def begin(self, code: str) -> bool:
        """Go on with what this code found; what other code found is left out from now on. Returns whether any was."""
        with self._writing():
            kept = {one for (one,) in self._db.execute("SELECT code FROM origin")}
            if kept == {code}:
                return False
            for table in ("origin", "outcomes", "facts", "said"):
                self._db.execute(f"DELETE FROM {table}")
            self._db.execute("INSERT INTO origin VALUES (?)", (code,))
        return bool(kept)

    def known(self, task: str) -> set[tuple[str, str, str]]:
        """(case, outcome, assistance) of what is known at a task."""
        with self._reading():
            return {
                *self._db.execute(
                    "SELECT DISTINCT o.case_id, o.outcome, coalesce(s.assistance, '') FROM outcomes o LEFT JOIN said s"
                    " USING (task, case_id, outcome) WHERE o.task = ?",
                    (task,),
                )
            }

    def put(self, found: Iterable[TrueOutcome]) -> None:
        """Keep these; what was known of them before is replaced."""
        with self._writing():
            for one in found:
                key = (one.task, one.case, one.outcome)
                self._db.execute("INSERT OR REPLACE INTO outcomes VALUES (?, ?, ?, ?)", (*key, one.score))
                self._db.executemany(
                    "INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?, ?)",
                    [(*key, fact, int(holds)) for fact, holds in one.holds.items()],
                )
                self._db.executemany(
                    "INSERT OR REPLACE INTO said VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [(*key, one.assistance, *astuple(told)) for told in one.told],
                )
