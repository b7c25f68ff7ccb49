"""Records as JSON for the store, which keeps all of a record or refuses it: it never strips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from rrm.core.errors import StoreError
from rrm.core.interrupts import interrupts_held

T = TypeVar("T")


def dumped(adapter: TypeAdapter[T], record: T) -> str:
    """The record as JSON; Ctrl-C waits meanwhile: pydantic calls functions of its own for some fields, and takes
    whatever they raise for the record's fault."""
    with interrupts_held():
        return adapter.dump_json(record).decode()


def written(adapter: TypeAdapter[T], record: T) -> str:
    """The record as JSON that reads back as the same record.

    Raises `StoreError` if it would not: a subclass with fields of its own, a value that JSON has no name for.
    """
    try:
        body = dumped(adapter, record)
        back = adapter.validate_json(body)
        lost = _lost(record, back, type(back).__name__)
    except ValidationError as error:
        lost = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    except PydanticSerializationError as error:
        lost = f"it is not JSON ({error})"
    if lost:
        raise StoreError(f"cannot keep this record as it is: {lost}. Nothing of it was kept.")
    return body


def _lost(before: Any, after: Any, at: str) -> str:
    """What of a record did not come back; empty if all did. A record and its subclass's never are equal."""
    if before == after:
        return ""
    if is_dataclass(before):
        if type(before) is not type(after):
            return (
                f"{at} is a {type(before).__name__}, of which only what {type(after).__name__} has would be kept; put "
                "what is more into `data` (Outcome, Case), which is kept"
            )
        parts = ((f.name, getattr(before, f.name), getattr(after, f.name)) for f in fields(before))
        return next((lost for name, old, new in parts if (lost := _lost(old, new, f"{at}.{name}"))), "")
    if isinstance(before, Mapping):
        if not isinstance(after, Mapping) or [*before] != [*after]:
            return f"{at} has keys that JSON has not ({_short([*before])}); give texts as keys"
        return next((lost for key in before if (lost := _lost(before[key], after[key], f"{at}[{key!r}]"))), "")
    if isinstance(before, Sequence) and not isinstance(before, str) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return next((lost for i, (old, new) in pairs if (lost := _lost(old, new, f"{at}[{i}]"))), "")
    return f"{at} would come back as {_short(after)}, not {_short(before)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 100 else f"{text[:97]}..."
