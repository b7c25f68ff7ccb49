"""A model folder is read whole, or refused.

What transformers and PEFT would fill in at random, leave out or guess at is an error here: a weight that the checkpoint
lacks, or that the architecture has no place for; an adapter that would be switched off with our own; a tokenizer of
another model; a model of another kind. Nothing in a folder is run.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor

from rrm.core.errors import ModelError, RRMError

FOREIGN = (
    OSError, ValueError, TypeError, LookupError, AttributeError, ImportError, RuntimeError, AssertionError, EOFError,
    ArithmeticError, MemoryError, SafetensorError, StrictDataclassError,
)  # fmt: skip
"""What transformers, PEFT and torch raise at a folder or an architecture that is not as they expect it."""
ADAPTER = "adapter_config.json"
WHOLE = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""The files in which transformers looks for a whole model's weights."""
MERGED = 1e-3
"""Most that a merged adapter's logits may differ from the adapter's own, in parts of the largest of them."""
POINTER = b"version https://git-lfs"
"""How the file begins that git leaves in a large file's place."""


class Blaming:
    """Within it, what a library raises about others' files or models becomes a `ModelError`: what was tried, what the
    library said (its first lines), and the mend. Our own errors pass.

    what: "cannot load the model 'x'". mend: what to do about it, as a clause.
    """

    def __init__(self, what: str, mend: str) -> None:
        self.what, self.mend = what, mend

    def __enter__(self) -> Blaming:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None or isinstance(error, RRMError):
            return
        # tokenizers raises Exception itself; torch, at a file that is no checkpoint, an error of a module that we do
        # not import.
        if isinstance(error, FOREIGN) or type(error) is Exception or type(error).__name__ == "UnpicklingError":
            raise ModelError(f"{self.what}: {said(error)}; {self.mend}") from error


def said(error: BaseException) -> str:
    """An error's text in one line, cut where it lists all that there is."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 400 else text[:400] + " ..."


def check_finite(what: str, tensors: Iterable[tuple[str, Tensor]], mend: str) -> None:
    """Raise `ModelError` if a tensor holds NaN or infinite numbers, naming the first. 20 to 40 ms for 135 M numbers."""
    for name, tensor in tensors:
        if not tensor.is_floating_point() or bool(tensor.detach().sum().isfinite()):
            continue  # one that is not finite makes the sum so; a sum may also overflow, hence the closer look
        bad = int((~torch.isfinite(tensor.detach())).sum())
        if bad:
            raise ModelError(f"{what}: {bad} of {tensor.numel()} numbers in {name} are NaN or infinite; {mend}")


def read_model(kind: Any, where: str, what: str, mend: str, excused: Collection[str] = (), **options: Any) -> Any:
    """`kind.from_pretrained(where, ...)`, in float32 unless `options` say otherwise, if every weight of the model comes
    from the checkpoint, and every weight of the checkpoint is one of the model.

    Parameters
    ----------
    kind: one of transformers' auto classes, or a model class.
    what, mend: begin and end of the message, as in `Blaming`.
    excused: weights that may be missing or left over, because the caller brings them, or does without.

    Raises `ModelError`: it cannot be read; weights are missing (transformers would draw them at random), of other
    shapes, left over, NaN or infinite. A tied output embedding that is not stored is not missing.
    """
    with Blaming(what, mend):
        _check_pointers(where)
        model, report = kind.from_pretrained(
            where, output_loading_info=True, trust_remote_code=False, ignore_mismatched_sizes=True,
            **{"dtype": torch.float32} | options,
        )  # fmt: skip
    other = [(str(key), tuple(one), tuple(two)) for key, one, two in sorted(report.get("mismatched_keys") or ())]
    if other:
        key, one, two = other[0]
        more = f" ({len(other)} such)" if len(other) > 1 else ""
        raise ModelError(f"{what}: its checkpoint holds {key} of shape {one}, config.json says {two}{more}; {mend}")
    missing = {*map(str, report.get("missing_keys") or ())}
    extra = {*map(str, report.get("unexpected_keys") or ())} - {*excused}
    missing -= {*excused}
    if missing or extra:
        parts = [_listed("lacks", missing, " (they would be drawn at random)")] if missing else []
        parts += [_listed("holds", extra, f", for which {type(model).__name__} has no place")] if extra else []
        raise ModelError(f"{what}: its checkpoint {' and '.join(parts)}; {mend}")
    check_finite(what, model.state_dict().items(), "the weights are broken: take an earlier checkpoint, or load others")
    return model


def _listed(verb: str, keys: Iterable[str], why: str) -> str:
    names = sorted(keys)
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"{verb} {', '.join(names[:4])}{more}{why}"


def read_tokenizer(where: str, local: bool, what: str, mend: str) -> Any:
    """The tokenizer beside a model. Raises `ModelError` if there is none: transformers makes an empty one for some."""
    from transformers import AutoTokenizer

    mend = f"save it beside the model: tokenizer.save_pretrained; or {mend}"
    with Blaming(f"{what}: its tokenizer cannot be read", mend):
        tokenizer = AutoTokenizer.from_pretrained(where, local_files_only=local, trust_remote_code=False)
        names = tokenizer.vocab_files_names  # without any, the tokenizer needs none (bytes)
        whole = names.get("tokenizer_file", "tokenizer.json")
        needed = [names[key] for key in ("vocab_file", "merges_file") if key in names]
        found = not names or _file(where, whole, local) is not None
        if not found and not all(_file(where, one, local) for one in needed or [whole]):
            raise ModelError(f"{what}: there is no tokenizer ({' and '.join(needed or [whole])}); {mend}")
    return tokenizer


def read_pair(
    name: str, where: str, local: bool, mend: str, own: bool = False, device: str | None = None
) -> tuple[Any, Any]:
    """A causal language model in float32 and its tokenizer: of a folder, or of a name on the Hub; what a PEFT adapter
    has learned is merged into the weights of its base model.

    Parameters
    ----------
    name: what the user called it. where: a folder, or a name on the Hub. local: whether it is a folder.
    mend: what to do if there is no such model, as a clause.
    own: in bfloat16, if it was saved so and is no adapter. device: then put there, shard by shard.

    Raises `ModelError` as `read_model` does; for a model or adapter of another kind; if the tokenizer is not this
    model's.
    """
    what = f"cannot load the model {name!r}" + ("" if name == where else f" from {where}")
    model, holder = _read_causal(where, local, what, mend, (), own, device)
    tokenizer = read_tokenizer(holder, local or Path(holder).exists(), what, mend)
    _check_vocabulary(what, model, tokenizer)
    return model, tokenizer


def _read_causal(
    where: str, local: bool, what: str, mend: str, seen: tuple[str, ...], own: bool = False, device: str | None = None
) -> tuple[Any, str]:
    """The model, and where its tokenizer is."""
    from transformers import AutoModelForCausalLM

    _check_path(where, what)
    adapter = _json(where, ADAPTER, local, what)
    if adapter is not None:
        return _merged(where, local, what, mend, adapter, seen)
    config = read_configuration(where, local, what, mend)
    _json(where, "generation_config.json", local, what)  # transformers would pass over one that is broken
    options: dict[str, Any] = {}
    if own and config.dtype == torch.bfloat16:
        options = {"dtype": torch.bfloat16} | ({} if device is None else {"device_map": {"": device}})
    model = read_model(AutoModelForCausalLM, where, what, mend, local_files_only=local, **options)
    return model, where


def read_configuration(where: str, local: bool, what: str, mend: str) -> Any:
    """A causal language model's configuration alone; `what`, `mend`: as in `Blaming`. Raises `ModelError` for one that
    cannot be read, or is of another kind."""
    from transformers import AutoConfig

    _check_path(where, what)
    _check_kind(_json(where, "config.json", local, what), where, local, what)
    with Blaming(what, mend):
        config = AutoConfig.from_pretrained(where, local_files_only=local, trust_remote_code=False)
    _check_class(config, what)
    return config


# --- what kind of thing it is ------------------------------------------------------------------------


def _check_path(where: str, what: str) -> None:
    path = Path(where)
    files = [*path.glob("*.gguf")] if path.is_dir() and not (path / "config.json").exists() else [path]
    if any(one.is_file() and one.suffix == ".gguf" for one in files):
        raise ModelError(
            f"{what}: GGUF is not read directly; unpack it once with transformers (from_pretrained(folder, "
            "gguf_file=..., quantization_config=GgufConfig(dequantize=True))), and give the folder to which you "
            "save_pretrained model and tokenizer"
        )
    if path.is_file():
        raise ModelError(f"{what}: it is a file; give the folder that it is in, with config.json and a tokenizer")
    if not path.is_dir() or (path / "config.json").exists() or (path / ADAPTER).exists():
        return
    below = sorted(one.parent.name for one in path.glob("*/*config.json") if one.name in ("config.json", ADAPTER))
    hint = f"give one of the folders in it ({', '.join(below[:5])})" if below else "give a folder of save_pretrained"
    raise ModelError(f"{what}: there is no config.json in it; {hint}")


def _check_pointers(where: str) -> None:
    for path in Path(where).glob("*") if Path(where).is_dir() else ():
        if path.suffix in (".safetensors", ".bin", ".json") and path.is_file():
            with path.open("rb") as file:
                if file.read(len(POINTER)) == POINTER:
                    raise ModelError(f"{path} is a git-lfs pointer, not the file itself; fetch it with: git lfs pull")


def _check_kind(config: dict[str, Any] | None, where: str, local: bool, what: str) -> None:
    """By config.json, before transformers makes anything of it; None: on the Hub, which may not be reached."""
    from transformers import CONFIG_MAPPING, __version__

    if config is None:
        return
    quantized = config.get("quantization_config")
    if quantized:
        how = quantized.get("quant_method", "an unknown method") if isinstance(quantized, dict) else quantized
        raise ModelError(
            f"{what}: its weights are quantized ({how}), and training needs them whole; load it with transformers and "
            "what it needs for that, .dequantize() it, and save_pretrained, or take the unquantized model"
        )
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        if config.get("auto_map"):
            raise ModelError(
                f"{what}: it comes with code of its own (auto_map in config.json), which is never run; use a model "
                "whose architecture is in transformers"
            )
        raise ModelError(
            f"{what}: transformers {__version__} knows no architecture {kind!r} (model_type in config.json); update "
            "transformers, or use another model"
        )
    saved = config.get("architectures")
    saved = saved if isinstance(saved, list) else []
    beside = f" (it was saved as {', '.join(map(str, saved))})" if saved else ""
    if any("SequenceClassification" in str(one) or "TokenClassification" in str(one) for one in saved):
        raise ModelError(
            f"{what}: it is a classifier{beside}, whose output embedding is not there or was not trained with it; give "
            "a causal language model; a reward model is loaded by rrm.exchange.trl.load_reward"
        )
    if config.get("is_encoder_decoder"):
        raise ModelError(f"{what}: it is an encoder with a decoder{beside}; use a causal language model (decoder only)")


def _check_class(config: Any, what: str) -> None:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    kind = config.model_type
    if config.is_encoder_decoder:
        raise ModelError(f"{what}: {kind!r} is an encoder with a decoder; use a causal language model (decoder only)")
    if config.get_text_config() is not config:
        raise ModelError(
            f"{what}: {kind!r} reads more than text (config.json has a text_config in it); use a text-only model, or "
            "save the language model in it, with its output embedding, as a folder of its own"
        )
    masked = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    if masked or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        more = "an encoder, which sees what comes after" if masked else "no causal language model"
        raise ModelError(f"{what}: {kind!r} is {more}; use a causal language model (decoder only)")


def _check_vocabulary(what: str, model: Any, tokenizer: Any) -> None:
    rows = min(e.weight.shape[0] for e in (model.get_input_embeddings(), model.get_output_embeddings()))
    ids = tokenizer.get_vocab()
    token, last = max(ids.items(), key=lambda pair: pair[1])
    if last >= rows:
        over = sum(i >= rows for i in ids.values())
        raise ModelError(
            f"{what}: its tokenizer has ids up to {last} ({token!r}), its embedding {rows} rows, so {over} tokens have "
            "none; save the tokenizer that the model was trained with, or model.resize_token_embeddings and train them"
        )
    config = model.config
    for key in ("bos_token_id", "eos_token_id"):
        value = getattr(config, key, None)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, int) and one > last:
                raise ModelError(
                    f"{what}: its config.json has {key} {one}, but its tokenizer's ids end at {last}; save the "
                    f"tokenizer that the model was trained with, or set {key} right"
                )


def _file(where: str, file: str, local: bool) -> Path | None:
    """A file of a folder, or of a name on the Hub as far as it can be reached."""
    if local:
        return path if (path := Path(where) / file).is_file() else None
    from transformers.utils.hub import cached_file

    found = cached_file(
        where, file, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )  # fmt: skip
    return None if found is None else Path(str(found))


def _json(where: str, file: str, local: bool, what: str) -> dict[str, Any] | None:
    with Blaming(what, "give a folder of save_pretrained, or a causal model's name on the Hub"):
        path = _file(where, file, local)
    if path is None:
        return None
    with Blaming(f"{what}: {file} cannot be read", "save the model again"):
        found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ModelError(f"{what}: {file} is no table of settings; save the model again")
    return found


# --- adapters ----------------------------------------------------------------------------------------


def _merged(
    where: str, local: bool, what: str, mend: str, config: dict[str, Any], seen: tuple[str, ...]
) -> tuple[Any, str]:
    """The base model with a PEFT adapter added into its weights, if that gives what the adapter gave.

    transformers would put it on as a layer, and whoever switches adapters off (`Backbone.switch`) would lose it.
    """
    base = config.get("base_model_name_or_path")
    by_hand = "give a plain LoRA adapter, or one that you merged with PEFT (merge_and_unload) and saved whole"
    if any(_file(where, one, local) is not None for one in WHOLE):
        raise ModelError(f"{what}: it holds both a whole model and an adapter ({ADAPTER}); move one of them away")
    if not isinstance(base, str) or not base:
        raise ModelError(f"{what}: its {ADAPTER} names no base_model_name_or_path; write there which model it is for")
    if base in seen:
        raise ModelError(f"{what}: the base_model_name_or_path of the adapter is itself; write its base model there")
    _check_adapter(config, what, by_hand)
    there = Path(base).is_dir()
    if not there and config.get("revision") not in (None, "main"):
        raise ModelError(
            f"{what}: its base model is {base!r} in revision {config['revision']!r}; fetch that one, and write its "
            f"folder into base_model_name_or_path in its {ADAPTER}"
        )
    if not there and base.startswith(("/", ".", "~")):
        raise ModelError(f"{what}: its base model {base!r} is not there; mend base_model_name_or_path in its {ADAPTER}")
    told = f"{what}, an adapter of {base!r}"
    mended = f"mend base_model_name_or_path in its {ADAPTER}, or {by_hand}"
    model, holder = _read_causal(base, there, told, mended, (*seen, where))
    model = merge_adapter(model, where, local, told, by_hand)
    own = any(_file(where, one, local) is not None for one in ("tokenizer.json", "tokenizer_config.json"))
    return model, where if own else holder


def merge_adapter(model: Any, where: str, local: bool, what: str, mend: str) -> Any:
    """A base model with the PEFT adapter in `where` added into its weights; `model` itself cannot be used afterwards.

    Raises `ModelError`: the adapter does not fit the model, is not whole, is broken, or is no change of weights, so
    that merged it gives other logits.
    """
    from peft import PeftModel
    from peft.utils import load_peft_weights

    if local and not any(_file(where, one, local) for one in ("adapter_model.safetensors", "adapter_model.bin")):
        raise ModelError(f"{what}: no adapter_model.safetensors is beside its {ADAPTER}; save it again, or {mend}")
    with Blaming(what, mend), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of keys that are missing: they are an error below
        _check_pointers(where)
        stored = load_peft_weights(where, device="cpu", local_files_only=True) if local else load_peft_weights(where)
        check_finite(what, stored.items(), "the adapter is broken: take an earlier one")
        _resize(model, stored, what, mend)
        before = {id(p): (p.data_ptr(), p._version) for p in model.parameters()}
        model = PeftModel.from_pretrained(model, where, torch_device="cpu").eval()
        _check_stored(model, stored, what, mend)
        _check_base(model, before, stored, what, mend)
        ids = torch.arange(8)[None] * 7 % model.get_input_embeddings().weight.shape[0]
        with torch.no_grad():
            before = model(input_ids=ids).logits
            model = model.merge_and_unload()
            after = model(input_ids=ids).logits
    error = float((after - before).abs().max() / before.abs().max().clamp(min=1.0))
    if not error < MERGED:
        raise ModelError(
            f"{what}: merged into its weights it gives other logits (by {error:.2g} of the largest), as adapters do "
            "that are tied, conditional or not additive; give a plain LoRA adapter or a whole model"
        )
    return model


def _check_adapter(config: dict[str, Any], what: str, by_hand: str) -> None:
    from dataclasses import fields

    from peft import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.config import PromptLearningConfig

    kind, task = str(config.get("peft_type")), config.get("task_type")
    made = PEFT_TYPE_TO_CONFIG_MAPPING.get(kind)  # type: ignore[call-overload]
    if made is None:
        raise ModelError(f"{what}: PEFT knows no adapters of type {kind} (peft_type in {ADAPTER}); update it")
    if issubclass(made, PromptLearningConfig) or kind == "ADAPTION_PROMPT":
        raise ModelError(
            f"{what}: an adapter of type {kind} is no change of weights but puts learned vectors in front of the text, "
            "so it cannot be merged; give a LoRA adapter or a whole model"
        )
    if task not in (None, "CAUSAL_LM"):
        raise ModelError(
            f"{what}: its adapter is for another task ({task}); give one for CAUSAL_LM. A reward model is loaded by "
            "rrm.exchange.trl.load_reward"
        )
    known = {field.name for field in fields(made)}
    unknown = sorted(key for key, value in config.items() if key not in known and value)  # what is off changes nothing
    if unknown:
        raise ModelError(f"{what}: this PEFT knows no {', '.join(unknown)} of its {ADAPTER}; update peft, or {by_hand}")


def _resize(model: Any, stored: dict[str, Tensor], what: str, mend: str) -> None:
    """Give the base as many rows as the embedding that was saved with the adapter has."""
    names = [name for name, module in model.named_modules() if module is model.get_input_embeddings()]
    tail = f"{names[0].rpartition('.')[2]}.weight"
    rows = {value.shape[0] for key, value in stored.items() if key.endswith(tail) and ".lora" not in key}
    have = model.get_input_embeddings().weight.shape[0]
    if not rows or rows == {have}:
        return
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    if not tied and not any(key.endswith("lm_head.weight") for key in stored):
        raise ModelError(
            f"{what}: its embedding has {max(rows)} rows and the base {have}, but the output embedding was not saved "
            f"with it, so the new rows would be drawn at random; train with modules_to_save, or {mend}"
        )
    with torch.random.fork_rng(devices=[]):
        model.resize_token_embeddings(max(rows), mean_resizing=False)


def _check_base(
    model: Any, before: dict[int, tuple[int, int]], stored: dict[str, Tensor], what: str, mend: str
) -> None:
    """Whether the base is as it was, but for what the adapter's file holds of it.

    PEFT takes some kinds of beginning (PiSSA and its kin) out of the base again at each load. Where that is exact, so
    is the sum; by a random decomposition it is another at each load.
    """
    held = {key.replace(".base_layer.", ".") for key in stored}
    init = getattr(model.peft_config["default"], "init_lora_weights", True)
    for name, p in model.named_parameters():
        plain = name.replace(".base_layer.", ".")
        changed = id(p) in before and before[id(p)] != (p.data_ptr(), p._version)
        if changed and plain not in held and init not in ("pissa", "olora"):
            raise ModelError(
                f"{what}: with it PEFT changes {plain} of the base by guess (init_lora_weights {init!r}), so it scores "
                f"otherwise at each load; convert it (PEFT: path_initial_model_for_weight_conversion), or {mend}"
            )


def _check_stored(model: Any, stored: dict[str, Tensor], what: str, mend: str) -> None:
    """Whether the adapter's weights are those of its file, and all of them."""
    from peft import get_peft_model_state_dict

    least = get_peft_model_state_dict(model, save_embedding_layers=False)
    most = least | get_peft_model_state_dict(model, save_embedding_layers=True)
    missing, extra = least.keys() - stored.keys(), stored.keys() - most.keys()
    other = {key for key in stored.keys() & most.keys() if not torch.equal(most[key].float(), stored[key].float())}
    if missing or extra or other:
        parts = [_listed(verb, keys, "") for verb, keys in (("lacks", missing), ("holds", extra), ("differs in", other))
                 if keys]  # fmt: skip
        raise ModelError(
            f"{what}: its file does not fit what {ADAPTER} says ({'; '.join(parts)}), so some of it would be lost or "
            f"random; save it again, or {mend}"
        )
