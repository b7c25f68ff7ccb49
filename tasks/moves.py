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
from rrm.core.errors import ConfigError
from rrm.worlds.games import Game, King, Nim, Pile, Positions, facts, findings, frame
from rrm.worlds.games.drawing import pictures

# Chosen on seeds 0 to 4. The reward model reads the move alone and learns what the assisted user thinks of it: to read
# its replies, too, takes several times as long. Half of what is judged and imitated is sampled by the starting model: a
# policy that gave up a move too early stays wrong, and so does every level above it. Nothing is held out from the fit:
# in a game of 60 moves a pair that was never judged is a hole.
SETTINGS = Settings(
    rounds=1, cases=42, outcomes=8, comparisons=300, choose="random", explore=0.5, frame_cases=0, max_tokens=8,
    drafts=6, reward_sees="outcome", reward_trunk="trained", reward_epochs=100, reward_batch=8, surprise=False,
    findings=False, holdout=0.0, improver="best_of_n", steps=80, batch=24, lr=2e-3, caution=0.0, accept=0,
)  # fmt: skip


def moves(
    game: Game | None = None,
    levels: int = 5,
    settings: Settings = SETTINGS,
    cases: Literal["own", "framed"] = "own",
    warm: bool = False,
    unseen: float = 0.0,
) -> Task:
    """The tree for a game; the arguments after `settings` are those of `climb` and `Positions`."""
    if unseen and cases == "framed":
        raise ConfigError("unseen keeps positions out of a step's own cases; framed ones would bring them back in")
    game = Pile() if game is None else game
    task = Task(
        "moves",
        instruction="Which move is better: after which of them does whoever makes it win?",
        cases=Positions(game, unseen=unseen),
        facts=facts,
        frame=frame,
        findings=findings,
        drawing=pictures,
        covers=("wins",),
        aspects=("wins",),
        usual={"model": "embedded-games", "user": "playout"},
        settings=settings,
    )
    return replace(climb(task, levels, "reply", cases, warm), covers=())


def king() -> Task:
    """The tree for a king on a board of 9 x 9."""
    larger = SETTINGS.model_copy(update={"cases": 240, "comparisons": 900, "batch": 40, "steps": 150})
    return moves(King(9), 7, larger)


def nim() -> Task:
    """The tree for nim with heaps of 2, 3, 4 and 5."""
    larger = {"cases": 360, "comparisons": 2400, "batch": 40, "steps": 250, "group": 12, "drafts": 10}
    return moves(Nim(), 5, SETTINGS.model_copy(update=larger))


task = moves()
