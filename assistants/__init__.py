"""Reusable evaluation-assistance subtasks. Each function makes a task; tasks/ hangs them into trees."""

from rrm_assistants.benchmark import benchmark
from rrm_assistants.experiments import experiments
from rrm_assistants.heat import heat
from rrm_assistants.lifetime import lifetime
from rrm_assistants.novelty import novelty
from rrm_assistants.proofs import proofs
from rrm_assistants.security import security
from rrm_assistants.segments import segments
from rrm_assistants.steps import steps
from rrm_assistants.writing import writing

__all__ = [
    "benchmark", "experiments", "heat", "lifetime", "novelty", "proofs", "security", "segments", "steps", "writing",
]  # fmt: skip
