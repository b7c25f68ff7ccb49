"""`--map KEY=COLUMN`: which column of somebody's rows holds what, where neither its name nor a known format says it.

A COLUMN is a name, or a way into what it holds: "question.full_text", "completions.0.response", and with a star for
every element of a list, "answers.*.answer". A name with dots in it is found as it is. Keys are

    prompt     what was asked; several columns, with commas, are joined by an empty line
    system     the system message
    a, b       two outcomes, and `prefers` which is better
    chosen, rejected    the better and the worse one
    outcomes   several outcomes in a list; every two of them are compared, by `prefers=higher:` or `lower:`
    outcome    one outcome; those of rows that follow one another with the same prompt are compared likewise
    user       who judged
    prefers    which outcome is better:
        COLUMN:A,B,TIE...   the value that means a, the one that means b, and any number that mean a tie
        higher:X,Y          the number of a and that of b (a column, or a number): the higher is better, equal is a tie
        lower:X,Y           the same, the lower (a rank): with a number from -3 (a) to 3 (b), lower:COLUMN,0
        higher:X, lower:X   with outcomes or outcome: each one's number
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from typing import Any, Literal

from rrm.core.errors import ConfigError
from rrm.core.spelling import nearest
from rrm.exchange.exporting import ExchangeError
from rrm.exchange.imports.columns import Inherited, LeftOut, Row, SourceRow, short, text_of
from rrm.exchange.imports.preferences import CALLS, SYSTEM, TOOLS
from rrm.exchange.imports.ratings import missing, number_of

KEYS = ("prompt", "system", "a", "b", "chosen", "rejected", "outcomes", "outcome", "prefers", "user")


@dataclass(frozen=True)
class Prefers:
    """How a row says which outcome is better: by a value of a column, or by numbers."""

    by: Literal["value", "higher", "lower"]
    columns: tuple[str, ...]
    values: tuple[str, ...] = ()
    """What means a, what means b, and what means a tie."""

    @classmethod
    def parse(cls, text: str) -> Prefers:
        """Raises `ConfigError` if it is none of the forms."""
        head, _, rest = text.partition(":")
        parts = tuple(part.strip() for part in next(csv.reader([rest]), []))
        if head in ("higher", "lower") and len(parts) in (1, 2) and all(parts):
            return cls("higher" if head == "higher" else "lower", parts)
        if head and head not in ("higher", "lower") and len(parts) >= 2 and all(parts):
            return cls("value", (head,), parts)
        raise ConfigError(
            f"--map prefers={text}: say prefers=COLUMN:A,B,TIE (the value that means a, the one that means b, those "
            "that mean a tie), or prefers=higher:X,Y or lower:X,Y (columns, or a column and a number)"
        )

    def votes(self, row: Row) -> list[float | None]:
        """The preference for a of everybody who judged the row: one, unless the column has a star."""
        if self.by == "value":
            return [self._meant(value) for value in at(row, self.columns[0])]
        if len(self.columns) == 1:
            raise ConfigError(f"--map prefers={self.by}:{self.columns[0]}: two columns are compared, {self.by}:X,Y")
        first, second = (_numbers(row, column) for column in self.columns)
        if len(first) != len(second) and 1 in (len(first), len(second)):
            first, second = (one * max(len(first), len(second)) if len(one) == 1 else one for one in (first, second))
        if len(first) != len(second):
            raise ExchangeError(f"{self.columns[0]} has {len(first)} numbers, {self.columns[1]} {len(second)}")
        return [self.better(x, y) for x, y in zip(first, second, strict=True)]

    def better(self, x: float | None, y: float | None) -> float | None:
        """The preference for the outcome whose number is x; None if a number is missing."""
        if x is None or y is None:
            return None
        return 0.5 if x == y else float((x > y) == (self.by == "higher"))

    def _meant(self, value: object) -> float | None:
        if value is None or value == "":
            return None
        text = _written(value)
        if text not in self.values:
            raise ExchangeError(
                f"{self.columns[0]} is {short(value)}, of which --map prefers says nothing: it knows "
                f"{', '.join(self.values)}"
            )
        return (1.0, 0.0)[self.values.index(text)] if text in self.values[:2] else 0.5


@dataclass(frozen=True)
class Columns:
    """Which column holds what."""

    of: Mapping[str, str]
    prefers: Prefers | None = None

    @classmethod
    def parse(cls, assignments: Sequence[str]) -> Columns:
        """Of "KEY=COLUMN". Raises `ConfigError` for another key, one given twice, or keys that do not go together."""
        of: dict[str, str] = {}
        for text in assignments:
            key, equals, column = (part.strip() for part in text.partition("="))
            if not equals or not column:
                raise ConfigError(f"--map {text!r}: write KEY=COLUMN, such as prompt=question")
            if key not in KEYS:
                known = nearest(key, KEYS) or f"; there are {', '.join(KEYS)}"
                raise ConfigError(f"--map {text}: no key {key!r}{known}")
            if key in of:
                raise ConfigError(f"--map {key} is given twice")
            of[key] = column
        prefers = Prefers.parse(of.pop("prefers")) if "prefers" in of else None
        shape = [keys for keys in (("a", "b"), ("outcomes",), ("outcome",)) if set(keys) <= set(of)]
        paired = {"chosen", "rejected"} & set(of)
        if len(shape) > 1 or (shape and paired) or (("a" in of) != ("b" in of)):
            raise ConfigError("--map: give a and b, or chosen and rejected, or outcomes, or outcome; one of these")
        if bool(shape) != (prefers is not None):
            wants = "which is better, prefers=..." if shape else "what prefers is about: a and b, outcomes, or outcome"
            raise ConfigError(f"--map: say {wants}")
        if shape and shape[0] != ("a", "b") and prefers and (prefers.by == "value" or len(prefers.columns) != 1):
            raise ConfigError(f"--map {shape[0][0]}: say each one's number, prefers=higher:COLUMN or lower:COLUMN")
        return cls(of, prefers)

    def groups(self, rows: Iterable[SourceRow]) -> Iterator[list[SourceRow]]:
        """Rows that are read together: each alone, or with `outcome` those that follow each other with one prompt."""
        if "outcome" not in self.of:
            yield from ([row] for row in rows)
            return
        for _, some in groupby(rows, lambda row: self._key(Row(row.values))):
            yield list(some)

    def _key(self, row: Row) -> str:
        try:
            return json.dumps(self.front(row), sort_keys=True, default=str)
        except ExchangeError:
            return ""  # said where the row is read

    def parts(self, rows: Sequence[Row]) -> list[Row]:
        """The rows as TRL's, one for each pair of outcomes, `preference` saying how far the first is better.

        Raises `ExchangeError` if a row lacks what was said of it, `LeftOut` if nobody judged it.
        """
        if "outcome" in self.of:
            numbers = [number for row in rows for number in _numbers(row, self._by.columns[0])]
            return self._each([self._one(row, "outcome") for row in rows], numbers, rows[0])
        (row,) = rows
        if "outcomes" in self.of:
            return self._each(at(row, self.of["outcomes"]), _numbers(row, self._by.columns[0]), row)
        if self.prefers is None:
            front = self.front(row) | {
                name: self._one(row, name) for name in ("chosen", "rejected", "user") if name in self.of
            }
            used = {_top(row.raw, column) for columns in self.of.values() for column in columns.split(",")}
            rest = {name: value for name, value in row.raw.items() if name not in used and name not in front}
            return [Inherited({**rest, **front}, row, frozenset(rest))]
        votes = [vote for vote in self.prefers.votes(row) if vote is not None]
        if not votes:
            raise LeftOut("nobody judged it")
        two = {"chosen": self._one(row, "a"), "rejected": self._one(row, "b")}
        counts = Counter("for a" if vote > 0.5 else "for b" if vote < 0.5 else "ties" for vote in votes)
        note = f"{len(votes)} judgements: {', '.join(f'{n} {what}' for what, n in sorted(counts.items()))}"
        said = {"preference": sum(votes) / len(votes), "note": note if len(votes) > 1 else ""}
        user = {"user": text_of(self._one(row, "user"), "user")} if "user" in self.of else {}
        return [self._asked(Row({**self.front(row), **two, **said, **user}), row)]

    @property
    def _by(self) -> Prefers:
        assert self.prefers is not None  # checked where it was parsed
        return self.prefers

    def _each(self, outcomes: Sequence[object], numbers: Sequence[float | None], row: Row) -> list[Row]:
        """Every two of several outcomes."""
        if len(outcomes) != len(numbers):
            raise ExchangeError(f"{len(outcomes)} outcomes, but {len(numbers)} numbers of {self._by.columns[0]}")
        front, found = self.front(row), []
        for (one, x), (other, y) in combinations(zip(outcomes, numbers, strict=True), 2):
            if (preference := self._by.better(x, y)) is not None:
                note = {"note": f"{self._by.columns[0]} {x:g} against {y:g}", "preference": preference}
                found.append(self._asked(Row({**front, "chosen": one, "rejected": other, **note}), row))
        if not found:
            raise LeftOut("fewer than two outcomes that somebody judged")
        return found

    def _asked(self, part: Row, row: Row) -> Row:
        """A row that has a prompt: in a column, or in front of both outcomes, as messages."""
        texts = any(isinstance(part.raw[one], str) for one in ("chosen", "rejected"))
        if texts and part.raw.get("prompt") in (None, ""):
            named = ", ".join(row.texts()) or "none"
            raise ExchangeError(f"no prompt; say with --map prompt=COLUMN where it is (texts not read: {named})")
        return part

    def front(self, row: Row) -> dict[str, Any]:
        """What stands in front of every outcome: the prompt, the system message, and what no text shows."""
        found: dict[str, Any] = {}
        for name in ("prompt", *SYSTEM, *CALLS, *TOOLS):
            if name not in self.of and name in row:
                found[name] = row[name]
        if "prompt" in self.of:
            columns = self.of["prompt"].split(",")
            parts = [single(row, column.strip()) for column in columns]
            said = [text_of(part, "prompt") for part in parts if part not in (None, "")] if len(parts) > 1 else []
            found["prompt"] = "\n\n".join(said) if len(parts) > 1 else parts[0]
        if "system" in self.of:
            found["system"] = self._one(row, "system")
        return found

    def _one(self, row: Row, key: str) -> Any:
        return single(row, self.of[key])


LLMBAR = Columns.parse(["prompt=input", "a=output_1", "b=output_2", "prefers=label:1,2"])
"""LLMBar's rows (Zeng et al. 2023, arXiv 2310.07641)."""


# --- ways into a row ---------------------------------------------------------------------------------


def at(row: Row, column: str) -> list[Any]:
    """All that a column's way leads to: one value, or with a star any number. Raises `ExchangeError` if it leads
    nowhere. The column counts as read."""
    name = _top(row.raw, column)
    if name is None:
        raise ExchangeError(f"no column {column.split('.')[0]!r}; its columns: {', '.join(row) or 'none'}")
    row.ways.add(column)
    return _into(row[name], column[len(name) + 1 :], column)


def _top(raw: Mapping[str, Any], column: str) -> str | None:
    """The column that a way begins with: the longest name that fits."""
    fitting = [name for name in raw if column == name or column.startswith(f"{name}.")]
    return max(fitting, key=len, default=None)


def _into(value: Any, way: str, column: str) -> list[Any]:
    if not way or value is None:
        return [value]
    if isinstance(value, Mapping):
        name = _top(value, way)
        if name is None:
            there = ", ".join(map(str, value)) or "nothing"
            raise ExchangeError(f"--map {column}: no {way.split('.')[0]!r} there, but {there}")
        return _into(value[name], way[len(name) + 1 :], column)
    step, _, rest = way.partition(".")
    if not isinstance(value, list) or not (step == "*" or step.lstrip("-").isdecimal()):
        raise ExchangeError(f"--map {column}: {step!r} leads nowhere in {short(value)}")
    if step == "*":
        return [one for element in value for one in _into(element, rest, column)]
    if not value and "*" in column.removesuffix(f"{step}.{rest}").split("."):
        return [None]  # one of several has nothing there: an annotation that was skipped
    if not -len(value) <= int(step) < len(value):
        raise ExchangeError(f"--map {column}: there are {len(value)} elements, none of number {step}")
    return _into(value[int(step)], rest, column)


def single(row: Row, column: str) -> Any:
    """The one value that a column's way leads to. Raises `ExchangeError` for several, or none."""
    found = at(row, column)
    if len(found) != 1:
        raise ExchangeError(f"--map {column} gives {len(found)} values, where one is meant")
    return found[0]


def _numbers(row: Row, column: str) -> list[float | None]:
    """The numbers of a column, None where one is missing; or the number that is written instead of a column."""
    if _top(row.raw, column) is None:
        try:
            return [number_of(column, column)]
        except ExchangeError:
            pass  # no number: a column that is not there, which `at` says
    return [None if missing(value) else number_of(value, column) for value in at(row, column)]


def _written(value: object) -> str:
    """A value as one writes it after `prefers=COLUMN:`."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
