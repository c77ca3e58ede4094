"""What a client sends and sends again, rule by rule."""

from __future__ import annotations

from harness.play_session import HOUR_MS, OTHER, Play

from perdure.bodies import unpack_request
from perdure.errors import Code
from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure.session import SessionLimits

# Numbers and order.


def test_sequences_count_the_calls_to_one_partition_without_gaps() -> None:
    play = Play()
    for token in "abc":
        play.call(token)

    assert [request.sequence for request in play.requests()] == [1, 2, 3]


def test_a_read_has_no_number_and_leaves_no_gap() -> None:
    play = Play()
    play.call("a")
    play.call("look", kind=Kind.GET)
    play.call("b")

    assert [request.sequence for request in play.requests()] == [1, 0, 2]


def test_a_call_names_the_latest_open_call_to_its_object() -> None:
    play = Play()
    play.call("a")
    play.call("x", OTHER)
    play.call("b")

    assert [request.previous for request in play.requests()] == [0, 0, 1]


def test_a_call_that_has_been_answered_is_not_named_any_more() -> None:
    play = Play()
    first = play.send("a")
    play.send("b")
    play.answer(first)
    play.reconnect()

    (again,) = play.requests()

    assert (again.method, again.previous) == ("b", 0)


def test_behind_a_call_that_was_given_up_an_earlier_open_one_is_named() -> None:
    play = Play()
    play.call("a", time_ms=None)
    play.call("b", time_ms=100)
    play.call("c", time_ms=None)
    play.frames()
    play.wait(200)
    play.reconnect()

    again = play.requests()

    assert [(r.method, r.previous) for r in again] == [("a", 0), ("c", 1)]


def test_calls_made_before_there_is_a_connection_keep_their_places() -> None:
    play = Play(connected=False)
    for token in "abc":
        play.call(token)
    assert play.sent() == []

    play.session.opened("c", 1)

    assert play.sent() == ["a", "b", "c"]


def test_after_a_reconnection_all_open_calls_are_sent_again_in_order_under_their_ids() -> None:
    play = Play()
    for token in "abc":
        play.call(token)
    before = [request.fields() for request in play.requests()]

    play.reconnect()

    assert [request.fields() for request in play.requests()] == before


# What is settled.


def test_every_frame_tells_all_that_is_settled() -> None:
    play = Play()
    first, second, third = play.send("a"), play.send("b"), play.send("c")
    play.answer(first)
    play.answer(third)
    play.call("d")
    play.reconnect()

    assert [r.confirmed for r in play.requests()] == [[1, 3, 3], [1, 3, 3]]
    assert second


def test_a_call_that_was_given_up_is_settled_in_every_later_frame() -> None:
    play = Play()
    play.send("a", time_ms=100)
    play.wait(200)
    play.ended()
    play.call("b")

    assert [(r.method, r.confirmed) for r in play.requests()] == [("b", [1])]


def test_an_idle_client_tells_after_a_while_what_it_has_got() -> None:
    play = Play()
    play.answer(play.send("a"))
    assert play.frames() == []

    play.wait(1_000)

    (frame,) = play.frames()
    request = unpack_request(frame.body)
    assert (frame.number, request.kind, request.confirmed) == (0, Kind.CONFIRM, [1])
    play.wait(10_000)
    assert play.frames() == []
    assert play.session.next_ms is None or play.session.next_ms > play.now_ms


def test_what_the_last_frames_told_is_told_again_after_a_broken_stream() -> None:
    play = Play()
    play.answer(play.send("a"))
    play.wait(1_000)
    play.frames()

    play.reconnect()
    play.wait(1_000)

    assert [request.confirmed for request in play.requests()] == [[1]]


def test_what_the_last_frames_told_is_told_again_when_frames_go_another_way() -> None:
    play = Play()
    play.answer(play.send("a"))
    play.wait(1_000)
    assert len(play.frames()) == 1

    play.session.opened("c", 1)
    play.wait(1_000)

    assert [request.confirmed for request in play.requests()] == [[1]]
    play.wait(10_000)
    assert play.frames() == []


def test_a_client_that_ends_tells_at_once_what_it_has_got() -> None:
    play = Play()
    play.answer(play.send("a"))

    play.session.confirm_all()

    assert [request.confirmed for request in play.requests()] == [[1]]


def test_a_call_waiting_behind_a_refused_one_is_freed_at_once() -> None:
    play = Play()
    first = play.send("a")
    play.send("b")

    play.answer(first, Code.UNKNOWN_METHOD, "Cart", "a", "")

    assert [(r.kind, r.confirmed) for r in play.requests()] == [(Kind.CONFIRM, [1])]


# Bounds.


def test_no_more_calls_are_sent_to_a_partition_than_its_owner_remembers() -> None:
    play = Play(SessionLimits(sent_calls_max=2))
    for token in "abcd":
        play.call(token)
    first, second = play.frames()
    assert play.frames() == []

    play.answer(second.number)

    assert play.sent() == ["c"]
    play.answer(first.number)
    assert play.sent() == ["d"]


def test_a_call_that_waited_behind_others_until_its_deadline_did_not_run() -> None:
    play = Play(SessionLimits(sent_calls_max=1))
    play.send("a", time_ms=None)
    play.call("b", time_ms=100)

    play.wait(200)

    assert play.ended() == [("b", Code.BACKPRESSURE)]


def test_a_client_with_too_many_open_calls_refuses_the_next() -> None:
    play = Play(SessionLimits(open_calls_max=1))
    play.call("a")

    play.call("b")

    assert play.ended() == [("b", Code.BACKPRESSURE)]


def test_a_call_that_is_too_large_is_refused_before_it_is_sent() -> None:
    play = Play()
    play.call("large", arguments=b"x" * (4 << 20))
    play.call("small")

    assert play.sent() == ["small"]
    assert play.ended() == [("large", Code.MESSAGE_TOO_LARGE)]


def test_calls_that_are_over_leave_nothing_behind() -> None:
    play = Play()
    for number in range(3_000):
        play.call(f"{number}", ObjectKey("Cart", f"u{number % 7}"))
        for frame in play.frames():
            play.answer(frame.number)
    play.wait(40_000)
    play.frames()
    play.wait(1_000)

    session = play.session
    assert session.open_count == 0
    assert not (session._sent or session._tails)
    assert session.next_ms is None


# Session ids.


def test_new_calls_get_a_new_session_id_after_an_hour() -> None:
    play = Play()
    play.answer(play.send("a"))
    play.wait(HOUR_MS)
    play.frames()
    play.call("b")

    (request,) = play.requests()

    assert request.sequence == 1
    assert int.from_bytes(request.session[:6]) == play.wall_ms


def test_open_calls_keep_their_session_id_and_younger_ones_to_their_object_wait() -> None:
    play = Play()
    old = play.send("old", time_ms=None)
    play.wait(HOUR_MS)
    play.frames()

    play.call("young")
    play.call("elsewhere", OTHER)

    assert play.sent() == ["elsewhere"]
    play.answer(old)
    (young,) = [r for r in play.requests() if r.kind == Kind.CALL]
    assert (young.method, young.sequence, young.previous) == ("young", 2, 0)


def test_no_copy_is_sent_a_day_after_the_birth_of_its_session_id() -> None:
    play = Play()
    play.send("a", time_ms=None)
    play.wait(24 * HOUR_MS)
    play.ended()

    play.reconnect()

    assert play.sent() == []
    assert play.ended() == [("a", Code.SESSION_EXPIRED)]


def test_a_computer_that_slept_for_days_begins_a_new_session_id() -> None:
    play = Play()
    play.answer(play.send("a"))
    play.wall_ms += 72 * HOUR_MS
    play.call("b")

    (request,) = play.requests()

    assert int.from_bytes(request.session[:6]) == play.wall_ms


def test_a_session_id_that_a_server_does_not_know_any_more_is_given_up() -> None:
    play = Play()
    number = play.send("a")
    play.wall_ms += 5

    play.answer(number, Code.SESSION_EXPIRED, "too old")
    play.call("b")

    assert play.ended() == [("a", Code.SESSION_EXPIRED)]
    assert [r.sequence for r in play.requests() if r.kind == Kind.CALL] == [1]


def test_another_cluster_at_the_address_gets_none_of_the_old_calls() -> None:
    play = Play(SessionLimits(sent_calls_max=1))
    play.send("sent")
    play.call("waiting")
    play.session.lost("broken")

    play.session.opened("another", 1)

    assert play.ended() == [("sent", Code.OWNER_LOST)]
    (request,) = play.requests()
    assert (request.method, request.sequence, request.confirmed) == ("waiting", 1, [0])
