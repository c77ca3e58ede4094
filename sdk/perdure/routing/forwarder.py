"""Carries out what the rules of forwarding decide."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from perdure.frames import AnswerFrame, CallFrame
from perdure.routing.core.forwarding import Caller, Forwarding
from perdure.routing.core.limits import ForwardingLimits

__all__ = ["Forwarder"]

_TICK_S: Final = 0.02
"""While calls wait for an owner."""

_IDLE_TICK_S: Final = 1.0

C = TypeVar("C", bound=Caller)


class Forwarder(Generic[C]):
    """The shell around `core.forwarding.Forwarding`, for a router and for a client.

    It reads the clock, hands events in, and does what comes out, at once and in that order.
    Belongs to the event loop on which it is made.
    """

    def __init__(
        self,
        partition_count: int,
        limits: ForwardingLimits,
        *,
        send: Callable[[str, list[CallFrame]], None],
        answer: Callable[[Sequence[tuple[C, AnswerFrame]]], None],
        on_waiting: Callable[[Iterable[int]], None] | None = None,
    ) -> None:
        """Begin without any node.

        Args:
            partition_count: Of the cluster.
            limits: How much is held, and how patiently.
            send: Sends calls to a node that is reachable.
            answer: Hands answers to those who called. May be called from inside of `receive`.
            on_waiting: Hears from time to time of the partitions with calls that no node takes.
        """
        self._forwarding: Forwarding[C] = Forwarding(partition_count, limits)
        self._send = send
        self._answer = answer
        self._on_waiting = on_waiting
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._is_soon = False

    def close(self) -> None:
        """Let no time pass any more."""
        if self._timer is not None:
            self._timer.cancel()

    @property
    def open_count(self) -> int:
        """Calls not answered."""
        return self._forwarding.open_count

    def owner(self, partition: int) -> str | None:
        """Return the reachable node that calls of a partition are sent to."""
        return self._forwarding.owner(partition)

    def knows(self, node: str) -> bool:
        """Tell whether a node can be reached."""
        return self._forwarding.knows(node)

    def receive(self, frames: Iterable[CallFrame], caller: C) -> None:
        """Take in calls, in order."""
        self._forwarding.calls_arrived(self._now_ms(), frames, caller)
        self._carry_out()

    def answered(self, frames: Iterable[AnswerFrame]) -> None:
        """Take in answers of a node."""
        self._forwarding.answers_arrived(self._now_ms(), frames)
        self._carry_out()

    def node_welcomed(self, node: str, owned: Mapping[int, int]) -> None:
        """Note that a node can be reached, and what it owns: partitions and their epochs."""
        self._forwarding.node_welcomed(self._now_ms(), node, owned)
        self._carry_out()

    def node_lost(self, node: str) -> None:
        """Note that a node cannot be reached."""
        self._forwarding.node_lost(self._now_ms(), node)
        self._carry_out()

    def recall(self, node: str) -> None:
        """Send what is at a node and has another owner by now to that one too."""
        self._forwarding.recall(self._now_ms(), node)
        self._carry_out()

    def _carry_out(self) -> None:
        forwarding = self._forwarding
        work = forwarding.take()
        for node, frames in work.sends.items():
            self._send(node, frames)
        if work.answers:
            self._answer(work.answers)
        if forwarding.waiting_count:
            if not self._is_soon:
                self._set_timer(_TICK_S, soon=True)
                self._tell_waiting()
        elif self._timer is None and forwarding.open_count:
            self._set_timer(_IDLE_TICK_S, soon=False)

    def _tell_waiting(self) -> None:
        if self._on_waiting is not None:
            self._on_waiting(self._forwarding.partitions_waiting())

    def _set_timer(self, after_s: float, *, soon: bool) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._is_soon = soon
        self._timer = self._loop.call_later(after_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._is_soon = False
        self._forwarding.tick(self._now_ms())
        self._carry_out()

    def _now_ms(self) -> int:
        return int(self._loop.time() * 1000)
