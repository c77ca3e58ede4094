"""More calls than are answered: those that would wait in vain are refused when they are made."""

from __future__ import annotations

import pytest
from harness.play_session import OTHER, Play

from perdure.errors import Code
from perdure.frames import Kind
from perdure.session import SessionLimits

LATE_MS = 6_000
"""A fifth of the time that calls have here."""


@pytest.fixture
def play() -> Play:
    """Give a client with one call on its way, and one that waits behind it."""
    play = Play(SessionLimits(sent_calls_max=1))
    play.send("sent", time_ms=None)
    play.call("first", time_ms=None)
    assert play.frames() == []
    return play


def test_a_call_is_refused_at_once_where_others_wait_for_long(play: Play) -> None:
    play.wait(LATE_MS)
    play.call("patient", OTHER)
    assert play.sent() == []
    assert play.ended() == [], "not yet too long"

    play.wait(1)
    play.call("late", OTHER)
    assert play.sent() == []
    assert play.ended() == [("late", Code.BACKPRESSURE)]
    assert play.session.open_count == 3


def test_how_long_is_too_long_depends_on_how_much_time_a_call_has(play: Play) -> None:
    play.wait(LATE_MS + 1)
    play.call("hurried", time_ms=1_000)
    play.call("slow", time_ms=60_000)
    play.call("patient", time_ms=None)
    play.frames()

    assert play.ended() == [("hurried", Code.BACKPRESSURE)]


def test_many_calls_that_are_made_at_once_all_wait(play: Play) -> None:
    for number in range(1_000):
        play.call(f"c{number}")
    play.frames()
    play.wait(20_000)

    assert play.ended() == []


def test_calls_are_taken_again_once_the_first_has_not_waited_for_long(play: Play) -> None:
    play.wait(LATE_MS)
    play.call("next")
    play.frames()
    play.wait(1)
    play.call("late")
    play.frames()
    assert play.ended() == [("late", Code.BACKPRESSURE)]

    play.answer(1)
    assert play.sent() == ["first"]
    play.call("again")

    assert play.sent() == []
    assert play.ended() == [("sent", Code.OK)]


def test_what_ends_calls_and_asks_about_them_is_never_refused(play: Play) -> None:
    play.wait(LATE_MS + 1)
    play.call("cancel", kind=Kind.CANCEL)
    play.call("status", kind=Kind.ASK)

    assert play.sent() == ["cancel", "status"]


def test_a_call_whose_place_comes_after_its_deadline_says_that_there_was_no_room(
    play: Play,
) -> None:
    play.call("hurried", OTHER, time_ms=100)
    assert play.sent() == []

    play.now_ms += 105
    play.answer(1)
    assert play.sent() == ["first"]
    play.answer(2)

    assert play.sent() == []
    assert play.ended() == [
        ("sent", Code.OK),
        ("first", Code.OK),
        ("hurried", Code.BACKPRESSURE),
    ]


def test_a_call_that_waits_with_one_that_finds_no_owner_found_none_either() -> None:
    play = Play()
    play.answer(play.send("first", time_ms=None), Code.NO_OWNER, 0)
    play.call("behind it", time_ms=5)
    assert play.sent() == []

    # As long as the first one waits before it is sent again.
    play.now_ms += 8
    play.session.tick(play.now_ms + 16)

    assert play.ended() == [("behind it", Code.NO_OWNER)]


def test_the_time_without_a_connection_does_not_count(play: Play) -> None:
    play.session.lost("broken")
    play.wait(LATE_MS + 1)
    play.call("meanwhile")
    play.session.opened("c", 1)
    play.call("afterwards")

    assert play.sent() == ["sent"]
    assert play.ended() == []
