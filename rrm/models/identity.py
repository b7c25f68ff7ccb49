"""Is a GGUF file the model that it is taken for? Asked of what the file says about itself, before it is converted.

Its SHA-256 says that it is the file that was pinned; this says what that file is. The two cannot disagree unless a pin
is wrong, and then it is better to learn what was taken for what.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrm.core.errors import ModelError
from rrm.models.real_models import ModelSource

TIED = "absent, so tied to the input's"
"""What is said of an output embedding that a file does not have."""


WORDS = ("tokenizer.ggml.pre", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.chat_template")


@dataclass(frozen=True)
class Header:
    """What a GGUF file says: in short, and of its tokenizer what `rrm.models.unpacking` needs. Reading it takes
    seconds, so it is read once."""

    facts: Mapping[str, object]
    words: Mapping[str, Any]  # `WORDS`, those that are there


def facts(reader: Any) -> dict[str, object]:
    """What a GGUF file says about itself: its metadata as they are, but

    - of a list: how many, and the first 16 digits of the SHA-256 of its entries, joined by zero bytes;
    - of the chat template: how many characters, and its SHA-256 likewise; of real numbers, six digits;
    - "tensors": how many; "token_embd.weight" and "output.weight": how they are quantized, or that there is none.

    reader: a `gguf.GGUFReader`.
    """
    out: dict[str, object] = {}
    for key, field in reader.fields.items():
        value = field.contents()
        if isinstance(value, list):
            value = f"{len(value)}, SHA-256 {_short(chr(0).join(map(str, value)))}"
        elif key == "tokenizer.chat_template":
            value = f"{len(value)} characters, SHA-256 {_short(value)}"
        elif isinstance(value, float):
            value = f"{value:.6g}"
        out[key] = value
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    out["tensors"] = len(kinds)
    out["token_embd.weight"] = kinds.get("token_embd.weight", "absent")
    out["output.weight"] = kinds.get("output.weight", TIED)
    return out


def check_identity(source: ModelSource, gguf: Path) -> Header:
    """What a file says, if it is what the source names. Raises `ModelError`: which are not, and which were
    expected; or that it is no GGUF file."""
    from gguf import GGUFReader

    from rrm.models.folders import Blaming

    with Blaming(f"{gguf} cannot be read as GGUF", "report it: its SHA-256 is the one that is pinned"):
        reader = GGUFReader(gguf)
        found = facts(reader)
        words = {key: reader.fields[key].contents() for key in WORDS if key in reader.fields}
    wrong = [
        f"{key} is {found.get(key, 'absent')!r}, not {value!r}"
        for key, value in source.identity.items() if found.get(key, "absent") != value
    ]  # fmt: skip
    if wrong:
        raise ModelError(
            f"{gguf} is not {source.title}, going by what it says itself: {'; '.join(wrong)}. It was not converted; "
            "what is pinned in rrm/models/real_models.py is wrong: report it"
        )
    return Header(found, words)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
