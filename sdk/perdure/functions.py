"""Durable functions: functions that run like a method, and belong to no object.

Each function is registered as a type of object with one method, and each call of it has an
object of its own, which has no state and is never stored. So a call has all that the call of a
method has (journal, outcome, retries, cancellation), and nothing of it stays once its caller has
the outcome.

Invariants:
  * The id of that object is the caller's to give: fresh for each call, the same in every run of
    a method that calls, and the same for all calls with one idempotency key.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any, Final, Generic, NoReturn, ParamSpec, TypeVar

from perdure import asking, services
from perdure.call import Call
from perdure.codec import decode
from perdure.context import ctx
from perdure.frames import Kind, Reply
from perdure.handle import TIMEOUT_S
from perdure.ids import ObjectKey
from perdure.methods import signature_of
from perdure.objects import FUNCTION, STATE_BYTES_MAX, DurableObject, ObjectType, type_of
from perdure.registration import check_type_name, register_type
from perdure.remote import current_caller

__all__ = ["DurableFunction", "make_function"]

_METHOD: Final = "call"

_P = ParamSpec("_P")
_R = TypeVar("_R")

_SELF: Final = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)


class DurableFunction(Generic[_P, _R]):
    """What `@durable.function` makes of a function: calling it has the cluster run it."""

    def __init__(
        self,
        function: Callable[..., Any],
        object_type: ObjectType,
        key: str | None = None,
        timeout_s: float | None = TIMEOUT_S,
    ) -> None:
        """Stand for a function.

        Args:
            function: As it was written.
            object_type: What it is registered as.
            key: The idempotency key of its calls.
            timeout_s: How long their answers are waited for; None for ever.
        """
        self.__name__ = function.__name__
        functools.update_wrapper(self, function)
        self.__signature__ = object_type.methods[_METHOD].signature
        self._perdure_type = object_type
        self._perdure_call_key = key
        self._perdure_timeout_s = timeout_s

    def __repr__(self) -> str:
        return f"<durable function {self._perdure_type.name.removeprefix(FUNCTION)}>"

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> Call[_R]:
        """Send a call and return it, to be awaited for the result.

        Raises:
            BadArguments: They do not fit the function, or cannot travel; nothing is sent.
        """
        arguments = self._perdure_type.methods[_METHOD].pack(args, kwargs)
        key = self._perdure_call_key
        # Given by the context, so that a method that runs again means the same call.
        id = ctx.uuid().hex if key is None else f"key:{key}"
        target = ObjectKey(self._perdure_type.name, id)
        future = current_caller().call(
            target,
            Kind.CALL,
            _METHOD,
            arguments=arguments,
            key=key,
            timeout_s=self._perdure_timeout_s,
        )
        return Call(f"{self.__name__}()", future, _result, None, target)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be sent or stored: call it where it is needed")

    def with_options(self, key: str | None, timeout_s: float | None) -> DurableFunction[_P, _R]:
        """Return the same function, whose calls are made in another way.

        Args:
            key: The idempotency key of its calls.
            timeout_s: How long their answers are waited for; None for ever.
        """
        return DurableFunction(self.__wrapped__, self._perdure_type, key, timeout_s)  # type: ignore[attr-defined]


def make_function(
    function: Callable[..., Any], name: str | None, retries: int
) -> DurableFunction[Any, Any]:
    """Register a function.

    Args:
        function: Sync or async.
        name: Its name in the cluster; the function's own by default.
        retries: How many times it is run again when it raises.

    Raises:
        TypeError: It is no such function, or another file defines one of that name.
        ValueError: The name or `retries` is not possible.
    """
    if not isinstance(function, FunctionType):
        raise TypeError(
            f"@durable.function decorates a function, not {type(function).__name__}; "
            f"a class is made durable by @durable.object"
        )
    name = function.__name__ if name is None else name
    check_type_name(name)
    services.check_no_service(name, function)
    cls = type(
        function.__name__,
        (DurableObject,),
        {
            "__module__": function.__module__,
            "__qualname__": function.__qualname__,
            "__doc__": function.__doc__,
            _METHOD: _as_method(function),
        },
    )
    register_type(cls, name, "always", STATE_BYTES_MAX, retries, FUNCTION)
    made: DurableFunction[Any, Any] = DurableFunction(function, type_of(cls))
    asking.FUNCTIONS[name] = made
    return made


def _as_method(function: FunctionType) -> Callable[..., Any]:
    """Return a function as the method of an object, of which it sees nothing."""

    async def method_async(_: DurableObject, /, *args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    def method_sync(_: DurableObject, /, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    is_async = inspect.iscoroutinefunction(function)
    method: Callable[..., Any] = method_async if is_async else method_sync
    functools.update_wrapper(method, function)
    signature = signature_of(function)
    parameters = [_SELF, *signature.parameters.values()]
    if any(p.name == "self" for p in parameters[1:]):
        raise TypeError(f"{function.__qualname__} has a parameter `self`: it belongs to no object")
    method.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return method


def _result(reply: Reply) -> Any:
    return decode(reply.payload)
