"""A tool for tests: it looks for a word."""

from __future__ import annotations

from dataclasses import dataclass

from rrm import Abstain, Case, Finding, Outcome, Report
from rrm.core.tools import version_of


@dataclass(frozen=True)
class Word:
    """Question: even (a fact of the toy tree). It says it holds where it finds the word; `wrong` turns that around."""

    word: str = "w5"
    wrong: bool = False
    asked: list[str] | None = None
    name = "word"
    instruction = "It looks for a word."

    @property
    def version(self) -> str:
        return version_of(Word(self.word, self.wrong))

    def __call__(self, case: Case, outcome: Outcome) -> Report:
        if self.asked is not None:
            self.asked.append(outcome.text)
        if not outcome.text:
            raise Abstain("no text")
        holds = (self.word in outcome.text) != self.wrong
        return Report((Finding("even", holds, note=f'"{outcome.text}"'),), f"read {outcome.text}\n\neven: yes")
