"""TRL's preference formats, and the rows that `rrm export` writes, which are of these formats with more columns.

TRL documents two formats (texts; lists of messages with `role` and `content`), each with the prompt in a column of its
own or in front of both `chosen` and `rejected`. Of messages, what both share in front is the prompt, and their last are
the outcomes: the assistant's, or the row is left out. Where `prompt` is a text and the others are messages that begin
alike, the messages tell the prompt, as in TRL (`extract_prompt`, `maybe_extract_prompt` in trl/data_utils.py). Of texts
it is their first words, whole ones (TRL cuts within a word) -- and only if the row has no other text: with one, the
prompt is there, and the words that two answers happen to begin with are not it.

Which outcome is A is drawn, by the outcomes themselves: the chosen one is A as often as B. Of an exported row it is the
one that was shown as A.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import product, takewhile
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rrm.core import border
from rrm.core.judgements import Check, Comparison, Judgement, Pair
from rrm.core.records import Assistance, Case, Outcome, digest
from rrm.core.remarks import Remark
from rrm.exchange.exporting import ExchangeError
from rrm.exchange.imports import ratings
from rrm.exchange.imports.columns import Inherited, LeftOut, Row, asks, short, text_of

Finite = Annotated[float, Field(allow_inf_nan=False)]
SYSTEM = ("system", "system_prompt", "system_message")
ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant", "chatbot": "assistant"}
"""Other names of roles."""
PROMPTS = ("question", "instruction", "input", "query", "problem", "context", "history", "conversations", "messages")
"""Usual names of a prompt; the first to be proposed."""
CALLS = ("tool_calls", "function_call", "tool_call_id", "images", "image", "audio", "video", "videos")
"""What of a message, or of a row, no text shows."""
TOOLS = ("tools", "functions")
WRITTEN = re.compile(r"""\[\s{0,9}\{\s{0,9}["'](role|content|from|value)["']\s{0,9}:""")
"""Messages as a text of JSON, or of Python."""
LISTED = re.compile(r"""\s{0,9}\[\s{0,9}["']""")
"""A list of texts as a text."""
Messages = list[tuple[str, str]]


OURS = ("chosen_is_a", "assisted", "attention", "round", "seconds")
"""Columns that mean what `Beside` says in exported rows only, which have a `record`: others count their own rounds."""
LONGEST_NAME = 200
"""Characters; a longer one is no name."""


class Beside(BaseModel):
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
    """The column `record`. Another one of that name has other keys, and is an error."""

    model_config = ConfigDict(extra="forbid")

    case: dict[str, Any] = {}
    form: str = ""
    chosen: Kept = Kept()
    rejected: Kept = Kept()
    assistance_chosen: tuple[Assistance, ...] = ()
    assistance_rejected: tuple[Assistance, ...] = ()
    checks: tuple[Check, ...] = ()
    remarks_chosen: tuple[Remark, ...] = ()
    remarks_rejected: tuple[Remark, ...] = ()


GIVEN = [(name,) for name in Beside.model_fields]


def node_of(row: Mapping[str, Any]) -> str | None:
    """The node that an exported row says it was judged at; None for others' rows. Raises `ExchangeError` for a value
    that is no node."""
    if "record" not in row or row.get("node") is None:
        return None
    node = text_of(row["node"], "node")
    if not node or not all(node.split("/")):
        raise ExchangeError(f"node {node!r} is no path of a node, such as paper/proofs")
    return node


def parts(row: Row) -> list[Row]:
    """The row; or, if `chosen` and `rejected` are lists of texts, each with each (RewardBench 2).

    Raises `ExchangeError` if they are the columns of a table.
    """
    chosen, rejected = (_several(row, name) for name in ("chosen", "rejected"))
    if chosen is None or rejected is None:
        return [row]
    if not isinstance(row.get("prompt"), str):
        raise ExchangeError(
            "chosen and rejected are lists of texts, prompt is none: is this a table by columns? Write it by rows"
        )
    both = [{"chosen": one, "rejected": other} for one, other in product(chosen, rejected)]
    row.seen |= {"chosen", "rejected"}
    return [Inherited({**row.raw, **pair}, row, frozenset(row) - set(pair)) for pair in both]


def _several(row: Row, name: str) -> list[str] | None:
    value = row.raw.get(name)
    return value if isinstance(value, list) and value and all(isinstance(one, str) for one in value) else None


def comparison_of(row: Mapping[str, Any], node: str, source: str, draw: bool = True) -> Comparison:
    """A row as a comparison at `node`; `draw`: which outcome is A, unless the row says it; else the chosen one is.

    Raises `ExchangeError` if it is none, `LeftOut` if it compares nothing.
    """
    row = Row.of(row)
    exported = "record" in row
    prompt, chosen, rejected = texts(row)
    given = {
        key: row[key] for key in Beside.model_fields
        if key in row and (row.raw[key] is not None or key == "preference") and (exported or key not in OURS)
    }  # fmt: skip
    name = given.get("user", "")
    if isinstance(name, str) and not exported and (len(name) > LONGEST_NAME or "\n" in name):
        raise ExchangeError(f"user {short(name)} is no name of who judged; if it is something else, --ignore user")
    preference, remark = ratings.said(row)
    if preference is not None:
        given.setdefault("preference", preference)
    try:
        said = Beside.model_validate(given)
        kept = row.get("record") or "{}"
        record = Record.model_validate(kept) if isinstance(kept, Mapping) else Record.model_validate_json(kept)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "record"
        ours = "; if `record` is not from `rrm export`, --ignore record" if fault["loc"][:1] not in GIVEN else ""
        raise ExchangeError(f"{where} {str(fault['input'])[:60]!r}: {fault['msg']}{ours}") from error
    if exported:  # of `rrm export`: what the other columns say is in it too
        row.seen |= {"assistance_chosen", "assistance_rejected", "versions", "part", "node"} & set(row)
    pair = Pair(
        node, Case(prompt, record.case, record.form), record.chosen.outcome(chosen), record.rejected.outcome(rejected),
        record.assistance_chosen, record.assistance_rejected,
    )  # fmt: skip
    if pair.a == pair.b:
        raise LeftOut("both outcomes are the same")
    if any(not (outcome.shown.strip() or outcome.tokens) for outcome in (pair.a, pair.b)):
        raise LeftOut("an outcome is empty")
    note = text_of(said.note, "note") or remark
    judgement = Judgement(
        said.preference, record.checks, said.attention, note, said.assisted,
        remarks_a=_remarked(record.remarks_chosen), remarks_b=_remarked(record.remarks_rejected),
    )  # fmt: skip
    user = text_of(said.user, "user") or f"imported({source})"
    found = Comparison(pair, judgement, said.round, user, said.seconds)
    if "chosen_is_a" in given:
        return found if said.chosen_is_a else swapped(found)
    return drawn(found) if draw else found


def _remarked(found: tuple[Remark, ...]) -> tuple[Remark, ...]:
    try:
        return border.remarked(found, "record")
    except border.BorderError as error:
        raise ExchangeError(str(error)) from error


def swapped(comparison: Comparison) -> Comparison:
    """The same judgement, with B in A's place."""
    preference = comparison.preference
    told = comparison.judgement
    turned = replace(
        told, preference=None if preference is None else 1 - preference, remarks_a=told.remarks_b,
        remarks_b=told.remarks_a, checks=tuple(check.turned() for check in told.checks),
    )  # fmt: skip
    return replace(comparison, pair=comparison.pair.swapped(), judgement=turned)


def drawn(comparison: Comparison) -> Comparison:
    """The comparison with A drawn of its outcomes, by a hash: whichever stood first, the same one is A."""
    ids = sorted((comparison.a.id, comparison.b.id))
    first = ids[int(digest("drawn", comparison.case.id, *ids), 16) % 2]
    return comparison if comparison.a.id == first else swapped(comparison)


def variant(row: Mapping[str, Any]) -> str:
    """Which of TRL's formats a row is in, in words."""
    form = "conversational" if isinstance(row.get("chosen"), list) else "standard"
    return f"{form}, {'implicit' if row.get('prompt') is None else 'explicit'} prompt"


# --- texts -------------------------------------------------------------------------------------------


def texts(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """(prompt, chosen, rejected) of a row of texts or of messages."""
    row = Row.of(row)
    missing = [name for name in ("chosen", "rejected") if row.raw.get(name) is None]
    if missing:
        both = {"completion", "label"} <= set(row)
        unpaired = " (unpaired rows compare nothing; --as approvals imports what they say)" if both else ""
        raise ExchangeError(
            f"no {' and no '.join(missing)}{unpaired}; its columns: {', '.join(row) or 'none'}. Say which columns hold "
            "what with --map"
        )
    only_text(row)
    prompt, chosen, rejected = (row.get(name) for name in ("prompt", "chosen", "rejected"))
    if "record" not in row:  # an agent may write JSON
        prompt, chosen, rejected = (
            as_given(one, name) for one, name in ((prompt, "prompt"), (chosen, "chosen"), (rejected, "rejected"))
        )
        if all(isinstance(one, str) and LISTED.match(one) for one in (prompt, chosen, rejected)):
            raise ExchangeError(
                f"prompt, chosen and rejected are lists written as texts, {short(prompt)}; write them as texts, or as "
                "lists of messages (json.loads)"
            )
    system = system_of(row)
    blank = prompt is None or (isinstance(prompt, str) and not prompt.strip())
    alone = blank and "record" not in row and not _whole(chosen, rejected)
    if alone and (others := sorted(_other_texts(row), key=lambda name: name not in PROMPTS)):
        inside, first = row.raw[others[0]], others[0]
        if isinstance(inside, Mapping):
            first += next((f".{key}" for key, held in inside.items() if asks(str(key), held)), "")
        raise ExchangeError(
            f"no prompt, but another text: {', '.join(others)}. If it is the prompt, give --map prompt={first}; "
            f"if it is none, --ignore {others[0]}"
        )
    if isinstance(chosen, list) and isinstance(rejected, list):
        said = _conversation(prompt, messages(chosen, "chosen"), messages(rejected, "rejected"), system)
        return said
    chosen, rejected = text_of(chosen, "chosen"), text_of(rejected, "rejected")
    if prompt is None:
        if system:
            raise ExchangeError("a system message, but no prompt; say which column holds the prompt with --map")
        return _split(chosen, rejected)
    asked = messages(prompt, "prompt") if isinstance(prompt, list) else [("user", text_of(prompt, "prompt"))]
    return transcript(with_system(asked, system)), chosen, rejected


def _other_texts(row: Row) -> list[str]:
    """Columns in which the prompt may be; of those that say who judged, or what was noted, the ones that may ask."""
    ours = ("user", "note")
    return [name for name in row.texts() if name not in ours] + [one for one in ours if asks(one, row.raw.get(one))]


def as_given(value: object, name: str) -> object:
    """A text or a list of messages, of which one alone makes a list. Raises `ExchangeError` for messages in a text."""
    if isinstance(value, str) and WRITTEN.match(value.lstrip()):
        raise ExchangeError(
            f"{name} is a list of messages written as a text, {short(value)}; write it as a list (json.loads, or "
            "ast.literal_eval if the quotes are single ones)"
        )
    return [value] if isinstance(value, Mapping) and ("content" in value or "value" in value) else value


def only_text(row: Row) -> None:
    """Raise `LeftOut` if a row has tools or pictures: what was judged is not in its texts."""
    for name in (*CALLS, *TOOLS):
        if row.raw.get(name):
            row[name]
            raise LeftOut(f"it has {name}, and only text can be imported")


def system_of(row: Row) -> str:
    """The system message in a column of its own; empty without one."""
    return next((text_of(row[name], name) for name in SYSTEM if row.raw.get(name)), "")


def with_system(said: Messages, system: str) -> Messages:
    """The messages after the row's system message. Raises `LeftOut` if they begin with another."""
    if not system:
        return said
    if said and said[0][0] == "system":
        if said[0][1] != system:
            raise LeftOut("its messages begin with another system message than its column has")
        return said
    return [("system", system), *said]


def _whole(chosen: object, rejected: object) -> bool:
    """Whether both are conversations that begin with what was asked."""
    return all(
        isinstance(one, list) and len(one) > 1 and isinstance(one[0], Mapping)
        and role(one[0].get("role", one[0].get("from"))) != "assistant"
        for one in (chosen, rejected)
    )  # fmt: skip


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


def _conversation(prompt: object, chosen: Messages, rejected: Messages, system: str) -> tuple[str, str, str]:
    if chosen == rejected:
        raise LeftOut("both outcomes are the same")
    shared = 0  # messages in front of both; at least one is left for each outcome
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    if isinstance(prompt, list):
        asked = messages(prompt, "prompt")
        shared = len(asked) if chosen[: len(asked)] == rejected[: len(asked)] == asked else 0
        shared = shared if shared < min(len(chosen), len(rejected)) else 0
    elif shared:
        asked = chosen[:shared]
        if not _within(prompt, asked):
            raise LeftOut("its messages begin with another prompt than its column has")
    elif prompt is None:
        raise LeftOut("no prompt, and chosen and rejected begin differently")
    else:
        asked = [("user", text_of(prompt, "prompt"))]
    return transcript(with_system(asked, system)), _answer(chosen[shared:]), _answer(rejected[shared:])


def _within(prompt: object, asked: Messages) -> bool:
    """Whether what a column says was asked is in the messages, or one of them in it; so is nothing."""
    said = prompt.strip() if isinstance(prompt, str) else ""
    return not said or any(said in text or (text.strip() and text.strip() in said) for _, text in asked)


def _answer(said: Messages) -> str:
    """An outcome of messages: the assistant's last, and nothing else."""
    if said[-1][0] != "assistant":
        raise LeftOut(f"an outcome is not the assistant's turn (but {said[-1][0]}'s)")
    if len(said) > 1:
        raise LeftOut("the dialogues part before the last turn")
    return said[0][1]


def messages(value: object, what: str) -> Messages:
    """(role, text) of each; `from` and `value` are `role` and `content` too (ShareGPT).

    Raises `ExchangeError` unless it is a list of messages with nothing but text, `LeftOut` if a tool is called.
    """
    if not isinstance(value, list) or not value or not all(isinstance(m, Mapping) for m in value):
        raise ExchangeError(f"{what}: {str(value)[:60]!r} is neither a text nor a list of messages")
    for name in CALLS:
        if any(m.get(name) for m in value):
            raise LeftOut(f"a message has {name}, and only text can be imported")
    return [
        (role(text_of(m.get("role", m.get("from")), f"{what}: a role")),
         _content(m.get("content", m.get("value")), what)) for m in value
    ]  # fmt: skip


def role(name: object) -> str:
    """A role by its usual name."""
    return ROLES.get(str(name), str(name))


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
