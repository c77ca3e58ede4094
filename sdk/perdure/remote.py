"""A method as a handle shows it: calling it sends a call.

What all calls of a method have in common is made once, when its class is registered.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from perdure.call import Call
from perdure.codec import decode
from perdure.frames import Kind, Reply
from perdure.methods import Method
from perdure.runtime import current_client
from perdure.turn import Caller, current_turn

if TYPE_CHECKING:
    from perdure.handle import Handle

__all__ = ["RemoteMethod", "current_caller"]

_SELF: Final = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)


_CALL: Final = Kind.CALL  # Members of an enum cost ten times as much to look up.


async def _coroutine_function() -> None:
    """Lend its code to `RemoteMethod`, which is awaitable like a coroutine function."""


def current_caller() -> Caller:
    """Return who sends calls here: the turn of the method that runs, else this loop's client.

    Raises:
        RuntimeError: No loop runs.
    """
    turn = current_turn.get()
    return current_client() if turn is None else turn


class RemoteMethod:
    """A method of a type, to be bound to a handle.

    Has what `inspect` looks for in a coroutine function, the method's own signature and
    docstring among it.
    """

    def __init__(self, method: Method) -> None:
        self._method = method
        self._name = method.name
        self._label = f"{method.type_name}.{method.name}()"
        self.pack = method.pack
        """Returns a caller's arguments as they travel."""
        self.__name__ = method.name
        self.__qualname__ = f"{method.type_name}.{method.name}"
        self.__module__ = method.function.__module__
        self.__doc__ = method.function.__doc__
        self.__code__ = _coroutine_function.__code__
        self.__defaults__: tuple[Any, ...] | None = None
        self.__kwdefaults__: dict[str, Any] | None = None
        self.__annotations__: dict[str, Any] = {}
        signature = method.signature
        self.__signature__ = signature.replace(parameters=[_SELF, *signature.parameters.values()])

    def __repr__(self) -> str:
        return f"<method {self.__qualname__} of a durable object>"

    def __call__(self, handle: Handle, /, *args: Any, **kwargs: Any) -> Call[Any]:
        """Send a call and return it.

        Raises:
            BadArguments: They do not fit the method, or cannot travel; nothing is sent.
        """
        arguments = self.pack(args, kwargs)
        snapshot = handle._perdure_snapshot
        key = handle._perdure_key
        future = current_caller().call(
            key,
            _CALL,
            self._name,
            arguments=arguments,
            key=handle._perdure_call_key,
            timeout_s=handle._perdure_timeout_s,
            have=snapshot.have(),
        )
        return Call(self._label, future, _result, snapshot.take, key)


def _result(reply: Reply) -> Any:
    return decode(reply.payload)
