"""On what something was computed, which a certificate keeps beside it: elsewhere last bits differ, and a sampled word
may turn with them. It is the word of whoever computed it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rrm.core.version import VERSION

Machine = Mapping[str, Any]
"""What, such as "threads" -> which."""
PARTS = ("torch", "threads", "processor", "z3", "rrm")
"""All that is said of one."""


def this_code() -> dict[str, Any]:
    """The version of rrm, by which figures are defined."""
    return {"rrm": VERSION}


def this_machine() -> dict[str, Any]:
    """Torch, its threads, the kind of processor, z3 where it is installed, and the version of rrm."""
    import platform

    import torch  # late: it takes seconds

    found: dict[str, Any] = {
        "torch": version("torch"), "threads": torch.get_num_threads(),
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
    }  # fmt: skip
    try:
        found["z3"] = version("z3-solver")
    except PackageNotFoundError:
        found["z3"] = "none"
    return found | this_code()


def moved(there: Machine, here: Machine) -> str:
    """What is another here, in words; empty if nothing is, as far as they say."""
    return "; ".join(f"{key} {here[key]}, not {there[key]}" for key in here if there.get(key, here[key]) != here[key])
