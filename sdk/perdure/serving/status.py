"""How an error looks to a gRPC client: a status, with details that a program can read.

The trailing metadata `grpc-status-details-bin` holds a `google.rpc.Status` with an `ErrorInfo`:
`reason` is the name of a `Code` (HANDLER_FAILED for an exception of the user's), `domain` is
"perdure", and `metadata` says `applied` ("no": a promise that nothing of the call is or will
be done; "unknown": it may be) and what else the error knows.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from typing import Final, NoReturn, Protocol

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status as StatusMessage

from perdure.bodies import unpack_error
from perdure.codec import decode
from perdure.errors import (
    KINDS,
    BadPayload,
    Code,
    DataLoss,
    DiskFull,
    Draining,
    NoOwner,
    NotOwner,
    Overloaded,
    PerdureError,
    UnknownType,
    code_of,
    error_from_wire,
)

__all__ = ["DOMAIN", "Refusal", "abort", "refusal_of_answer", "refusal_of_bug", "refusal_of_error"]

DOMAIN: Final = "perdure"

_TEXT_BYTES_MAX: Final = 1_024
"""A text travels twice, percent-encoded and in base64, in metadata of 8 KiB."""

_STATUS_BY_NUMBER: Final[dict[int, grpc.StatusCode]] = {
    status.value[0]: status for status in grpc.StatusCode
}

_log = logging.getLogger(__name__)


class Refusal(Exception):
    """A status to end a gRPC call with."""

    def __init__(
        self,
        status: grpc.StatusCode,
        reason: str,
        text: str,
        applied: str,
        facts: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(status, reason, text, applied, facts, retry_after_s)
        self.status = status
        self.reason = reason
        self.text = _cut(text)
        self.applied = applied
        self.facts: dict[str, str] = {k: _cut(v, 512) for k, v in (facts or {}).items()}
        self.retry_after_s = retry_after_s

    def details(self) -> bytes:
        """Return the packed `google.rpc.Status`."""
        facts = {**self.facts, "applied": self.applied}
        details = AnyMessage(), AnyMessage()
        used = 1
        if self.retry_after_s is not None:
            delay_ms = round(self.retry_after_s * 1000)
            facts["retry_after_ms"] = str(delay_ms)
            delay = Duration()
            delay.FromMilliseconds(delay_ms)
            details[1].Pack(RetryInfo(retry_delay=delay))
            used = 2
        details[0].Pack(ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=facts))
        number: int = self.status.value[0]
        status = StatusMessage(code=number, message=self.text, details=details[:used])
        packed: bytes = status.SerializeToString()
        return packed

    @classmethod
    def unpack(cls, details: bytes) -> Refusal:
        """Return the refusal that another server of ours sent, to pass it on."""
        status = StatusMessage.FromString(details)
        info = ErrorInfo()
        for detail in status.details:
            # Does nothing with a detail of another type.
            detail.Unpack(info)
        facts = dict(info.metadata)
        applied = facts.pop("applied", "unknown")
        delay_ms = facts.pop("retry_after_ms", None)
        return cls(
            _STATUS_BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN),
            info.reason,
            status.message,
            applied,
            facts,
            None if delay_ms is None else int(delay_ms) / 1000,
        )


class _Aborts(Protocol):
    async def abort(
        self,
        code: grpc.StatusCode,
        details: str = "",
        trailing_metadata: tuple[tuple[str, str | bytes], ...] = (),
    ) -> NoReturn: ...


async def abort(context: _Aborts, refusal: Refusal) -> NoReturn:
    """End a gRPC call with a refusal."""
    await context.abort(
        refusal.status, refusal.text, (("grpc-status-details-bin", refusal.details()),)
    )


def refusal_of_error(error: PerdureError, *, applied: str | None = None) -> Refusal:
    """Return the status for one of our errors.

    Args:
        error: Its class decides the status.
        applied: Overrides what the table of codes says, where more is known.
    """
    return _refusal(code_of(error), error, applied)


def refusal_of_answer(code: int, payload: bytes, *, applied: str | None = None) -> Refusal:
    """Return the status for an answer other than OK."""
    if code == Code.RAISED:
        return _refusal_of_exception(payload)
    error = error_from_wire(code, unpack_error(payload))
    known = code in KINDS
    return _refusal(Code(code) if known else Code.INTERNAL, error, applied)


def refusal_of_bug(error: BaseException) -> Refusal:
    """Log an exception that nobody expected, and return a status that names only its log line."""
    error_id = secrets.token_hex(8)
    _log.error("internal error %s", error_id, exc_info=error)
    return Refusal(
        grpc.StatusCode.INTERNAL,
        Code.INTERNAL.name,
        f"internal error {error_id}; the server's log has more",
        "unknown",
        {"error_id": error_id},
    )


def _refusal(code: Code, error: PerdureError, applied: str | None) -> Refusal:
    kind = KINDS[code]
    retry_after_s = float(error.retry_after_s) if isinstance(error, Overloaded | DiskFull) else None
    return Refusal(
        grpc.StatusCode[kind.status],
        code.name,
        str(error),
        applied or kind.applied,
        _facts(error),
        retry_after_s,
    )


def _facts(error: PerdureError) -> dict[str, str]:
    match error:
        case NotOwner():
            return {"partition": str(error.partition), "epoch": str(error.epoch)}
        case NoOwner() | DataLoss():
            return {"partition": str(error.partition)}
        case Draining():
            return {"server": str(error.server)}
        case Overloaded():
            return {"what": str(error.what)}
        case _:
            return {}


def _refusal_of_exception(payload: bytes) -> Refusal:
    """Return the status for an exception of the user's.

    Its class and message are for callers only if the class is one that travels by its name:
    those are made for callers. All other texts may hold anything, so they stay here, in the log
    of the server that the caller asked, under the call's id.
    """
    try:
        fields = decode(payload)
    except (BadPayload, UnknownType):
        fields = {}
    error_id = str(fields.get("call_id") or secrets.token_hex(8))
    text = f"the method failed; error id {error_id}"
    facts = {"error_id": error_id}
    if fields.get("known") == "registered":
        facts |= {"class": str(fields["class"]), "message": str(fields["message"])}
        text = f"{facts['class']}: {facts['message']}"
    else:
        _log.warning(
            "a method failed; error id %s: %s.%s raised %s: %s\n%s",
            error_id,
            *(fields.get(name) for name in ("object", "method", "class", "message", "traceback")),
        )
    kind = KINDS[Code.RAISED]
    return Refusal(grpc.StatusCode[kind.status], "HANDLER_FAILED", text, kind.applied, facts)


def _cut(text: str, bytes_max: int = _TEXT_BYTES_MAX) -> str:
    """Shorten a text to what metadata can carry. Lone surrogates become question marks."""
    data = text.encode("utf-8", "replace")
    if len(data) <= bytes_max:
        return data.decode()
    return data[: bytes_max - 3].decode("utf-8", "ignore") + "..."
