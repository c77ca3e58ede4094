"""What can be done with types and handles: `from perdure import durable`.

Every public name of an object belongs to its class, so whatever Perdure itself offers for a
class or a handle is a function here.
"""

from __future__ import annotations

import builtins
import datetime as dt
from collections.abc import AsyncIterator, Callable, Coroutine
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Protocol, TypeVar, cast, overload

from perdure import cancelling, services, values
from perdure.call import Call
from perdure.codec import decode
from perdure.errors import BadKey, Code
from perdure.frames import Kind, Reply
from perdure.functions import DurableFunction, make_function
from perdure.handle import TIMEOUT_S, check_handle, make_handle, with_options
from perdure.ids import ObjectKey, check_object_id, partition_of
from perdure.listing import list_ids
from perdure.objects import STATE_BYTES_MAX, DurableObject, Persist, type_of
from perdure.registration import register_type
from perdure.remote import RemoteMethod, current_caller
from perdure.sending import Sender, SentMethod
from perdure.services import Retry

if TYPE_CHECKING:
    from perdure.client import Answer

__all__ = [
    "Retry",
    "call",
    "cancel",
    "delete",
    "error",
    "exists",
    "function",
    "list",
    "object",
    "options",
    "partition",
    "ref",
    "refresh",
    "send",
    "service",
    "shared",
    "value",
]

_KEY_BYTES_MAX: Final = 256

_T = TypeVar("_T", bound=DurableObject)
_C = TypeVar("_C", bound=type)
_E = TypeVar("_E", bound=type[Exception])
_F = TypeVar("_F", bound=Callable[..., Any])
_Service = TypeVar("_Service", bound=Callable[..., Any])
_P = ParamSpec("_P")
_R = TypeVar("_R")


class _FunctionDecorator(Protocol):
    """What `durable.function` with options returns."""

    @overload
    def __call__(
        self, function: Callable[_P, Coroutine[Any, Any, _R]], /
    ) -> DurableFunction[_P, _R]: ...
    @overload
    def __call__(self, function: Callable[_P, _R], /) -> DurableFunction[_P, _R]: ...


# What classes and functions are decorated with.


@overload
def object(cls: type[_T], /) -> type[_T]: ...
@overload
def object(
    *,
    name: str | None = None,
    persist: Persist = "always",
    max_state_bytes: int = STATE_BYTES_MAX,
    retries: int = 0,
) -> Callable[[type[_T]], type[_T]]: ...
def object(
    cls: type[_T] | None = None,
    /,
    *,
    name: str | None = None,
    persist: Persist = "always",
    max_state_bytes: int = STATE_BYTES_MAX,
    retries: int = 0,
) -> type[_T] | Callable[[type[_T]], type[_T]]:
    """Make a class a type of durable object. It must inherit from `DurableObject`.

    Args:
        cls: The class, when used without parentheses.
        name: The type's name, which is part of every object's address; the class's by default.
        persist: `always`: an answer means that its changes are on disk. `on_save`: answers do
            not wait and only `save()` commits; a crash loses the work since the last one.
        max_state_bytes: The limit of one object's encoded state.
        retries: How many times a method that raises is run again, from the last commit point
            and with growing pauses, before its exception is the answer. Steps that have
            succeeded are not made again. By default an exception is the answer at once.

    Raises:
        TypeError: The class breaks a rule, or another file defines a type of that name.
        ValueError: An option has no possible value.
    """

    def register(cls: type[_T]) -> type[_T]:
        register_type(cls, name, persist, max_state_bytes, retries)
        return cls

    return register if cls is None else register(cls)


@overload
def function(function: Callable[_P, Coroutine[Any, Any, _R]], /) -> DurableFunction[_P, _R]: ...
@overload
def function(function: Callable[_P, _R], /) -> DurableFunction[_P, _R]: ...
@overload
def function(*, name: str | None = None, retries: int = 0) -> _FunctionDecorator: ...
def function(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retries: int = 0,
) -> Any:
    """Let a function run durably on the cluster: `await summarize(text)`, from anywhere.

    It runs like a method, with `ctx` and its steps, but has no object: no state, no timers, and
    any number of its calls at a time. A call runs once, survives crashes, and its outcome is
    kept until the caller has it. `ctx.call("summarize", "call", text)` is the same call.

    Args:
        function: Sync or async, when used without parentheses. A sync one holds up its node.
        name: What it is called in the cluster; its own name by default.
        retries: How many times it is run again when it raises; see `object`.

    Raises:
        TypeError: It is no such function, or another file defines one of that name.
        ValueError: An option has no possible value.
    """
    if function is not None:
        return make_function(function, name, retries)
    return lambda function: make_function(function, name, retries)


def shared(function: _F) -> _F:
    """Mark a method that only reads: it may run beside other shared calls of its object.

    State that it changes all the same is undone, and the call fails.

    Raises:
        TypeError: It is no function.
    """
    if not isinstance(function, FunctionType):
        raise TypeError(f"@durable.shared decorates a method, not {type(function).__name__}")
    function._perdure_shared = True  # type: ignore[attr-defined]  # Functions take attributes.
    return cast("_F", function)


@overload
def value(cls: _C, /) -> _C: ...
@overload
def value(*, name: str | None = None) -> Callable[[_C], _C]: ...
def value(cls: _C | None = None, /, *, name: str | None = None) -> _C | Callable[[_C], _C]:
    """Let a dataclass, pydantic model or Enum travel and be stored, by its name.

    Classes in a module that defines a durable object, and those in annotations of methods, are
    known without.

    Raises:
        TypeError: It is no such class, or another file has a class of that name.
    """

    def register(cls: _C) -> _C:
        return values.register(cls, name)

    return register if cls is None else register(cls)


@overload
def error(cls: _E, /) -> _E: ...
@overload
def error(*, name: str | None = None) -> Callable[[_E], _E]: ...
def error(cls: _E | None = None, /, *, name: str | None = None) -> _E | Callable[[_E], _E]:
    """Let an exception be raised at the caller as itself, where this class is known too.

    Raises:
        TypeError: It is no exception, or another file has a class of that name.
    """

    def register(cls: _E) -> _E:
        if not isinstance(cls, type) or not issubclass(cls, Exception):
            raise TypeError(f"@durable.error decorates an exception, not {cls!r}")
        return values.register(cls, name)

    return register if cls is None else register(cls)


def service(name: str, /) -> Callable[[_Service], _Service]:
    """Make a class or a function a service, which methods call by `ctx.call(name, method)`.

    A class is made once in a process, without arguments; its public methods are the service's. A
    function is the method of its own name, and several may share a service. Each takes the
    payload, or nothing where `ctx.call` has none. Sync ones run in threads, several at a time.

    An exception is the service's answer: it is recorded at once and raised from `ctx.call` as
    `ServiceError`. Only `durable.Retry`, and an attempt that takes too long, are tried again.
    Inside, `ctx.idempotency_key` is the same for every attempt, and `ctx.attempt` counts them.

    Args:
        name: The service's.

    Raises:
        TypeError: It is no class that can be made so, or another file defines the same.
        ValueError: The name is not possible.
    """
    services.check_service_name(name)
    return lambda target: services.register(name, target)


# What is asked about objects.


def ref(cls: type[_T], object_id: str) -> _T:
    """Return a handle without a round trip, whether there is such an object or not.

    It has no snapshot: reading an attribute raises `NotLoaded` until a call or `refresh` has
    brought one.
    """
    return cast("_T", make_handle(type_of(cls), check_object_id(object_id)))


def exists(cls: type[DurableObject], object_id: str) -> Call[bool]:
    """Ask whether there is such an object, without waiting for its methods."""
    object_type = type_of(cls)
    key = ObjectKey(object_type.name, check_object_id(object_id))
    future = current_caller().call(key, Kind.EXISTS, timeout_s=TIMEOUT_S)
    return Call(f"durable.exists({object_type.name})", future, _bool)


def delete(handle: DurableObject) -> Call[bool]:
    """Delete an object with all its state; tell whether there was one.

    It takes its turn like a call: calls made before it run first, calls after it raise
    `ObjectNotFound`. `get_or_create` afterwards begins anew.
    """
    target = check_handle(handle, "durable.delete")
    future = current_caller().call(
        target._perdure_key,
        Kind.DELETE,
        key=target._perdure_call_key,
        timeout_s=target._perdure_timeout_s,
    )
    snapshot = target._perdure_snapshot

    def forget(answer: Answer) -> None:
        if answer.code == Code.OK:
            snapshot.forget()

    return Call(f"durable.delete({target!r})", future, _bool, forget)


def list(cls: type[_T], prefix: str = "", limit: int | None = None) -> AsyncIterator[_T]:
    """Iterate over handles to the stored objects of a type, in the order of their ids.

    Objects are not woken, and the handles have no snapshot. Ids sort by their UTF-8 bytes.
    Objects made or deleted meanwhile may or may not be among them.

    Args:
        cls: The type.
        prefix: Only ids that begin with it.
        limit: At most so many; None for all.
    """
    object_type = type_of(cls)
    if type(prefix) is not str:
        raise TypeError(f"a prefix is a str, not {type(prefix).__name__}")
    if limit is not None and (type(limit) is not int or limit < 0):
        raise ValueError(f"limit is None or an int from 0, not {limit!r}")

    async def handles() -> AsyncIterator[_T]:
        left = limit
        if left == 0:
            return
        async for object_id in list_ids(object_type.name, prefix):
            yield cast("_T", make_handle(object_type, object_id))
            if left is not None:
                left -= 1
                if left == 0:
                    return

    return handles()


async def refresh(handle: _T) -> _T:
    """Bring the last committed state into a handle, all of it, however large; return the handle.

    Does not wait for a method that runs.

    Raises:
        ObjectNotFound: There is no such object.
    """
    target = check_handle(handle, "durable.refresh")
    snapshot = target._perdure_snapshot

    def apply(reply: Reply) -> bool:
        assert reply.version is not None
        assert reply.changes is not None
        epoch, number = reply.version
        return snapshot.apply((epoch, number), reply.changes)

    # An answer of another call may have brought a later state meanwhile, without its large
    # attributes: then this one does not fit any more and the next one will.
    while True:
        future = current_caller().call(
            target._perdure_key,
            Kind.GET,
            "*",
            timeout_s=target._perdure_timeout_s,
            have=(0, 0),
        )
        if await Call(f"durable.refresh({target!r})", future, apply):
            return handle


def partition(handle: DurableObject) -> int:
    """Return the partition that an object belongs to, for ever. No message is sent.

    Raises:
        RuntimeError: Nothing has been answered yet, so that the number of partitions is unknown.
    """
    target = check_handle(handle, "durable.partition")
    count = current_caller().partition_count
    if count is None:
        raise RuntimeError(
            "how many partitions there are is known once something has been answered"
        )
    return partition_of(target._perdure_key, count)


# How calls are made.


@overload
def options(
    handle: DurableFunction[_P, _R], *, key: str | None = None, timeout: float | None = TIMEOUT_S
) -> DurableFunction[_P, _R]: ...
@overload
def options(handle: _T, *, key: str | None = None, timeout: float | None = TIMEOUT_S) -> _T: ...
def options(handle: Any, *, key: str | None = None, timeout: float | None = TIMEOUT_S) -> Any:
    """Return another handle to the same object whose calls are made in another way.

    Both show what the answers of either bring.

    Args:
        handle: Any handle to the object; or a durable function.
        key: An idempotency key of 1 to 256 bytes: calls of one method of one object with one key
            are one call, whoever makes them, and get its recorded answer.
        timeout: How long to wait for an answer, in seconds; None for ever. The method is not
            cancelled when the time is over.

    Raises:
        BadKey: The key is not possible.
        ValueError: The timeout is not positive.
    """
    is_function = isinstance(handle, DurableFunction)
    target = None if is_function else check_handle(handle, "durable.options")
    if key is not None:
        _check_key(key)
    if timeout is not None:
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
            raise TypeError(f"a timeout is seconds or None, not {type(timeout).__name__}")
        if not timeout > 0:
            raise ValueError(f"a timeout is positive, not {timeout!r}")
    return (
        handle.with_options(key, timeout) if target is None else with_options(target, key, timeout)
    )


@overload
def call(
    method: Callable[_P, Coroutine[Any, Any, _R]], /, *args: _P.args, **kwargs: _P.kwargs
) -> Call[_R]: ...
@overload
def call(method: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> Call[_R]: ...
def call(method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Call[Any]:
    """Call a method of a handle: `await durable.call(cart.total)` is `await cart.total()`.

    For type checkers a handle is the class itself, and a sync method's result is not awaitable.
    Written so, both are right.

    Raises:
        TypeError: It is no method of a handle.
    """
    function = method.__func__ if isinstance(method, MethodType) else None
    if not isinstance(function, (RemoteMethod, SentMethod)):
        raise TypeError(
            "durable.call takes a method of a handle, such as cart.total; "
            "inside of the object call self.total() as it is"
        )
    result: Call[Any] = method(*args, **kwargs)
    return result


def send(handle: _T, delay: dt.timedelta | float | None = None, key: str | None = None) -> _T:
    """Have a method called without waiting for it: `await durable.send(order).ship("x")`.

    Awaiting gives None once the call is durably enqueued; not awaited it is still sent. Sent in a
    method, it leaves with the next commit of the state, and is undone with it. An error of the
    call is nobody's to see but the log's.

    Args:
        handle: Any handle to the object.
        delay: Enqueue it only after this time, which outlives every process; a number means
            seconds. None, or what is not positive: at once.
        key: An idempotency key, see `options`, whose key it replaces.

    Raises:
        TypeError: `delay` is no delay.
        ValueError: `delay` is no number (NaN), or more than ten years.
        BadKey: The key is not possible.
    """
    target = check_handle(handle, "durable.send")
    if key is not None:
        _check_key(key)
    return cast("_T", Sender(target, delay, key))


@overload
async def cancel(call: Call[Any], /, *, kill: bool = False) -> bool: ...
@overload
async def cancel(handle: DurableObject, id: str, /, *, kill: bool = False) -> bool: ...
async def cancel(
    target: Call[Any] | DurableObject, id: str | None = None, /, *, kill: bool = False
) -> bool:
    """End a call that waits or runs: `await durable.cancel(call)`.

    Args:
        target: A call that this process made, outside of methods. Or a handle to the object.
        id: With a handle: the call's id, as `call.id` or `ctx.call_id` said it.
        kill: Do not let the method catch the cancellation and clean up.

    Returns:
        True: it was waiting or running, and will end with `CallCancelled`. What it has saved
        stays. False: there is no such call, or it has ended; perhaps by this cancellation, when
        a node died that had not told yet.

    Raises:
        TypeError: It is no call that can be cancelled, or no handle with an id.
        ValueError: That is no id of a call.
    """
    if type(target) is Call:
        if id is not None:
            raise TypeError("durable.cancel takes a call, or a handle and an id, not all of them")
        return await cancelling.cancel_call(target, kill=kill)
    handle = check_handle(target, "durable.cancel")
    if id is None:
        raise TypeError("durable.cancel with a handle takes the id of the call too")
    return await cancelling.cancel_by_id(handle._perdure_key, id, kill=kill)


def _bool(reply: Reply) -> bool:
    return bool(decode(reply.payload))


def _check_key(key: builtins.object) -> None:
    if type(key) is not str:
        raise TypeError(f"an idempotency key is a str, not {type(key).__name__}")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise BadKey("an idempotency key is valid Unicode text: no lone surrogates") from None
    if not 0 < size <= _KEY_BYTES_MAX or "\0" in key:
        raise BadKey(
            f"an idempotency key has 1 to {_KEY_BYTES_MAX} bytes of UTF-8 and no NUL: {key!r:.300}"
        )
