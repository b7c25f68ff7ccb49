"""Reusable evaluation-assistance subtasks. Each function makes a task; tasks/ hangs them into trees."""

from rrm_assistants.chains import experiments, proofs
from rrm_assistants.chip import benchmark, heat, lifetime, security, segments
from rrm_assistants.novelty import novelty
from rrm_assistants.steps import steps
from rrm_assistants.writing import writing

__all__ = [
    "benchmark", "experiments", "heat", "lifetime", "novelty", "proofs", "security", "segments", "steps", "writing",
]  # fmt: skip
