"""What a client sends, sends again and believes, rule by rule."""

from __future__ import annotations

import pytest

from perdure.errors import KINDS, Code, error_from_wire
from perdure.frames import (
    TIME_LEFT_MAX_MS,
    AnswerFrame,
    CallFrame,
    Kind,
    Request,
    pack_error,
    pack_reply,
    unpack_error,
    unpack_reply,
    unpack_request,
)
from perdure.ids import ObjectKey
from perdure.open_call import OpenCall
from perdure.session import Session, SessionLimits

HOUR_MS = 3_600_000
CART = ObjectKey("Cart", "u1")
OTHER = ObjectKey("Cart", "u2")


class Play:
    """A session on one partition, connected, at a time of its own."""

    def __init__(self, limits: SessionLimits | None = None, *, connected: bool = True) -> None:
        self.now_ms = 1_000
        self.wall_ms = 100 * HOUR_MS
        self.session: Session[str] = Session(lambda count: b"r" * count, limits)
        if connected:
            self.session.opened("c", 1)

    def call(self, token: str, target: ObjectKey = CART, *, kind: Kind = Kind.CALL, **more) -> None:
        time_ms = more.pop("time_ms", 30_000)
        deadline_ms = None if time_ms is None else self.now_ms + time_ms
        self.session.call(
            OpenCall(token, kind, target, token, deadline_ms=deadline_ms, partition=0, **more)
        )

    def frames(self) -> list[CallFrame]:
        return self.session.take_frames(self.now_ms, self.wall_ms)

    def requests(self) -> list[Request]:
        return [unpack_request(frame.body) for frame in self.frames()]

    def sent(self) -> list[str]:
        return [request.method for request in self.requests()]

    def send(self, token: str, target: ObjectKey = CART, **more) -> int:
        """Make a call, send it alone, and return the number of its frame."""
        self.call(token, target, **more)
        (frame,) = self.frames()
        return frame.number

    def answer(self, number: int, code: Code = Code.OK, *args: object) -> None:
        payload = b"result" if code == Code.OK else pack_error(code, args)[1]
        self.session.answered([AnswerFrame(number, code, pack_reply(payload))], self.now_ms)

    def wait(self, time_ms: int) -> None:
        self.now_ms += time_ms
        self.wall_ms += time_ms
        self.session.tick(self.now_ms)

    def reconnect(self) -> None:
        self.session.lost("broken")
        self.session.opened("c", 1)

    def ended(self) -> list[tuple[str, Code]]:
        return [(end.token, Code(end.code)) for end in self.session.take_ended()]


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
    before = play.requests()

    play.reconnect()

    assert play.requests() == before


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


# Believing refusals.

REFUSALS = [
    Code.MALFORMED,
    Code.UNKNOWN_TYPE,
    Code.UNKNOWN_METHOD,
    Code.BAD_ARGUMENTS,
    Code.BACKPRESSURE,
    Code.DISK_FULL,
    Code.OBJECT_NOT_FOUND,
    Code.SUPERSEDED,
]


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_of_the_only_copy_is_told_at_once(code: Code) -> None:
    play = Play()

    play.answer(play.send("a"), code)

    assert play.ended() == [("a", code)]


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_is_not_believed_while_an_older_copy_may_still_arrive(code: Code) -> None:
    play = Play()
    play.send("a")
    play.reconnect()
    (again,) = play.frames()

    play.answer(again.number, code)

    assert play.ended() == []
    play.wait(1_000)
    assert play.sent() == ["a"], "it is sent again"
    play.wait(30_000)
    assert play.ended() == [("a", Code.DEADLINE_EXCEEDED)]


OUTCOMES = {
    Code.OK,
    Code.RAISED,
    Code.RESULT_TOO_LARGE,
    Code.STATE_TOO_LARGE,
    Code.STATE_NOT_STORABLE,
    Code.RESULT_NOT_STORABLE,
    Code.KEY_REUSED,
    Code.CALL_CYCLE,
    Code.CALL_DEPTH,
}
"""The same for every copy of a call."""


@pytest.mark.parametrize("code", list(Code), ids=lambda code: code.name)
def test_with_an_older_copy_open_nothing_but_an_outcome_is_told_before_the_deadline(
    code: Code,
) -> None:
    play = Play()
    play.send("a")
    play.reconnect()
    (again,) = play.frames()

    play.answer(again.number, code)

    # That the outcome is not known is no more than the deadline would tell.
    unknown = code != Code.OWNER_LOST and code in KINDS and KINDS[code].applied == "unknown"
    assert play.ended() == ([("a", code)] if code in OUTCOMES or unknown else [])


@pytest.mark.parametrize("code", [Code.NOT_OWNER, Code.NO_OWNER, Code.DRAINING, Code.OWNER_LOST])
def test_an_owner_that_is_away_is_hidden_and_the_call_sent_again_under_its_id(code: Code) -> None:
    play = Play()
    number = play.send("a")

    play.answer(number, code, 0)
    assert play.frames() == []
    play.wait(10)

    assert [(r.method, r.sequence) for r in play.requests()] == [("a", 1)]
    assert play.ended() == []


def test_waits_between_copies_grow_but_stay_short() -> None:
    play = Play()
    play.call("a", time_ms=None)
    waits = []
    for _ in range(10):
        (frame,) = play.frames()
        play.answer(frame.number, Code.NO_OWNER, 0)
        due_ms = play.session.next_ms
        assert due_ms is not None
        waits.append(due_ms - play.now_ms)
        play.wait(waits[-1])

    assert waits == [10, 20, 40, 80, 160, 250, 250, 250, 250, 250]


def test_a_call_that_came_before_its_predecessor_is_sent_again_at_once_behind_it() -> None:
    play = Play()
    first, second = play.send("a"), play.send("b")
    play.answer(first, Code.NO_OWNER, 0)

    play.answer(second, Code.OUT_OF_ORDER)

    assert play.sent() == ["a", "b"]


def test_a_new_call_waits_with_the_one_before_it() -> None:
    play = Play()
    play.answer(play.send("a"), Code.DRAINING, "n1")
    play.call("b")
    assert play.sent() == []

    play.wait(10)

    assert play.sent() == ["a", "b"]


def test_a_copy_on_the_present_stream_is_waited_for_before_a_refusal_counts() -> None:
    play = Play()
    first = play.send("a")
    play.answer(first, Code.NO_OWNER, 0)
    play.wait(10)
    (second,) = play.frames()

    play.answer(second.number, Code.BACKPRESSURE, "Cart[u1]", 0.1)

    assert play.ended() == [("a", Code.BACKPRESSURE)]


# Deadlines.


def test_at_its_deadline_a_call_that_may_have_run_says_so() -> None:
    play = Play()
    play.send("pay", time_ms=100)

    play.wait(120)

    (end,) = play.session.take_ended()
    error = error_from_wire(end.code, unpack_error(unpack_reply(end.body).payload))
    assert end.code == Code.DEADLINE_EXCEEDED
    assert str(error) == "Cart[u1].pay: no answer in time; it may have run, or may yet run"


def test_at_its_deadline_a_call_whose_copies_were_all_refused_says_that_it_did_not_run() -> None:
    play = Play()
    play.answer(play.send("a", time_ms=100), Code.DRAINING, "n1")

    play.session.lost("broken")
    play.wait(200)

    assert play.ended() == [("a", Code.DRAINING)]


def test_at_its_deadline_a_call_that_was_never_sent_says_that_nobody_was_there() -> None:
    play = Play()
    play.session.lost("broken")
    play.call("a", time_ms=100)

    play.wait(200)

    assert play.ended() == [("a", Code.NO_OWNER)]


def test_without_any_connection_the_deadline_tells_why() -> None:
    play = Play(connected=False)
    play.session.lost("no connection to there:1: refused")
    play.call("a", time_ms=100)

    play.wait(200)

    (end,) = play.session.take_ended()
    (text,) = unpack_error(unpack_reply(end.body).payload)
    assert text == "Cart[u1].a: not sent in time: no connection to there:1: refused"


def test_a_late_answer_to_a_call_that_was_given_up_changes_nothing() -> None:
    play = Play()
    number = play.send("a", time_ms=100)
    play.wait(200)
    play.ended()

    play.answer(number)

    assert play.ended() == []


def test_a_frame_says_how_much_time_is_left_when_it_is_sent() -> None:
    play = Play()
    play.call("a", time_ms=1_000)
    play.call("for ever", time_ms=None)
    play.now_ms += 400

    assert [frame.time_left_ms for frame in play.frames()] == [600, TIME_LEFT_MAX_MS]


def test_a_call_without_a_deadline_goes_on_when_a_server_says_its_time_is_over() -> None:
    play = Play()
    number = play.send("a", time_ms=None)

    play.answer(number, Code.DEADLINE_EXCEEDED, "over")
    play.wait(10)

    assert play.sent() == ["a"]


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
    assert not (session._sent or session._tails or session._retries or session._listed)
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
