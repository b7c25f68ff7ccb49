"""Our regular expressions on hostile texts: none takes longer than the text is long, more or less.

Outcomes, imported rows, replies and notes are written by anybody; a pattern that tries every way to part ten thousand
blanks hangs a run, or a page. Every pattern of the packages is looked at: those that modules hold, and those that stand
in calls of `re`.
"""

from __future__ import annotations

import ast
import importlib
import itertools
import pkgutil
import re
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

from rrm.core.records import Case, Outcome
from rrm.core.tools import consult
from rrm_assistants.answered import Answered
from rrm_assistants.arithmetic import Arithmetic
from rrm_assistants.equalities import Equalities
from rrm_assistants.follows import Follows
from rrm_assistants.sorting import Sorting
from rrm_assistants.tools.algebra import Algebra
from tests.layout import FILES, name, tree

LONG = 10_000
SECONDS = 0.1
"""Of processor time. A pattern that fails at every place takes milliseconds; one that backtracks, a second."""
SHORT = 1_000
SUSPECT = 0.2 * SECONDS * (SHORT / LONG) ** 2
"""The long text is tried where one so much shorter takes this: five times less than what, growing with the square of
the length, would be too long. Most patterns take far less on all texts."""
ALWAYS = [" ", "\n", "\t", "a", "A", "1", "(", ")", '"', "=", ".", ",", "-", "é", " a", "1,", "1 ", "x = "]
METHODS = {"match", "search", "sub", "findall", "fullmatch", "split", "finditer"}


def held() -> dict[tuple[str, int], str]:
    """(pattern, flags) -> where, of every pattern that a module of ours holds."""
    found: dict[tuple[str, int], str] = {}
    for root in ("rrm", "rrm_assistants", "rrm_tasks"):
        for module in pkgutil.walk_packages(importlib.import_module(root).__path__, f"{root}."):
            last = module.name.rpartition(".")[2]
            if last.startswith("serve") or last in ("__main__", "jail"):  # scripts
                continue
            try:
                loaded = importlib.import_module(module.name)
            except ImportError:
                continue  # of an extra that is not installed
            for key, value in vars(loaded).items():
                if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
                    found.setdefault((value.pattern, value.flags), f"{module.name}.{key}")
    return found


def inline() -> dict[tuple[str, int], str]:
    """The same of those that stand in a call, without flags that the call may name."""
    found: dict[tuple[str, int], str] = {}
    for path in FILES:
        if not name(path).startswith(("rrm/", "assistants/", "tasks/")):
            continue
        for call in (node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)):
            function = call.func
            if not (isinstance(function, ast.Attribute) and function.attr in METHODS and call.args):
                continue
            if isinstance(function.value, ast.Name) and function.value.id == "re":
                text = call.args[0].value if isinstance(call.args[0], ast.Constant) else None
                if isinstance(text, str):
                    found.setdefault((text, int(re.compile(text).flags)), f"{name(path)}:{call.lineno}")
    return found


def texts(pattern: str, length: int = LONG) -> Iterator[str]:
    """Long repeats of what the pattern speaks of: words, signs, blanks; alone, in pairs, and behind one another."""
    words = re.findall(r"[A-Za-z/]{2,}|[^\w\s\\]", pattern)
    pieces = list(dict.fromkeys([*ALWAYS, *words]))[:60]
    for piece in pieces:
        yield piece * (length // len(piece)) + "\0"
    starts = list(dict.fromkeys([*words, *ALWAYS]))[:24]
    for start, piece in itertools.product(starts, [" ", "\n", "a", "1", ",", ".", "-", "(", "*", "1 ", " a"]):
        yield start + piece * (length // len(piece)) + "\0"
    for one, two in itertools.permutations(starts[:12], 2):
        both = f"{one}{two}"
        yield both * (length // len(both)) + "\0"


class TooLongError(Exception):
    """A pattern is at it for more than `SECONDS`."""


def took(use: Callable[[str], object], text: str) -> float:
    """Seconds of processor time."""
    began = time.thread_time()
    use(text)
    return time.thread_time() - began


def slow(pattern: re.Pattern[str]) -> str:
    """The beginning of a text that takes it too long; empty if none does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGPROF, stop)
    try:
        for short, text in zip(texts(pattern.pattern, SHORT), texts(pattern.pattern), strict=True):
            for use in (lambda text: pattern.sub("", text), pattern.fullmatch):
                signal.setitimer(signal.ITIMER_PROF, 5 * SECONDS)  # of processor time: a busy machine has other work
                try:
                    if took(use, short) > SUSPECT and took(use, text) > SECONDS:
                        return repr(text[:40])
                except TooLongError:
                    return repr(text[:40])
                finally:
                    signal.setitimer(signal.ITIMER_PROF, 0)
    finally:
        signal.signal(signal.SIGPROF, before)
    return ""


BOUNDED = ("assistants/expressions.py:", "rrm_assistants.expressions._PLAIN", "assistants/tools/statements.py:",
           "rrm_assistants.tools.statements.", "rrm_assistants.tools.algebra._END")  # fmt: skip
"""Read lines that are short by then; looked at through the tools, below."""
PATTERNS = {where: key for key, where in (inline() | held()).items()}


def test_there_are_patterns() -> None:
    assert len(PATTERNS) > 60 and {"rrm.core.verdicts._LINE", "rrm.users.endpoint._SAID"} <= {*PATTERNS}


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="it needs a timer")
@pytest.mark.parametrize("where", sorted(one for one in PATTERNS if not one.startswith(BOUNDED)))
def test_no_text_takes_a_pattern_long(where: str) -> None:
    text, flags = PATTERNS[where]
    assert not (found := slow(re.compile(text, flags))), f"{where} {text!r} on {found}..."


TOOLS = {"answered": Answered(), "follows": Follows(), "arithmetic": Arithmetic(), "sorting": Sorting(),
         "equalities": Equalities(), "algebra": Algebra(seconds=0.5)}  # fmt: skip
PIECES = ["1", "1 ", "1,", "a ", "= ", "1+", "(", "step ", ", ", "x = x\n", "1.", "qed", "“", " ", "\n", "<<1=1>>"]


@pytest.mark.parametrize("tool", TOOLS)
def test_no_outcome_takes_a_tool_long(tool: str) -> None:
    """Nor does it raise: an abstention is the worst that a text can get. (The worker's start is no part of it.)"""
    case = Case("How many apples? 1 + 1", {})
    consult(TOOLS[tool], case, Outcome("Proof:\n1 = 1"))
    for piece, start in itertools.product(PIECES, ("Proof:\n", "1. x = ")):
        began = time.monotonic()
        consult(TOOLS[tool], case, Outcome(start + piece * (LONG // len(piece))))
        assert time.monotonic() - began < 3, (piece, start)


def test_the_test_finds_what_backtracks() -> None:
    assert slow(re.compile(r"\s+\S?\s+x$")) and slow(re.compile(r"(a*)*b"))
    assert not all(slow(re.compile(r"a{1,9}b")) for _ in range(4))  # a busy machine may stand still for a moment
