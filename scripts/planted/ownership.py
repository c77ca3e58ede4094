"""Who owns what, and in which epoch."""

from __future__ import annotations

from planted.bug import Bug

__all__ = ["BUGS"]

CORE = "node/perdure_node/core"
NODE = "node/perdure_node"
SDK = "sdk/perdure"
OBJECTS = "tests/node/test_partition_objects.py"
OWNERSHIP = "tests/node/test_ownership.py"
IDENTITY = "tests/node/test_identity.py"

BUGS = [
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
]
