"""Calls that wait for one another in a circle."""

from __future__ import annotations

from planted.bug import Bug

__all__ = ["BUGS"]

PROBING = "node/perdure_node/core/probing.py"
NESTED = "node/perdure_node/core/nested.py"
RULES = "tests/node/test_probing.py"
ON_A_NODE = "tests/node/test_waiting_circles.py"
YOUNGEST = (
    f"{RULES}::test_a_younger_call_that_waits_at_the_same_object_makes_no_other_one_the_youngest"
)

BUGS = [
    Bug(
        "circle-youngest",
        "Of a circle more than the youngest call is refused.",
        PROBING,
        "if self._age_of(call) < link.youngest:",
        "if False:",
        [YOUNGEST],
    ),
    Bug(
        "circle-way",
        "The youngest call of a way is forgotten when an older one comes behind it.",
        PROBING,
        "max(age, youngest)",
        "age",
        [YOUNGEST],
    ),
    Bug(
        "circle-gone",
        "Parts of a circle that were seen one after the other are taken for a circle.",
        PROBING,
        "if waits is not None and _leads_on(waits.calls, leads_to):\n            circle",
        "if waits is not None:\n            circle",
        [
            f"{RULES}::test_a_circle_of_which_a_part_has_gone_when_it_is_looked_at_again_is_none",
        ],
    ),
    Bug(
        "circle-started",
        "A call is refused although it is not there any more.",
        NESTED,
        "        if self._withdraw(call):\n            self._owner.end_unrun(call, "
        "*pack_error(Code.CALL_CYCLE",
        "        if True:\n            self._owner.end_unrun(call, *pack_error(Code.CALL_CYCLE",
        [f"{RULES}::test_a_call_that_was_cancelled_meanwhile_is_not_refused"],
    ),
    Bug(
        "circle-awaited",
        "A call that its method does not await is taken for what the method waits for.",
        "sdk/perdure/step_future.py",
        "return bool(self.awaited_by)",
        "return True",
        [
            f"{ON_A_NODE}::test_a_call_that_nobody_awaits_keeps_nobody_waiting",
            f"{ON_A_NODE}::test_a_time_limit_that_was_not_needed_hides_no_circle",
        ],
    ),
    Bug(
        "circle-clock",
        "A method that waits for a clock, too, is taken for one that is stuck.",
        PROBING,
        "        if step.kind != CALL:\n            return []",
        "        if step.kind != CALL:\n            continue",
        [
            f"{RULES}::test_a_method_that_does_not_wait_for_its_call_alone_ends_the_way",
            f"{ON_A_NODE}::test_a_call_with_a_time_limit_of_its_own_ends_by_that",
        ],
    ),
    Bug(
        "circle-lost",
        "A call whose method is over when it is refused as part of a circle is lost.",
        "node/perdure_node/delivery.py",
        "if _did_not_run(code, entry) and",
        "if code in _DID_NOT_RUN and",
        [
            f"{ON_A_NODE}::test_a_call_whose_method_is_over_when_its_refusal_comes_is_made_again",
        ],
    ),
    Bug(
        "alarm-later",
        "What is due sooner than what a node waits for already comes too late.",
        "node/perdure_node/alarm.py",
        "            if self._due_ms <= due_ms:\n                return\n",
        "            return\n",
        [f"{ON_A_NODE}::test_what_is_due_sooner_than_what_a_node_waits_for_is_not_late"],
    ),
]
