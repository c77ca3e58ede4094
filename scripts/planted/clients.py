"""Clients and routers."""

from __future__ import annotations

from planted.bug import Bug

__all__ = ["BUGS"]

SDK = "sdk/perdure"

BUGS = [
    Bug(
        "client-copies",
        "A client believes that a call did not run while another copy of it is open.",
        f"{SDK}/open_call.py",
        "return not self.lost or self.is_unnumbered",
        "return True",
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
]
