"""What a partition promises of turns, durability and limits, without any I/O."""

from __future__ import annotations

from harness.core import THERE, Core

from perdure.errors import Code
from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure_node.core.commits import unpack_record
from perdure_node.core.limits import Limits

OTHER = ObjectKey("Cart", "u2")
HOUR_MS = 3_600_000


def methods(core: Core) -> list[tuple[str, int]]:
    return [(call.request.method, call.request.sequence) for call in core.running]


def test_an_object_runs_one_call_at_a_time() -> None:
    core = Core()
    core.create()

    core.call(2, "a")
    core.call(3, "b")

    assert methods(core) == [("a", 2)]
    core.returned()
    assert methods(core) == [("b", 3)]


def test_different_objects_run_beside_each_other() -> None:
    core = Core()
    core.create()
    core.create(2, OTHER)

    core.call(3, "a")
    core.call(4, "b", target=OTHER)

    assert methods(core) == [("a", 3), ("b", 4)]


def test_no_answer_leaves_before_its_record_is_durable() -> None:
    core = Core()
    core.create()
    number = core.call(2)

    core.returned({"n": b"1"}, b"one")
    core.write()
    assert core.answers() == []
    core.sync()

    assert core.answers() == [(number, 0, b"one")]


def test_the_next_call_runs_on_state_that_is_not_durable_yet() -> None:
    core = Core()
    core.create()
    first = core.call(2)
    core.returned({"n": b"1"}, b"one")
    second = core.call(3)

    assert methods(core) == [("add", 3)]
    assert core.image() == {"n": b"1"}
    core.returned({"n": b"2"}, b"two")
    assert core.answers() == []
    core.sync()

    assert core.answers() == [(first, 0, b"one"), (second, 0, b"two")]


def test_a_read_waits_for_the_commit_that_it_saw_and_for_no_method() -> None:
    core = Core()
    core.create()
    core.call(2)
    core.returned({"n": b"1"})
    core.call(3, "slow")
    number = core.call(0, "", kind=Kind.GET, have=[0, 0])

    assert core.answers() == []
    core.sync()

    replies = core.sink.answers
    assert [n for n, _, _ in replies] == [number - 2, number]
    changes = replies[1][2].changes
    assert changes is not None
    assert changes.values == {"n": b"1"}


def test_whether_an_object_exists_is_told_when_its_creation_or_end_is_durable() -> None:
    core = Core()
    core.call(1, "", kind=Kind.GET_OR_CREATE)
    core.returned({"n": b"0"}, created=True)
    exists = core.call(0, "", kind=Kind.EXISTS)
    assert core.answers() == []
    core.sync()
    assert [number for number, _, _ in core.answers()] == [exists - 1, exists]

    core.call(2, "", kind=Kind.DELETE)
    exists = core.call(0, "", kind=Kind.EXISTS)
    assert core.answers() == []
    core.sync()
    assert [number for number, _, _ in core.answers()] == [exists - 1, exists]


def test_a_list_is_told_when_everything_in_it_is_durable() -> None:
    core = Core()
    core.call(1, "", kind=Kind.GET_OR_CREATE)
    core.returned({"n": b"0"}, created=True)
    listed = core.call(0, "", kind=Kind.LIST, target=ObjectKey("Cart", ""))

    assert core.answers() == []
    core.sync()
    assert [number for number, _, _ in core.answers()] == [listed - 1, listed]


def test_concurrent_creators_make_one_object() -> None:
    core = Core()
    numbers = [
        core.call(1, "", kind=Kind.GET_OR_CREATE),
        core.call(1, "", kind=Kind.GET_OR_CREATE, session=THERE),
    ]
    assert len(core.running) == 1

    core.returned({"n": b"0"}, created=True)
    assert core.running == []
    core.sync()

    assert [(n, c) for n, c, _ in core.answers()] == [(n, 0) for n in numbers]


def test_shared_calls_run_together_and_beside_no_other() -> None:
    core = Core()
    core.create()
    core.call(2, "add")
    core.call(3, "shared_a")
    core.call(4, "shared_b")
    core.call(5, "add")
    core.call(6, "shared_c")

    assert methods(core) == [("add", 2)]
    core.returned()
    assert methods(core) == [("shared_a", 3), ("shared_b", 4)]
    core.returned(at=1)
    assert methods(core) == [("shared_a", 3)]
    core.returned()
    assert methods(core) == [("add", 5)]
    core.returned()
    assert methods(core) == [("shared_c", 6)]


def test_a_shared_call_makes_no_record_and_waits_for_the_commit_that_it_saw() -> None:
    core = Core()
    core.create()
    core.call(2)
    core.returned({"n": b"1"})
    core.write()
    number = core.call(3, "shared")
    core.returned(payload=b"seen")

    assert core.answers() == []
    core.sync()
    assert core.answers()[-1] == (number, 0, b"seen")
    assert core.memory.take_record(core.wall_ms) is None


def test_a_shared_call_is_in_no_record_of_a_later_call() -> None:
    core = Core()
    core.create()
    core.call(2, "shared")
    core.returned()
    core.call(3, previous=2)
    core.returned({"n": b"1"})
    core.sync()

    _, commits = unpack_record(core.log[-1][1])
    assert [outcome.sequence for commit in commits for outcome in commit.outcomes] == [3]


def test_a_copy_of_a_shared_call_runs_again_before_and_after_a_crash() -> None:
    core = Core()
    core.create()
    core.call(2, "shared")
    core.returned(payload=b"old")
    core.call(3, previous=2)
    core.returned({"n": b"1"})
    core.sync()
    core.answers()

    for payload in (b"new", b"newer"):
        copy = core.call(2, "shared")
        core.returned(payload=payload)
        assert core.answers() == [(copy, 0, payload)]
        core.crash()


def test_a_full_mailbox_refuses_at_once_and_its_neighbour_goes_on() -> None:
    core = Core(Limits(mailbox_calls_max=2))
    core.create()
    core.create(2, OTHER)
    for sequence in (3, 4, 5):
        core.call(sequence)
    refused = core.call(6)
    core.call(7, target=OTHER)

    assert core.answers() == [(refused, Code.BACKPRESSURE, ["Cart[u1]", 0.05])]
    assert methods(core) == [("add", 3), ("add", 7)]


def test_a_full_partition_refuses_calls_to_all_its_objects() -> None:
    core = Core(Limits(waiting_calls_max=2))
    core.create()
    core.create(2, OTHER)
    for sequence in (3, 4, 5):
        core.call(sequence)
    refused = core.call(6, target=OTHER)

    assert core.answers() == [(refused, Code.BACKPRESSURE, ["partition 3", 0.05])]
    assert methods(core) == [("add", 3)]


def test_a_record_that_becomes_durable_after_the_store_was_written_is_not_skipped() -> None:
    core = Core()
    core.create()
    core.call(2)
    core.returned({"n": b"1"})
    core.sync()
    core.call(3)
    core.returned({"n": b"2"})
    core.write()
    core.apply()
    core.crash(keep_written=True)

    assert core.image() == {"n": b"2"}


def test_a_call_into_its_own_chain_is_refused_naming_the_chain() -> None:
    core = Core()
    core.create()
    chain = [["Cart", "u1", "pay"], ["User", "3", "charge"]]

    number = core.call(2, "confirm", chain=chain)

    named = ["Cart[u1].pay", "User[3].charge", "Cart[u1].confirm"]
    assert core.answers() == [(number, Code.CALL_CYCLE, [named])]


def test_calls_inside_one_another_have_a_limit() -> None:
    core = Core()
    core.create()

    number = core.call(2, chain=[["T", str(i), "m"] for i in range(65)])

    assert core.answers() == [(number, Code.CALL_DEPTH, [65, 64])]


def test_a_call_whose_caller_has_gone_before_it_could_start_does_not_run() -> None:
    core = Core()
    core.create()
    core.call(2)
    late = core.call(3, time_left_ms=10)
    core.time_passes(11)
    core.returned()
    core.sync()

    assert core.running == []
    assert (late, Code.DEADLINE_EXCEEDED) in [(n, c) for n, c, _ in core.answers()]


def test_a_full_disk_refuses_writes_before_they_run_and_lets_reads_go_on() -> None:
    core = Core()
    core.create()
    core.partition.room = False

    write, shared, read = core.call(2), core.call(3, "shared"), core.call(0, kind=Kind.GET)
    core.returned(payload=b"seen")

    assert [(n, c) for n, c, _ in core.answers()] == [
        (write, Code.DISK_FULL),
        (read, 0),
        (shared, 0),
    ]


def test_no_call_starts_while_too_much_is_on_its_way_to_the_disk() -> None:
    core = Core()
    core.create()
    core.partition.paused = True
    core.call(2)
    assert core.running == []

    core.partition.paused = False
    core.partition.resume_starting()
    core._work()

    assert methods(core) == [("add", 2)]


def test_a_stopped_partition_answers_everything_with_data_loss_and_nothing_else() -> None:
    core = Core()
    core.create()
    withheld = core.call(2)
    core.returned({"n": b"1"})
    core.write()
    running, waiting = core.call(3), core.call(4)

    core.partition.stop_damaged("a bit has flipped")
    core._work()
    later = core.call(5)
    core.returned({"n": b"2"})

    assert sorted((n, c) for n, c, _ in core.answers()) == [
        (number, Code.DATA_LOSS) for number in (withheld, running, waiting, later)
    ]
