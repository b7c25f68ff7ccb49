"""What a device can do, in four numbers, and which share of them this code reaches: for planning.

The shares of a GPU are those that docs/benchmarks-gpu.md measured on one H200 with a model of 0.5 B; for other cards
and larger models they are assumed (1.2 B reached more than that by half). A processor's numbers are this machine's,
measured for a moment.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from rrm.core.errors import ConfigError
from rrm.models.precision import GAIN
from rrm.models.room import available_memory

GB, TERA = 1_000_000_000, 1e12


@dataclass(frozen=True)
class DeviceSpec:
    """A device, and what is reached of it."""

    name: str
    kind: Literal["cuda", "cpu"]
    memory: int
    """Bytes."""
    product: float
    """FLOP a second that a large matrix product reaches, in the precision of a model with adapters."""
    single: float
    """The same in float32, in which tiny models are trained."""
    bandwidth: float
    """Bytes a second."""
    training: float
    """Share of `product` that a training pass reaches."""
    reading: float
    """Share of `product` that a pass without a gradient reaches."""
    launch: float
    """Seconds that a layer takes in a pass, however little there is to compute."""
    itemsize: int = 2
    """Bytes of a weight of a model with adapters; a tiny one, which is trained whole, has 4."""

    @staticmethod
    def of(name: str) -> DeviceSpec:
        """h100, a100, h200, b200; cpu (this machine, measured for a moment); or numbers: "80GB,900TF,3.3TB/s".

        Raises `ConfigError` for anything else.
        """
        if name == "cpu":
            return _this_processor()
        if name in CARDS:
            gigabytes, product, single, bandwidth = CARDS[name]
        else:
            gigabytes, product, bandwidth = _numbers(name)
            single = product / 16
        reached = TERA * REACHED
        return DeviceSpec(
            name, "cuda", int(gigabytes * GB), product * reached, single * reached, bandwidth * TERA, TRAINING, READING,
            LAUNCH,
        )  # fmt: skip

CARDS: dict[str, tuple[float, float, float, float]] = {
    "a100": (80, 312, 19.5, 2.039), "h100": (80, 989, 67, 3.35), "h200": (141, 989, 67, 4.8),
    "b200": (180, 2250, 80, 7.7),
}  # fmt: skip
"""GB, TFLOP/s of bfloat16 without sparsity and of float32, TB/s: of NVIDIA's data sheets (SXM)."""
REACHED = 760 / 989
"""Of the data sheet's product, by one of 8192 x 8192 on an H100; three measurements of an H200 were 717 to 775."""
TRAINING, READING, LAUNCH = 0.31, 0.33, 2.6e-4
"""See `DeviceSpec`: so that the measured step (docs/benchmarks-gpu.md) comes out; `launch` is of a recorded decoding
step with an adapter."""
CPU_TRAINING, CPU_READING, CPU_LAUNCH = 0.4, 0.5, 1e-4
"""Of a processor: see docs/past-one-machine.md, which says how far plans are from runs."""
NUMBERS = re.compile(r"([\d.]{1,12})GB,([\d.]{1,12})TF(?:LOPS?|LOP/s)?,([\d.]{1,12})TB/s", re.I)
"""Without blanks."""


def _numbers(text: str) -> tuple[float, float, float]:
    found = NUMBERS.fullmatch("".join(text.split()))
    try:
        memory, product, bandwidth = map(float, found.groups() if found else ())
    except ValueError:
        memory = product = bandwidth = 0
    if min(memory, product, bandwidth) <= 0:
        raise ConfigError(
            f"--device {text}: no such device; give {', '.join(CARDS)}, cpu, or memory, bfloat16 product and bandwidth "
            'such as "80GB,900TF,3.3TB/s"'
        )
    return memory, product, bandwidth


def _this_processor() -> DeviceSpec:
    memory = available_memory() or 4 * GB
    low, full = _product(torch.bfloat16), _product(torch.float32)
    rounds = low > GAIN * full  # the rule of `rrm.models.probing`, asked of one product
    return DeviceSpec(
        "cpu", "cpu", memory, low if rounds else full, full, _bandwidth(), CPU_TRAINING, CPU_READING, CPU_LAUNCH,
        2 if rounds else 4,
    )  # fmt: skip


def _product(dtype: torch.dtype, size: int = 384) -> float:
    a = torch.ones(size, size, dtype=dtype)
    return 2 * size**3 / _best(lambda: a @ a)


def _bandwidth(numbers: int = 1 << 23) -> float:
    a = torch.ones(numbers)
    return 4 * numbers / _best(a.sum)


def _best(work: Callable[[], object], times: int = 20) -> float:
    """The least of many short times: on a busy machine some are not interrupted."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return min(taken)
