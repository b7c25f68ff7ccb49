"""Spelling and grammar by harper (harper-py): rules and a dictionary, so it overlooks much and knows no names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from rrm.core.errors import Abstain
from rrm.core.records import Case, Finding, Outcome
from rrm.core.tools import Report, version_of
from rrm.core.verdicts import one_line
from rrm_assistants.tools.worker import Worker

SPELLING = {"Spelling", "Typo"}
STYLE = {"Enhancement", "Formatting", "Readability", "Redundancy", "Regionalism", "Style"}
"""Kinds of lint that are matters of taste: told, not counted."""
LONGEST = 60
"""Longest word that is looked up, in characters: harper compares a word with its dictionary in memory that grows with
its length, and a word of 100,000 letters takes 30 GB."""
_LONG = re.compile(rf"\S{{{LONGEST + 1},}}")
_CODE = re.compile(r"```.*?(```|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Grammar:
    """Questions: spelling, grammar. Code between ``` is not read.

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
        """With that of harper. Raises `ToolMissing` if it is not installed."""
        return version_of(self, ["harper-py"])

    def __call__(self, case: Case, outcome: Outcome) -> Report:
        whole = _CODE.sub(" ", outcome.text)
        text = _LONG.sub(lambda word: " " * len(word[0]), whole)[: self.limit]
        text = text.encode(errors="replace").decode()  # a lone surrogate is no character
        if not re.search(r"[^\W\d_]", text):
            raise Abstain("there are no words to read")
        lints = _worker().ask({"text": text, "dialect": self.dialect}, self.seconds)["lints"]
        if self.names:
            lints = [one for one in lints if not (one[0] == "Spelling" and is_name(text, one[3]))]
        spelling = [one for one in lints if one[0] in SPELLING]
        grammar = [one for one in lints if one[0] not in SPELLING | STYLE]
        findings = tuple(
            Finding(question, not some, note=", ".join(dict.fromkeys(f'"{one_line(one[3], 40)}"' for one in some[:5])))
            for question, some in (("spelling", spelling), ("grammar", grammar))
            if some or len(whole) <= self.limit
        )
        if not findings:
            raise Abstain(f"no fault in the first {self.limit} characters; the rest was not read")
        told = [f"{kind}: “{one_line(problem, 60)}”: {message}" for kind, _, _, problem, message in lints[:12]]
        more = [f"... and {len(lints) - 12} more"] if len(lints) > 12 else []
        more += [f"words of more than {LONGEST} characters were not read"] * bool(_LONG.search(whole))
        return Report(findings, "\n".join([*told, *more]))


def is_name(text: str, word: str) -> bool:
    """Whether a capitalized word also stands inside a sentence, after a small letter or a comma."""
    if not re.fullmatch(r"[^\W\d_a-z][\w'’-]*", word) or word.isupper():
        return False
    return re.search(rf"[a-z,;] {re.escape(word)}\b", text) is not None


@cache
def _worker() -> Worker:
    return Worker("serve_grammar.py", memory=1 << 30)
