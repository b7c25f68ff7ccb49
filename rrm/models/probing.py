"""Which precision this machine computes a model in best: a probe, before anything is trained."""

from __future__ import annotations

import copy
import time
from typing import Any

import torch

from rrm.core.errors import ModelError
from rrm.models.architecture import RAW
from rrm.models.backbone import Backbone
from rrm.models.packing import PrefixGroup, pack
from rrm.models.precision import GAIN, Precision
from rrm.models.sampling import sample

CASE, OUTCOME = 192, 16
"""Tokens of the case and of each of four outcomes that training is timed with."""


def probe(backbone: Backbone) -> tuple[Precision, dict[str, float]]:
    """Time a training pass and a few decoding steps with float32 and with bfloat16 weights, on two layers of random
    weights: the better precision, and the seconds each took, for the record. About a second for a model of 135 M. On a
    GPU bfloat16 is taken without a race, where the architecture computes in it.

    A backbone that is fully fine-tuned, or was rounded already, has no choice: it is not timed. Nor has one whose
    architecture does not compute in bfloat16, which is found out by a trial, cannot be cut to two layers (Gemma 3n's
    later layers use the keys of others), or takes only sequences that are too short for it: it stays in float32.
    """
    if backbone.adapters == "full" or backbone.precision != Precision():
        return backbone.precision, {}
    if backbone.limit < CASE + OUTCOME:
        return Precision(), {}
    try:
        sides = {"float32": _stub(backbone), "bfloat16": _stub(backbone)}
        sides["bfloat16"].precision = Precision("bfloat16")
    except (ModelError, *RAW):  # on two layers; the whole was tried in float32 when it was loaded
        return Precision(), {}
    if backbone.device.type == "cuda":  # two layers would time the launching of kernels, not the card
        return Precision("bfloat16", "bfloat16"), {}
    seconds: dict[str, float] = {}
    for _ in range(3):  # in turn, the best of three: a busy moment hits both alike, and the first is for warming up
        for which, stub in sides.items():
            for name, work in (("training", _train), ("decoding", _decode)):
                began = time.perf_counter()
                work(stub)
                taken, what = time.perf_counter() - began, f"{name} {which}"
                seconds[what] = min(taken, seconds.get(what, taken))
    total = {which: seconds[f"training {which}"] + seconds[f"decoding {which}"] for which in sides}
    faster = total["float32"] > GAIN * total["bfloat16"]
    return Precision("bfloat16", "bfloat16") if faster else Precision(), seconds


def _stub(backbone: Backbone) -> Backbone:
    """Two layers as the backbone's, with a small vocabulary: what differs between precisions is in the layers."""
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
    ids = [(3 + 7 * i) % stub.vocabulary for i in range(CASE + 4 * OUTCOME)]
    outcomes = [ids[i : i + OUTCOME] for i in range(CASE, len(ids), OUTCOME)]
    (packed,) = pack([PrefixGroup(ids[:CASE], outcomes)], d=stub.d, width=4)
    fork = stub.fork("probe")
    fork.token_logprobs(packed).sum().backward()  # type: ignore[no-untyped-call]
    fork.close()


def _decode(stub: Backbone) -> None:
    sample(stub.start, [[(3 + 7 * i) % stub.vocabulary for i in range(64)]], 8, 6, 1.0, ["probe"], ())
