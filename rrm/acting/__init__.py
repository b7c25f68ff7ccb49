"""Agents that act: environments of Gymnasium's, policies of Stable-Baselines3, reward models over steps.

    maker = rrm.acting.Acting("ppo")
    rrm.train(task, rrm.BoundedUser(), maker, "runs/boat")

where the task's cases are `rrm.acting.cases("CartPole-v1")`. The extra `env` brings what it needs.
"""

from rrm.core.extras import bring

try:
    import gymnasium  # noqa: F401
    import stable_baselines3  # noqa: F401
except ImportError as error:
    raise ImportError(f"{error}: agents that act need gymnasium and stable-baselines3; {bring('env')}") from error

from rrm.acting.acting_maker import Acting
from rrm.acting.demonstrating import demonstrate
from rrm.acting.describing import table
from rrm.acting.episodes import Episode, EpisodeError, episode_of
from rrm.acting.falling_back import Fallback
from rrm.acting.imagining import Imagine
from rrm.acting.places import Place, PlaceError, cases

__all__ = [
    "Acting", "Episode", "EpisodeError", "Fallback", "Imagine", "Place", "PlaceError", "cases", "demonstrate",
    "episode_of", "table",
]  # fmt: skip
