"""Steps of a method, asked for by its context: how they are sent and what awaiting them gives."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any, Final, NoReturn

from perdure.call import Call
from perdure.codec import NotEncodable, decode, encode
from perdure.errors import BadArguments
from perdure.frames import Reply
from perdure.turn import Turn

__all__ = ["FUNCTIONS", "NOTHING", "call_service", "run", "sleep"]


class _Nothing:
    """The type of `NOTHING`."""

    def __repr__(self) -> str:
        return "no payload"


NOTHING: Final = _Nothing()
"""Stands for a payload that is not given, which is something else than None."""

FUNCTIONS: Final[dict[str, Callable[..., Call[Any]]]] = {}
"""The durable functions, by name: `ctx.call` calls them too."""


def call_service(turn: Turn | None, service: str, method: str, payload: object) -> Call[Any]:
    """Call a service, as a step where there is a turn; see `DurableContext.call`."""
    if type(service) is not str or type(method) is not str:
        _refuse_name(service, method)
    if service in FUNCTIONS and method == "call":
        function = FUNCTIONS[service]
        return function() if payload is NOTHING else function(payload)
    label = _label_of(service, method)
    try:
        packed = None if payload is NOTHING else encode(payload)
    except NotEncodable as error:
        raise BadArguments(f"{label} payload{error.path}: {error.problem} cannot be sent") from None
    if turn is None:
        from perdure import unrecorded

        return _step(label, unrecorded.call_service(service, method, packed), _value)
    return _step(label, turn.service(service, method, packed), _value)


def _refuse_name(service: object, method: object) -> NoReturn:
    what, name = ("method", method) if type(service) is str else ("service", service)
    raise TypeError(f"ctx.call: the name of a {what} is a str, not {type(name).__name__}")


@functools.lru_cache(maxsize=1_024)
def _label_of(service: str, method: str) -> str:
    return f"ctx.call({service!r}, {method!r})"


def run(
    turn: Turn | None,
    name: str,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Call[Any]:
    """Run a function, as a step where there is a turn; see `DurableContext.run`."""
    if type(name) is not str:
        raise TypeError(f"ctx.run takes a name and a function: {name!r:.100} is no str")
    if not callable(function):
        hint = ": give its arguments behind it" if asyncio.iscoroutine(function) else ""
        raise TypeError(f"ctx.run({name!r}): {function!r:.100} is no function{hint}")
    label = f"ctx.run({name!r})"
    bound = functools.partial(function, *args, **kwargs)
    if turn is None:
        from perdure import unrecorded

        future, result = unrecorded.run(bound)
        return _step(label, future, lambda _: result())
    return _step(label, turn.run_step(name, bound), _value)


def sleep(turn: Turn, until_ms: int) -> Call[None]:
    """Wait until the wall clock shows this, as a step."""
    return _step("ctx.sleep()", turn.sleep(until_ms), _none)


def _step(label: str, future: Any, read: Callable[[Reply], Any]) -> Call[Any]:
    # A step's result has what a Call wants of an answer: the code and the reply.
    return Call(label, future, read)


def _value(reply: Reply) -> Any:
    return decode(reply.payload)


def _none(_: Reply) -> None:
    return None
