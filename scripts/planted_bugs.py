"""The bugs that `plant_bugs.py` plants, and the tests that have to notice.

Those named M are the ones that every release has to catch, under the numbers they have always
had; the gaps are bugs of parts that are not there yet: leases, workflows. A bug that was
found for real gets a row too.
"""

from __future__ import annotations

from planted_agent_bugs import AGENT_BUGS
from planted_bug import Bug

__all__ = ["BUGS", "Bug"]

CORE = "node/perdure_node/core"
NODE = "node/perdure_node"
JOURNAL = "node/perdure_node/journal"
SDK = "sdk/perdure"

PARTITION = "tests/node/test_partition.py"
OBJECTS = "tests/node/test_partition_objects.py"
SESSIONS = "tests/node/test_partition_sessions.py"
STORE = "tests/node/test_store.py"
OWNERSHIP = "tests/node/test_ownership.py"
IDENTITY = "tests/node/test_identity.py"
RUNNING = "tests/node/test_node.py"
SLOW_DISK = "tests/node/test_node_disk.py"
FULL = "tests/node/test_full_disk.py"
DISK = "tests/node/test_journal_disk.py"
RECOVERY = "tests/node/test_journal_recovery.py"
CHECKER = "tests/sdk/test_linearizability.py"
BLAMES = "tests/node/test_blames.py"

BUGS = [
    Bug(
        "M1",
        "A group is told to be durable without having been synced.",
        f"{JOURNAL}/writer.py",
        "self._settings.sync(segment.descriptor)",
        "segment.descriptor",
        [f"{DISK}::test_nothing_is_told_before_the_sync_returns"],
    ),
    Bug(
        "M1-setting",
        "The journal's own sync does nothing unless a setting says otherwise.",
        f"{JOURNAL}/settings.py",
        "] = os.fdatasync",
        "] = os.fstat",
        [f"{DISK}::test_without_other_settings_the_sync_is_that_of_the_system"],
    ),
    Bug(
        "M2",
        "An answer leaves before the commit that it tells of is durable.",
        f"{CORE}/gate.py",
        "if record <= self._memory.durable:",
        "if True:",
        [
            f"{PARTITION}::test_no_answer_leaves_before_its_record_is_durable",
            f"{SLOW_DISK}::test_no_answer_and_no_nested_call_leaves_before_the_disk_has_it",
        ],
    ),
    Bug(
        "M2-nested",
        "A call made inside of a method leaves before what was saved is durable.",
        f"{CORE}/journalled.py",
        "        self._gate.let_out(perform, self._recorder.record)",
        "        self._gate.let_out(perform, 0)",
        [f"{SLOW_DISK}::test_no_answer_and_no_nested_call_leaves_before_the_disk_has_it"],
    ),
    Bug(
        "M2-exists",
        "Whether an object exists is told before its creation is durable.",
        f"{CORE}/reader.py",
        "self._gate.let_out(answer, self._memory.last_record_of(key))",
        "self._gate.let_out(answer, 0)",
        [f"{PARTITION}::test_whether_an_object_exists_is_told_when_its_creation_or_end_is_durable"],
    ),
    Bug(
        "M2-list",
        "A list is told before what it shows is durable.",
        f"{CORE}/reader.py",
        "self._gate.let_out(answer, self._recorder.last)",
        "self._gate.let_out(answer, 0)",
        [f"{PARTITION}::test_a_list_is_told_when_everything_in_it_is_durable"],
    ),
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
        "        self.dirty_windows = waiting\n"
        "        puts, deletes = self.timers.rows_for(applied)\n"
        "        return builder.build([*others, *puts], applied, deletes)",
        "        late = getattr(self, 'late', [])\n"
        "        self.late, self.dirty_windows = others, waiting\n"
        "        puts, deletes = self.timers.rows_for(applied)\n"
        "        return builder.build([*late, *puts], applied, deletes)",
        [f"{SESSIONS}::test_an_outcome_survives_applying_trimming_and_a_crash"],
    ),
    Bug(
        "M5",
        "A node answers reads and calls for partitions that are not its own.",
        f"{NODE}/hosts.py",
        "raise NotOwner(number, self.epoch)",
        "return next(iter(self))",
        [f"{OWNERSHIP}::test_a_node_refuses_calls_and_reads_of_partitions_that_are_not_its_own"],
    ),
    Bug(
        "M5-version",
        "A handle's version of an earlier epoch passes for one of this epoch.",
        f"{CORE}/state.py",
        "if have[0] == epoch and since",
        "if since",
        [f"{OBJECTS}::test_a_handle_from_another_epoch_gets_the_whole_state"],
    ),
    Bug(
        "M5-router",
        "A router asks whichever node it reached first, not the one with the highest epoch.",
        "sdk/perdure/routing/core/forwarding.py",
        "if epoch > best:",
        "if epoch >= 0 and node is None:",
        ["tests/sdk/test_forwarding.py::test_a_new_owner_is_asked_at_once"],
    ),
    Bug(
        "M6",
        "A log is written under an epoch that is not above its last one.",
        f"{JOURNAL}/node_log.py",
        "if epoch <= self.epoch:",
        "if False:",
        ["tests/node/test_partition_log.py::test_an_epoch_never_goes_back"],
    ),
    Bug(
        "M6-lock",
        "Two processes write to one data directory.",
        f"{SDK}/directory.py",
        "fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "fcntl.LOCK_EX",
        [
            f"{OWNERSHIP}::test_a_second_node_on_the_same_directory_is_refused_and_the_first_goes_on",
            f"{IDENTITY}::test_a_directory_held_by_another_process_is_refused_and_the_text_names_its_pid",
        ],
    ),
    Bug(
        "M6-opening",
        "An opening does not raise the epoch.",
        f"{NODE}/identity.py",
        "            identity.epoch += 1\n",
        "",
        [f"{IDENTITY}::test_every_opening_raises_the_epoch_on_disk_before_it_returns"],
    ),
    Bug(
        "M6-copy",
        "An older copy of node.json brings an epoch back that was used before.",
        f"{NODE}/node.py",
        "            identity.rise_above(self._journal.epoch)\n",
        "",
        [f"{OWNERSHIP}::test_an_older_node_file_put_back_does_not_bring_an_epoch_back"],
    ),
    Bug(
        "M9",
        "A scan that ends at a damaged block passes for a complete one.",
        f"{NODE}/store.py",
        "                iterator.status()\n",
        "",
        ["tests/node/test_store_damage.py::test_a_damaged_block_ends_a_scan_with_an_error"],
    ),
    Bug(
        "M10",
        "Recovery knows no high-water mark: damage at the end passes for a torn tail.",
        f"{JOURNAL}/recovery.py",
        "    mark = read_mark(directory / _MARK_NAME)\n",
        "    mark = Mark(0, {})\n",
        [
            f"{RECOVERY}::test_damage_in_the_last_group_that_was_told_is_not_taken_for_a_torn_tail",
            f"{RECOVERY}::test_all_segments_lost_is_found",
        ],
    ),
    Bug(
        "M10-marking",
        "The mark is not written after a sync.",
        f"{JOURNAL}/writer.py",
        "        self._mark.write(self._next_group, batch.lasts)\n",
        "",
        [f"{RECOVERY}::test_damage_in_the_last_group_that_was_told_is_not_taken_for_a_torn_tail"],
    ),
    Bug(
        "M10-first-damage",
        "Recovery ends silently at the first damaged group.",
        f"{JOURNAL}/analysis.py",
        "            offset += PAGE\n            continue\n",
        "            break\n",
        [f"{RECOVERY}::test_a_partition_whose_only_record_was_in_a_lost_group_is_refused_alone"],
    ),
    Bug(
        "M16",
        "A mailbox has no bound.",
        f"{CORE}/refusals.py",
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
        "        if window.is_settled(sequence):\n",
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
        "window-ahead",
        "A session's row tells of outcomes whose records may yet be lost.",
        f"{CORE}/window.py",
        "                if ended.record <= durable\n",
        "",
        [f"{SESSIONS}::test_an_outcome_that_was_never_durable_is_not_in_the_store_either"],
    ),
    Bug(
        "applied-ahead",
        "`applied` is written ahead of the records that the store has.",
        f"{CORE}/memory.py",
        "        return builder.build([*others, *puts], applied, deletes)",
        "        last = entries[-1].record if entries else applied\n"
        "        return builder.build([*others, *puts], last, deletes)",
        [
            f"{PARTITION}::test_a_record_that_becomes_durable_after_the_store_was_written_is_not_skipped",
        ],
    ),
    Bug(
        "applied-apart",
        "`applied` is written in a batch of its own.",
        f"{NODE}/store.py",
        "        put(_APPLIED_KEY, _POSITION.pack(applied))\n",
        "        self._database.put(_APPLIED_KEY, _POSITION.pack(applied), self._unsynced)\n",
        [f"{STORE}::test_a_kill_between_any_two_changes_leaves_one_position_and_its_state"],
    ),
    Bug(
        "undurable-applied",
        "Records go to the store before they are durable.",
        f"{CORE}/memory.py",
        "while entries and entries[0].record <= self.durable:",
        "while entries:",
        [f"{SESSIONS}::test_an_outcome_that_was_never_durable_is_not_in_the_store_either"],
    ),
    Bug(
        "passivated",
        "Passivation drops a state that the store does not have.",
        f"{CORE}/memory.py",
        "if state.last_record <= self.applied:\n            self._drop(state)\n        else:",
        "if True:\n            self._drop(state)\n        else:",
        [
            f"{OBJECTS}::test_passivation_keeps_what_the_store_does_not_have",
            f"{SLOW_DISK}::test_a_store_that_lags_behind_never_shows_an_older_state",
        ],
    ),
    Bug(
        "trimmed-early",
        "The log is trimmed up to what was written during a flush, not to what it flushed.",
        f"{NODE}/store.py",
        "        return applied\n\n    def close",
        "        return self.applied\n\n    def close",
        [f"{STORE}::test_a_process_that_is_killed_leaves_one_position_and_its_state"],
    ),
    Bug(
        "trimmed-unflushed",
        "The log is trimmed although the store was not flushed.",
        f"{NODE}/host.py",
        "            return False\n        self.log.trim(applied)",
        "            applied = memory.applied\n        self.log.trim(applied)",
        [f"{FULL}::test_a_full_disk_loses_nothing_and_heals_without_an_operator"],
    ),
    Bug(
        "full-disk",
        "A store that finds the disk full when expired rows are deleted takes the node down.",
        f"{NODE}/host.py",
        "        try:\n            self._delete_expired()\n",
        "        self._delete_expired()\n        try:\n",
        [f"{FULL}::test_a_full_disk_loses_nothing_and_heals_without_an_operator"],
    ),
    Bug(
        "closed-early",
        "A store is closed while another thread flushes it.",
        f"{NODE}/store.py",
        "with self._flushing, _translated(self._path):\n            self._database.close()",
        "with _translated(self._path):\n            self._database.close()",
        [f"{STORE}::test_closing_waits_for_a_flush_in_another_thread"],
    ),
    Bug(
        "store-made",
        "A store that is lost is made anew, and passes for an empty partition.",
        f"{NODE}/host.py",
        "    if new and not path.exists():",
        "    if not path.exists():",
        [f"{SLOW_DISK}::test_a_missing_store_stops_its_partition_alone"],
    ),
    Bug(
        "chain",
        "A record of another history passes for the one after.",
        f"{JOURNAL}/analysis.py",
        " and record.previous == known.chain",
        "",
        [f"{RECOVERY}::test_a_record_of_another_history_does_not_pass_for_the_one_before"],
    ),
    Bug(
        "unproven",
        "A last group that perhaps was never synced is served without being written again.",
        f"{JOURNAL}/recovery.py",
        "    if verdict.unproven is not None:\n",
        "    if False:\n",
        [
            f"{RECOVERY}::test_a_last_group_that_nobody_was_told_of_is_written_again_before_it_is_read",
        ],
    ),
    Bug(
        "sync-again",
        "A sync that failed is tried again, and passes when the pages are gone.",
        f"{JOURNAL}/writer.py",
        "if not is_full(error):\n                raise\n            # Some file systems",
        "# Some file systems",
        [f"{DISK}::test_one_failed_sync_is_fatal_though_the_next_would_pass"],
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
        "        if type(value) in _IMMUTABLE:\n            seen[name] = value\n",
        "        if True:\n            seen[name] = value\n",
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
        [f"{RUNNING}::test_an_exception_undoes_its_own_call_and_nothing_that_was_answered"],
    ),
    Bug(
        "key",
        "Calls with one idempotency key run beside each other.",
        f"{CORE}/keys.py",
        "        self._open[name] = call\n        return True",
        "        return True",
        [f"{SESSIONS}::test_concurrent_calls_with_one_key_wait_for_the_first"],
    ),
    Bug(
        "client-copies",
        "A client believes that a call did not run while another copy of it is open.",
        f"{SDK}/open_call.py",
        "return not self.lost\n        if code in _NO_ROOM",
        "return True\n        if code in _NO_ROOM",
        [
            "tests/sdk/test_session_refusals.py"
            "::test_a_refusal_is_not_believed_while_an_older_copy_may_still_arrive",
        ],
    ),
    Bug(
        "router-copies",
        "A router tells that a call did not run while a copy of it is astray.",
        "sdk/perdure/routing/core/forwarding.py",
        "if call.strayed and code in _REFUSALS:",
        "if False:",
        [
            "tests/sdk/test_forwarding.py"
            "::test_a_refusal_counts_for_nothing_while_a_copy_is_astray",
            "tests/router/test_router.py"
            "::test_a_refusal_of_a_copy_is_not_believed_while_another_is_astray",
        ],
    ),
    Bug(
        "snapshot",
        "An answer that comes late takes a handle back in time.",
        f"{SDK}/snapshot.py",
        "        if version < self.version:\n            return False\n",
        "",
        ["tests/sdk/test_snapshot.py::test_an_older_answer_takes_nothing_back"],
    ),
    Bug(
        "unawaited",
        "A call is not sent until something else happens on its connection.",
        f"{SDK}/client.py",
        "        if not self._flushing:\n            self._flush_soon()\n        return future",
        "        return future",
        ["tests/sdk/test_client.py::test_a_call_is_sent_though_nobody_awaits_it"],
    ),
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
    Bug(
        "poison-count",
        "The death of a process is not counted, so a call that ends it is run for ever.",
        f"{CORE}/blames.py",
        "        count += 1\n        if count < self",
        "        if count < self",
        [f"{BLAMES}::test_a_plain_call_that_has_ended_its_process_three_times_runs_no_more"],
    ),
    Bug(
        "poison-waiting",
        "A call that merely waits is blamed for the death of its process.",
        f"{NODE}/driving.py",
        "            self._map[_SLOT] = 0\n        else:",
        "            pass\n        else:",
        ["tests/node/test_driving.py::test_a_call_that_has_come_back_is_not_found"],
    ),
    Bug(
        "poison-early",
        "A timer fires before the disk has it: if it ends the process, nobody knows of it.",
        f"{CORE}/firings.py",
        "elif record > memory.durable and not sent:",
        "elif False:",
        [f"{BLAMES}::test_a_timer_fires_when_the_disk_has_it"],
    ),
    *AGENT_BUGS,
]
