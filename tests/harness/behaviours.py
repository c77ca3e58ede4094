"""What objects promise, as short programs: the same for every way to run them.

Each takes `restart`, which it awaits between two calls. Embedded it does nothing; on a cluster
everything is killed with -9 and started again.
"""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections import Counter as Tally
from collections import OrderedDict, defaultdict, deque
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from harness.app import (
    Box,
    Caller,
    Colour,
    Draft,
    NamedOtherwise,
    Point,
    Register,
    Sink,
    Sleeper,
)

from perdure import (
    CallCycle,
    KeyReused,
    NotLoaded,
    ObjectNotFound,
    StateNotStorable,
    StateTooLarge,
    ctx,
    durable,
)

Restart = Callable[[], Awaitable[None]]
Behaviour = Callable[[Restart], Awaitable[None]]

BEHAVIOURS: list[Behaviour] = []


def behaviour(function: Behaviour) -> Behaviour:
    BEHAVIOURS.append(function)
    return function


def raises(error: type[BaseException], text: str = "") -> Expected:
    return Expected(error, text)


class Expected:
    """An error that the block must raise; unlike pytest's, it needs no rewriting of asserts."""

    def __init__(self, error: type[BaseException], text: str) -> None:
        self._error = error
        self._text = text

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: Any, _: object) -> bool:
        assert kind is not None, f"{self._error.__name__} was not raised"
        assert not issubclass(kind, self._error) or self._text in str(error), str(error)
        return issubclass(kind, self._error)


@behaviour
async def state_is_created_once_and_kept(restart: Restart) -> None:
    box = await Box.get_or_create("created-once")
    made_at = box.made_at
    await restart()
    assert (await Box.get_or_create("created-once")).made_at == made_at
    await box.put("later", 1)
    await restart()
    assert await box.take("made_at") == made_at
    assert await box.take("later") == 1


@behaviour
async def one_id_of_two_types_is_two_objects(restart: Restart) -> None:
    box, register = await Box.get_or_create("twins"), await Register.get_or_create("twins")
    await register.set("mine")
    await restart()
    assert await box.names() == ["default", "inner", "made_at"]
    assert await register.get() == "mine"


def shown(value: Any) -> object:
    """Return what a value shows of itself. Equal sets may show their items in another order."""
    return sorted(map(repr, value)) if isinstance(value, set | frozenset) else repr(value)


@behaviour
async def every_storable_type_comes_back_as_it_was(restart: Restart) -> None:
    values: list[Any] = [
        *(None, True, False, 0, -1, 2**63, -(2**200), 1.5, -0.0, float("inf"), "", "é\0\U0001f600"),
        *(b"", b"\x00\xff", bytearray(b"x"), [], [1, [2]], (), (1, (2,)), {}, {1: "a", "1": "b"}),
        *({(1, "a"): 2, None: 3, 1.5: 4, b"k": 5}, {date(2024, 2, 29): 1, Colour.RED: 2}),
        *(set(), {1, "a", (2, 3)}, frozenset({frozenset({1})}), {"deep": {"er": [{1}, (2,)]}}),
        *(datetime(2024, 2, 29, 12, 30, 1, 7), datetime(2024, 2, 29, tzinfo=UTC)),
        *(datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),),
        *(datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),),
        *(date(1, 1, 1), time(23, 59, 59, 999_999), timedelta(days=-1, microseconds=1)),
        *(Decimal("1.10"), Decimal("NaN"), UUID(int=7), Colour.BLUE, Point(1.0, -2.0)),
        *(deque([1, 2], maxlen=2), OrderedDict([("b", 1), ("a", 2)]), Tally("abba")),
        *(defaultdict(list, {"a": [1]}), [Box, Register][:0]),
    ]
    register = await Register.get_or_create("types")
    await register.set(values)
    await restart()
    found = await register.get()
    for value, other in zip(values, found, strict=True):
        assert shown(other) == shown(value)
        assert type(other) is type(value)
    await restart()
    kept = (await Register.get_or_create("types")).value
    assert [shown(value) for value in kept] == [shown(value) for value in values]
    assert found[-2].default_factory is list
    assert found[-5].maxlen == 2


@behaviour
async def an_exception_undoes_the_call_and_nothing_else(restart: Restart) -> None:
    box = await Box.get_or_create("undone")
    await box.put("x", 1)
    with raises(ValueError, "no"):
        await box.change_and_fail()
    assert box.inner == {"a": [1]}
    await restart()
    assert await box.take("inner") == {"a": [1]}
    assert await box.take("x") == 1


@behaviour
async def what_was_saved_before_an_exception_stays(restart: Restart) -> None:
    box = await Box.get_or_create("saved")
    with raises(ValueError, "no"):
        await box.save_change_and_fail()
    assert box.inner == {"a": [1, 2]}
    await restart()
    assert await box.take("inner") == {"a": [1, 2]}


@behaviour
async def an_exception_caught_inside_is_ordinary_python(restart: Restart) -> None:
    box = await Box.get_or_create("caught")
    await box.change_and_recover()
    await restart()
    assert await box.take("inner") == {"a": [1, 2, 3]}


@behaviour
async def a_deleted_attribute_stays_deleted(restart: Restart) -> None:
    box = await Box.get_or_create("deleted-attribute")
    await box.remove("default")
    assert not hasattr(box, "default")
    await restart()
    assert await box.names() == ["inner", "made_at"]
    assert not hasattr(await Box.get_or_create("deleted-attribute"), "default")


@behaviour
async def attributes_with_an_underscore_live_in_memory_only(restart: Restart) -> None:
    box = await Box.get_or_create("memory-only")
    await box.remember()
    await restart()
    assert "_in_memory" not in await box.names()


@behaviour
async def a_value_that_cannot_be_stored_fails_the_call_by_its_path(restart: Restart) -> None:
    box = await Box.get_or_create("unstorable")
    with raises(StateNotStorable, "Box[unstorable].items[0]['callback']"):
        await box.keep_a_function()
    await restart()
    assert await box.names() == ["default", "inner", "made_at"]
    assert await box.take("inner") == {"a": [1]}


@behaviour
async def state_over_its_limit_fails_the_call(restart: Restart) -> None:
    sink = await Sink.get_or_create("too-large")
    await sink.keep(1_000)
    with raises(StateTooLarge):
        await sink.keep(100_000)
    await restart()
    assert (await Sink.get_or_create("too-large")).entered == 1


@behaviour
async def arguments_and_results_are_copies(restart: Restart) -> None:
    box = await Box.get_or_create("copies")
    mine = [3]
    inner = await box.change_what_was_given(mine)
    assert mine == [3]
    inner.append(99)
    box.inner["a"].append(99)
    await restart()
    assert await box.take("inner") == {"a": [1]}


@behaviour
async def calls_run_in_the_order_in_which_they_were_made(restart: Restart) -> None:
    register = await Register.get_or_create("order")
    writes = [register.set(number) for number in range(50)]
    last = register.get()
    assert await last == 49
    await asyncio.gather(*reversed(writes))
    await restart()
    assert await register.get() == 49


@behaviour
async def a_call_that_nobody_awaits_is_made(restart: Restart) -> None:
    register = await Register.get_or_create("not-awaited")
    _ = register.set("sent")
    assert await register.get() == "sent"
    await restart()
    assert register.writes == 1


@behaviour
async def a_call_can_be_awaited_again_and_again(restart: Restart) -> None:
    register = await Register.get_or_create("again")
    call = register.compare_and_set(None, 1)
    assert await asyncio.wait_for(asyncio.create_task(call), 30) is True  # type: ignore[arg-type]
    await restart()
    assert await call is True
    assert (await asyncio.gather(call, call)) == [True, True]
    assert await register.get() == 1


@behaviour
async def a_handle_shows_what_others_have_changed_after_its_next_answer(restart: Restart) -> None:
    one, other = await Register.get_or_create("two"), await Register.get_or_create("two")
    await one.set("by one")
    assert other.value is None
    await restart()
    await other.get()
    assert other.value == "by one"
    await one.set("again")
    await durable.refresh(other)
    assert (other.value, other.writes) == ("again", 2)


@behaviour
async def a_handle_cannot_be_written_and_knows_its_methods(restart: Restart) -> None:
    box: Any = await Box.get_or_create("read-only")
    with raises(AttributeError):
        box.default = "other"
    with raises(AttributeError):
        _ = box.nothing
    with raises(AttributeError):
        _ = box._in_memory
    with raises(TypeError):
        box.put("only a name")
    with raises(AttributeError):
        box.putt("x", 1)
    await restart()
    assert await box.names() == ["default", "inner", "made_at"]


@behaviour
async def handles_travel_as_references(restart: Restart) -> None:
    register = await Register.get_or_create("keeps-handles")
    box = await Box.get_or_create("kept")
    await register.set([box, {"box": durable.ref(Box, "other")}])
    await restart()
    kept = await register.get()
    assert kept == [box, {"box": durable.ref(Box, "other")}]
    await kept[0].put("through", "the reference")
    await restart()
    assert await box.take("through") == "the reference"
    assert pickle.loads(pickle.dumps(box)) == copy.deepcopy(box) == copy.copy(box) == box


@behaviour
async def sync_methods_are_called_like_the_others(restart: Restart) -> None:
    box = await Box.get_or_create("sync")
    assert await durable.call(box.plain) == 2
    await restart()
    untyped: Any = box
    assert await untyped.plain(factor=5) == 5


@behaviour
async def the_context_is_given_by_the_object_s_side(restart: Restart) -> None:
    box: Any = await Box.get_or_create("context")
    assert await box.who_calls(ctx, "hello") == "hello, True"
    await restart()
    assert await box.who_calls("hello") == "hello, True"
    assert await box.who_calls(greeting="hi") == "hi, True"


@behaviour
async def shared_methods_read_and_only_read(restart: Restart) -> None:
    box = await Box.get_or_create("shared")
    _ = box.put("x", 1)
    assert await asyncio.gather(*(box.look() for _ in range(5))) == [{"a": [1]}] * 5
    with raises(StateNotStorable, "changed by a @durable.shared method"):
        await box.look_and_touch()
    await restart()
    assert await box.look() == {"a": [1]}


@behaviour
async def a_call_into_its_own_chain_fails_at_once_and_names_the_chain(restart: Restart) -> None:
    caller = await Caller.get_or_create("cycle-a")
    await Caller.get_or_create("cycle-b")
    with raises(CallCycle, "Caller[cycle-a].call_self -> Caller[cycle-a].call_self"):
        await caller.call_self()
    with raises(CallCycle, "Caller[cycle-b].call_back -> Caller[cycle-a].call_and_back"):
        await caller.call_and_back("cycle-b")
    await restart()
    assert await caller.dive(5) == 5
    assert caller.calls == 1


@behaviour
async def objects_exist_from_creation_to_deletion(restart: Restart) -> None:
    assert not await durable.exists(Register, "mortal")
    register = await Register.get_or_create("mortal")
    await register.set(1)
    await restart()
    assert await durable.exists(Register, "mortal")
    assert await durable.delete(register)
    assert not await durable.delete(register)
    with raises(ObjectNotFound, "mortal"):
        await register.get()
    await restart()
    assert not await durable.exists(Register, "mortal")
    with raises(ObjectNotFound):
        await durable.ref(Register, "never-made").get()
    again = await Register.get_or_create("mortal")
    assert (again.value, again.writes) == (None, 0)


@behaviour
async def objects_are_listed_by_prefix_in_the_order_of_their_ids(restart: Restart) -> None:
    ids = [f"listed-{number:02}" for number in range(25)]
    await asyncio.gather(*(Register.get_or_create(id) for id in reversed(ids)))
    await restart()
    found = [handle.object_id async for handle in durable.list(Register, prefix="listed-")]
    assert found == ids
    some = [handle async for handle in durable.list(Register, prefix="listed-1", limit=3)]
    assert some == [durable.ref(Register, id) for id in ids[10:13]]
    assert [h async for h in durable.list(Register, prefix="nobody-")] == []


@behaviour
async def a_key_makes_two_calls_one(restart: Restart) -> None:
    register = await Register.get_or_create("keyed")
    keyed = durable.options(register, key="pay-789")
    assert await keyed.compare_and_set(None, 1) is True
    await restart()
    assert await keyed.compare_and_set(None, 1) is True
    with raises(KeyReused):
        await keyed.compare_and_set(None, 2)
    await restart()
    assert await register.get() == 1


@behaviour
async def large_attributes_are_left_out_of_handles(restart: Restart) -> None:
    box: Any = await Box.get_or_create("large")
    await box.put("large", "x" * 100_000)
    with raises(NotLoaded, "durable.refresh"):
        _ = box.large
    assert box.default == "default"
    await restart()
    box = await Box.get_or_create("large")
    with raises(NotLoaded):
        hasattr(box, "large")
    await durable.refresh(box)
    assert len(box.large) == 100_000


@behaviour
async def a_type_has_the_name_it_was_given(restart: Restart) -> None:
    tagged = await NamedOtherwise.get_or_create("named")
    assert await tagged.tag("a", "b", more="c") == {"a", "b", "c"}
    assert repr(tagged) == "<Tagged 'named'>"
    await restart()
    assert (await NamedOtherwise.get_or_create("named")).tags == {"a", "b", "c"}


@behaviour
async def an_object_s_partition_never_changes(restart: Restart) -> None:
    box = await Box.get_or_create("placed")
    partition = durable.partition(box)
    await restart()
    assert durable.partition(await Box.get_or_create("placed")) == partition


@behaviour
async def what_persists_on_save_is_there_once_it_is_saved(restart: Restart) -> None:
    draft = await Draft.get_or_create("saved-draft")
    assert await draft.write("not yet ") == "not yet "
    assert await draft.write_and_save("saved ") == "not yet saved "
    await restart()
    assert (await Draft.get_or_create("saved-draft")).text == "not yet saved "
    assert await draft.write_and_save("again") == "not yet saved again"


@behaviour
async def properties_and_constants_are_read_on_a_handle(restart: Restart) -> None:
    draft = await Draft.get_or_create("property")
    await draft.write_and_save("five.")
    assert (draft.length, draft.max_length) == (5, 20)
    await restart()
    draft = await Draft.get_or_create("property")
    assert (draft.length, draft.max_length, draft.object_id) == (5, 20, "property")


@behaviour
async def what_on_activate_changes_is_committed_with_the_first_call(restart: Restart) -> None:
    sleeper = await Sleeper.get_or_create("woken")
    first = await sleeper.times_woken()
    assert first >= 1
    await restart()
    second = await sleeper.times_woken()
    assert second >= first
    assert sleeper.woken == second
    await restart()
    assert (await Sleeper.get_or_create("woken")).woken >= second


@behaviour
async def a_handle_is_a_value_of_its_type_and_id(restart: Restart) -> None:
    one, other = await Box.get_or_create("value"), await Box.get_or_create("value")
    assert one == other
    assert {one: 1}[other] == 1
    assert one in [other]
    assert one != await Box.get_or_create("value-2")
    await restart()
    assert isinstance(one, Box)
    assert repr(one) == "<Box 'value'>"
    assert bool(one)


@behaviour
async def calls_work_with_all_that_asyncio_has(restart: Restart) -> None:
    registers = [await Register.get_or_create(f"asyncio-{number}") for number in range(4)]
    async with asyncio.TaskGroup() as group:
        for register in registers:
            group.create_task(register.set("group"))  # type: ignore[arg-type]
    await restart()
    values = [await done for done in asyncio.as_completed([r.get() for r in registers])]
    assert values == ["group"] * 4
    async with asyncio.timeout(30):
        assert await registers[0].compare_and_set("group", "timeout")
    await restart()
    assert await registers[0].get() == "timeout"
