"""Does a thing of a third party have what its protocol asks for? Asked before anything is computed with it."""

from __future__ import annotations

import inspect

from rrm.core.errors import RRMError


class ContractError(RRMError, TypeError):
    """An agent, reward model, maker or user lacks what its protocol asks for, or does otherwise."""


def members(protocol: type) -> list[str]:
    """What a protocol asks for, by name."""
    found: dict[str, None] = {}
    for kind in reversed(protocol.__mro__):
        if getattr(kind, "_is_protocol", False):
            found |= dict.fromkeys((*vars(kind).get("__annotations__", {}), *vars(kind)))
    return [name for name in found if not name.startswith("_")]


_NOTHING = object()


def expect(thing: object, protocol: type, what: str) -> None:
    """Raise `ContractError` naming what `thing` lacks of the protocol; `what` says what it is."""
    dynamic = hasattr(type(thing), "__getattr__")  # a proxy: what it has shows only when it is asked
    lacking = [
        name for name in members(protocol)
        if inspect.getattr_static(thing, name, _NOTHING) is _NOTHING and not (dynamic and hasattr(thing, name))
    ]  # fmt: skip
    if lacking:
        raise ContractError(
            f"{what} is a {type(thing).__name__}, which has no {', '.join(lacking)}; it must be a {protocol.__name__} "
            f"({protocol.__module__}: {', '.join(members(protocol))}). rrm.testing checks the rest of its contract."
        )
