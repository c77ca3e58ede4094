"""Errors, arranged by what the caller does next: embedded and on a node."""

from __future__ import annotations

import asyncio

import pytest
from harness.world import Embedded, Served, World

import perdure
from perdure import (
    BadArguments,
    CallFailed,
    CallRejected,
    DurableObject,
    ObjectNotFound,
    OutcomeUnknown,
    PerdureError,
    RemoteError,
    UnknownMethod,
    UnknownType,
    durable,
)
from perdure.codec import encode
from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure.objects import ObjectType, registered_types, type_of
from perdure.runtime import current_client


@pytest.fixture(params=[Embedded, Served], ids=["embedded", "served"])
def world(request, tmp_path) -> World:
    return request.param(tmp_path / "data")


@durable.error
class SoldOut(Exception):
    """Known here because it is registered."""

    def __init__(self, item: str, left: int) -> None:
        super().__init__(item, left)
        self.item = item
        self.left = left
        self.seen_at = "the counter"

    def __str__(self) -> str:
        return f"{self.item}: {self.left} left"


class KnownByItsModule(LookupError):
    """Known because this module defines durable objects."""


async def below() -> None:
    await asyncio.sleep(0)
    raise ValueError("below")


@durable.object
class Failing(DurableObject):
    def __init__(self, failing_id: str) -> None:
        super().__init__(failing_id)
        self.count = 0

    async def fail(self, kind: str) -> None:
        self.count += 1
        if kind == "unknown":
            hidden = type("NobodyKnowsMe", (Exception,), {"__module__": "nowhere"})
            raise hidden("secret", 5)
        if kind == "chained":
            try:
                raise KeyError("cause")
            except KeyError as error:
                raise ValueError("effect") from error
        if kind == "noted":
            error = ValueError("noted")
            error.add_note("a note of the user's")
            raise error
        if kind == "group":
            raise ExceptionGroup("several", [ValueError("one"), SoldOut("x", 1)])
        if kind == "below":
            await asyncio.create_task(below())
        if kind == "os":
            raise FileNotFoundError(2, "no such file", "x.txt")
        raise {
            "builtin": ValueError("bad", 1),
            "registered": SoldOut("apple", 0),
            "module": KnownByItsModule("here"),
            "ours": ObjectNotFound("Cart", "u9"),
            "cancelled": asyncio.CancelledError(),
            "timeout": TimeoutError("inside"),
            "stop": StopIteration(3),
        }[kind]

    async def ok(self) -> int:
        return self.count


async def error_of(kind: str) -> Exception:
    failing = await Failing.get_or_create("f1")
    try:
        await failing.fail(kind)
    except Exception as error:
        assert await failing.ok() == 0, "an exception undoes"
        return error
    raise AssertionError("the method fails")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("builtin", ValueError("bad", 1)),
        ("registered", SoldOut("apple", 0)),
        ("module", KnownByItsModule("here")),
        ("timeout", TimeoutError("inside")),
        ("os", FileNotFoundError(2, "no such file", "x.txt")),
    ],
)
def test_the_user_s_own_exception_is_raised_as_itself(world, kind, expected):
    error = world.run(error_of, kind)

    assert type(error) is type(expected)
    assert error.args == expected.args
    assert str(error) == str(expected)


def test_an_exception_keeps_its_attributes_and_brings_the_remote_traceback_as_a_note(world):
    error = world.run(error_of, "registered")

    assert (error.item, error.left, error.seen_at) == ("apple", 0, "the counter")
    [note] = error.__notes__
    assert "Failing[f1].fail" in note
    first_frame = note.splitlines()[2]
    assert first_frame.endswith(", in fail"), "it begins where the user's code does"


def test_the_remote_traceback_says_what_has_raised_in_a_task_of_the_method(world):
    error = world.run(error_of, "below")

    [note] = error.__notes__
    assert ", in below" in note
    assert note.endswith("ValueError: below")


def test_notes_of_the_user_s_are_kept(world):
    error = world.run(error_of, "noted")

    assert "a note of the user's" in error.__notes__


def test_an_exception_of_an_unknown_class_is_a_remote_error(world):
    error = world.run(error_of, "unknown")

    assert type(error) is RemoteError
    assert isinstance(error, CallFailed)
    assert (error.code, error.object, error.method) == ("NobodyKnowsMe", "Failing[f1]", "fail")
    assert "secret" in error.message
    assert error.call_id
    assert any("NobodyKnowsMe" in note for note in error.__notes__)


def test_an_exception_group_keeps_what_is_in_it(world):
    error = world.run(error_of, "group")

    assert isinstance(error, ExceptionGroup)
    assert [type(inner) for inner in error.exceptions] == [ValueError, SoldOut]


def test_a_rejection_that_leaves_a_method_is_no_rejection_of_the_call_which_ran(world):
    error = world.run(error_of, "ours")

    assert not isinstance(error, CallRejected)
    assert isinstance(error, CallFailed)
    assert "there is no Cart with the id 'u9'" in str(error)


@pytest.mark.parametrize("kind", ["cancelled", "stop"])
def test_what_python_cannot_raise_out_of_a_coroutine_still_fails_the_call(world, kind):
    assert isinstance(world.run(error_of, kind), Exception)


def test_the_object_stays_usable_after_an_error(world):
    async def main():
        failing = await Failing.get_or_create("f1")
        for _ in range(3):
            with pytest.raises(ValueError, match="bad"):
                await failing.fail("builtin")
        assert await failing.ok() == 0

    world.run(main)


@durable.object
class Shown(DurableObject):
    async def total(self) -> int:
        return 1


def test_a_node_that_lacks_the_type_the_method_or_the_argument_says_what_it_could_be(world):
    async def call(key: ObjectKey, method: str, args: list) -> perdure.Call:
        arguments = encode([args, {}])
        future = current_client().call(key, Kind.CALL, method, arguments=arguments)
        return await perdure.Call("test", future, lambda reply: None)

    async def main():
        await Shown.get_or_create("s")
        with pytest.raises(UnknownType, match="did you mean 'Shown'"):
            await call(ObjectKey("Shonw", "s"), "total", [])
        with pytest.raises(UnknownMethod, match="Shown has no method 'totla': did you mean"):
            await call(ObjectKey("Shown", "s"), "totla", [])
        with pytest.raises(BadArguments, match=r"Shown\.total\(\) takes"):
            await call(ObjectKey("Shown", "s"), "total", [1])
        for hidden in ("_perdure_id", "__init__", "save", "object_id", "on_activate"):
            with pytest.raises(UnknownMethod):
                await call(ObjectKey("Shown", "s"), hidden, [])

    world.run(main)


def test_get_or_create_of_a_type_that_the_node_lacks_says_so(world):
    async def main():
        await Shown.get_or_create("s")
        # The type's class stays with the caller; the node looks it up by name.
        known: ObjectType = registered_types.pop("Shown")
        try:
            with pytest.raises(UnknownType, match="Shown"):
                await Shown.get_or_create("new")
        finally:
            registered_types["Shown"] = known
        assert type_of(Shown) is known

    world.run(main)


def test_an_init_that_raises_creates_nothing(world):
    @durable.object
    class Unmakeable(DurableObject):
        def __init__(self, object_id: str) -> None:
            super().__init__(object_id)
            if object_id == "bad":
                raise ValueError("cannot be made")

    async def main():
        with pytest.raises(ValueError, match="cannot be made"):
            await Unmakeable.get_or_create("bad")
        assert not await durable.exists(Unmakeable, "bad")
        assert await Unmakeable.get_or_create("good")

    world.run(main)


def test_the_tree_says_what_the_caller_does_next():
    tree = {
        CallRejected: "NotOwner NoOwner Overloaded Draining ObjectNotFound DiskFull Superseded",
        OutcomeUnknown: "DeadlineExceeded",
        CallFailed: "RemoteError StateNotStorable StateTooLarge ResultNotStorable "
        "ResultTooLarge CallCycle CallTooDeep KeyReused",
        PerdureError: "CallRejected OutcomeUnknown CallFailed UnknownType UnknownMethod "
        "BadArguments BadObjectId BadPayload NotLoaded DataLoss StorageHeld ConfigError",
        LookupError: "ObjectNotFound UnknownType",
        TimeoutError: "DeadlineExceeded",
        AttributeError: "UnknownMethod",
        TypeError: "BadArguments",
        ValueError: "BadObjectId BadPayload BadKey TooLarge",
    }
    for base, names in tree.items():
        for name in names.split():
            assert issubclass(getattr(perdure, name), base), f"{name} is a {base.__name__}"
    assert not issubclass(perdure.NotLoaded, AttributeError)
