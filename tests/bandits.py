"""The bandit of examples/custom_agent.py, and ways to be interrupted with it."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

from pydantic import Field, PrivateAttr

from rrm import BoundedUser, Judgement, Pair, Task

ROOT = Path(__file__).parent.parent


def example(name: str) -> ModuleType:
    """A file of examples/, as a module."""
    if f"examples_{name}" not in sys.modules:
        spec = importlib.util.spec_from_file_location(f"examples_{name}", ROOT / "examples" / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = sys.modules[f"examples_{name}"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[f"examples_{name}"]


class Interrupted(Exception):
    """As if the process had been killed."""


class Impatient(BoundedUser):
    """Judges so often, then the process dies. Remembers whom it was asked about."""

    patience: int = Field(10**9, exclude=True)
    _asked: Counter[str] = PrivateAttr(default_factory=Counter)

    @property
    def asked(self) -> Counter[str]:
        return self._asked

    def judge(self, task: Task, pair: Pair) -> Judgement:
        if self._asked.total() >= self.patience:
            raise Interrupted
        self._asked[pair.id] += 1
        return super().judge(task, pair)
