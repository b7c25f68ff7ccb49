"""What was typed to train a run, as its config.json keeps it: to be typed again, or otherwise."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from rrm.store.config import read_config

FLAGS = ("--compile", "--shard", "--quiet", "-q", "--debug")
"""Options of `rrm train` without a value."""


def typed_for(run: Path) -> str:
    """The command that trains a run; empty if it was begun from Python, or nobody knows. A run may be anybody's: what
    is no call of ours is not repeated, and nothing in it acts in a shell."""
    words = _words(str(read_config(run).get("about", {}).get("command", "")))
    return shlex.join(words) if _ours(words) else ""


def tree_typed(run: Path) -> str:
    """The tree that was named there; empty if nobody knows."""
    words = _words(typed_for(run))
    rest = iter(words[words.index("train") + 1 :] if "train" in words else ())
    for word in rest:
        if not word.startswith("-"):
            return word
        if "=" not in word and word not in FLAGS:
            next(rest, None)
    return ""


def model_named(run: Path) -> str:
    """The model that a run starts from, for a line about loading it."""
    return str(read_config(run).get("model", {}).get("name", "")) or "the model"


def in_earnest(words: Sequence[str]) -> str:
    """A command that trained a small size, in full: without its --size, and into another folder if it named one, since
    a folder has one run."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        name, given, value = word.partition("=")
        if name == "--size":
            if not given:
                next(rest, None)
        elif name == "--out":
            value = value if given else next(rest, "")
            kept += ["--out", f"{value.rstrip('/')}-full"]
        else:
            kept.append(word)
    return shlex.join(kept)


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return []


def _ours(words: Sequence[str]) -> bool:
    launched = list(words[:1]) == ["torchrun"] and list(words[3:6]) == ["-m", "rrm", "train"]
    return list(words[:2]) == ["rrm", "train"] or launched
