"""Services written in Python: which there are, by the names that `ctx.call` uses.

Invariants:
  * A name of a service and of a method means one function. Defined again in the same file (a
    cell run twice, a reload) it takes the place of the old one; from another file it is an
    error that names both files.
  * A service's class is made at the first call of one of its methods, and once in a process.
"""

from __future__ import annotations

import datetime as dt
import inspect
import math
import threading
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any, Final, NamedTuple, TypeVar

from perdure import asking
from perdure.errors import ServiceNotFound
from perdure.hints import did_you_mean
from perdure.methods import signature_of
from perdure.values import origin_of
from perdure.waiting import may_wait

__all__ = ["Retry", "ServiceMethod", "check_no_service", "check_service_name", "find", "register"]

_NAME_CHARACTERS_MAX: Final = 128

_T = TypeVar("_T", bound=Callable[..., Any])


class Retry(Exception):
    """Raised by a Python service to be called again, after its back-off.

    Any other exception of a service is its answer, which is recorded and never retried.
    """

    def __init__(self, after: float | dt.timedelta | None = None, reason: str = "") -> None:
        """Ask for another attempt.

        Args:
            after: How long to wait at least; a number is seconds. None: the back-off alone.
            reason: What the `ServiceError` says when this was the last attempt.

        Raises:
            ValueError: `after` is negative or not finite.
        """
        super().__init__(after, reason)
        seconds = after.total_seconds() if isinstance(after, dt.timedelta) else after
        if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"Retry(after) is a time that is not negative, not {after!r}")
        self.after_s = seconds
        self.reason = reason

    def __str__(self) -> str:
        return self.reason or "the service asked to be called again"


class ServiceMethod(NamedTuple):
    """What one call of a service calls."""

    bind: Callable[[], Callable[..., Any]]
    """Returns it: a function that takes the payload, or nothing when there is none. Makes the
    service's class if it has not been made, and raises what its constructor raises."""
    is_async: bool
    """It is a coroutine function. Else it may block, and belongs in a thread."""
    waits: bool
    """It may have to wait for something. Else its coroutine ends the first time it is driven."""


class _ServiceClass:
    """A class that is a service, and its one instance once that has been made."""

    def __init__(self, cls: type) -> None:
        self.cls = cls
        self.methods = _public_methods(cls)
        self._lock = threading.Lock()
        self._instance: Any = None

    def instance(self) -> Any:
        # Event loops of several threads may come here. One that raises is made anew next time.
        with self._lock:
            if self._instance is None:
                self._instance = self.cls()
            return self._instance


class _Service:
    def __init__(self) -> None:
        self.cls: _ServiceClass | None = None
        self.functions: dict[str, FunctionType] = {}
        self.found: dict[str, ServiceMethod] = {}
        """What was asked for by now, until something is defined anew."""

    def names(self) -> list[str]:
        return [*self.functions, *(self.cls.methods if self.cls else ())]


_services: dict[str, _Service] = {}


def register(name: str, target: _T) -> _T:
    """Make a class a service, or a function the method of its own name of a service.

    Args:
        name: The service's. Several functions may share it, and a class.
        target: A class that is made without arguments: its public methods, `def` or `async def`,
            are the service's. Or a function. Each takes the payload.

    Raises:
        TypeError: It is neither, the class cannot be made without arguments or has no public
            method, or another file defines the same.
        ValueError: The name is not possible.
    """
    check_service_name(name)
    if name in asking.FUNCTIONS:
        raise TypeError(f"{name!r} is a durable function already: give the service another name")
    given: object = target
    if isinstance(given, type):
        _add_class(name, given)
    elif isinstance(given, FunctionType):
        _add_function(name, given)
    else:
        raise TypeError(
            f"@durable.service decorates a class or a function, not {type(given).__name__}"
        )
    return target


def find(service: str, method: str, others: Iterable[str] = ()) -> ServiceMethod:
    """Return what a call of a service calls.

    Args:
        service: The service's name.
        method: The method's.
        others: Names of services that are not written in Python, for the hint.

    Raises:
        ServiceNotFound: There is no such service or method.
    """
    known = _services.get(service)
    if known is None:
        raise ServiceNotFound(service, method, did_you_mean(service, [*_services, *others]))
    found = known.found.get(method)
    if found is None:
        found = known.found[method] = _find(known, service, method)
    return found


def _find(known: _Service, service: str, method: str) -> ServiceMethod:
    function = known.functions.get(method)
    if function is not None:
        return _method(lambda: function, function)
    made = known.cls
    if made is None or method not in made.methods:
        raise ServiceNotFound(service, method, did_you_mean(method, known.names()))
    return _method(lambda: getattr(made.instance(), method), getattr(made.cls, method))


def _method(bind: Callable[[], Callable[..., Any]], function: Any) -> ServiceMethod:
    is_async = inspect.iscoroutinefunction(function)
    return ServiceMethod(bind, is_async, not is_async or may_wait(function))


def check_no_service(name: str, function: FunctionType) -> None:
    """See that no service has the name of a durable function.

    Raises:
        TypeError: There is one: `ctx.call` could mean either.
    """
    if name in _services:
        raise TypeError(
            f"{name!r} is a service already: give the durable function {function.__qualname__} "
            f"another name with @durable.function(name=...)"
        )


def check_service_name(name: object) -> str:
    """Return a service's name unchanged.

    Raises:
        TypeError: It is no text.
        ValueError: It is no possible name.
    """
    if type(name) is not str:
        raise TypeError(
            f'@durable.service takes the name of the service: @durable.service("payment"), '
            f"not {name!r:.100}"
        )
    printable = name.isprintable() and not any(c.isspace() or c == "=" for c in name)
    if not printable or not 0 < len(name) <= _NAME_CHARACTERS_MAX:
        raise ValueError(
            f"the name of a service has 1 to {_NAME_CHARACTERS_MAX} printable characters, "
            f"no space and no '=': {name!r:.200}"
        )
    return name


def _add_class(name: str, cls: type) -> None:
    made = _ServiceClass(cls)
    if not made.methods:
        raise TypeError(f"the service {name!r} has no public method: {cls.__qualname__} has none")
    try:
        signature_of(cls).bind()
    except TypeError as error:
        raise TypeError(
            f"a service is made without arguments: {cls.__qualname__}: {error}"
        ) from None
    except ValueError:
        pass  # Written in C, without a signature: the first call will tell.
    service = _services.setdefault(name, _Service())
    if service.cls is not None:
        _check_same(f"services are named {name!r}", service.cls.cls, cls)
    for method in made.methods:
        if method in service.functions:
            _check_same(f"methods are named {name}.{method}", service.functions[method], cls)
    service.cls, service.found = made, {}
    for method in made.methods:
        service.functions.pop(method, None)


def _add_function(name: str, function: FunctionType) -> None:
    _check_method(function.__qualname__, function)
    method = function.__name__
    service = _services.setdefault(name, _Service())
    earlier: Any = service.functions.get(method)
    if earlier is None and service.cls is not None and method in service.cls.methods:
        earlier = service.cls.cls
    if earlier is not None:
        _check_same(f"methods are named {name}.{method}", earlier, function)
    service.functions[method], service.found = function, {}


def _public_methods(cls: type) -> frozenset[str]:
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base is not object:
            found.update(vars(base))
    methods = set()
    for name, value in found.items():
        function = value.__func__ if isinstance(value, staticmethod | classmethod) else value
        if isinstance(function, FunctionType) and not name.startswith("_"):
            _check_method(f"{cls.__qualname__}.{name}", function)
            methods.add(name)
    return frozenset(methods)


def _check_method(label: str, function: FunctionType) -> None:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{label} is a generator: a method of a service returns one result")


def _check_same(what: str, earlier: Any, later: Any) -> None:
    # A function has a module as a class has, and nothing else is asked of it.
    if origin_of(earlier) != origin_of(later):
        raise TypeError(
            f"two {what}: {earlier.__qualname__} in {origin_of(earlier)} and "
            f"{later.__qualname__} in {origin_of(later)}; give one another name"
        )
