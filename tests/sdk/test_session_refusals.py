"""What a client believes of answers that say no, and what it tells at a deadline."""

from __future__ import annotations

import pytest
from harness.play_session import Play

from perdure.bodies import unpack_error, unpack_reply
from perdure.errors import KINDS, Code, error_from_wire
from perdure.frames import TIME_LEFT_MAX_MS

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
    Code.NOT_STARTED,
    Code.HOOK_NOT_FOUND,
    Code.HOOK_CONFLICT,
    Code.RUN_EXISTS,
    Code.RUN_NOT_FOUND,
    Code.BAD_HOOK_PAYLOAD,
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

    [(_, code, body)] = play.session.take_ended()
    error = error_from_wire(code, unpack_error(unpack_reply(body).payload))
    assert code == Code.DEADLINE_EXCEEDED
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

    [(_, _, body)] = play.session.take_ended()
    (text,) = unpack_error(unpack_reply(body).payload)
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
