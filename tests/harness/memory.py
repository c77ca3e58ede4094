"""Objects without a node: a caller that keeps the contract of `perdure.context.Caller` in memory.

One call at a time per object and in the order of the calls, committed versions, changes since
the version that a handle has, large attributes left out. Nothing is durable, nothing is resumed.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from perdure.bodies import pack_error
from perdure.client import Answer
from perdure.codec import decode, encode
from perdure.context import DurableContext, current_turn
from perdure.errors import (
    Code,
    ObjectNotFound,
    PerdureError,
    StateNotStorable,
    code_of,
)
from perdure.frames import Changes, Encoding, Kind, Reply
from perdure.ids import ObjectKey, partition_of
from perdure.objects import find_type
from perdure.raised import pack_exception

LARGE_BYTES = 16 * 1024
ALL_BYTES = 64 * 1024


@dataclass
class Stored:
    """One object: its committed attributes, and when each changed last."""

    created: int
    number: int = 0
    values: dict[str, bytes] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)


class MemoryObjects:
    """Runs calls on this loop. Stands for the caller at top level when set as `current_turn`."""

    def __init__(self, *, partition_count: int = 4, page: int = 2) -> None:
        self.partition_count = partition_count
        self.sent: list[tuple[Kind, str, str]] = []
        """Kind, object and method of every call, in the order in which they were made."""
        self.context = DurableContext(ObjectKey("", ""), "", "top level")
        self._page = page
        self._objects: dict[ObjectKey, Stored] = {}
        self._tails: dict[ObjectKey, asyncio.Task[None]] = {}
        self._numbers = itertools.count(1)

    def save(self) -> None:
        raise AssertionError("nothing runs at top level")

    def value(self, name: str, make: Callable[[], bytes]) -> bytes:
        return make()

    def call(
        self,
        target: ObjectKey,
        kind: Kind,
        method: str = "",
        *,
        arguments: bytes = b"",
        encoding: Encoding = Encoding.MSGPACK,
        key: str | None = None,
        timeout_s: float | None = 30.0,
        have: tuple[int, int] | None = None,
        partition: int | None = None,
    ) -> asyncio.Future[Answer]:
        future = asyncio.get_running_loop().create_future()
        self.sent.append((kind, str(target), method))
        request = _Request(self, target, kind, method, arguments, key, have, partition)
        if kind in (Kind.CALL, Kind.DELETE):
            before = self._tails.get(target)
            task = asyncio.create_task(self._in_turn(before, request, future))
            self._tails[target] = task
        else:
            asyncio.get_running_loop().call_soon(self._beside, request, future)
        return future

    async def _in_turn(self, before, request, future) -> None:
        if before is not None:
            await before
        answer = await request.run()
        if not future.done():
            future.set_result(answer)

    def _beside(self, request, future) -> None:
        if not future.done():
            future.set_result(request.read())


class _Request:
    """One call, and the turn of its method while that runs."""

    def __init__(self, objects, target, kind, method, arguments, key, have, partition) -> None:
        self._objects = objects
        self._target = target
        self._kind = kind
        self._method = method
        self._arguments = arguments
        self._have = have
        self._partition = partition
        self.partition_count = objects.partition_count
        self.context = DurableContext(target, method, f"call {len(objects.sent)}", key=key)
        self.call = objects.call
        self._instance = None

    def save(self) -> None:
        self._commit()

    def value(self, name: str, make: Callable[[], bytes]) -> bytes:
        return make()

    def read(self) -> Answer:
        stored = self._objects._objects.get(self._target)
        match self._kind:
            case Kind.EXISTS:
                return self._answer(encode(stored is not None))
            case Kind.LIST:
                return self._answer(encode(self._list()))
            case Kind.GET_OR_CREATE if stored is None:
                self._objects._objects[self._target] = Stored(next(self._objects._numbers))
                self._instance = find_type(self._target.type).new(self._target.id)
                self._commit()
        if self._target not in self._objects._objects:
            return self._refused(ObjectNotFound(*self._target))
        return self._answer(encode(None))

    async def run(self) -> Answer:
        stored = self._objects._objects.get(self._target)
        if self._kind is Kind.DELETE:
            self._objects._objects.pop(self._target, None)
            return self._answer(encode(stored is not None))
        if stored is None:
            return self._refused(ObjectNotFound(*self._target))
        try:
            return self._answer(encode(await self._invoke(stored)))
        except PerdureError as error:
            return self._refused(error)
        except Exception as error:
            payload = pack_exception(
                error,
                object=str(self._target),
                method=self._method,
                call_id=self.context.call_id,
            )
            return self._answer(payload, Code.RAISED)

    async def _invoke(self, stored: Stored):
        object_type = find_type(self._target.type)
        self._instance = object_type.new(self._target.id)
        vars(self._instance).clear()
        vars(self._instance).update({k: decode(v) for k, v in stored.values.items()})
        self._instance._perdure_turn = self
        current_turn.set(self)
        if object_type.has_on_activate:
            await self._instance.on_activate()
        args, kwargs = decode(self._arguments) if self._arguments else ([], {})
        method = object_type.method(self._method)
        method.check(*args, **kwargs)
        result = method.invoke(self._instance, self.context, args, kwargs)
        if method.is_async:
            result = await result
        encode(result)
        self._commit()
        return result

    def _commit(self) -> None:
        object_type = find_type(self._target.type)
        stored = self._objects._objects[self._target]
        values = {}
        for name, value in vars(self._instance).items():
            if name in object_type.methods:
                raise StateNotStorable(f"{self._target.type}.{name}", "is a method")
            if not name.startswith("_"):
                values[name] = encode(value)
        changed = [name for name in values if values[name] != stored.values.get(name)]
        deleted = [name for name in stored.values if name not in values]
        if changed or deleted:
            stored.number = next(self._objects._numbers)
            stored.changed.update(dict.fromkeys(changed, stored.number))
            stored.deleted.update(dict.fromkeys(deleted, stored.number))
            stored.values = values

    def _list(self):
        ids = sorted(
            (
                key.id
                for key in self._objects._objects
                if key.type == self._target.type
                and key.id.startswith(self._target.id)
                and key.id > self._method
                and partition_of(key, self.partition_count) == self._partition
            ),
            key=str.encode,
        )
        page = self._objects._page
        return [ids[:page], len(ids) > page]

    def _refused(self, error: PerdureError) -> Answer:
        code, payload = pack_error(code_of(error), error.args)
        return self._answer(payload, code)

    def _answer(self, payload: bytes, code: int = Code.OK) -> Answer:
        stored = self._objects._objects.get(self._target)
        if stored is None or self._have is None:
            return Answer(code, Reply(payload, None, None))
        everything = self._kind is Kind.GET and self._method == "*"
        changes = _changes(stored, self._have[1], everything)
        return Answer(code, Reply(payload, [1, stored.number], changes))


def _changes(stored: Stored, since: int, everything: bool) -> Changes:
    full = since < stored.created
    values, left_out, room = {}, [], ALL_BYTES
    for name, data in stored.values.items():
        if not full and stored.changed[name] <= since:
            continue
        if not everything and (len(data) > LARGE_BYTES or len(data) > room):
            left_out.append(name)
        else:
            values[name] = data
            room -= len(data)
    deleted = [n for n, at in stored.deleted.items() if at > since and n not in stored.values]
    return Changes(full, values, [] if full else deleted, left_out)
