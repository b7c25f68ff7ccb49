"""What enters from a task's functions and from users: of the right kind, finite, and said by whom if it is not.

A number that is no number would otherwise go a long way in silence: NaN is stored as none, prefers B always, and makes
a row vanish.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from numbers import Real
from typing import Any, TypeVar

from rrm.core.blame import at
from rrm.core.errors import RRMError
from rrm.core.judgements import Check, Judgement
from rrm.core.records import Case, Group, Outcome, digest
from rrm.core.remarks import Remark

T = TypeVar("T")
BROKEN = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NameError, OSError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""What code of a task's or a user's author raises when it has a mistake in it."""
LONGEST = 1 << 20
"""Most characters of a note."""


class BorderError(RRMError, ValueError):
    """A task's function, or a user, raised, or gave something of the wrong kind."""


@contextmanager
def told(where: str, passing: bool = False) -> Iterator[None]:
    """Errors of somebody's code become one that says whose, and in which line. Ours pass as they are: they say it
    already. So does what is no mistake but somebody's own (an exception of their class), with a note of where it came
    from; if `passing`, also where that class derives from those of mistakes: it may be how they end a run."""
    try:
        yield
    except RRMError:
        raise
    except BROKEN as error:
        if passing and type(error).__module__ != "builtins":
            error.add_note(f"Raised by {where}{at(error)}")
            raise
        raise BorderError(f"{where} raised {type(error).__name__}: {plain(str(error))}{at(error)}") from error
    except BaseException as error:
        error.add_note(f"Raised by {where}{at(error)}")
        raise


def plain(text: str, limit: int = 300) -> str:
    """A text for a message: without control characters, and cut."""
    flat = "".join(c if c.isprintable() else "?" for c in text)
    return flat if len(flat) <= limit else f"{flat[:limit]}..."


def items(found: Iterable[T], kind: type[T], where: str) -> tuple[T, ...]:
    """What a function gave, as a tuple of `kind`. Raises `BorderError` otherwise."""
    if isinstance(found, str | bytes | Mapping) or not isinstance(found, Iterable):
        raise BorderError(f"{where} gave {_shown(found)}, not a list of {kind.__name__}; empty for none")
    with told(where):
        given = tuple(found)
    wrong = [one for one in given if not isinstance(one, kind)]
    if wrong:
        raise BorderError(f"{where} gave {_shown(wrong[0])} in a list of {kind.__name__}")
    return given


def numbers(found: Mapping[str, float], where: str) -> dict[str, float]:
    """Named finite numbers. Raises `BorderError` otherwise."""
    if not isinstance(found, Mapping):
        raise BorderError(f"{where} gave {_shown(found)}, not a mapping of names to numbers")
    return {str(name): finite(value, f"{where}: {name}") for name, value in found.items()}


def finite(value: object, what: str) -> float:
    """A finite number. Raises `BorderError` for anything else, a truth value among them."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise BorderError(f"{what} is {_shown(value)}, not a finite number")
    return float(value)


def drawn(draw: Callable[[], Iterable[Case]], where: str, n: int) -> list[Case]:
    """Cases as a supply gave them: `n`, their prompts and data such as can be kept. Raises `BorderError` otherwise: of
    fewer a round would be smaller than its settings say, in silence."""
    with told(where):
        cases = items(draw(), Case, where)
    for case in cases:
        said(case.prompt, f"{where}: a prompt")
        json_able(case.data, where)
    if len(cases) != n:
        given = len(cases) or "none"
        raise BorderError(
            f"{where}: {given} {'was' if len(cases) == 1 else 'were'} drawn, not {n}; draw(n, key) gives n cases, "
            "some of them again if there are fewer (rrm.Pool does)"
        )
    return list(cases)


def sampled(found: Iterable[Group], cases: Sequence[Case], n: int, where: str) -> list[Group]:
    """An agent's groups: of these cases, in order, each with `n` outcomes whose data can be kept."""
    groups = list(items(found, Group, where))
    if [group.case.id for group in groups] != [case.id for case in cases]:
        raise BorderError(f"{where} gave {len(groups)} groups, not one for each of {len(cases)} cases in order")
    for group in groups:
        outcomes = items(group.outcomes, Outcome, where)
        if len(outcomes) != n:
            raise BorderError(f"{where} gave {len(outcomes)} outcomes of a case, not {n}")
        for outcome in outcomes:
            if outcome.data is not None:
                json_able(outcome.data, where)
    return groups


def scored(found: Iterable[Any], groups: Sequence[Group], where: str) -> list[Any]:
    """A reward model's scores: one for each group, of its shape, and finite. Raises `BorderError` otherwise."""
    scores = list(found)
    if len(scores) != len(groups):
        raise BorderError(f"{where} scored {len(groups)} groups as {len(scores)}")
    for group, score in zip(groups, scores, strict=True):
        n = len(group.outcomes)
        shapes = [tuple(part.shape) for part in (score.mean, score.std, score.heads)]
        if shapes[:2] != [(n,), (n,)] or len(shapes[2]) != 2 or shapes[2][0] != n:
            raise BorderError(f"{where} gave shapes {shapes} for {n} outcomes, not ({n},), ({n},) and ({n}, heads)")
        if not all(bool(part.isfinite().all()) for part in (score.mean, score.std, score.heads)):
            raise BorderError(f"{where} gave scores that are no numbers")
    return scores


def identified(make: Callable[[], object], where: str) -> None:
    """Raise `BorderError` if the identity of a record cannot be made: its data is not JSON."""
    try:
        make()
    except (TypeError, ValueError) as error:
        raise BorderError(f"{where}: its data is not JSON ({plain(str(error))})") from error


def judged(judgement: Any, where: str) -> Judgement:
    """A user's judgement, its numbers as they are stored. Raises `BorderError` saying what is wrong with it."""
    if not isinstance(judgement, Judgement):
        raise BorderError(f"{where} gave {_shown(judgement)}, not an rrm.Judgement")
    preference = judgement.preference
    if preference is not None:
        preference = finite(preference, f"{where}: the preference")
        if not 0 <= preference <= 1:
            raise BorderError(
                f"{where}: the preference is {preference:g}; it is 1 (A is better) to 0 (B is), 0.5 a tie, None no "
                "judgement"
            )
    attention = finite(judgement.attention, f"{where}: the attention")
    if attention != int(attention) or not 0 <= attention < 2**53:
        raise BorderError(f"{where}: the attention is {_shown(judgement.attention)}, not a number of facts, 0 or more")
    seconds = None if judgement.seconds is None else finite(judgement.seconds, f"{where}: the seconds")
    if seconds is not None and seconds < 0:
        raise BorderError(f"{where}: the seconds are {seconds:g}, below 0")
    margin = None if judgement.margin is None else finite(judgement.margin, f"{where}: the margin")
    for name, text in (("note", judgement.note), ("name", judgement.by)):
        said(text, f"{where}: the {name}")
    checks = items(judgement.checks, Check, f"{where}: the checks")
    for check in checks:
        if check.spot is not None and not 0 < finite(check.spot, f"{where}: the chance of a spot check") <= 1:
            raise BorderError(f"{where}: the chance of a spot check is {check.spot:g}; it is above 0, and at most 1")
        if check.side not in ("", "a", "b"):
            raise BorderError(f"{where}: a check is of the side {_shown(check.side)}; it is a, b, or empty: not known")
        said(check.fact, f"{where}: the fact of a check")
    a, b = (remarked(found, where) for found in (judgement.remarks_a, judgement.remarks_b))
    return replace(
        judgement, preference=preference, attention=int(attention), seconds=seconds, margin=margin, checks=checks,
        remarks_a=a, remarks_b=b,
    )  # fmt: skip


def remarked(found: Iterable[Remark], where: str) -> tuple[Remark, ...]:
    """What is said of one outcome, each of it once, its numbers as they are stored. Raises `BorderError` saying what is
    wrong with it."""
    kept: dict[str, Remark] = {}
    for one in items(found, Remark, f"{where}: the remarks"):
        value = None if one.value is None else finite(one.value, f"{where}: the {plain(str(one.kind), 40)}")
        one = replace(one, value=value)
        if fault := one.faulty():
            raise BorderError(f"{where}: {fault}")
        better = "" if one.better is None else one.better.text
        for name, text in (("words", one.text), ("name", one.by), ("correction", better)):
            said(text, f"{where}: the {name} of a remark")
        if one.better is not None and one.better.data is not None:
            json_able(one.better.data, where)
        kept.setdefault(one.id, one)
    return tuple(kept.values())


def said(value: object, what: str) -> str:
    """A text short enough to be kept beside a judgement. Raises `BorderError` otherwise."""
    found = text(value, what)
    if len(found) > LONGEST:
        raise BorderError(f"{what} has {len(found)} characters; at most {LONGEST} are kept")
    return found


def text(value: object, what: str) -> str:
    """A text that can be stored, of any length. Raises `BorderError` otherwise."""
    if not isinstance(value, str):
        raise BorderError(f"{what} is {_shown(value)}, not a text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BorderError(f"{what} is no valid unicode ({error.reason} at character {error.start})") from error
    return value


def distinct(names: Iterable[str], where: str) -> None:
    """Raise `BorderError` if a name comes twice: what is said of one would count for the other."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise BorderError(f"{where} gave two facts named {plain(name)!r}; what is said of one would count for both")
        seen.add(name)


def json_able(data: Mapping[str, Any], where: str) -> None:
    """Raise `BorderError` if data is not JSON, or has numbers that are not finite."""
    identified(lambda: digest(dict(data)), where)
    for value in _leaves(data, where):
        if isinstance(value, float) and not math.isfinite(value):
            raise BorderError(f"{where}: its data has {value}, which is no number")


def _leaves(value: object, where: str) -> Iterator[object]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            if not isinstance(key, str):
                raise BorderError(f"{where}: its data has the key {_shown(key)}; JSON's keys are texts")
            yield from _leaves(one, where)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _leaves(one, where)
    else:
        yield value


def _shown(value: object) -> str:
    return f"{plain(repr(value), 60)} ({type(value).__name__})"
