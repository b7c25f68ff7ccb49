"""Names of a package that are imported when they are first used, as what needs torch takes seconds (PEP 562)."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def imported_late(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's `__getattr__`, by name -> the module that has it."""

    def find(name: str) -> Any:
        if name in places:
            return getattr(import_module(places[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find
