"""What was said of single outcomes, as rows: all of it, to come back; or what trainers of others read.

TRL's unpaired format (`prompt`, `completion`, `label`) for approvals, its formats of prompts and completions for
demonstrations.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa
from pydantic import TypeAdapter

from rrm.core.interrupts import interrupts_held
from rrm.core.parts import is_part
from rrm.core.records import Assistance
from rrm.core.remarks import Remarked
from rrm.exchange.exporting import ExchangeError, Format, Row, sampled, write
from rrm.store.store import Store

What = Literal["remarks", "approvals", "demonstrations"]
WHAT: tuple[What, ...] = get_args(What)
SCHEMA = pa.schema(
    [
        ("prompt", pa.string()),
        ("outcome", pa.string()),
        ("kind", pa.string()),  # rating, approval, unacceptable, correction, demonstration, note
        ("value", pa.float64()),  # a rating's level, from 1; of an approval and a mark 1 or 0; else null
        ("levels", pa.int64()),  # of a rating; else null
        ("text", pa.string()),
        ("better", pa.string()),  # of a correction; else null
        ("node", pa.string()),
        ("round", pa.int64()),
        ("user", pa.string()),
        ("by", pa.string()),  # who of several people said it; else empty
        ("record", pa.string()),
    ]
)
_TURNS = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_said = TypeAdapter(tuple[Assistance, ...])


def export_remarks(
    folder: Path, file: Path, format: Format, what: What = "remarks", node: str | None = None, messages: bool = False
) -> int:
    """Write a run's remarks, those beside comparisons and those that were imported; returns how many.

    what: remarks, all of them, one a row, each as a whole in `record`; approvals, or demonstrations, alone in the
    columns that TRL's trainers read, with `messages` as messages. Of somebody's approvals of one outcome, the last
    counts. Of parts of outcomes there are none among these, of which a trainer would make whole ones.
    """
    if not (folder / "run.db").exists():
        raise ExchangeError(f"{folder}: no run there (no run.db); give the folder of a run")
    store = Store(folder / "run.db")
    try:
        nodes = sorted({task for task, _ in store.rounds()} | set(store.remarked()))
        if node is not None and node not in nodes:
            raise ExchangeError(f"{folder} has no node {node!r} with remarks; there are {', '.join(nodes) or 'none'}")
        found = (one for task in nodes if node in (None, task) for one in _of_task(store, task))
        if what == "remarks":
            return write(file, format, map(row_of_remark, found), SCHEMA)
        return write(file, format, _unpaired(found, what, messages), _schema(what, messages))
    finally:
        store.close()


def _of_task(store: Store, task: str) -> Iterator[Remarked]:
    yield from store.remarks(task)
    yield from (one for comparison in store.comparisons(task) for one in comparison.remarks)


@interrupts_held()  # pydantic would take Ctrl-C for its own
def row_of_remark(one: Remarked) -> Row:
    """A remark as a row; `record` has what the other columns do not say."""
    better = one.remark.better
    record = {
        "case": dict(one.case.data),
        "form": one.case.form,
        "outcome": sampled(one.outcome),
        "assistance": _said.dump_python(one.assistance, mode="json"),
    }
    if better is not None:
        record["better"] = sampled(better)
    return {
        "prompt": one.case.prompt,
        "outcome": one.outcome.whole,
        "kind": one.remark.kind,
        "value": one.remark.value,
        "levels": one.remark.levels or None,
        "text": one.remark.text,
        "better": None if better is None else better.whole,
        "node": one.task,
        "round": one.round,
        "user": one.user,
        "by": one.remark.by,
        "record": json.dumps(record, ensure_ascii=False),
    }


def _unpaired(found: Iterator[Remarked], what: What, messages: bool) -> Iterator[Row]:
    """Rows of approvals, or of demonstrations, with the texts as they were written."""
    kind = "approval" if what == "approvals" else "demonstration"
    last = {
        (one.task, one.case.id, one.outcome.id, one.remark.by or one.user): one
        for one in found if one.remark.kind == kind and not is_part(one.case)
    }  # fmt: skip
    for one in last.values():
        prompt, completion = one.case.prompt, one.outcome.whole
        texts: dict[str, object] = {"prompt": prompt, "completion": completion}
        if messages:
            texts = {
                "prompt": [{"role": "user", "content": prompt}],
                "completion": [{"role": "assistant", "content": completion}],
            }
        label = {"label": one.remark.value == 1} if what == "approvals" else {}
        yield {**texts, **label, "node": one.task, "user": one.remark.by or one.user}


def _schema(what: What, messages: bool) -> pa.Schema:
    text = _TURNS if messages else pa.string()
    label = [("label", pa.bool_())] if what == "approvals" else []
    return pa.schema(
        [("prompt", text), ("completion", text), *label, ("node", pa.string()), ("user", pa.string())]
    )
