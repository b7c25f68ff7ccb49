"""A job that is done in another process than the one that has the run's folder: what it reads, writes and asks there.

A worker holds nothing that could be lost. It reads the driver's journal through a link, and what it writes goes there
as it happens: so a worker that is gone is a rerun of its job, which finds all that the first attempt did, as a run that
resumes does.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrm.core.errors import RRMError
from rrm.core.judgements import Comparison, Event, Judgement, Margin, Pair
from rrm.core.parallel import World
from rrm.core.parties import Watched
from rrm.core.records import Answer, Case, Group, Spans
from rrm.core.remarks import Remarked
from rrm.core.task import Task
from rrm.store.journal import Journal
from rrm.store.store import Origin

if TYPE_CHECKING:
    from torch import Tensor

Message = tuple[str, tuple[Any, ...]]
"""What is asked of the driver, and with what: see `rrm.loop.ahead.Desk`."""
MOMENT = 1.0
"""Seconds after which what was only told is sent, too."""


class Link:
    """To the driver. What is told waits a moment, to be sent with what is told or asked next; all arrives in order.

    send: gives messages to the driver, waits, and returns its answer to the last.
    """

    def __init__(self, send: Callable[[list[Message]], Any], clock: Callable[[], float] = time.monotonic) -> None:
        self._send, self._clock = send, clock
        self._waiting: list[Message] = []
        self._sent = clock()

    def tell(self, what: str, *given: object) -> None:
        """Something that needs no answer."""
        self._waiting.append((what, given))
        if self._clock() - self._sent > MOMENT:
            self._flush()

    def ask(self, what: str, *given: object) -> Any:
        """Something that does; after it the driver has all that was told before."""
        self._waiting.append((what, given))
        return self._flush()

    def _flush(self) -> Any:
        messages, self._waiting = self._waiting, []
        answer = self._send(messages)
        self._sent = self._clock()
        return answer


class AwayJournal(Journal):
    """The driver's journal, through a link. `folder` is that of the run, which this machine may not see."""

    def __init__(self, link: Link, folder: Path | str) -> None:
        self.folder, self.world, self._link = Path(folder), World(), link

    def close(self) -> None:
        """Nothing is open."""

    # --- reading -------------------------------------------------------------------------------------

    def get(self, version: str, cases: Sequence[Case]) -> Mapping[str, Answer]:
        """See `Store.get`."""
        found: Mapping[str, Answer] = self._link.ask("get", version, tuple(cases))
        return found

    def comparisons(self, task: str | None = None, round: int | None = None) -> list[Comparison]:
        """See `Store.comparisons`."""
        found: list[Comparison] = self._link.ask("comparisons", task, round)
        return found

    def remarks(self, task: str) -> list[Remarked]:
        """See `Store.remarks`."""
        found: list[Remarked] = self._link.ask("remarks", task)
        return found

    def metrics(
        self, task: str | None = None, phase: str | None = None
    ) -> list[tuple[str, int, str, int, str, float]]:
        """See `Store.metrics`."""
        found: list[tuple[str, int, str, int, str, float]] = self._link.ask("metrics", task, phase)
        return found

    def checkpoints(self, task: str) -> dict[tuple[int, str], tuple[str, str]]:
        """See `Store.checkpoints`."""
        found: dict[tuple[int, str], tuple[str, str]] = self._link.ask("checkpoints", task)
        return found

    def sampled(self, task: str, round: int, purpose: str) -> list[Group] | None:
        """See `Store.sampled`."""
        found: list[Group] | None = self._link.ask("sampled", task, round, purpose)
        return found

    def origins(self, task: str) -> dict[tuple[int, str], list[Origin]]:
        """See `Store.origins`."""
        found: dict[tuple[int, str], list[Origin]] = self._link.ask("origins", task)
        return found

    def _read(self, path: str, sha256: str) -> bytes:
        body: bytes = self._link.ask("read", path, sha256)
        return body

    # --- writing -------------------------------------------------------------------------------------

    def save_weights(self, task: str, round: int, part: str, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """See `Journal.save_weights`. Where others were kept before (by an attempt that was thought lost), all go on
        with those."""
        from safetensors.torch import load, save

        body = save({name: t.contiguous().clone() for name, t in state.items()})
        kept: bytes | None = self._link.ask("keep", task, round, part, body, hashlib.sha256(body).hexdigest())
        return None if kept is None else load(kept)

    def keep_sampled(self, task: str, round: int, purpose: str, groups: Sequence[Group]) -> None:
        """See `Store.keep_sampled`."""
        self._link.ask("keep_sampled", task, round, purpose, tuple(groups))

    def put(self, version: str, answers: Mapping[str, Answer]) -> None:
        """See `Store.put`."""
        self._link.tell("put", version, answers)

    def log(self, task: str, round: int, phase: str, step: int, metrics: Mapping[str, float]) -> None:
        """See `Store.log`."""
        self._link.tell("log", task, round, phase, step, dict(metrics))

    def score(self, task: str, round: int, margins: Sequence[Margin]) -> None:
        """See `Store.score`."""
        self._link.tell("score", task, round, tuple(margins))

    def add(self, comparison: Comparison, position: int, spans: tuple[Spans, Spans] = ({}, {})) -> None:
        """Raises `RRMError`: the driver keeps what its user says."""
        raise RRMError("a worker keeps no judgements; they are asked of the driver, which does")


class AwayUser:
    """The driver's user, through a link. What it recalls it was told by the driver."""

    def __init__(self, link: Link, name: str) -> None:
        self._link, self.name = link, name

    def put(self, task: Task, pair: Pair, round: int, position: int, purpose: str) -> Comparison:
        """See `Distant`."""
        comparison: Comparison = self._link.ask("judge", task.path, pair, round, position, purpose)
        return comparison

    def judge(self, task: Task, pair: Pair) -> Judgement:
        """Raises `RRMError`: see `put`."""
        raise RRMError(f"{task.path}: the user {self.name!r} is asked where its judgements are kept")

    def recall(self, task: Task, judgement: Judgement) -> None:
        """See `rrm.loop.ahead.Desk`."""


class AwayExpectant(AwayUser):
    """One who wants to know a round's pairs before the first is judged."""

    def expect(self, task: Task, round: int, pairs: Sequence[Pair], folder: Path) -> None:
        """See `Expectant`; the folder is the driver's."""
        self._link.ask("expect", task.path, round, tuple(pairs))


def watching(link: Link) -> Callable[[Watched, Event], None]:
    """A watch that tells the driver's."""

    def tell(node: Watched, event: Event) -> None:
        link.tell("event", event)

    return tell
