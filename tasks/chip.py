"""Design a chip; with help, judge one. The paper's example (Leike et al. 2018), in a world with exact truth.

chip
├── benchmark     does it run the benchmark, in simulation, as claimed and fast enough?
│   └── segments  what does one program's trace give, phase by phase?
├── heat          does it stay cool?
├── lifetime      does it last?
└── security      does it keep one domain's secrets from another?

The chip is a data cache. A tiny model in the package knows this world: `rrm train chip --model embedded-chip`.
"""

from __future__ import annotations

from rrm import Settings, Task
from rrm.worlds.chip import Difficulty, Specs, facts, locate, surface
from rrm_assistants import benchmark, heat, lifetime, security, segments

ROOT = Settings(max_tokens=80, cases=64, comparisons=320, improver="best_of_n", steps=12, batch=12, lr=12e-4)


def chip(difficulty: Difficulty = Difficulty(), seed: int = 0, settings: Settings | None = None) -> Task:
    """The chip tree over specifications of a difficulty."""
    return Task(
        "chip",
        instruction="Which design is better: its claims true, and fast, cool, lasting and safe enough?",
        cases=Specs(seed, "train", difficulty),
        facts=facts,
        surface=surface,
        locate=locate,
        assistants=(benchmark(assistants=[segments()]), heat(), lifetime(), security()),
        aspects=("benchmark", "heat", "lifetime", "security"),
        difficulty=24,
        settings=settings or ROOT,
    )


task = chip()
