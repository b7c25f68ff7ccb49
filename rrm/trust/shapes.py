"""What an entry of a certificate looks like: what may stand in it, and what has to, so that it is derived again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rrm.trust.machines import PARTS
from rrm.trust.statement import Predicate

Entry = Mapping[str, Any]
"""What a chapter holds: name, command, found; and, of what can be derived again, inputs and on."""
ASIDE = ("name", "command", "found", "inputs", "on")
"""What an entry may have."""
HUMAN, NOBODY = "human", "nobody"
"""Names of who is asked: people (`rrm.users.human`), and nobody."""
UNASKED = ("irrelevant", "planted")
"""Parts of an audit that ask no user."""
AUDITS = (
    "held-out", "shifted", "adversarial", "spot-checks", "gain", "misleading", "metamorphic", "irrelevant", "planted",
)  # fmt: skip
"""The parts of an audit (`rrm.trust.audit_parts`, which loads models)."""
AUDITED = frozenset({"cases", "budget", "seed", "shifted", "asked"})
"""What an audit is found from."""
INPUTS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "interpretability": {"attribution": frozenset({"limit"}), "words": frozenset({"words"})},
    "formal_verification": {"proofs": frozenset({"floor", "norm"}), "positions": frozenset({"up_to"})},
    "guarantees": {"bounds": frozenset({"confidence"})},
    "audits": dict.fromkeys(AUDITS, AUDITED),
}
"""Chapter -> name of what rrm finds -> all that it is found from besides the run."""
CONFIDENCES = (0.5, 0.9999)
"""From which to which confidence bounds are given: with next to none anything is bounded."""


def _whole_number(value: Any, least: float = -math.inf) -> bool:
    return type(value) is int and value >= least


KINDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "limit": (lambda one: _whole_number(one, 0), "a number of comparisons"),
    "words": (lambda one: isinstance(one, list | tuple) and all(isinstance(word, str) for word in one), "words"),
    "floor": (lambda one: type(one) is float and -math.inf < one <= 0, "the logarithm of a probability"),
    "norm": (lambda one: one is None or isinstance(one, Mapping), "a normalization"),
    "up_to": (lambda one: one is None or _whole_number(one, 1), "a sum of numbers"),
    "confidence": (
        lambda one: type(one) is float and CONFIDENCES[0] <= one <= CONFIDENCES[1],
        f"a confidence from {CONFIDENCES[0]:g} to {CONFIDENCES[1]:g}, as rrm bound takes it",
    ),
    "cases": (lambda one: _whole_number(one, 1), "a number of cases"),
    "budget": (lambda one: _whole_number(one, 1), "a number of outcomes"),
    "seed": (_whole_number, "a seed"),
    "shifted": (lambda one: isinstance(one, bool), "yes or no"),
    "asked": (lambda one: isinstance(one, str), "a name"),
}
"""Of what something is found from: whether a value is one that a command takes, and what it should be."""


def derivable(chapter: str, one: Entry) -> bool:
    """Whether rrm finds what is so called again; of what other code found it cannot say anything."""
    return one.get("name") in INPUTS[chapter]


def whole(chapter: str, one: Entry) -> bool:
    """Whether an entry says all that it was found from, if it is one that is found again."""
    if not derivable(chapter, one):
        return True
    inputs = one.get("inputs")
    return "on" in one and isinstance(inputs, Mapping) and INPUTS[chapter][one["name"]] <= {*inputs}


def misshapen(chapter: str, one: Entry, version: int) -> Iterator[str]:
    """What an entry has that nothing here would write, and nobody could derive: room for anything; and what it lacks.
    version: of the certificate; those of version 1 do not say what anything was found from."""
    if more := sorted({*one} - {*ASIDE}):
        yield f"has {', '.join(more)}, which is no part of what was found"
    for key, kind in (("name", str), ("command", str), ("found", Mapping), ("inputs", Mapping), ("on", Mapping)):
        if key in one and not isinstance(one[key], kind):
            yield f"has a {key} of another kind"
        elif key not in one and key in ASIDE[:3]:
            yield f"has no {key}"
    if version > 1 and not whole(chapter, one):
        needed = ", ".join(f"inputs.{key}" for key in sorted(INPUTS[chapter][one["name"]]))
        yield f"does not say all that {one['name']} is found from ({needed}, and on): nobody could find it again"
    elsewhere = [other for other, names in INPUTS.items() if other != chapter and one.get("name") in names]
    if elsewhere and not derivable(chapter, one):
        yield f"is called {one['name']}, which is found in {', '.join(elsewhere)} and not in {chapter}"
    times = one["found"].get("times", 1) if chapter == "audits" and isinstance(one.get("found"), Mapping) else 1
    if type(times) is not int or times < 1:
        yield "has found.times that is no number of times"
    inputs, on = one.get("inputs"), one.get("on")
    known = AUDITED if chapter == "audits" else INPUTS[chapter].get(str(one.get("name")))
    if known is not None and isinstance(inputs, Mapping) and (more := sorted({*inputs} - known)):
        yield f"has inputs.{', inputs.'.join(more)}, from which nothing is found"
    for key, value in inputs.items() if isinstance(inputs, Mapping) else ():
        if key in (known or ()) and not KINDS[key][0](value):
            yield f"has inputs.{key} that is not {KINDS[key][1]}"
    if isinstance(on, Mapping) and (more := sorted({*on} - {*PARTS})):
        yield f"has on.{', on.'.join(more)}, which is no part of a machine"


def misasked(predicate: Predicate, one: Entry, judged: str) -> Iterator[str]:
    """Who an audit cannot have asked. People are asked only in a run that they judged, where others may be asked in
    their place, which the entry then says; else whoever judged, or nobody.

    judged: who judged, as the run's configuration calls them.
    """
    inputs, found = one.get("inputs"), one.get("found")
    if not derivable("audits", one) or not isinstance(inputs, Mapping) or not isinstance(found, Mapping):
        return
    judges, asked = predicate.design.judges, inputs.get("asked")
    people = judged == HUMAN and (not judges or any(judge.kind in ("people", "imported") for judge in judges))
    if asked == NOBODY or (asked == judged and (people or asked != HUMAN)):
        return
    if people and (one["name"] in UNASKED or found.get("asked in place of who judged") == asked):
        return
    yield f"has inputs.asked {str(asked)[:40]!r}, who did not judge here, and was not asked in the place of people"
