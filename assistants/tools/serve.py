"""The other end of `worker.Worker`: a loop that answers lines of JSON. Imported by scripts only."""

import contextlib
import json
import os
import sys
import threading
import time

try:
    import resource
except ImportError:  # not a Unix
    resource = None


def serve(answer) -> None:
    """Answer every line with what `answer` makes of it, until there are no more; what it raises for a bad line is
    answered as {"error": ...}."""
    if resource is not None:
        memory = int(sys.argv[1])
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    lines, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not stand among the replies
    print("{}", file=replies, flush=True)
    for line in lines:
        try:
            reply = answer(json.loads(line))
        except (ValueError, RecursionError, MemoryError) as error:
            reply = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
        print(json.dumps(reply), file=replies, flush=True)


def _end_with(parent: int) -> None:
    """End this process when who started it is gone, however that ended: what a text hangs would go on for ever. (The
    kernel's own signal for it comes when the *thread* that started us ends.)"""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
