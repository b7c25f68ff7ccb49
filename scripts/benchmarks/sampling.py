"""sampling: tokens per second, against transformers' generate."""

from __future__ import annotations

import statistics

import torch
from transformers import GenerationConfig

from benchmarks.common import (
    Options,
    Precision,
    Result,
    Tell,
    alternate,
    backbone,
    network,
    seconds,
    text_of,
    tokenizer,
    word_ids,
)  # fmt: skip
from rrm.core.records import Case
from rrm.models.agent import TextAgent

SHAPE = (384, 8, 16)


def run(options: Options, tell: Tell) -> Result:
    """The starting model, no adapter on either side, in each side's faster precision."""
    raw, settings = _measure(options, tell)
    ratio = statistics.median(raw["rrm"]) / statistics.median(raw["generate"])
    notes = [
        "Ours also keeps the log-probability of every sampled token; generate does not. Neither is given an adapter.",
        "generate gets the case once with num_return_sequences, and a dynamic cache; end-of-text is suppressed by "
        "min_new_tokens. On our side a run in which it came up is repeated.",
    ]
    return Result("tokens per second", {"sampling": raw}, {"sampling": ratio}, settings=settings, notes=notes)


def _measure(options: Options, tell: Tell) -> tuple[dict[str, list[float]], dict[str, object]]:
    shape = options.shape(*SHAPE)
    model = backbone(options)
    agent = TextAgent(model, model.start, shape.outcome)
    case = Case(text_of(word_ids(shape.case, options.tiny, "sampling")))
    total = shape.outcomes * shape.outcome
    count = 0

    def ours() -> float:
        nonlocal count
        while True:
            count += 1
            lengths: set[int] = set()

            def work(lengths: set[int] = lengths, key: str = f"run {count}") -> None:
                (group,) = agent.sample([case], shape.outcomes, key)
                lengths.update(len(o.tokens) for o in group.outcomes)

            took = seconds(work)
            if lengths == {shape.outcome}:
                return total / took

    tokens = tokenizer(options.tiny)
    others = {which: network(options.tiny, which) for which in _precisions(options)}
    inputs = tokens(case.prompt, return_tensors="pt")
    how = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, num_return_sequences=shape.outcomes, use_cache=True,
        min_new_tokens=shape.outcome, max_new_tokens=shape.outcome, eos_token_id=2, pad_token_id=2, bos_token_id=1,
    )  # fmt: skip

    def peer(which: Precision) -> float:
        def work() -> None:
            out = others[which].generate(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], generation_config=how
            )
            assert out.shape == (shape.outcomes, shape.case + shape.outcome)

        with torch.inference_mode():
            return total / seconds(work)

    reached = {which: peer(which) for which in others for _ in range(2)}  # the second counts
    fastest = max(reached, key=lambda which: reached[which])
    tell("sampling: generate " + ", ".join(f"{which} {value:.1f} tokens/s" for which, value in reached.items()))
    settings: dict[str, object] = {
        "shape": str(shape), "rrm": {"weights": model.precision.weights}, "generate": {"weights": fastest}
    }  # fmt: skip
    return alternate("sampling", {"rrm": ours, "generate": lambda: peer(fastest)}, options.runs, tell), settings


def _precisions(options: Options) -> tuple[Precision, ...]:
    return ("float32", "bfloat16") if options.precision == "auto" else (options.precision,)
