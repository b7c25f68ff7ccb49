"""The demo in miniature: `python -m tests.mini OUT` trains a small paper tree on the embedded model."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from rrm import Assistant, BoundedUser, Settings, Task, train
from rrm_assistants import proofs, steps, writing
from rrm_tasks.paper import paper

SMALL = Settings(
    rounds=2, cases=8, outcomes=3, comparisons=12, steps=2, batch=4, group=4, reward_epochs=1, frame_cases=4, lr=3e-4,
    accept=4,
)  # fmt: skip


def tree() -> Task:
    """A paper judged with the help of writing, and of proofs, which is judged with the help of steps."""
    small = replace(writing(), settings=SMALL.model_copy(update={"max_tokens": 16}))
    leaf = steps(settings=SMALL.model_copy(update={"max_tokens": 32, "reward_trunk": "trained"}))
    deep = proofs(assistants=[leaf])
    deep = replace(deep, settings=SMALL.model_copy(update={"max_tokens": 48, "drafts": 2}))
    whole = paper(settings=SMALL.model_copy(update={"max_tokens": 96}))
    return replace(whole, assistants=(small, deep))


def run(out: Path) -> Assistant:
    torch.set_num_threads(1)
    return train(tree(), BoundedUser(), "embedded", out)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
    print("finished")
