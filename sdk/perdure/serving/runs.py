"""What `Calls.Call` does with runs of workflows: it starts, resumes and waits for them."""

from __future__ import annotations

import time
from typing import NamedTuple

from perdure.answers import Answer
from perdure.bodies import pack_error
from perdure.client import Client
from perdure.codec import decode, encode
from perdure.errors import Code
from perdure.frames import Encoding, Kind, Reply
from perdure.ids import ObjectKey

__all__ = ["Asked", "answer_about_run"]

_GONE = frozenset((Code.HOOK_NOT_FOUND, Code.HOOK_CLOSED))


class Asked(NamedTuple):
    """A request that is about a run."""

    kind: Kind
    """START, RESUME, NOTIFY; ASK: for its result."""
    target: ObjectKey
    """The run, or the token."""
    workflow: str
    """To be started."""
    arguments: bytes
    """The workflow's, or the payload."""
    encoding: Encoding
    timeout_s: float


async def answer_about_run(client: Client, asked: Asked) -> Answer:
    """Carry a request out. The answer holds what its caller gets."""
    if asked.kind == Kind.START:
        return await _start(client, asked)
    if asked.kind == Kind.ASK:
        return await _result(client, asked)
    return await _resume(client, asked)


async def _start(client: Client, asked: Asked) -> Answer:
    arguments = asked.arguments
    if asked.encoding == Encoding.MSGPACK:
        arguments = encode([arguments, None])
    return await client.call(
        asked.target,
        Kind.START,
        asked.workflow,
        arguments=arguments,
        encoding=asked.encoding,
        timeout_s=asked.timeout_s,
    )


async def _result(client: Client, asked: Asked) -> Answer:
    question = "result" if asked.encoding == Encoding.MSGPACK else "result_as_json"
    answer = await client.call(asked.target, Kind.ASK, question, timeout_s=asked.timeout_s)
    if answer.code:
        return answer
    code, payload = decode(answer.reply.payload)
    return Answer(code, Reply(payload, None, None))


async def _resume(client: Client, asked: Asked) -> Answer:
    """Bring a payload to the run that holds the token, whichever that is by then."""
    until = time.monotonic() + asked.timeout_s
    told = ""
    answer: Answer | None = None
    while True:
        holder = await client.call(
            asked.target, Kind.GET, "*", have=(0, 0), timeout_s=_left_s(until)
        )
        if holder.code == Code.OBJECT_NOT_FOUND:
            return Answer(*_no_hook(asked.target.id))
        if holder.code:
            return holder
        assert holder.reply.changes is not None
        run: str = decode(holder.reply.changes.values["run"])
        if answer is not None and run == told:
            return answer
        told = run
        answer = await client.call(
            ObjectKey("workflow", run),
            asked.kind,
            asked.target.id,
            arguments=asked.arguments,
            encoding=asked.encoding,
            timeout_s=_left_s(until),
        )
        if answer.code not in _GONE:
            return answer
        # Another run may hold it by now.


def _left_s(until: float) -> float:
    return max(0.0, until - time.monotonic())


def _no_hook(token: str) -> tuple[int, Reply]:
    code, payload = pack_error(Code.HOOK_NOT_FOUND, (token,))
    return code, Reply(payload, None, None)
