"""What is different between the settings of two runs, one by one, in the words of whoever set them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

SHOWN = 10
"""Differences that are listed; of the others, how many there are."""
WIDTH = 60
"""Most characters of a value that are shown."""
PROMPTS = {
    "rendered": "what the tokenizer and its chat template make of a prompt",
    "ends": "the tokens that end an outcome",
    "vocabulary": "the size of the vocabulary",
    "text": "how a text is split into tokens",
    "template": "variables for the chat template",
}
"""What the keys under `model.prompts` say."""
MISSING = object()


def compared(there: Mapping[str, Any], now: Mapping[str, Any], later: frozenset[str] = frozenset()) -> list[str]:
    """One line for each: `paper.rounds: 2 there, 3 now`. Empty if they are the same.

    Only keys that `now` has on top count (`there` may say more). `later`: dotted keys that `there` may lack.
    """
    found = []
    for key, value in now.items():
        told = _less(value, there.get(key, MISSING), key, later)
        if told is not MISSING:
            found += list(_OF.get(key, _plain)(key, there.get(key, MISSING), told))
    return found


def listed(found: list[str]) -> str:
    """The lines, the first ten, and how many more."""
    more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return "\n  ".join(["", *found[:SHOWN], *more])


def _less(value: Any, before: Any, key: str, later: frozenset[str]) -> Any:
    """The value without what `before` need not have."""
    if before is MISSING and key in later:
        return MISSING
    if isinstance(value, Mapping) and isinstance(before, Mapping):
        inner = {k: _less(v, before.get(k, MISSING), f"{key}.{k}", later) for k, v in value.items()}
        return {k: v for k, v in inner.items() if v is not MISSING}
    return value


def _tree(key: str, there: Any, now: Any) -> Iterator[str]:
    """Node by node, setting by setting."""
    if not isinstance(there, Mapping) or not all(isinstance(node, Mapping) for node in there.values()):
        yield from _plain(key, there, now)
        return
    for path in sorted({*there, *now}):
        if path not in now:
            yield f"{path}: a node only there"
        elif path not in there:
            yield f"{path}: a node only here, now"
        else:
            flat = [{**node.get("settings", {}), **_but(node, "settings")} for node in (there[path], now[path])]
            yield from _fields(path, *flat)


def _user(key: str, there: Any, now: Any) -> Iterator[str]:
    """By settings; of a user of another kind, whose settings are others, only the name."""
    if not isinstance(there, Mapping):
        yield from _plain(key, there, now)
    elif {*there} != {*now} and there.get("name") != now.get("name"):
        yield f"user: {_short(there.get('name', MISSING))} there, {_short(now.get('name'))} now"
    else:
        settings = list(_fields(key, _but(there, "name"), _but(now, "name")))
        yield from settings or _fields(key, there, now)  # a name may tell its settings


def _model(key: str, there: Any, now: Any) -> Iterator[str]:
    """By what a model is: its name, its weights, and what becomes of a prompt."""
    if not isinstance(there, Mapping):
        yield from _plain(key, there, now)
        return
    yield from _fields(key, _but(there, "prompts"), _but(now, "prompts"))
    before, after = there.get("prompts"), now.get("prompts")
    if "prompts" in now and before != after:
        if not isinstance(before, Mapping) or not isinstance(after, Mapping):
            yield from _plain(f"{key}.prompts", before, after)
            return
        for line in _fields(f"{key}.prompts", before, after):
            name = line.partition(":")[0].rpartition(".")[2]
            yield f"{line} ({PROMPTS[name]})" if name in PROMPTS else line


def _cases(key: str, there: Any, now: Any) -> Iterator[str]:
    if there != now:
        yield "the root's cases are others (their prompts, data or forms)"


def _fields(key: str, there: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Down to what is no mapping."""
    for name in dict.fromkeys([*now, *there]):
        yield from _plain(f"{key}.{name}", there.get(name, MISSING), now.get(name, MISSING))


def _plain(key: str, there: Any, now: Any) -> Iterator[str]:
    if isinstance(there, Mapping) and isinstance(now, Mapping):
        yield from _fields(key, there, now)
    elif there != now:
        a, b = _apart(there, now) if isinstance(there, str) and isinstance(now, str) else (there, now)
        yield f"{key}: {_short(a)} there, {_short(b)} now"


def _apart(a: str, b: str) -> tuple[str, str]:
    """Two texts from a little before where they part."""
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    if max(len(a), len(b)) < WIDTH - 2 or same < 20:
        return a, b
    return f"...{a[same - 15:]}", f"...{b[same - 15:]}"


def _but(mapping: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in mapping.items() if k != key}


def _short(value: Any) -> str:
    if value is MISSING:
        return "nothing"
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= WIDTH else f"{text[:WIDTH - 4]}...{text[-1]}"


_OF = {"tree": _tree, "user": _user, "model": _model, "cases": _cases}
