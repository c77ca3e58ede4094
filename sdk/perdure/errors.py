"""Errors a caller can see, arranged by what the caller should do next.

PerdureError
    CallRejected            it did not run: safe to send again
        NotOwner            (hidden by the client, which asks the owner)
        NoOwner             (hidden by the client until the deadline)
        OutOfOrder          (hidden by the client, which sends again in order)
        Overloaded          wait `retry_after_s`, then send again
        DiskFull            wait until somebody has made room
        Draining            (hidden by the client until the deadline)
        ObjectNotFound      create the object first (also a LookupError)
        Superseded          a later call of the same caller has run already
        NotStarted          another call held the object all the time (also a TimeoutError)
        Parked              a call that cannot go on holds the object: `perdure calls`
    OutcomeUnknown          it may have run: send again only with the same key
        DeadlineExceeded    the caller's time is over (also a TimeoutError)
    CallFailed              it ran and failed: sending again repeats the failure
        RemoteError         an exception whose class this process does not know
        StateNotStorable    an attribute holds something that cannot be stored
        StateTooLarge       the object's state is over its limit
        ResultNotStorable   the result is something that cannot be sent
        ResultTooLarge      the result is over its limit
        CallCycle           the call would wait for itself
        CallTooDeep         more calls inside calls than allowed
        KeyReused           the key was used for a call with other arguments
        CallCancelled       somebody cancelled or killed it
        Poisoned            it was given up: it ended its process, or cannot go on
        NonDeterministic    run again, it asks for other steps than before
        TooManySteps        its journal is over its limit
        TooManyTimers       the object has more timers than allowed
        ServiceError        a service answered with an error of its own
        ServiceNotFound     no service of that name
        RunFailed           a run of a workflow has ended with an error
    HookNotFound            no run has such a hook (also a LookupError)
    HookClosed              the hook's run has ended, or has disposed of it
    HookConflict            another run holds the token
    RunExists               there is another run with that id
    RunNotFound             there is no run with that id (also a LookupError)
    UnknownType             no such type of object (also a LookupError)
    UnknownMethod           no such method (also an AttributeError)
    BadArguments            they do not fit the method (also a TypeError)
    BadObjectId             not a possible id (also a ValueError)
    BadKey                  not a possible idempotency key (also a ValueError)
    BadPayload              bytes that mean nothing here (also a ValueError)
    TooLarge                one message over the limit (also a ValueError)
    NotLoaded               this handle has not got that attribute: `durable.refresh(handle)`
    DataLoss                a partition's data is damaged; only that partition stops
    StorageHeld             another process uses the data directory
    ConfigError             the settings or the data directory do not allow this

An error is rebuilt on the other side of a wire from its `args`, so every constructor passes
plain values (text, numbers, lists of text) to `super().__init__` unchanged.
"""

from __future__ import annotations

import enum
from typing import Any, Final, NamedTuple

from perdure.error_families import CallFailed, CallRejected, OutcomeUnknown, PerdureError
from perdure.journal_errors import (
    CallCancelled,
    NonDeterministic,
    NotStarted,
    Parked,
    Poisoned,
    ServiceError,
    ServiceNotFound,
    TooManySteps,
    TooManyTimers,
)
from perdure.rejections import (
    DiskFull,
    Draining,
    NoOwner,
    NotOwner,
    ObjectNotFound,
    OutOfOrder,
    Overloaded,
    Superseded,
)
from perdure.request_errors import (
    BadArguments,
    BadKey,
    BadObjectId,
    BadPayload,
    TextError,
    TooLarge,
    UnknownMethod,
    UnknownType,
)
from perdure.workflow_errors import (
    HookClosed,
    HookConflict,
    HookNotFound,
    RunExists,
    RunFailed,
    RunNotFound,
)

__all__ = [
    "BadArguments",
    "BadKey",
    "BadObjectId",
    "BadPayload",
    "CallCancelled",
    "CallCycle",
    "CallFailed",
    "CallRejected",
    "CallTooDeep",
    "Code",
    "ConfigError",
    "DataLoss",
    "DeadlineExceeded",
    "DiskFull",
    "Draining",
    "HookClosed",
    "HookConflict",
    "HookNotFound",
    "KeyReused",
    "NoOwner",
    "NonDeterministic",
    "NotLoaded",
    "NotOwner",
    "NotStarted",
    "ObjectNotFound",
    "OutOfOrder",
    "OutcomeUnknown",
    "Overloaded",
    "Parked",
    "PerdureError",
    "Poisoned",
    "RemoteError",
    "ResultNotStorable",
    "ResultTooLarge",
    "RunExists",
    "RunFailed",
    "RunNotFound",
    "ServiceError",
    "ServiceNotFound",
    "StateNotStorable",
    "StateTooLarge",
    "StorageHeld",
    "Superseded",
    "TooLarge",
    "TooManySteps",
    "TooManyTimers",
    "UnknownMethod",
    "UnknownType",
    "error_from_wire",
]


class DeadlineExceeded(OutcomeUnknown, TimeoutError):
    """The caller's time is over. The call is not cancelled: it may have run, or may yet run."""


class RemoteError(CallFailed):
    """A method raised an exception of a class that this process does not know."""

    def __init__(self, code: str, message: str, object: str, method: str, call_id: str) -> None:
        super().__init__(code, message, object, method, call_id)
        self.code = code
        """The name of the exception's class."""
        self.message = message
        self.object = object
        self.method = method
        self.call_id = call_id

    def __str__(self) -> str:
        return f"{self.object}.{self.method} raised {self.code}: {self.message}"


class StateNotStorable(CallFailed):
    """An attribute holds a value that cannot be stored. The state is undone."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        """Where: `Cart[u1].items[3].callback`."""
        self.problem = problem
        """What is wrong there: the value's type, or a sentence."""

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class ResultNotStorable(CallFailed):
    """A method returned something that cannot be sent. The state is undone."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class _SizeError(CallFailed):
    def __init__(self, what: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(what, size_bytes, limit_bytes)
        self.what = what
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class StateTooLarge(_SizeError):
    """The object's state is over its limit. The state is undone."""

    def __str__(self) -> str:
        return (
            f"the state of {self.what} would have {self.size_bytes} bytes, "
            f"its limit is {self.limit_bytes}: raise max_state_bytes or split the object"
        )


class ResultTooLarge(_SizeError):
    """A method's result is over its limit. The state is undone."""

    def __str__(self) -> str:
        return (
            f"the result of {self.what} has {self.size_bytes} bytes, "
            f"the limit is {self.limit_bytes}: return it in parts"
        )


class CallCycle(CallFailed):
    """A call would wait for itself, and did not run.

    It has come back into its own chain; or it waited, and was the youngest of a circle of calls
    that waited for one another. Call one of the objects outside of the method that holds the other
    one, or with `durable.send`.
    """

    def __init__(self, chain: list[str]) -> None:
        super().__init__(chain)
        self.chain = chain

    def __str__(self) -> str:
        return "the call waits for itself: " + " -> ".join(self.chain)


class CallTooDeep(CallFailed):
    """Calls inside calls, more than allowed."""

    def __init__(self, depth: int, limit: int) -> None:
        super().__init__(depth, limit)
        self.depth = depth
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.depth} calls inside one another; the limit is {self.limit}"


class KeyReused(CallFailed):
    """The idempotency key belongs to a call with other arguments."""

    def __init__(self, key: str, object: str, method: str) -> None:
        super().__init__(key, object, method)
        self.key = key
        self.object = object
        self.method = method

    def __str__(self) -> str:
        return (
            f"the key {self.key!r} was used for a call of {self.object}.{self.method} "
            f"with other arguments: use another key"
        )


class NotLoaded(PerdureError):
    """This handle has not got that attribute.

    Not an AttributeError, so that `hasattr` and `getattr` with a default cannot hide it.
    """

    def __init__(self, object: str, attribute: str) -> None:
        super().__init__(object, attribute)
        self.object = object
        self.attribute = attribute

    def __str__(self) -> str:
        return (
            f"{self.object}.{self.attribute} is not loaded in this handle: "
            f"await durable.refresh(handle), or ask a method for what you need"
        )


class DataLoss(PerdureError):
    """A partition's data is damaged. That partition is stopped; all others go on."""

    def __init__(self, partition: int, text: str) -> None:
        super().__init__(partition, text)
        self.partition = partition
        self.text = text

    def __str__(self) -> str:
        return f"partition {self.partition} is damaged and stopped: {self.text}"


class StorageHeld(TextError):
    """Another process uses the data directory."""


class ConfigError(TextError):
    """The settings, or what lies in the data directory, do not allow this."""


class Code(enum.IntEnum):
    """What an answer says, as a number in frames and as `reason` in gRPC status details."""

    OK = 0
    RAISED = 1  # The method raised an exception of the user's.
    MALFORMED = 2
    UNKNOWN_TYPE = 3
    UNKNOWN_METHOD = 4
    BAD_KEY = 5
    BAD_ARGUMENTS = 6
    TOO_DEEP = 7
    MESSAGE_TOO_LARGE = 8
    RESULT_TOO_LARGE = 9
    STATE_TOO_LARGE = 10
    STATE_NOT_STORABLE = 11
    RESULT_NOT_STORABLE = 12
    BAD_IDEMPOTENCY_KEY = 13
    KEY_REUSED = 14
    DEADLINE_EXCEEDED = 15  # Passed before the call ran, or before its answer came.
    NOT_OWNER = 16
    NO_OWNER = 17
    DRAINING = 18
    OWNER_LOST = 19  # The connection to the owner broke while the call was there.
    BACKPRESSURE = 20
    CALL_CYCLE = 21
    CALL_DEPTH = 22
    OBJECT_NOT_FOUND = 23
    OUT_OF_ORDER = 24
    SUPERSEDED = 25
    DATA_LOSS = 26
    DISK_FULL = 27
    CODEC_NOT_ALLOWED = 28
    SESSION_EXPIRED = 29  # Of a session too old to be remembered: nobody knows whether it ran.
    INTERNAL = 30  # A bug of ours. Whether the call ran is not known.
    CANCELLED = 31
    POISONED = 32
    PARKED = 33
    NON_DETERMINISTIC = 34
    TOO_MANY_STEPS = 35
    TOO_MANY_TIMERS = 36
    SERVICE_ERROR = 37
    SERVICE_NOT_FOUND = 38
    NOT_STARTED = 39
    HOOK_NOT_FOUND = 40
    HOOK_CLOSED = 41
    HOOK_CONFLICT = 42
    RUN_EXISTS = 43
    RUN_NOT_FOUND = 44
    RUN_FAILED = 45
    BAD_HOOK_PAYLOAD = 46


class Kind(NamedTuple):
    """One row of the table between codes, gRPC status and classes."""

    status: str
    """The name of the gRPC status code."""
    error: type[PerdureError]
    applied: str
    """`no`: a promise that nothing of this call is or will be done. Else `unknown`."""


KINDS: Final[dict[Code, Kind]] = {
    Code.RAISED: Kind("INTERNAL", RemoteError, "no"),
    Code.MALFORMED: Kind("INVALID_ARGUMENT", BadPayload, "no"),
    Code.UNKNOWN_TYPE: Kind("NOT_FOUND", UnknownType, "no"),
    Code.UNKNOWN_METHOD: Kind("UNIMPLEMENTED", UnknownMethod, "no"),
    Code.BAD_KEY: Kind("INVALID_ARGUMENT", BadObjectId, "no"),
    Code.BAD_ARGUMENTS: Kind("INVALID_ARGUMENT", BadArguments, "no"),
    Code.TOO_DEEP: Kind("INVALID_ARGUMENT", BadPayload, "no"),
    Code.MESSAGE_TOO_LARGE: Kind("RESOURCE_EXHAUSTED", TooLarge, "no"),
    Code.RESULT_TOO_LARGE: Kind("RESOURCE_EXHAUSTED", ResultTooLarge, "no"),
    Code.STATE_TOO_LARGE: Kind("RESOURCE_EXHAUSTED", StateTooLarge, "no"),
    Code.STATE_NOT_STORABLE: Kind("FAILED_PRECONDITION", StateNotStorable, "no"),
    Code.RESULT_NOT_STORABLE: Kind("FAILED_PRECONDITION", ResultNotStorable, "no"),
    Code.BAD_IDEMPOTENCY_KEY: Kind("INVALID_ARGUMENT", BadKey, "no"),
    Code.KEY_REUSED: Kind("ALREADY_EXISTS", KeyReused, "no"),
    Code.DEADLINE_EXCEEDED: Kind("DEADLINE_EXCEEDED", DeadlineExceeded, "unknown"),
    Code.NOT_OWNER: Kind("FAILED_PRECONDITION", NotOwner, "no"),
    Code.NO_OWNER: Kind("UNAVAILABLE", NoOwner, "no"),
    Code.DRAINING: Kind("UNAVAILABLE", Draining, "no"),
    Code.OWNER_LOST: Kind("UNAVAILABLE", OutcomeUnknown, "unknown"),
    Code.BACKPRESSURE: Kind("RESOURCE_EXHAUSTED", Overloaded, "no"),
    Code.CALL_CYCLE: Kind("FAILED_PRECONDITION", CallCycle, "no"),
    Code.CALL_DEPTH: Kind("RESOURCE_EXHAUSTED", CallTooDeep, "no"),
    Code.OBJECT_NOT_FOUND: Kind("NOT_FOUND", ObjectNotFound, "no"),
    Code.OUT_OF_ORDER: Kind("UNAVAILABLE", OutOfOrder, "no"),
    Code.SUPERSEDED: Kind("ABORTED", Superseded, "no"),
    Code.DATA_LOSS: Kind("DATA_LOSS", DataLoss, "unknown"),
    Code.DISK_FULL: Kind("RESOURCE_EXHAUSTED", DiskFull, "no"),
    Code.CODEC_NOT_ALLOWED: Kind("INVALID_ARGUMENT", BadPayload, "no"),
    Code.SESSION_EXPIRED: Kind("ABORTED", OutcomeUnknown, "unknown"),
    Code.INTERNAL: Kind("INTERNAL", OutcomeUnknown, "unknown"),
    Code.CANCELLED: Kind("CANCELLED", CallCancelled, "unknown"),
    Code.POISONED: Kind("INTERNAL", Poisoned, "unknown"),
    Code.PARKED: Kind("FAILED_PRECONDITION", Parked, "no"),
    Code.NON_DETERMINISTIC: Kind("FAILED_PRECONDITION", NonDeterministic, "unknown"),
    Code.TOO_MANY_STEPS: Kind("RESOURCE_EXHAUSTED", TooManySteps, "unknown"),
    Code.TOO_MANY_TIMERS: Kind("RESOURCE_EXHAUSTED", TooManyTimers, "unknown"),
    Code.SERVICE_ERROR: Kind("FAILED_PRECONDITION", ServiceError, "unknown"),
    Code.SERVICE_NOT_FOUND: Kind("NOT_FOUND", ServiceNotFound, "unknown"),
    Code.NOT_STARTED: Kind("ABORTED", NotStarted, "no"),
    Code.HOOK_NOT_FOUND: Kind("NOT_FOUND", HookNotFound, "no"),
    Code.HOOK_CLOSED: Kind("FAILED_PRECONDITION", HookClosed, "unknown"),
    Code.HOOK_CONFLICT: Kind("ALREADY_EXISTS", HookConflict, "no"),
    Code.RUN_EXISTS: Kind("ALREADY_EXISTS", RunExists, "no"),
    Code.RUN_NOT_FOUND: Kind("NOT_FOUND", RunNotFound, "no"),
    Code.RUN_FAILED: Kind("FAILED_PRECONDITION", RunFailed, "unknown"),
    Code.BAD_HOOK_PAYLOAD: Kind("INVALID_ARGUMENT", BadPayload, "no"),
}
"""How each code looks to a gRPC client and to a Python caller."""

_KIND_BY_NUMBER: Final = {int(code): kind for code, kind in KINDS.items()}

CODE_OF: Final[dict[type[PerdureError], Code]] = {
    kind.error: code for code, kind in reversed(KINDS.items())
}
"""The code by which each error travels: the first in the table when several share a class."""


def code_of(error: PerdureError) -> Code:
    """Return the code by which an error travels."""
    return CODE_OF.get(type(error), Code.INTERNAL)


def error_from_wire(code: int, args: list[Any]) -> PerdureError:
    """Rebuild an error from its code and its `args`."""
    kind = _KIND_BY_NUMBER.get(code)
    if kind is None:
        return OutcomeUnknown(f"the server answered an unknown code {code}: {args!r:.200}")
    try:
        return kind.error(*args)
    except TypeError:
        return OutcomeUnknown(f"the server answered {Code(code).name} with {args!r:.200}")
