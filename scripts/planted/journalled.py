"""Calls with a journal: what a second run is told, and what is durable before anything leaves."""

from __future__ import annotations

from planted.bug import Bug

__all__ = ["BUGS"]

NODE = "node/perdure_node"
CORE = "node/perdure_node/core"
JOURNALLED = "tests/node/test_journalled.py"
SECOND = "tests/node/test_second_runs.py"
ORDERED = "tests/node/test_results_of_steps.py"
AT_ONCE = "tests/node/test_steps_told_at_once.py"
PARKED = "tests/node/test_parked_calls.py"
RETRIES = "tests/node/test_retries.py"

BUGS = [
    Bug(
        "M13",
        "What a method does when it has heard the result of a step is recorded without that.",
        f"{NODE}/steps.py",
        "        self._values.append(event)\n",
        "        self._loop.call_later(1.0, self._values.append, event)\n",
        [f"{ORDERED}::test_what_a_step_has_given_is_in_the_journal_before_anything_that_saw_it"],
    ),
    Bug(
        "M13-durable",
        "What has seen the result of a step leaves before that result is durable.",
        f"{CORE}/journalled.py",
        "        self._gate.let_out(perform, self._recorder.record)",
        "        first = call.progress is not None and len(call.progress.events) == 1\n"
        "            self._gate.let_out(perform, self._recorder.record if first else 0)",
        [f"{ORDERED}::test_nothing_that_saw_the_result_of_a_step_leaves_before_that_is_durable"],
    ),
    Bug(
        "M15",
        "A second run that asks for other steps gets the results of the first one's.",
        f"{CORE}/replay.py",
        "if recorded is not None and (recorded.kind, recorded.name) != (kind, name):",
        "if False:",
        [
            f"{JOURNALLED}::test_other_steps_than_those_in_the_journal_park_the_call",
            f"{SECOND}::test_another_step_than_in_the_journal_parks_the_call",
        ],
    ),
    Bug(
        "M15-fewer",
        "A second run that returns before it has asked for all of its journal is over.",
        f"{NODE}/steps.py",
        "        if (left := self._replay.left()) is not None:",
        "        if (left := None) is not None:",
        [f"{SECOND}::test_another_step_than_in_the_journal_parks_the_call"],
    ),
    Bug(
        "done-again",
        "A second run makes a finished step once more.",
        f"{NODE}/steps.py",
        "if step not in self._in_flight and not self._replay.is_done(step):",
        "if step not in self._in_flight:",
        [f"{JOURNALLED}::test_a_finished_step_is_answered_from_the_journal_after_a_crash"],
    ),
    Bug(
        "results-at-once",
        "A method hears all results that are there at once.",
        f"{NODE}/steps.py",
        "        self._turn.rounds.after(self._go_on)\n",
        "        self._go_on()\n",
        [
            f"{JOURNALLED}::test_a_race_has_the_same_winner_in_every_run",
            f"{SECOND}::test_steps_of_one_name_in_several_tasks_keep_their_results_in_a_second_run",
        ],
    ),
    Bug(
        "save-again",
        "A second run makes the saves of the first one again.",
        f"{CORE}/replay.py",
        "return self._saved > self._saves",
        "return True",
        [
            f"{JOURNALLED}::test_a_second_run_that_waits_after_its_first_save_does_not_undo_the_next_one"
        ],
    ),
    Bug(
        "start-image",
        "A second run begins on what the first one has saved.",
        f"{NODE}/awakening.py",
        "object_type, state.key, began.start_version, began.start_image",
        "object_type, state.key, began.start_version, state.image or {}",
        [f"{JOURNALLED}::test_saves_and_service_calls_are_skipped_by_a_second_run"],
    ),
    Bug(
        "sequence-again",
        "The number of a nested call is given a second time after a crash.",
        f"{CORE}/underway.py",
        "        if sequence > self.sequences.get(partition, 0):\n",
        "        if False:\n",
        [f"{ORDERED}::test_a_nested_call_after_a_crash_is_another_one_than_that_before_it"],
    ),
    Bug(
        "confirmed-early",
        "The target of a nested call may forget its outcome before the caller has it on disk.",
        f"{NODE}/steps.py",
        "            turn.partition.hold_all(token)\n",
        "            token()\n",
        [f"{ORDERED}::test_a_target_is_told_to_forget_an_outcome_when_the_caller_has_it_on_disk"],
    ),
    Bug(
        "task-unseen",
        "A method hears a result at once although a task of its own has not done its part.",
        f"{NODE}/steps.py",
        "        if not turn.is_alone and not turn.over:\n",
        "        if False:\n",
        [
            f"{AT_ONCE}"
            "::test_a_method_that_has_made_a_task_hears_nothing_before_that_has_done_its_part"
        ],
    ),
    Bug(
        "heard-twice",
        "A result that was heard before it was in the journal is told again.",
        f"{CORE}/replay.py",
        "                if event is self._ahead:\n",
        "                if False:\n",
        [f"{AT_ONCE}::test_what_was_heard_ahead_is_not_told_again"],
    ),
    Bug(
        "heard-only",
        "A result after which the method waits for something else is in no record.",
        f"{NODE}/steps.py",
        "            turn.rounds.after(self._go_on)\n        self.record()\n",
        "            turn.rounds.after(self._go_on)\n",
        [
            f"{AT_ONCE}::test_a_result_after_which_the_method_waits_for_something_else"
            "_is_recorded_by_itself"
        ],
    ),
    Bug(
        "left-open",
        "A nested call that nobody awaits ends with its method.",
        f"{NODE}/steps.py",
        "        return [*[effect for _, effect in pending], *unasked], calls",
        "        return [*[effect for _, effect in pending], *unasked], []",
        [
            f"{JOURNALLED}"
            "::test_a_nested_call_left_open_whose_target_was_busy_is_delivered_after_a_crash"
        ],
    ),
    Bug(
        "parked-free",
        "A call that cannot go on, and has done something, lets its object go.",
        f"{CORE}/journalled.py",
        "        if call.progress is None or not any(\n"
        "            isinstance(event, Done | Saved) for event in call.progress.events\n"
        "        ):\n",
        "        if True:\n",
        [
            f"{JOURNALLED}::test_other_steps_than_those_in_the_journal_park_the_call",
            f"{PARKED}::test_its_caller_hears_why_and_the_others_who_holds_the_object",
        ],
    ),
    Bug(
        "retry-count",
        "The attempts before a crash are not counted.",
        f"{NODE}/retries.py",
        "            call.retries = sum(isinstance(event, Retried)"
        " for event in call.progress.events)\n",
        "            pass\n",
        [f"{RETRIES}::test_attempts_are_counted_over_a_crash"],
    ),
    Bug(
        "retry-steps",
        "A method that is run again gets the error of its failed step again.",
        f"{CORE}/replay.py",
        "        return sorted(failed)",
        "        return []",
        [f"{RETRIES}::test_finished_steps_are_kept_and_failed_ones_made_again"],
    ),
    Bug(
        "retry-flight",
        "A method that is run again begins steps again that still run.",
        f"{NODE}/steps.py",
        "        self._in_flight |= {step for step in self._waiting",
        "        self._in_flight -= {step for step in self._waiting",
        [f"{RETRIES}::test_a_step_that_still_runs_is_not_begun_again"],
    ),
]
