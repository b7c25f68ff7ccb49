"""`python -m tests.label.training OUT [OVERLAP]`: a small paper tree judged by people, who are asked through OUT."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from rrm import Task, train
from rrm.users.human import HumanUser
from rrm_assistants import writing
from rrm_tasks.paper import paper
from tests.mini import SMALL

PAIRS = 5


def tree() -> Task:
    """A paper judged with the help of writing: one round of the helper, two of the paper, few pairs."""
    few = SMALL.model_copy(update={"comparisons": PAIRS, "cases": 4, "rounds": 2, "refresh": 0, "accept": 2})
    helper = replace(writing(), settings=few.model_copy(update={"max_tokens": 16, "rounds": 1}))
    return replace(paper(settings=few.model_copy(update={"max_tokens": 96})), assistants=(helper,))


def run(out: Path, overlap: int = 1) -> None:
    torch.set_num_threads(1)
    train(tree(), HumanUser(overlap=overlap, unassisted=0.3, grace=0.2, poll=0.05), "embedded", out)


if __name__ == "__main__":
    run(Path(sys.argv[1]), *map(int, sys.argv[2:]))
    print("finished")
