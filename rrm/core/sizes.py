"""Sizes of a training: one word for the dozen settings that are made smaller for a try.

A size is what a setting is at most: what a tree has set lower stays, and nothing is ever made larger. Lengths of
outcomes stay as they are, since what is cut short can often not be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from rrm.core.settings import Settings
from rrm.core.task import Task

Size = Literal["smoke", "small", "full"]
MOST: Mapping[Size, Mapping[str, float]] = {
    "smoke": {
        "rounds": 1, "until": 0.0, "cases": 8, "outcomes": 3, "comparisons": 12, "frame_cases": 4, "drafts": 2,
        "reward_epochs": 1, "steps": 1, "batch": 4, "group": 4, "accept": 0,
    },
    "small": {
        "rounds": 1, "until": 0.0, "cases": 24, "outcomes": 4, "comparisons": 96, "frame_cases": 8, "drafts": 2,
        "reward_epochs": 20, "steps": 8, "batch": 8, "group": 4, "accept": 8,
    },
    "full": {},
}  # fmt: skip
"""Size -> setting -> its most. smoke: everything runs, nothing is learned. small: something is learned, in one round.
full: the tree's own settings."""


def shrunk(settings: Settings, size: Size) -> Settings:
    """The settings, none above the size's; those that are not are as if nobody had touched them."""
    smaller = {key: most for key, most in MOST[size].items() if getattr(settings, key) > most}
    return settings.model_copy(update=smaller)


def sized(task: Task, size: Size) -> Task:
    """The tree in this size; finished assistants stay what they are.

    size: "smoke" (everything runs, nothing is learned), "small" (something is, in one round), "full" (as it is).
    """
    if size == "full":
        return task
    below = tuple(sized(sub, size) if isinstance(sub, Task) else sub for sub in task.assistants)
    return replace(task, assistants=below, settings=shrunk(task.settings, size))
