"""What a node's card on the tree says beside its state: how right whoever judges it is, what assistance adds, which
rounds stand, and how often the node has nothing to say as an assistant.

A tree is looked at while it trains, whatever its size: judgements are counted among the newest only, and said to be.
How many that is follows from the records and from no clock, so that a tree which nothing was added to says the same.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from rrm.core.errors import StoreError
from rrm.store.database import check_version, read_only
from rrm.store.files import file_name
from rrm.store.upgrades import LABELS
from rrm.view.accuracy import ENOUGH, finite
from rrm.view.comparisons import PARTS
from rrm.view.damage import torn
from rrm.view.reading import NodeView, Reader
from rrm.view.truth import BETTER, JOINS, attached

NEWEST = 300
"""Comparisons of a node that are looked at, at most."""
ROWS = 10_000
"""Comparisons of all nodes together that are looked at, at most."""
CHARACTERS = 12_000_000
"""Of what assistants said, in all nodes together, that are read for it, at most: some say very much."""
LABELED = 2000
"""Labels of people that are looked at, at most."""


@dataclass(frozen=True)
class Card:
    """A node's figures in words; empty where there is no record of one."""

    agreement: str = ""
    """How often the user prefers the truly better, of how many; of people, in how many pairs they agree."""
    gain: str = ""
    """How much more often the user is right with assistance, as `rrm audit` found it of the newest weights."""
    rounds: str = ""
    """How many improvements stand, were undone, and were asked about by nobody."""
    silent: str = ""
    """How often it had nothing to say of an outcome (N/A)."""


@dataclass
class _Seen:
    """What the newest comparisons say."""

    right: float = 0.0
    told: int = 0
    """Preferences of pairs of which one is truly better."""
    some: bool = False
    """Whether there are older ones that were not looked at."""


def newest_of(run: Reader) -> int:
    """Comparisons of each node that are looked at, at most."""
    return max(1, min(NEWEST, ROWS // max(1, len(run.counts))))


def cards_of(run: Reader) -> dict[str, Card]:
    """Path -> card, of every node."""
    silent: dict[str, list[int]] = {}
    sampled: set[str] = set()
    newest, left = newest_of(run), CHARACTERS // max(1, len(run.counts))
    seen = {path: _newest(run, path, silent, sampled, newest, left) for path in run.nodes if path in run.counts}
    people, stands = _people(run), _stands(run)
    return {
        path: Card(
            _agreement(run, path, seen.get(path, _Seen()), people.get(path, "")), _gain(run, path),
            _rounds(run, node, stands.get(path, {})),
            _share(silent[path], path in sampled) if path in silent else "",
        ) for path, node in run.nodes.items()
    }  # fmt: skip


def _newest(
    run: Reader, task: str, silent: dict[str, list[int]], sampled: set[str], newest: int, characters: int
) -> _Seen:
    """Look at the newest comparisons of a task: at the user by the truth, and, as far as so many characters go, at
    which answers of assistants say nothing ([N/A, all], put into `silent`; assistants of which not all were looked at
    into `sampled`).
    """
    found, gone = _Seen(), set[int]()
    parsed: dict[str, list[tuple[str, bool]]] = {}
    met: set[str] = set()
    rows = _rows(run, task, newest)
    found.some = len(rows) == newest < sum(run.counts[task].values())
    short = found.some
    for seq, supersedes, preference, better, *sides in rows:
        gone.add(supersedes)
        if seq in gone:
            continue
        if preference is not None and better:
            found.told += 1
            found.right += 0.5 if preference == 0.5 else float((preference > 0.5) == (better > 0))
        for blob in sides if characters >= 0 else ():
            if blob not in parsed:
                length, parsed[blob] = _said(run, blob, characters)
                characters -= length
                if characters < 0:
                    short = True
                    break
            for assistant, nothing in parsed[blob]:
                counts = silent.setdefault(assistant, [0, 0])
                counts[0] += nothing
                counts[1] += 1
                met.add(assistant)
    sampled |= met if short else set()
    return found


def _rows(run: Reader, task: str, newest: int) -> list[tuple[int, int, float | None, float | None, str, str]]:
    """The newest comparisons of a task, newest first: number, which it supersedes, preference, by how much A is truly
    better (None where that is not known, and of parts of outcomes), and what was said of both."""
    def rows(better: str, joins: str) -> list[tuple[int, int, float | None, float | None, str, str]]:
        return run.rows(
            f"SELECT c.seq, c.supersedes, c.preference, {better}, c.assistance_a, c.assistance_b FROM (SELECT * FROM"
            f" comparisons WHERE task = ? ORDER BY seq DESC LIMIT ?) c{joins} ORDER BY c.seq DESC",
            (task, newest),
        )

    if attached(run):
        try:
            return rows(f"CASE WHEN NOT {PARTS} THEN {BETTER} END", JOINS)
        except sqlite3.DatabaseError:  # truth.db is damaged, or has other columns; the rest can be said all the same
            pass
    return rows("NULL", "")


def _said(run: Reader, blob: str, most: int) -> tuple[int, list[tuple[str, bool]]]:
    """Characters of a record of assistance, and (assistant, whether it has nothing to say) if these are not more than
    `most`."""
    body = "CASE WHEN length(body) <= ? THEN body END"
    row = run.row(f"SELECT length(body), {body} FROM blobs WHERE id = ?", (most, blob))
    if row is None or row[1] is None:
        return 0 if row is None else row[0], []
    return row[0], [
        (str(one["assistant"]), not any(answer["findings"] for answer in one["answers"])) for one in json.loads(row[1])
    ]


def _share(counts: list[int], some: bool) -> str:
    """ "12% of 400 answers"."""
    return f"{counts[0] / counts[1]:.0%} of {'the newest ' if some else ''}{counts[1]:,} answers"


def _agreement(run: Reader, path: str, seen: _Seen, people: str) -> str:
    """As a measurement beside the run has it, else by truth.db; and that of people with each other."""
    said = []
    measured = run.report.get("agreement", {}) if path == run.root else {}
    if "mean" in measured:
        said.append(f"with the truth {measured['mean']:.2f}" + (f", n {measured['n']:,.0f}" if "n" in measured else ""))
    elif seen.told >= ENOUGH:
        newest = " of the newest" if seen.some else ""
        said.append(f"with the truth {seen.right / seen.told:.2f}, n {seen.told:,}{newest}")
    return "; ".join([*said, people] if people else said)


def _people(run: Reader) -> dict[str, str]:
    """Task -> in how many pairs that several people judged all say the same."""
    path = run.folder / "labels.db"
    if not path.exists() or torn(path):
        return {}
    try:
        with read_only(path) as db:
            check_version(db, path, len(LABELS))
            rows = db.execute(
                "SELECT q.task, COUNT(*), SUM(p.same) FROM (SELECT question, MIN(side) = MAX(side) AS same FROM (SELECT"
                " question, labeler, (preference > 0.5) - (preference < 0.5) AS side FROM current WHERE preference IS"
                " NOT NULL ORDER BY seq DESC LIMIT ?) GROUP BY question HAVING COUNT(DISTINCT labeler) > 1) p"
                " JOIN questions q ON q.id = p.question GROUP BY q.task",
                (LABELED,),
            ).fetchall()
            (many,) = db.execute("SELECT MAX(seq) FROM labels").fetchone()
    except (sqlite3.DatabaseError, StoreError):  # not made yet, unreadable, or newer
        return {}
    newest = " of the newest" if (many or 0) > LABELED else ""
    return {task: f"of people in {int(same)}/{n}{newest} pairs" for task, n, same in rows}


def _gain(run: Reader, path: str) -> str:
    """What the audit `gain` found, if it was of the weights that the node has now."""
    try:
        kept = json.loads((run.folder / "trust" / file_name(path) / "audits" / "gain.json").read_text())
        now = {part: sha256 for _, part, _, sha256, _ in run.checkpoints.get(path, ()) if part in ("agent", "reward")}
        one: Mapping[str, float | None] = kept["found"]["gain"]
        if kept["weights"] != now or not finite(one.get("value")) or not finite(one["n"]):
            return ""
        between = f" [{one['low']:+z.2f}, {one['high']:+z.2f}]" if finite(one["low"]) and finite(one["high"]) else ""
        return f"{one['value']:+z.2f}{between}, n {one['n']:,.0f}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):  # none, or somebody else's file
        return ""


def _stands(run: Reader) -> dict[str, dict[int, bool]]:
    """Task -> round -> whether its improvement stands; of rounds of which somebody, or the reward, said so."""
    found: dict[str, dict[int, bool]] = {}
    for task, round, name, value in run.rows(
        "SELECT task, round, name, value FROM metrics WHERE name IN ('kept', 'undone') ORDER BY name"
    ):
        found.setdefault(task, {})[round] = name == "kept" and bool(value)
    return found


def _rounds(run: Reader, node: NodeView, stands: Mapping[int, bool]) -> str:
    done = {round for round, part, *_ in run.checkpoints.get(node.path, ()) if part == "agent"}
    told: Iterable[tuple[str, Callable[[int], bool]]] = (
        ("kept", lambda round: stands.get(round) is True), ("undone", lambda round: stands.get(round) is False),
        ("not asked", lambda round: round not in stands),
    )  # fmt: skip
    counts = [(sum(map(which, done | {*stands})), word) for word, which in told]
    return ", ".join(f"{n} {word}" for n, word in counts if n)
