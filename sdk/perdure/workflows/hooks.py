"""Hooks: where a workflow waits for what others send to it, and how they send it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from typing import Any, Generic, TypeVar, overload

from perdure.codec import decode
from perdure.errors import HookConflict
from perdure.ids import check_object_id
from perdure.workflows.schemas import Schema, schema_of
from perdure.workflows.turn import HookPort, run_here

__all__ = ["Hook", "HookDefinition", "define_hook"]

_T = TypeVar("_T")


class HookDefinition(Generic[_T]):
    """What hooks of one kind take. `create` makes one, in a workflow."""

    def __init__(self, schema: Schema | None) -> None:
        self._schema = schema

    def create(self, *, token: str) -> Hook[_T]:
        """Return the hook of a token: a new one, or the one that this run has already.

        The token is claimed when the workflow next waits. It belongs to one run at a time.

        Raises:
            RuntimeError: No workflow runs here.
            TypeError: The token is no text.
            BadObjectId: It is empty, too long, or no valid text.
        """
        run = run_here("create")
        known = run.hook_of(token)
        if known is not None:
            return Hook(known)
        check_object_id(token)
        schema = self._schema
        if schema is None:
            port = run.create_hook(token, "", b"")
        else:
            port = run.create_hook(token, schema.name, schema.described)
        return Hook(port)


class Hook(Generic[_T]):
    """A hook of a run. Await it for the next payload, as often as you like."""

    def __init__(self, port: HookPort) -> None:
        self._port = port

    def __repr__(self) -> str:
        return f"<hook {self._port.token!r}>"

    @property
    def token(self) -> str:
        """What others send payloads to."""
        return self._port.token

    def __await__(self) -> Generator[Any, Any, _T]:
        """Wait for the next payload that nobody has taken.

        Raises:
            HookConflict: Another run holds the token.
            HookClosed: The hook was disposed of.
        """
        payload: _T = decode((yield from self._port.take().__await__()))
        return payload

    def __aiter__(self) -> AsyncIterator[_T]:
        """Take payloads until the hook is disposed of."""
        return self._all()

    async def _all(self) -> AsyncIterator[_T]:
        while not self._port.is_disposed:
            yield await self

    async def reply(self, value: object = None) -> None:
        """Answer the payload that was taken last: its sender gets `value`.

        A payload that is not answered before the next one is taken, or before the run ends, is
        answered None.

        Raises:
            RuntimeError: There is none to answer.
            NotEncodable: The value cannot travel.
        """
        self._port.reply(value)

    async def claimed(self) -> None:
        """Wait until the token belongs to this run.

        Raises:
            HookConflict: Another run holds it.
        """
        owner = await self._port.claimed()
        if owner is not None:
            raise HookConflict(self._port.token, owner)

    async def get_conflict(self) -> str | None:
        """Return the id of the run that holds the token; None: it is this run's own."""
        return await self._port.claimed()

    def dispose(self) -> None:
        """Take nothing more, and let others claim the token.

        Payloads that were not taken are refused: their senders get `HookClosed`.
        """
        run_here("dispose").dispose_hook(self._port)


@overload
def define_hook() -> HookDefinition[Any]: ...
@overload
def define_hook(*, schema: type[_T], name: str | None = None) -> HookDefinition[_T]: ...
@overload
def define_hook(*, schema: Any, name: str | None = None) -> HookDefinition[Any]: ...
def define_hook(*, schema: Any = None, name: str | None = None) -> HookDefinition[Any]:
    """Say what hooks of one kind take.

    Args:
        schema: Any type that pydantic can check: a model, a dataclass, `int`, `list[str]` ...
            Payloads are checked and converted before they are accepted. None: any value.
        name: By which nodes find the schema; by default the type's own.

    Raises:
        TypeError: pydantic cannot check the type, or another file has a class of its name.
    """
    return HookDefinition(schema_of(schema, name))
