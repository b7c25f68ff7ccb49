"""What a node's card on the tree says beside its state: how right whoever judges it is, what assistance adds, which
rounds stand, and how often the node has nothing to say as an assistant.

A tree is looked at while it trains, whatever its size: judgements are counted among the newest only, and said to be.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass

from rrm.core.errors import StoreError
from rrm.store.database import check_version
from rrm.store.files import file_name
from rrm.store.upgrades import LABELS
from rrm.view.accuracy import ENOUGH
from rrm.view.reading import NodeView, Reader
from rrm.view.truth import BETTER, JOINS, WITHOUT, attached

NEWEST = 300
"""Comparisons of a node that are looked at, at most."""
LABELED = 2000
"""Labels of people that are looked at, at most."""
SECONDS = 0.25
"""How long all nodes together may take; those that come after are counted among fewer, or not at all."""


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


def cards_of(run: Reader, seconds: float = SECONDS) -> dict[str, Card]:
    """Path -> card, of every node. `seconds`: see `SECONDS`."""
    silent: dict[str, list[int]] = {}
    sampled: set[str] = set()
    seen = {path: _newest(run, path, silent, sampled, time.monotonic() + seconds / len(run.nodes))
            for path in run.nodes if path in run.counts}  # fmt: skip
    people, stands = _people(run), _stands(run)
    return {
        path: Card(
            _agreement(run, path, seen.get(path, _Seen()), people.get(path, "")), _gain(run, path),
            _rounds(run, node, stands.get(path, {})),
            _share(silent[path], path in sampled) if path in silent else "",
        ) for path, node in run.nodes.items()
    }  # fmt: skip


def _newest(run: Reader, task: str, silent: dict[str, list[int]], sampled: set[str], until: float) -> _Seen:
    """Look at the newest comparisons of a task, until it is time: at the user by the truth, and at which answers of
    assistants say nothing ([N/A, all], put into `silent`; assistants of which not all were looked at into `sampled`).
    """
    found, gone = _Seen(), set[int]()
    parsed: dict[str, list[tuple[str, bool]]] = {}
    met: set[str] = set()
    rows = run.db.execute(
        f"SELECT c.seq, c.supersedes, c.preference, {BETTER}, c.assistance_a, c.assistance_b FROM (SELECT * FROM"
        f" comparisons WHERE task = ? ORDER BY seq DESC LIMIT ?) c{JOINS if attached(run) else WITHOUT}"
        " ORDER BY c.seq DESC",
        (task, NEWEST),
    )
    looked = 0
    for seq, supersedes, preference, better, *sides in rows:
        looked += 1
        gone.add(supersedes)
        if seq not in gone:
            if preference is not None and better:
                found.told += 1
                found.right += 0.5 if preference == 0.5 else float((preference > 0.5) == (better > 0))
            for blob in sides:
                if blob not in parsed:
                    parsed[blob] = _said(run, blob)
                for assistant, nothing in parsed[blob]:
                    counts = silent.setdefault(assistant, [0, 0])
                    counts[0] += nothing
                    counts[1] += 1
                    met.add(assistant)
        if time.monotonic() > until:
            found.some = True
            break
    found.some |= looked == NEWEST < sum(run.counts[task].values())
    rows.close()
    sampled |= met if found.some else set()
    return found


def _said(run: Reader, blob: str) -> list[tuple[str, bool]]:
    """(assistant, whether it has nothing to say) of a record of assistance."""
    row = run.row("SELECT body FROM blobs WHERE id = ?", (blob,))
    return [] if row is None else [
        (str(one["assistant"]), not any(answer["findings"] for answer in one["answers"])) for one in json.loads(row[0])
    ]  # fmt: skip


def _share(counts: list[int], some: bool) -> str:
    """ "12% of 400 answers"."""
    return f"{counts[0] / counts[1]:.0%} of {'the newest ' if some else ''}{counts[1]:,} answers"


def _agreement(run: Reader, path: str, seen: _Seen, people: str) -> str:
    """As a measurement beside the run has it, else by truth.db; and that of people with each other."""
    said = []
    measured = run.report.get("agreement", {}) if path == run.root else {}
    if "mean" in measured:
        said.append(f"with the truth {measured['mean']:.2f}" + (f", n {measured['n']:,}" if "n" in measured else ""))
    elif seen.told >= ENOUGH:
        newest = " of the newest" if seen.some else ""
        said.append(f"with the truth {seen.right / seen.told:.2f}, n {seen.told:,}{newest}")
    return "; ".join([*said, people] if people else said)


def _people(run: Reader) -> dict[str, str]:
    """Task -> in how many pairs that several people judged all say the same."""
    path = run.folder / "labels.db"
    if not path.exists():
        return {}
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)) as db:
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
        if kept["weights"] != now or one.get("value") is None:
            return ""
        between = "" if one["low"] is None or one["high"] is None else f" [{one['low']:+z.2f}, {one['high']:+z.2f}]"
        return f"{one['value']:+z.2f}{between}, n {one['n']:,}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # there is none, or somebody else's file
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
