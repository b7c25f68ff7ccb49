"""A run's config.json, read by whoever opens the run; anything else of that name is called what it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rrm.core.errors import RunError

LARGEST = 64 << 20
"""Bytes; a run's has some thousand."""
PARTS: Mapping[str, type] = {"tree": dict, "finished": dict, "user": dict, "model": dict, "about": dict, "cases": list}
"""Key -> what is under it, where it is there."""
NAMES = ("user", "model")
"""Parts that have a name, which is a text."""


def read_config(folder: Path) -> dict[str, Any]:
    """What config.json of a run's folder says; empty where there is none yet. Raises `RunError` for one that cannot be
    read, and for another program's: a model's, a list, an empty file."""
    path = folder / "config.json"
    if not path.exists():
        return {}
    try:
        if not path.is_file():
            raise RunError(f"{path} is no file; {_mend(folder)}")
        if (size := path.stat().st_size) > LARGEST:
            raise RunError(f"{path} has {size >> 20} MB, so it is not the config.json of a run; {_mend(folder)}")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        what = "it is empty" if path.is_file() and not path.stat().st_size else str(error)
        raise RunError(f"{path} cannot be read ({what}); {_mend(folder)}") from error
    if wrong := _not_ours(found):
        raise RunError(f"{path} is not the config.json of a run ({wrong}); {_mend(folder)}")
    return dict(found)


def _not_ours(found: Any) -> str:
    """Why it is none of a run; empty if it is one."""
    if not isinstance(found, dict):
        return f"it is a {type(found).__name__}"
    if "tree" not in found:
        model = "model_type" in found or "architectures" in found
        return "it is a model's: give its folder as --model" if model else "it has no tree"
    for key, kind in PARTS.items():
        if key in found and not isinstance(found[key], kind):
            return f"its {key} is a {type(found[key]).__name__}"
    for key in NAMES:
        if not isinstance(found.get(key, {}).get("name", ""), str):
            return f"its {key}'s name is a {type(found[key]['name']).__name__}"
    for path, node in found["tree"].items():
        if not isinstance(node, dict) or not isinstance(node.get("settings", {}), dict):
            return f"its node {path[:60]!r} has no settings"
        rounds = [node.get("settings", {}).get(name, 1) for name in ("rounds", "refresh")]
        if not all(isinstance(one, int) for one in rounds):
            return f"its node {path[:60]!r} has no number of rounds"
    started, bits = (found.get("about", {}).get(key, 0) for key in ("started", "bits"))
    if not isinstance(started, int | float) or not isinstance(bits, int):
        return "when and by what it was begun are no numbers"
    return ""


def _mend(folder: Path) -> str:
    return f"put back {folder.name}'s own, or give the folder of a run"
