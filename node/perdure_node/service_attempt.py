"""How one attempt to call a service ends: for good, with a result; or to be made again."""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

import msgspec

from perdure import codec, raised
from perdure.bodies import pack_error
from perdure.context import StepResult
from perdure.errors import Code

__all__ = ["Again", "Attempt", "Standing", "answered", "failed", "raised_by", "too_large"]

_MESSAGE_CHARACTERS_MAX: Final = 16_384

# Members of an enum cost ten times as much to look up.
_OK: Final = int(Code.OK)

_log = logging.getLogger("perdure.service")


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """What one attempt is about."""

    service: str
    method: str
    payload: bytes | None
    """Encoded; None: there is none."""
    key: str
    number: int
    """From 1."""
    timeout_s: float

    def __str__(self) -> str:
        return f"{self.service}.{self.method}"


class Again(NamedTuple):
    """The attempt has failed in a way that another one may not."""

    type: str
    """What `ServiceError.type` is when there is no other attempt."""
    reason: str
    after_s: float = 0.0
    """How long the service wants to be left alone; the back-off may be longer."""


class Standing(NamedTuple):
    """How a call that is not over stands."""

    attempt: int
    """The number of the one that is made, or was made last."""
    failure: str
    """What the one before has failed with, or this one; empty: nothing."""
    again_s: float | None
    """When the next one is made: the time of the loop. None: one is being made."""


def answered(attempt: Attempt, value: object, bytes_max: int) -> StepResult:
    """Return the result of a step whose service has answered with a value.

    Args:
        attempt: Which.
        value: The answer.
        bytes_max: The limit of the encoded value.
    """
    try:
        payload = codec.encode(value)
    except codec.NotEncodable as error:
        args = (f"{attempt}(){error.path}", error.problem)
        return StepResult(*pack_error(Code.RESULT_NOT_STORABLE, args))
    if len(payload) > bytes_max:
        return too_large(attempt, len(payload), bytes_max)
    return StepResult(_OK, payload)


def too_large(attempt: Attempt, size: int, bytes_max: int) -> StepResult:
    """Return the result of a step whose service has answered with too much."""
    return StepResult(*pack_error(Code.RESULT_TOO_LARGE, (f"{attempt}()", size, bytes_max)))


def failed(attempt: Attempt, type: str, message: str) -> StepResult:
    """Return the result of a step whose service has answered with an error."""
    # What services say may hold halves of surrogate pairs, which are no text.
    parts = (attempt.service, attempt.method, type, message[:_MESSAGE_CHARACTERS_MAX])
    args = [part.encode(errors="replace").decode() for part in parts]
    return StepResult(*pack_error(Code.SERVICE_ERROR, args))


def raised_by(attempt: Attempt, error: BaseException) -> StepResult:
    """Return the result of a step whose service has raised, and log what people need to know."""
    # Its traceback is for the people who run the service. It is no error of the node's.
    _log.info("%s raised, key %s", attempt, attempt.key, exc_info=error)
    packed = raised.pack_exception(
        error, object=attempt.service, method=attempt.method, call_id=attempt.key
    )
    return failed(attempt, *raised.describe_exception(packed))
