"""Reusable evaluation-assistance subtasks. Each function makes a task; tasks/ hangs them into trees."""

from assistants.benchmark import benchmark
from assistants.experiments import experiments
from assistants.heat import heat
from assistants.lifetime import lifetime
from assistants.novelty import novelty
from assistants.proofs import proofs
from assistants.security import security
from assistants.segments import segments
from assistants.steps import steps
from assistants.writing import writing

__all__ = [
    "benchmark", "experiments", "heat", "lifetime", "novelty", "proofs", "security", "segments", "steps", "writing",
]  # fmt: skip
