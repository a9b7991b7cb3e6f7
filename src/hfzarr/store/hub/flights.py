"""Work that many wait for is done once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["Flights"]


class Flights:
    """What is under way on the event loop that is running, by name.

    Work that is under way on another loop is forgotten: that is the loop of the process that this
    one was forked from.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: dict[tuple[str, str], asyncio.Task[Any]] = {}

    @property
    def _here(self) -> dict[tuple[str, str], asyncio.Task[Any]]:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._tasks = loop, {}
        return self._tasks

    def find(self, verb: str, name: str = "") -> asyncio.Task[Any] | None:
        """Return what is under way, if anything."""
        return self._here.get((verb, name))

    async def once(self, verb: str, name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        """Do something, or wait for it where it is under way, and return what comes of it.

        Who stops waiting does not stop it for others.
        """
        tasks = self._here
        task = tasks.get((verb, name))
        if task is None:
            task = tasks[verb, name] = asyncio.ensure_future(work())
            task.add_done_callback(lambda done: _land(tasks, (verb, name), done))
        return await asyncio.shield(task)


def _land(
    tasks: dict[tuple[str, str], asyncio.Task[Any]], key: tuple[str, str], task: asyncio.Task[Any]
) -> None:
    tasks.pop(key, None)
    if not task.cancelled():
        # Whoever waited has it; asyncio would print what nobody waited for.
        task.exception()
