"""What a certificate does not show and does not say, as its version had no word for it: whoever reads it is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MACHINE = "On what it was trained ({}): the run says so, and nothing in it shows it."
START = "Which weights and which tokenizer it started from, beyond doubt: "
OLDER = f"{START}it is of version 1, which names them by 64 bits."
NO_SHELF = (
    "What else was computed of its weights, and what that said: it is of version {}, which does not list what lay in "
    "RUN/trust."
)


def left_unsaid(predicate: Mapping[str, Any]) -> Iterator[str]:
    """Lines that its `not_shown` lacks, from what it does not name. predicate: as JSON."""
    said = [str(line) for line in predicate["not_shown"]]
    about = predicate["design"].get("made_with")
    machine = machine_in(about) if isinstance(about, Mapping) else None
    if machine is not None and not any(line.startswith(MACHINE.partition("(")[0]) for line in said):
        yield MACHINE.format(machine)
    if predicate.get("version", 1) == 1 and not any(line.startswith(START) for line in said):
        yield OLDER
    if (version := predicate.get("version", 1)) in (1, 2):
        yield NO_SHELF.format(version)


def machine_in(about: Mapping[str, Any]) -> str | None:
    """Torch, threads, processor and device, in words, as a run says what it was made with; None if it does not."""
    threads, packages = about.get("threads"), about.get("packages", {})
    told = (
        f"torch {packages['torch']}" if isinstance(packages, Mapping) and "torch" in packages else "",
        f"{threads} thread{'' if threads == 1 else 's'}" if threads is not None else "",
        str(about.get("processor", "")), f"device {about['device']}" if about.get("device") else "",
    )  # fmt: skip
    return ", ".join(one for one in told if one) or None
