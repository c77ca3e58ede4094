"""What a partition promises of copies of calls: within its window no call runs twice."""

from __future__ import annotations

from harness.core import CART, HERE, THERE, Core

from perdure.errors import Code
from perdure.frames import Kind
from perdure.ids import ObjectKey, new_session_id
from perdure_node.core.events import Saved
from perdure_node.core.limits import Limits

OTHER = ObjectKey("Cart", "u2")
HOUR_MS = 3_600_000


def methods(core: Core) -> list[tuple[str, int]]:
    return [(call.request.method, call.request.sequence) for call in core.running]


def test_a_copy_of_a_call_that_has_ended_gets_its_outcome_and_does_not_run() -> None:
    core = Core()
    core.create()
    core.call(2)
    core.returned({"n": b"1"}, b"one")
    core.sync()
    core.answers()

    copy = core.call(2)

    assert core.answers() == [(copy, 0, b"one")]
    assert core.running == []


def test_a_copy_of_a_recorded_exception_gets_the_exception_again() -> None:
    core = Core()
    core.create()
    core.call(2)
    core.returned(payload=b"\x91\xa3bad", code=int(Code.RAISED))
    core.sync()
    core.answers()

    copy = core.call(2)

    assert core.answers() == [(copy, int(Code.RAISED), ["bad"])]


def test_a_copy_of_an_outcome_that_is_not_durable_waits_for_it() -> None:
    core = Core()
    core.create()
    first = core.call(2)
    core.returned({"n": b"1"}, b"one")
    core.write()

    copy = core.call(2)
    assert core.answers() == []
    core.sync()

    assert core.answers() == [(first, 0, b"one"), (copy, 0, b"one")]


def test_copies_of_an_open_call_are_all_answered_and_it_runs_once() -> None:
    core = Core()
    core.create()
    first, second = core.call(2), core.call(2)

    assert methods(core) == [("add", 2)]
    core.returned({"n": b"1"}, b"one")
    core.sync()

    assert core.answers() == [(first, 0, b"one"), (second, 0, b"one")]


def test_a_call_that_changed_nothing_leaves_an_outcome_too() -> None:
    core = Core()
    core.create()
    core.call(2, "reserve")
    core.returned({}, b"no")
    core.sync()
    core.call(3, "restock", session=THERE, previous=0)
    core.returned({"stock": b"9"})
    core.sync()
    core.answers()
    core.crash()

    copy = core.call(2, "reserve")

    assert core.running == []
    assert core.answers() == [(copy, 0, b"no")]


def test_an_outcome_survives_applying_trimming_and_a_crash() -> None:
    core = Core()
    core.create()
    core.call(2)
    core.returned({"n": b"1"}, b"one")
    core.sync()
    core.apply()
    core.trim()
    core.answers()
    core.crash()

    copy = core.call(2)

    assert core.running == []
    assert core.answers() == [(copy, 0, b"one")]


def test_an_outcome_that_was_never_durable_is_not_in_the_store_either() -> None:
    core = Core()
    core.create()
    core.call(2)
    core.returned({"n": b"1"}, b"one")
    core.sync()
    core.call(3, target=CART, previous=2)
    core.returned({"n": b"2"}, b"two")
    core.write()
    core.apply()
    core.crash()

    core.call(3, previous=0)

    assert methods(core) == [("add", 3)]
    assert core.image() == {"n": b"1"}


def test_a_confirmed_call_never_runs_again() -> None:
    core = Core()
    core.create()
    core.call(2)
    core.returned({"n": b"1"})
    core.sync()
    core.call(3, confirmed=[2])
    core.answers()

    late = core.call(2)

    assert [(n, c) for n, c, _ in core.answers()] == [(late, Code.SUPERSEDED)]
    assert methods(core) == [("add", 3)]


def test_a_call_that_was_given_up_never_runs_after_the_one_behind_it() -> None:
    core = Core()
    core.create()
    core.call(3, "b", confirmed=[1, 2, 2])
    core.returned({"n": b"b"})
    core.sync()
    core.answers()

    late = core.call(2, "a")

    assert [(n, c) for n, c, _ in core.answers()] == [(late, Code.SUPERSEDED)]
    core.crash()
    late = core.call(2, "a")
    assert [(n, c) for n, c, _ in core.answers()] == [(late, Code.SUPERSEDED)]


def test_a_call_waits_for_the_one_before_it() -> None:
    core = Core()
    core.create()
    core.call(3, "b", previous=2)
    assert core.running == []

    core.call(2, "a")

    assert methods(core) == [("a", 2)]
    core.returned()
    assert methods(core) == [("b", 3)]


def test_a_chain_of_calls_that_came_in_reverse_runs_in_order() -> None:
    core = Core()
    core.create()
    for sequence in range(900, 2, -1):
        core.call(sequence, previous=sequence - 1)
    ran = []
    core.call(2)
    while core.running:
        ran.append(core.running[0].request.sequence)
        core.returned()

    assert ran == list(range(2, 901))


def test_a_call_whose_predecessor_does_not_come_is_refused_after_a_moment() -> None:
    core = Core()
    core.create()
    number = core.call(3, previous=2)

    core.time_passes(49)
    assert core.answers() == []
    core.time_passes(1)

    assert core.answers() == [(number, Code.OUT_OF_ORDER, [])]
    again = core.call(3, previous=0)
    core.returned()
    core.sync()
    assert core.answers() == [(again, 0, b"ok")]


def test_a_refused_copy_never_hides_that_the_call_has_run() -> None:
    core = Core(Limits(mailbox_calls_max=1))
    core.create()
    core.call(2)
    core.returned({"n": b"1"}, b"one")
    core.sync()
    core.call(3)
    core.call(4)
    core.answers()

    copy, fresh = core.call(2), core.call(5)

    assert [(n, c) for n, c, _ in core.answers()] == [(copy, 0), (fresh, Code.BACKPRESSURE)]


def test_a_draining_partition_finishes_what_it_has_and_still_answers_copies() -> None:
    core = Core()
    core.create()
    first = core.call(2)
    core.partition.draining = True

    refused = core.call(3)
    core.returned({}, b"one")
    core.sync()
    copy = core.call(2)

    assert [(n, c) for n, c, _ in core.answers()] == [
        (refused, Code.DRAINING),
        (first, 0),
        (copy, 0),
    ]


def test_a_session_older_than_its_window_is_told_that_nobody_knows() -> None:
    core = Core()
    core.create()
    core.time_passes(48 * HOUR_MS + 1)
    unknown = new_session_id(core.wall_ms - 48 * HOUR_MS - 2, b"0123456789")

    old = core.call(1, session=unknown)
    known = core.call(2)

    assert [(n, c) for n, c, _ in core.answers()] == [(old, Code.SESSION_EXPIRED)]
    assert methods(core) == [("add", 2)], known


def test_a_session_from_the_future_is_refused() -> None:
    core = Core()

    number = core.call(1, session=new_session_id(core.wall_ms + HOUR_MS + 1, b"0123456789"))

    assert [(n, c) for n, c, _ in core.answers()] == [(number, Code.MALFORMED)]


def test_partition_time_never_goes_back() -> None:
    core = Core()
    core.create()
    core.time_passes(49 * HOUR_MS)
    core.call(2)
    core.returned({"n": b"1"})
    core.sync()
    core.wall_ms -= 49 * HOUR_MS
    core.crash()

    old = core.call(1, session=new_session_id(core.wall_ms, b"0123456789"))

    assert core.answers()[-1][:2] == (old, Code.SESSION_EXPIRED)


def test_a_session_keeps_a_bounded_number_of_unconfirmed_outcomes() -> None:
    core = Core(Limits(session_unconfirmed_max=3))
    core.create()
    for sequence in (2, 3):
        core.call(sequence)
        core.returned()
    core.sync()
    core.answers()

    refused = core.call(4)
    assert core.answers()[-1][:2] == (refused, Code.BACKPRESSURE)
    core.call(4, confirmed=[3])

    assert methods(core) == [("add", 4)]


def test_a_call_confirmed_singly_frees_its_outcome_while_an_older_one_runs() -> None:
    core = Core(Limits(session_unconfirmed_max=4))
    core.create()
    core.create(2, OTHER)
    core.call(3, "long", confirmed=[2])
    for sequence in range(4, 2_000):
        done = [2] if sequence == 4 else [2, 4, sequence - 1]
        core.call(sequence, target=OTHER, confirmed=done)
        core.returned(at=1)
        core.sync()

    window = core.memory.window(HERE)
    assert window is not None
    assert len(window.ended) == 1
    assert window.settled == [2, 4, 1_998]


def test_a_late_copy_of_get_or_create_does_not_create_what_was_deleted_since() -> None:
    core = Core()
    core.create()
    core.call(1, "", kind=Kind.GET_OR_CREATE, session=THERE)
    core.call(2, "", kind=Kind.DELETE)
    core.sync()
    core.answers()
    core.crash()

    late = core.call(1, "", kind=Kind.GET_OR_CREATE, session=THERE)

    assert core.running == []
    assert core.answers()[-1][:2] == (late, Code.SUPERSEDED)


def test_outcomes_of_earlier_calls_outlive_their_object() -> None:
    core = Core()
    core.create()
    core.call(2)
    core.returned({"n": b"1"}, b"one")
    core.call(3, "", kind=Kind.DELETE)
    core.sync()
    core.apply()
    core.trim()
    core.crash()

    copy = core.call(2)

    assert core.answers() == [(copy, 0, b"one")]


def test_the_same_key_gets_the_recorded_outcome_from_another_session() -> None:
    core = Core()
    core.create()
    core.call(2, "pay", key="k1", arguments=b"5")
    core.returned({"n": b"1"}, b"paid")
    core.sync()
    core.apply()
    core.trim()
    core.answers()
    core.crash()

    copy = core.call(1, "pay", key="k1", arguments=b"5", session=THERE)

    assert core.answers() == [(copy, 0, b"paid")]
    assert core.running == []


def test_the_same_key_with_other_arguments_is_an_error() -> None:
    core = Core()
    core.create()
    core.call(2, "pay", key="k1", arguments=b"5")
    core.returned({"n": b"1"}, b"paid")
    core.sync()
    core.answers()

    number = core.call(1, "pay", key="k1", arguments=b"6", session=THERE)

    assert core.answers() == [(number, Code.KEY_REUSED, ["k1", "Cart[u1]", "pay"])]


def test_the_same_key_on_another_method_or_object_is_another_key() -> None:
    core = Core()
    core.create()
    core.create(2, OTHER)
    core.call(3, "pay", key="k1")
    core.returned()
    core.call(4, "refund", key="k1")
    core.call(5, "pay", key="k1", target=OTHER)

    assert methods(core) == [("refund", 4), ("pay", 5)]


def test_concurrent_calls_with_one_key_wait_for_the_first() -> None:
    core = Core()
    core.create()
    first = core.call(2, "pay", key="k1")
    second = core.call(1, "pay", key="k1", session=THERE)

    assert methods(core) == [("pay", 2)]
    core.returned({"n": b"1"}, b"paid")
    core.sync()

    assert core.answers() == [(first, 0, b"paid"), (second, 0, b"paid")]


def test_a_key_is_forgotten_after_its_time() -> None:
    core = Core()
    core.create()
    core.call(2, "pay", key="k1", arguments=b"5")
    core.returned({"n": b"1"}, b"paid")
    core.sync()
    core.apply()
    core.time_passes(24 * HOUR_MS - 1)
    core.call(3, "pay", key="k1", arguments=b"5")
    assert core.running == []

    core.time_passes(2)
    core.call(4, "pay", key="k1", arguments=b"5")

    assert methods(core) == [("pay", 4)]


def test_a_save_that_the_method_outlives_resumes_the_call_after_a_crash() -> None:
    core = Core()
    core.create()
    core.call(2, "work")
    [call] = core.running
    core.partition.journalled.saved(call, {"n": b"half"}, ({"n": b"0"}, 1), 1, [Saved()])
    core.sync()
    core.crash()

    [resumed] = core.running
    assert resumed.progress is not None
    assert resumed.progress.start_image == {"n": b"0"}
    assert resumed.progress.events == [Saved()]
    copy = core.call(2, "work")
    other = core.call(3, "other", session=THERE)
    assert methods(core) == [("work", 2)]
    core.returned({"n": b"whole"}, b"done")
    core.sync()
    assert core.answers() == [(copy, 0, b"done")]
    assert methods(core) == [("other", 3)], other
    core.crash()
    assert core.running == []


def test_a_call_in_progress_survives_trimming() -> None:
    core = Core()
    core.create()
    core.call(2, "work")
    core.partition.journalled.saved(core.running[0], {"n": b"half"}, ({"n": b"0"}, 1), 1, [Saved()])
    core.sync()
    core.apply()
    core.trim()
    core.crash()

    assert methods(core) == [("work", 2)]
    core.returned({"n": b"whole"})
    core.sync()
    core.apply()
    core.trim()
    core.crash()
    assert core.running == []
    assert core.image() == {"n": b"whole"}


def test_an_object_that_persists_on_save_loses_state_and_outcomes_together() -> None:
    lazy = ObjectKey("Lazy", "x")
    core = Core()
    core.create(1, lazy, n=b"0")
    for sequence, value in ((2, b"1"), (3, b"2")):
        core.call(sequence, target=lazy)
        core.returned({"n": value})
    assert [c for _, c, _ in core.answers()] == [0, 0], "answers do not wait"
    core.sync()
    core.apply()
    core.crash()
    assert core.image(lazy) == {"n": b"0"}
    core.call(2, target=lazy)
    assert methods(core) == [("add", 2)]
    core.returned({"n": b"1"})

    core.call(3, target=lazy)
    core.returned({"n": b"2"}, saved=True)
    core.sync()
    core.crash()

    assert core.image(lazy) == {"n": b"2"}
    core.call(2, target=lazy)
    core.call(3, target=lazy)
    assert core.running == []


def test_a_window_that_is_not_in_the_store_is_never_forgotten() -> None:
    core = Core(Limits(windows_idle_max=2))
    core.create()
    sessions = [new_session_id(core.wall_ms, bytes([n]) * 10) for n in range(20)]
    for session in sessions:
        core.call(1, session=session)
        core.returned()
        # It gives call 2 up, which never arrives, and says so without any other call.
        core.call(0, session=session, kind=Kind.CONFIRM, confirmed=[2])
    core.sync()
    core.apply()
    core.call(2)
    core.returned()
    core.sync()
    core.apply()
    assert len(core.memory.windows) <= 2
    core.answers()

    for session in sessions:
        core.call(2, session=session)

    assert core.running == []
    assert {code for _, code, _ in core.answers()} == {Code.SUPERSEDED}
