"""Spelling and grammar by harper (harper-py): rules and a dictionary, so it overlooks much and knows no names.

Tokenized text ("do n't", " ,", "`` ''", "@-@", as in WikiText and PeerRead) is put together first, and the report says
so: its blanks are the tokenizer's. What is no English it does not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from rrm.core.errors import Abstain
from rrm.core.records import Case, Finding, Outcome
from rrm.core.tools import Report
from rrm.core.verdicts import one_line
from rrm_assistants.tools import english
from rrm_assistants.tools.english import is_english
from rrm_assistants.tools.worker import Worker
from rrm_assistants.versions import version_with_code

SPELLING = {"Spelling", "Typo"}
STYLE = {"Enhancement", "Formatting", "Readability", "Redundancy", "Regionalism", "Style"}
"""Kinds of lint that are matters of taste: told, not counted."""
LONGEST = 60
"""Longest word that is looked up, in characters: harper compares a word with its dictionary in memory that grows with
its length, and a word of 100,000 letters takes 30 GB."""
DEGREES = (2, 4, 8)
"""More faults weigh more: with so many (in a text of more than 100 words: so many per 100), one more question fails."""
_APART = re.compile(
    r"(?<=[\w)\]\"”]) (?:[,.;:!?](?=\s|$)|n't\b|'(?:s|re|ve|ll|d|m)\b)"
    r"|``|(?<=\s)''(?=\s|$)|@[-,.]@|-[LR][RCS]B-"
)
_TOGETHER = re.compile(r"(?<=\w)(?:[,.;:!?](?=\s|$)|n't\b|'(?:s|re|ve|ll|d|m)\b)")
_JOINED = (
    (re.compile(r" ?@([-,.])@ ?"), r"\1"), (re.compile(r"-L[RCS]B-"), "("), (re.compile(r"-R[RCS]B-"), ")"),
    (re.compile(r"`` ?"), "“"), (re.compile(r" ?''(?!\w)"), "”"), (re.compile(r"(?i)\b(ca|wo|sha) n't\b"), r"\1n't"),
    (re.compile(r" (n't|'(?:s|re|ve|ll|d|m))\b"), r"\1"), (re.compile(r" ([,.;:!?%)\]}])(?=[\s,.;:!?\"”)]|$)"), r"\1"),
    (re.compile(r"([(\[{$]) "), r"\1"),
)  # fmt: skip
_LONG = re.compile(rf"\S{{{LONGEST + 1},}}")
_CODE = re.compile(r"```.*?(```|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Grammar:
    """Questions: spelling, grammar; and where one has 2, 4 or 8 faults, spelling2, spelling4 and so on, which fail too.
    Code between ``` is not read.

    limit: characters read. Of a longer text a fault still counts, but "no fault" would be said of what was not read.
    names: whether a capitalized word inside a sentence is taken for a name, which no dictionary knows.
    seconds: time limit.
    """

    dialect: Literal["AMERICAN", "BRITISH", "AUSTRALIAN", "CANADIAN", "INDIAN"] = "AMERICAN"
    limit: int = 20_000
    names: bool = True
    seconds: float = 20.0
    name = "harper"
    instruction = "A grammar checker looks for misspelled words and grammatical mistakes."

    @property
    def version(self) -> str:
        """With that of harper, and a hash of the code. Raises `ToolMissing` if it is not installed."""
        return version_with_code(self, english, packages=["harper-py"])

    def __call__(self, case: Case, outcome: Outcome) -> Report:
        whole = _CODE.sub(" ", outcome.text)
        text = _LONG.sub(lambda word: " " * len(word[0]), whole)[: self.limit]
        text = text.encode(errors="replace").decode()  # a lone surrogate is no character
        if not re.search(r"[^\W\d_]", text):
            raise Abstain("there are no words to read")
        if not is_english(text):
            raise Abstain("it is not English, or no sentences")
        words = len(re.findall(r"[^\W\d_]+", text))
        if 3 * len(re.findall(r"[\"“][^\W\d_]+[\"”]", text)) > words:
            raise Abstain("it speaks of words, and few are used")
        if apart := tokenized(text):
            text = detokenized(text)
        lints = _worker().ask({"text": text, "dialect": self.dialect}, self.seconds)["lints"]
        lints = [one for one in lints if not mentioned(text, one[1], one[2])]
        lints = [one if one[3].strip() else [*one[:3], around(text, one[1], one[2]), one[4]] for one in lints]
        if self.names:
            lints = [one for one in lints if not (one[0] == "Spelling" and is_name(text, one[3]))]
        spelling = [one for one in lints if one[0] in SPELLING]
        grammar = [one for one in lints if one[0] not in SPELLING | STYLE]
        findings = tuple(
            finding
            for question, some in (("spelling", spelling), ("grammar", grammar))
            if some or len(whole) <= self.limit
            for finding in _findings(question, [one[3] for one in some], words)
        )
        if not findings:
            raise Abstain(f"no fault in the first {self.limit} characters; the rest was not read")
        told = [f"{kind}: “{one_line(problem, 60)}”: {message}" for kind, _, _, problem, message in lints[:12]]
        more = [f"... and {len(lints) - 12} more"] if len(lints) > 12 else []
        more += ["the text is tokenized; it was put together before it was read"] * apart
        more += [f"words of more than {LONGEST} characters were not read"] * bool(_LONG.search(whole))
        return Report(findings, "\n".join([*told, *more]))


def _findings(question: str, faults: list[str], words: int) -> Iterator[Finding]:
    """The question itself, and the degrees to which it fails."""
    quoted = list(dict.fromkeys(f'"{one_line(fault, 40)}"' for fault in faults[:5]))
    more = [f"and {len(faults) - 5} more"] if len(faults) > 5 else []
    yield Finding(question, not faults, note=", ".join([*quoted, *more]))
    for degree in DEGREES:
        if len(faults) * 100 >= degree * max(100, words):
            yield Finding(f"{question}{degree}", False)


def tokenized(text: str) -> bool:
    """Whether a text's words and signs stand apart, as tokenizers leave them: most of those that could, and two at
    least; one is a slip of the writer's."""
    apart = len(_APART.findall(text))
    return apart >= 2 and apart > len(_TOGETHER.findall(text))


def detokenized(text: str) -> str:
    """A tokenized text as it was written, as far as that can be told."""
    for pattern, plain in _JOINED:
        text = pattern.sub(plain, text)
    return text


def mentioned(text: str, start: int, end: int) -> bool:
    """Whether a word is spoken of and not used: a letter, or a word in quotation marks of its own."""
    alone = end - start == 1 and text[start:end].isalpha() and text[start:end] not in "iI"
    return alone or (text[start - 1 : start] in ("\"", "“") and text[end : end + 1] in ("\"", "”"))


def around(text: str, start: int, end: int) -> str:
    """The words on both sides of a place where nothing is seen: what a fault is quoted as where a hyphen is missing."""
    before, after = re.search(r"\S*\s*$", text[:start]), re.match(r"\s*\S*", text[end:])
    return f"{before[0] if before else ''}{text[start:end]}{after[0] if after else ''}".strip()


def is_name(text: str, word: str) -> bool:
    """Whether a capitalized word also stands inside a sentence, after a small letter or a comma."""
    if not re.fullmatch(r"[^\W\d_a-z][\w'’-]*", word) or word.isupper():
        return False
    return re.search(rf"[a-z,;] {re.escape(word)}\b", text) is not None


@cache
def _worker() -> Worker:
    return Worker("serve_grammar.py", memory=1 << 30)
