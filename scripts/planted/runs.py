"""Runs of workflows: how they go, what a replay compares, how they are cancelled and listed."""

from __future__ import annotations

from planted.bug import Bug

__all__ = ["BUGS"]

CORE = "node/perdure_node/core"
EXPIRY = "tests/node/test_run_expiry.py"
ANSWERS = "tests/node/test_run_answers.py"
REPLAYS = "tests/workflows/test_nondeterminism.py"
RETENTION = "tests/workflows/test_retention.py"

BUGS = [
    Bug(
        "run-events-left",
        "The events of a run that goes stay in the store, for the next run of its id.",
        f"{CORE}/batch.py",
        "self._clear(rows.event_prefix(key), lambda n: rows.event_key(key, n), gone.events)",
        "pass",
        [
            f"{EXPIRY}::test_a_run_stays_until_its_time_is_over_and_leaves_nothing",
            f"{RETENTION}::test_a_run_that_has_ended_goes_with_all_that_it_had",
        ],
    ),
    Bug(
        "run-rows-in-batch",
        "What a run and a later one of its id have left in one batch is mixed up.",
        f"{CORE}/batch.py",
        "            self._others.pop(row_key, None)\n        self._deletes.append(gone.row)",
        "            pass\n        self._deletes.append(gone.row)",
        [f"{EXPIRY}::test_a_log_is_read_from_its_beginning_to_the_same_end"],
    ),
    Bug(
        "run-streams-read",
        "A run reads the streams of the one before of its id, which the store still has.",
        f"{CORE}/streams.py",
        "        self._gone[run] = record",
        "        del record",
        [f"{EXPIRY}::test_a_run_that_begins_later_has_nothing_of_the_one_before"],
    ),
    Bug(
        "run-gone-early",
        "A run goes because the store still says that the time of the one before it is over.",
        f"{CORE}/run_expiry.py",
        "        if rows.row_of_end(key.id, found.ended_ms, found.expires_ms) != row:",
        "        if not found.ended_ms:",
        [f"{EXPIRY}::test_a_run_that_takes_the_place_of_one_that_has_gone_stays_for_as_long_as_it"],
    ),
    Bug(
        "run-gone-unrecorded",
        "A run goes while word for its tokens is on its way, which may free a later claim.",
        f"{CORE}/run_expiry.py",
        "        if not told.isdisjoint(tokens):\n            return []\n",
        "",
        [f"{EXPIRY}::test_the_tokens_of_a_run_go_with_it_but_not_before_they_are_free"],
    ),
    Bug(
        "token-deleted",
        "The token of a run that goes is deleted although another run has claimed it.",
        f"{CORE}/starter.py",
        "state is not None and not _is_so(state, call.request)",
        "state is None",
        [f"{EXPIRY}::test_an_object_is_deleted_only_if_it_is_as_it_has_to_be"],
    ),
    Bug(
        "replay-arguments",
        "A replay gives a step that is asked for with other arguments the result of the first.",
        "node/perdure_node/runs/run_steps.py",
        "        if before != given:",
        "        if before != given and not name:",
        [
            f"{REPLAYS}::test_a_changed_program_does_nothing_and_a_mended_one_goes_on",
            f"{REPLAYS}::test_the_order_of_a_set_is_found_to_be_another_in_another_process",
        ],
    ),
    Bug(
        "parked-cancelled",
        "A parked run that is cancelled is told so, and stays.",
        f"{CORE}/run_questions.py",
        "Stop(run.call, reason, kill=True)",
        "Stop(run.call, reason, kill=False)",
        [
            "tests/workflows/test_cancel_parked.py::"
            "test_a_parked_run_that_is_cancelled_has_not_failed"
        ],
    ),
    Bug(
        "list-unbounded",
        "A list of runs looks at all there are before it answers.",
        f"{CORE}/run_questions.py",
        "_LOOKS: Final = 200",
        "_LOOKS: Final = 1 << 30",
        ["tests/node/test_run_lists.py::test_what_is_rare_is_found_in_many_short_answers"],
    ),
    Bug(
        "bad-news-early",
        "That a run has gone is told before that is durable.",
        f"{CORE}/run_questions.py",
        "self._gate.answer([copy], None, *not_found, self._recorder.last)",
        "self._gate.answer([copy], None, *not_found)",
        [
            f"{ANSWERS}::test_that_a_run_has_gone_is_told_once_no_crash_can_bring_it_back",
            f"{ANSWERS}::test_nothing_that_was_told_of_a_run_is_taken_back",
        ],
    ),
    Bug(
        "refusal-early",
        "Who resumes a run that has ended is refused before its end is durable.",
        f"{CORE}/runs.py",
        "end_unrun(call, *pack_error(*refusal), self._recorder.last)",
        "end_unrun(call, *pack_error(*refusal))",
        [f"{ANSWERS}::test_that_a_run_has_ended_is_told_to_its_callers_once_that_is_durable"],
    ),
]
