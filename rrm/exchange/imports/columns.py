"""A row of a source: its columns, where it stands, which of them were read; and what a text must be to be kept."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rrm.core import border
from rrm.exchange.exporting import ExchangeError

NAMES = """
    id _id ids idx index __index_level_0__ uuid uid hash key row
    source dataset dataset_name data_source origin subset split license url version
    category categories subcategory domain topic tags language lang locale occupation
    date time timestamp tstamp created_at updated_at inserted_at
    model models model_a model_b model_1 model_2 generator
    turn turns n_turns num_turns num_responses length tokens num_tokens
    meta metadata additional_metadata
"""
HARMLESS = frozenset(NAMES.split())
"""Names of columns that say where a row is from, and nothing of what was asked, answered or preferred."""
HARMLESS_ENDS = tuple(
    f"{joint}{end}" for joint in "_-" for end in
    ("id", "ids", "uuid", "sha256", "hash", "url", "model", "models", "tokens", "length", "source", "timestamp")
)  # fmt: skip
"""And how longer names of such end: chosen_model, prompt_id."""
HARMLESS_OF = frozenset(
    f"{what}_{whose}" for what in ("model", "source", "id", "length", "tokens") for whose in ("chosen", "rejected")
)
WORDS = 3
"""A harmless name does not make a question harmless: so many words are no id, and may be what was asked."""
FIELDS = ("role", "content", "from", "value")
"""What of a message is read."""
State = Literal["read", "harmless", "unread"]


class LeftOut(ExchangeError):
    """A row that is as it should be, yet holds no comparison: it is counted, and nothing is guessed."""


@dataclass(frozen=True)
class SourceRow:
    """One row, and where it stands."""

    values: Mapping[str, Any]
    file: str
    number: int
    """From 1; in a JSONL file the line."""
    path: Path | None = None

    @property
    def place(self) -> str:
        """ "FILE:NUMBER", for messages."""
        return f"{self.file}:{self.number}"


class Row(Mapping[str, Any]):
    """A row that notes which of its columns were read: by `[]` or `get`. `in`, iteration and `raw` read nothing."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw
        self.seen: set[str] = set()
        self.ways: set[str] = set()
        """Of columns that were read in part: which, as `--map` says it ("answers.*.answer")."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Row:
        """The row itself, or a new one of these values."""
        return values if isinstance(values, cls) else cls(values)

    def __getitem__(self, name: str) -> Any:
        value = self.raw[name]
        self.seen.add(name)
        return value

    def __contains__(self, name: object) -> bool:
        return name in self.raw

    def __iter__(self) -> Iterator[str]:
        return iter(self.raw)

    def __len__(self) -> int:
        return len(self.raw)

    def texts(self) -> list[str]:
        """Columns not read so far that hold a text or messages, and are not known to be harmless; or whose name is, but
        hold what may be a question."""
        return [
            name for name, value in self.raw.items()
            if name not in self.seen and (asks(name, value) if harmless(name) else _is_text(value))
        ]  # fmt: skip


class Inherited(Row):
    """A row made of another: what is read of the columns that it has from there is read there."""

    def __init__(self, raw: Mapping[str, Any], parent: Row, from_there: frozenset[str]) -> None:
        super().__init__(raw)
        self.parent, self.from_there = parent, from_there

    def __getitem__(self, name: str) -> Any:
        if name in self.from_there:
            self.parent.seen.add(name)
        return super().__getitem__(name)


@dataclass
class Account:
    """What became of every column: read, known to be harmless, or unread. Filled as rows are read.

    ignored: columns that the user called harmless.
    """

    ignored: frozenset[str] = frozenset()
    rows: Counter[str] = field(default_factory=Counter)
    """Column -> rows that have something in it."""
    fields: Counter[str] = field(default_factory=Counter)
    """Field of messages that is not read ("chosen: name") -> rows that have something in it."""
    read: set[str] = field(default_factory=set)

    def add(self, values: Mapping[str, Any], seen: Set[str], ways: Iterable[str] = ()) -> None:
        """Count a row's columns, of which `seen` were read before it gave its comparisons or was left out, some of them
        in part (`ways`)."""
        self.read |= seen
        for name, value in values.items():
            if not empty(value):
                self.rows[name] += 1
                if name in seen:
                    into = [way.removeprefix(f"{name}.") for way in ways if way.startswith(f"{name}.")]
                    found = set(_beside(value, into, name)) if into else set()
                    self.fields.update(sorted(found | {f"{name}: {field}" for field in _other_fields(value)}))

    def state(self, name: str) -> State:
        """What became of a column."""
        if name in self.ignored:
            return "harmless"
        return "read" if name in self.read else "harmless" if harmless(name) else "unread"

    def unread(self) -> dict[str, int]:
        """Columns and fields of messages that nobody looked at -> rows that have something there."""
        columns = {name: n for name, n in self.rows.most_common() if self.state(name) == "unread"}
        return {**columns, **{name: n for name, n in self.fields.most_common() if name not in self.ignored}}


def harmless(name: str) -> bool:
    """Whether a column's name says that it is."""
    small = name.lower()
    return small in HARMLESS or small in HARMLESS_OF or small.endswith(HARMLESS_ENDS)


def asks(name: str, value: object) -> bool:
    """Whether what a column holds may be a question, though its name is harmless; a model's name may be long."""
    if isinstance(value, Mapping):
        return any(asks(str(key), held) for key, held in value.items())
    said = isinstance(value, str) and (len(value.split()) >= WORDS or value.rstrip().endswith("?"))
    return said and not re.search(r"model|date|time|stamp|url|generator", name.lower())


def empty(value: object) -> bool:
    """Whether nothing is said: none, no characters, no elements."""
    return value is None or (isinstance(value, str | list | tuple | Mapping) and not value)


def _other_fields(value: object) -> set[str]:
    """Fields of messages that hold something and are not read."""
    said: Iterable[object] = value if isinstance(value, list) else [value]
    messages = [one for one in said if isinstance(one, Mapping) and ("role" in one or "from" in one)]
    return {str(key) for one in messages for key, held in one.items() if key not in FIELDS and not empty(held)}


def _beside(value: object, ways: Iterable[str], at: str) -> Iterator[str]:
    """What lies beside the ways into a value, holds something, and has no harmless name."""
    if "" in ways:
        return
    steps: Iterable[tuple[str, object]] = ()
    if isinstance(value, Mapping):
        steps = ((str(key), held) for key, held in value.items())
    elif isinstance(value, list):
        steps = ((str(i), held) for i, held in enumerate(value))
    for step, held in steps:
        names = (step, "*", str(int(step) - len(value))) if isinstance(value, list) else (step,)
        into = [way[len(name) + 1 :] for way in ways for name in names if way == name or way.startswith(f"{name}.")]
        if into:
            yield from _beside(held, into, f"{at}.{'*' if isinstance(value, list) else step}")
        elif not (empty(held) or held is False or harmless(step)):
            yield f"{at}.{step}"


def _is_text(value: object) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, Mapping):
        return any(_is_text(value.get(name)) for name in ("content", "value", "text"))
    return isinstance(value, list) and any(_is_text(one) for one in value)


def text_of(value: object, what: str) -> str:
    """A text that can be stored. Raises `ExchangeError` for anything else."""
    try:
        return border.text(value, what)
    except border.BorderError as error:
        raise ExchangeError(str(error)) from error


def short(value: object) -> str:
    """A value for a message."""
    text = border.plain(repr(value), 60)
    return text if len(text) <= 60 else f"{text[:57]}..."
