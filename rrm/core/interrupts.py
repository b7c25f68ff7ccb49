"""Signals that wait: Ctrl-C or SIGTERM while a library calls a Python function of ours.

Python runs a signal's handler in the main thread as soon as that executes Python code. Where a C library has called a
function of ours (SQLite does, in a trigger or to ask whether a query has taken too long), the exception that the
handler raises is raised into the library, which swallows it: what was to be the end of the process becomes an error of
something that has none, or nothing at all.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """What came meanwhile; true if something did."""

    def __init__(self) -> None:
        self._taken = {number: handler for number in SIGNALS if callable(handler := signal.getsignal(number))}
        self._came: list[tuple[int, FrameType | None]] = []
        self._held = True

    def __bool__(self) -> bool:
        return bool(self._came)

    def take(self) -> None:
        """Begin to note what comes."""
        for number in self._taken:
            signal.signal(number, self._note)

    def give_back(self) -> None:
        """Whoever handles them handles them again, what came first of all."""
        self._held = False  # one that comes from now on goes on to whom it is for, also if what follows breaks off
        for number, handler in self._taken.items():
            signal.signal(number, handler)
        for came, frame in self._came:
            self._taken[signal.Signals(came)](came, frame)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._held:
            self._came.append((number, frame))
        else:
            self._taken[signal.Signals(number)](number, frame)


@contextmanager
def interrupts_held() -> Iterator[Interrupts]:
    """Within it, SIGINT and SIGTERM are noted; whoever handles them is called once it is left, however it is left.

    Only where Python code handles them (not where they kill, are ignored, or another language's handler is set), and
    only in the main thread: no other ever executes a handler.
    """
    came = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    try:
        came.take()
        yield came
    finally:
        came.give_back()
