"""`durable.send`: calls whose result nobody waits for, now or later."""

from __future__ import annotations

import datetime as dt
import time
from types import MethodType
from typing import TYPE_CHECKING, Any, NoReturn

from perdure.call import Call
from perdure.errors import UnknownMethod
from perdure.frames import Kind, Reply
from perdure.handle import Handle, remote_methods
from perdure.hints import did_you_mean
from perdure.runtime import current_client
from perdure.schedules import due_of
from perdure.turn import current_turn

if TYPE_CHECKING:
    from perdure.remote import RemoteMethod

__all__ = ["Sender", "SentMethod"]


class Sender:
    """Looks like a handle; its methods enqueue a call durably and give None."""

    __slots__ = ("_perdure_delay", "_perdure_handle", "_perdure_key")

    _perdure_handle: Handle
    _perdure_delay: dt.timedelta | float | None
    _perdure_key: str | None

    def __init__(self, handle: Handle, delay: dt.timedelta | float | None, key: str | None) -> None:
        """Send to an object.

        Args:
            handle: Any handle to it.
            delay: From each call to when it is due; None: at once.
            key: The idempotency key of the calls.
        """
        if delay is not None:
            due_of(delay, 0)  # Checked here, where it was written.
        _set(self, "_perdure_handle", handle)
        _set(self, "_perdure_delay", delay)
        _set(self, "_perdure_key", handle._perdure_call_key if key is None else key)

    def __getattr__(self, name: str) -> Any:
        methods = remote_methods(self._perdure_handle)
        method = methods.get(name)
        if method is not None:
            return MethodType(SentMethod(method), self)
        type_name = self._perdure_handle._perdure_key.type
        raise UnknownMethod(type_name, name, did_you_mean(name, list(methods)))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{self!r}.{name} cannot be set: state changes in methods only")

    def __dir__(self) -> list[str]:
        """List what can be sent."""
        return sorted(remote_methods(self._perdure_handle))

    def __repr__(self) -> str:
        return f"<send to {self._perdure_handle!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("what durable.send returns cannot be pickled: send the handle")


_set = object.__setattr__


class SentMethod:
    """A method of a type, to be bound to a `Sender`."""

    def __init__(self, method: RemoteMethod) -> None:
        self._method = method
        self.__name__ = method.__name__
        self.__qualname__ = method.__qualname__
        self.__module__ = method.__module__
        self.__doc__ = method.__doc__
        self.__signature__ = method.__signature__

    def __repr__(self) -> str:
        return f"<method {self.__qualname__} of a durable object, to be sent>"

    def __call__(self, sender: Sender, /, *args: Any, **kwargs: Any) -> Call[None]:
        """Enqueue a call.

        Raises:
            BadArguments: They do not fit the method, or cannot travel; nothing is sent.
            RuntimeError: Where a method runs that may not send.
        """
        arguments = self._method.pack(args, kwargs)
        delay, key = sender._perdure_delay, sender._perdure_key
        due_ms = 0
        if delay is not None:
            now_ms = -(-time.time_ns() // 1_000_000)  # Rounded up: it must not come early.
            due_ms = due_of(delay, now_ms)
            if due_ms <= now_ms:
                due_ms = 0
        handle, name = sender._perdure_handle, self.__name__
        target = handle._perdure_key
        turn = current_turn.get()
        if turn is not None:
            future = turn.send(target, name, arguments, due_ms, key)
        else:
            future = current_client().call(
                target,
                Kind.SEND,
                name,
                arguments=arguments,
                key=key,
                timeout_s=handle._perdure_timeout_s,
                due_ms=due_ms,
            )
        return Call(f"durable.send({handle!r}).{name}()", future, _none, None, target)


def _none(_: Reply) -> None:
    return None
