"""Where workers leave letters for the driver of a run, and wait: see `rrm.loop.on_ray`.

By itself, because its process needs nothing else of what is here: torch alone takes it seconds, in which the workers,
which start at the same time, want the processor.
"""

from __future__ import annotations

import asyncio


class Mailbox:
    """An actor: workers leave letters and wait; the driver takes them and answers."""

    def __init__(self) -> None:
        self._letters: list[tuple[int, str, bytes]] = []
        self._come = asyncio.Event()
        self._answers: dict[int, asyncio.Future[bytes]] = {}
        self._number = 0

    async def ask(self, path: str, messages: bytes) -> bytes:
        """The answer to a letter, when there is one."""
        self._number += 1
        number, answer = self._number, asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        self._letters.append((number, path, messages))
        self._come.set()
        given: bytes = await answer
        return given

    async def take(self) -> list[tuple[int, str, bytes]]:
        """The letters that have come; waits for the first."""
        await self._come.wait()
        self._come.clear()
        letters, self._letters = self._letters, []
        return letters

    async def answer(self, number: int, answer: bytes) -> None:
        """Give an answer to whoever waits for it, if it still does."""
        if (waiting := self._answers.pop(number, None)) is not None and not waiting.done():
            waiting.set_result(answer)
