"""The turn of one call: what its method may do while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from perdure.context import DurableContext
from perdure.frames import Encoding, Kind
from perdure.ids import CallId, ObjectKey
from perdure.objects import Method
from perdure_node.activation import Activation, changed_attributes
from perdure_node.core.calls import Call
from perdure_node.core.partition import Partition
from perdure_node.core.reader import READS
from perdure_node.signals import OwnershipLost

if TYPE_CHECKING:
    from perdure.client import Answer, Client

__all__ = ["MethodTurn"]


class MethodTurn:
    """One run of one method: a `context.Turn`.

    `save()` only notes what has changed. A record of its own is made when the method suspends
    afterwards, because only then can the node die with the call half done; else it becomes part
    of the one record at the end.
    """

    # Not in `__init__`, and no slots: most turns change none of them.
    activation: Activation | None = None
    saved = False
    saves = 0
    over = False
    spoilt = False
    """A shared call beside this one has changed the state under it."""
    waking = False
    """`on_activate` runs."""
    _base: tuple[dict[str, bytes], int] | None = None
    """Image and size as of the last `save()`, while that is not in a record."""
    _skip = 0
    _context: DurableContext | None = None

    def __init__(
        self,
        partition: Partition,
        call: Call,
        client: Client,
        method: Method | None,
        flush: Callable[[Partition], None],
    ) -> None:
        state = call.state
        assert state is not None
        self.partition = partition
        self.admitted = call
        self.client = client
        self.method = method
        self._flush = flush
        self.folded: dict[str, bytes] = {}
        """Saved, and not in a record yet."""
        self.start_image: dict[str, bytes] = state.image or {}
        self.start_version = state.state_version
        if call.progress is not None:
            self.start_image = call.progress.start_image
            self.start_version = call.progress.start_version
            self._skip = call.progress.saves

    @property
    def partition_count(self) -> int | None:
        """How many partitions the cluster has."""
        return self.client.partition_count

    @property
    def context(self) -> DurableContext:
        """What the method's `ctx` is."""
        if self._context is None:
            request = self.admitted.request
            call_id = CallId(request.session, self.partition.number, request.sequence)
            self._context = DurableContext(
                self.admitted.key,
                request.method,
                str(call_id),
                attempt=1 if self.admitted.progress is None else 2,
                key=request.key,
            )
        return self._context

    def save(self) -> None:
        """Make a commit point of the state as it is now."""
        if self.partition.stopped is not None:
            raise OwnershipLost(self.partition.stopped.code.name)
        if self.over:
            raise RuntimeError("save() after the call was over")
        if self.admitted.shared:
            raise RuntimeError("save() in a @durable.shared method: it may not change state")
        self.saved = True
        self.saves += 1
        if self.saves > self._skip:
            # A save that is in the journal already is not made again by a second run.
            changed = self.changes()
            if changed:
                base, size = self._base or self._committed()
                size += sum(len(v) - len(base.get(k, b"")) for k, v in changed.items())
                self._base = {**base, **changed}, size
                self.folded.update(changed)

    def changes(self) -> dict[str, bytes]:
        """Return what differs from the last commit, or from the last `save()` after it."""
        activation, call = self.activation, self.admitted
        assert activation is not None
        base, size = self._base or self._committed()
        return changed_attributes(activation, call.key, base, size)

    def _committed(self) -> tuple[dict[str, bytes], int]:
        state = self.admitted.state
        assert state is not None
        return state.image or {}, state.size

    def suspended(self) -> None:
        """The method waits for something: what it has saved gets a record now."""
        if self.saves > self._skip and self.admitted.request.kind == Kind.CALL:
            self._skip = self.saves
            values, self.folded, self._base = self.folded, {}, None
            assert self.activation is not None
            self.partition.saved(
                self.admitted,
                values,
                self.saves,
                (self.start_image, self.start_version),
                self.activation.type.state_version,
            )
            self._flush(self.partition)

    def _refuse_effects(self) -> None:
        """Refuse a call where it could be made twice.

        No record says that a shared method or an `on_activate` has run, so both run again: the
        first for a late copy of its call, the other whenever the object comes into memory.
        """
        type, method = self.admitted.key.type, self.admitted.request.method
        if self.waking:
            raise RuntimeError(
                f"a call inside of {type}.on_activate, which only rebuilds what is in memory: "
                f"call from a method"
            )
        if self.admitted.shared:
            raise RuntimeError(
                f"a call inside of {type}.{method}, a @durable.shared method, which only reads: "
                f"leave @durable.shared away, or use durable.refresh and attributes"
            )

    def _let_out(self, send: Callable[[], asyncio.Future[Answer]]) -> asyncio.Future[Answer]:
        """Send a call of the method's own once all that the object has committed is durable."""
        self.suspended()
        state = self.admitted.state
        assert state is not None
        if state.last_record <= self.partition.memory.durable:
            return send()
        outer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def leave() -> None:
            send().add_done_callback(lambda inner: _pass_on(inner, outer))

        self.partition.hold(self.admitted.key, leave)
        return outer

    def call(
        self,
        target: ObjectKey,
        kind: Kind,
        method: str = "",
        *,
        arguments: bytes = b"",
        encoding: Encoding = Encoding.MSGPACK,
        key: str | None = None,
        timeout_s: float | None = 30.0,
        have: tuple[int, int] | None = None,
        partition: int | None = None,
    ) -> asyncio.Future[Answer]:
        """Call an object from inside of the method, or from a task that has outlived it.

        Raises:
            RuntimeError: Here nothing may be called: see `_refuse_effects`.
        """
        chain: list[list[str]] = []
        if not self.over:
            if kind not in READS:
                self._refuse_effects()
            request = self.admitted.request
            chain = [*request.chain, [request.type, request.id, request.method]]

        def send() -> asyncio.Future[Answer]:
            return self.client.call(
                target,
                kind,
                method,
                arguments=arguments,
                encoding=encoding,
                key=key,
                timeout_s=timeout_s,
                have=have,
                chain=chain,
                partition=partition,
            )

        return send() if self.over else self._let_out(send)


def _pass_on(inner: asyncio.Future[Answer], outer: asyncio.Future[Answer]) -> None:
    if outer.cancelled():
        return
    if inner.cancelled():
        outer.cancel()
    elif (error := inner.exception()) is not None:
        outer.set_exception(error)
    else:
        outer.set_result(inner.result())
