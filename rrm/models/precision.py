"""How this machine computes best: the frozen weights in bfloat16 or float32, and how many threads."""

from __future__ import annotations

import copy
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from rrm.models.pack import PrefixGroup, pack
from rrm.parallel import place

if TYPE_CHECKING:
    from rrm.models.backbone import Backbone

GAIN = 1.1
"""bfloat16 is used where it is at least this many times as fast as float32."""


@dataclass(frozen=True)
class Precision:
    """What the frozen weights are kept in, and the trunk computes in; see `Backbone.precision`."""

    weights: Literal["float32", "bfloat16"] = "float32"

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.weights == "bfloat16" else torch.float32


def probe(backbone: Backbone) -> tuple[Precision, dict[str, float]]:
    """Time a training pass and a few decoding steps with float32 and with bfloat16 weights, on two layers of random
    weights: the better precision, and the seconds each took, for the record. About a second for a model of 135 M.

    A backbone that is fully fine-tuned, or was rounded already, has no choice: it is not timed.
    """
    if backbone.adapters == "full" or backbone.precision != Precision():
        return backbone.precision, {}
    sides = {"float32": _stub(backbone), "bfloat16": _stub(backbone)}
    sides["bfloat16"].precision = Precision("bfloat16")
    seconds: dict[str, float] = {}
    for _ in range(3):  # in turn, the best of three: a busy moment hits both alike, and the first is for warming up
        for which, stub in sides.items():
            for name, work in (("training", _train), ("decoding", _decode)):
                began = time.perf_counter()
                work(stub)
                taken, what = time.perf_counter() - began, f"{name} {which}"
                seconds[what] = min(taken, seconds.get(what, taken))
    total = {which: seconds[f"training {which}"] + seconds[f"decoding {which}"] for which in sides}
    return Precision("bfloat16" if total["float32"] > GAIN * total["bfloat16"] else "float32"), seconds


def _stub(backbone: Backbone) -> Backbone:
    """Two layers as the backbone's, with a small vocabulary: what differs between precisions is in the layers."""
    from rrm.models.backbone import Backbone

    config: Any = copy.deepcopy(backbone.model.config)
    text = config.get_text_config()
    text.num_hidden_layers, text.vocab_size = 2, 256
    text.pad_token_id = None
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:2]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Backbone("probe", type(backbone.model)(config).to(backbone.device), backbone.tokenizer, "lora")


def _train(stub: Backbone) -> None:
    ids = [(3 + 7 * i) % stub.vocabulary for i in range(256)]
    (packed,) = pack([PrefixGroup(ids[:192], [ids[i : i + 16] for i in range(192, 256, 16)])], d=stub.d, width=4)
    fork = stub.fork("probe")
    fork.token_logprobs(packed).sum().backward()  # type: ignore[no-untyped-call]
    fork.close()


def _decode(stub: Backbone) -> None:
    from rrm.models.sample import sample

    sample(stub.start, [[(3 + 7 * i) % stub.vocabulary for i in range(64)]], 8, 6, 1.0, ["probe"], -1)


def cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Processors this process may really use: its affinity, and its container's share where one is set."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):  # no cgroup, or an older one
        return count
    return count if quota == "max" else max(1, min(count, math.ceil(int(quota) / int(period))))


def limit_threads() -> None:
    """Do not let torch run more threads than there are processors: they would wait for one another. torch counts
    the machine's processors; a container may have been given fewer, and several processes share them."""
    most = max(1, cores() // place()[1])
    if torch.get_num_threads() > most:
        torch.set_num_threads(most)
