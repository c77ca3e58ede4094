"""Models that are ready to be asked, each open for as long as its event loop runs.

Making the connections of a model takes 50 ms and more, most of it for certificates, so they are
not made for each request. They belong to an event loop and are closed when that ends.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from pydantic_ai.models import Model, infer_model

from perdure.kept_task import keep

__all__ = ["open_model"]


class _OpenModel:
    """A model that is open, or about to be."""

    def __init__(self, model: Model | str, home: _Home) -> None:
        self.ready: asyncio.Future[Model] = asyncio.get_running_loop().create_future()
        # Seen, if nobody waits for it any more.
        self.ready.add_done_callback(lambda ready: ready.exception())
        self.users = 0
        self._given = model
        self._home = home
        self._unused = asyncio.Event()
        self._task = keep(self._hold(), name="perdure model", on_cancel=self._loop_ends)

    def _loop_ends(self) -> None:
        self._home.ending = True
        self.left()

    def left(self) -> None:
        """Take note that somebody may use it no more."""
        if self._home.ending and not self.users:
            self._unused.set()

    async def _hold(self) -> None:
        try:
            async with await _load(self._given) as opened:
                self.ready.set_result(opened)
                await self._unused.wait()
        except Exception as error:
            if self.ready.done():
                raise
            self.ready.set_exception(error)
        finally:
            # Whoever asks next tries anew.
            del self._home.models[_key(self._given)]


class _Home:
    """The models of one event loop."""

    def __init__(self) -> None:
        self.models: dict[str | int, _OpenModel] = {}
        self.ending = False


_homes: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Home]] = (
    weakref.WeakKeyDictionary()
)


@asynccontextmanager
async def open_model(model: Model | str) -> AsyncIterator[Model]:
    """Give a model that can be asked on this event loop.

    Args:
        model: A model, or its name with its provider.

    Raises:
        ImportError: What its provider needs is not installed.
        pydantic_ai.exceptions.UserError: There is no such provider, or no key for it.
    """
    home = _homes.setdefault(asyncio.get_running_loop(), _Home())
    opened = home.models.get(_key(model))
    if opened is None:
        opened = home.models[_key(model)] = _OpenModel(model, home)
    opened.users += 1
    try:
        # Shielded: others wait for it too.
        yield await asyncio.shield(opened.ready)
    finally:
        opened.users -= 1
        opened.left()


def _key(model: Model | str) -> str | int:
    # A model has no hash, and is held for as long as its id is a key.
    return model if isinstance(model, str) else id(model)


async def _load(model: Model | str) -> Model:
    if isinstance(model, Model):
        return model
    # In a thread: it imports the provider's library, and reads certificates.
    return await asyncio.to_thread(infer_model, model)
