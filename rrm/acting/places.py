"""Where agents act: Gymnasium's environments, named in a case's data, made, checked, and watched while they run.

    Case(prompt, {"env": "CartPole-v1", "kwargs": {}, "seed": 7, "steps": 500})

`env` is an id that Gymnasium knows ("CartPole-v1", "package:Id-v0"), an entry point ("package.module:Class"), or the
name of a factory that the maker was given (`rrm.acting.Acting`). Observations of any kind but pictures are flattened to
one vector of float32; a picture of few pixels is, too.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray

from rrm.core.blame import at
from rrm.core.border import BROKEN, json_able, plain
from rrm.core.errors import RRMError
from rrm.core.parts import CUT
from rrm.core.records import Case
from rrm.core.seeding import seed_of

Env = gym.Env[Any, Any]
Factories = Mapping[str, Callable[..., Env]]
LONGEST = 1000
"""Steps after which an episode is cut off, unless its case says otherwise."""
WIDEST = 20_000
"""Most numbers of one observation."""
LOOKED = 64
"""Steps of an episode that is played twice, to see whether it is the same."""
SEEDS = 1 << 31
"""Seeds of environments are below this."""


class PlaceError(RRMError, ValueError):
    """An environment cannot be made, breaks Gymnasium's contract, or raised."""


def cases(
    env: str, n: int = 64, prompt: str = "", kwargs: Mapping[str, Any] | None = None, steps: int = LONGEST,
    segment: int = 0,
) -> tuple[Case, ...]:
    """`n` cases of an environment, which differ in its seed.

    Parameters
    ----------
    prompt: what people and language models are told of it; the environment's name by default.
    kwargs: given to the environment; JSON-able.
    steps: an episode is cut off after so many.
    segment: what is compared are parts of episodes, of so many steps; 0: whole episodes.
    """
    data = {"env": env, "kwargs": dict(kwargs or {}), "steps": steps} | ({"segment": segment} if segment else {})
    json_able(data, f"the cases of {env}")
    return tuple(Case(prompt or env, data | {"seed": seed_of("environment", i) % SEEDS}) for i in range(n))


def cut_case(case: Case, steps: int) -> Case:
    """The case of parts, so many steps long, of a case's whole episodes. Raises `PlaceError` if its outcomes are parts
    as it is."""
    if Place.of(case).segment:
        raise PlaceError(
            f"{case.data['env']}: the outcomes of its cases are parts already (segment={case.data['segment']}), and "
            "parts of parts are not judged; set parts=0, or make the cases without segment"
        )
    return replace(case, data={**case.data, "segment": steps, CUT: case.id})


@dataclass(frozen=True)
class Place:
    """What a case says of where it is played.

    Attributes
    ----------
    steps: an episode is cut off after so many.
    segment: length of the parts of episodes that are outcomes; 0: whole episodes.
    """

    env: str
    kwargs: Mapping[str, Any]
    seed: int
    steps: int
    segment: int = 0

    @classmethod
    def of(cls, case: Case) -> Place:
        """Raises `PlaceError` for a case that names no environment, or says of it what cannot be."""
        data = case.data
        env, kwargs = data.get("env"), data.get("kwargs", {})
        seed, steps, segment = data.get("seed", 0), data.get("steps", LONGEST), data.get("segment", 0)
        if not isinstance(env, str) or not env:
            raise PlaceError(
                f"the case {case.prompt[:60]!r} names no environment to act in; make cases with rrm.acting.cases"
            )
        numbers = {"seed": (seed, 0), "steps": (steps, 1), "segment": (segment, 0)}
        for name, (value, least) in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise PlaceError(f"{env}: {name}={value!r} of a case; give a whole number of {least} or more")
        if not isinstance(kwargs, Mapping):
            raise PlaceError(f"{env}: kwargs={kwargs!r} of a case; give a mapping")
        return cls(env, dict(kwargs), seed, steps, segment)

    @property
    def kind(self) -> str:
        """Which environment, made how."""
        return f"{self.env} {sorted(self.kwargs.items())}"

    @property
    def name(self) -> str:
        """Of all that decides what happens here, but for what is done."""
        return f"{self.kind}, seed {self.seed}"

    def make(self, factories: Factories | None = None) -> WatchedEnv:
        """The environment, flattened and watched. Raises `PlaceError`."""
        return WatchedEnv(_plain(_made(self, factories or {}), self.env), self)


def _made(place: Place, factories: Factories) -> Env:
    try:
        if place.env in factories:
            found: object = factories[place.env](**place.kwargs)
        elif ":" in place.env and not re.search(r"-v\d+$", place.env):
            found = gym.envs.registration.load_env_creator(place.env)(**place.kwargs)
        else:
            found = gym.make(place.env, **place.kwargs)
    except (*BROKEN, ImportError, gym.error.Error) as error:
        raise PlaceError(
            f"the environment {place.env!r} cannot be made with {dict(place.kwargs)}: "
            f"{type(error).__name__}: {plain(str(error))}"
        ) from error
    from stable_baselines3.common.vec_env.base_vec_env import VecEnv  # late: with torch, which a tree does without

    if isinstance(found, gym.vector.VectorEnv | VecEnv):
        raise PlaceError(
            f"{place.env!r} gave a {type(found).__name__}, which is several environments: give one. Copies of it are "
            "made here: rrm.acting.Acting(places=n) for judging, the setting batch in training"
        )
    if not isinstance(found, gym.Env):
        raise PlaceError(f"{place.env!r} gave a {type(found).__name__}, not a gymnasium.Env")
    return found


def _plain(env: Env, name: str) -> Env:
    """With vectors of numbers as observations, and actions that policies know."""
    seen, acts = env.observation_space, env.action_space
    if not isinstance(acts, spaces.Discrete | spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary):
        raise PlaceError(
            f"{name}: actions of the kind {type(acts).__name__}; Discrete, Box, MultiDiscrete and MultiBinary are "
            "learned here. Wrap it so that an action is one of these."
        )
    if isinstance(acts, spaces.MultiDiscrete | spaces.MultiBinary) and len(acts.shape or ()) != 1:
        raise PlaceError(f"{name}: actions of shape {acts.shape}; wrap it so that they are a row of choices")
    if isinstance(acts, spaces.Discrete) and int(acts.start) != 0:
        raise PlaceError(f"{name}: its actions begin at {acts.start}; wrap it so that they begin at 0")
    if isinstance(acts, spaces.Box) and not np.issubdtype(acts.dtype, np.floating):
        raise PlaceError(
            f"{name}: its actions are a Box of {acts.dtype}; wrap it so that they are MultiDiscrete, or floats"
        )
    if isinstance(acts, spaces.Box) and not (np.isfinite(acts.low).all() and np.isfinite(acts.high).all()):
        raise PlaceError(
            f"{name}: its actions have no bounds; wrap it in gymnasium.wrappers.TransformAction, with a space that has"
        )
    try:
        width = spaces.utils.flatdim(seen)
    except (NotImplementedError, ValueError) as error:
        raise PlaceError(
            f"{name}: observations of the kind {type(seen).__name__} have no fixed size; wrap it so that they have"
        ) from error
    if width > WIDEST:
        raise PlaceError(
            f"{name}: an observation has {width} numbers, more than {WIDEST}: pictures are not learned from; wrap it "
            "(gymnasium.wrappers.ResizeObservation, GrayscaleObservation), or give features instead"
        )
    return _Vector(gym.wrappers.FlattenObservation(env), _divisors(seen))


def _divisors(seen: spaces.Space[Any]) -> NDArray[np.float32]:
    """Of each number of a flattened observation: 255 for bytes, wherever they are in it."""
    if isinstance(seen, spaces.Dict | spaces.Tuple):
        parts = seen.spaces.values() if isinstance(seen, spaces.Dict) else seen.spaces
        return np.concatenate([_divisors(part) for part in parts])
    pixels = isinstance(seen, spaces.Box) and seen.dtype == np.uint8
    return np.full(spaces.utils.flatdim(seen), 255.0 if pixels else 1.0, np.float32)


class _Vector(gym.ObservationWrapper[NDArray[np.float32], Any, Any]):
    """Observations as float32; bytes as shares of 255."""

    def __init__(self, env: Env, divisors: NDArray[np.float32]) -> None:
        super().__init__(env)
        assert isinstance(env.observation_space, spaces.Box)
        self._divisors = divisors
        box = env.observation_space
        most = float(np.finfo(np.float32).max)  # bounds of float64 may be beyond it
        low, high = (np.clip(bound, -most, most).astype(np.float32) / divisors for bound in (box.low, box.high))
        self.observation_space = spaces.Box(low, high, dtype=np.float32)

    def observation(self, observation: Any) -> NDArray[np.float32]:
        """See Gymnasium."""
        seen = np.asarray(observation, np.float32).ravel()
        if seen.shape != self._divisors.shape:
            return seen  # `WatchedEnv` says what is wrong
        return seen / self._divisors


class WatchedEnv(gym.Wrapper[NDArray[np.float32], Any, NDArray[np.float32], Any]):
    """An environment whose mistakes are errors that say where: what raises, gives no number, or never ends."""

    imagined = False
    """Whether what happens here does not."""

    def __init__(self, env: Env, place: Place) -> None:
        super().__init__(env)
        self.place, self.time = place, 0

    @property
    def name(self) -> str:
        """Of all that decides what happens here, but for what is done."""
        return self.place.name

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """See Gymnasium. Raises `PlaceError`."""
        self.time = 0
        seen, info = self._do("reset", lambda: self.env.reset(seed=seed, options=options), 2)
        if not isinstance(info, Mapping):
            self._fail(f"gave {type(info).__name__} as its info, not a dict")
        return self._numbers(seen), info

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """See Gymnasium; truncated after the place's `steps`. The action is given in the kind of its space, whoever
        chose it. Raises `PlaceError`."""
        given = np.asarray(action).astype(self.action_space.dtype) if self.action_space.shape else int(action)
        seen, reward, ended, cut, info = self._do("step", lambda: self.env.step(given), 5)
        self.time += 1
        if not isinstance(reward, int | float | np.number) or not np.isfinite(reward):
            self._fail(f"gave the reward {reward}")
        if not isinstance(info, Mapping):
            self._fail(f"gave {type(info).__name__} as its info, not a dict")
        return self._numbers(seen), float(reward), bool(ended), bool(cut) or self.time >= self.place.steps, info

    def _do(self, what: str, call: Callable[[], Any], size: int) -> Any:
        try:
            found = call()
        except RRMError:
            raise
        except BROKEN as error:
            self._fail(f"raised {type(error).__name__} in {what}: {plain(str(error))}{at(error)}", error)
        if not isinstance(found, tuple) or len(found) != size:
            self._fail(f"{what} gave {type(found).__name__}, not {size} things; it must follow Gymnasium's API")
        return found

    def _numbers(self, seen: NDArray[np.float32]) -> NDArray[np.float32]:
        if seen.shape != self.observation_space.shape:
            self._fail(f"gave an observation of {seen.size} numbers, not of {self.observation_space.shape}")
        if not np.isfinite(seen).all():
            self._fail("gave an observation with a number that is not finite")
        return seen

    def _fail(self, what: str, error: BaseException | None = None) -> None:
        raise PlaceError(
            f"{self.place.env} {what} (seed {self.place.seed}, step {self.time}); mend the environment, which "
            "gymnasium.utils.env_checker.check_env may help with"
        ) from error


def numbers_of(info: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an info."""
    kinds = (int, float, np.number, np.bool_)
    now = {key: float(value) for key, value in info.items() if isinstance(value, kinds)}
    return {str(key).encode("utf-8", "backslashreplace").decode(): value for key, value in now.items()}


def checked(
    place: Place, factories: Factories | None = None, repeatable: bool = True
) -> tuple[spaces.Box, spaces.Space[Any]]:
    """The spaces of observations and actions, of an environment that Gymnasium's `check_env` has nothing against; that
    it does not do the same again after the same seed, only if it is to be `repeatable`.

    Raises `PlaceError` with what it says.
    """
    made = _made(place, factories or {})
    try:
        _plain(made, place.env)
        with warnings.catch_warnings():  # of what may be bad taste: for its author
            warnings.simplefilter("ignore")
            check_env(made.unwrapped, skip_render_check=True)
    except (*BROKEN, gym.error.Error) as error:
        chance = "Deterministic" in str(error)
        if repeatable or not chance:
            also = ". Does it do otherwise on purpose? Say so: Acting(repeatable=False)" if chance else ""
            raise PlaceError(
                f"{place.env} does not keep Gymnasium's contract: {type(error).__name__}: {plain(str(error))}{also}"
            ) from error
    finally:
        made.close()
    env = place.make(factories)
    assert isinstance(env.observation_space, spaces.Box)
    try:
        if repeatable and not _twice_alike(env):
            raise PlaceError(
                f"{place.env} does otherwise after the same seed and actions; take all that is random from "
                "self.np_random. On purpose? Say so: Acting(repeatable=False)"
            )
        return env.observation_space, env.action_space
    finally:
        env.close()


def _twice_alike(env: WatchedEnv) -> bool:
    """Whether an episode of random actions is the same when it is played again."""
    played = []
    for _ in range(2):
        env.action_space.seed(0)
        seen, _ = env.reset(seed=env.place.seed)
        steps: list[Any] = [seen.tolist()]
        done = False
        while not done and len(steps) < LOOKED:
            seen, reward, ended, cut, _ = env.step(env.action_space.sample())
            steps.append((seen.tolist(), reward, ended))
            done = ended or cut
        played.append(steps)
    return played[0] == played[1]


def same_spaces(one: Sequence[spaces.Space[Any]], other: Sequence[spaces.Space[Any]]) -> bool:
    """Whether a policy over the one can act in the other: kinds, sizes and numbers of choices agree."""
    return all(_size(a) == _size(b) for a, b in zip(one, other, strict=True))


def _size(space: spaces.Space[Any]) -> tuple[Any, ...]:
    choices: Any = ()
    if isinstance(space, spaces.Discrete):
        choices = int(space.n)
    elif isinstance(space, spaces.MultiDiscrete):
        choices = tuple(space.nvec.ravel().tolist())
    return type(space), space.shape, choices
