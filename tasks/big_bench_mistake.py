"""BIG-Bench-Mistake (Tyen et al. 2023, arXiv 2311.08516; Apache-2.0): a model's written-out steps, and which of them
people said is the first that is wrong."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from rrm.core.records import Case, Outcome
from rrm.core.tools import Tool
from rrm.worlds.tables import Table
from rrm_assistants.equalities import Equalities
from rrm_assistants.sorting import Sorting

AT = "https://raw.githubusercontent.com/WHGTyen/BIG-Bench-Mistake/90084fd567ae952cd021e465b78f0f368442230d"


class Trace(BaseModel):
    """A question, the steps of an answer, and the first step with a mistake (from 0; None: no mistake).

    In multistep_arithmetic people were not shown the first step, which was wrong in most traces in the same way (the
    paper's appendix B); so there it is never the first mistake.
    """

    model_config = ConfigDict(frozen=True)

    input: str
    steps: tuple[str, ...] = Field(min_length=1)
    target: str
    answer: str
    mistake_index: int | None = Field(ge=0)


def _table(task: str) -> Table[Trace]:
    return Table(f"big-bench-mistake/{task}.jsonl", f"{AT}/{task}.jsonl", Trace)


TRACES = {task: _table(task) for task in ("multistep_arithmetic", "word_sorting")}
PROMPTS = {
    "multistep_arithmetic": "Compute, step by step: {}",
    "word_sorting": "Sort these words alphabetically, step by step: {}",
}
SHOWN = {"multistep_arithmetic": 1, "word_sorting": 0}
"""The first step that people were shown; see `Trace`."""


def case_of(task: str, trace: Trace) -> Case:
    """The question as a case."""
    return Case(PROMPTS[task].format(trace.input), {"input": trace.input})


def outcome_of(trace: Trace) -> Outcome:
    """The steps as an outcome, a line each."""
    return Outcome("\n".join(trace.steps))


TOOLS: dict[str, Tool] = {"multistep_arithmetic": Equalities(), "word_sorting": Sorting()}
"""What checks a step of each task by computing."""
