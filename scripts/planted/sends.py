"""Calls that are sent, and calls that somebody ends."""

from __future__ import annotations

from planted.bug import Bug

__all__ = ["BUGS"]

NODE = "node/perdure_node"
CORE = "node/perdure_node/core"
SENDS = "tests/node/test_sends_on_a_node.py"
CANCELS = "tests/node/test_cancel.py"
JOURNALLED = "tests/node/test_journalled.py"
ENDS = f"{CANCELS}::test_a_call_whose_cancellation_was_answered_ends_cancelled_whatever_crashes"

BUGS = [
    Bug(
        "send-undone",
        "What a method has sent goes out although it has raised.",
        f"{NODE}/steps.py",
        "pending = self._pending[: self._kept] if failed else self._pending",
        "pending = self._pending",
        [f"{SENDS}::test_what_a_method_sends_is_undone_by_its_exception"],
    ),
    Bug(
        "send-kept",
        "What a method has sent before a save is undone when it raises later.",
        f"{NODE}/steps.py",
        "pending = self._pending[: self._kept] if failed else self._pending",
        "pending = [] if failed else self._pending",
        [f"{SENDS}::test_what_was_sent_before_a_save_is_sent_and_what_was_sent_after_it_is_undone"],
    ),
    Bug(
        "send-overtaken",
        "A call overtakes what its method has sent to the same object before.",
        f"{NODE}/steps.py",
        "            if isinstance(effect, OutboxEntry) and effect.target == target:",
        "            if False:",
        [f"{SENDS}::test_calls_do_not_overtake_what_the_same_method_has_sent_before"],
    ),
    Bug(
        "send-key",
        "Two sends with one idempotency key are two.",
        f"{CORE}/firings.py",
        "if request.key is not None and not self._keys.claim(call):",
        "if False:",
        [f"{SENDS}::test_a_key_makes_two_sends_one"],
    ),
    Bug(
        "send-told-early",
        "Whoever sends is told that it will run before that is durable.",
        f"{CORE}/firings.py",
        "self._gate.answer([copy], None, 0, _NONE, self._recorder.record)",
        "self._gate.answer([copy], None, 0, _NONE)",
        [f"{SENDS}::test_a_send_is_accepted_when_it_is_durable"],
    ),
    Bug(
        "send-order",
        "A later call goes before what was sent earlier.",
        f"{CORE}/firings.py",
        "        if due_ms is None or due_ms > memory.time_ms or not timers.count_of(key):\n",
        "        if True:\n",
        [f"{SENDS}::test_many_sends_of_one_method_come_in_order_through_a_full_mailbox"],
    ),
    Bug(
        "send-lost",
        "What was on its way when the process died is not sent again.",
        f"{NODE}/carrier.py",
        "for entry in sorted(underway.outbox.values(), key=lambda e: (e.partition, e.sequence)):",
        "for entry in ():",
        [f"{SENDS}::test_what_an_object_has_sent_goes_out_though_it_is_deleted_before"],
    ),
    Bug(
        "cancel-unrecorded",
        "A cancellation is not in the journal, so a crash undoes it.",
        f"{CORE}/cancelling.py",
        "                self._journalled.cancelled(call, reason)\n",
        "                pass\n",
        [f"{ENDS}[plain]"],
    ),
    Bug(
        "cancel-told-early",
        "Whoever cancels is told that the call will end before that is durable.",
        f"{CORE}/cancelling.py",
        "self._gate.answer([copy], None, 0, payload, self._recorder.last)",
        "self._gate.answer([copy], None, 0, payload)",
        [f"{JOURNALLED}::test_a_cancellation_is_answered_when_it_is_durable"],
    ),
    Bug(
        "cancel-ahead",
        "A call that was cancelled before it came runs when it comes.",
        f"{CORE}/cancelling.py",
        "self._recorder.commit_unseen(Outcome(session, sequence, window.settled, *outcome))",
        "pass",
        [f"{CANCELS}::test_a_call_that_is_cancelled_before_it_comes_does_not_run"],
    ),
    Bug(
        "cancel-early",
        "A second run hears that it is cancelled before it is where the first one was.",
        f"{CORE}/replay.py",
        "if self.asked < self._passed_step or self._saved < self._passed_saves:",
        "if False:",
        [f"{JOURNALLED}::test_a_second_run_hears_that_it_is_cancelled_where_the_first_one_did"],
    ),
    Bug(
        "kill-tree",
        "A killed call leaves the calls that it waits for to themselves.",
        f"{NODE}/steps.py",
        "            return [c._replace(kind=int(Kind.CANCEL)) for c in (*calls, *unasked)], []",
        "            return [], []",
        [f"{CANCELS}::test_a_killed_call_takes_the_calls_below_it_along"],
    ),
]
