"""The checker of histories finds what it must find."""

from harness.history import History, Told


def history(*calls: tuple[tuple[int, int], Told]) -> History:
    made = History()
    for entry, told in calls:
        made.note("a", entry, told)
    return made


def test_a_history_whose_acknowledged_calls_are_all_there_once_has_no_problem() -> None:
    made = history(((1, 1), Told.DONE), ((2, 1), Told.DONE), ((1, 2), Told.DONE))

    assert made.problems({"a": [(2, 1), (1, 1), (1, 2)]}) == []


def test_an_acknowledged_call_that_is_missing_is_found() -> None:
    made = history(((1, 1), Told.DONE))

    assert made.problems({"a": []}) == ["a: (1, 1) was acknowledged and is lost"]


def test_a_call_that_ran_twice_is_found_even_when_nobody_was_told() -> None:
    made = history(((1, 1), Told.UNKNOWN))

    assert made.problems({"a": [(1, 1), (1, 1)]}) == ["a: (1, 1) has run 2 times"]


def test_a_call_of_unknown_outcome_may_be_there_or_not() -> None:
    made = history(((1, 1), Told.UNKNOWN))

    assert made.problems({"a": []}) == []
    assert made.problems({"a": [(1, 1)]}) == []


def test_a_refused_call_that_has_run_is_found() -> None:
    made = history(((1, 1), Told.REFUSED))

    assert made.problems({"a": [(1, 1)]}) == ["a: (1, 1) was refused and has run"]


def test_calls_of_one_caller_in_the_wrong_order_are_found() -> None:
    made = history(((1, 1), Told.DONE), ((1, 2), Told.DONE))

    assert made.problems({"a": [(1, 2), (1, 1)]}) == ["a: (1, 1) came after (1, 2)"]


def test_an_entry_that_nobody_asked_for_is_found() -> None:
    made = history(((1, 1), Told.DONE))

    assert made.problems({"a": [(1, 1), (7, 7)]}) == ["a: (7, 7) was never asked for"]
