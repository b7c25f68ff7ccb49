"""Episodes: what an agent saw and did, as arrays beside the run's database, under the hash of what is in them.

    runs/<name>/episodes/ab/ab12...safetensors

An outcome holds the hash (`Outcome.data["episode"]`) and a description in words; whoever needs the arrays asks
`episode_of`. They are on disk before the outcome is given to anybody: no judgement speaks of arrays that a kill lost.

The hash is of where it was played, what was seen and what was done, and of nothing that is hidden: it is a part of the
outcome's identity, which names random streams and decides which outcomes are alike.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from rrm.core.errors import RRMError
from rrm.core.records import Case, Outcome
from rrm.store.files import write_atomically
from rrm.store.journal import BESIDE

Array = NDArray[Any]
FOLDER = BESIDE
"""In a run's folder."""
RECENT = 256 << 20
"""Bytes of episodes that are kept in memory."""
HIDDEN = "hidden."
WHERE, SECRET = "where", "secret"
_NAME = re.compile(r"[0-9a-f]{64}")


class EpisodeError(RRMError, LookupError):
    """The arrays of an outcome cannot be found, or are not what was kept."""


@dataclass(frozen=True)
class Episode:
    """What happened in an environment, or in a part of an episode of it.

    Attributes
    ----------
    observations: (steps + 1, numbers) float32, the last one after the last action.
    actions: (steps,) of a discrete choice, or (steps, numbers).
    ended: whether the environment ended it (it was not cut off, and is no part that ends earlier).
    hidden: per name (steps,) or (steps + 1,): the environment's own rewards ("reward"), and the numbers of its infos.
        For facts and for measuring: no agent, reward model or assistant reads them.
    where: a name of what was played: the environment, its seed, and which part of an episode of it. Together with what
        was seen and done it decides what is hidden.
    """

    observations: Array
    actions: Array
    ended: bool = False
    hidden: Mapping[str, Array] = field(default_factory=dict)
    where: str = ""

    def __post_init__(self) -> None:
        if len(self.observations) != len(self.actions) + 1:
            raise EpisodeError(
                f"{len(self.observations)} observations for {len(self.actions)} actions; there is one more than actions"
            )

    def __len__(self) -> int:
        """Steps."""
        return len(self.actions)

    @cached_property
    def name(self) -> str:
        """A hash of everything in it that is not hidden."""
        return _hash(self._seen(), self.where)

    @cached_property
    def secret(self) -> str:
        """A hash of what is hidden."""
        return _hash(self._hidden(), "")

    def part(self, first: int, steps: int) -> Episode:
        """Its steps from `first` on, so many of them."""
        last = first + steps
        hidden = {
            key: value[first : last + (len(value) > len(self))] for key, value in self.hidden.items()
        }
        ended = self.ended and last >= len(self)
        where = f"{self.where} from {first}"
        return Episode(self.observations[first : last + 1], self.actions[first:last], ended, hidden, where)

    def _seen(self) -> dict[str, Array]:
        return {"observations": self.observations, "actions": self.actions, "ended": np.array([self.ended])}

    def _hidden(self) -> dict[str, Array]:
        return {HIDDEN + key: value for key, value in self.hidden.items()}

    def written(self) -> bytes:
        """As a safetensors file."""
        texts = {WHERE: self.where, SECRET: self.secret}
        arrays = self._seen() | self._hidden() | {key: _letters(text) for key, text in texts.items()}
        return save({key: np.ascontiguousarray(value) for key, value in arrays.items()})

    @classmethod
    def read(cls, body: bytes) -> Episode:
        """What `written` gave. Raises `EpisodeError`, also for hidden arrays that are not those that were written."""
        try:
            arrays = load(body)
            where, secret = (bytes(arrays.pop(key)).decode() for key in (WHERE, SECRET))
            hidden = {key.removeprefix(HIDDEN): value for key, value in arrays.items() if key.startswith(HIDDEN)}
            found = cls(arrays["observations"], arrays["actions"], bool(arrays["ended"][0]), hidden, where)
        except (SafetensorError, KeyError, IndexError, ValueError) as error:
            raise EpisodeError(f"these are not the arrays of an episode: {error}") from error
        if found.secret != secret:
            raise EpisodeError("what is hidden of this episode is not what was kept")
        return found

    @property
    def size(self) -> int:
        """Bytes of its arrays."""
        return sum(value.nbytes for value in (*self._seen().values(), *self._hidden().values()))


def _letters(text: str) -> Array:
    return np.frombuffer(text.encode(), np.uint8)


def _hash(arrays: Mapping[str, Array], where: str) -> str:
    found = hashlib.sha256(where.encode())
    for key, value in sorted(arrays.items()):
        found.update(f"\n{key} {value.dtype.str} {value.shape}\n".encode())
        found.update(np.ascontiguousarray(value).tobytes())
    return found.hexdigest()


class Archive:
    """Episodes by name: in memory while they are recent, and in the folders of runs.

    One for the whole process: a task's functions are given an outcome and nothing else.
    """

    def __init__(self) -> None:
        self._recent: OrderedDict[str, Episode] = OrderedDict()
        self._bytes = 0
        self._held = 0
        self._folders: list[Path] = []
        self._lock = RLock()

    def open(self, folder: Path) -> None:
        """Look for episodes in this run's folder, too."""
        with self._lock:
            if folder not in self._folders:
                self._folders.append(folder)

    def close(self, folder: Path) -> None:
        """Look there no more."""
        with self._lock:
            if folder in self._folders:
                self._folders.remove(folder)

    def remember(self, episode: Episode) -> str:
        """Keep it in memory for now, in the place of an earlier one of its name. Returns that."""
        with self._lock:
            if (known := self._recent.pop(episode.name, None)) is not None:
                self._bytes -= known.size
            self._recent[episode.name] = episode
            self._bytes += episode.size
            if not self._held:
                self._forget()
        return episode.name

    def _forget(self) -> None:
        """The oldest, until the rest are few enough."""
        while self._bytes > RECENT and len(self._recent) > 1:
            _, old = self._recent.popitem(last=False)
            self._bytes -= old.size

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within it nothing is forgotten: somebody is about to ask about what is remembered now."""
        with self._lock:
            self._held += 1
        try:
            yield
        finally:
            with self._lock:
                self._held -= 1
                if not self._held:
                    self._forget()

    def keep(self, episode: Episode, folder: Path) -> str:
        """Write it into a run's folder, unless it is there. Returns its name. Raises `EpisodeError` if what is there
        hides something else: facts would be of another episode."""
        path = place_of(folder, episode.name)
        if not path.exists():
            write_atomically(path, episode.written())
        elif _kept(path, episode.name).secret != episode.secret:
            raise EpisodeError(
                f"{path} and an episode now ({episode.where}) are alike to see and differ in what is hidden (rewards, "
                "infos): the environment was changed, or does not do the same again; if on purpose, say "
                "Acting(repeatable=False)"
            )
        return self.remember(episode)

    def find(self, name: str) -> Episode:
        """The episode of this name. Raises `EpisodeError` if it is nowhere, or is not what was kept."""
        with self._lock:
            if name in self._recent:
                self._recent.move_to_end(name)
                return self._recent[name]
            folders = tuple(self._folders)
        if not _NAME.fullmatch(name):
            raise EpisodeError(f"{name[:80]!r} is no name of an episode")
        for folder in folders:
            path = place_of(folder, name)
            if path.is_file():
                found = _kept(path, name)
                self.remember(found)
                return found
        where = ", ".join(str(folder / FOLDER) for folder in folders) or "memory"
        raise EpisodeError(
            f"the arrays of the episode {name[:12]} are not in {where}; open the run they belong to, or restore them "
            "from a copy"
        )


def _kept(path: Path, name: str) -> Episode:
    try:
        found = Episode.read(path.read_bytes())
    except EpisodeError as error:
        raise EpisodeError(f"{path}: {error}; restore it from a copy") from error
    if found.name != name:
        raise EpisodeError(f"{path} is not what was kept (its hash differs); restore it from a copy")
    return found


ARCHIVE = Archive()
"""Of this process."""


def place_of(folder: Path, name: str) -> Path:
    """Where a run keeps an episode."""
    return folder / FOLDER / name[:2] / f"{name}.safetensors"


def episode_of(outcome: Outcome | Case) -> Episode:
    """The arrays of an outcome, or those that a case is about which was made of one (its data has the outcome's
    "episode"). Raises `EpisodeError` if it names none, or they are nowhere to be found."""
    name = (outcome.data or {}).get("episode")
    if not isinstance(name, str):
        raise EpisodeError(
            f"the {type(outcome).__name__.lower()} is no episode: its data names none; agents that act make them (give "
            "the model ppo)"
        )
    return ARCHIVE.find(name)

