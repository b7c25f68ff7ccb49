"""GSM8K (Cobbe et al. 2021, arXiv 2110.14168; MIT): word problems, worked answers, and four models' solutions."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, model_validator

from rrm.worlds.tables import Table

AT = "https://raw.githubusercontent.com/openai/grade-school-math/3ab487330c1f3c28650d4bcd30bb51d33a14d404"


class Problem(BaseModel):
    """A word problem. `answer` is worked: steps with `<<expression=value>>`, then `#### number`."""

    model_config = ConfigDict(frozen=True)

    question: str
    answer: str


class Solution(BaseModel):
    """What a model wrote, and whether its last line has the number of the answer key."""

    model_config = ConfigDict(frozen=True)

    is_correct: bool
    solution: str


class Solved(BaseModel):
    """A word problem and, by the name of the model that wrote it, a solution each."""

    model_config = ConfigDict(frozen=True)

    question: str
    ground_truth: str
    solutions: dict[str, Solution]

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, row: dict[str, object]) -> dict[str, object]:
        """The published rows have a column per model."""
        if "solutions" in row:
            return row
        models = {name: value for name, value in row.items() if name not in ("question", "ground_truth")}
        return {**{name: row[name] for name in ("question", "ground_truth") if name in row}, "solutions": models}


PROBLEMS = Table("gsm8k/test.jsonl", {"path": "openai/gsm8k", "name": "main", "split": "test"}, Problem)
SOLUTIONS = Table(
    "gsm8k/example_model_solutions.jsonl", f"{AT}/grade_school_math/data/example_model_solutions.jsonl", Solved
)
