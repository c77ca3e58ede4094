"""`durable.cancel`: ending a call that waits or runs."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

from perdure.answers import PendingAnswer
from perdure.call import Call
from perdure.codec import decode, encode
from perdure.frames import Kind, Reply
from perdure.handle import TIMEOUT_S
from perdure.ids import ObjectKey
from perdure.remote import current_caller

__all__ = ["cancel_by_id", "cancel_call", "check_call_id"]

_ID: Final = re.compile(r"[0-9a-f]{32}:(0|[1-9]\d{0,9}):[1-9]\d{0,18}")


async def cancel_call(call: Call[Any], *, kill: bool) -> bool:
    """Cancel a call that this process has made, once it has its id.

    Raises:
        TypeError: It is a read or a step, which cannot be cancelled.
    """
    future, target = call._arrival.future, call._target
    if target is None or not isinstance(future, PendingAnswer):
        raise TypeError(
            f"{call!r} cannot be cancelled: durable.cancel takes a call of a method that was made "
            f"outside of methods, or a handle and the call's id"
        )
    if not future.done() and call.id is None:
        numbered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # A waiter that has gone meanwhile has cancelled its future.
        future.when_numbered(lambda: None if numbered.done() else numbered.set_result(None))
        await asyncio.wait((numbered, future), return_when=asyncio.FIRST_COMPLETED)
    call_id = call.id
    if call_id is None:
        return False  # It has ended without ever being sent.
    return await cancel_by_id(target, call_id, kill=kill)


def cancel_by_id(target: ObjectKey, call_id: str, *, kill: bool) -> Call[bool]:
    """Cancel a call to an object by its id.

    Raises:
        TypeError: The id is no text.
        ValueError: It is no id of a call.
    """
    check_call_id(call_id)
    future = current_caller().call(
        target,
        Kind.CANCEL,
        "kill" if kill else "cancel",
        arguments=encode(call_id),
        timeout_s=TIMEOUT_S,
    )
    return Call(f"durable.cancel({target}, {call_id!r})", future, _bool)


def check_call_id(call_id: str) -> None:
    """Refuse what cannot be the id of a call.

    Raises:
        TypeError: It is no text.
        ValueError: It is no id.
    """
    if type(call_id) is not str:
        raise TypeError(f"the id of a call is a str, not {type(call_id).__name__}")
    if not _ID.fullmatch(call_id):
        raise ValueError(f"no id of a call: {call_id!r:.100}; one is session:partition:sequence")


def _bool(reply: Reply) -> bool:
    return bool(decode(reply.payload))
