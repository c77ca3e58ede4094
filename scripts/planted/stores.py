"""Stores, and how they follow the journal."""

from __future__ import annotations

from planted.bug import Bug

__all__ = ["BUGS"]

CORE = "node/perdure_node/core"
NODE = "node/perdure_node"
PARTITION = "tests/node/test_partition.py"
OBJECTS = "tests/node/test_partition_objects.py"
SESSIONS = "tests/node/test_partition_sessions.py"
UNAPPLIED = "tests/node/test_unapplied.py"
STORE = "tests/node/test_store.py"
SLOW_DISK = "tests/node/test_node_disk.py"
FULL = "tests/node/test_full_disk.py"

BUGS = [
    Bug(
        "M9",
        "A scan that ends at a damaged block passes for a complete one.",
        f"{NODE}/store.py",
        "                iterator.status()\n",
        "",
        ["tests/node/test_store_damage.py::test_a_damaged_block_ends_a_scan_with_an_error"],
    ),
    Bug(
        "applied-ahead",
        "`applied` is written ahead of the records that the store has.",
        f"{CORE}/unapplied.py",
        "        self._taken = due.record\n",
        "        if self._made:\n"
        "            due.record = self._made[-1].number\n"
        "        self._taken = due.record\n",
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
        f"{CORE}/unapplied.py",
        "while made and made[0].number <= record:",
        "while made:",
        [
            f"{UNAPPLIED}::test_what_is_not_durable_is_not_taken",
            f"{UNAPPLIED}::test_batches_leave_what_records_would_leave_one_by_one",
        ],
    ),
    Bug(
        "older-image",
        "Of two images of an object the store gets the older one.",
        f"{CORE}/unapplied.py",
        "            due.images.update(one.images)\n",
        "            due.images = {**one.images, **due.images}\n",
        [f"{UNAPPLIED}::test_batches_leave_what_records_would_leave_one_by_one"],
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
        "    if new and not (path / ",
        "    if not (path / ",
        [f"{SLOW_DISK}::test_a_missing_store_stops_its_partition_alone"],
    ),
]
