"""Write a paper; with help, judge one. The slide's own example (Leike 2019), in a world with exact truth.

paper
├── writing       is it well written?
├── novelty       is it new?
├── experiments   are the experiments correct?
│   └── steps     does this one total hold?
└── proofs        are the proofs correct?
    └── steps     does this one step hold?
"""

from __future__ import annotations

from rrm import Settings, Task
from rrm.worlds.papers import Briefs, Difficulty, divide, facts, locate, surface
from rrm_assistants import experiments, novelty, proofs, steps, writing

# Papers are long and the reward model has seen few of them: imitating the best of n exploits it least, and on
# tuning seed 0 got further in the same time than RLOO, which the assistants use.
ROOT = Settings(
    max_tokens=96, cases=64, comparisons=320, improver="best_of_n", steps=12, batch=12, lr=12e-4,
)  # fmt: skip


def paper(difficulty: Difficulty = Difficulty(), seed: int = 0, settings: Settings | None = None) -> Task:
    """The paper tree over briefs of a difficulty."""
    return Task(
        "paper",
        instruction="Which paper is better: well written, novel, experiments correct, proofs correct?",
        cases=Briefs(seed, "train", difficulty),
        facts=facts,
        surface=surface,
        locate=locate,
        divide=divide,
        assistants=(
            writing(),
            novelty(),
            experiments(assistants=[steps()]),
            proofs(assistants=[steps()]),
        ),
        aspects=("writing", "novelty", "experiments", "proofs"),
        difficulty=17,
        settings=settings or ROOT,
    )


task = paper()
