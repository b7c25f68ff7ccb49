"""Rows too long for whoever is to read them: left out, cut, or an error; by characters, or by a model's tokens."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rrm.core.judgements import Comparison
from rrm.core.records import Outcome
from rrm.exchange.exporting import ExchangeError
from rrm.exchange.imports.columns import LeftOut

TooLong = Literal["skip", "cut", "error"]


@dataclass(frozen=True)
class Limit:
    """The longest comparison that is imported as it is: its prompt and the longer of its outcomes.

    Attributes
    ----------
    most: in `unit`s.
    then: what becomes of a longer one. skip: it is left out and counted. cut: its outcomes lose their ends, its prompt
        nothing; where that leaves nothing of an outcome, it is left out. error: nothing is imported.
    prompt, outcome: how many units such a text has.
    """

    most: int
    then: TooLong = "skip"
    unit: str = "characters"
    prompt: Callable[[str], int] = len
    outcome: Callable[[str], int] = len

    def kept(self, comparison: Comparison) -> Comparison:
        """The comparison as it is to be imported. Raises `LeftOut` if it is to be left out, or `ExchangeError`."""
        asked = self.prompt(comparison.case.prompt)
        said = max(self.outcome(one.shown) for one in (comparison.a, comparison.b))
        if asked + said <= self.most:
            return comparison
        long = f"longer than {self.most} {self.unit}"
        if self.then == "error":
            raise ExchangeError(
                f"{long}: {asked} of its prompt, {said} of its longer outcome; --too-long skip leaves such rows out, "
                "--too-long cut cuts their outcomes"
            )
        if self.then == "skip" or asked >= self.most:
            raise LeftOut(long)
        pair = comparison.pair
        a, b = (self._cut(outcome, self.most - asked) for outcome in (pair.a, pair.b))
        if a == b or not (a.text.strip() and b.text.strip()):
            raise LeftOut(f"{long}, and the same or empty when it is cut")
        note = "; ".join(part for part in (comparison.judgement.note, f"cut to {self.most} {self.unit}") if part)
        return replace(comparison, pair=replace(pair, a=a, b=b), judgement=replace(comparison.judgement, note=note))

    def expect(self, prompt: str, outcomes: Sequence[Outcome]) -> None:
        """Raises `LeftOut` if what is about these outcomes is to be left out, or `ExchangeError`: nothing is cut, as
        what was said of the whole is not said of its beginning."""
        long = f"longer than {self.most} {self.unit}"
        asked, said = self.prompt(prompt), max(self.outcome(one.shown) for one in outcomes)
        if asked + said > self.most:
            if self.then == "error":
                raise ExchangeError(f"{long}: {asked} of its prompt, {said} of its longest outcome")
            raise LeftOut(long)

    def _cut(self, outcome: Outcome, room: int) -> Outcome:
        """The outcome's beginning, as much as there is room for; nothing of one that is more than a text."""
        if self.outcome(outcome.shown) <= room:
            return outcome
        if outcome.data is not None:
            return Outcome("")
        length = bisect_right(range(len(outcome.text) + 1), room, key=lambda n: self.outcome(outcome.text[:n])) - 1
        return Outcome(outcome.text[: max(0, length)], finished=False, around=(outcome.around[0], ""))
