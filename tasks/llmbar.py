"""LLMBar (Zeng et al. 2023, arXiv 2310.07641; MIT): two answers to an instruction, and which one people say follows it.

In the natural pairs the better answer is often the longer one, too; in the adversarial ones the worse answer looks
better: always report the longer one's accuracy beside a judge's.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from rrm import Case, Outcome, Task
from rrm.core.judgements import Pair
from rrm.worlds.tables import Table


class Compared(BaseModel):
    """An instruction, two answers, and which is better."""

    model_config = ConfigDict(frozen=True)

    input: str
    output_1: str
    output_2: str
    label: Literal[1, 2]


def _table(name: str, split: str) -> Table[Compared]:
    return Table(f"llmbar/{name}.jsonl", {"path": "princeton-nlp/LLMBar", "name": "LLMBar", "split": split}, Compared)


PAIRS = {"natural": _table("natural", "Natural"), "adversarial": _table("adversarial_manual", "Adversarial_Manual")}
TASK = Task(
    "llmbar",
    "Two answers to one instruction. Which of them does better what the instruction says?",
    facts=lambda case, outcome: [],
)
"""What a judge is asked. It has no cases and no facts: it is for judging the published pairs, not for training."""


def pair_of(row: Compared) -> Pair:
    """A row as a judge sees it, the first answer as A."""
    return Pair(TASK.path, Case(row.input), Outcome(row.output_1), Outcome(row.output_2))
