"""The one node inside this process, whichever of its event loops need it.

Invariants:
  * At most one node is open at a time: it holds the data directory.
  * It lives in the loop that needed it first. When that loop ends the node closes, and the next
    loop that needs it opens it again.
  * Everything of the node happens on its loop; clients of other loops reach it from thread to
    thread.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Final, Protocol

from perdure.frames import AnswerFrame, CallFrame
from perdure.kept_task import KeptTask, keep
from perdure.transport import Listener, Transport, Welcome

__all__ = ["EmbeddedNode", "EmbeddedTransport", "close_here", "data_directory"]


class EmbeddedNode(Protocol):
    """What `perdure_node.embedded.open_embedded(data_directory)` returns."""

    def transport(self) -> Transport:
        """Return a new transport to the node, for use on the node's loop."""
        ...

    async def close(self, longest_s: float) -> None:
        """Finish what is under way, in this time, and let the directory go."""

    def abandon(self) -> None:
        """Let the directory go at once: the node's loop is gone, as after kill -9."""


class _Hosting:
    """A node from before it opens until after it has closed."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.opened: Future[EmbeddedNode | None] = Future()
        """None: whoever was to open it has been cancelled."""
        self.gone: Future[None] = Future()
        self.closing = False
        self.attached: set[EmbeddedTransport] = set()


_OPEN_S: Final = 10.0
"""How long a client that leaves waits for a node that is just being opened or closed."""

_lock = threading.Lock()
"""Guards `_hosting` and its fields: loops of several threads come here."""
_hosting: _Hosting | None = None


def data_directory() -> Path:
    """Return where the embedded node keeps its data."""
    return Path(os.environ.get("PERDURE_DATA") or ".perdure")


class EmbeddedTransport:
    """A `Transport` to the process's node, which it opens if nobody has.

    When the node closes because its loop ends, it is opened again here.
    """

    def __init__(self, on_failed: Callable[[Exception], None]) -> None:
        """Prepare to connect.

        Args:
            on_failed: Told, once and for all, why the node cannot be opened.
        """
        self._on_failed = on_failed
        self._loop = asyncio.get_running_loop()
        self._runner: KeptTask[None] | None = None
        self._inner: Transport | None = None
        self._leave: asyncio.Future[None] | None = None
        self._closing = False

    def start(self, listener: Listener) -> None:
        """Open or join the node."""
        self._runner = keep(self._run(listener), name="perdure embedded node")

    def send(self, frames: list[CallFrame]) -> None:
        """Send frames to the node."""
        if self._inner is not None:
            self._inner.send(frames)

    async def close(self) -> None:
        """Leave the node."""
        self._closing = True
        if self._runner is None:
            return
        self._leave_now()
        # A node that is just being opened is not torn off.
        await asyncio.wait([self._runner], timeout=_OPEN_S)
        self._runner.end()
        await asyncio.wait([self._runner])

    def leave(self) -> None:
        """Let go of the node, which is about to close. Called on any thread."""
        try:
            self._loop.call_soon_threadsafe(self._leave_now)
        except RuntimeError:
            return  # That loop has ended, and the client with it.

    def _leave_now(self) -> None:
        if self._leave is not None and not self._leave.done():
            self._leave.set_result(None)

    async def _run(self, listener: Listener) -> None:
        while not self._closing:
            try:
                hosting, node = await _attach(self, self._loop)
            except Exception as error:
                self._on_failed(error)
                return
            self._leave = self._loop.create_future()
            if hosting.closing or self._closing:
                self._leave_now()
            here = hosting.loop is self._loop
            self._inner = node.transport() if here else _ThreadTransport(node, hosting.loop)
            self._inner.start(listener)
            await self._leave
            inner, self._inner, self._leave = self._inner, None, None
            await inner.close()
            with _lock:
                hosting.attached.discard(self)
            if not self._closing:
                listener.lost("the event loop of the embedded node has ended")


async def _attach(
    transport: EmbeddedTransport, loop: asyncio.AbstractEventLoop
) -> tuple[_Hosting, EmbeddedNode]:
    """Return the node once it is open; open one in this loop if there is none."""
    while True:
        hosting, mine = _join(transport, loop)
        if mine:
            return hosting, await _open(hosting)
        if hosting.closing:
            await asyncio.wrap_future(hosting.gone)
            continue
        # Shielded: a loop that ends while it waits must not cancel what others wait for.
        node = await asyncio.shield(asyncio.wrap_future(hosting.opened))
        if node is not None:
            return hosting, node


def _join(transport: EmbeddedTransport, loop: asyncio.AbstractEventLoop) -> tuple[_Hosting, bool]:
    """Return the hosting there is, or a new one that the caller is to open."""
    global _hosting
    with _lock:
        hosting = _hosting
        if hosting is not None and hosting.loop.is_closed():
            # That loop was closed without ending its tasks: as after kill -9.
            if not hosting.opened.done():
                hosting.opened.set_result(None)
            node = hosting.opened.result()
            if node is not None:
                node.abandon()
            hosting.gone.set_result(None)
            hosting = None
        mine = hosting is None
        if hosting is None:
            hosting = _hosting = _Hosting(loop)
        if not hosting.closing:
            hosting.attached.add(transport)
        return hosting, mine


async def _open(hosting: _Hosting) -> EmbeddedNode:
    try:
        # By name: the sdk stands without the node.
        embedded = importlib.import_module("perdure_node.embedded")
        node: EmbeddedNode = await embedded.open_embedded(data_directory())
    except BaseException as error:
        _forget(hosting)
        if isinstance(error, Exception):
            hosting.opened.set_exception(error)
        else:
            hosting.opened.set_result(None)
        raise
    hosting.opened.set_result(node)
    return node


async def close_here(longest_s: float) -> None:
    """Close the process's node if it lives in the running loop, which is about to end.

    Methods that still run have `longest_s` to finish.
    """
    with _lock:
        hosting = _hosting
        if hosting is None or hosting.loop is not asyncio.get_running_loop():
            return
        if hosting.closing or not hosting.opened.done():
            return
        hosting.closing = True
        attached = list(hosting.attached)
    node = hosting.opened.result()
    assert node is not None
    for transport in attached:
        transport.leave()
    try:
        await node.close(longest_s)
    finally:
        _forget(hosting)


def _forget(hosting: _Hosting) -> None:
    global _hosting
    with _lock:
        if _hosting is hosting:
            _hosting = None
    hosting.gone.set_result(None)


def _forget_in_child() -> None:
    """Forget, after a fork, the node of the parent process: it belongs to the parent's threads."""
    global _hosting, _lock
    _hosting = None
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_in_child)


class _ThreadTransport:
    """A `Transport` to a node whose loop runs in another thread."""

    def __init__(self, node: EmbeddedNode, node_loop: asyncio.AbstractEventLoop) -> None:
        self._node = node
        self._node_loop = node_loop
        self._loop = asyncio.get_running_loop()
        self._listener: Listener | None = None
        self._inner: Transport | None = None
        """Used on the node's loop only."""

    def start(self, listener: Listener) -> None:
        """Connect."""
        self._listener = listener
        self._there(self._start_there)

    def send(self, frames: list[CallFrame]) -> None:
        """Hand frames over."""
        self._there(self._send_there, frames)

    async def close(self) -> None:
        """Leave."""
        self._listener = None
        self._there(self._close_there)

    def _there(self, function: Callable[..., None], *args: object) -> None:
        try:
            self._node_loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            return  # The node's loop has ended; the host tells when it can be opened again.

    def _start_there(self) -> None:
        self._inner = self._node.transport()
        self._inner.start(_Forwarder(self._here))

    def _send_there(self, frames: list[CallFrame]) -> None:
        if self._inner is not None:
            self._inner.send(frames)

    def _close_there(self) -> None:
        if self._inner is not None:
            keep(self._inner.close())

    def _here(self, event: Callable[[Listener], None]) -> None:
        """Tell the listener, on its loop. Called on the node's."""
        try:
            self._loop.call_soon_threadsafe(self._tell, event)
        except RuntimeError:
            return  # The listener's loop has ended without leaving.

    def _tell(self, event: Callable[[Listener], None]) -> None:
        if self._listener is not None:
            event(self._listener)


class _Forwarder:
    """The `Listener` on the node's side."""

    def __init__(self, tell: Callable[[Callable[[Listener], None]], None]) -> None:
        self._tell = tell

    def welcomed(self, welcome: Welcome) -> None:
        self._tell(lambda listener: listener.welcomed(welcome))

    def answered(self, frames: list[AnswerFrame]) -> None:
        self._tell(lambda listener: listener.answered(frames))

    def lost(self, why: str) -> None:
        self._tell(lambda listener: listener.lost(why))
