"""Make a move; with replies, judge one: Leike's picture of the recursion in a game with exact truth.

moves
└── reply                 what is the best answer to this move?
    └── reply             and to that?
        └── ...           as deep as `levels`

`rrm train moves` begins with a tiny model in the package that knows how moves are written and nothing of playing, and
its user plays on at random: every skill comes from the recursion.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from rrm import Settings, Task, climb
from rrm.worlds.games import Game, Pile, Positions, facts, findings, frame

# Chosen on seeds 0 to 4. The reward model reads the move alone and learns what the assisted user thinks of it: to read
# its replies, too, takes ten times as long. Half of what is judged and imitated is sampled by the starting model: a policy
# that gave up a move too early stays wrong, and so does every level above it.
SETTINGS = Settings(
    rounds=1, cases=42, outcomes=8, comparisons=300, choose="random", explore=0.5, frame_cases=0, max_tokens=8,
    drafts=6, reward_sees="outcome", reward_trunk="trained", reward_epochs=100, reward_batch=8, surprise=False,
    findings=False, holdout_by="pair", improver="best_of_n", steps=80, batch=24, lr=2e-3, caution=0.0, accept=0,
)  # fmt: skip


def moves(
    game: Game | None = None,
    levels: int = 4,
    settings: Settings = SETTINGS,
    cases: Literal["own", "framed"] = "own",
    warm: bool = False,
    unseen: float = 0.0,
) -> Task:
    """The tree for a game; the arguments after `settings` are those of `climb` and `Positions`."""
    game = Pile() if game is None else game
    task = Task(
        "moves",
        instruction="Which move is better: after which of them does whoever makes it win?",
        cases=Positions(game, unseen=unseen),
        facts=facts,
        frame=frame,
        findings=findings,
        covers=("wins",),
        aspects=("wins",),
        usual={"model": "embedded-games", "user": "playout"},
        settings=settings,
    )
    return replace(climb(task, levels, "reply", cases, warm), covers=())


task = moves()
