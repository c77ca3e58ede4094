"""The sentences of `perdure why`, and how calls and times are written."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from harness.commands import perdure
from harness.loop import on_loop
from harness.serving import EchoBackend, serving

from perdure.cli.call_table import pack_place, print_calls, unpack_place
from perdure.cli.failure import CommandFailed
from perdure.cli.why import explain, print_inspection
from perdure.cli.wording import as_dict, call_name, duration, object_name, step_text
from perdure.ids import ObjectKey
from perdure.wire.v1 import cluster_pb2
from perdure.wire.v1.cluster_pb2 import Inspection, OpenCall, OpenStep, OpenTimer

CART = ObjectKey("Cart", "u1")


def inspection(**changes: Any) -> Inspection:
    fields = {"node": "n1", "partition": 3, "reachable": True, "type_known": True, "exists": True}
    return Inspection(**(fields | changes))


def running(**changes: Any) -> OpenCall:
    fields = {"method": "pay", "state": "running", "call_id": "ab:3:1", "age_ms": 12_000}
    return OpenCall(**(fields | changes))


def sentence(found: Inspection, types: list[str] | None = None) -> tuple[str, str]:
    return tuple(explain(found, CART, types or []))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0.00 s"),
        (350, "0.35 s"),
        (9_900, "9.9 s"),
        (12_300, "12 s"),
        (252_000, "4.2 min"),
        (12_600_000, "3.5 h"),
        (12 * 86_400_000, "12 d"),
    ],
)
def test_a_time_is_written_in_the_unit_that_fits(milliseconds: int, text: str) -> None:
    assert duration(milliseconds) == text


def test_an_object_is_named_so_that_it_can_be_typed() -> None:
    assert object_name("Cart", "u1") == "Cart/u1"
    assert object_name("Cart", "my cart; rm") == "'Cart/my cart; rm'"


def test_firings_are_named_by_their_timers_and_sent_calls_by_their_ids() -> None:
    assert call_name(OpenCall(call_id="ab:3:1")) == "call ab:3:1"
    assert call_name(OpenCall(timer="bill")) == "the firing of the timer 'bill'"
    assert call_name(OpenCall(timer="\0send:ab:3:00010")) == "sent as call ab:3:10"


def test_a_step_says_what_went_wrong_and_when_it_is_tried_again() -> None:
    step = OpenStep(
        number=2, kind="service", name="till.charge", age_ms=61_000, attempt=3,
        failure="no answer", next_ms=2_000,
    )  # fmt: skip

    assert step_text(step) == (
        "step 2 (service till.charge) for 1.0 min, attempt 3 after this failure: no answer; "
        "the next attempt is in 2.0 s"
    )
    sleep = OpenStep(number=1, kind="sleep", age_ms=9, attempt=1, next_ms=3_600_000)
    assert step_text(sleep) == "step 1 (sleep), which ends in 1.0 h"


def test_a_running_object_says_at_which_step_and_that_nobody_waits() -> None:
    step = OpenStep(number=2, kind="call", name="Pot[p1].add", age_ms=11_000, attempt=1)
    call = running(journalled=True, steps_done=1, steps_open=3, steps=[step])

    assert sentence(inspection(running=[call], running_count=1)) == (
        "running",
        "Cart/u1 has been running pay (call ab:3:1) for 12 s, at step 2 (call Pot[p1].add) for "
        "11 s (and 2 steps more at the same time); no call waits",
    )


def test_a_blocked_object_says_who_has_waited_longest() -> None:
    oldest = OpenCall(method="add", age_ms=90_000)
    found = inspection(running=[running()], running_count=1, waiting_count=3, oldest_waiting=oldest)

    assert sentence(found) == (
        "blocked",
        "Cart/u1 has been running pay (call ab:3:1) for 12 s, without a step so far; "
        "3 calls wait, the oldest one, add, for 1.5 min",
    )


def test_shared_calls_are_counted() -> None:
    found = inspection(running=[running(), running()], running_count=2)

    assert sentence(found)[1].startswith("Cart/u1 runs 2 shared calls, pay (call ab:3:1) for 12 s")


def test_a_call_that_was_taken_up_again_does_not_claim_its_age() -> None:
    call = running(journalled=True, resumed=True, steps_done=4)

    assert sentence(inspection(running=[call], running_count=1))[1] == (
        "Cart/u1 has been running pay (call ab:3:1) for 12 s since it was taken up again after a "
        "restart, at no step now (4 steps done); no call waits"
    )


def test_a_parked_call_says_why_and_what_can_be_done() -> None:
    call = running(state="parked", reason="step 1 is run one")

    assert sentence(inspection(running=[call], running_count=1)) == (
        "parked",
        "Cart/u1 is held by the parked pay (call ab:3:1), which does not go on because step 1 is "
        "run one: `perdure calls retry Cart/u1` runs it again, `perdure calls drop Cart/u1` ends "
        "it",
    )


def test_calls_that_cannot_start_say_what_holds_them_up() -> None:
    found = inspection(
        waiting_count=1, oldest_waiting=OpenCall(method="add", age_ms=2_000), held_up="the disk"
    )

    assert sentence(found) == (
        "waiting", "Cart/u1 runs no call, and 1 call waits, add, for 2.0 s: the disk",
    )  # fmt: skip


def test_an_idle_object_says_which_timer_is_next_and_which_is_parked() -> None:
    timers = [
        OpenTimer(name="bill", method="issue", due_in_ms=7_200_000, attempts=2),
        OpenTimer(name="re mind", method="mail", parked=True, attempts=8),
    ]

    assert sentence(inspection(timers=timers, timer_count=2)) == (
        "idle",
        "Cart/u1 is idle (not in memory): no call runs or waits, and its next timer 'bill' "
        "(method issue) fires in 2.0 h, after 2 failed attempts, and its timer 're mind' (method "
        "mail) is parked after 8 failed attempts: `perdure calls retry-timer Cart/u1 're mind'` "
        "lets it fire now",
    )
    full = inspection(resident=True, held_up="the disk is full")
    assert sentence(full)[1] == (
        "Cart/u1 is idle (in memory): no call runs or waits, and it has no timers; no call could "
        "start now: the disk is full"
    )


def test_what_cannot_be_found_is_told_apart() -> None:
    assert sentence(inspection(exists=False)) == ("missing", "there is no Cart/u1")
    gone = inspection(exists=False, type_known=False)
    assert sentence(gone, ["Card"]) == (
        "unknown type", "there is no type 'Cart': did you mean 'Card'?",
    )  # fmt: skip
    left = explain(inspection(type_known=False), CART, ["Pot"])
    assert left.found
    assert left.sentence == "Cart/u1 is stored, but the app has no type 'Cart'; there are Pot"
    down = Inspection(node="n2", partition=3)
    assert sentence(down) == ("unreachable", "Cart/u1 is on node n2, which does not answer")
    assert sentence(Inspection(partition=3))[1] == (
        "no node that answers has partition 3, which Cart/u1 is in"
    )
    assert sentence(inspection(stopped="a row is torn")) == (
        "stopped", "Cart/u1 is in partition 3 of node n1, which is not served: a row is torn",
    )  # fmt: skip


def test_an_object_that_is_being_made_is_not_missing() -> None:
    call = OpenCall(kind="get or create", state="running", call_id="ab:3:1", age_ms=2_000)
    found = inspection(exists=False, running=[call], running_count=1)

    assert sentence(found)[1].startswith("Cart/u1 has been running get or create (call ab:3:1)")


def test_all_that_is_known_is_printed_under_the_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    step = OpenStep(number=1, kind="call", name="Pot[p].add", attempt=1, type="Pot", id="p")
    call = running(journalled=True, steps=[step], steps_open=1, chain=["Shop/s.sell"])
    found = inspection(
        running=[call], running_count=1, waiting_count=1,
        oldest_waiting=OpenCall(method="add", call_id="cd:3:9"),
        timers=[OpenTimer(name="bill", method="issue", parked=True)], timer_count=4,
    )  # fmt: skip

    print_inspection(found, explain(found, CART, []), as_json=False)

    lines = capsys.readouterr().out.splitlines()
    assert lines[2:] == [
        "node      n1",
        "partition 3",
        "running   pay, call ab:3:1",
        "  made by Shop/s.sell",
        "  steps   0 done, 1 not done",
        "  at      step 1 (call Pot[p].add)",
        "  see     perdure why Pot/p",
        "waiting   1",
        "  oldest  add, call cd:3:9",
        "timer     bill: issue, parked",
        "          and 3 timers more",
    ]


def test_json_has_every_field_and_none_for_what_is_not_known() -> None:
    content = as_dict(inspection(running=[running(steps=[OpenStep(number=1)])]))

    assert content["oldest_waiting"] is None
    assert content["running"][0]["age_ms"] == 12_000
    assert content["running"][0]["steps"][0]["next_ms"] is None
    assert content["running"][0]["chain"] == []
    json.dumps(content)


def test_a_place_can_be_typed_and_read_again() -> None:
    place = "2\0Cart\0ü 1\0" + "x" * 9

    assert unpack_place(pack_place(place)) == place
    assert unpack_place("") == ""
    with pytest.raises(CommandFailed, match="an earlier list"):
        unpack_place("!!")


def test_calls_and_parked_timers_stand_in_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    page = cluster_pb2.CallPage(
        calls=[
            running(type="Cart", id="[red]", node="n1", reason="no way"),
            OpenCall(type="Pot", id="p", state="leaving", method="add", node="n2"),
        ],
        timers=[OpenTimer(type="Pot", id="q", name="bill", method="issue", attempts=8, node="n1")],
    )

    print_calls(page, as_json=False)

    heading, first, second, third = capsys.readouterr().out.splitlines()
    assert heading.split() == ["state", "object", "method", "for", "call", "at", "node"]
    assert first.split() == [
        "running", "Cart/[red]", "pay", "12", "s", "ab:3:1", "no", "way", "n1",
    ]  # fmt: skip
    assert second.split()[:3] == ["leaving", "Pot/p", "add"]
    assert third.split()[:5] == ["parked", "Pot/q", "issue", "timer", "bill"]


class Deciding(EchoBackend):
    """Remembers what was decided."""

    def __init__(self) -> None:
        super().__init__()
        self.decided: list[tuple[ObjectKey, int, str]] = []

    async def decide(self, target: ObjectKey, decision: int, name: str) -> bool:
        self.decided.append((target, decision, name))
        return target.id != "none"


@on_loop
async def test_decisions_reach_the_server_as_they_were_typed() -> None:
    backend = Deciding()
    async with serving(backend) as (_, address):
        said = [
            await asyncio.to_thread(perdure, "calls", *words, address=address)
            for words in (
                ("retry", "Cart/a/b"),
                ("drop", "Cart/none"),
                ("drop-timer", "Cart/c", "re mind"),
                ("cancel", "no id", "--object", "Cart/c"),
            )
        ]

    assert backend.decided == [
        (ObjectKey("Cart", "a/b"), cluster_pb2.DECISION_RETRY_CALL, ""),
        (ObjectKey("Cart", "none"), cluster_pb2.DECISION_DROP_CALL, ""),
        (ObjectKey("Cart", "c"), cluster_pb2.DECISION_DROP_TIMER, "re mind"),
    ]
    assert [done.returncode for done in said] == [0, 1, 0, 1]
    assert "no call of Cart/none is parked" in said[1].stderr
    assert "no id of a call: 'no id'" in said[3].stderr
