"""SIGTERM ends a command as Ctrl-C does: Slurm, Kubernetes and `kill` send it some seconds before they kill.

What goes on is told by a `KeyboardInterrupt`, so whoever tidies after Ctrl-C, or says how to go on, does so here, too.
Only the exit code is another: 143 (128 and the signal's number), not 130.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

CODE = 128 + signal.SIGTERM
"""What a command exits with that SIGTERM has ended."""
AGAIN = 5.0
"""Seconds after which a further SIGTERM is somebody's who still waits for the end."""


class Terminated(KeyboardInterrupt):
    """SIGTERM."""


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Within it, SIGTERM raises `Terminated` in the main thread, once; and whatever ends then, exits with `CODE`.

    Not in another thread, nor where somebody has taken SIGTERM, or had it ignored, before. Within `AGAIN` seconds a
    further SIGTERM is ignored: launchers (torchrun, Slurm) send it to all processes, and pass theirs on, while these
    tidy up. Later it raises again: whoever swallows exceptions (a `__del__`, a weak reference's callback) may have had
    the first.
    """
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    process, came, last = os.getpid(), False, 0.0

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal came, last
        if os.getpid() != process:  # a child that was forked: it is not ours to tidy
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        elif not came or time.monotonic() - last > AGAIN:
            came, last = True, time.monotonic()
            raise Terminated

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    except Terminated:
        raise SystemExit(CODE) from None
    except SystemExit:
        if not came:
            raise
        raise SystemExit(CODE) from None
    finally:
        if not came:  # else the process is about to end, and what it does then is not disturbed
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
