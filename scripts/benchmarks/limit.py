"""limit: the FLOP/s of our training step over what the machine's matrix product reaches."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import Options, Precision, Result, Tell, backbone, seconds, word_ids
from rrm.core.records import Case, Group, Outcome
from rrm.learning.losses import policy_gradient
from rrm.models.agent import TextAgent, prefix_groups
from rrm.models.backbone import Backbone
from rrm.models.packing import pack

DTYPES: dict[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def run(options: Options, tell: Tell) -> Result:
    """Forward, backward and update of the assistance shape's group, packed; and square matrix products.

    FLOPs are those of the matrix products of a step: the linear layers as torch counts them, and attention, all cells
    of a row, as is the custom (model FLOPs utilization: Chowdhery et al. 2022, arXiv 2204.02311, appendix B). What
    packing saves gets no credit. `limit.training_step` is in the precision in which the step is faster (with `quick`
    the one of the engine's own probe alone), `limit.linear_layers` leaves attention's products out.
    """
    shape = options.shape(384, 8, 16)
    groups = 1 if options.quick or options.tiny else 2
    batch = [
        Group(
            Case(" ".join(f"w{t}" for t in word_ids(shape.case, options.tiny, "limit", i))),
            tuple(Outcome("", word_ids(shape.outcome, options.tiny, "limit", i, j)) for j in range(shape.outcomes)),
        )
        for i in range(groups)
    ]
    advantage = torch.linspace(-1, 1, groups * shape.outcomes)

    def stepper(which: Precision) -> Callable[[], None]:
        model = backbone(replace(options, precision=which))
        agent = TextAgent(model, model.fork("agent"), shape.outcome)
        optimizer = torch.optim.AdamW(agent.fork.parameters(), lr=1e-6, fused=True)

        def step() -> None:
            for part in agent.microbatches(batch):
                loss = policy_gradient(part.logprobs, None, advantage[part.outcome], len(advantage))
                loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()

        return step

    asked: Sequence[Precision] = [backbone(options).precision.weights] if options.quick else list(DTYPES)
    steps = {which: stepper(which) for which in asked}
    for step in steps.values():  # the last count is kept: they are the same
        with FlopCounterMode(display=False) as counter:
            step()
    counts = counter.get_flop_counts()["Global"]
    linear = sum(n for op, n in counts.items() if op in (torch.ops.aten.mm, torch.ops.aten.addmm))
    attention = _attention(backbone(replace(options, precision="float32")), batch)
    flops = linear + attention
    raw: dict[str, dict[str, list[float]]] = {"training_step": {}, "matrix_product": {}}
    for _ in range(options.runs):
        for which, step in steps.items():
            gc.collect()
            reached = flops / seconds(step) / 1e9
            peak = _matrix_product(512 if options.tiny else 2048, DTYPES[which])
            raw["training_step"].setdefault(which, []).append(reached)
            raw["matrix_product"].setdefault(which, []).append(peak)
            tell(f"limit: {which} step {reached:.1f} GFLOP/s, matrix product {peak:.1f}")
    limits = _limits(raw["training_step"], raw["matrix_product"])
    return Result(
        "GFLOP/s",
        raw,
        limit=limits | {"linear_layers": limits["training_step"] * linear / flops},
        settings={"shape": f"{groups} groups: {shape}", "matrix product": "square, 2048, best of 5"},
        notes=[
            f"One step is {linear / 1e9:.1f} GFLOP of linear layers, as torch's FlopCounterMode counts them, and "
            f"{attention / 1e9:.1f} of attention's products, masked cells included."
        ],
    )


def _attention(model: Backbone, batch: Sequence[Group]) -> int:
    """FLOPs of attention's products in a forward and backward pass over the packed rows: queries with keys and weights
    with values, and twice as much backward."""
    config = model.model.config.get_text_config()
    width = config.num_attention_heads * (getattr(config, "head_dim", None) or model.d // config.num_attention_heads)
    rows = pack(prefix_groups(model, batch), d=model.d, budget=model.budget(True))
    return sum(3 * 4 * model.layers * width * packed.ids.shape[0] * packed.ids.shape[1] ** 2 for packed in rows)


def _matrix_product(size: int, dtype: torch.dtype) -> float:
    """GFLOP/s of a square product: the best of five, because this is the limit."""
    a, b = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype)
    return 2 * size**3 / min(seconds(lambda: a @ b) for _ in range(5)) / 1e9


def _limits(step: dict[str, list[float]], peak: dict[str, list[float]]) -> dict[str, float]:
    def share(which: str) -> float:
        return statistics.median(step[which]) / _best(peak[which])

    faster = max(step, key=lambda which: statistics.median(step[which]))
    return {f"training_step_{which}": share(which) for which in step} | {"training_step": share(faster)}


def _best(values: Sequence[float]) -> float:
    """The machine's peak is the most it was seen to reach."""
    return max(values)
