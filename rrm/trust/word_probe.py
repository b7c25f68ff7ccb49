"""Does a reward model read a word? It is written into outcomes that were judged: scores before and after are compared.

That scores and a word go together says little: outcomes with the word differ in other things, too. So only edits count.
The word is put wherever the outcome keeps its form (the case's, and the task's own: its facts can still be read, and
are the same ones), and taken out where it stands. At the same places other words are tried, from the outcome itself or,
where none of those fits, from the others: a change that any word makes is no reading of this one. What assistants found
stays as it was, so what is measured is what the reward model itself makes of the words. Whether a fact is true nobody
looks at: that an edit leaves truth alone is for whoever names the word to know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from rrm.core.errors import Malformed
from rrm.core.records import Assistance, Case, Fact, Group, Outcome
from rrm.core.seeding import generator
from rrm.core.shares import Known
from rrm.core.task import Task
from rrm.models.agent import tokens_of
from rrm.models.attribution import READING, less, parts_of
from rrm.models.reward import TextRewardModel
from rrm.trust.moving import by_case, figure

PLACES = 6
"""Places of an outcome at which a word is tried at most, spread over it."""
CONTROLS = 4
"""Other words at each of them, at most."""
TRIED = 400
"""Words that are tried for it, at random."""
OUTCOMES = 200
"""Outcomes that are edited at most."""

Seen = tuple[Case, Outcome, tuple[Assistance, ...]]


@dataclass(frozen=True)
class Probed:
    """What a word does to scores, in standard deviations: means over outcomes, each the mean over its places, with
    intervals over cases. None: there was no such edit."""

    word: str
    outcomes: int
    """Looked at; in how many of them the word was written is `written.n`."""
    written: Known | None
    reading: Known | None
    """The part of `written` that comes of what is read; the rest is surprise."""
    removed: Known | None
    """What taking it out does, where it stands."""
    controls: Known | None
    """What other words do at the same places."""
    beyond: Known | None
    """`written` less `controls`, where both are."""
    surface: Mapping[str, float]
    """How the task's own surface features change when it is written, on average; those that do."""

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        named = ("written", "reading", "removed", "controls", "beyond")
        told = {name: figure(getattr(self, name)) for name in named}
        return {"word": self.word, "outcomes": self.outcomes, **told, "surface": dict(self.surface)}

    def __str__(self) -> str:
        if self.written is None and self.removed is None:
            return (
                f"{self.word!r}: in none of {self.outcomes} outcomes can it be written so that the task's form is "
                "kept, and in none does it stand"
            )
        told = [f"written into an outcome it moves the score by {_signed(self.written)}"] if self.written else []
        told += [f"taken out of one by {_signed(self.removed)}"] if self.removed else []
        if self.controls is not None:
            told.append(f"other words at the same places by {_signed(self.controls)}")
            told.append(f"beyond those it moves it by {_signed(self.beyond)}")
        elif self.written is not None:
            told.append("no other word fits at its places")
        return f"{self.word!r}: {'; '.join(told)} (standard deviations): {self.verdict}"

    @property
    def verdict(self) -> str:
        """Whether it is read, in words; by `beyond` where there are other words, else by `written` or `removed`, which
        may be of any words there."""
        known = self.beyond or self.written or self.removed
        if known is None or known.low != known.low:
            return "it cannot be told"
        what = "the word is" if self.beyond is not None else "that some words stand there is"
        liked, disliked = known.low > 0, known.high < 0
        if known is self.removed:  # taking out what is liked costs
            liked, disliked = disliked, liked
        return f"{what} liked" if liked else f"{what} disliked" if disliked else "no effect is seen"


def _signed(known: Known | None) -> str:
    if known is None:
        return "nothing"
    between = "" if known.low != known.low else f" [{known.low:+.2f}, {known.high:+.2f}]"
    return f"{known.mean:+.2f}{between} ({known.n} outcomes, {known.cases} cases)"


def probe(
    reward: TextRewardModel, task: Task, seen: Sequence[Seen], words: Sequence[str],
    done: Callable[[int, int], None] = lambda n, of: None,
) -> list[Probed]:  # fmt: skip
    """What each word does to the scores of outcomes, each with its case and what was said of it.

    A word may be several ("indeed we know"). Outcomes without text, or that have lost their form, are left out. `done`
    hears how many outcomes are.
    """
    usable = [one for one in seen if one[1].data is None and one[1].text and not task.fault(one[0], one[1])]
    first = generator("word probe", task.path)
    chosen = [usable[i] for i in _picked(len(usable), OUTCOMES, first)]
    words = [" ".join(word.split()) for word in words]
    vocabulary = sorted({word for _, outcome, _ in chosen for word in outcome.text.split()} - {*words})
    written: list[list[tuple[str, float, float]]] = [[] for _ in words]
    removed: list[list[tuple[str, float]]] = [[] for _ in words]
    controls: list[list[tuple[str, float]]] = [[] for _ in words]
    beyond: list[list[tuple[str, float]]] = [[] for _ in words]
    surfaces: list[list[Mapping[str, float]]] = [[] for _ in words]
    for number, (case, outcome, said) in enumerate(chosen):
        start = Outcome(outcome.text, around=outcome.around)  # as it is read anew: the edits are, too
        keeps = _Form(reward, task, case, start)
        edits: list[tuple[int, str, Outcome]] = []
        for n, word in enumerate(words):
            places = [at for at in _places(start.text) if keeps(_with(start, at, word))]
            for at in (places[i] for i in _spread(len(places), PLACES)):
                edits.append((n, "written", _with(start, at, word)))
                own = [*dict.fromkeys(start.text.split())]
                for pool in (own, vocabulary):
                    order = torch.randperm(len(pool), generator=first)[:TRIED].tolist()
                    tried = (_with(start, at, pool[i]) for i in order if pool[i] not in words)
                    fits = [*islice((one for one in tried if keeps(one)), CONTROLS)]
                    edits += [(n, "controls", one) for one in fits]
                    if fits:
                        break
            edits += [(n, "removed", one) for one in _without(start, word) if keeps(one)]
        if edits:
            group = Group(case, (start, *(one for *_, one in edits)), (said,) * (1 + len(edits)))
            before, *after = parts_of(reward, [group], [])[0]
            changes = [less(one, before) for one in after]
            for n in range(len(words)):
                of = {
                    kind: [change for (m, k, _), change in zip(edits, changes, strict=True) if (m, k) == (n, kind)]
                    for kind in ("written", "controls", "removed")
                }
                means = {k: sum(sum(c.values()) for c in some) / len(some) for k, some in of.items() if some}
                if "written" in means:
                    read = sum(change[READING] for change in of["written"]) / len(of["written"])
                    written[n].append((case.id, means["written"], read))
                    new = next(one for m, kind, one in edits if (m, kind) == (n, "written"))
                    surfaces[n].append(_changed(task, case, start, new))
                if "controls" in means:
                    controls[n].append((case.id, means["controls"]))
                    beyond[n].append((case.id, means["written"] - means["controls"]))
                if "removed" in means:
                    removed[n].append((case.id, means["removed"]))
        done(number + 1, len(chosen))
    return [
        Probed(
            word, len(chosen), by_case((case, value) for case, value, _ in written[n]),
            by_case((case, value) for case, _, value in written[n]), by_case(removed[n]), by_case(controls[n]),
            by_case(beyond[n]), _averaged(surfaces[n]),
        )
        for n, word in enumerate(words)
    ]  # fmt: skip


class _Form:
    """Whether an edited outcome keeps the form: the case's, and the task's with the same facts."""

    def __init__(self, reward: TextRewardModel, task: Task, case: Case, start: Outcome) -> None:
        self._reward, self._task, self._case = reward, task, case
        self._facts = [_named(fact) for fact in task.facts_of(case, start)]

    def __call__(self, outcome: Outcome) -> bool:
        try:
            same = [_named(fact) for fact in self._task.facts_of(self._case, outcome)] == self._facts
        except Malformed:
            return False
        if not same or not self._case.form:
            return same
        backbone = self._reward.backbone
        guide = backbone.forms.guide(self._case.form)
        return all(guide.take(token) for token in tokens_of(backbone, self._case, outcome))


def _named(fact: Fact) -> tuple[Any, ...]:
    """All of a fact but whether it is true."""
    return fact.name, fact.aspect, fact.price, fact.claims, tuple(_named(part) for part in fact.parts)


def _places(text: str) -> list[int]:
    """Where a word may be put: before each word, and at the end."""
    return [*(match.start() for match in re.finditer(r"\S+", text)), len(text)]


def _with(outcome: Outcome, at: int, word: str) -> Outcome:
    text = outcome.text
    put = f" {word}" if at == len(text) else f"{word} "
    return Outcome(text[:at] + put + text[at:], around=outcome.around)


def _without(outcome: Outcome, word: str) -> Iterator[Outcome]:
    for match in re.finditer(rf"(?<!\S){re.escape(word)}(?!\S)\s*", outcome.text):
        text = (outcome.text[: match.start()] + outcome.text[match.end() :]).strip()
        if text:
            yield Outcome(text, around=outcome.around)


def _spread(n: int, most: int) -> list[int]:
    """At most `most` of n numbers, evenly."""
    return [*range(n)] if n <= most else [round(i * (n - 1) / (most - 1)) for i in range(most)]


def _picked(n: int, most: int, source: torch.Generator) -> list[int]:
    """At most `most` of n numbers, at random, in their order where all are."""
    return [*range(n)] if n <= most else torch.randperm(n, generator=source)[:most].tolist()


def _changed(task: Task, case: Case, before: Outcome, after: Outcome) -> Mapping[str, float]:
    was, now = task.surface_of(case, before), task.surface_of(case, after)
    return {name: now.get(name, 0.0) - was.get(name, 0.0) for name in {**was, **now}}


def _averaged(changes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = sorted({name for one in changes for name in one})
    means = {name: sum(one.get(name, 0.0) for one in changes) / len(changes) for name in names}
    return {name: value for name, value in means.items() if value}
