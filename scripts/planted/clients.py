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
    Bug(
        "waits-in-vain",
        "Whether a call would wait in vain is told without what is before it.",
        f"{SDK}/lane.py",
        " * ahead // max(1, first.ahead)",
        "",
        [
            "tests/sdk/test_session_overload.py"
            "::test_no_call_waits_in_vain_however_much_more_is_asked_for_than_is_answered",
        ],
    ),
    Bug(
        "no-room-no-owner",
        "A call that never had its turn says that nobody owns its partition.",
        f"{SDK}/given_up.py",
        "if away is None and call.refusal is None and call.retry_ms is None:",
        "if False:",
        [
            "tests/sdk/test_session_overload.py"
            "::test_a_call_whose_place_comes_after_its_deadline_says_that_there_was_no_room",
        ],
    ),
    Bug(
        "far-ahead",
        "Small messages run ahead of their reader, however many it has not read.",
        f"{SDK}/spacing.py",
        "_UNREAD_MAX: Final = 2",
        "_UNREAD_MAX: Final = 2_000",
        ["tests/sdk/test_spacing.py::test_two_messages_leave_and_the_third_waits"],
    ),
]
