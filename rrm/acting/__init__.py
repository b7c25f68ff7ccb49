"""Agents that act: environments of Gymnasium's, policies of Stable-Baselines3, reward models over steps.

    maker = rrm.acting.Acting("ppo")
    rrm.train(task, rrm.BoundedUser(), maker, "runs/boat")

where the task's cases are `rrm.acting.cases("CartPole-v1")`. The extra `env` brings what it needs.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from rrm.core.extras import bring
from rrm.core.late import imported_late

if _missing := [name for name in ("gymnasium", "stable_baselines3") if find_spec(name) is None]:
    raise ImportError(
        f"No module named {_missing[0]!r}: agents that act need gymnasium and stable-baselines3; {bring('env')}"
    )

from rrm.acting.describing import table
from rrm.acting.episodes import Episode, EpisodeError, episode_of
from rrm.acting.places import Place, PlaceError, cases

if TYPE_CHECKING:
    from rrm.acting.acting_maker import Acting
    from rrm.acting.demonstrating import demonstrate
    from rrm.acting.falling_back import Fallback
    from rrm.acting.imagining import Imagine

__all__ = [
    "Acting", "Episode", "EpisodeError", "Fallback", "Imagine", "Place", "PlaceError", "cases", "demonstrate",
    "episode_of", "table",
]  # fmt: skip

_LATE = {
    "Acting": "rrm.acting.acting_maker",
    "Fallback": "rrm.acting.falling_back",
    "Imagine": "rrm.acting.imagining",
    "demonstrate": "rrm.acting.demonstrating",
}
"""What learns needs torch, which takes seconds: a tree says where its agents act without."""


if not TYPE_CHECKING:  # so that type checkers find a misspelled name
    __getattr__ = imported_late(__name__, _LATE)
