"""Which runs are one experiment: they differ in nothing but their seeds. What differs in others; means over seeds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rrm.view.reading import Series

NOT_COMPARED = ("about", "seed")
"""Parts of config.json in which runs of one experiment may differ, but for what `MADE_WITH` names; so may their users'
seeds."""
MADE_WITH = ("rrm", "bits", "code", "model", "decided")
"""What of `about` makes runs others: versions, code, the starting model's bytes, precision and learning rates."""

HASHES = ("cases", "made with", "model.fingerprint", "model.prompts")
"""Settings that nobody sets: they follow from others, and say whether those were what they are called."""

Band = list[tuple[float, float, float]]
"""(x, least, most)."""


def compared(config: Mapping[str, Any], nodes: Iterable[str]) -> Mapping[str, Any]:
    """In what a run may differ from a run of another experiment. nodes: its nodes, where config.json has no tree."""
    told = {key: value for key, value in config.items() if key not in NOT_COMPARED}
    told["user"] = {key: value for key, value in told.get("user", {}).items() if key != "seed"}
    return told | {"made with": _made_with(config)} | ({} if "tree" in told else {"nodes": [*nodes]})


def experiment_of(config: Mapping[str, Any], nodes: Iterable[str]) -> str:
    """The same of runs that differ in nothing but their seeds."""
    return json.dumps(compared(config, nodes), sort_keys=True, default=str)


def seeds_of(config: Mapping[str, Any]) -> tuple[Any, Any]:
    """The run's seed and its user's: a second run with both the same shows nothing of what another seed would do."""
    return config.get("seed"), config.get("user", {}).get("seed")


def differing(configs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Settings that are not the same in all, flattened: (name, in each); `HASHES` last. What differs alike at every
    node that all have is one row: "*.lr"."""
    trees = [config.get("tree", {}) for config in configs]
    flat = []
    for config, nodes in zip(configs, trees, strict=True):  # of a task that not all have, its name says enough
        kept = {path: node if all(path in tree for tree in trees) else {} for path, node in nodes.items()}
        told = {key: value for key, value in config.items() if key != "about"}
        flat.append(_flat({**told, "tree": kept, "made with": _made_with(config)}))
    keys = sorted({key for one in flat for key in one}, key=lambda key: (key.startswith(HASHES), key))
    rows = {key: [one.get(key, "–") for one in flat] for key in keys}
    shared = [path for path in trees[0] if all(path in tree for tree in trees)] if trees else []
    names = dict.fromkeys(key for path in shared for key in trees[0][path].get("settings", {}))
    for name in names if len(shared) > 1 else ():
        alike = [f"tree.{path}.settings.{name}" for path in shared]
        if all(rows.get(key) == rows.get(alike[0], ()) for key in alike):
            rows = {f"*.{name}": rows[alike[0]], **{key: row for key, row in rows.items() if key not in alike}}
    return [(key, values) for key, values in rows.items() if len({*values}) > 1]


def over_seeds(several: Sequence[Series]) -> tuple[Series, Band]:
    """The mean of several curves, and their least and most, wherever all of them have a value: a mean over fewer would
    jump where one of them ends."""
    curves = [dict(series) for series in several]
    shared = [x for x, _ in several[0] if all(x in curve for curve in curves)] if several else []
    values = {x: [curve[x] for curve in curves] for x in shared}
    means = {x: sum(y / len(ys) for y in ys) for x, ys in values.items()}  # their sum might be too large
    return [*means.items()], [(x, min(ys), max(ys)) for x, ys in values.items()]


def _made_with(config: Mapping[str, Any]) -> dict[str, Any]:
    about = config.get("about", {})
    made = {key: about[key] for key in MADE_WITH if key in about}
    if isinstance(decided := made.get("decided"), Mapping):  # how long that took is another matter
        made["decided"] = {key: value for key, value in decided.items() if key != "probe_seconds"}
    return made


def _flat(value: Any, name: str = "") -> dict[str, str]:
    if isinstance(value, Mapping) and value:
        return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{name}.{key}" if name else key).items()}
    return {name: value if isinstance(value, str) else "yes" if value == {} else json.dumps(value)}
