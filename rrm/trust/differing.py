"""Where two pieces of JSON differ, place by place."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

NEAR = 1e-3
"""Share of a number by which it may be another where the machine is: last bits, and what was rounded after them."""


def differences(given: Any, derived: Any, where: str = "") -> Iterable[tuple[str, Any, Any]]:
    """(place, what is said there, what should be). A number is another if its type is."""
    if isinstance(given, dict) and isinstance(derived, dict):
        for key in sorted({*given, *derived}):
            place = f"{where}.{key}" if where else str(key)
            if key not in given or key not in derived:
                yield place, given.get(key, "nothing"), derived.get(key, "nothing")
            else:
                yield from differences(given[key], derived[key], place)
    elif isinstance(given, list) and isinstance(derived, list) and len(given) == len(derived):
        for i, (one, other) in enumerate(zip(given, derived, strict=True)):
            yield from differences(one, other, f"{where}[{i}]")
    elif given != derived or type(given) is not type(derived) or _sign(given) != _sign(derived):
        yield where, given, derived


def _sign(value: Any) -> float:
    """Of a float: zero has one, too, and is equal to the other."""
    return math.copysign(1, value) if isinstance(value, float) else 0.0


def near(given: Any, derived: Any) -> bool:
    """Whether two are numbers that differ by no more than another machine's last bits make of it."""
    if not all(isinstance(one, float) for one in (given, derived)):
        return False
    return math.isclose(given, derived, rel_tol=NEAR, abs_tol=NEAR * NEAR)


def short(value: Any) -> str:
    """As JSON, cut."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
