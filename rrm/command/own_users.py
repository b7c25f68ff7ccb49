"""Users of one's own, by file: `--user ./mine.py:Class`."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from rrm.command.configuration import configure_user
from rrm.command.trees import called, of_file
from rrm.core.contracts import expect
from rrm.core.errors import ConfigError
from rrm.core.parties import User
from rrm.core.settings import Explained
from rrm.core.spelling import nearest


def is_file(name: str) -> bool:
    """Whether a user's name is that of a Python file and what it defines."""
    file = name.rpartition(":")[0] or name
    return not name.startswith(("model:", "openai:")) and (file.endswith(".py") or name.endswith(".py"))


def user_of_file(name: str, seed: int, assignments: Sequence[str]) -> User:
    """Whoever judges by FILE.py:NAME: NAME is a user, or a class or function that makes one.

    A class of settings (`Explained`) is configured as the simulated users are; of others, what makes them is given the
    `seed` if it takes one. Raises `ConfigError` or `ContractError` if it is none, `TaskError` if the file fails.
    """
    file, _, wanted = name.rpartition(":") if not name.endswith(".py") else (name, "", "")
    module = of_file(Path(file))
    if not wanted or not hasattr(module, wanted):
        near = nearest(wanted, _users(module)) if wanted else ""
        known = ", ".join(f"{file}:{one}" for one in _users(module)) or "none; write a class with a name and judge"
        raise ConfigError(f"--user {name}: {f'no {wanted} there' if wanted else 'which user?'}{near}; it has {known}")
    found, failed = getattr(module, wanted), f"{wanted} cannot be made"
    if isinstance(found, type) and issubclass(found, Explained):
        seeded = {"seed": seed} if "seed" in found.model_fields else {}
        made: Any = configure_user(called(file, lambda: found(**seeded), failed), assignments)
    elif assignments:
        raise ConfigError(f"{assignments[0]}: --user {name} has no settings; make it a rrm.core.settings.Explained")
    else:
        made = called(file, lambda: found(**_seeded(found, seed)), failed) if callable(found) else found
    expect(made, User, f"--user {name}")
    if not (isinstance(made.name, str) and made.name):
        raise ConfigError(f"--user {name}: its name is {made.name!r}; give a text, which is kept with each judgement")
    return cast(User, made)


def _seeded(found: Any, seed: int) -> dict[str, int]:
    try:
        return {"seed": seed} if "seed" in inspect.signature(found).parameters else {}
    except ValueError:  # some of those written in C do not say
        return {}


def _users(module: ModuleType) -> list[str]:
    """Classes and objects of a module's own that judge."""
    return [
        name for name, value in vars(module).items()
        if hasattr(value, "judge") and not (isinstance(value, type) and value.__module__ != module.__name__)
    ]  # fmt: skip
