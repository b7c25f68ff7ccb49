"""Anthropic's HH-RLHF (Bai et al. 2022, arXiv 2204.05862): `chosen` and `rejected` are whole dialogues,

    "\\n\\nHuman: ...\\n\\nAssistant: ...\\n\\nHuman: ...\\n\\nAssistant: ..."

that are alike but for the assistant's last turn. What they share is the prompt, their last turns are the outcomes. The
data set has dialogues that part earlier, that end with a human's turn or with an empty answer: those are left out. A
prompt of one turn is its text, of several a transcript of "user" and "assistant": what TRL's conversational version of
the same rows gives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rrm.core.judgements import Comparison, Judgement, Pair
from rrm.core.records import Case, Outcome
from rrm.exchange.exporting import ExchangeError
from rrm.exchange.imports import ratings
from rrm.exchange.imports.columns import LeftOut, Row, text_of
from rrm.exchange.imports.preferences import Messages, drawn, only_text, system_of, transcript, with_system

TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}


def comparison_of(row: Mapping[str, Any], node: str, source: str) -> Comparison:
    """A row as a comparison at `node`. Raises `ExchangeError` if it is no row of this format, `LeftOut` if its
    dialogues do not compare two answers to the same prompt."""
    row = Row.of(row)
    missing = [name for name in ("chosen", "rejected") if row.raw.get(name) is None]
    if missing:
        raise ExchangeError(f"no {' and no '.join(missing)}; its columns: {', '.join(row) or 'none'}")
    chosen, rejected = (turns(text_of(row[name], name)) for name in ("chosen", "rejected"))
    if chosen == rejected:
        raise LeftOut("both outcomes are the same")
    if not chosen[-1][0] == rejected[-1][0] == "assistant":
        raise LeftOut("a dialogue does not end with the assistant's turn")
    if chosen[:-1] != rejected[:-1]:
        raise LeftOut("the dialogues part before the last turn")
    if len(chosen) == 1:
        raise LeftOut("a dialogue of one turn has no prompt")
    if not (chosen[-1][1] and rejected[-1][1]):
        raise LeftOut("an answer is empty")
    only_text(row)
    tie, note = ratings.said(row)
    case = Case(transcript(with_system(chosen[:-1], system_of(row))))
    pair = Pair(node, case, Outcome(chosen[-1][1]), Outcome(rejected[-1][1]))
    return drawn(Comparison(pair, Judgement(1.0 if tie is None else tie, note=note), -1, f"imported({source})"))


def turns(dialogue: str) -> Messages:
    """(role, text) of each turn. Raises `LeftOut` if the text does not begin with one."""
    parts = TURN.split(dialogue.strip())
    if len(parts) < 3 or parts[0]:
        raise LeftOut('a text is no dialogue of "Human:" and "Assistant:"')
    return [(ROLES[role], text.strip()) for role, text in zip(parts[1::2], parts[2::2], strict=True)]


def looks(row: Mapping[str, Any]) -> bool:
    """Whether a row is of this format: a row with one broken dialogue is."""
    raw = Row.of(row).raw
    both = (raw.get("chosen"), raw.get("rejected"))
    return raw.get("prompt") is None and any(
        isinstance(text, str) and TURN.match(text.strip()) is not None for text in both
    )
