"""Which line of a solution is the first that is wrong, by the worked answer of its problem. The truth, for facts only.

It is a proxy, since nobody labeled lines. A published worked answer (GSM8K: Cobbe et al. 2021) gives every intermediate
result, `<<48/2=24>>24`. Of a solution whose answer is the key's, every line counts as right, however it got there. Of
one whose answer is not, the first line whose result is neither one of the worked answer's results nor a number of the
question counts as wrong; the last line if there is no such line. What comes after the first wrong line counts as
following from it. So a line that is right by another way than the worked answer's, in a solution that goes wrong later,
is called wrong here; and one that comes by a right number for a wrong reason is not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from rrm_assistants.expressions import agrees, numbers
from rrm_assistants.reading import equations
from rrm_assistants.solution import answer, given, lines

_RESULT = re.compile(r"<<[^<>=]*=([^<>=]*)>>")


def results(worked: str) -> set[Fraction]:
    """The intermediate results and the answer that a worked answer gives."""
    found = {numbers(text)[0] for text in _RESULT.findall(worked) if numbers(text)}
    key = answer(worked)
    return found if key is None else found | {key}


def result(line: str) -> str | None:
    """What a line comes to: the right side of its last equation; None without an equation."""
    said = [one.right for one in equations(line) if one.computes]
    return said[-1] if said else None


def first_wrong(question: str, worked: str, text: str) -> int | None:
    """The number, from 1, of the first line of a solution that counts as wrong; None if all count as right. Lines are
    those of `solution.lines`; a solution of no lines has nothing that could be wrong."""
    said = answer(text)
    if said is not None and said == answer(worked):
        return None
    known = results(worked) | set(given(question))
    all_lines = lines(text)
    for n, line in enumerate(all_lines, 1):
        found = result(line)
        if found is not None and not any(agrees(found, one) for one in known):
            return n
    return len(all_lines) or None


def computing(all_lines: Sequence[str]) -> list[int]:
    """The numbers, from 1, of those lines that have a computation; of all if none has."""
    found = [n for n, line in enumerate(all_lines, 1) if result(line) is not None]
    return found or list(range(1, len(all_lines) + 1))


def lines_hold(data: Mapping[str, Any], text: str) -> dict[int, bool]:
    """Line number -> whether it holds, by `first_wrong`; nothing where a case's data has no worked answer (people's own
    questions)."""
    if "worked" not in data:
        return {}
    wrong = first_wrong(str(data["question"]), str(data["worked"]), text)
    return {n: n != wrong for n in range(1, len(lines(text)) + 1)}
