"""A library in a process of its own: what kills or hangs it (text written to please a reward model may) leaves the run
alive. The process is kept, as loading takes a second, and started anew when it is dead."""

from __future__ import annotations

import atexit
import json
import selectors
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from rrm.core.errors import Abstain


class Worker:
    """Asks a script that answers each line of JSON with a line of JSON. Its memory is limited where the system can."""

    def __init__(self, script: str, memory: int = 2 << 30) -> None:
        self._command = [sys.executable, "-P", str(Path(__file__).with_name(script)), str(memory)]
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        atexit.register(self.close)

    def ask(self, request: dict[str, Any], wall: float, patience: float = 60.0) -> Any:
        """The script's answer. Raises `Abstain` if it takes more than `wall` seconds, dies, or says "error".

        patience: seconds that a new process may take to load its library.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                self._receive(patience, f"it did not start within {patience:g} seconds")
            pipe = self._process.stdin
            assert pipe is not None
            try:
                pipe.write(json.dumps(request).encode() + b"\n")
                pipe.flush()
            except BrokenPipeError:
                self.close()
                raise Abstain("it died") from None
            answer = self._receive(wall, f"it takes more than {wall:g} seconds")
        if "error" in answer:
            raise Abstain(answer["error"])
        return answer

    def _receive(self, wall: float, late: str) -> Any:
        process = self._process
        assert process is not None and process.stdout is not None
        deadline, received = time.monotonic() + wall, bytearray()
        with selectors.DefaultSelector() as ready:
            ready.register(process.stdout, selectors.EVENT_READ)
            while not received.endswith(b"\n"):
                if not ready.select(max(0.0, deadline - time.monotonic())):
                    self.close()
                    raise Abstain(late)
                chunk = process.stdout.read1(1 << 16)  # type: ignore[attr-defined]
                if not chunk:
                    self.close()
                    raise Abstain("it died of this text")
                received += chunk
        return json.loads(received)

    def close(self) -> None:
        """End the process, if there is one; the next question starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
