"""Comparisons out of a run, in the columns `prompt`, `chosen`, `rejected` that other libraries read.

Exported rows have more columns than these three, so that nothing is lost on the way back (`rrm.exchange.imports`):
`record` holds, as JSON, what the plain columns do not say (the case's data, token ids, the assistance in full). An
outcome that is data without a text stands in its column as people see it, the data as JSON; `record` has it as it is.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from rrm.core.errors import RRMError
from rrm.core.interrupts import interrupts_held
from rrm.core.judgements import Check, Comparison
from rrm.core.parts import is_part, named_part
from rrm.core.records import Assistance, Outcome
from rrm.core.remarks import Remark
from rrm.store.store import Store

SCHEMA = pa.schema(
    [
        ("prompt", pa.string()),
        ("chosen", pa.string()),
        ("rejected", pa.string()),
        ("preference", pa.float64()),  # for `chosen`: 0.5 a tie, 1 without doubt; null: the user abstained
        ("assistance_chosen", pa.string()),  # as the reward model reads it
        ("assistance_rejected", pa.string()),
        ("assisted", pa.bool_()),  # whether the user saw it
        ("versions", pa.list_(pa.string())),  # of the assistants: "path@version"
        ("chosen_is_a", pa.bool_()),
        ("part", pa.string()),  # of which part of the outcomes it is; null: of whole ones
        ("node", pa.string()),
        ("round", pa.int64()),
        ("user", pa.string()),
        ("seconds", pa.float64()),
        ("attention", pa.int64()),
        ("note", pa.string()),
        ("record", pa.string()),
    ]
)
_TURNS = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
MESSAGES = pa.schema([field if i > 2 else (field.name, _TURNS) for i, field in enumerate(SCHEMA)])
"""As `SCHEMA`, the first three columns as messages."""
Format = Literal["jsonl", "parquet"]
Row = Mapping[str, Any]

_said, _checks = TypeAdapter(tuple[Assistance, ...]), TypeAdapter(tuple[Check, ...])
_remarks = TypeAdapter(tuple[Remark, ...])


class ExchangeError(RRMError, ValueError):
    """A file cannot be written, or its rows are no comparisons."""


# --- out ---------------------------------------------------------------------------------------------


def export(
    folder: Path, file: Path, format: Format, node: str | None = None, ties: bool = False, messages: bool = False,
    left: Counter[str] | None = None,
) -> int:  # fmt: skip
    """Write a run's comparisons; returns how many. The file appears whole or not at all.

    Ties and abstentions have no chosen outcome, and whoever reads the three columns alone would be misled; so
    they are left out unless `ties`: then A stands under `chosen`, with a preference of 0.5 or none.

    messages: each of the three a list of messages with `role` and `content`, which trainers put through a model's chat
    template; texts are trained on without it.

    left: counts "ties" and "abstentions" that were left out.
    """
    left = Counter() if left is None else left
    if not (folder / "run.db").exists():
        raise ExchangeError(f"{folder}: no run there (no run.db); give the folder of a run")
    store = Store(folder / "run.db")
    try:
        known = store.rounds()
        if node is not None and node not in {task for task, _ in known}:
            nodes = ", ".join(sorted({task for task, _ in known})) or "none"
            raise ExchangeError(f"{folder} has no comparisons at {node!r}; nodes with comparisons: {nodes}")
        comparisons = (
            comparison
            for task, round in known
            if node in (None, task)
            for comparison in store.comparisons(task, round)
            if ties or _chosen(comparison, left)
        )
        rows = map(row_of, comparisons)
        return write(file, format, map(_in_turns, rows) if messages else rows, MESSAGES if messages else SCHEMA)
    finally:
        store.close()


def _chosen(comparison: Comparison, left: Counter[str]) -> bool:
    """Whether anything was; else it is counted."""
    if comparison.preference in (None, 0.5):
        left["ties" if comparison.preference else "abstentions"] += 1
        return False
    return True


def left_out(left: Counter[str]) -> str:
    """What is not in the file, and how it would be."""
    if not left.total():
        return ""
    what = [f"{n} {name if n > 1 else name.removesuffix('s')}" for name, n in left.items()]
    return f"; {' and '.join(what)} left out, in which nothing was chosen (--ties takes them in)"


def format_of(name: str, file: Path) -> Format:
    """The format by its name, or else by the file's."""
    known: dict[str, Format] = {"jsonl": "jsonl", "json": "jsonl", "parquet": "parquet"}
    wanted = (name or file.suffix.lstrip(".")).lower()
    if wanted not in known:
        raise ExchangeError(f"{wanted or file.name!r}: which format? Give --format jsonl or --format parquet")
    return known[wanted]


def _in_turns(row: Row) -> Row:
    """The row with its texts as messages."""
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    return {**row, **{key: [{"role": role, "content": row[key]}] for key, role in roles.items()}}


def write(file: Path, format: Format, rows: Iterator[Row], schema: pa.Schema) -> int:
    """Write rows; returns how many. The file appears whole or not at all."""
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    written = 0
    try:
        if format == "jsonl":
            with part.open("w", encoding="utf-8") as lines:
                for row in rows:
                    lines.write(json.dumps(row, ensure_ascii=False) + "\n")
                    written += 1
        else:
            with pq.ParquetWriter(part, schema) as writer:
                while some := list(islice(rows, 1000)):
                    writer.write_table(pa.Table.from_pylist(some, schema))
                    written += len(some)
        part.replace(file)
    except OSError as error:
        raise ExchangeError(f"cannot write {file} ({error}); give another file with -o") from error
    finally:  # of what did not become the file, also by Ctrl-C: it lies where somebody keeps files of their own
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return written


@interrupts_held()  # pydantic would take Ctrl-C for its own
def row_of(comparison: Comparison) -> Row:
    """A comparison as a row, the preferred outcome under `chosen`."""
    pair, judgement = comparison.pair, comparison.judgement
    a_chosen = judgement.preference is None or judgement.preference >= 0.5
    ordered = pair if a_chosen else pair.swapped()
    preference = judgement.preference if a_chosen or judgement.preference is None else 1 - judgement.preference
    checks = judgement.checks if a_chosen else tuple(check.turned() for check in judgement.checks)
    record = {
        "case": dict(pair.case.data),
        "form": pair.case.form,
        "chosen": sampled(ordered.a),
        "rejected": sampled(ordered.b),
        "assistance_chosen": _said.dump_python(ordered.assistance_a, mode="json"),
        "assistance_rejected": _said.dump_python(ordered.assistance_b, mode="json"),
        "checks": _checks.dump_python(checks, mode="json"),
    }
    sides = (judgement.remarks_a, judgement.remarks_b)
    for name, remarks in zip(("chosen", "rejected"), sides if a_chosen else reversed(sides), strict=True):
        if remarks:
            record[f"remarks_{name}"] = _remarks.dump_python(remarks, mode="json")
    return {
        "prompt": pair.case.prompt,
        "chosen": ordered.a.whole,
        "rejected": ordered.b.whole,
        "preference": preference,
        "assistance_chosen": " ".join(one.text for one in ordered.assistance_a),
        "assistance_rejected": " ".join(one.text for one in ordered.assistance_b),
        "assisted": judgement.assisted,
        "versions": sorted({f"{one.assistant}@{one.version}" for one in (*pair.assistance_a, *pair.assistance_b)}),
        "chosen_is_a": a_chosen,
        "part": named_part(pair.case) or "part" if is_part(pair.case) else None,
        "node": pair.task,
        "round": comparison.round,
        "user": comparison.user,
        "seconds": comparison.seconds,
        "attention": judgement.attention,
        "note": judgement.note,
        "record": json.dumps(record, ensure_ascii=False),
    }


def sampled(outcome: Outcome) -> dict[str, Any]:
    """What an outcome's column does not say: its ids and its data, and its own text if the column shows another."""
    kept: dict[str, Any] = {"tokens": outcome.tokens, "logprobs": outcome.logprobs, "finished": outcome.finished}
    if outcome.data is not None:
        kept["data"] = dict(outcome.data)
    if outcome.around != ("", ""):
        kept["around"] = outcome.around
    return kept if outcome.text == outcome.whole else {**kept, "text": outcome.text}
