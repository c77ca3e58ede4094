"""Calls that leave a partition, rule by rule: whose numbers they have and when they are settled."""

from __future__ import annotations

import pytest
from harness.play_session import CART, HOUR_MS, OTHER, Play

from perdure.bodies import unpack_request
from perdure.errors import Code
from perdure.frames import TIME_LEFT_MAX_MS, Kind
from perdure.ids import (
    CallId,
    is_partition_session,
    new_session_id,
    partition_session_id,
    session_birth_ms,
)
from perdure.session import SessionLimits
from perdure.settled import Settled
from perdure_node.core import rows
from perdure_node.core.limits import Limits
from perdure_node.core.refusals import refuse_session

HERE = partition_session_id("c", 7)
THERE = partition_session_id("c", 8)


def id(sequence: int, session: bytes = HERE, partition: int = 0) -> CallId:
    return CallId(session, partition, sequence)


def leave(play: Play, token: str, sequence: int, target=CART, **more) -> None:
    play.call(token, target, origin=id(sequence), time_ms=more.pop("time_ms", None), **more)


def send(play: Play, token: str, sequence: int, target=CART, **more) -> int:
    """Make a call, send it alone, and return the number of its frame."""
    leave(play, token, sequence, target, **more)
    (frame,) = play.frames()
    return frame.number


# Sessions of partitions.


def test_a_session_of_a_partition_is_the_same_whoever_makes_it_and_no_other_ones() -> None:
    ids = {partition_session_id(cluster, n) for cluster in ("c", "d") for n in range(512)}

    assert len(ids) == 1_024
    assert partition_session_id("c", 7) == HERE
    assert {len(session) for session in ids} == {16}
    assert all(is_partition_session(session) for session in ids)
    assert not is_partition_session(new_session_id(100 * HOUR_MS, b"\xff" * 10))


def test_a_session_of_a_partition_is_never_too_old_and_never_too_young() -> None:
    limits = Limits()
    for time_ms in (0, 100 * HOUR_MS, session_birth_ms(HERE) + 100 * HOUR_MS):
        assert refuse_session(HERE, time_ms, limits) is None
    assert refuse_session(new_session_id(0, b"r" * 10), 100 * HOUR_MS, limits) is not None


def test_the_rows_of_such_a_session_sort_behind_those_that_expire() -> None:
    far_ms = (1 << 48) - 2

    assert rows.session_key(HERE) >= b"s" + (far_ms + 1).to_bytes(6, "big")


# Numbers.


def test_a_call_has_the_session_and_the_number_that_it_is_given() -> None:
    play = Play()
    leave(play, "a", 1)
    leave(play, "b", 2, OTHER)

    sent = play.requests()

    assert [(r.session, r.sequence) for r in sent] == [(HERE, 1), (HERE, 2)]


def test_calls_of_partitions_and_of_the_client_itself_do_not_wait_for_each_other() -> None:
    play = Play(SessionLimits(sent_calls_max=1))
    play.call("own")
    leave(play, "a", 1)
    play.call("b", origin=id(1, THERE))

    sent = {request.method: request for request in play.requests()}

    assert {name: (r.sequence, r.previous) for name, r in sent.items()} == {
        "own": (1, 0),
        "a": (1, 0),
        "b": (1, 0),
    }
    assert len({request.session for request in sent.values()}) == 3


def test_a_call_names_the_latest_earlier_open_one_of_its_partition_to_the_same_object() -> None:
    play = Play()
    first = send(play, "a", 1)
    leave(play, "x", 2, OTHER)
    leave(play, "b", 3)
    assert [r.previous for r in play.requests()] == [0, 1]

    play.answer(first)
    leave(play, "c", 4)
    play.reconnect()

    assert {r.method: r.previous for r in play.requests()} == {"x": 0, "b": 0, "c": 3}


def test_after_a_crash_calls_are_in_the_order_of_their_numbers_however_they_are_made() -> None:
    play = Play()
    play.session.resume_origin(HERE, 0, 6, [2, 3, 5])
    for sequence in (5, 2, 6):
        leave(play, f"{sequence}", sequence)

    assert [(r.method, r.previous) for r in play.requests()] == [("2", 0), ("5", 2), ("6", 5)]
    leave(play, "3", 3)
    assert [(r.method, r.previous) for r in play.requests()] == [("3", 2)]
    play.reconnect()
    assert {r.method: r.previous for r in play.requests()} == {"2": 0, "3": 2, "5": 3, "6": 5}


def test_the_session_is_not_renewed_and_copies_are_sent_after_days() -> None:
    play = Play()
    send(play, "a", 1)
    play.wait(72 * HOUR_MS)
    play.reconnect()
    leave(play, "b", 2)

    again = play.requests()

    assert [(r.method, r.session, r.sequence) for r in again] == [("a", HERE, 1), ("b", HERE, 2)]
    assert play.ended() == []


@pytest.mark.parametrize("sequence", [0, 1, 4])
def test_a_number_that_is_none_is_settled_or_is_there_already_is_refused(sequence) -> None:
    play = Play()
    play.session.resume_origin(HERE, 0, 3, [2])
    leave(play, "there", 4)

    with pytest.raises(ValueError, match=f":0:{sequence}"):
        leave(play, "a", sequence)
    assert play.sent() == ["there"]


def test_a_read_does_not_leave_a_partition_under_a_number() -> None:
    with pytest.raises(ValueError, match="read"):
        leave(Play(), "look", 1, kind=Kind.GET)


def test_a_lane_is_resumed_before_its_first_call_only() -> None:
    play = Play()
    leave(play, "a", 1)

    with pytest.raises(ValueError, match="here already"):
        play.session.resume_origin(HERE, 0, 2, [1])


# What is settled.


def test_an_answer_alone_settles_nothing() -> None:
    play = Play()
    play.answer(send(play, "a", 1))
    assert play.ended() == [("a", Code.OK)]

    leave(play, "b", 2)
    assert [r.confirmed for r in play.requests()] == [[0]]
    play.session.confirm(id(1))
    leave(play, "c", 3)

    assert [r.confirmed for r in play.requests()] == [[1]]


def test_a_refusal_for_good_waits_for_its_confirmation_too() -> None:
    play = Play()
    play.answer(send(play, "a", 1), Code.UNKNOWN_METHOD, "Cart", "a", "")
    leave(play, "b", 2)
    assert [(r.previous, r.confirmed) for r in play.requests()] == [(0, [0])]

    play.session.confirm(id(1))
    play.wait(1_000)

    assert [(r.kind, r.confirmed) for r in play.requests()] == [(Kind.CONFIRM, [1])]


def test_confirming_is_told_after_a_while_if_nothing_else_is_sent() -> None:
    play = Play()
    play.answer(send(play, "a", 1))
    play.wait(10_000)
    assert play.frames() == []

    play.session.confirm(id(1))
    play.session.confirm(id(1))
    play.wait(1_000)

    (frame,) = play.frames()
    assert (frame.partition, unpack_request(frame.body).confirmed) == (0, [1])
    play.wait(10_000)
    assert play.frames() == []


def test_a_call_that_is_confirmed_without_an_answer_is_given_up_at_once() -> None:
    play = Play()
    number = send(play, "a", 1)
    send(play, "b", 2)

    play.session.confirm(id(1))

    assert [(r.kind, r.confirmed) for r in play.requests()] == [(Kind.CONFIRM, [1])]
    assert play.ended() == [("a", Code.DEADLINE_EXCEEDED)]
    play.answer(number)
    play.reconnect()
    assert [(r.method, r.previous) for r in play.requests()] == [("b", 0)]


def test_a_call_that_is_confirmed_before_it_was_sent_never_is() -> None:
    play = Play(connected=False)
    leave(play, "a", 1)

    play.session.confirm(id(1))
    play.session.opened("c", 1)

    assert [(r.kind, r.confirmed) for r in play.requests()] == [(Kind.CONFIRM, [1])]
    assert play.session.open_count == 0


def test_after_a_crash_everything_below_the_next_number_that_is_not_open_is_settled() -> None:
    play = Play()
    play.session.resume_origin(HERE, 0, 9, [2, 5])
    leave(play, "again", 5)

    assert [r.confirmed for r in play.requests()] == [[1, 3, 4, 6, 8]]


def test_what_was_settled_before_a_crash_is_told_even_if_no_call_follows() -> None:
    play = Play()
    play.session.resume_origin(HERE, 0, 4, [])

    play.wait(1_000)

    assert [r.confirmed for r in play.requests()] == [[3]]


def test_a_call_of_an_earlier_life_can_be_confirmed_without_being_sent_again() -> None:
    play = Play()
    play.session.resume_origin(HERE, 0, 4, [2])

    play.session.confirm(id(2))
    play.wait(1_000)

    assert [r.confirmed for r in play.requests()] == [[3]]


# Until it is delivered.

PASSING = (
    Code.BACKPRESSURE,
    Code.DRAINING,
    Code.NO_OWNER,
    Code.NOT_OWNER,
    Code.OUT_OF_ORDER,
    Code.OWNER_LOST,
    Code.DISK_FULL,
    Code.SESSION_EXPIRED,
)


@pytest.mark.parametrize("code", PASSING)
def test_a_call_without_a_deadline_outlasts_whatever_passes(code) -> None:
    play = Play()
    number = send(play, "a", 1)

    for _ in range(20):
        play.answer(number, code, 0)
        play.wait(HOUR_MS)
        (frame,) = play.frames()
        assert unpack_request(frame.body).sequence == 1
        number = frame.number
    play.answer(number)

    assert play.ended() == [("a", Code.OK)]


def test_a_call_with_a_deadline_ends_when_its_target_has_no_room() -> None:
    play = Play()

    play.answer(send(play, "a", 1, time_ms=1_000), Code.BACKPRESSURE, "Cart[u1]", 1.0)

    assert play.ended() == [("a", Code.BACKPRESSURE)]


def test_a_call_that_could_not_be_sent_in_time_did_not_run() -> None:
    play = Play(connected=False)
    leave(play, "a", 1, time_ms=100)

    play.wait(200)

    assert [code for _, code in play.ended()] == [Code.DEADLINE_EXCEEDED]
    play.session.opened("c", 1)
    assert play.sent() == []


def test_whether_a_call_began_in_time_is_for_its_target_to_say() -> None:
    play = Play()
    send(play, "a", 1, time_ms=100)
    play.wait(200)
    assert play.ended() == []

    play.reconnect()
    (again,) = play.frames()
    assert again.time_left_ms == TIME_LEFT_MAX_MS
    # A router says so. It does not know what has become of the call.
    play.answer(again.number, Code.DEADLINE_EXCEEDED, "no answer came in time")
    assert play.ended() == []
    play.wait(1_000)
    (again,) = play.frames()
    play.answer(again.number, Code.NOT_STARTED, "Cart[u1]", "calls before it")

    assert play.ended() == [("a", Code.NOT_STARTED)]


def test_a_call_of_an_earlier_life_may_have_been_sent_by_it() -> None:
    play = Play(connected=False)
    play.session.resume_origin(HERE, 0, 2, [1])
    leave(play, "a", 1, time_ms=100)
    play.wait(200)
    assert play.ended() == []

    play.session.opened("c", 1)
    (frame,) = play.frames()
    play.answer(frame.number, Code.BACKPRESSURE, "Cart[u1]", 1.0)
    assert play.ended() == []
    play.wait(10)
    (frame,) = play.frames()
    play.answer(frame.number)

    assert play.ended() == [("a", Code.OK)]


def test_a_refusal_for_good_is_believed_of_a_call_that_was_lost_too() -> None:
    """Else a call to what is not there would be sent again for ever."""
    play = Play()
    send(play, "a", 1)
    play.reconnect()
    (frame,) = play.frames()

    play.answer(frame.number, Code.OBJECT_NOT_FOUND, "Cart", "u1")

    assert play.ended() == [("a", Code.OBJECT_NOT_FOUND)]


# Bounds, and ends.


def test_outcomes_that_are_not_confirmed_count_as_calls_on_their_way() -> None:
    play = Play(SessionLimits(sent_calls_max=2))
    for sequence in range(1, 5):
        leave(play, f"{sequence}", sequence, time_ms=30_000)
    first, second = play.frames()
    play.answer(first.number)
    play.answer(second.number)
    assert play.frames() == []

    play.session.confirm(id(2))

    assert play.sent() == ["3"]


def test_calls_of_partitions_are_not_refused_for_the_number_of_the_clients_own() -> None:
    play = Play(SessionLimits(open_calls_max=1))
    play.call("own")

    leave(play, "a", 1)

    assert sorted(play.sent()) == ["a", "own"]


def test_a_partition_that_moved_away_sends_nothing_and_settles_nothing() -> None:
    play = Play(SessionLimits(sent_calls_max=1))
    number = send(play, "a", 1)
    leave(play, "b", 2)
    play.call("elsewhere", origin=id(1, THERE))
    play.frames()

    play.session.leave_origin(HERE)

    assert play.ended() == [("a", Code.OWNER_LOST), ("b", Code.OWNER_LOST)]
    play.answer(number)
    play.reconnect()
    assert play.sent() == ["elsewhere"]
    play.session.resume_origin(HERE, 0, 3, [1, 2])
    leave(play, "a again", 1)
    assert [(r.sequence, r.confirmed) for r in play.requests()] == [(1, [0])]


def test_calls_that_are_confirmed_leave_nothing_behind() -> None:
    play = Play()
    for sequence in range(1, 3_001):
        play.answer(send(play, "a", sequence))
        play.session.confirm(id(sequence))
    play.wait(1_000)
    play.frames()

    lane = play.session.origins.lane(id(1))
    assert lane is not None
    assert not (lane.unsettled or lane.tails or lane.open or lane.queue or lane.kept)
    assert lane.window.settled.spans == [3_000]
    assert play.session.open_count == 0
    assert play.session.next_ms is None


def test_another_cluster_at_the_address_gets_no_calls_of_partitions() -> None:
    play = Play(SessionLimits(sent_calls_max=1))
    send(play, "sent", 1)
    leave(play, "waiting", 2)
    play.session.lost("broken")

    play.session.opened("another", 1)

    assert play.ended() == [("sent", Code.OWNER_LOST), ("waiting", Code.NO_OWNER)]
    assert play.sent() == []


def test_all_but_some_numbers_are_settled_as_if_they_had_been_one_by_one() -> None:
    for last in range(7):
        for mask in range(1 << 7):
            but = [n for n in range(1, 8) if mask >> n - 1 & 1]
            one_by_one = Settled()
            for number in range(1, last + 1):
                if number not in but:
                    one_by_one.add(number)

            settled = Settled.up_to(last, but)

            assert settled.spans == one_by_one.spans
            inside = [n for n in range(10) if n in settled]
            assert inside == [0] + [n for n in range(1, last + 1) if n not in but]
