"""A small network over steps, several members at once: of these are a reward model over steps and its constraint."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

WIDTH = 64
"""Of the two hidden layers, as in Christiano et al. 2017, appendix A.1."""
LAYERS = ("one", "two", "three")


def begun(width: int, heads: int, rng: torch.Generator) -> dict[str, Tensor]:
    """Weights at random, for steps of `width` numbers: uniform as torch begins linear layers; members apart."""
    shapes = dict(zip(LAYERS, ((width, WIDTH), (WIDTH, WIDTH), (WIDTH, 1)), strict=True))
    made = {}
    for layer, (into, out) in shapes.items():
        bound = 1 / math.sqrt(into)
        made[f"{layer}.weight"] = (torch.rand((heads, into, out), generator=rng) * 2 - 1) * bound
        made[f"{layer}.bias"] = (torch.rand((heads, 1, out), generator=rng) * 2 - 1) * bound
    return made


def through(p: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """(steps, numbers) -> (steps, heads)."""
    one = nn.functional.leaky_relu(x @ p["one.weight"] + p["one.bias"], 0.01)  # (heads, steps, WIDTH)
    two = nn.functional.leaky_relu(one @ p["two.weight"] + p["two.bias"], 0.01)
    return (two @ p["three.weight"] + p["three.bias"])[..., 0].T


def scale_of(steps: Tensor, times: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(numbers,) mean and spread of steps (steps, numbers); 1 where nothing moves. times: (steps,) how many each is."""
    if times is None or bool((times == 1).all()):
        spread, mean = steps.std(0, correction=0), steps.mean(0)
    else:
        mean = (steps * times[:, None]).sum(0) / times.sum()
        spread = ((steps - mean).square() * times[:, None]).sum(0).div(times.sum()).sqrt()
    return mean, torch.where(spread < 1e-6, 1.0, spread)
