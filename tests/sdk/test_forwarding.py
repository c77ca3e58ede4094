"""The rules of forwarding, by themselves."""

from __future__ import annotations

import pytest
from harness.forwarding_bench import Bench, Stream, bodies

from perdure.errors import KINDS, CallRejected, Code
from perdure.routing.core.limits import ForwardingLimits


def test_a_call_goes_to_the_owner_and_its_answer_back_under_the_callers_number() -> None:
    bench, stream = Bench(), Stream()
    bench.up("n1")
    bench.up("n2")
    bench.call(stream, 7, partition=3)

    ((node, copy),) = bench.sent
    bench.answer(copy, Code.OK)

    assert (node, copy.partition, copy.time_left_ms, copy.body) == ("n2", 3, 1_000, b"7")
    assert stream.answers == [(7, Code.OK)]
    assert bench.core.open_count == 0


def test_a_call_without_a_reachable_owner_waits_for_it() -> None:
    bench, stream = Bench(), Stream()
    bench.up("n2")
    bench.call(stream, 1)
    assert bench.take_sent() == []

    bench.now_ms += 300
    bench.up("n1")

    (copy,) = bench.take_sent()
    assert (copy.body, copy.time_left_ms) == (b"1", 700)


@pytest.mark.parametrize(
    ("time_left_ms", "early_ms"),
    [(150, 100), (400, 100), (1_000, 250), (2_000, 500), (30_000, 500)],
)
def test_a_call_that_waits_in_vain_hears_in_time_that_it_has_not_run(
    time_left_ms: int, early_ms: int
) -> None:
    bench, stream = Bench(), Stream()
    bench.call(stream, 1, time_left_ms=time_left_ms)

    bench.tick(time_left_ms - early_ms - 1)
    assert stream.answers == []
    bench.tick(1)

    assert stream.answers == [(1, Code.NO_OWNER)]


def test_a_call_without_time_to_wait_has_no_owner_at_once() -> None:
    bench, stream = Bench(), Stream()

    bench.call(stream, 1, time_left_ms=100)

    assert stream.answers == [(1, Code.NO_OWNER)]


def test_a_refusal_by_a_node_that_is_not_the_owner_is_sent_again_and_never_seen() -> None:
    for code in (Code.NOT_OWNER, Code.DRAINING, Code.NO_OWNER):
        bench, stream = Bench(), Stream()
        bench.up("n1")
        bench.call(stream, 1)
        (copy,) = bench.take_sent()

        bench.answer(copy, code)
        assert bench.take_sent() == []
        bench.tick(10)
        (again,) = bench.take_sent()
        bench.answer(again, Code.OK)

        assert again.body == copy.body
        assert again.number != copy.number
        assert stream.answers == [(1, Code.OK)]


def test_the_wait_before_the_next_copy_doubles_up_to_its_limit() -> None:
    bench, stream = Bench(), Stream()
    bench.up("n1")
    bench.call(stream, 1, time_left_ms=60_000)
    waits = []
    for _ in range(9):
        (copy,) = bench.take_sent()
        bench.answer(copy, Code.NOT_OWNER)
        started_ms = bench.now_ms
        while not bench.sent:
            bench.tick(1)
        waits.append(bench.now_ms - started_ms)

    assert waits == [10, 20, 40, 80, 160, 320, 500, 500, 500]


def test_a_new_owner_is_asked_at_once() -> None:
    bench, stream = Bench(), Stream()
    bench.up("n1", epoch=1)
    bench.call(stream, 1)
    (copy,) = bench.take_sent()
    bench.answer(copy, Code.NOT_OWNER)

    bench.core.node_welcomed(bench.now_ms, "n2", {0: 2})
    bench.done()

    assert [(node, frame.body) for node, frame in bench.sent] == [("n2", b"1")]


def test_calls_go_to_a_router_while_no_node_claims_their_partition_and_to_the_node_again() -> None:
    bench, stream = Bench(), Stream()
    bench.up("router")
    bench.call(stream, 1)
    bench.up("n1")
    bench.call(stream, 2)
    bench.lost("n1")
    bench.call(stream, 3)

    assert [(node, frame.body) for node, frame in bench.sent] == [
        ("router", b"1"),
        ("n1", b"2"),
        ("router", b"2"),
        ("router", b"3"),
    ]


def test_a_node_that_denies_what_it_claimed_is_believed_when_somebody_else_claims_it() -> None:
    bench, stream = Bench(), Stream()
    bench.up("router")
    bench.up("n1")
    bench.call(stream, 1)
    bench.call(stream, 2, partition=2)
    first, second = bench.take_sent()

    bench.answer(first, Code.NOT_OWNER)
    bench.call(stream, 3)
    bench.call(stream, 4, partition=2)
    bench.answer(second, Code.OK)

    assert [(node, frame.body) for node, frame in bench.sent] == [
        ("router", b"1"),
        ("router", b"3"),
        ("n1", b"4"),
    ]


def test_a_node_that_has_denied_a_partition_has_it_when_it_claims_it_again() -> None:
    bench, stream = Bench(), Stream()
    bench.up("router")
    bench.up("n1")
    bench.call(stream, 1)
    (copy,) = bench.take_sent()
    bench.answer(copy, Code.NOT_OWNER)

    bench.up("n1", epoch=2)
    bench.call(stream, 2)

    assert [node for node, _ in bench.sent] == ["router", "n1"]


def test_calls_are_called_back_only_from_where_their_partition_is_not_any_more() -> None:
    bench, stream = Bench(), Stream()
    bench.up("router")
    bench.call(stream, 1)
    bench.call(stream, 2, partition=1)
    bench.call(stream, 3)
    bench.up("n1")
    at_the_router = bench.take_sent()

    bench.core.recall(bench.now_ms, "router")
    bench.done()

    assert [(node, frame.body) for node, frame in bench.sent] == [("n1", b"1"), ("n1", b"3")]
    first, _ = bench.take_sent()
    bench.answer(at_the_router[0], Code.OK)
    assert stream.answers == [], "the copy that is astray is not listened to"
    bench.answer(first, Code.BACKPRESSURE)
    assert stream.answers == [(1, Code.OWNER_LOST)], "the copy at the router may yet run"


def test_calls_that_went_astray_and_calls_that_wait_leave_in_the_order_they_came() -> None:
    bench, stream = Bench(), Stream()
    bench.up("n1")
    for number in (1, 2, 3):
        bench.call(stream, number)
    copies = bench.take_sent()
    bench.answer(copies[1], Code.DRAINING)
    bench.up("router")

    bench.lost("n1")

    assert [(node, frame.body) for node, frame in bench.sent] == [
        ("router", b"1"),
        ("router", b"2"),
        ("router", b"3"),
    ]


def test_a_refusal_counts_for_nothing_while_a_copy_is_astray() -> None:
    for code, kind in KINDS.items():
        bench, stream = Bench(), Stream()
        bench.up("n1")
        bench.call(stream, 1)
        bench.lost("n1")
        bench.up("n1")
        copies = bench.take_sent()
        assert bodies(copies) == [b"1", b"1"]

        bench.answer(copies[1], code)

        if code in (Code.NOT_OWNER, Code.NO_OWNER, Code.DRAINING, Code.OWNER_LOST):
            assert stream.answers == [], code
        elif issubclass(kind.error, CallRejected):
            assert stream.answers == [(1, Code.OWNER_LOST)], code


def test_an_answer_after_a_lost_stream_is_the_answer() -> None:
    bench, stream = Bench(), Stream()
    bench.up("n1")
    bench.call(stream, 1)
    bench.lost("n1")
    bench.up("n1")
    _, copy = bench.take_sent()

    bench.answer(copy, Code.RAISED)

    assert stream.answers == [(1, Code.RAISED)]


def test_an_answer_that_comes_over_a_stream_given_up_is_not_heard() -> None:
    bench, stream = Bench(), Stream()
    bench.up("n1")
    bench.call(stream, 1)
    bench.lost("n1")
    bench.up("n1")
    old, new = bench.take_sent()

    bench.answer(old, Code.BACKPRESSURE)
    bench.answer(new, Code.OK)
    bench.answer(new, Code.OK)

    assert stream.answers == [(1, Code.OK)]


def test_a_call_with_a_copy_astray_ends_with_nobody_knows() -> None:
    bench, stream = Bench(), Stream()
    bench.up("n1")
    bench.call(stream, 1, time_left_ms=100)
    bench.lost("n1")

    bench.tick(100)

    assert stream.answers == [(1, Code.DEADLINE_EXCEEDED)]


def test_a_node_that_never_answers_is_not_waited_for_for_ever() -> None:
    bench, stream = Bench(), Stream()
    bench.up("n1")
    bench.call(stream, 1, time_left_ms=100)

    bench.tick(100)
    assert stream.answers == []
    bench.tick(ForwardingLimits().overdue_ms)

    assert stream.answers == [(1, Code.DEADLINE_EXCEEDED)]
    assert bench.core.open_count == 0


def test_calls_of_one_partition_keep_their_order_over_refusals_and_new_arrivals() -> None:
    bench, stream = Bench(), Stream()
    bench.up("n1")
    for number in (1, 2, 3):
        bench.call(stream, number)
    copies = bench.take_sent()
    bench.answer(copies[0], Code.DRAINING)
    bench.call(stream, 4)
    bench.answer(copies[1], Code.DRAINING)
    bench.answer(copies[2], Code.DRAINING)
    bench.call(stream, 5)

    bench.tick(500)

    assert bodies(bench.take_sent()) == [b"1", b"2", b"3", b"4", b"5"]


def test_calls_of_a_lost_node_leave_again_in_the_order_they_came() -> None:
    bench, stream = Bench(), Stream()
    bench.up("n1")
    for number in range(1, 5):
        bench.call(stream, number, partition=0 if number % 2 else 2)
    bench.lost("n1")
    bench.call(stream, 5)
    bench.take_sent()

    bench.up("n1")

    again = bench.take_sent()
    assert bodies([f for f in again if f.partition == 0]) == [b"1", b"3", b"5"]
    assert bodies([f for f in again if f.partition == 2]) == [b"2", b"4"]


def test_a_call_that_waits_is_dropped_when_its_caller_is_gone() -> None:
    bench, stream = Bench(), Stream()
    bench.call(stream, 1)
    stream.closed = True

    bench.tick(50)
    bench.up("n1")

    assert bench.take_sent() == []
    assert bench.core.open_count == 0


def test_a_call_whose_time_is_over_is_not_forwarded() -> None:
    bench, stream = Bench(), Stream()
    bench.up("n1")

    bench.call(stream, 1, time_left_ms=0)

    assert bench.take_sent() == []
    assert stream.answers == [(1, Code.DEADLINE_EXCEEDED)]


def test_an_absurd_deadline_is_cut() -> None:
    bench, stream = Bench(), Stream()
    bench.up("n1")

    bench.call(stream, 1, time_left_ms=2**63)

    assert bench.take_sent()[0].time_left_ms == 24 * 3_600_000


def test_a_partition_that_there_is_not_is_malformed() -> None:
    bench, stream = Bench(), Stream()

    bench.call(stream, 1, partition=4)

    assert stream.answers == [(1, Code.MALFORMED)]


def test_what_nobody_wants_answered_is_forwarded_and_forgotten() -> None:
    bench, stream = Bench(), Stream()
    bench.call(stream, 0)
    bench.up("n1")
    bench.call(stream, 0)

    assert [frame.number for frame in bench.take_sent()] == [0]
    assert bench.core.open_count == 0


def test_calls_that_wait_are_bounded_in_number_and_bytes() -> None:
    for limits in (ForwardingLimits(waiting_calls_max=2), ForwardingLimits(waiting_bytes_max=2)):
        bench, stream = Bench(limits), Stream()
        bench.up("n2")
        for number in (1, 2, 3):
            bench.call(stream, number)
        bench.call(stream, 4, partition=1)

        assert stream.answers == [(3, Code.BACKPRESSURE)]
        assert bodies(bench.take_sent()) == [b"4"]


def test_calls_held_are_bounded_in_number_and_bytes() -> None:
    for limits in (ForwardingLimits(calls_max=2), ForwardingLimits(bytes_max=1)):
        bench, stream = Bench(limits), Stream()
        bench.up("n1")
        for number in (1, 2, 3):
            bench.call(stream, number)
        copies = bench.take_sent()

        assert stream.answers == [(3, Code.BACKPRESSURE)]

        bench.answer(copies[0], Code.OK)
        bench.call(stream, 4)
        assert bodies(bench.take_sent()) == [b"4"]


def test_a_lost_node_with_more_calls_than_may_wait_answers_the_rest_with_nobody_knows() -> None:
    bench, stream = Bench(ForwardingLimits(waiting_calls_max=2)), Stream()
    bench.up("n1")
    for number in (1, 2, 3):
        bench.call(stream, number)

    bench.lost("n1")

    assert stream.answers == [(3, Code.OWNER_LOST)]
