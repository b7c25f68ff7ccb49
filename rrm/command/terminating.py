"""SIGTERM ends a command as Ctrl-C does: Slurm, Kubernetes and `kill` send it some seconds before they kill.

What goes on is told by a `KeyboardInterrupt`, so whoever tidies after Ctrl-C, or says how to go on, does so here, too.
Only the exit code is another: 143 (128 and the signal's number), not 130.
"""

from __future__ import annotations

import atexit
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

CODE = 128 + signal.SIGTERM
"""What a command exits with that SIGTERM has ended."""
AGAIN = 5.0
"""Seconds after which a further SIGTERM is somebody's who still waits for the end."""
MOMENT = 0.05
"""Seconds until a signal that was swallowed is sent again."""


class Terminated(KeyboardInterrupt):
    """SIGTERM."""


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Within it, SIGTERM raises `Terminated` in the main thread, once; and whatever ends then, exits with `CODE`.

    Not in another thread, nor where somebody has taken SIGTERM, or had it ignored, before. Within `AGAIN` seconds a
    further SIGTERM is ignored: launchers (torchrun, Slurm) send it to all processes, and pass theirs on, while these
    tidy up. Later it raises again.

    What Python itself swallows, SIGTERM or Ctrl-C in a weak reference's callback or a `__del__`, is sent once more.
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

    def swallowed(what: sys.UnraisableHookArgs) -> None:
        nonlocal last
        if os.getpid() != process or not issubclass(what.exc_type, KeyboardInterrupt):
            usual(what)
            return
        last = -math.inf
        number = signal.SIGTERM if issubclass(what.exc_type, Terminated) else signal.SIGINT
        again = threading.Timer(MOMENT, os.kill, (process, number))  # by then that callback is over
        again.daemon = True
        again.start()

    usual, sys.unraisablehook = sys.unraisablehook, swallowed
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
        sys.unraisablehook = usual
        if not came:  # else the process is about to end, and what it does then is not disturbed
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def last_word() -> Iterator[None]:
    """Around a whole command: once it has ended, signals do nothing more, since all they could do is to change what it
    exits with and to have Python print tracebacks of its own end, which takes up to a second with torch. `AGAIN`
    seconds later, one ends what does not end by itself."""
    numbers = (signal.SIGINT, signal.SIGTERM)

    def nothing() -> None:  # registered first, so called last: Python is about to let go of its handlers
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)

    atexit.register(nothing)
    try:
        yield
    finally:
        ended = time.monotonic()

        def late(number: int, frame: FrameType | None) -> None:
            if time.monotonic() - ended > AGAIN:
                os._exit(128 + number)

        for number in numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, late)
