"""Assistants for texts in natural language: critics that a language model plays, some with tools."""

from rrm_assistants.text.critic import critic, examined
from rrm_assistants.text.prose import characters, flow, plot, writing
from rrm_assistants.text.science import experiments, novelty, proofs

__all__ = ["characters", "critic", "examined", "experiments", "flow", "novelty", "plot", "proofs", "writing"]
