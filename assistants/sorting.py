"""Is every step of a written-out alphabetical sort right? A tool: it looks at letters and at the words' order.

It reads the format in which such steps are written in BIG-Bench (Suzgun et al. 2022): letters of words, then an order
of groups, `(2) ["being" ? "bellyache"] < (3) "cider"`, for a part or for all. Of `step<n>` (from 1) it says whether
letters are those of the words, groups are in order, no word is lost or added, and no group is left out or sorted again.
Of other steps it says nothing, and nothing at all of what is no sort of words of small letters.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

from rrm.core.errors import Abstain
from rrm.core.records import Case, Finding, Outcome
from rrm.core.tools import Report
from rrm_assistants.versions import version_with_code

ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth",
)  # fmt: skip
_LETTER = re.compile(r'"([^"]+)": "([^"]*)" \((\d+)\)')
_ORDINAL = re.compile(rf"\b({'|'.join(ORDINALS)}) letter", re.IGNORECASE)
_SUBPART = re.compile(r"subpart \[([^\]]*)\]")
_QUOTED = re.compile(r'"([^"]+)"')
_WORD = re.compile(r"[a-z][a-z'’&-]*")
_ITEM = re.compile(r"(?:\((\d+)\)\s*)?(.*)", re.DOTALL)


@dataclass(frozen=True)
class Sorting:
    """Finds `step<n>` for the lines of an outcome; the words to sort are in the case's data, or are its prompt."""

    name = "sorting"
    instruction = "Looks up letters, and whether the words come in their order."

    @property
    def version(self) -> str:
        """A hash of the code that decides its reports."""
        return version_with_code(self)

    def __call__(self, case: Case, outcome: Outcome) -> Report:
        words = str(case.data.get("input", case.prompt.rpartition(":")[2])).split()
        if len(words) < 2 or not all(map(_WORD.fullmatch, words)):
            raise Abstain("there are no words to sort")
        found = misplaced(words, outcome.text.splitlines())
        findings = tuple(
            Finding(f"step{n}", not wrong, note=wrong) for n, wrong in enumerate(found, 1) if wrong is not None
        )
        if not findings:
            raise Abstain("no step sorts the words")
        return Report(findings)


def misplaced(words: list[str], steps: list[str]) -> list[str | None]:
    """Per step what is wrong with it, "" if nothing that can be seen; None of a step that does not sort these words."""
    found: list[str | None] = []
    letter, part = 0, words  # which letter is looked at (from 0), and in which words
    state = [words]  # groups in order; those of several words are still to be sorted
    for step in steps:
        if not _sorts(step, words):
            found.append(None)
            continue
        if ordinal := _ORDINAL.search(step):
            letter = ORDINALS.index(ordinal[1].lower())
            subpart = _SUBPART.search(step)
            part = _QUOTED.findall(subpart[1]) if subpart else words
            found.append(_letters(step, letter, part) or _skipped(part, state))
            continue
        now, _, total = step.partition("Hence, we have")
        wrong = ""
        if ordered := now.partition("We now have:")[2].split(" for the subpart")[0]:
            groups = _groups(ordered)
            wrong = _order(groups, part, letter)
            place = next((i for i, group in enumerate(state) if set(group) == set(part)), None)
            if place is not None:
                state = [*state[:place], *(group for _, group in groups), *state[place + 1 :]]
        if total:
            groups = _groups(total)
            wrong = wrong or _order(groups, words, None) or _changed([group for _, group in groups], state)
            state = [group for _, group in groups]
        if not wrong and (answer := re.search(r"answer is:?\s*(.*)", step)):
            said = answer[1].replace(",", " ").rstrip(". ").split()
            wrong = _lost(said, words) or ("" if said == sorted(words) else _first_swap(said))
        found.append(wrong)
    return found


def _sorts(step: str, words: list[str]) -> bool:
    """Whether a step is in the format, and about these words: those that it names are theirs, for the greater part."""
    if _ORDINAL.search(step):
        named = [word for word, _, _ in _LETTER.findall(step)]
    elif parts := re.findall(r"(?:We now have:|Hence, we have)(.*?)(?=Hence, we have|$)", step):
        named = [word for part in parts for _, group in _groups(part.split(" for the subpart")[0]) for word in group]
    else:
        answer = re.search(r"answer is:?\s*(.*)", step)
        named = answer[1].replace(",", " ").rstrip(". ").split() if answer else []
    return 2 * sum(word in words for word in named) > len(named)


def _skipped(part: list[str], state: list[list[str]]) -> str:
    """Whether another group stands before the one to be sorted, or there is no such group."""
    first = next((group for group in state if len(group) > 1), [])
    if set(part) == set(first):
        return ""
    return f'it is the turn of "{first[0]}"' if first else "all words are sorted"


def _changed(said: list[list[str]], state: list[list[str]]) -> str:
    """Whether the order of all words is what the steps made of it."""
    for group, expected in zip(said, state, strict=False):
        if set(group) != set(expected):
            return f'"{group[0]}" where "{expected[0]}" was'
    return "" if len(said) == len(state) else "another number of groups"


def _letters(step: str, letter: int, part: list[str]) -> str:
    """Of a step that lists the words' letters."""
    if len({word[:letter] for word in part}) > 1:
        return f"the words differ before their {ORDINALS[letter]} letter"
    listed = _LETTER.findall(step)
    for word, said, number in listed:
        true = word[letter : letter + 1]
        if said.lower() != true or (true and int(number) != ord(true) - ord("a") + 1):
            return f'"{word}": "{said}" ({number})'
    return _lost([word for word, _, _ in listed], part)


def _groups(text: str) -> list[tuple[str, list[str]]]:
    """The groups of an order, each with its number ("" without one)."""
    groups: list[tuple[str, list[str]]] = []
    for item in text.split("<"):
        found = _ITEM.fullmatch(item.strip())
        assert found is not None  # it matches anything
        if group := _QUOTED.findall(found[2]):
            groups.append((found[1] or "", group))
        else:  # the words may stand without quotation marks: then each is a group
            groups += [("", [word]) for word in re.sub(r'[".,\[\]?]', " ", found[2]).split()]
    return groups


def _order(numbered: list[tuple[str, list[str]]], expected: list[str], letter: int | None) -> str:
    """Of an order of groups; with `letter`, a group's number must be that of its words' letter."""
    groups = [group for _, group in numbered]
    for number, group in numbered if letter is not None else ():
        for word in group if number else ():
            if ord(word[letter : (letter or 0) + 1] or "`") - ord("a") + 1 != int(number):
                return f'"{word}" under ({number})'
    if wrong := _lost([word for group in groups for word in group], expected):
        return wrong
    for low, high in pairwise(groups):
        if max(low) > min(high):
            return f'"{max(low)}" before "{min(high)}"'
    return ""


def _lost(said: list[str], expected: list[str]) -> str:
    """Words that are missing or should not be there."""
    missing, more = Counter(expected) - Counter(said), Counter(said) - Counter(expected)
    if missing:
        return f'"{next(iter(missing))}" is missing'
    return f'"{next(iter(more))}" is not among them' if more else ""


def _first_swap(said: list[str]) -> str:
    return next(f'"{a}" before "{b}"' for a, b in pairwise(said) if a > b)
