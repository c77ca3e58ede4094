"""Damage that is found while a partition works."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

__all__ = ["DamageFound", "stops_on_damage"]


class DamageFound(Exception):
    """The store, or what it holds, cannot be trusted."""


class Stoppable(Protocol):
    """What can be stopped for good."""

    def stop_damaged(self, damage: str) -> None:
        """Stop, because the data is damaged."""
        ...


S = TypeVar("S", bound=Stoppable)
P = ParamSpec("P")


def stops_on_damage(event: Callable[Concatenate[S, P], None]) -> Callable[Concatenate[S, P], None]:
    """Make damage that is found in the middle of an event stop whoever the event came to."""

    @functools.wraps(event)
    def guarded(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            event(self, *args, **kwargs)
        except DamageFound as damage:
            self.stop_damaged(str(damage))

    return guarded
