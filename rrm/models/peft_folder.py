"""A fork's adapter as a PEFT folder, which other engines read: vLLM, SGLang, `peft.PeftModel`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from tempfile import mkdtemp

from safetensors.torch import save

from rrm.core.errors import ModelError
from rrm.models.adapters import RANK
from rrm.models.fork import Fork

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def write_adapter(fork: Fork, folder: Path, base: str | None = None) -> None:
    """Write a fork's adapter; the folder appears whole or not at all, and one that is there is left as it is. base:
    what it names as its base model.

    Raises `ModelError` for a fork that is no adapter, and if it cannot be written.
    """
    state = fork.state()
    layers = sorted({name.partition(".lora_")[0].rpartition(".")[2] for name in state if ".lora_" in name})
    if not layers or not all(".lora_" in name for name in state):
        raise ModelError(f"the fork {fork.name!r} is no adapter; load its model with adapters='lora'")
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "inference_mode": True,
        "r": RANK, "lora_alpha": 2 * RANK, "lora_dropout": 0.0, "bias": "none", "target_modules": layers,
    }  # fmt: skip
    try:
        if folder.exists():
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            (part / WEIGHTS).write_bytes(save({f"base_model.model.{name}": value for name, value in state.items()}))
            (part / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            part.chmod(0o755)  # the server may be another user's
            os.rename(part, folder)
        except OSError:
            if not folder.exists():  # another process may have been faster
                raise
        finally:  # of what was not renamed, also by Ctrl-C
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise ModelError(f"cannot write the adapter into {folder} ({error}); name another folder") from error
