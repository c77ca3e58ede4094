"""Errors of calls that did not run: they can be sent again."""

from __future__ import annotations

from perdure.error_families import CallRejected

__all__ = [
    "DiskFull",
    "Draining",
    "NoOwner",
    "NotOwner",
    "ObjectNotFound",
    "OutOfOrder",
    "Overloaded",
    "Superseded",
]


class NotOwner(CallRejected):
    """The node does not own the object's partition."""

    def __init__(self, partition: int, epoch: int) -> None:
        super().__init__(partition, epoch)
        self.partition = partition
        self.epoch = epoch

    def __str__(self) -> str:
        return f"this node does not own partition {self.partition} (epoch {self.epoch})"


class NoOwner(CallRejected):
    """Nobody who owns the partition could be reached in time."""

    def __init__(self, partition: int) -> None:
        super().__init__(partition)
        self.partition = partition

    def __str__(self) -> str:
        return f"no node that owns partition {self.partition} can be reached"


class OutOfOrder(CallRejected):
    """The caller's previous call to the same object has not arrived."""

    def __str__(self) -> str:
        return "the previous call of this session to the object has not arrived"


class Overloaded(CallRejected):
    """A queue is full. `what` names it."""

    def __init__(self, what: str, retry_after_s: float) -> None:
        super().__init__(what, retry_after_s)
        self.what = what
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"too much waits for {self.what}; send again after {self.retry_after_s} s"


class DiskFull(CallRejected):
    """The node has no room for another commit. Calls that only read still work."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(retry_after_s)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return "the node's disk is full: make room, writes then work again by themselves"


class Draining(CallRejected):
    """The server is shutting down and takes no new calls."""

    def __init__(self, server: str) -> None:
        super().__init__(server)
        self.server = server

    def __str__(self) -> str:
        return f"{self.server} is shutting down"


class ObjectNotFound(CallRejected, LookupError):
    """There is no such object: only `get_or_create` makes one."""

    def __init__(self, type: str, id: str) -> None:
        super().__init__(type, id)
        self.type = type
        self.id = id

    def __str__(self) -> str:
        return (
            f"there is no {self.type} with the id {self.id!r}: "
            f"{self.type}.get_or_create({self.id!r}) makes one"
        )


class Superseded(CallRejected):
    """A late copy of a call that its caller has given up: it has not run and never will."""

    def __str__(self) -> str:
        return "the caller has given this call up; this copy of it came too late and did not run"
