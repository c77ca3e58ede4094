"""Timers of an object: what users see of them, and what is set for a method of the object."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, Any, Final

from perdure import values
from perdure.schedules import TimerSetting, schedule_of

if TYPE_CHECKING:
    from perdure.methods import Method
    from perdure.turn import Turn

__all__ = ["Timer", "check_name", "set_timer", "timer_of"]

_NAME_BYTES_MAX: Final = 256
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NEVER: Final = dt.datetime.max.replace(tzinfo=dt.UTC)
_NEVER_MS: Final = (_NEVER - _EPOCH) // dt.timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer of an object, as `ctx.timers()` shows it."""

    name: str
    due: dt.datetime
    """When it fires next: aware, in UTC. `datetime.max` when it is parked, because its method has
    failed too often: it does not fire until it is set again."""
    method: str
    """The method that it calls."""
    every: dt.timedelta | tuple[str, str] | None
    """An interval, or a cron expression and its time zone. None: it fires once."""
    attempts: int
    """How often it has fired since its method last succeeded."""


# So that a method may return them. A program may have a class of the plain name.
values.register(Timer, "perdure.Timer")


def timer_of(setting: TimerSetting) -> Timer:
    """Return a timer as users see it."""
    return Timer(
        setting.name,
        _NEVER
        if setting.due_ms >= _NEVER_MS
        else _EPOCH + dt.timedelta(milliseconds=setting.due_ms),
        setting.method,
        schedule_of(setting.every),
        setting.attempts,
    )


def set_timer(
    turn: Turn,
    user: str,
    name: str | None,
    due_ms: int,
    method: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    every: str = "",
) -> str:
    """Set a timer and return its name; see `DurableContext.after`.

    Args:
        turn: Of the method that asks.
        user: The name of what was called, for errors.
        name: The timer's; None: the method's.
        due_ms: When it fires first, wall clock.
        method: A bound method of the turn's object.
        args: For the method.
        kwargs: For the method.
        every: As in `TimerSetting`.
    """
    target = _method_of(turn, user, method)
    name = target.name if name is None else check_name(name)
    arguments = target.pack(args, kwargs)
    turn.set_timer(TimerSetting(name, due_ms, target.name, arguments, every))
    return name


def check_name(name: object) -> str:
    """Return a timer's name unchanged.

    Raises:
        TypeError: It is no text.
        ValueError: It is empty, too long, no valid Unicode text, or has a NUL character.
    """
    if type(name) is not str:
        raise TypeError(f"a timer's name is a str, not {type(name).__name__}")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ValueError("a timer's name is valid Unicode text: no lone surrogates") from None
    if "\0" in name:
        raise ValueError(f"a timer's name has no NUL character: {name!r:.100}")
    if not 0 < size <= _NAME_BYTES_MAX:
        raise ValueError(
            f"a timer's name has 1 to {_NAME_BYTES_MAX} bytes of UTF-8, not {size}: {name!r:.100}"
        )
    return name


def _method_of(turn: Turn, user: str, method: object) -> Method:
    """Return the method that is meant, which can be found again by its name.

    Raises:
        TypeError: There is no such one.
    """
    # Imported here: methods know contexts, and contexts know timers.
    from perdure.objects import DurableObject, type_of

    wanted = f"ctx.{user} takes a method of this object, such as self.expire, not"
    if not isinstance(method, MethodType):
        hint = ": leave the parentheses away" if hasattr(method, "__await__") else ""
        raise TypeError(f"{wanted} {method!r:.100}{hint}")
    owner: Any = method.__self__
    # `type`, not `isinstance`: a handle says that it is an instance of the user's class.
    if not issubclass(type(owner), DurableObject):
        raise TypeError(f"{wanted} {method!r:.100}: for another object use durable.send(delay=)")
    object_type = type_of(type(owner))
    if turn.context._object != (object_type.name, owner._perdure_id):
        raise TypeError(f"{wanted} one of {owner!r}")
    name = method.__name__
    found = object_type.methods.get(name)
    if name.startswith("_"):
        raise TypeError(f"{wanted} self.{name}: it is called by name, so it must be public")
    if found is None or found.function is not method.__func__:
        raise TypeError(f"{wanted} {method!r:.100}: self.{name} is another one, or none")
    return found
