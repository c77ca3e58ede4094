"""When calls are made: in a closed loop after an answer, in an open one when they are due."""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import pairwise

import pytest
from harness.loop import on_loop, until

from perdure.bench.alarm import Alarm
from perdure.bench.launching import Landed
from perdure.bench.loops import ClosedLoop, OpenLoop
from perdure.bench.meter import Meter
from perdure.bench.pace import Pace

SECOND = 1_000_000_000
MS = 1_000_000


class Clock:
    """Time that goes on when somebody says so."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


class Server:
    """Answers in order, in a millisecond each, unless it stands still."""

    def __init__(self, clock: Clock, meter: Meter, stands_still: range) -> None:
        self._clock = clock
        self._meter = meter
        self._stands_still = stands_still
        self._waiting: deque[int] = deque()
        self._landed: Landed | None = None

    def tell(self, landed: Landed) -> None:
        self._landed = landed

    def launch(self, due_ns: int) -> None:
        self._waiting.append(due_ns)

    def give_up(self) -> None:
        self._waiting.clear()

    @property
    def in_flight(self) -> int:
        return len(self._waiting)

    def answer(self) -> None:
        now_ns = self._clock.now_ns
        if self._waiting and now_ns not in self._stands_still:
            self._meter.succeeded(now_ns - self._waiting.popleft())
            assert self._landed is not None
            self._landed(now_ns, True)

    def refuse(self) -> None:
        self._waiting.popleft()
        self._meter.failed("Overloaded", "too much")
        assert self._landed is not None
        self._landed(self._clock.now_ns, False)


def latencies_ms(meter: Meter) -> list[float]:
    return sorted(each / MS for interval in meter.intervals for each in interval.latencies_ns)


def ticks(seconds: int) -> range:
    return range(0, seconds * SECOND, MS)


# Coordinated omission.


@on_loop
async def test_a_stall_costs_every_call_that_was_due_in_it() -> None:
    clock, meter = Clock(), Meter()
    server = Server(clock, meter, range(SECOND, 2 * SECOND))
    load = OpenLoop(server, Pace(0, 100), meter, clock)
    meter.begin(0)

    for clock.now_ns in ticks(4):
        server.answer()
        load.make_due()

    found = latencies_ms(meter)
    assert len(found) == 400
    # 100 calls were due while nothing was answered. They waited for 1 s, 0.99 s ... 0.01 s, and
    # then for those before them.
    assert sum(each > 10 for each in found) > 100
    assert 1_000 <= found[-1] <= 1_001
    assert sum(each > 500 for each in found) >= 50


@on_loop
async def test_callers_who_wait_for_answers_hardly_notice_the_same_stall() -> None:
    clock, meter = Clock(), Meter()
    server = Server(clock, meter, range(SECOND, 2 * SECOND))
    load = ClosedLoop(server, 1, clock)
    meter.begin(0)
    load.start()

    for clock.now_ns in ticks(4):
        server.answer()

    found = latencies_ms(meter)
    assert len(found) > 2_000
    assert sum(each > 10 for each in found) == 1


@on_loop
async def test_who_makes_calls_too_late_is_charged_for_it() -> None:
    clock, meter = Clock(), Meter()
    server = Server(clock, meter, range(0))
    load = OpenLoop(server, Pace(0, 800), meter, clock)
    meter.begin(0)

    # This process was away for half a second, not the server.
    clock.now_ns = SECOND // 2
    load.make_due()
    while server.in_flight:
        server.answer()

    found = latencies_ms(meter)
    assert load.made == len(found) == 401
    assert (found[0], found[-1]) == (0, 500)


@on_loop
async def test_an_open_loop_makes_calls_whether_they_are_answered_or_not() -> None:
    clock, meter = Clock(), Meter()
    server = Server(clock, meter, range(10 * SECOND))
    load = OpenLoop(server, Pace(0, 5_000), meter, clock)

    for clock.now_ns in ticks(2):
        load.make_due()

    assert server.in_flight == load.made == 2 * 5_000 - 5 + 1


@on_loop
async def test_an_open_loop_on_a_real_clock_makes_as_many_calls_as_were_due() -> None:
    loop = asyncio.get_running_loop()
    clock_ns = lambda: round(loop.time() * 1e9)  # noqa: E731
    meter = Meter()
    done = loop.create_future()

    class Echo:
        def tell(self, landed: Landed) -> None:
            self._landed = landed
            self.count = 0

        def launch(self, due_ns: int) -> None:
            assert clock_ns() >= due_ns
            self.count += 1
            loop.call_soon(self._landed, clock_ns(), True)
            if self.count == 100 and not done.done():
                done.set_result(None)

        def give_up(self) -> None: ...

    echo = Echo()
    start_ns = clock_ns()
    load = OpenLoop(echo, Pace(start_ns, 2_000), meter, clock_ns)
    load.start()
    await done
    took_s = (clock_ns() - start_ns) / 1e9
    load.stop()

    assert await load.landed_all(60.0) == 0
    assert took_s >= 0.049


@on_loop
async def test_answers_are_taken_in_between_however_many_calls_are_late() -> None:
    clock, meter = Clock(), Meter()
    server = Server(clock, meter, range(0))
    load = OpenLoop(server, Pace(0, 1_000), meter, clock)
    clock.now_ns = 2 * SECOND

    load.make_due()
    assert (load.made, server.in_flight) == (2_001, 500)
    server.answer()
    for in_flight in (999, 1_499, 1_999, 2_000):
        await asyncio.sleep(0)
        assert server.in_flight == in_flight

    assert load.made == 2_001


@on_loop
async def test_calls_that_were_due_before_the_end_are_made_after_it() -> None:
    clock, meter = Clock(), Meter()
    server = Server(clock, meter, range(0))
    load = OpenLoop(server, Pace(0, 1_000), meter, clock)
    clock.now_ns = SECOND
    load.make_due()
    assert (load.made, server.in_flight) == (1_001, 500)

    load.stop()
    clock.now_ns = 2 * SECOND
    await until(lambda: server.in_flight == 1_001)
    while server.in_flight:
        server.answer()

    assert await load.landed_all(60.0) == 0
    assert load.made == 1_001


# The pace.


@pytest.mark.parametrize("rate", [0.5, 3, 300, 999.9, 1_000, 1_001, 48_000, 1_234_567.8])
def test_after_t_seconds_t_times_the_rate_have_been_due(rate: float) -> None:
    pace = Pace(5 * SECOND, rate)
    assert pace.take(5 * SECOND - 1) == []

    due = [each for now_ns in ticks(4) for each in pace.take(5 * SECOND + now_ns)]

    assert due == sorted(due)
    assert due[0] == 5 * SECOND
    assert abs(len(due) - 4 * rate) <= max(2, rate / 1_000)
    assert pace.next_ns > 9 * SECOND - MS


def test_slow_calls_are_due_at_even_distances() -> None:
    pace = Pace(0, 300)

    due = pace.take(SECOND)

    assert {later - earlier for earlier, later in pairwise(due)} <= {3_333_333, 3_333_334}


def test_calls_are_due_when_they_were_however_late_somebody_asks() -> None:
    late, in_time = Pace(0, 20_000), Pace(0, 20_000)

    asked_often = [due for now_ns in ticks(1) for due in in_time.take(now_ns)]
    asked_often += in_time.take(SECOND)

    # One at the start, and twenty at the end of each millisecond.
    expected = [0] + [tick * MS for tick in range(1, 1_001) for _ in range(20)]
    assert len(expected) == 20_001
    assert asked_often == expected
    assert late.take(SECOND) == expected


def test_no_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="over 0"):
        Pace(0, 0)


# A closed loop.


@on_loop
async def test_a_closed_loop_has_so_many_calls_in_flight_until_it_is_stopped() -> None:
    clock, meter = Clock(), Meter()
    server = Server(clock, meter, range(0))
    load = ClosedLoop(server, 7, clock)
    load.start()

    for clock.now_ns in ticks(1):
        assert server.in_flight == 7
        server.answer()
    load.stop()
    while server.in_flight:
        server.answer()

    assert await load.landed_all(60.0) == 0
    assert load.made == 7 + 1_000


@on_loop
async def test_who_gets_an_error_waits_before_the_next_call() -> None:
    clock, meter = Clock(), Meter()
    server = Server(clock, meter, range(0))
    load = ClosedLoop(server, 1, clock)
    meter.begin(0)
    load.start()
    loop = asyncio.get_running_loop()
    began_s = loop.time()

    server.refuse()
    assert server.in_flight == 0
    await until(lambda: server.in_flight == 1)

    assert loop.time() - began_s >= 0.049
    assert meter.errors == {"Overloaded": 1}
    load.stop()
    server.answer()
    assert await load.landed_all(60.0) == 0


@on_loop
async def test_calls_that_never_end_are_counted() -> None:
    clock, meter = Clock(), Meter()
    server = Server(clock, meter, range(10 * SECOND))
    load = ClosedLoop(server, 3, clock)
    load.start()
    load.stop()

    assert await load.landed_all(0.01) == 3


# The meter and the alarm.


def test_what_ended_while_the_load_was_warming_up_does_not_count() -> None:
    meter = Meter()
    meter.succeeded(5)
    meter.failed("Overloaded", "too much")

    meter.begin(100)
    meter.succeeded(6)
    meter.failed("OutcomeUnknown", "who knows")
    meter.begin(200)
    meter.end(250)

    assert [list(interval.latencies_ns) for interval in meter.intervals] == [[6], []]
    assert [interval.failed for interval in meter.intervals] == [1, 0]
    assert [interval.seconds for interval in meter.intervals] == [1e-7, 5e-8]
    assert meter.errors == {"OutcomeUnknown": 1}
    assert meter.examples == {"OutcomeUnknown": "who knows"}


@on_loop
async def test_an_alarm_rings_when_it_was_set_to_and_not_before() -> None:
    import time

    rang: asyncio.Queue[int] = asyncio.Queue()
    alarm = Alarm(lambda: rang.put_nowait(time.monotonic_ns()))
    try:
        for delay_ns in (0, 300_000, 20 * MS):
            due_ns = time.monotonic_ns() + delay_ns
            alarm.set(due_ns)
            async with asyncio.timeout(60):
                assert await rang.get() >= due_ns
    finally:
        alarm.close()
