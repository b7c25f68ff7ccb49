"""Reusable evaluation-assistance subtasks. Each function makes a task; tasks/ hangs them into trees."""

from assistants.experiments import experiments
from assistants.novelty import novelty
from assistants.proofs import proofs
from assistants.steps import steps
from assistants.writing import writing

__all__ = ["experiments", "novelty", "proofs", "steps", "writing"]
