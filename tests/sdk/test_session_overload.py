"""More calls than are answered: those that would wait in vain are refused when they are made."""

from __future__ import annotations

import pytest
from harness.play_session import OTHER, Play

from perdure.errors import Code
from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure.session import SessionLimits

LATE_MS = 3_000
"""A tenth of the time that calls have here: so long one may wait."""


@pytest.fixture
def play() -> Play:
    """Give a client with one call on its way, and one that waits behind it."""
    play = Play(SessionLimits(sent_calls_max=1))
    play.send("sent", time_ms=None)
    play.call("first", time_ms=None)
    assert play.frames() == []
    return play


def test_a_call_is_refused_at_once_where_it_would_wait_for_long(play: Play) -> None:
    # Two are before this one, and the one that is before the first takes that long already.
    play.wait(LATE_MS // 2)
    play.call("patient", OTHER)
    assert play.sent() == []
    assert play.ended() == [], "not yet too long"

    play.wait(1)
    play.call("late", OTHER)
    assert play.sent() == []
    assert play.ended() == [("late", Code.BACKPRESSURE)]
    assert play.session.open_count == 3


def test_no_call_waits_in_vain_however_much_more_is_asked_for_than_is_answered() -> None:
    """Five calls come in the time in which one is answered."""
    play = Play(SessionLimits(sent_calls_max=10))
    made_ms: dict[str, int] = {}
    waits_ms: list[int] = []
    refused = 0
    on_their_way: list[int] = []
    for number in range(10_000):
        made_ms[str(number)] = play.now_ms
        play.call(str(number), ObjectKey("Cart", str(number)))
        on_their_way += [frame.number for frame in play.frames()]
        if number % 5 == 4:
            play.answer(on_their_way.pop(0))
            on_their_way += [frame.number for frame in play.frames()]
        play.wait(10)
        for token, code in play.ended():
            assert code in {Code.OK, Code.BACKPRESSURE}, code
            waited_ms = play.now_ms - made_ms[token]
            if code == Code.OK:
                waits_ms.append(waited_ms)
            else:
                assert waited_ms <= 10, "at once"
                refused += 1

    assert len(waits_ms) == 2_000, "nobody was idle meanwhile"
    assert refused > 6_000
    assert max(waits_ms) < 2 * LATE_MS
    # Once it is on its way it waits for the ten before it, too.
    assert max(waits_ms[-1_500:]) < LATE_MS + 10 * 50 + 100


def test_calls_that_run_beside_one_another_and_for_long_are_no_reason_to_refuse_others() -> None:
    play = Play(SessionLimits(sent_calls_max=1_000))
    for number in range(1_200):
        play.call(f"slow{number}", ObjectKey("Cart", str(number)))
    assert len(play.frames()) == 1_000

    play.wait(LATE_MS // 2)
    play.call("next", OTHER)
    play.frames()

    assert play.ended() == []


def test_how_long_is_too_long_depends_on_how_much_time_a_call_has(play: Play) -> None:
    play.wait(LATE_MS + 1)
    play.call("hurried", time_ms=1_000)
    play.call("slow", time_ms=120_000)
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
    play.wait(LATE_MS // 2)
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
