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


def _stubs(kind: type, name: str) -> list[object]:
    """What protocols among the bases of a class define under a name: documentation, and no implementation."""
    return [vars(base)[name] for base in kind.__mro__ if getattr(base, "_is_protocol", False) and name in vars(base)]


def expect(thing: object, protocol: type, what: str) -> None:
    """Raise `ContractError` naming what `thing` lacks of the protocol; `what` says what it is."""
    lacking = [name for name in members(protocol) if not _has(thing, name)]
    if lacking:
        raise ContractError(
            f"{what} is a {type(thing).__name__}, which has no {', '.join(lacking)}; it must be a {protocol.__name__} "
            f"({protocol.__module__}: {', '.join(members(protocol))}). rrm.testing checks the rest of its contract."
        )


def _has(thing: object, name: str) -> bool:
    """Whether it has a member of its own. A property is not asked: it may not be ready to answer."""
    found = inspect.getattr_static(thing, name, _NOTHING)
    if found is _NOTHING:
        return hasattr(type(thing), "__getattr__") and hasattr(thing, name)  # a proxy
    return not any(found is stub for stub in _stubs(type(thing), name))
