"""An event loop whose time passes only when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class VirtualLoop(asyncio.SelectorEventLoop):
    """Use it inside of `with`, which ends its tasks."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 1_000.0
        self._problems: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, problem: self._problems.append(problem))

    def time(self) -> float:
        return self._now_s

    @property
    def now_ms(self) -> int:
        return int(self._now_s * 1000)

    def __enter__(self) -> VirtualLoop:
        return self

    def __exit__(self, *_: object) -> None:
        for task in asyncio.all_tasks(self):
            task.cancel()
        self.settle()
        self.close()

    def settle(self) -> None:
        """Let everything happen that needs no time."""
        while self._ready or self._is_due(self._now_s):
            self.call_soon(self.stop)
            self.run_forever()
        if self._problems:
            problem = self._problems.pop()
            raise problem.get("exception") or AssertionError(problem["message"])

    def advance(self, time_ms: int) -> None:
        """Let time pass, and everything happen in its course."""
        until_s = self._now_s + time_ms / 1000
        self.settle()
        while self._is_due(until_s):
            self._now_s = max(self._now_s, self._scheduled[0]._when)
            self.settle()
        self._now_s = until_s
        self.settle()

    def finish(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end, however much time that takes."""
        task = self.create_task(work)
        self.settle()
        while not task.done():
            assert self._scheduled, "it waits for nothing that could happen"
            self.advance(max(1, int((self._scheduled[0]._when - self._now_s) * 1000) + 1))
        return task.result()

    def perform(self, function: Any, *args: Any) -> None:
        """Call something that needs a running loop, and let happen what follows."""
        self.call_soon(function, *args)
        self.settle()

    def _is_due(self, until_s: float) -> bool:
        # Cancelled timers are taken out by the loop itself, some time.
        while self._scheduled and self._scheduled[0]._cancelled:
            self.call_soon(self.stop)
            self.run_forever()
        return bool(self._scheduled) and self._scheduled[0]._when <= until_s
