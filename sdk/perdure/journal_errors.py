"""Errors of calls that have a journal: of their steps, and of what may become of them."""

from __future__ import annotations

from perdure.error_families import CallFailed, CallRejected

__all__ = [
    "CallCancelled",
    "NonDeterministic",
    "NotStarted",
    "Parked",
    "Poisoned",
    "ServiceError",
    "ServiceNotFound",
    "TooManySteps",
    "TooManyTimers",
]


class Parked(CallRejected):
    """The object is held by a call that cannot go on until an operator decides about it."""

    def __init__(self, object: str, call: str, reason: str) -> None:
        super().__init__(object, call, reason)
        self.object = object
        self.call = call
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"{self.object} is held by the parked call {self.call} ({self.reason}): "
            f"retry or drop that with `perdure calls`"
        )


class NotStarted(CallRejected, TimeoutError):
    """Another call held the object for so long that this one did not start. It never will."""

    def __init__(self, object: str, holder: str) -> None:
        super().__init__(object, holder)
        self.object = object
        self.holder = holder

    def __str__(self) -> str:
        return f"{self.object} was held by {self.holder} all the time: the call did not run"


class CallCancelled(CallFailed):
    """Somebody cancelled or killed the call. What it had committed stays."""

    def __init__(self, call: str, reason: str) -> None:
        super().__init__(call, reason)
        self.call = call
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.call} was cancelled: {self.reason}"


class Poisoned(CallFailed):
    """The call was given up: it ended its process again and again, or cannot go on."""

    def __init__(self, call: str, reason: str) -> None:
        super().__init__(call, reason)
        self.call = call
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.call} was given up: {self.reason}"


class NonDeterministic(CallFailed):
    """Run again, the method asks for another step than the one in its journal."""

    def __init__(self, call: str, step: int, recorded: str, asked: str) -> None:
        super().__init__(call, step, recorded, asked)
        self.call = call
        self.step = step
        self.recorded = recorded
        self.asked = asked

    def __str__(self) -> str:
        return (
            f"{self.call}, step {self.step}: the journal has {self.recorded}, this run asks for "
            f"{self.asked}; deploy code that asks for the same steps, then retry the call"
        )


class TooManySteps(CallFailed):
    """The journal of one call is over its limit: split the work over several calls."""

    def __init__(self, call: str, what: str, limit: int) -> None:
        super().__init__(call, what, limit)
        self.call = call
        self.what = what
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.call} has more {self.what} than the limit of {self.limit}: split it"


class TooManyTimers(CallFailed):
    """One object has more timers than allowed."""

    def __init__(self, object: str, limit: int) -> None:
        super().__init__(object, limit)
        self.object = object
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.object} has {self.limit} timers, which is the limit"


class ServiceError(CallFailed):
    """A service answered with an error of its own. That answer is recorded, not retried."""

    def __init__(self, service: str, method: str, type: str, message: str) -> None:
        super().__init__(service, method, type, message)
        self.service = service
        self.method = method
        self.type = type
        """The class of the service's exception, or `HTTP 404`."""
        self.message = message

    def __str__(self) -> str:
        return f"{self.service}.{self.method}: {self.type}: {self.message}"


class ServiceNotFound(CallFailed):
    """There is no such service, or it has no such method. `hint` says what there is."""

    def __init__(self, service: str, method: str, hint: str = "") -> None:
        super().__init__(service, method, hint)
        self.service = service
        self.method = method
        self.hint = hint

    def __str__(self) -> str:
        return f"there is no service {self.service}.{self.method}{self.hint}"
