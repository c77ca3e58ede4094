"""`resume_hook`: sending a payload to whichever run holds a token.

A client asks once which run holds a token and remembers it: what follows goes straight to the
run. A run that does not hold the token says so, and then the token is asked again.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections import OrderedDict
from typing import Any, Final

from perdure.call import Call
from perdure.client import Client
from perdure.codec import decode
from perdure.errors import HookClosed, HookNotFound, ObjectNotFound
from perdure.frames import Kind, Reply
from perdure.ids import ObjectKey, check_object_id
from perdure.remote import current_caller
from perdure.turn import Caller, current_turn
from perdure.workflows.definitions import WORKFLOW
from perdure.workflows.metadata import current_step
from perdure.workflows.runs import encode_payload
from perdure.workflows.tokens import HOOK_TYPE

__all__ = ["resume_hook"]

_TIMEOUT_S: Final = 30.0
_KNOWN_MAX: Final = 100_000
_PAUSE_S: Final = 0.01
_PAUSE_MAX_S: Final = 0.25


async def resume_hook(
    token: str,
    payload: Any = None,
    *,
    reply: bool = True,
    wait: dt.timedelta | float | None = None,
    timeout: float | None = _TIMEOUT_S,
) -> Any:
    """Send a payload to the hook of a token and return what its run replies.

    It is durable when this returns, and delivered once, in the order of arrival, also to a run
    that does not wait for it yet. None is returned when the run goes on without a reply.

    Args:
        token: Of the hook.
        payload: What the hook's schema takes; it is checked where the run is.
        reply: Wait for the reply. Without it, this returns as soon as the payload is durable.
        wait: How long to wait for the hook if there is none yet; a number means seconds.
        timeout: How long to wait for the reply, in seconds; None for ever.

    Raises:
        HookNotFound: No run has such a hook, now or earlier.
        HookClosed: The hook's run has ended, or has disposed of it.
        BadPayload: The payload is not what the hook takes; the text names the fields.
        DeadlineExceeded: There was no reply in time. The payload stays with the run.
    """
    check_object_id(token)
    encoded = encode_payload(payload)
    kind = Kind.RESUME if reply else Kind.NOTIFY
    wait_s = 0.0
    if wait is not None:
        wait_s = wait.total_seconds() if isinstance(wait, dt.timedelta) else float(wait)
    until, pause_s = time.monotonic() + wait_s, _PAUSE_S
    caller = current_caller()
    while True:
        try:
            return await _resume(caller, kind, token, encoded, timeout)
        except HookNotFound:
            if time.monotonic() + pause_s > until or _is_replayed():
                raise
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _PAUSE_MAX_S)


async def _resume(
    caller: Caller, kind: Kind, token: str, payload: bytes, timeout: float | None
) -> Any:
    known = _runs_known_to(caller)
    run = None if known is None else known.get(token)
    if run is not None:
        try:
            return await _send(caller, kind, run, token, payload, timeout)
        except (HookNotFound, HookClosed):
            # Another run may hold it by now.
            holder = await _holder_of(caller, token, timeout)
            if holder == run:
                raise
            run = holder
    else:
        run = await _holder_of(caller, token, timeout)
    if known is not None:
        known[token] = run
        known.move_to_end(token)
        if len(known) > _KNOWN_MAX:
            known.popitem(last=False)
    return await _send(caller, kind, run, token, payload, timeout)


def _send(
    caller: Caller, kind: Kind, run: str, token: str, payload: bytes, timeout: float | None
) -> Call[Any]:
    future = caller.call(
        ObjectKey(WORKFLOW, run), kind, token, arguments=payload, timeout_s=timeout
    )
    return Call(f"resume_hook({token!r})", future, _value)


async def _holder_of(caller: Caller, token: str, timeout: float | None) -> str:
    """Return the run that holds a token, or has held it last."""
    future = caller.call(ObjectKey(HOOK_TYPE, token), Kind.GET, "*", have=(0, 0), timeout_s=timeout)
    try:
        reply = await Call(f"resume_hook({token!r})", future, lambda reply: reply)
    except ObjectNotFound:
        raise HookNotFound(token) from None
    assert reply.changes is not None
    run: str = decode(reply.changes.values["run"])
    return run


def _runs_known_to(caller: Caller) -> OrderedDict[str, str] | None:
    # What a run or method asks for must not depend on what its process happens to know.
    if _is_replayed() or current_step.get() is not None:
        return None
    return caller.holders if isinstance(caller, Client) else None


def _is_replayed() -> bool:
    return current_turn.get() is not None and current_step.get() is None


def _value(reply: Reply) -> Any:
    return decode(reply.payload)
