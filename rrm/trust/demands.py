"""What somebody demands of certificates before they use what was certified: thresholds, and gaps that they forbid.

A TOML file. A table for every node, for the root, or for a node by its path; in it a place in the certificate (see
`rrm certify --schema`; `*` is every one of a list) and what is demanded of it:

    [every]
    "testing.judged" = ">= 100"
    "testing.held_out.low" = "> 0.5"

    [root]
    "design.unassessed" = "empty"
    "design.assistants.*.misses.high" = "<= 0.3"
    "formal_verification" = "holds"

"derived": it is known, and nothing of it was taken as signed, all was derived again by whoever verifies (`rrm verify
--again`), but for how often a part of an audit was done (`times`) and what its command names (the tree, the user),
which nobody can: these have to be demanded themselves;
"known": there is something, and not only figures that are not known; "empty": a list has nothing; "holds": a chapter,
or audits, in which something was found, and nothing that fails or is not known, or that is as a whole no more than the
word of whoever signed, and beside which nothing lies in the run's folder that was left out.

What is demanded of every one of a list (`*`) is not fulfilled by a list that has nothing, unless the demand ends with
", if any": `"design.assistants.*.misses.high" = "<= 0.3, if any"`.
"""

from __future__ import annotations

import operator
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rrm.core.border import plain
from rrm.core.errors import RRMError
from rrm.trust.deriving import Taken
from rrm.trust.register import CHAPTERS, STALE, aside
from rrm.trust.statement import TIMES, Predicate

OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq,
}  # fmt: skip
EVERY, ROOT = "every", "root"
IF_ANY = ", if any"
"""At the end of a demand: it is fulfilled by a list that has nothing, too."""
NOTHING = object()
"""What `*` finds in such a list."""


class PolicyError(RRMError, ValueError):
    """A policy that cannot be read, or that demands what no certificate has."""


def read_policy(path: Path) -> dict[str, dict[str, str]]:
    """Table -> place -> demand. Raises `PolicyError`."""
    try:
        found = tomllib.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise PolicyError(f"{path}: {error}") from error
    for table, demands in found.items():
        if not isinstance(demands, dict):
            raise PolicyError(f"{path}: {table!r} is no table; write [every], [root] or [\"node/path\"] above it")
        for place, demand in demands.items():
            _read(f"{path}: [{table}] {place}", demand)
            if demand.endswith(IF_ANY) and "*" not in place.split("."):
                raise PolicyError(f'{path}: [{table}] {place}: "if any" is of lists, and there is no * in the place')
    return found


def unmet(
    policy: Mapping[str, Mapping[str, str]], predicates: Mapping[str, Predicate], root: str, taken: Sequence[Taken] = ()
) -> list[str]:
    """What certificates (node -> predicate) do not fulfil, in words. What is not known fulfils nothing. Raises
    `PolicyError` for a node or a place that there is not. taken: what was not derived again."""
    found = []
    for table, demands in policy.items():
        nodes = [*predicates] if table == EVERY else [root] if table == ROOT else [table]
        for node in nodes:
            if node not in predicates:
                raise PolicyError(f"the policy speaks of {node!r}; there are {', '.join(predicates)}")
            body = predicates[node].model_dump(mode="json")
            for place, demand in demands.items():
                mine = [one for one in taken if one.node == node]
                found += [f"{node}: {said}" for said in _unmet(body, place, demand, mine, _aside(predicates[node]))]
    return found


def _aside(told: Predicate) -> Mapping[str, str]:
    """Place of a chapter, or of audits -> what lies in RUN/trust, or is gone, and it does not have: nobody knows of it
    whether it holds."""
    chapters = {name: getattr(told, name).found for name in CHAPTERS[:3]} | {"audits": told.testing.audits}
    lies: dict[str, str] = {}
    for one in told.shelf or ():
        place = "testing.audits" if one.chapter == "audits" else one.chapter
        if one.lies in ("gone", "altered"):
            lies[place] = f"it does not have {plain(one.name, 60)}, which is noted and is not there as it was"
    for one in aside(told.shelf or (), chapters):
        place = "testing.audits" if one.chapter == "audits" else one.chapter
        lies[place] = f"it does not have {plain(one.name, 60)}, which lies there and {STALE}"
    return lies


def _unmet(body: Any, place: str, demand: str, taken: Sequence[Taken], lies: Mapping[str, str]) -> Iterable[str]:
    given, demand = demand, demand.removesuffix(IF_ANY)
    for where, value in _places(body, place.split("."), place):
        stale = lies.get(where.removesuffix(".found"), "")
        if value is NOTHING:
            if demand == given:
                yield f'{place} is to be {demand}, and {where} has nothing (with ", if any" at the end it need not)'
            elif stale:
                yield f"{place} is to be {demand}, and {stale}"
            continue
        why = _why(value, demand)
        if not why and not isinstance(value, list | Mapping):  # a figure that is as a whole the word of whoever signed
            why = next((f"it was taken as signed: {one.why}" for one in taken if one.place == where), "")
        if demand == "derived" and not why:
            bare = value == [] and (where == "testing.audits" or where.endswith(".found"))
            why = "there is nothing" if bare else _taken(where, taken)
        if demand == "holds" and not why:
            why = _only_signed(where, value, taken)
        if demand in ("holds", "derived", "empty") and not why:
            why = stale
        if why:
            yield f"{where} is to be {demand}, and {why}{_elsewhere(body, place)}"


def _elsewhere(body: Any, place: str) -> str:
    """Where people are counted that a demand on judges does not find, if there are any: those that a file names."""
    given = body["design"].get("imported_as_people")
    if not re.fullmatch(r"design\.judges\.[*\d]{1,9}\.(people|judgements|kind)", place) or not given:
        return ""
    n = given.get("judgements")
    return f" ({n:g} that a file calls people's are in design.imported_as_people)" if n else ""


def _places(value: Any, parts: list[str], place: str, where: str = "") -> Iterable[tuple[str, Any]]:
    """What is there; something not known ends the way."""
    if not parts or _unknown(value) is not None:
        yield where, value
        return
    first, *rest = parts
    if first == "*" and isinstance(value, list):
        if not value:
            yield where, NOTHING
        for i, one in enumerate(value):
            yield from _places(one, rest, place, f"{where}[{i}]")
    elif isinstance(value, Mapping) and first in value:
        yield from _places(value[first], rest, place, f"{where}.{first}" if where else first)
    else:
        there = ", ".join(value) if isinstance(value, Mapping) else "nothing with a name"
        raise PolicyError(f"no certificate has {place!r}: under {where or 'the top'} there is {there:.200}")


def _only_signed(where: str, value: Any, taken: Sequence[Taken]) -> str:
    """Why an entry of a chapter, or of a list, is as a whole the word of whoever signed, or why something was left out
    there; empty if neither."""
    entries, place = (value["found"], f"{where}.found") if isinstance(value, Mapping) else (value, where)
    whole = {one.place: one.why for one in taken}
    if why := whole.get(place.removesuffix(".found")):
        return why
    for i, one in enumerate(entries):
        if why := whole.get(f"{place}[{i}]"):
            return f"{one['name']} was taken as signed: {why}"
    return ""


def _taken(where: str, taken: Sequence[Taken]) -> str:
    """Why a place, or something in it but `times` and commands, or what it is in, was not derived again; empty if it
    was."""
    here = tuple(re.findall(r"[^.\[\]]+", where))
    for one in taken:
        there = tuple(re.findall(r"[^.\[\]]+", one.place))
        if (one.place == TIMES or there[-1] == "command") and len(here) < len(there):
            continue
        if all("*" in pair or pair[0] == pair[1] for pair in zip(here, there, strict=False)):
            return f"{one.place} was taken as signed: {one.why}"
    return ""


def _why(value: Any, demand: str) -> str:
    """Why a value does not fulfil a demand; empty if it does."""
    if (unknown := _unknown(value)) is not None:
        return f"it is not known: {unknown}"
    if demand == "holds":
        return _failing(value)
    if demand in ("known", "derived"):
        if isinstance(value, Mapping) and {*value} == {"found", "empty"} and not value["found"]:
            return f"it is empty: {value['empty']}"
        if value is None:
            return "there is none"
        if _something(value) or (demand == "derived" and value == []):
            return ""
        return "nothing of it is known" if value else "there is nothing"
    if demand == "empty":
        if not isinstance(value, list | Mapping | str):
            return f"it is {value!r:.100}, and no list"
        return f"it has {', '.join(map(str, value)):.200}" if value else ""
    compare, limit = _read("", demand)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return f"it is {value!r:.100}"
    return "" if compare(value, limit) else f"it is {value:g}"


def _unknown(value: Any) -> str | None:
    """Why a figure is not known; None if it is. The five challenges say it in words (`rrm.view.challenge_records`)."""
    told = [value[key] for key in ("not_known", "not known") if key in value] if isinstance(value, Mapping) else []
    return str(told[0]) if told else None


def _something(value: Any) -> bool:
    """Whether there is anything in it that is known: lists and mappings have it within."""
    if value is None or _unknown(value) is not None:
        return False
    if isinstance(value, list | Mapping):
        return any(map(_something, value.values() if isinstance(value, Mapping) else value))
    return not (isinstance(value, str) and not value)


def _failing(value: Any) -> str:
    """Why what was found does not all hold."""
    found = value.get("found", []) if isinstance(value, Mapping) else value
    if not isinstance(found, list) or not found:
        return "there is nothing"
    if not all(isinstance(one, Mapping) and isinstance(one.get("found"), Mapping) for one in found):
        return "it is no chapter, and no list of audits: nothing in it holds or fails"
    for one in found:
        said = one["found"]
        if said.get("holds") is False:
            return f"{one.get('name', '')} does not hold"
        if "not_known" in said or said.get("holds", True) is not True:
            return f"{one.get('name', '')} is {'not known' if 'not_known' in said else 'open'}"
        for single in said.get("statements", ()):
            if single.get("verdict", "holds") != "holds" or "not known" in single:
                return f"this does not: {single.get('statement', '')}"
    return ""


def _read(where: str, demand: Any) -> tuple[Callable[[Any, Any], bool], float]:
    """A comparison and its limit; of "known" and other words any."""
    if isinstance(demand, str):
        demand = demand.removesuffix(IF_ANY)
    if demand in ("known", "empty", "holds", "derived"):
        return operator.eq, 0.0
    given = re.fullmatch(r"(>=|<=|==|>|<) ?([-+.\de]{1,40})", demand if isinstance(demand, str) else "")
    try:
        return OPERATORS[given[1]], float(given[2])  # type: ignore[index]
    except (TypeError, ValueError):
        raise PolicyError(
            f'{where}: {demand!r} is no demand; give ">= 0.7" (or >, <, <=, ==), "known", "empty", "holds" or '
            '"derived" (and ", if any" at the end, of lists that may be empty)'
        ) from None
