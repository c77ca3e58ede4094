"""Clients that call nodes themselves."""

from __future__ import annotations

from planted.bug import Bug

__all__ = ["BUGS"]

ROUTING = "sdk/perdure/routing"
FORWARDING = "tests/sdk/test_forwarding.py"
MODEL = "tests/sdk/test_direct_model.py"
DIRECT = "tests/sdk/test_direct.py"

BUGS = [
    Bug(
        "direct-astray",
        "A call that is sent again another way counts as one that was nowhere before.",
        f"{ROUTING}/core/forwarding.py",
        "            call.strayed = True\n            self._wait(now_ms, call)\n            lanes",
        "            self._wait(now_ms, call)\n            lanes",
        [
            f"{MODEL}::test_whatever_happens_calls_run_once_in_order_and_are_told_the_truth",
            f"{FORWARDING}::test_calls_are_called_back_only_from_where_their_partition_is_not_any_more",
        ],
    ),
    Bug(
        "direct-denial",
        "A node that says that it owns a partition no more is asked again and again.",
        f"{ROUTING}/core/forwarding.py",
        "if code == Code.NOT_OWNER and call.node == lane.node:",
        "if False:",
        [
            f"{FORWARDING}"
            "::test_a_node_that_denies_what_it_claimed_is_believed_when_somebody_else_claims_it",
        ],
    ),
    Bug(
        "direct-detour",
        "A router gets the calls although their node is reached.",
        f"{ROUTING}/known_cluster.py",
        "owned = dict.fromkeys(range(self._cluster.partition_count), 0)",
        "owned = dict.fromkeys(range(self._cluster.partition_count), 1 << 40)",
        [
            f"{MODEL}::test_when_all_is_well_again_every_call_goes_straight_to_its_owner",
            f"{DIRECT}"
            "::test_calls_go_by_the_router_until_their_node_is_reached_and_straight_to_it_then",
        ],
    ),
    Bug(
        "direct-stranger",
        "Whoever answers at the address of a node gets its calls.",
        f"{ROUTING}/known_cluster.py",
        "if is_another or not self.is_that_of(welcome):",
        "if False:",
        [
            f"{DIRECT}"
            "::test_a_server_of_another_cluster_or_another_name_at_a_nodes_address_gets_no_call",
        ],
    ),
    Bug(
        "direct-untold",
        "What was told on a stream that broke is not told again.",
        f"{ROUTING}/known_cluster.py",
        "            self._on_changed(self._cluster)\n",
        "",
        [f"{MODEL}::test_what_was_told_on_a_stream_that_broke_is_told_again_on_another_way"],
    ),
    Bug(
        "direct-kept",
        "Calls that a router cannot deliver are left there though their node is reached.",
        f"{ROUTING}/known_cluster.py",
        "            self._forwarder.recall(name)\n",
        "            pass\n",
        [f"{MODEL}::test_calls_that_a_router_keeps_are_called_back_when_their_node_is_reached"],
    ),
    Bug(
        "direct-noise",
        "A client says again and again that it cannot reach nodes.",
        f"{ROUTING}/core/paths.py",
        "self._told_unreachable = True",
        "self._told_unreachable = False",
        [
            "tests/sdk/test_paths.py::test_a_node_that_is_not_reached_is_left_after_a_while_and_told_of_once"
        ],
    ),
]
