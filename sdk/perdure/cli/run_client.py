"""Questions about runs, asked by a process that has none of the user's classes."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from perdure.call import Call
from perdure.cli.interrupting import run_until_interrupted
from perdure.codec import decode, encode
from perdure.errors import HookNotFound, ObjectNotFound
from perdure.frames import Encoding, Kind, Reply
from perdure.ids import ObjectKey, check_object_id
from perdure.runtime import connect, current_client
from perdure.workflows.definitions import WORKFLOW
from perdure.workflows.runs import RunStatus, get_run
from perdure.workflows.tokens import HOOK_TYPE

if TYPE_CHECKING:
    from perdure.workflows.events import RunEvent

__all__ = ["Chunk", "Details", "RunClient", "on_cluster"]

_R = TypeVar("_R")

_PAUSE_S: Final = 0.01
_PAUSE_MAX_S: Final = 0.25


class Details(NamedTuple):
    """What a run was given, and what it gives."""

    encoding: int
    """Of the arguments."""
    arguments: bytes
    code: int
    """0: it has ended well, or not at all."""
    result: bytes


class Chunk(NamedTuple):
    """A part of a stream, or the word that an earlier part is void."""

    at: int
    """Its index."""
    data: bytes | None
    void_from: int
    """Without data: the first index that is void, of those before this one."""


def on_cluster(
    address: str, timeout_s: float, work: Callable[[RunClient], Coroutine[Any, Any, _R]]
) -> _R:
    """Do something as a client of a cluster, and return what comes of it.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """

    async def connected() -> _R:
        client = await connect(address, routing="router", timeout=timeout_s)
        try:
            return await work(RunClient(timeout_s))
        except BaseException:
            # Whoever presses Ctrl-C does not want to wait for answers.
            await client.close(0.0)
            raise

    return run_until_interrupted(connected())


class RunClient:
    """Asks about runs, and tells them things."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    @property
    def partition_count(self) -> int:
        """How many partitions the cluster has."""
        count = current_client().partition_count
        assert count is not None  # It is connected.
        return count

    async def status(self, id: str) -> RunStatus:
        """Return how a run stands.

        Raises:
            RunNotFound: There is no such run.
        """
        return RunStatus(**await self._ask(id, "status"))

    async def details(self, id: str) -> Details:
        """Return what a run was given, and what it gives.

        Raises:
            RunNotFound: There is no such run.
        """
        told = await self._ask(id, "details")
        encoding, arguments = told["input"]
        return Details(encoding, arguments, told["code"], told["result"])

    async def events(self, id: str) -> list[RunEvent]:
        """Return all events of a run since it was continued as new.

        Raises:
            RunNotFound: There is no such run.
        """
        events: list[RunEvent] = []
        while page := await get_run(id).events(len(events)):
            events += page
        return events

    async def streams(self, id: str) -> dict[str, int]:
        """Return the streams of a run, and how many indexes each has."""
        return await get_run(id).streams()

    async def runs(
        self, workflow: str | None, status: str | None, prefix: str, after: str, page: int
    ) -> AsyncIterator[RunStatus]:
        """Iterate over runs in the order of their ids.

        Args:
            workflow: Only runs of this one.
            status: Only runs that stand so.
            prefix: Of their ids.
            after: Only ids behind this one.
            page: How many runs to ask each partition for at once.
        """
        count = self.partition_count

        async def page_of(partition: int, start: str) -> tuple[list[RunStatus], str | None]:
            future = current_client().call(
                ObjectKey(WORKFLOW, prefix),
                Kind.ASK,
                "list",
                arguments=encode([start, workflow, status, page]),
                partition=partition,
                timeout_s=self._timeout_s,
            )
            rows, behind = await Call("list_runs()", future, _value)
            return [RunStatus(**row) for row in rows], behind

        firsts = await asyncio.gather(*(page_of(number, after) for number in range(count)))
        pages = {number: (iter(rows), behind) for number, (rows, behind) in enumerate(firsts)}

        async def next_of(partition: int) -> RunStatus | None:
            while True:
                rows, behind = pages[partition]
                row = next(rows, None)
                if row is not None or behind is None:
                    return row
                more, behind = await page_of(partition, behind)
                pages[partition] = iter(more), behind

        ahead = [(await next_of(number), number) for number in range(count)]
        waiting = [(run.id.encode(), number, run) for run, number in ahead if run is not None]
        heapq.heapify(waiting)
        while waiting:
            _, number, run = waiting[0]
            yield run
            following = await next_of(number)
            if following is None:
                heapq.heappop(waiting)
            else:
                heapq.heapreplace(waiting, (following.id.encode(), number, following))

    async def cancel(self, id: str, reason: str) -> bool:
        """Tell a run to end. Returns whether it was running.

        Raises:
            RunNotFound: There is no such run.
        """
        return await get_run(id).cancel(reason)

    async def wake(self, id: str) -> bool:
        """End the sleeps of a run. Returns whether there were any.

        Raises:
            RunNotFound: There is no such run.
        """
        return await get_run(id).wake_up()

    async def resume(self, token: str, payload: bytes, wait_s: float, *, reply: bool) -> str:
        """Send a payload, in JSON, to the hook of a token, and return the reply, in JSON.

        Args:
            token: Of the hook.
            payload: For it.
            wait_s: How long to wait for the hook if there is none yet.
            reply: Wait for the reply. Else null is returned once the payload is durable.

        Raises:
            HookNotFound: There is no such hook.
            HookClosed: It takes nothing any more.
            BadPayload: It takes something else.
            DeadlineExceeded: There was no reply in time.
        """
        check_object_id(token)
        until, pause_s = time.monotonic() + wait_s, _PAUSE_S
        while True:
            try:
                return await self._resume(token, payload, reply=reply)
            except HookNotFound:
                if time.monotonic() + pause_s > until:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)

    async def _resume(self, token: str, payload: bytes, *, reply: bool) -> str:
        asked = current_client().call(
            ObjectKey(HOOK_TYPE, token), Kind.GET, "*", have=(0, 0), timeout_s=self._timeout_s
        )
        try:
            found = await Call(f"resume of {token!r}", asked, lambda reply: reply)
        except ObjectNotFound:
            raise HookNotFound(token) from None
        assert found.changes is not None
        run: str = decode(found.changes.values["run"])
        answer = current_client().call(
            ObjectKey(WORKFLOW, run),
            Kind.RESUME if reply else Kind.NOTIFY,
            token,
            arguments=payload,
            encoding=Encoding.JSON,
            timeout_s=self._timeout_s,
        )
        return await Call(f"resume of {token!r}", answer, lambda reply: reply.payload.decode())

    async def chunks(
        self, id: str, stream: str, start: int, *, follow: bool
    ) -> AsyncIterator[Chunk]:
        """Iterate over a stream, until it is at its end or the run is.

        Args:
            id: Of the run.
            stream: Its name.
            start: The first chunk; a negative one counts from the last.
            follow: Wait for what is not written yet.

        Raises:
            RunNotFound: There is no such run.
        """
        if start < 0:
            start = max(0, (await self.streams(id)).get(stream, 0) + start)
        while True:
            future = current_client().call(
                ObjectKey(WORKFLOW, id),
                Kind.ASK,
                "chunks",
                arguments=encode([stream, start, follow]),
                timeout_s=None,
            )
            found, start, is_closed = await Call(f"stream {stream} of {id}", future, _value)
            for index, data, void_from in found:
                yield Chunk(index, data, void_from)
            if is_closed or (not found and not follow):
                return

    async def _ask(self, id: str, question: str) -> dict[str, Any]:
        key = ObjectKey(WORKFLOW, check_object_id(id))
        future = current_client().call(key, Kind.ASK, question, timeout_s=self._timeout_s)
        told: dict[str, Any] = await Call(f"{question} of {id}", future, _value)
        return told


def _value(reply: Reply) -> Any:
    return decode(reply.payload)
