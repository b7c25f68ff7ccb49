"""One store for all processes of a run: the main process reads and writes it, and the others are told what it read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from rrm.core.judgements import Comparison, Margin
from rrm.core.parallel import World
from rrm.core.records import Answer, Case, Group, Spans
from rrm.core.remarks import Remarked
from rrm.store.store import Store


class SharedStore(Store):
    """A `Store` that all processes use in step. Reading costs an exchange; writing is nothing off the main process."""

    def __init__(self, path: Path, world: World) -> None:
        self.world = world
        world.once(partial(super().__init__, path))

    def close(self) -> None:
        """See `Store.close`."""
        if self.world.main:
            super().close()

    # --- reading -------------------------------------------------------------------------------------

    def get(self, version: str, cases: Sequence[Case]) -> Mapping[str, Answer]:
        """See `Store.get`."""
        return self.world.once(partial(super().get, version, cases))

    def comparisons(self, task: str | None = None, round: int | None = None) -> list[Comparison]:
        """See `Store.comparisons`."""
        return self.world.once(partial(super().comparisons, task, round))

    def remarks(self, task: str) -> list[Remarked]:
        """See `Store.remarks`."""
        return self.world.once(partial(super().remarks, task))

    def rounds(self) -> list[tuple[str, int]]:
        """See `Store.rounds`."""
        return self.world.once(super().rounds)

    def metrics(
        self, task: str | None = None, phase: str | None = None
    ) -> list[tuple[str, int, str, int, str, float]]:
        """See `Store.metrics`."""
        return self.world.once(partial(super().metrics, task, phase))

    def checkpoints(self, task: str) -> dict[tuple[int, str], tuple[str, str]]:
        """See `Store.checkpoints`."""
        return self.world.once(partial(super().checkpoints, task))

    def counts(self) -> dict[str, int]:
        """See `Store.counts`."""
        return self.world.once(super().counts)

    def sampled(self, task: str, round: int, purpose: str) -> list[Group] | None:
        """See `Store.sampled`."""
        return self.world.once(partial(super().sampled, task, round, purpose))

    # --- writing -------------------------------------------------------------------------------------

    def keep_sampled(self, task: str, round: int, purpose: str, groups: Sequence[Group]) -> None:
        """See `Store.keep_sampled`."""
        if self.world.main:
            super().keep_sampled(task, round, purpose, groups)

    def put(self, version: str, answers: Mapping[str, Answer]) -> None:
        """See `Store.put`."""
        if self.world.main:
            super().put(version, answers)

    def add(self, comparison: Comparison, position: int, spans: tuple[Spans, Spans] = ({}, {})) -> None:
        """See `Store.add`."""
        if self.world.main:
            super().add(comparison, position, spans)

    def log(self, task: str, round: int, phase: str, step: int, metrics: Mapping[str, float]) -> None:
        """See `Store.log`."""
        if self.world.main:
            super().log(task, round, phase, step, metrics)

    def score(self, task: str, round: int, margins: Sequence[Margin]) -> None:
        """See `Store.score`."""
        if self.world.main:
            super().score(task, round, margins)

    def checkpoint(self, task: str, round: int, part: str, path: str, sha256: str) -> None:
        """See `Store.checkpoint`."""
        if self.world.main:
            super().checkpoint(task, round, part, path, sha256)
