"""What a partition tells of its objects and calls: the rules, without a disk."""

from __future__ import annotations

from harness.core import CART, THERE, WALL_MS, Core

from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure.schedules import TimerSetting
from perdure_node.core.events import Done, OutboxEntry, OutboxGone, Scheduled
from perdure_node.core.firing import PARKED_MS, TimerChange
from perdure_node.core.inspection import (
    ObjectFacts,
    Query,
    object_facts,
    open_calls,
    parked_timers,
    timer_place,
)

OTHER = ObjectKey("Cart", "u2")
SHELF = ObjectKey("Shelf", "s")


def facts(core: Core, key: ObjectKey = CART) -> ObjectFacts:
    return object_facts(core.partition, key, core.now_ms)


def timer(name: str, due_ms: int, attempts: int = 0) -> TimerSetting:
    return TimerSetting(name, due_ms, "bill", b"", "", 1, attempts)


def set_timers(core: Core, key: ObjectKey, *timers: TimerSetting) -> None:
    state = core.memory.state(key)
    assert state is not None
    core.partition.recorder.commit_timers(state, [TimerChange(t.name, t) for t in timers])


def ask_for_a_step(core: Core, step: Scheduled) -> None:
    call = core.running[0]
    core.partition.journalled.step(call, [step], ({"n": b"0"}, 1), f"perform {step.step}")


def test_an_object_that_is_not_there_is_not_made_or_loaded_by_looking() -> None:
    core = Core()

    found = facts(core)

    assert (found.exists, found.resident, found.running_count) == (False, False, 0)
    assert core.residents.counters.loads == 0
    assert len(core.partition.mailboxes) == 0


def test_looking_at_an_object_that_has_left_memory_does_not_bring_it_back() -> None:
    core = Core()
    core.create()
    core.apply()
    core.trim()
    core.crash()

    found = facts(core)

    assert (found.exists, found.resident) == (True, False)
    assert core.residents.counters.loads == 0


def test_the_holder_is_named_with_its_age_and_those_behind_it_are_counted() -> None:
    core = Core()
    core.create()
    core.call(2, "first")
    core.time_passes(3_000)
    core.call(1, "second", session=THERE)
    core.time_passes(2_000)
    core.call(2, "third", session=THERE)

    found = facts(core)

    [holder] = found.running
    assert (holder.method, holder.state, holder.age_ms) == ("first", "running", 5_000)
    assert holder.call_id.endswith(":3:2")
    assert (holder.journalled, holder.resumed, holder.steps) == (False, False, [])
    assert found.waiting_count == 2
    assert found.oldest_waiting is not None
    assert (found.oldest_waiting.method, found.oldest_waiting.age_ms) == ("second", 2_000)


def test_the_time_of_a_call_counts_from_its_start_once_it_runs() -> None:
    core = Core()
    core.create()
    core.call(2, "first")
    core.call(3, "second")
    core.time_passes(4_000)
    core.returned()
    core.time_passes(500)

    [holder] = facts(core).running

    assert (holder.method, holder.age_ms) == ("second", 500)


def test_only_steps_that_are_not_done_are_told_the_latest_first() -> None:
    core = Core()
    core.create()
    core.call(2, "work")
    entry = OutboxEntry(7, 4, *OTHER, int(Kind.CALL), "add", 0, b"", None, None, [], 0)
    ask_for_a_step(core, Scheduled(1, "value", "now", b""))
    ask_for_a_step(core, Scheduled(2, "service", "till.charge", ["till", "charge", None]))
    ask_for_a_step(core, Scheduled(3, "call", "Cart[u2].add", entry))
    ask_for_a_step(core, Scheduled(4, "sleep", "", WALL_MS + 60_000))
    core.partition.journalled.step_done(core.running[0], 2, 0, b"")

    [holder] = facts(core).running

    assert (holder.journalled, holder.steps_done, holder.steps_open) == (True, 2, 2)
    sleep, call = holder.steps
    assert (sleep.number, sleep.kind, sleep.due_ms) == (4, "sleep", WALL_MS + 60_000)
    assert (call.number, call.target, call.origin) == (3, OTHER, (7, 4))


def test_a_call_that_a_crash_has_interrupted_says_so() -> None:
    core = Core()
    core.create()
    core.call(2, "work")
    ask_for_a_step(core, Scheduled(1, "run", "dice", None))
    core.sync()
    core.crash()

    [holder] = facts(core).running

    assert (holder.resumed, holder.journalled, holder.steps_open) == (True, True, 1)


def test_a_parked_call_says_why() -> None:
    core = Core()
    core.create()
    core.call(2, "work")
    ask_for_a_step(core, Scheduled(1, "run", "dice", None))
    call = core.running[0]
    core.partition.journalled.step_done(call, 1, 0, b"")
    core.partition.journalled.park(call, "other steps", 1, b"")

    [holder] = facts(core).running

    assert (holder.state, holder.reason) == ("parked", "other steps")
    assert isinstance(call.progress.events[1], Done)  # type: ignore[union-attr]


def test_timers_come_as_they_are_due_and_parked_ones_last() -> None:
    core = Core()
    core.create()
    set_timers(
        core, CART, timer("broken", PARKED_MS, 8), timer("b", WALL_MS + 9), timer("a", WALL_MS + 10)
    )

    found = facts(core)

    assert [t.name for t in found.timers] == ["b", "a", "broken"]
    assert found.timer_count == 3


def test_of_many_timers_some_are_shown_and_a_parked_one_is_among_them() -> None:
    core = Core()
    core.create()
    many = [timer(f"t{number:03}", WALL_MS + number) for number in range(50)]
    set_timers(core, CART, *many, timer("broken", PARKED_MS))

    found = facts(core)

    assert [t.name for t in found.timers] == [*(t.name for t in many[:10]), "broken"]
    assert found.timer_count == 51


def test_why_no_call_starts_is_told() -> None:
    core = Core()

    core.partition.room = False
    assert "disk is full" in facts(core).held_up
    core.partition.paused = True
    assert "waits for the disk" in facts(core).held_up
    core.partition.draining = True
    assert "stopped" in facts(core).held_up


def test_calls_are_listed_parked_ones_first_then_those_that_run_and_wait() -> None:
    core = Core()
    core.create()
    core.create(2, target=OTHER)
    core.call(3, "parks")
    ask_for_a_step(core, Scheduled(1, "run", "dice", None))
    parks = core.running[0]
    core.partition.journalled.step_done(parks, 1, 0, b"")
    core.partition.journalled.park(parks, "other steps", 1, b"")
    core.call(4, "runs", target=OTHER)
    core.call(5, "waits", target=OTHER)

    everything = open_calls(core.partition, Query(), core.now_ms)

    assert [(c.state, c.method) for c in everything] == [
        ("parked", "parks"), ("running", "runs"), ("waiting", "waits"),
    ]  # fmt: skip
    parked = open_calls(core.partition, Query(parked_only=True), core.now_ms)
    assert [c.method for c in parked] == ["parks"]
    assert open_calls(core.partition, Query(type="Shelf"), core.now_ms) == []


def test_young_calls_without_a_journal_are_left_out_when_older_ones_are_asked_for() -> None:
    core = Core()
    core.create()
    core.create(2, target=OTHER)
    core.call(3, "journalled")
    ask_for_a_step(core, Scheduled(1, "run", "dice", None))
    core.call(4, "plain", target=OTHER)
    query = Query(older_than_ms=1_000)

    assert [c.method for c in open_calls(core.partition, query, core.now_ms)] == ["journalled"]
    core.time_passes(1_000)
    assert len(open_calls(core.partition, query, core.now_ms)) == 2


def test_pages_of_calls_hold_each_call_once() -> None:
    core = Core()
    for number in range(1, 8):
        core.create(number, target=ObjectKey("Cart", f"c{number}"))
    for number in range(1, 8):
        core.call(number + 7, "work", target=ObjectKey("Cart", f"c{number}"))
        core.call(number + 14, "behind", target=ObjectKey("Cart", f"c{number}"))

    seen, after = [], ""
    while page := open_calls(core.partition, Query(after=after, limit=3), core.now_ms):
        assert len(page) <= 3
        seen += [call.call_id for call in page]
        after = page[-1].place

    assert len(seen) == len(set(seen)) == 14


def test_a_call_that_leaves_is_listed_until_it_has_arrived() -> None:
    core = Core()
    entry = OutboxEntry(
        7, 4, *SHELF, int(Kind.SEND), "put", 0, b"", None, None, [["Cart", "u1", "buy"]], 0
    )
    core.partition.recorder.commit_effects([entry])

    [call] = open_calls(core.partition, Query(older_than_ms=60_000), core.now_ms)

    assert (call.state, call.key, call.method, call.origin) == ("leaving", SHELF, "put", (7, 4))
    assert call.chain == ["Cart/u1.buy"]
    core.partition.recorder.commit_effects([OutboxGone(7, 4)])
    assert open_calls(core.partition, Query(), core.now_ms) == []


def test_parked_timers_are_found_in_memory_and_in_the_store_page_by_page() -> None:
    core = Core()
    core.create()
    core.create(2, target=OTHER)
    set_timers(core, CART, timer("broken", PARKED_MS, 8), timer("fine", WALL_MS + 10))
    core.sync()
    core.apply()
    set_timers(core, OTHER, timer("a", PARKED_MS), timer("b", PARKED_MS))

    everything = parked_timers(core.partition, Query())

    assert [(key, t.name) for key, t in everything] == [
        (CART, "broken"), (OTHER, "a"), (OTHER, "b"),
    ]  # fmt: skip
    places = [timer_place(*found) for found in everything]
    assert places == sorted(places)
    assert parked_timers(core.partition, Query(after=places[0])) == everything[1:]
    assert parked_timers(core.partition, Query(limit=2)) == everything[:2]
    assert parked_timers(core.partition, Query(type="Shelf")) == []


def test_a_timer_that_is_armed_again_is_parked_no_more_in_every_life() -> None:
    core = Core()
    core.create()
    set_timers(core, CART, timer("broken", PARKED_MS, 8))
    core.sync()
    core.apply()
    set_timers(core, CART, timer("broken", WALL_MS + 5))
    assert parked_timers(core.partition, Query()) == []

    core.sync()
    core.apply()
    core.crash()

    assert parked_timers(core.partition, Query()) == []
    assert facts(core).timers == [timer("broken", WALL_MS + 5)]


def test_the_firing_of_a_timer_is_named_by_it() -> None:
    core = Core()
    core.create()
    set_timers(core, CART, timer("bill", WALL_MS + 5))
    core.sync()
    core.time_passes(10)
    core.partition.fire(core.wall_ms)
    core._work()

    [holder] = facts(core).running

    assert (holder.call_id, holder.timer, holder.method) == ("", "bill", "bill")
