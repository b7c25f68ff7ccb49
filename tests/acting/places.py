"""Environments for tests: small ones that work, and ones that break their word."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Line(gym.Env[Any, Any]):
    """A walk on a line, right is wanted. Its own reward is whatever `pays` says, which no agent may hear of."""

    def __init__(self, length: int = 12, pays: float = 1.0, action: str = "discrete", seen: str = "box") -> None:
        self.length, self.pays, self.kind = length, pays, seen
        self.action_space = {
            "discrete": spaces.Discrete(2), "box": spaces.Box(-1, 1, (1,), np.float32),
            "multi": spaces.MultiDiscrete([2, 3]), "binary": spaces.MultiBinary(2),
        }[action]  # fmt: skip
        box = spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = {
            "box": box, "dict": spaces.Dict({"at": box, "day": spaces.Discrete(3)}), "tuple": spaces.Tuple((box, box)),
            "picture": spaces.Box(0, 255, (4, 4, 3), np.uint8), "number": spaces.Discrete(9),
        }[seen]  # fmt: skip

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.x, self.time = float(self.np_random.uniform(-0.2, 0.2)), 0
        return self.seen(), {"x": self.x}

    def seen(self) -> Any:
        at = np.array([self.x, self.time / self.length], np.float32).clip(-1, 1)
        return {
            "box": at, "dict": {"at": at, "day": self.time % 3}, "tuple": (at, at),
            "picture": np.full((4, 4, 3), int(100 * (at[0] + 1)), np.uint8),
            "number": np.int64(4 + round(4 * float(at[0]))),
        }[self.kind]  # fmt: skip

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        push = float(np.asarray(action).ravel()[0])
        self.x += 0.1 * (push if isinstance(self.action_space, spaces.Box) else 2 * push - 1)
        self.time += 1
        return self.seen(), self.pays * self.x, False, self.time >= self.length, {"x": self.x}


class Raises(Line):
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self.time == 3:
            raise KeyError("no such wheel")
        return super().step(action)


class NoNumber(Line):
    def seen(self) -> Any:
        return np.array([np.nan if self.time == 2 else 0.0, 0.0], np.float32)


class NoReward(Line):
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        seen, reward, *rest = super().step(action)
        return seen, float("nan") if self.time == 4 else reward, *rest  # type: ignore[return-value]


class Loaded(Line):
    """Throws dice of its own."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.x += float(np.random.default_rng().normal(0, 0.01))
        return super().step(action)


class Endless(Line):
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        seen, reward, _, _, info = super().step(action)
        return seen, reward, False, False, info


class Wider(Line):
    """Its observations grow in mid-episode."""

    def seen(self) -> Any:
        return np.zeros(2 + (self.time > 1), np.float32)


class OldStep(Line):
    """As Gymnasium's ancestor did it."""

    def step(self, action: Any) -> Any:
        seen, reward, ended, _, info = super().step(action)
        return seen, reward, ended, info


class Unbounded(Line):
    def __init__(self) -> None:
        super().__init__()
        self.action_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)


class Huge(Line):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Box(0, 255, (210, 160, 3), np.uint8)


class Chosen(Line):
    """Actions by name."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = spaces.Dict({"push": spaces.Discrete(2)})


class Painted(Line):
    """Renders itself: a white square where it stands, 40 pixels high."""

    metadata = {"render_modes": ["human", "rgb_array"]}  # noqa: RUF012 (Gymnasium's own)

    def __init__(self, render_mode: str | None = None, **more: Any) -> None:
        super().__init__(**more)
        self.render_mode = render_mode

    def render(self) -> Any:
        frame = np.zeros((40, 120, 3), np.uint8)
        at = min(110, max(10, int(60 + 50 * self.x)))
        frame[10:30, at - 10 : at + 10] = 255
        return frame


class Told(Painted):
    """Renders itself in words."""

    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012 (Gymnasium's own)

    def render(self) -> Any:
        return f"at \x1b[41m{self.time}\x1b[0m"


class Blurred(Painted):
    """Cannot render after all."""

    def render(self) -> Any:
        raise RuntimeError("no lens")


KINDS = (
    Line, Painted, Told, Blurred, Raises, NoNumber, NoReward, Endless, Wider, OldStep, Unbounded, Huge, Chosen, Loaded,
)  # fmt: skip
FACTORIES = {kind.__name__: kind for kind in KINDS}
