"""Rows about one outcome each, as remarks: a rating, an approval, a mark, what it should have been, a demonstration.

What is read by which names, unless `--map KEY=COLUMN` says otherwise:

    prompt     prompt, question, instruction, query, problem; or what stands in front of the last of `messages`
    outcome    completion, response, output, answer, outcome; or the last of `messages`, if that is the assistant's
    value      ratings: rating, score, stars, grade; approvals: label, approved, desirable, thumbs_up;
               marks: unacceptable, flagged, unsafe, harmful
    better     corrections: better, correction, corrected, edited, revised
    user       user, annotator, labeler, annotator_id
    note       note: why, in words

The unpaired format of TRL (`prompt`, `completion`, `label`) is approvals, its formats of single turns and dialogues
(`prompt` and `completion`, `messages`) are demonstrations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rrm.core import border
from rrm.core.errors import ConfigError
from rrm.core.records import Assistance, Case, Outcome
from rrm.core.remarks import Kind, Remark, Remarked
from rrm.core.spelling import nearest
from rrm.exchange.exporting import ExchangeError
from rrm.exchange.imports import preferences as trl
from rrm.exchange.imports.columns import LeftOut, Row, empty, short, text_of
from rrm.exchange.imports.mapped import Columns, single
from rrm.exchange.imports.ratings import missing, number_of

What = Literal["ratings", "approvals", "marks", "corrections", "demonstrations", "remarks"]
KIND: Mapping[What, Kind] = {
    "ratings": "rating", "approvals": "approval", "marks": "unacceptable", "corrections": "correction",
    "demonstrations": "demonstration",
}  # fmt: skip
WHAT: tuple[What, ...] = get_args(What)
MESSAGES = ("messages", "conversations", "conversation")
NAMES: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "question", "instruction", "query", "problem"),
    "outcome": ("completion", "response", "output", "answer", "outcome"),
    "better": ("better", "correction", "corrected", "edited", "revised"),
    "user": ("user", "annotator", "labeler", "annotator_id"),
    "note": ("note",),
}
VALUES: Mapping[What, tuple[str, ...]] = {
    "ratings": ("rating", "score", "stars", "grade"),
    "approvals": ("label", "approved", "desirable", "thumbs_up"),
    "marks": ("unacceptable", "flagged", "unsafe", "harmful"),
}
KEYS = ("prompt", "system", "outcome", "value", "better", "user", "note")
YES = ("true", "1", "yes", "y", "approved", "approve", "good", "up", "thumbs_up", "desirable", "unacceptable")
NO = ("false", "0", "no", "n", "rejected", "disapproved", "bad", "down", "thumbs_down", "undesirable", "acceptable")


@dataclass(frozen=True)
class Scale:
    """The levels of a rating, from the worst to the best: "5" is 1 to 5, "0-4" is 0 to 4."""

    low: int
    high: int

    @classmethod
    def parse(cls, text: str) -> Scale:
        """Raises `ConfigError`."""
        found = re.fullmatch(r"(?:(-?\d{1,6})-)?(-?\d{1,6})", text.replace(" ", ""))
        if found is None:
            raise ConfigError(f"--levels {text}: give how many there are (5: from 1 to 5), or from-to, as in 0-4")
        scale = cls(1 if found[1] is None else int(found[1]), int(found[2]))
        if fault := Remark("rating", 1.0, scale.levels).faulty():
            raise ConfigError(f"--levels {text}: {fault}")
        return scale

    @property
    def levels(self) -> int:
        """How many there are."""
        return self.high - self.low + 1


@dataclass(frozen=True)
class Alone:
    """How rows about one outcome are read.

    Attributes
    ----------
    what: what they say of it.
    columns: which column holds what, where no usual name says it.
    scale: of ratings.
    meant: the value that means yes and the one that means no, of approvals and marks; without them the usual ones.
    """

    what: What
    columns: Mapping[str, str]
    scale: Scale | None = None
    meant: tuple[str, str] | None = None

    @classmethod
    def parse(cls, what: What, assignments: Sequence[str], levels: str | None) -> Alone:
        """Of what the command line says. Raises `ConfigError` for what does not go together."""
        of: dict[str, str] = {}
        for text in assignments:
            key, equals, column = (part.strip() for part in text.partition("="))
            if not equals or not column:
                raise ConfigError(f"--map {text!r}: write KEY=COLUMN, such as outcome=answer")
            if key not in KEYS:
                raise ConfigError(f"--map {text}: no key {key!r} of {what}{nearest(key, KEYS) or _listed(KEYS)}")
            if key in of:
                raise ConfigError(f"--map {key} is given twice")
            of[key] = column
        if what == "remarks" and of:
            raise ConfigError("--map: the columns of --as remarks have the names that `rrm export --as remarks` gives")
        if "value" in of and what not in VALUES:
            raise ConfigError(f"--map value: {what} have none")
        if "better" in of and what != "corrections":
            raise ConfigError("--map better goes with --as corrections")
        if levels is not None and what != "ratings":
            raise ConfigError("--levels goes with --as ratings")
        meant = None
        if what in ("approvals", "marks") and ":" in of.get("value", ""):
            of["value"], _, said = of["value"].partition(":")
            parts = [part.strip() for part in said.split(",")]
            if len(parts) != 2 or not all(parts):
                raise ConfigError("--map value=COLUMN:YES,NO: give the value that means yes, and the one that means no")
            meant = (parts[0], parts[1])
        return cls(what, of, None if levels is None else Scale.parse(levels), meant)

    def remarked(self, row: Row, node: str, source: str) -> Remarked:
        """A row's remark at `node`. Raises `ExchangeError` if it is broken, `LeftOut` if it says nothing."""
        if self.what == "remarks":
            return ours(row, node, source)
        trl.only_text(row)
        prompt, said = self._texts(row)
        outcome = Outcome(said)
        user = self._named(row, "user")
        why = self._named(row, "note")
        remark = Remark(KIND[self.what], text=why, by=user)
        if self.what == "corrections":
            better = self._better(row)
            if better == said:
                raise LeftOut("the correction is the outcome itself")
            remark = replace(remark, better=Outcome(better))
        elif self.what == "ratings":
            level, levels = self._level(row)
            remark = replace(remark, value=level, levels=levels)
        elif self.what != "demonstrations":
            remark = replace(remark, value=self._yes(row))
        return checked(Remarked(node, Case(prompt), outcome, remark, user or f"imported({source})"))

    # --- columns ---------------------------------------------------------------------------------

    def _column(self, row: Row, key: str, names: Sequence[str]) -> str | None:
        """The column of a key: as it was said, or the first usual name that has something."""
        if key in self.columns:
            return self.columns[key]
        return next((name for name in names if not empty(row.raw.get(name))), None)

    def _named(self, row: Row, key: str) -> str:
        column = self._column(row, key, NAMES[key])
        value = None if column is None else single(row, column)
        found = "" if value is None else str(value) if isinstance(value, int) else text_of(value, key)
        if key == "user" and (len(found) > trl.LONGEST_NAME or "\n" in found):
            raise ExchangeError(f"user {short(found)} is no name of who judged; if it is something else, --ignore it")
        return found

    def _texts(self, row: Row) -> tuple[str, str]:
        """(prompt, outcome) of a row of texts, or of messages."""
        column = self._column(row, "outcome", NAMES["outcome"])
        listed = next((name for name in MESSAGES if isinstance(row.raw.get(name), list)), None)
        asked = self._column(row, "prompt", NAMES["prompt"])
        if column is None and listed is not None:
            return self._last(trl.messages(row[listed], listed), row)
        if column is None:
            raise ExchangeError(
                f"no outcome; say with --map outcome=COLUMN which column holds it (its columns: "
                f"{', '.join(row) or 'none'})"
            )
        if asked is None:
            raise ExchangeError(
                f"no prompt; say with --map prompt=COLUMN what was asked (texts not read: "
                f"{', '.join(name for name in row.texts() if name != column) or 'none'})"
            )
        if "prompt" not in self.columns and asked != "prompt":
            self._sole(row, asked, column)
        front = Columns({"prompt": asked, **({"system": self.columns["system"]} if "system" in self.columns else {})})
        held = front.front(row)
        prompt = trl.as_given(held["prompt"], "prompt")
        system = held.get("system") if "system" in self.columns else trl.system_of(row)
        said = trl.as_given(single(row, column), "outcome")
        whole = trl.messages(prompt, "prompt") if isinstance(prompt, list) else [("user", text_of(prompt, "prompt"))]
        before = trl.transcript(trl.with_system(whole, text_of(system, "system") if system else ""))
        outcome = self._turn(trl.messages(said, "outcome")) if isinstance(said, list) else text_of(said, "outcome")
        return self._some(before, outcome)

    def _last(self, said: trl.Messages, row: Row) -> tuple[str, str]:
        """A dialogue's last turn, and what stands in front of it."""
        if len(said) < 2:
            raise LeftOut("a dialogue of one message: nothing was asked")
        if isinstance(prompt := row.raw.get("prompt"), str) and prompt.strip() in (text.strip() for _, text in said):
            row["prompt"]  # it is read: there
        said = trl.with_system(said, trl.system_of(row))
        return self._some(trl.transcript(said[:-1]), self._turn(said[-1:]))

    @staticmethod
    def _turn(said: trl.Messages) -> str:
        if len(said) != 1 or said[0][0] != "assistant":
            raise LeftOut(f"its outcome is not one turn of the assistant (but {', '.join(role for role, _ in said)})")
        return said[0][1]

    @staticmethod
    def _some(prompt: str, outcome: str) -> tuple[str, str]:
        if not prompt.strip():
            raise LeftOut("its prompt is empty")
        if not outcome.strip():
            raise LeftOut("its outcome is empty")
        return prompt, outcome

    def _sole(self, row: Row, asked: str, column: str) -> None:
        """Raise `ExchangeError` if another text may belong to the prompt that was guessed."""
        taken = {asked, column, *self.columns.values()}
        others = [name for name in (*NAMES["prompt"], "input", "context") if name not in taken]
        if other := next((name for name in others if isinstance(row.raw.get(name), str) and row.raw[name].strip()), ""):
            raise ExchangeError(
                f"is {asked} the prompt, or {other}, or both? Say it with --map prompt={asked} (and --ignore {other}), "
                f"or --map prompt={asked},{other}"
            )

    # --- what is said ----------------------------------------------------------------------------

    def _value(self, row: Row) -> tuple[Any, str]:
        column = self._column(row, "value", VALUES[self.what])
        if column is None:
            there = [name for name in VALUES[self.what] if name in row]
            if there:
                row[there[0]]
                raise LeftOut(f"nothing in {there[0]}")
            raise ExchangeError(
                f"no {KIND[self.what]}; say with --map value=COLUMN which column holds it (its columns: "
                f"{', '.join(row) or 'none'})"
            )
        value = single(row, column)
        if missing(value):
            raise LeftOut(f"nothing in {column}")
        return value, column

    def _level(self, row: Row) -> tuple[float, int]:
        value, column = self._value(row)
        number = number_of(value, column)
        if self.scale is None:
            raise ExchangeError(
                f"{column} is {short(value)}, of how many levels? Say it with --levels 5 (1, the worst, to 5), or "
                "--levels 0-4"
            )
        low, high = self.scale.low, self.scale.high
        if number % 1 or not low <= number <= high:
            raise ExchangeError(
                f"{column} is {short(value)}, not a whole number from {low} to {high}; say the scale with --levels, or "
                "compare outcomes of one prompt by it: --as comparisons --map outcome=... --map prefers=higher:..."
            )
        return number - low + 1, self.scale.levels

    def _yes(self, row: Row) -> float:
        value, column = self._value(row)
        text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
        yes, no = ((self.meant[0],), (self.meant[1],)) if self.meant else (YES, NO)
        if self.meant is None or isinstance(value, bool):
            text = text.lower()
        if text not in (*yes, *no):
            raise ExchangeError(
                f"{column} is {short(value)}, neither yes nor no; say what they are with --map value={column}:YES,NO"
            )
        return float(text in yes)

    def _better(self, row: Row) -> str:
        column = self._column(row, "better", NAMES["better"])
        if column is None:
            there = [name for name in NAMES["better"] if name in row]
            if there:
                row[there[0]]
                raise LeftOut("nobody corrected it")
            raise ExchangeError(
                "no correction; say with --map better=COLUMN what the outcome should have been (its columns: "
                f"{', '.join(row) or 'none'})"
            )
        value = trl.as_given(single(row, column), "better")
        found = self._turn(trl.messages(value, "better")) if isinstance(value, list) else text_of(value or "", "better")
        if not found.strip():
            raise LeftOut("nobody corrected it")
        return found


def _listed(names: Sequence[str]) -> str:
    return f"; there are {', '.join(names)}"


def checked(one: Remarked) -> Remarked:
    """The remark, as it is stored. Raises `ExchangeError` in words if it means nothing."""
    try:
        (remark,) = border.remarked([one.remark], one.remark.kind)
    except border.BorderError as error:
        raise ExchangeError(str(error)) from error
    return replace(one, remark=remark)


# --- rows of `rrm export --as remarks` ---------------------------------------------------------------


class RemarkRecord(BaseModel):
    """The column `record` of an exported remark."""

    model_config = ConfigDict(extra="forbid")

    case: dict[str, Any] = {}
    form: str = ""
    outcome: trl.Kept = trl.Kept()
    better: trl.Kept = trl.Kept()
    assistance: tuple[Assistance, ...] = ()


class RemarkRow(BaseModel):
    """The other columns."""

    model_config = ConfigDict(extra="ignore")

    prompt: str
    outcome: str
    kind: Kind
    value: float | None = None
    levels: int | None = None
    text: str | None = None
    better: str | None = None
    by: str | None = None
    user: str | None = None
    round: int = Field(default=-1, gt=-(2**31), lt=2**31)
    record: str | None = None


def is_ours(row: Mapping[str, Any]) -> bool:
    """Whether a row is of `rrm export --as remarks`."""
    return {"prompt", "outcome", "kind", "record"} <= set(row)


def ours(row: Row, node: str, source: str) -> Remarked:
    """The remark of an exported row, whole."""
    given = {name: row[name] for name in RemarkRow.model_fields if name in row and row.raw[name] is not None}
    row.seen |= {"node"} & set(row)
    try:
        said = RemarkRow.model_validate(given)
        kept = RemarkRecord.model_validate_json(said.record or "{}")
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "record"
        raise ExchangeError(f"{where}: {fault['msg']}, in a row of remarks; its columns: {', '.join(row)}") from error
    for name in ("prompt", "outcome", "better", "text", "by", "user"):
        text_of(getattr(said, name) or "", name)
    better = None if said.better is None else kept.better.outcome(said.better)
    remark = Remark(said.kind, said.value, said.levels or 0, said.text or "", better, said.by or "")
    case = Case(said.prompt, kept.case, kept.form)
    user = said.user or f"imported({source})"
    return checked(
        Remarked(node, case, kept.outcome.outcome(said.outcome), remark, user, said.round, kept.assistance)
    )
