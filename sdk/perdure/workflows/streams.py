"""Streams of a run: what its workflow and steps write, chunk by chunk, and others read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from perdure.call import Call
from perdure.codec import NotEncodable, decode, encode
from perdure.errors import BadPayload
from perdure.frames import Kind, Reply
from perdure.ids import ObjectKey
from perdure.remote import current_caller
from perdure.workflows.definitions import WORKFLOW
from perdure.workflows.metadata import current_step
from perdure.workflows.turn import current_run

__all__ = [
    "DEFAULT",
    "Reading",
    "StreamReset",
    "Writable",
    "check_stream",
    "get_writable",
    "tail_index",
]

DEFAULT: Final = "default"
"""The stream that has no name of its own."""

_NAME_BYTES_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class StreamReset:
    """Yielded to a reader of a stream: what it has got from some chunk on is void.

    The attempt of a step that had written it has failed; what follows is of another attempt.
    """

    index: int
    """Of the first chunk that is void."""


class Writable:
    """A stream of a run, to be written to by its workflow and its steps."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"<writable {self._name!r}>"

    async def write(self, chunk: object) -> None:
        """Append a chunk: any value that can be stored. Readers get it once it is durable.

        Raises:
            BadPayload: It cannot be stored.
            RuntimeError: No workflow and no step of one runs here.
        """
        try:
            packed = encode(chunk)
        except NotEncodable as error:
            text = f"the chunk{error.path}: {error.problem} cannot be stored"
            raise BadPayload(text) from None
        step = current_step.get()
        run = current_run()
        if step is not None:
            step[1].write(self._name, packed)
        elif run is not None:
            run.write(self._name, packed)
        else:
            raise RuntimeError("a stream is written to by its workflow and its steps only")


def get_writable(name: str | None = None) -> Writable:
    """Return a stream of the run whose workflow or step this is.

    Args:
        name: Of the stream; a run has one without a name, and any number of others.

    Raises:
        RuntimeError: No workflow and no step of one runs here.
        TypeError: The name is no text.
        ValueError: It is empty, too long, or has a NUL character.
    """
    if current_step.get() is None and current_run() is None:
        raise RuntimeError("get_writable() works inside of workflows and their steps only")
    return Writable(DEFAULT if name is None else check_stream(name))


def check_stream(name: object) -> str:
    """Return the name of a stream unchanged.

    Raises:
        TypeError: It is no text.
        ValueError: It is not possible.
    """
    if type(name) is not str:
        raise TypeError(f"the name of a stream is a str, not {type(name).__name__}")
    if not 0 < len(name.encode(errors="replace")) <= _NAME_BYTES_MAX or "\0" in name:
        raise ValueError(f"the name of a stream has 1 to 256 bytes and no NUL: {name!r:.100}")
    return name


class Reading:
    """An iteration over a stream, from some chunk to the end of the run."""

    def __init__(self, run: str, name: str, start: int, *, follow: bool) -> None:
        self._target = ObjectKey(WORKFLOW, run)
        self._name = name
        self._follow = follow
        self.next_index = start
        """Where another reader would have to begin to go on from here."""

    def __aiter__(self) -> AsyncIterator[Any]:
        """Yield the chunks, and a `StreamReset` where some that were yielded are void."""
        return self._all()

    async def _all(self) -> AsyncIterator[Any]:
        if self.next_index < 0:
            length = await tail_index(self._target.id, self._name) + 1
            self.next_index = max(0, length + self.next_index)
        while True:
            chunks, behind, closed = await self._page()
            for index, chunk, void in chunks:
                # Before it is handed over: whoever stops there has got it.
                self.next_index = index + 1
                yield StreamReset(void) if chunk is None else decode(chunk)
            self.next_index = behind
            if closed or (not chunks and not self._follow):
                return

    def _page(self) -> Call[tuple[list[tuple[int, bytes | None, int]], int, bool]]:
        future = current_caller().call(
            self._target,
            Kind.ASK,
            "chunks",
            arguments=encode([self._name, self.next_index, self._follow]),
            timeout_s=None,
        )
        return Call(f"stream {self._name} of {self._target}", future, _value)


async def tail_index(run: str, name: str) -> int:
    """Return the index of the last chunk of a stream; -1: there is none."""
    future = current_caller().call(ObjectKey(WORKFLOW, run), Kind.ASK, "streams")
    lengths: dict[str, int] = await Call(f"streams of {run!r}", future, _value)
    return lengths.get(name, 0) - 1


def _value(reply: Reply) -> Any:
    return decode(reply.payload)
