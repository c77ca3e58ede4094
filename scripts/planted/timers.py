"""Timers: when they fire, and what becomes of them."""

from __future__ import annotations

from planted.bug import Bug

__all__ = ["BUGS"]

CORE = "node/perdure_node/core"
TIMERS = "tests/node/test_timers.py"
ON_A_NODE = "tests/node/test_timers_on_a_node.py"
AGAIN = "tests/node/test_timers_that_come_again.py"

BUGS = [
    Bug(
        "M11",
        "A timer is deleted when it fires, before what its method does is committed.",
        f"{CORE}/firings.py",
        "        return firing.is_same(timer, self._memory.timers.get(call.key, timer.name))",
        "        same = firing.is_same(timer, self._memory.timers.get(call.key, timer.name))\n"
        "        if same:\n"
        "            self._recorder.commit_timers(state, [TimerChange(timer.name, None)])\n"
        "        return same",
        [f"{ON_A_NODE}::test_a_firing_that_has_left_nothing_yet_begins_again_after_a_crash"],
    ),
    Bug(
        "M11-first",
        "The first record of a firing that goes on has its timer no more, and not the firing.",
        f"{CORE}/journalled.py",
        "        self._recorder.commit_progress(\n",
        "        if more and begun is not None:\n"
        "            self._recorder.commit_timers(call.state, more)\n"
        "            call.progress = None\n"
        "            return\n"
        "        self._recorder.commit_progress(\n",
        [
            f"{ON_A_NODE}"
            "::test_a_firing_that_has_saved_goes_on_after_a_crash_and_does_not_begin_again"
        ],
    ),
    Bug(
        "M12",
        "A timer whose effect is durable stays, and fires once more.",
        f"{CORE}/firings.py",
        "return [TimerChange(timer.name, self._after(timer))]\n        if timer is None:",
        "return []\n        if timer is None:",
        [f"{ON_A_NODE}::test_a_timer_fires_after_a_crash_and_once_only"],
    ),
    Bug(
        "timer-cancelled",
        "A timer that was cancelled or set anew while it waited for its object fires.",
        f"{CORE}/firings.py",
        "        return firing.is_same(timer, self._memory.timers.get(call.key, timer.name))",
        "        return True",
        [
            f"{ON_A_NODE}"
            "::test_a_timer_that_is_cancelled_while_it_waits_for_the_object_does_not_fire",
            f"{ON_A_NODE}::test_a_timer_that_is_set_anew_while_it_waits_for_the_object_fires_once",
        ],
    ),
    Bug(
        "timer-attempts",
        "How often a timer's method has failed is not kept.",
        f"{CORE}/firing.py",
        "        attempts=attempts,\n    )",
        "        attempts=0,\n    )",
        [
            f"{AGAIN}"
            "::test_a_method_that_always_fails_waits_longer_each_time_over_restarts_then_is_parked"
        ],
    ),
    Bug(
        "timer-beat",
        "A repeated timer counts from when it has fired, and drifts.",
        f"{CORE}/firing.py",
        "due_ms = schedules.next_due_after_firing(timer.every, timer.due_ms, now_ms)",
        "due_ms = schedules.next_due_after_firing(timer.every, now_ms, now_ms)",
        [f"{AGAIN}::test_an_interval_keeps_its_beat_and_makes_up_for_an_outage_with_one_firing"],
    ),
    Bug(
        "timer-own",
        "A firing that sets its own timer anew, or cancels it, is undone by its end.",
        f"{CORE}/partition.py",
        "effects = [*self.firings.ended(call, succeeded=code == 0), *effects]",
        "effects = [*effects, *self.firings.ended(call, succeeded=code == 0)]",
        [
            f"{ON_A_NODE}::test_a_handler_may_set_its_own_timer_anew",
        ],
    ),
]
