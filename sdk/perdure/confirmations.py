"""When servers are told of answers that came, if no call tells them in passing.

Every frame tells all that is settled in its window. A client that has nothing to say would leave
its outcomes in the memory of servers, so it tells them by itself after a while; at once when a
server lets a call wait for one that is over.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from perdure.bodies import Request, pack_request
from perdure.frames import TIME_LEFT_MAX_MS, CallFrame, Kind
from perdure.lane import Lane, Window

__all__ = ["Confirmations"]


class Confirmations:
    """The windows in which something was settled that their servers have perhaps not heard."""

    def __init__(self, idle_ms: int) -> None:
        """Begin with nothing to tell.

        Args:
            idle_ms: How long a server waits to hear of an answer.
        """
        self._idle_ms = idle_ms
        self._listed: list[Window] = []
        self._urgent: list[Window] = []
        self.next_ms: int | None = None
        """When to call `note_idle` next."""

    def note(self, window: Window, now_ms: int) -> None:
        """Note that something was settled, or that the last frame may be lost."""
        window.untold = True
        if not window.listed:
            window.listed = True
            self._listed.append(window)
            if self.next_ms is None:
                self.next_ms = now_ms + self._idle_ms

    def note_again(self, lanes: Iterable[Lane[Any]], now_ms: int) -> None:
        """Note that what the last frames told may be lost."""
        for lane in lanes:
            if lane.window.last:
                self.note(lane.window, now_ms)

    def make_urgent(self, window: Window) -> None:
        """Have a server told with the next frames."""
        if not window.urgent:
            window.urgent = True
            self._urgent.append(window)

    def make_all_urgent(self) -> None:
        """Have every server told with the next frames."""
        for window in self._listed:
            self.make_urgent(window)

    def note_idle(self, now_ms: int) -> bool:
        """Make urgent what has not been told for a while. Return whether anything is."""
        listed: list[Window] = []
        for window in self._listed:
            if window.untold and window.sent_ms > now_ms - self._idle_ms:
                listed.append(window)
                continue
            window.listed = False
            if window.untold:
                self.make_urgent(window)
        self._listed = listed
        self.next_ms = now_ms + self._idle_ms if listed else None
        return bool(self._urgent)

    def take_frames(self, now_ms: int) -> list[CallFrame]:
        """Return what is urgent and has not been told in passing."""
        if not self._urgent:
            return []
        urgent, self._urgent = self._urgent, []
        frames: list[CallFrame] = []
        for window in urgent:
            window.urgent = False
            if window.untold:
                window.untold = False
                window.sent_ms = now_ms
                frames.append(CallFrame(0, window.partition, TIME_LEFT_MAX_MS, _body(window)))
        return frames

    def clear(self) -> None:
        """Forget everything: nobody is there to be told."""
        self._listed.clear()
        self._urgent.clear()
        self.next_ms = None


def _body(window: Window) -> bytes:
    settled = window.settled.spans
    return pack_request(
        Request(Kind.CONFIRM, window.session, 0, 0, settled, "", "", "", 0, b"", None, None, [], 0)
    )
