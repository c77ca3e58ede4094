"""What durable means: syncs, epochs and marks of the journal, and its recovery."""

from __future__ import annotations

from planted.bug import Bug

__all__ = ["BUGS"]

JOURNAL = "node/perdure_node/journal"
DISK = "tests/node/test_journal_disk.py"
RECOVERY = "tests/node/test_journal_recovery.py"

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
        "M6",
        "A log is written under an epoch that is not above its last one.",
        f"{JOURNAL}/node_log.py",
        "if epoch <= self.epoch:",
        "if False:",
        ["tests/node/test_partition_log.py::test_an_epoch_never_goes_back"],
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
        "chain",
        "A record of another history passes for the one after.",
        f"{JOURNAL}/analysis.py",
        " or previous != known.chain",
        "",
        [f"{RECOVERY}::test_a_record_of_another_history_does_not_pass_for_the_one_before"],
    ),
    Bug(
        "kept",
        "After a gap, a start takes the records before it for those behind it.",
        f"{JOURNAL}/analysis.py",
        "            known.bodies = []\n",
        "",
        [f"{RECOVERY}::test_what_comes_before_a_gap_is_not_taken_for_what_comes_behind_it"],
    ),
    Bug(
        "fold order",
        "A commit that is not folded is replayed before the folded ones that come before it.",
        "node/perdure_node/core/folding.py",
        "                memory.replay(record, latest_ms, fold.take(), size)\n",
        "",
        ["tests/node/test_folding.py::test_folded_records_leave_what_they_leave_one_by_one"],
    ),
    Bug(
        "fold ended",
        "The end of a call in progress is folded, and the call comes back.",
        "node/perdure_node/core/folding.py",
        "            if self._underway and key in self._underway:\n                return False\n",
        "",
        ["tests/node/test_folding.py::test_folded_records_leave_what_they_leave_one_by_one"],
    ),
    Bug(
        "fold settled",
        "Of what calls tell of others, only the watermark is kept by a start.",
        "node/perdure_node/core/folding.py",
        "        if confirmed[-1] > watermark\n",
        "        if False\n",
        ["tests/node/test_folding.py::test_folded_records_leave_what_they_leave_one_by_one"],
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
]
