"""A safe action to fall back on, where the reward model does not know what to think of what the agent wants to do.

Leike et al. 2018 (arXiv 1811.07871), section 5.9: an agent may fall back to risk-averse behavior where uncertainty is
large, on inputs unlike those that anybody judged. Uncertain is an ensemble (`rrm.acting.step_reward`) of which the
members disagree more about a step than they do about nearly all steps that were judged: the bound is a quantile of
their disagreement there (Hendrycks and Gimpel 2017, arXiv 1610.02136, tell inputs apart by such a bound on confidence).
What is safe nobody learns: the environment's author says it, as an attribute `safe_action`, or who trains.

A policy carries a copy of the reward model that it was last optimized against, among its weights: so it is kept, found
again and sent elsewhere with them. By that it falls back in whatever is sampled of it, to be judged and when it is at
work. Not in its own steps of an improvement: who is kept from all that was rarely judged learns little of it, so that
it is not judged later either (the vase, docs/results/challenges_acting.md); there `settings.caution` holds it back. The
weights that an agent began with (`settings.explore`) carry no copy, and nothing holds back an adversary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from rrm.acting.places import PlaceError, WatchedEnv
from rrm.acting.step_reward import StepReward
from rrm.core.errors import RRMError

SAFE = "safe_action"
"""Attribute of an environment: what may be done in it in any case."""
CARRIED = "fallback."
"""Begins the names of a reward model's tensors among those of a policy."""


@dataclass(frozen=True)
class Fallback:
    """When an agent falls back, and on what. Raises `RRMError` for what cannot be.

    Parameters
    ----------
    quantile: share of the steps that were judged, about which the reward model's members disagree less than where it
        falls back; above 0, 1 at most.
    action: the safe one, as the environment takes it: a number, or a list of numbers; None: the environment's attribute
        `safe_action`.
    """

    quantile: float = 0.99
    action: Any = None

    def __post_init__(self) -> None:
        number = not isinstance(self.quantile, bool) and isinstance(self.quantile, int | float)
        if not number or not 0 < self.quantile <= 1:
            raise RRMError(
                f"fallback={self.quantile!r}: give a share of the steps that were judged, above 0 and at most 1, as in "
                "fallback=0.99; and the action beside it, if the environment names none: "
                "fallback={'quantile': 0.99, 'action': 0}"
            )

    @classmethod
    def of(cls, option: Any) -> Fallback:
        """As the option `fallback` says it: the quantile, or a dict of parameters. Raises `RRMError`."""
        if not isinstance(option, Mapping):
            return cls(option)
        if unknown := sorted(option.keys() - {"quantile", "action"}):
            raise RRMError(f"fallback has no {unknown[0]!r}; there are quantile and action")
        return cls(**option)

    @property
    def said(self) -> str:
        """In a maker's name."""
        return f"fallback={self.quantile!r}" if self.action is None else f"fallback={self.quantile!r} to {self.action}"


class FallbackGuard:
    """What a policy carries to fall back by: a reward model, fitted or not yet.

    Parameters
    ----------
    reward: a reward model of its own, with a quantile of doubt. action: as of `Fallback`.
    """

    def __init__(self, reward: StepReward, action: Any = None) -> None:
        self.reward, self.action = reward, action

    def take(self, reward: StepReward) -> None:
        """Go by this reward model as it is now."""
        self.reward.load(reward.state())

    def drop(self) -> None:
        """Go by none."""
        self.reward.fitted = False

    @property
    def holds(self) -> bool:
        """Whether it goes by a reward model."""
        return self.reward.fitted

    def unsure(self, seen: Tensor, actions: Tensor) -> NDArray[np.bool_]:
        """(n,) where it falls back, of observations (n, numbers) and actions as environments take them."""
        found: NDArray[np.bool_] = (self.reward.doubt(seen, actions) > self.reward.bound).numpy()
        return found

    def safe(self, env: WatchedEnv) -> Any:
        """The safe action there. Raises `PlaceError` if there is none, or it is none of the environment's."""
        action = self.action
        if action is None:
            try:
                action = env.get_wrapper_attr(SAFE)
            except AttributeError:
                raise PlaceError(
                    f"{env.place.env} names no safe action to fall back on: give it an attribute {SAFE}, or say it: "
                    "Acting(fallback=Fallback(action=...)), --model \"ppo(fallback={'action': ...})\""
                ) from None
        space = env.action_space
        try:
            given = np.asarray(action).astype(space.dtype)
        except (TypeError, ValueError):
            given = np.asarray(np.nan)
        if isinstance(space, spaces.Box) and given.shape == () and space.shape:
            given = np.full(space.shape, given)
        if not space.contains(given if space.shape else given[()]):
            raise PlaceError(f"{env.place.env}: the safe action {action!r} is none of its actions ({space})")
        return given

    # --- storage -------------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """What it goes by; empty: none."""
        return {CARRIED + name: value for name, value in self.reward.state().items()} if self.holds else {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go by what `state` gave. Raises as `StepReward.load`."""
        if state:
            self.reward.load({name.removeprefix(CARRIED): value for name, value in state.items()})
        else:
            self.drop()

    @property
    def version(self) -> str:
        """A hash of what it goes by."""
        return self.reward.version if self.holds else ""
