"""What may leave a partition, and when."""

from __future__ import annotations

from planted.bug import Bug

__all__ = ["BUGS"]

CORE = "node/perdure_node/core"
PARTITION = "tests/node/test_partition.py"
SLOW_DISK = "tests/node/test_node_disk.py"

BUGS = [
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
]
