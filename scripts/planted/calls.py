"""Which copies of calls run, in which order, and what of them is recorded."""

from __future__ import annotations

from planted.bug import Bug

__all__ = ["BUGS"]

CORE = "node/perdure_node/core"
NODE = "node/perdure_node"
PARTITION = "tests/node/test_partition.py"
SESSIONS = "tests/node/test_partition_sessions.py"
RUNNING = "tests/node/test_node.py"

BUGS = [
    Bug(
        "M3",
        "An outcome comes one record after the change of which it tells.",
        f"{CORE}/recorder.py",
        "state_version, values, outcomes, None, (), effects)\n        )\n        return True",
        "state_version, values, [], None, (), effects)\n"
        "        )\n"
        "        self._marks += outcomes\n"
        "        return True",
        [f"{SESSIONS}::test_an_outcome_survives_applying_trimming_and_a_crash"],
    ),
    Bug(
        "M3-store",
        "A store gets the windows of sessions one batch after the objects.",
        f"{CORE}/memory.py",
        "        self.dirty_windows = waiting\n",
        "        late = getattr(self, 'late', [])\n"
        "        self.late, others = others, late\n"
        "        self.dirty_windows = waiting\n",
        [f"{SESSIONS}::test_an_outcome_survives_applying_trimming_and_a_crash"],
    ),
    Bug(
        "M4",
        "Whoever opens a partition next does not know which calls have run.",
        f"{CORE}/memory.py",
        "            row = self._store.get(rows.session_key(session))\n",
        "            row = None\n",
        [f"{SESSIONS}::test_an_outcome_survives_applying_trimming_and_a_crash"],
    ),
    Bug(
        "M16",
        "A mailbox has no bound.",
        f"{CORE}/admission.py",
        "if mailbox is not None and len(mailbox.waiting) >= limits.mailbox_calls_max:",
        "if False:",
        [f"{PARTITION}::test_a_full_mailbox_refuses_at_once_and_its_neighbour_goes_on"],
    ),
    Bug(
        "M16-partition",
        "The mailboxes of a partition together have no bound.",
        f"{CORE}/admission.py",
        "if self._mailboxes.waiting >= limits.waiting_calls_max:",
        "if False:",
        [f"{PARTITION}::test_a_full_partition_refuses_calls_to_all_its_objects"],
    ),
    Bug(
        "refused-first",
        "A refusal is decided before the call is looked up, and hides that it has run.",
        f"{CORE}/admission.py",
        "        if window is None:\n            refusal = refuse_session(",
        "        if self._owner.draining:\n"
        "            self._gate.refuse(copy, Refusal(Code.DRAINING, (self._server,)))\n"
        "            return\n"
        "        if window is None:\n"
        "            refusal = refuse_session(",
        [f"{SESSIONS}::test_a_draining_partition_finishes_what_it_has_and_still_answers_copies"],
    ),
    Bug(
        "settled-runs",
        "A copy of a call that its caller has given up runs.",
        f"{CORE}/admission.py",
        "        if sequence <= window.settled[0] or (\n"
        "            len(window.settled) > 1 and window.is_settled(sequence)\n"
        "        ):\n",
        "        if False:\n",
        [
            f"{SESSIONS}::test_a_confirmed_call_never_runs_again",
            f"{SESSIONS}::test_a_call_that_was_given_up_never_runs_after_the_one_behind_it",
        ],
    ),
    Bug(
        "order",
        "A call does not wait for the one before it.",
        f"{CORE}/admission.py",
        "if previous and previous not in window.open and previous not in window.ended:",
        "if False:",
        [f"{SESSIONS}::test_a_call_waits_for_the_one_before_it"],
    ),
    Bug(
        "in-progress",
        "A saved state is recorded without the call that is in progress.",
        f"{CORE}/recorder.py",
        "values, [], begun, events, effects))",
        "values, [], None, (), effects))\n        return",
        [
            f"{SESSIONS}::test_a_save_that_the_method_outlives_resumes_the_call_after_a_crash",
            f"{RUNNING}::test_a_saved_call_is_finished_after_a_crash_without_its_caller",
        ],
    ),
    Bug(
        "identity",
        "A container that is still the same object passes for unchanged.",
        f"{NODE}/activation.py",
        "            if type(value) in _IMMUTABLE:\n                seen[name] = value\n",
        "            if True:\n                seen[name] = value\n",
        [
            "tests/sdk/test_embedded_behaviour_state.py"
            "::test_what_changed_is_committed_at_the_end_of_every_method_save_or_not",
        ],
    ),
    Bug(
        "half-state",
        "An exception leaves its half-done changes in memory.",
        f"{NODE}/execution.py",
        "        assert call.state is not None\n"
        "        call.state.forget_instance()\n"
        "        error",
        "        assert call.state is not None\n        error",
        [
            f"{RUNNING}::test_an_exception_undoes_its_own_call_and_nothing_that_was_answered",
            "tests/node/test_retries.py::test_a_method_is_run_again_with_its_state_undone",
        ],
    ),
    Bug(
        "key",
        "Calls with one idempotency key run beside each other.",
        f"{CORE}/keys.py",
        "        self._open[name] = call\n        return True",
        "        return True",
        [f"{SESSIONS}::test_concurrent_calls_with_one_key_wait_for_the_first"],
    ),
]
