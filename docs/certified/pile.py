"""A pile of nine stones: a mover, judged with the help of one who replies. Small, so that its run can be handed on."""

from rrm.worlds.games import Pile
from rrm_tasks.moves import SETTINGS, moves

SMALL = SETTINGS.model_copy(update={
    "rounds": 1, "cases": 24, "comparisons": 160, "steps": 30, "reward_trunk": "frozen", "reward_sees": "assistance",
    "surprise": True, "findings": True, "holdout": 0.2, "accept": 16,
})  # fmt: skip
task = moves(Pile(9), 1, SMALL)
