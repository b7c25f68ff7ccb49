"""A game against an opponent: an agent that acts, judged in the words of the moves world (`rrm_tasks.moves`).

match                     PPO makes a move in an environment, and the game is broken off
└── reply                 a language model: what is the best answer to this move?
    └── reply             and to that?
        └── ...           as deep as `levels`

`rrm train match` has both: the agent acts (`rrm.worlds.games.match`), its assistants write. Its user plays on at
random, from where the replies lead; alone it thinks some moves bad that win ("move 37").

`whole` is the same game played to its end, where anyone sees who has won, and needs no help.
"""

from __future__ import annotations

from dataclasses import replace

from rrm import Case, Fact, Outcome, Pool, Sealed, Settings, Task
from rrm.acting import cases, episode_of
from rrm.worlds.games import Game, King, facts, findings, frame
from rrm.worlds.games.drawing import pictures
from rrm.worlds.games.match import ENV, openings
from rrm_tasks.moves import SETTINGS as MOVES
from rrm_tasks.moves import moves

SETTINGS = Settings(
    rounds=1, cases=24, outcomes=8, comparisons=200, choose="random", accept=0, frame_cases=0, reward_sees="outcome",
    reward_epochs=100, reward_batch=8, holdout=0.0, caution=0.0, steps=60, batch=64, lr=1e-2, kl=0.0, max_kl=1000.0,
)  # fmt: skip
WRITING = MOVES.model_copy(update={"cases": 24, "comparisons": 200, "steps": 60})
WHOLE = Settings(
    rounds=2, cases=50, outcomes=4, comparisons=100, explore=0.5, accept=0, frame_cases=0, reward_sees="outcome",
    reward_epochs=40, reward_batch=8, steps=40, batch=16, lr=3e-3, kl=0.0, max_kl=1000.0,
)  # fmt: skip


def match(
    game: Game | None = None, levels: int = 3, settings: Settings = SETTINGS, writing: Settings = WRITING
) -> Task:
    """The tree for a game.

    Parameters
    ----------
    levels: of replies; 0: the user plays on from the move itself.
    settings, writing: of the agent that acts, and of those that reply.
    """
    game = King(5) if game is None else game
    below = () if not levels else (replace(moves(game, levels - 1, writing), name="reply", usual={}),)
    return Task(
        "match",
        instruction="Which move is better: after which of them does whoever makes it win?",
        facts=facts,
        cases=Pool(openings(game)),
        frame=frame,
        findings=findings,
        drawing=pictures,
        assistants=below,
        aspects=("wins",),
        usual={"model": "ppo+embedded-games" if levels else "ppo", "user": "playout"},
        settings=settings,
    )


def won(case: Case, outcome: Outcome) -> list[Fact]:
    """That the agent won."""
    return [Fact("won", "winning", Sealed(bool(episode_of(outcome).hidden["won"][-1])))]


def whole(game: Game | None = None, errs: float = 0.2, settings: Settings = WHOLE, n: int = 128) -> Task:
    """Games to their end against an opponent who errs at this rate, each from a position that the agent could win."""
    game = King(5) if game is None else game
    longest = sum(game.start)
    return Task(
        "whole",
        instruction="Which game was won?",
        facts=won,
        cases=Pool(cases(ENV, n, "Win the game.", {"rules": dict(game.rules()), "errs": errs}, longest)),
        aspects=("winning",),
        usual={"model": "ppo"},
        settings=settings,
    )


task = match()
