"""What a certificate is about, by SHA-256: weights, configuration, records, code, and what everything started from; and
of the last, and of the machine, what is no more than the word of whoever signed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from rrm.store.truths import FILE as TRUTH
from rrm.trust.statement import Predicate
from rrm.view.reading import Reader
from rrm.view.unsaid import MACHINE, START, machine_in


def subjects_of(run: Reader, predicate: Predicate) -> dict[str, dict[str, str]]:
    """Name -> digests: what the certificate is about."""
    path = predicate.node
    newest = {part: (where, sha256) for _, part, where, sha256, _ in run.checkpoints.get(path, ())}
    found = {f"{part} of {path}": {"sha256": newest[part][1]} for part in ("agent", "reward") if part in newest}
    found["config.json"] = {"sha256": predicate.files.get("config.json", "")}
    found["rows of run.db"] = {"sha256": predicate.evidence.root}
    if TRUTH in predicate.databases:
        tables = json.dumps(sorted(predicate.databases[TRUTH].items()))
        found["rows of truth.db"] = {"sha256": hashlib.sha256(tables.encode()).hexdigest()}
    for name, digest in sorted(_about(run).get("code", {}).items()):
        found[f"code of {name}"] = {"sha256": str(digest)}
    model = run.config.get("model", {})
    known = started_from(run) or {} if predicate.version > 1 else {}
    starting = {"rrmFingerprint": str(model.get("fingerprint", ""))}
    found[f"model {model.get('name', '')}"] = _and(starting, known.get("weights"))
    text = model.get("prompts", {}).get("text")
    words = {"rrmFingerprint": str(text)} if text else {}
    if words or "tokenizer" in known:
        found["tokenizer and template"] = _and(words, known.get("tokenizer"))
    return found


def _and(digests: Mapping[str, str], sha256: str | None) -> dict[str, str]:
    return {**digests, **({} if sha256 is None else {"sha256": sha256})}


def started_from(run: Reader) -> dict[str, str] | None:
    """SHA-256 of the starting model's weights and of its tokenizer, as the run noted them when it began; empty where
    agents start from no model, None in runs of before they were noted."""
    found = _about(run).get("model")
    return None if found is None else {key: str(found[key]) for key in ("weights", "tokenizer") if key in found}


def unsure_origins(run: Reader) -> list[str]:
    """What of the beginning nobody has shown, for `not_shown`."""
    said = []
    if (machine := machine_of(run)) is not None:
        said.append(MACHINE.format(machine))
    if started_from(run) is None:
        said.append(f"{START}the run is of before their SHA-256 was kept, and names them by 64 bits.")
    return said


def machine_of(run: Reader) -> str | None:
    """Torch, threads, processor and device, in words, as the run says; None if it does not."""
    return machine_in(_about(run))


def _about(run: Reader) -> Mapping[str, Any]:
    about = run.config.get("about", {})
    return about if isinstance(about, Mapping) else {}
