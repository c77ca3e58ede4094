"""A scenario of the user's: a function `async def buy(number: int, chance: Random)`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Awaitable, Callable
from random import Random
from types import ModuleType
from typing import Any, NamedTuple

from perdure.errors import ConfigError
from perdure.hints import did_you_mean

__all__ = ["Own", "find_own", "import_app"]


class Own(NamedTuple):
    """What was found."""

    function: Callable[[int, Random], Awaitable[object]]
    prepare: Callable[[], Awaitable[object]] | None
    """The module's function of this name: called once, before the load."""


def find_own(word: str) -> Own:
    """Import the function that `module:function` names; the module may be a path.

    Raises:
        ConfigError: There is none, or it cannot be called.
    """
    app, _, name = word.rpartition(":")
    module = import_app(app)
    function = vars(module).get(name)
    if function is None:
        known = [each for each, value in vars(module).items() if inspect.iscoroutinefunction(value)]
        hint = did_you_mean(name, known)
        raise ConfigError(f"the scenario {word}: there is no {name!r} in {app}{hint}")
    if not _takes(function, 0, Random()):
        raise ConfigError(
            f"the scenario {word} is called with a number and a random.Random, and awaited: "
            f"async def {name}(number: int, chance: Random) -> None"
        )
    prepare = vars(module).get("prepare")
    if prepare is not None and not _takes(prepare):
        raise ConfigError(
            f"`prepare` of {app} is called before the load without anything, and awaited: "
            f"async def prepare() -> None"
        )
    return Own(function, prepare)


def import_app(app: str) -> ModuleType:
    """Import an app as a node does.

    Raises:
        ConfigError: It cannot be imported.
    """
    # By name: this package is below `perdure_node` and may not import it.
    module: ModuleType = importlib.import_module("perdure_node.app").import_app(app)
    return module


def _takes(function: Any, *arguments: object) -> bool:
    if not inspect.iscoroutinefunction(function):
        return False
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    return True
