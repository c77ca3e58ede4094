"""`perdure check`: a check that does not see is worse than none."""

from __future__ import annotations

from planted.bug import Bug

__all__ = ["BUGS"]

SDK = "sdk/perdure"
CHECKER = "tests/sdk/test_linearizability.py"

BUGS = [
    Bug(
        "check-looks",
        "A check takes what changes nothing now for what only looks, and finds no order.",
        f"{SDK}/check/linearizability.py",
        "if self._looks[index] and self._model.apply(state, operations[index]) == state:",
        "if self._model.apply(state, operations[index]) == state:",
        [f"{CHECKER}::test_long_histories_of_correct_objects_are_accepted"],
    ),
    Bug(
        "check-undecided",
        "A check that has given up says that all is well.",
        f"{SDK}/check/linearizability.py",
        "return Decision.UNDECIDED",
        "return Decision.LINEARIZABLE",
        [f"{CHECKER}::test_a_search_that_is_given_up_is_undecided_and_never_passes"],
    ),
    Bug(
        "check-nothing",
        "A check passes a run that has shown nothing.",
        f"{SDK}/check/verdict.py",
        "if self.shows_nothing or self.undecided:",
        "if False:",
        [
            "tests/sdk/test_check_verdict.py::test_a_run_without_calls_is_no_success",
            "tests/sdk/test_check_verdict.py"
            "::test_a_run_whose_calls_nearly_all_failed_is_no_success",
        ],
    ),
]
