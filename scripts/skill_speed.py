"""Tokens per second, seconds to load and peak memory of one engine, as JSON; see scripts/model_skills.py.

    python scripts/skill_speed.py smollm2 --engine rrm
    python scripts/skill_speed.py smollm2 --engine generate

The engines: `rrm`'s own sampler, and transformers' `generate` with the same weights in the same precision, the same
prompts, and continuations of the same length (nothing ends early). Two loads: as many cases as rows, greedily, and one
case with as many rows, drawn at temperature 1 (greedy rows of one case would all be the same, and `rrm` computes one).
A process measures one engine, so that its peak memory is its own: it includes loading. Per processor second, which
other work on the machine hardly changes, and by the clock.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from rrm.measure.memory import peak
from rrm.models.backbone import Backbone
from rrm.models.chat import Chat
from rrm.models.fetching import resolve
from rrm.models.precision import Precision, limit_threads
from rrm.models.sampling import sample

Draw = Callable[[list[str], int, int, bool], int]
"""Prompts, rows of each, tokens of each row, greedy? -> the number of tokens drawn."""


def prompt(number: int) -> str:
    """One of some prompts that hardly differ in length."""
    return (
        "A friend cannot sleep well and asks for advice. Write a short and polite answer in plain words. "
        f"It is letter {number}."
    )


def ours(model: str, precision: Precision) -> Draw:
    """`rrm`'s sampler."""
    backbone = Backbone.load(model, adapters="lora" if precision != Precision() else "auto")
    backbone.precision = precision

    def draw(prompts: list[str], rows: int, tokens: int, greedy: bool) -> int:
        keys = [f"speed {i}" for i in range(len(prompts))]
        rendered = [backbone.render(one) for one in prompts]
        out = sample(backbone.start, rendered, rows, tokens, 1.0, keys, (), greedy)
        return sum(len(one[0]) for row in out for one in row)

    return draw


def theirs(model: str, precision: Precision) -> Draw:
    """transformers' `generate`."""
    where, _, _ = resolve(model)
    tokenizer: Any = AutoTokenizer.from_pretrained(where)
    network: Any = AutoModelForCausalLM.from_pretrained(where, dtype=precision.dtype).eval()
    chat = Chat(model, tokenizer)

    def draw(prompts: list[str], rows: int, tokens: int, greedy: bool) -> int:
        rendered = [chat.render(one) for one in prompts for _ in range(rows)]
        width = max(map(len, rendered))
        ids = torch.tensor([[0] * (width - len(one)) + [*one] for one in rendered])
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in rendered])
        how = {"do_sample": False} if greedy else {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
        with torch.inference_mode():
            out = network.generate(
                ids, attention_mask=mask, max_new_tokens=tokens, min_new_tokens=tokens, pad_token_id=0, **how
            )
        return int(out.shape[0] * (out.shape[1] - width))

    return draw


def main() -> None:
    """Load, draw, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="as for rrm train --model")
    parser.add_argument("--engine", choices=("rrm", "generate"), required=True)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    args = parser.parse_args()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    limit_threads()
    spent = time.process_time()
    draw = (ours if args.engine == "rrm" else theirs)(args.model, Precision(args.precision, args.precision))
    found: dict[str, Any] = {"engine": args.engine, "load": time.process_time() - spent, "loaded_mb": peak()}
    every = [prompt(i) for i in range(args.rows)]
    draw(every[:2], 1, 4, True)  # to warm up
    total = 0
    for name, prompts, rows, greedy in (("cases", every, 1, True), ("one case", every[:1], args.rows, False)):
        spent, began = time.process_time(), time.perf_counter()
        drawn = draw(prompts, rows, args.tokens, greedy)
        found[name] = [drawn / (time.process_time() - spent), drawn / (time.perf_counter() - began)]
        total += drawn
    print(json.dumps({**found, "peak_mb": peak(), "tokens": total}))


if __name__ == "__main__":
    main()
