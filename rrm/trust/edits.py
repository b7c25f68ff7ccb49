"""Edits of an outcome by one word: after which all that can be checked of it is as it was, or one thing turned false.

Metamorphic tests (Chen et al. 1998, arXiv 2002.12543) need no truth of what is judged, only of what an edit changed.
Here that is read fact by fact, at the price of each, through the meter of a bounded user whose looks do not err: so
there are such edits only where a task says of its facts what is true (simulated worlds, and texts with rules that
decide).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from rrm.core.errors import Malformed
from rrm.core.records import Case, Fact, Outcome
from rrm.core.task import Task
from rrm.users.bounded import Attention

TRIES = 1500
"""Edits that are tried of one outcome; most have no form."""
Kind = Literal["plain", "dressed", "flaw"]
State = Mapping[str, tuple[str, bool, tuple[bool, ...]]]
"""Fact -> its aspect, whether it is true, and what it claims and each of its parts."""
Vocabulary = Mapping[str, Sequence[str]]
"""Word -> what may stand after it; empty word -> all words."""


@dataclass(frozen=True)
class Edit:
    """An outcome with one word replaced, inserted or left out."""

    kind: Kind
    """plain: every fact is as it was, and the surface, too; dressed: every fact is, and the surface is not; flaw: one
    fact was true and is false, and all others are as they were."""
    outcome: Outcome
    what: str
    """In words, what was done."""
    fact: str = ""
    """Of a flaw: which."""
    aspect: str = ""
    claims: bool = True
    """Of a flaw: whether the fact claims that its matter holds (`rrm.core.records.Fact`)."""


class Inspector:
    """Looks at facts until it is sure, and counts what that costs. For audits: nobody is trained by what it sees."""

    def __init__(self) -> None:
        self.spent = 0
        self._rng = random.Random(0)  # nothing is drawn that matters: a look does not err

    def look(self, task: Task, case: Case, outcome: Outcome) -> State | None:
        """The state of every fact; None of an outcome without form, or if there is a fact that nothing settles."""
        try:
            facts = task.facts_of(case, outcome)
        except Malformed:
            return None
        if not facts or not all(map(_settled, facts)):
            return None
        found = {}
        for fact in facts:
            seen: list[bool] = []
            holds = self._holds(fact, seen)
            found[fact.name] = (fact.aspect, holds == fact.claims, (fact.claims, *seen))
        return found

    def _holds(self, fact: Fact, seen: list[bool]) -> bool:
        """Whether its matter does; each part is looked at, and added to `seen`."""
        if fact.parts:
            return all([self._holds(part, seen) == part.claims for part in fact.parts])
        meter = Attention(fact.price, 0.0, self._rng)
        holds = meter.check(fact)
        assert holds is not None  # its whole price was there
        self.spent += meter.spent
        seen.append(holds)
        return holds


def words_after(outcomes: Iterable[Outcome]) -> Vocabulary:
    """The words that stand in some outcomes after each word, in order; after the empty one, all of them."""
    found: dict[str, set[str]] = {"": set()}
    for outcome in outcomes:
        words = outcome.text.split()
        found[""].update(words)
        for before, word in pairwise(words):
            found.setdefault(before, set()).add(word)
    return {before: sorted(some) for before, some in found.items()}


def bare(outcome: Outcome) -> Outcome:
    """The text alone, without the tokens that were sampled: what an edit is compared with, as it has none either."""
    return Outcome(outcome.text, finished=outcome.finished)


def edits_of(
    task: Task, case: Case, outcome: Outcome, words: Vocabulary, inspector: Inspector, rng: random.Random
) -> list[Edit]:
    """One plain edit of an outcome, one dressed, and a flaw for each aspect, as far as `TRIES` random edits have them.

    words: what is put in, in place of a word or before one; half the time what others wrote after the same word.
    """
    before = inspector.look(task, case, outcome)
    if before is None or not words.get(""):
        return []
    surface = task.surface_of(case, outcome)
    found: dict[tuple[str, str], Edit] = {}
    wanted = 2 + len({aspect for aspect, *_ in before.values()})
    for text, what in _tried(outcome.text, words, rng):
        changed = replace(bare(outcome), text=text)
        after = inspector.look(task, case, changed)
        if after is None:
            continue
        if after == before:
            kind: Kind = "plain" if task.surface_of(case, changed) == surface else "dressed"
            found.setdefault((kind, ""), Edit(kind, changed, what))
        elif fact := _turned(before, after):
            aspect = before[fact][0]
            found.setdefault(("flaw", aspect), Edit("flaw", changed, what, fact, aspect, after[fact][2][0]))
        if len(found) == wanted:
            break
    return [found[key] for key in sorted(found)]


def _tried(text: str, words: Vocabulary, rng: random.Random) -> Iterator[tuple[str, str]]:
    """(the text with one word changed, what was done), no text twice."""
    pieces = re.split(r"(\s+)", text)  # words are at even places
    seen = {text}
    for _ in range(TRIES):
        at = 2 * rng.randrange((len(pieces) + 1) // 2)
        fitting = words.get(pieces[at - 2] if at else "", ()) if rng.random() < 0.5 else ()
        word, how = rng.choice(fitting or words[""]), rng.random()
        old, place = pieces[at], at // 2 + 1
        if how < 0.1:
            changed, what = "".join((*pieces[:at], *pieces[at + 2 :])), f"word {place}: {old!r} was left out"
        elif how < 0.3:
            changed, what = "".join((*pieces[:at], f"{word} {old}", *pieces[at + 1 :])), f"{word!r} before word {place}"
        else:
            changed, what = "".join((*pieces[:at], word, *pieces[at + 1 :])), f"word {place}: {old!r} became {word!r}"
        if changed not in seen:
            seen.add(changed)
            yield changed, what


def _turned(before: State, after: State) -> str:
    """The one fact that was true and is false, all others being as they were; empty if it is not so."""
    if [*before] != [*after]:
        return ""
    changed = [name for name in before if before[name] != after[name]]
    return changed[0] if len(changed) == 1 and before[changed[0]][1] and not after[changed[0]][1] else ""


def _settled(fact: Fact) -> bool:
    return all(map(_settled, fact.parts)) if fact.parts else fact.truth is not None
