"""Coroutines run up to their first wait, one after the other, and go on from there."""

from __future__ import annotations

import asyncio
import traceback
import types
import weakref
from collections.abc import Coroutine, Generator
from typing import Any

import pytest

from perdure_node.beginning import Beginnings


class Result:
    pass


class Own(Coroutine[Any, Any, Any]):
    """A coroutine that is no `async def` of Python: so are those of compiled modules."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()


@types.coroutine
def waits(for_what: object) -> Generator[Any, Any, Any]:
    return (yield for_what)


async def gives(result: object) -> object:
    return result


async def raises() -> None:
    raise ValueError("no")


async def waits_twice(seen: list[object]) -> str:
    seen.append(await waits("first"))
    try:
        seen.append(await waits("second"))
    except KeyError as error:
        seen.append(error)
    return "done"


@pytest.fixture(params=[lambda coroutine: coroutine, Own], ids=["plain", "own"])
def of(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize("result", [None, 5, waits, asyncio.Future])
def test_what_waits_for_nothing_has_ended(of: Any, result: object) -> None:
    beginnings = Beginnings()
    for _ in range(3):
        assert beginnings.begin(of(gives(result))) == (None, result)


def test_what_waits_goes_on_from_there(of: Any) -> None:
    beginnings = Beginnings()
    seen: list[object] = []
    rest, wait = beginnings.begin(of(waits_twice(seen)))
    assert rest is not None
    assert wait == "first"
    # Another one that begins meanwhile is none of its business.
    assert beginnings.begin(of(gives(1))) == (None, 1)
    assert rest.send("one") == "second"
    with pytest.raises(StopIteration) as stop:
        rest.send("two")
    assert stop.value.value == "done"
    assert seen == ["one", "two"]


def test_what_waits_can_be_thrown_into(of: Any) -> None:
    seen: list[object] = []
    rest, _ = Beginnings().begin(of(waits_twice(seen)))
    assert rest is not None
    rest.send("one")
    error = KeyError("thrown")
    with pytest.raises(StopIteration) as stop:
        rest.throw(error)
    assert stop.value.value == "done"
    assert seen == ["one", error]


def test_what_waits_for_none_has_not_ended(of: Any) -> None:
    """As `asyncio.sleep(0)` does."""
    rest, wait = Beginnings().begin(of(asyncio.sleep(0, "slept")))
    assert rest is not None
    assert wait is None
    with pytest.raises(StopIteration) as stop:
        rest.send(None)
    assert stop.value.value == "slept"


def test_what_waits_can_be_closed(of: Any) -> None:
    ended = []

    async def cleans_up() -> None:
        try:
            await waits("for ever")
        finally:
            ended.append(True)

    rest, _ = Beginnings().begin(of(cleans_up()))
    assert rest is not None
    rest.close()
    assert ended == [True]


def test_an_error_comes_with_its_lines_and_the_next_one_begins(of: Any) -> None:
    beginnings = Beginnings()
    for _ in range(2):
        with pytest.raises(ValueError, match="no") as raised:
            beginnings.begin(of(raises()))
        assert traceback.extract_tb(raised.tb)[-1].name == "raises"
        assert beginnings.begin(of(gives(2))) == (None, 2)


def test_one_may_begin_another_inside(of: Any) -> None:
    beginnings = Beginnings()

    async def begins() -> object:
        return beginnings.begin(of(gives("inner"))), beginnings.begin(of(gives("last")))

    assert beginnings.begin(of(begins())) == (None, ((None, "inner"), (None, "last")))
    assert beginnings.begin(of(gives(1))) == (None, 1)


def test_a_driver_that_is_given_back_runs_the_next_coroutine() -> None:
    beginnings = Beginnings()
    driver = beginnings.take()
    assert driver.send(gives(1)) == 1
    beginnings.give_back(driver)
    assert beginnings.take() is driver
    assert driver.send(gives(2)) == 2


def test_of_many_drivers_at_the_same_time_not_all_are_kept() -> None:
    beginnings = Beginnings()
    drivers = [beginnings.take() for _ in range(100)]
    assert len({id(driver) for driver in drivers}) == 100
    seen = [weakref.ref(driver) for driver in drivers]
    while drivers:
        beginnings.give_back(drivers.pop())
    assert sum(driver() is not None for driver in seen) == 64
    # Those that were not kept are made again.
    assert [beginnings.take().send(gives(number)) for number in range(100)] == [*range(100)]


def test_a_result_is_not_kept(of: Any) -> None:
    beginnings = Beginnings()
    _, result = beginnings.begin(of(gives(Result())))
    left = weakref.ref(result)
    del result
    assert left() is None
