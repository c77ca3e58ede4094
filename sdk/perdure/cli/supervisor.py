"""Programs kept alive together, and ended in order.

Invariants:
  * No program outlives this process: each is told our pid and has the kernel kill it with us.
  * All stay in our process group, so that a kill -9 of the group ends all at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from perdure.cli.child import Child, Program

__all__ = ["Supervisor"]


class Supervisor:
    """Runs programs on the running event loop."""

    def __init__(
        self, groups: Sequence[Sequence[Program]], print_line: Callable[[str, str], None]
    ) -> None:
        """Prepare; `run` starts them.

        Args:
            groups: All start together. The programs of a group end side by side, and only then
                those of the next one.
            print_line: As in `Child`.
        """
        self._groups = [[Child(program, print_line) for program in group] for group in groups]
        self._children = [child for group in self._groups for child in group]

    async def run(self, until_served: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
        """Start all programs, keep them alive until `stop` is set, and end them.

        Args:
            until_served: Ends when everything works. From then on a program is started again
                however often it dies; before, one that does not start ends everything.
            stop: Set by whoever wants the end.

        Raises:
            CommandFailed: A program does not start. All others have ended then.
        """
        served = asyncio.create_task(until_served)
        stopped = asyncio.create_task(stop.wait())
        kept = [asyncio.create_task(child.keep_alive()) for child in self._children]
        try:
            await _first_of(served, stopped, *kept)
            for child in self._children:
                child.has_served = True
            await _first_of(stopped, *kept)
        finally:
            served.cancel()
            stopped.cancel()
            for group in self._groups:
                await asyncio.gather(*(child.end() for child in group))
            await asyncio.gather(served, stopped, *kept, return_exceptions=True)

    def kill(self) -> None:
        """End all programs at once."""
        for child in self._children:
            child.kill()

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of the programs that run now, by name."""
        pids = ((child.program.name, child.pid) for child in self._children)
        return {name: pid for name, pid in pids if pid is not None}

    @property
    def killed(self) -> list[str]:
        """The programs that did not end in their time and had to be killed."""
        return [child.program.name for child in self._children if child.was_killed]


async def _first_of(*tasks: asyncio.Task[Any]) -> None:
    """Wait for the first, and raise what one has raised."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
