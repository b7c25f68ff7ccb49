"""Versions of tools that are nothing but code: other code, other reports, another version."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from functools import cache
from types import ModuleType

from rrm.core.tools import Tool, code_hash, version_of


def version_with_code(tool: Tool, *modules: ModuleType, packages: Sequence[str] = ()) -> str:
    """`version_of`, and a hash of the tool's own module and of those it rests on, docstrings left out. Raises
    `ToolMissing` if a package is not installed."""
    return f"{version_of(tool, packages)}, {_hash(sys.modules[type(tool).__module__], *modules)}"


@cache
def _hash(*modules: ModuleType) -> str:
    return code_hash(*map(inspect.getsource, modules))
