"""Small messages do not run far ahead of their reader."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.spacing import REST_S, SMALL_BYTES, WAITING_MAX, Spacing


def spacing_with(*numbers: int, at_s: float = 100.0) -> Spacing:
    """Return one whose messages, sent at once, have these first numbers."""
    spacing = Spacing()
    for number in numbers:
        spacing.sent(number, 50, at_s)
    return spacing


def test_two_messages_leave_and_the_third_waits() -> None:
    assert spacing_with().rest_s(1, 100.0) == 0
    assert spacing_with(1).rest_s(1, 100.0) == 0
    assert spacing_with(1, 2).rest_s(1, 100.0) == pytest.approx(REST_S)


def test_an_answer_to_the_first_lets_the_third_leave() -> None:
    spacing = spacing_with(1, 5)

    spacing.answered(3)

    assert spacing.rest_s(1, 100.0) == 0


def test_an_answer_says_that_all_messages_before_it_have_been_read() -> None:
    spacing = spacing_with(1, 5)
    spacing.answered(5)

    spacing.sent(9, 50, 100.0)

    assert spacing.rest_s(1, 100.0) == 0


def test_an_answer_to_an_old_call_says_nothing_of_later_messages() -> None:
    spacing = spacing_with(5, 9)

    spacing.answered(4)

    assert spacing.rest_s(1, 100.0) == pytest.approx(REST_S)


def test_nothing_waits_for_longer_than_5_ms_for_calls_that_are_not_answered() -> None:
    spacing = spacing_with(1, 2)

    assert 0 < spacing.rest_s(1, 100.0 + REST_S * 0.99) < REST_S * 0.02
    assert spacing.rest_s(1, 100.0 + REST_S * 1.01) == 0


def test_the_wait_counts_from_when_the_first_of_the_two_was_sent() -> None:
    spacing = spacing_with(1)
    spacing.sent(2, 50, 100.004)

    assert abs(spacing.rest_s(1, 100.004) - 0.001) < 1e-9
    assert spacing.rest_s(1, 100.006) == 0


def test_many_frames_do_not_wait_for_more() -> None:
    spacing = spacing_with(1, 2)

    assert spacing.rest_s(WAITING_MAX - 1, 100.0) > 0
    assert spacing.rest_s(WAITING_MAX, 100.0) == 0


def test_large_messages_and_those_that_nobody_answers_do_not_count() -> None:
    spacing = spacing_with(0, 0)
    spacing.sent(1, SMALL_BYTES, 100.0)
    spacing.sent(2, 10 * SMALL_BYTES, 100.0)
    spacing.sent(3, 50, 100.0)

    assert spacing.rest_s(1, 100.0) == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=300))
def test_of_any_stream_a_message_leaves_at_least_every_5_ms_and_few_at_once(
    steps: list[tuple[int, int]],
) -> None:
    """Frames come at every step. How many ms go by, and how many calls are answered, is drawn."""
    spacing, now_s, waiting = Spacing(), 50.0, 0
    sent = answered = 0
    since_s: float | None = None
    unanswered: list[tuple[int, float]] = []
    for ms, answers in steps:
        now_s += ms / 1_000
        if answers and answered < sent:
            answered = min(sent, answered + answers)
            spacing.answered(answered)
            unanswered = [each for each in unanswered if each[0] > answered]
        waiting += 1
        since_s = now_s if since_s is None else since_s
        rest_s = spacing.rest_s(waiting, now_s)
        lately = [at_s for _, at_s in unanswered if now_s - at_s < REST_S - 1e-9]
        if rest_s == 0:
            assert len(lately) < 2 or waiting >= WAITING_MAX
            spacing.sent(sent + 1, 50, now_s)
            unanswered.append((sent + 1, now_s))
            sent += waiting
            waiting, since_s = 0, None
        else:
            assert len(lately) == 2
            assert now_s + rest_s - since_s <= REST_S + 1e-9
