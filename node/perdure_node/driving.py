"""Which call's code is running at this moment, kept where the death of the process leaves it.

A small mapped file holds the call whose method is being driven. The page cache keeps it over the
death of a process, so that nothing has to be synced; after a restart of the machine it says
nothing. Only code that runs on the event loop in a call's own task, or in one of its steps, is
seen here: threads, and tasks that a method makes, are nobody's.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import struct
from collections.abc import Coroutine, Generator
from pathlib import Path
from types import CoroutineType, GeneratorType
from typing import Any, Final, TypeVar

from perdure.ids import ObjectKey
from perdure_node.core.blames import Driven
from perdure_node.core.calls import Call

__all__ = ["DrivenCoroutine", "Driving"]

_log = logging.getLogger("perdure.node")

_FILE: Final = "driving"
_MAGIC: Final = b"perdure1"
_BYTES: Final = 4096
_LIFE: Final = struct.Struct("<8sQ36s")
"""Magic, epoch and the machine's boot."""
_SLOT: Final = 64
"""Where the call is; its first byte tells whether there is one."""
_CALL: Final = struct.Struct("<?I16sQ")
_TIMER: Final = struct.Struct("<QqHHH")
_TIMER_AT: Final = _SLOT + _CALL.size
_TEXT_AT: Final = _TIMER_AT + _TIMER.size

_PLAIN: Final = (CoroutineType, GeneratorType)
"""Coroutines that are not compiled."""


T = TypeVar("T")


class Driving:
    """The file of one node."""

    def __init__(self, mapping: mmap.mmap, epoch: int) -> None:
        self._map: mmap.mmap | bytearray = mapping
        self._epoch = epoch
        self._pack = _CALL.pack_into
        self.last = _read(mapping)
        """What ran when the process before this one died; None: nothing, or nothing is known."""

    @classmethod
    def open(cls, directory: Path, epoch: int) -> Driving:
        """Open the file of a data directory, or make it.

        Args:
            directory: Locked by this process.
            epoch: Of this life.

        Where there is no room for the file, no call is blamed for anything.
        """
        descriptor = -1
        try:
            descriptor = os.open(directory / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            # Allocated, because a mapped page that finds the disk full kills the process.
            os.posix_fallocate(descriptor, 0, _BYTES)
            return cls(mmap.mmap(descriptor, _BYTES), epoch)
        except OSError as error:
            _log.warning("calls that end this process will not be known: %s", error)
            return cls(mmap.mmap(-1, _BYTES), epoch)
        finally:
            if descriptor != -1:
                os.close(descriptor)

    def start(self) -> None:
        """Begin this life: what `last` says is not needed any more."""
        self._map[_SLOT] = 0
        _LIFE.pack_into(self._map, 0, _MAGIC, self._epoch, _boot())

    def begin(self, partition: int, call: Call) -> None:
        """Note that the code of a call runs from now on."""
        if call.firing:
            self._note_timer(call)
        request = call.request
        self._pack(self._map, _SLOT, True, partition, request.session, request.sequence)

    def outer(self) -> bytes | None:
        """Return what runs now, for `end`: driving one call may begin another one inside."""
        return bytes(self._map[_SLOT:]) if self._map[_SLOT] else None

    def end(self, outer: bytes | None) -> None:
        """Note that what `begin` has said is over, and that `outer` goes on."""
        if outer is None:
            self._map[_SLOT] = 0
        else:
            self._map[_SLOT:] = outer

    def close(self) -> None:
        """Let the file go. Methods that still run are not noted any more."""
        self._map[_SLOT] = 0
        self._map = bytearray(_BYTES)

    def _note_timer(self, call: Call) -> None:
        timer = call.timer or call.fired
        assert timer is not None
        texts = [text.encode() for text in (*call.key, timer.name)]
        text = b"".join(texts)[: _BYTES - _TEXT_AT]
        sizes = map(len, texts)
        _TIMER.pack_into(self._map, _TIMER_AT, timer.generation, timer.due_ms, *sizes)
        self._map[_TEXT_AT : _TEXT_AT + len(text)] = text


class DrivenCoroutine(Coroutine[Any, Any, T]):
    """A coroutine of a call, for a task: it is noted each time that its code runs."""

    def __init__(
        self, coroutine: Coroutine[Any, Any, T], driving: Driving, partition: int, call: Call
    ) -> None:
        self._coroutine = coroutine
        self._driving = driving
        self._partition = partition
        self._call = call

    def send(self, value: Any) -> Any:
        """Go on up to the next wait."""
        driving = self._driving
        outer = driving.outer()
        driving.begin(self._partition, self._call)
        try:
            return self._coroutine.send(value)
        finally:
            driving.end(outer)

    def throw(self, *error: Any) -> Any:
        """Go on with an exception, which keeps its traceback."""
        thrown = error[0]
        if isinstance(thrown, BaseException) and type(self._coroutine) not in _PLAIN:
            # A compiled coroutine begins the traceback anew unless it is given one.
            error = type(thrown), thrown, thrown.__traceback__
        driving = self._driving
        outer = driving.outer()
        driving.begin(self._partition, self._call)
        try:
            return self._coroutine.throw(*error)
        finally:
            driving.end(outer)

    def close(self) -> None:
        """End it where it is."""
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._coroutine.__await__()


def _read(mapping: mmap.mmap) -> Driven | None:
    magic, epoch, boot = _LIFE.unpack_from(mapping, 0)
    if magic != _MAGIC or boot != _boot() or not mapping[_SLOT]:
        return None
    _, partition, session, sequence = _CALL.unpack_from(mapping, _SLOT)
    generation, due_ms, *sizes = _TIMER.unpack_from(mapping, _TIMER_AT)
    call = Driven(partition, epoch, session, sequence)
    texts: list[str] = []
    at = _TEXT_AT
    # Only firings have written the rest, and a later call has not wiped it out.
    with contextlib.suppress(UnicodeDecodeError):
        for size in sizes:
            texts.append(mapping[at : at + size].decode())
            at += size
        type, id, name = texts
        call = call._replace(
            key=ObjectKey(type, id), timer=name, generation=generation, due_ms=due_ms
        )
    return call


def _boot() -> bytes:
    """Return what tells this boot of the machine from others, 36 bytes."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes()[:36].ljust(36)
    except OSError:
        return b" " * 36
