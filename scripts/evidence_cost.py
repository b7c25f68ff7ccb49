"""What it costs that every row of run.db is hashed with all before it, as a share of a run's training time.

    python scripts/evidence_cost.py runs/demo/recursive

Times the inserting of the run's own metrics, blobs and comparisons, with and without the triggers, several times in
turn; then says what that comes to for as many rows as the run has, beside the seconds that its training took, and how
long certifying it takes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rrm.store.store import LINKED, Store
from rrm.trust.certifying import certify
from rrm.view.reading import Reader

TABLES = ("metrics", "blobs", "comparisons")
REPEATS = 5


def inserted(rows: dict[str, list[tuple[Any, ...]]], linked: bool) -> float:
    """Seconds to insert the rows, a transaction a hundred of them."""
    with TemporaryDirectory() as folder, closing(Store(Path(folder) / "run.db")) as store:
        if not linked:
            for table in TABLES:
                store._db.execute(f"DROP TRIGGER {table}_insert_linked")
        began = time.perf_counter()
        for table, some in rows.items():
            columns = LINKED[table][0]
            marks = ", ".join("?" * (columns.count(",") + 1))
            for start in range(0, len(some), 100):
                part = some[start : start + 100]
                with store._writing():
                    store._db.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", part)
        return time.perf_counter() - began


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    run: Path = parser.parse_args(arguments).run
    with Reader(run) as reader:
        rows = {table: reader.rows(f"SELECT {LINKED[table][0]} FROM {table}") for table in TABLES}
        seconds = sum(value for (value,) in reader.rows("SELECT value FROM metrics WHERE name = 'seconds'"))
        total = sum(reader.row(f"SELECT COUNT(*) FROM {table}")[0] for table in LINKED)
    times = [(inserted(rows, True), inserted(rows, False)) for _ in range(REPEATS)]
    some = sum(map(len, rows.values()))
    each = statistics.median(a - b for a, b in times) / some
    print(f"{total:,} rows, trained in {seconds:,.0f} s")
    share = each * total / seconds
    print(f"a row's link: {each * 1e6:.0f} microseconds; all of them: {each * total:.2f} s, {share:.2%}")
    with TemporaryDirectory() as folder:
        began = time.perf_counter()
        done = certify(run, out=Path(folder))
        took = time.perf_counter() - began
    print(f"certifying {len(done)} nodes: {took:.2f} s, {took / seconds:.2%}")


if __name__ == "__main__":
    main()
