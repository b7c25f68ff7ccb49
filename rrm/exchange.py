"""Comparisons out of a run and into one, in the columns `prompt`, `chosen`, `rejected` that other libraries read.

Exported rows have more columns than these three, so that nothing is lost on the way back: `record` holds, as
JSON, what the plain columns do not say (the case's data, token ids, the assistance in full). Rows without it
are welcome too: plain text, or lists of messages with `role` and `content`, the prompt apart or in front.

Imported comparisons have rounds below 0: they were judged before the run's first round, and the node's reward
model is trained on them from its first fit on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from rrm.assistance import Assistance
from rrm.store import Comparison, Store
from rrm.task import Case, Outcome, RRMError
from rrm.user import Check, Judgement, Pair

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
        ("node", pa.string()),
        ("round", pa.int64()),
        ("user", pa.string()),
        ("seconds", pa.float64()),
        ("attention", pa.int64()),
        ("note", pa.string()),
        ("record", pa.string()),
    ]
)
Format = Literal["jsonl", "parquet"]
Row = Mapping[str, Any]

_said, _checks = TypeAdapter(tuple[Assistance, ...]), TypeAdapter(tuple[Check, ...])


class ExchangeError(RRMError, ValueError):
    """A file cannot be exported to, or its rows are no comparisons."""


# --- out ---------------------------------------------------------------------------------------------


def export(folder: Path, file: Path, format: Format, node: str | None = None, ties: bool = False) -> int:
    """Write a run's comparisons; returns how many. The file appears whole or not at all.

    Ties and abstentions have no chosen outcome, and whoever reads the three columns alone would be misled; so
    they are left out unless `ties`: then A stands under `chosen`, with a preference of 0.5 or none.
    """
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
            if ties or comparison.preference not in (None, 0.5)
        )
        return _write(file, format, map(row_of, comparisons))
    finally:
        store.close()


def format_of(name: str, file: Path) -> Format:
    """The format by its name, or else by the file's."""
    known: dict[str, Format] = {"jsonl": "jsonl", "json": "jsonl", "parquet": "parquet"}
    wanted = (name or file.suffix.lstrip(".")).lower()
    if wanted not in known:
        raise ExchangeError(f"{wanted or file.name!r}: which format? Give --format jsonl or --format parquet")
    return known[wanted]


def _write(file: Path, format: Format, rows: Iterator[Row]) -> int:
    part = file.with_name(f".{file.name}.part")
    written = 0
    try:
        if format == "jsonl":
            with part.open("w", encoding="utf-8") as lines:
                for row in rows:
                    lines.write(json.dumps(row, ensure_ascii=False) + "\n")
                    written += 1
        else:
            with pq.ParquetWriter(part, SCHEMA) as writer:
                while some := list(islice(rows, 1000)):
                    writer.write_table(pa.Table.from_pylist(some, SCHEMA))
                    written += len(some)
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ExchangeError(f"cannot write {file} ({error}); give another file with -o") from error
    return written


def row_of(comparison: Comparison) -> Row:
    """A comparison as a row, the preferred outcome under `chosen`."""
    pair, judgement = comparison.pair, comparison.judgement
    a_chosen = judgement.preference is None or judgement.preference >= 0.5
    ordered = pair if a_chosen else pair.swapped()
    preference = judgement.preference if a_chosen or judgement.preference is None else 1 - judgement.preference
    record = {
        "case": dict(pair.case.data),
        **{
            name: {"tokens": outcome.tokens, "logprobs": outcome.logprobs, "finished": outcome.finished}
            for name, outcome in (("chosen", ordered.a), ("rejected", ordered.b))
        },
        "assistance_chosen": _said.dump_python(ordered.assistance_a, mode="json"),
        "assistance_rejected": _said.dump_python(ordered.assistance_b, mode="json"),
        "checks": _checks.dump_python(judgement.checks, mode="json"),
    }
    return {
        "prompt": pair.case.prompt,
        "chosen": ordered.a.text,
        "rejected": ordered.b.text,
        "preference": preference,
        "assistance_chosen": " ".join(one.text for one in ordered.assistance_a),
        "assistance_rejected": " ".join(one.text for one in ordered.assistance_b),
        "assisted": judgement.assisted,
        "versions": sorted({f"{one.assistant}@{one.version}" for one in (*pair.assistance_a, *pair.assistance_b)}),
        "chosen_is_a": a_chosen,
        "node": pair.task,
        "round": comparison.round,
        "user": comparison.user,
        "seconds": comparison.seconds,
        "attention": judgement.attention,
        "note": judgement.note,
        "record": json.dumps(record, ensure_ascii=False),
    }


# --- in ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Imported:
    """What became of a file's rows."""

    rows: int
    added: int
    alike: int
    """Left out: both outcomes are the same."""

    @property
    def known(self) -> int:
        """Were there before."""
        return self.rows - self.added - self.alike


def load(file: Path, folder: Path, node: str) -> Imported:
    """Put a file's comparisons into a run's store, as judged before its first round at `node`.

    The run may be new. Loading a file twice adds nothing. Raises `ExchangeError` naming the row that is no
    comparison (then nothing is added), or if the node's reward model is trained already, without these.
    """
    if not node or not all(node.split("/")):
        raise ExchangeError(f"--node {node!r}: give the path of a node, such as paper/proofs")
    comparisons: list[Comparison] = []
    rows = alike = 0
    for rows, row in enumerate(_read(file), 1):
        try:
            comparison = comparison_of(row, node, str(file.name))
        except (ExchangeError, ValidationError, json.JSONDecodeError) as error:
            raise ExchangeError(f"{file}, row {rows}: {error}. Nothing was imported") from error
        if comparison.a == comparison.b:
            alike += 1
        else:
            comparisons.append(comparison)
    _check(folder, node)
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder / "run.db")
    try:
        if any(part == "reward" for _, part in store.checkpoints(node)):
            raise ExchangeError(
                f"{folder}: the reward model of {node!r} is trained already; import into a new run's folder"
            )
        before = store.counts()["comparisons"]
        later = max(0, 1 + max((c.round for c in comparisons), default=-1))
        for position, comparison in enumerate(comparisons):
            placed = Comparison(
                comparison.pair, comparison.judgement, comparison.round - later, comparison.user,
                comparison.seconds,
            )  # fmt: skip
            store.add(placed, position)
        return Imported(rows, store.counts()["comparisons"] - before, alike)
    finally:
        store.close()


def _check(folder: Path, node: str) -> None:
    """A run that was begun has its nodes fixed."""
    config = folder / "config.json"
    if config.exists():
        nodes = list(json.loads(config.read_text()).get("tree", ()))
        if node not in nodes:
            raise ExchangeError(f"{folder} has no node {node!r}; its nodes: {', '.join(nodes)}")


def comparison_of(row: Row, node: str, source: str) -> Comparison:
    """A row as a comparison at `node`. Raises `ExchangeError` if it is none."""
    prompt, chosen, rejected = _texts(row)
    record = json.loads(row.get("record") or "{}")
    pair = Pair(
        node, Case(prompt, record.get("case", {})),
        _outcome(chosen, record.get("chosen", {})), _outcome(rejected, record.get("rejected", {})),
        _said.validate_python(record.get("assistance_chosen", ())),
        _said.validate_python(record.get("assistance_rejected", ())),
    )  # fmt: skip
    a_chosen = row.get("chosen_is_a") is not False
    preference = row.get("preference", 1.0)
    if preference is not None and not (isinstance(preference, int | float) and 0 <= preference <= 1):
        raise ExchangeError(f"preference {preference!r}: give 0.5 (a tie) to 1 (chosen, without doubt), or null")
    if preference is not None and not a_chosen:
        preference = 1 - preference
    judgement = Judgement(
        preference, _checks.validate_python(record.get("checks", ())), int(row.get("attention") or 0),
        str(row.get("note") or ""), row.get("assisted") is not False,
    )  # fmt: skip
    user = str(row.get("user") or f"imported({source})")
    round = -1 if row.get("round") is None else int(row["round"])
    seconds = float(row.get("seconds") or 0.0)
    return Comparison(pair if a_chosen else pair.swapped(), judgement, round, user, seconds)


def _outcome(text: str, kept: Mapping[str, Any]) -> Outcome:
    return Outcome(text, tuple(kept.get("tokens", ())), tuple(kept.get("logprobs", ())), kept.get("finished", True))


def _texts(row: Row) -> tuple[str, str, str]:
    """(prompt, chosen, rejected) of a row of texts or of messages."""
    missing = [name for name in ("chosen", "rejected") if row.get(name) is None]
    if missing:
        raise ExchangeError(f"no {' and no '.join(missing)}; its columns: {', '.join(row)}")
    prompt, chosen, rejected = row.get("prompt"), row["chosen"], row["rejected"]
    if isinstance(chosen, str) and isinstance(rejected, str):
        if not isinstance(prompt, str):
            raise ExchangeError("no prompt: texts without one cannot be told apart from it; add a column `prompt`")
        return prompt, chosen, rejected
    chosen, rejected = _messages(chosen), _messages(rejected)
    if prompt is not None:
        return prompt if isinstance(prompt, str) else _text(_messages(prompt)), _text(chosen), _text(rejected)
    shared = 0  # the prompt is in front of both
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    return _text(chosen[:shared]), _text(chosen[shared:]), _text(rejected[shared:])


Messages = list[tuple[str, str]]


def _messages(value: object) -> Messages:
    if not isinstance(value, list) or not all(isinstance(m, Mapping) for m in value):
        raise ExchangeError(f"{str(value)[:60]!r} is neither a text nor a list of messages")
    found = [(m.get("role"), m.get("content")) for m in value]
    if not all(isinstance(role, str) and isinstance(content, str) for role, content in found):
        raise ExchangeError("a message without role or without text as its content; only text can be imported")
    return [(str(role), str(content)) for role, content in found]


def _text(messages: Messages) -> str:
    """One message is its content; several are a transcript."""
    if len(messages) == 1:
        return messages[0][1]
    return "\n\n".join(f"{role}: {content}" for role, content in messages)


def _read(file: Path) -> Iterable[Row]:
    """The rows of a JSONL or parquet file, whichever it is."""
    try:
        with file.open("rb") as opened:
            parquet = opened.read(4) == b"PAR1"
        if parquet:
            for batch in pq.ParquetFile(file).iter_batches(1000):
                yield from batch.to_pylist()
            return
        with file.open(encoding="utf-8") as lines:
            for n, line in enumerate(lines, 1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ExchangeError(f"{file}, line {n}: not an object with the columns as keys")
                    yield row
    except json.JSONDecodeError as error:
        raise ExchangeError(f"{file}, line {n}: not JSON ({error}); give JSONL or parquet") from error
    except (OSError, UnicodeDecodeError, pa.ArrowInvalid) as error:
        raise ExchangeError(f"cannot read {file} ({error}); give JSONL or parquet") from error
