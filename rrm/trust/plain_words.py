"""Places in a certificate, such as "testing.challenges.gaming.gap", in plain words: those under the fields of its
schema and of the records behind the figures. There is no second list: who changes a field's docstring changes this.

A certificate has the places alone, for a policy, and for whoever derives it again: words may be mended, places not.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from rrm.trust.audit_figures import AuditFigures
from rrm.trust.statement import Predicate
from rrm.trust.true_figures import JUDGED, UNASKED
from rrm.view.challenge_records import UNTRUE, Challenges
from rrm.view.truth import WHILE

MIDDLE = ": not known, as "
"""What a line of `not_shown` about a figure has between the place and the reason."""
INSIDE: Mapping[str, type] = {"challenges": Challenges, "audits": AuditFigures}
"""Fields that hold JSON -> what is behind it."""


def in_words(line: str, by_truth: bool = False) -> str:
    """A line of `not_shown`: where it is of a place, with what that is, in words. by_truth: whether the certificate has
    figures by the truth, which was measured after training then."""
    place, middle, why = line.partition(MIDDLE)
    if why.rstrip(".") in (UNTRUE, UNASKED, JUDGED):
        afterwards = f"{WHILE}; `rrm measure truth` did afterwards, of what was judged: see testing.by_truth."
        why = afterwards if by_truth else f"{WHILE}; this certificate has no figures by truth.db."
    said = meaning(place) if middle else ""
    return f"{said} ({place}){middle}{why}" if said else f"{place}{middle}{why}"


def meaning(place: str) -> str:
    """What stands at a place: the first sentence, without its full stop; empty if nobody says."""
    said = ""
    kind: type = Predicate
    for part in re.split(r"\.(?! )", place):
        name = re.sub(r"\W+", "_", part)
        docs = _docs(kind)
        if name in docs:
            said, kind = docs[name] or said, INSIDE.get(name) or _inner(get_type_hints(kind)[name]) or kind
    return said.partition(". ")[0].rstrip(".")


def _inner(annotation: Any) -> type | None:
    """The record within an annotation, if there is one."""
    return next((one for one in _all(annotation) if _recorded(one)), None)


def _all(annotation: Any) -> Iterator[Any]:
    yield annotation
    if get_origin(annotation) is not None:
        for one in get_args(annotation):
            yield from _all(one)


def _recorded(one: Any) -> bool:
    if not inspect.isclass(one) or one.__name__ in ("Unknown", "NotKnown", "Known", "Figure"):
        return False
    return is_dataclass(one) or issubclass(one, BaseModel)


@cache
def _docs(kind: type) -> Mapping[str, str]:
    """Field -> what is written under it."""
    if issubclass(kind, BaseModel):
        return {name: _flat(field.description or "") for name, field in kind.model_fields.items()}
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    last = ""
    for line in body.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            last = line.target.id
            found[last] = ""
        elif last and isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant):
            found[last], last = _flat(str(line.value.value)), ""
    return found


def _flat(text: str) -> str:
    return " ".join(text.split())
