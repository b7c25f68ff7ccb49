"""TRL's preference formats, and the rows that `rrm export` writes, which are of these formats with more columns.

TRL documents two formats (texts; lists of messages with `role` and `content`), each with the prompt in a column of its
own or in front of both `chosen` and `rejected`. A prompt in front is their longest common beginning: whole messages,
or of texts whole words (TRL cuts texts within a word). Where `prompt` is a text and the others are messages that
begin alike, the messages tell the prompt, as in TRL (`extract_prompt`, `maybe_extract_prompt` in trl/data_utils.py).

Columns with numbers do not change who is preferred: `margin`, `score_chosen` and `score_rejected` are in units that
nobody states, so they are kept as a note. Equal scores are a tie; scores or a margin against the choice are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import takewhile
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rrm.core.judgements import Check, Comparison, Judgement, Pair
from rrm.core.records import Assistance, Case, Outcome
from rrm.exchange.exporting import ExchangeError
from rrm.exchange.imports.sources import LeftOut, text_of

Finite = Annotated[float, Field(allow_inf_nan=False)]
SCORES = (("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"))
Messages = list[tuple[str, str]]


class Columns(BaseModel):
    """What an exported row says beside the texts; others' rows need none of it."""

    model_config = ConfigDict(extra="ignore")

    preference: float | None = Field(default=1.0, ge=0, le=1)  # for `chosen`; null: the user abstained
    chosen_is_a: bool = True
    assisted: bool = True
    attention: int = Field(default=0, ge=0, lt=2**31)
    round: int = Field(default=-1, gt=-(2**31), lt=2**31)
    seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    note: str = ""
    user: str = ""


class Kept(BaseModel):
    """What `record` says of an outcome: its ids, as they were sampled, and its data."""

    tokens: tuple[int, ...] = ()
    logprobs: tuple[Finite, ...] = ()
    finished: bool = True
    data: dict[str, Any] | None = None
    text: str | None = None
    """The outcome's own text, where its column shows the data instead, or the blanks around it."""
    around: tuple[str, str] = ("", "")

    def outcome(self, text: str) -> Outcome:
        """The outcome whose column holds `text`."""
        own = text if self.text is None else self.text
        return Outcome(own, self.tokens, self.logprobs, self.finished, self.data, self.around)


class Record(BaseModel):
    """The column `record`."""

    case: dict[str, Any] = {}
    form: str = ""
    chosen: Kept = Kept()
    rejected: Kept = Kept()
    assistance_chosen: tuple[Assistance, ...] = ()
    assistance_rejected: tuple[Assistance, ...] = ()
    checks: tuple[Check, ...] = ()


def node_of(row: Mapping[str, Any]) -> str | None:
    """The node that an exported row says it was judged at; None for others' rows. Raises `ExchangeError` for a value
    that is no node."""
    if "record" not in row or row.get("node") is None:
        return None
    node = text_of(row["node"], "node")
    if not node or not all(node.split("/")):
        raise ExchangeError(f"node {node!r} is no path of a node, such as paper/proofs")
    return node


def comparison_of(row: Mapping[str, Any], node: str, source: str) -> Comparison:
    """A row as a comparison at `node`. Raises `ExchangeError` if it is none, `LeftOut` if it compares nothing."""
    prompt, chosen, rejected = texts(row)
    preference, remark = _scored(row)
    given = {
        key: row[key] for key in Columns.model_fields if key in row and (row[key] is not None or key == "preference")
    }
    if preference is not None:
        given.setdefault("preference", preference)
    try:
        said = Columns.model_validate(given)
        kept = row.get("record") or "{}"
        record = Record.model_validate(kept) if isinstance(kept, Mapping) else Record.model_validate_json(kept)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "record"
        raise ExchangeError(f"{where} {str(fault['input'])[:60]!r}: {fault['msg']}") from error
    pair = Pair(
        node, Case(prompt, record.case, record.form), record.chosen.outcome(chosen), record.rejected.outcome(rejected),
        record.assistance_chosen, record.assistance_rejected,
    )  # fmt: skip
    if pair.a == pair.b:
        raise LeftOut("both outcomes are the same")
    if any(not (outcome.shown.strip() or outcome.tokens) for outcome in (pair.a, pair.b)):
        raise LeftOut("an outcome is empty")
    first = said.preference if said.chosen_is_a or said.preference is None else 1 - said.preference
    note = text_of(said.note, "note") or remark
    judgement = Judgement(first, record.checks, said.attention, note, said.assisted)
    user = text_of(said.user, "user") or f"imported({source})"
    return Comparison(pair if said.chosen_is_a else pair.swapped(), judgement, said.round, user, said.seconds)


def variant(row: Mapping[str, Any]) -> str:
    """Which of TRL's formats a row is in, in words."""
    form = "conversational" if isinstance(row.get("chosen"), list) else "standard"
    return f"{form}, {'implicit' if row.get('prompt') is None else 'explicit'} prompt"


# --- texts -------------------------------------------------------------------------------------------


def texts(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """(prompt, chosen, rejected) of a row of texts or of messages."""
    missing = [name for name in ("chosen", "rejected") if row.get(name) is None]
    if missing:
        unpaired = " (unpaired rows compare nothing)" if "completion" in row and "label" in row else ""
        raise ExchangeError(f"no {' and no '.join(missing)}{unpaired}; its columns: {', '.join(row) or 'none'}")
    prompt, chosen, rejected = row.get("prompt"), row["chosen"], row["rejected"]
    if isinstance(chosen, list) and isinstance(rejected, list):
        return _conversation(prompt, messages(chosen, "chosen"), messages(rejected, "rejected"))
    chosen, rejected = text_of(chosen, "chosen"), text_of(rejected, "rejected")
    if prompt is not None:
        asked = transcript(messages(prompt, "prompt")) if isinstance(prompt, list) else text_of(prompt, "prompt")
        return asked, chosen, rejected
    return _split(chosen, rejected)


def _split(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Texts with the prompt in front: whole words, the blank after it left to the outcomes, as in TRL."""
    if chosen == rejected:
        raise LeftOut("both outcomes are the same")
    shared = sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(chosen, rejected, strict=False)))
    while shared and not chosen[shared - 1].isspace():
        shared -= 1
    while shared and chosen[shared - 1] == " ":
        shared -= 1
    if not chosen[:shared].strip():
        raise LeftOut("no prompt, and chosen and rejected share no first words")
    return chosen[:shared], chosen[shared:], rejected[shared:]


def _conversation(prompt: object, chosen: Messages, rejected: Messages) -> tuple[str, str, str]:
    if chosen == rejected:
        raise LeftOut("both outcomes are the same")
    shared = 0  # messages in front of both; at least one is left for each outcome
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    if isinstance(prompt, list):
        asked = messages(prompt, "prompt")
        shared = len(asked) if chosen[: len(asked)] == rejected[: len(asked)] == asked else 0
        shared = shared if shared < min(len(chosen), len(rejected)) else 0
        return transcript(asked), transcript(chosen[shared:]), transcript(rejected[shared:])
    if shared:
        return transcript(chosen[:shared]), transcript(chosen[shared:]), transcript(rejected[shared:])
    if prompt is None:
        raise LeftOut("no prompt, and chosen and rejected begin differently")
    return text_of(prompt, "prompt"), transcript(chosen), transcript(rejected)


def messages(value: object, what: str) -> Messages:
    """(role, text) of each. Raises `ExchangeError` unless it is a list of messages with nothing but text."""
    if not isinstance(value, list) or not value or not all(isinstance(m, Mapping) for m in value):
        raise ExchangeError(f"{what}: {str(value)[:60]!r} is neither a text nor a list of messages")
    return [(text_of(m.get("role"), f"{what}: a role"), _content(m.get("content"), what)) for m in value]


def _content(value: object, what: str) -> str:
    """A message's text; of blocks, those of text, joined."""
    if isinstance(value, list):
        kinds = {block.get("type") if isinstance(block, Mapping) else None for block in value}
        if kinds != {"text"}:
            raise ExchangeError(f"{what}: a message with content other than text; only text can be imported")
        return "".join(text_of(block.get("text"), f"{what}: a block") for block in value)
    if value is None:
        raise ExchangeError(f"{what}: a message without content; only text can be imported")
    return text_of(value, f"{what}: a message's content (only text can be imported)")


def transcript(said: Messages) -> str:
    """One message is its content; several are a transcript."""
    if len(said) == 1:
        return said[0][1]
    return "\n\n".join(f"{role}: {content}" for role, content in said)


# --- scores ------------------------------------------------------------------------------------------


def _scored(row: Mapping[str, Any]) -> tuple[float | None, str]:
    """(the preference that scores tell, what to note of them)."""
    for names in SCORES:
        chosen, rejected = (_number(row, name) for name in names)
        if chosen is not None and rejected is not None:
            if chosen < rejected:
                raise LeftOut("the scores say that the rejected outcome is better")
            return (0.5 if chosen == rejected else None), f"scores {chosen:g} against {rejected:g}"
    margin = _number(row, "margin")
    if margin is not None and margin < 0:
        raise LeftOut("the margin says that the rejected outcome is better")
    return None, "" if margin is None else f"margin {margin:g}"


def _number(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ExchangeError(f"{name} {str(value)[:60]!r} is no number")
    return float(value)
