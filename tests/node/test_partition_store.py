"""What a partition knows beside its store, which may lag behind: nothing older is ever seen."""

from __future__ import annotations

from harness.core import CART, THERE, Core

from perdure.errors import Code
from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure_node.core.events import Done, Saved, Scheduled
from perdure_node.core.limits import Limits
from perdure_node.core.reader import NO, YES

COLD = ObjectKey("Cart", "cold")


def passivate_all(core: Core) -> None:
    for state, memory in list(core.residents):
        memory.passivate(state)
    assert len(core.residents) == 0


def exists(core: Core, target: ObjectKey = CART) -> bool:
    core.call(0, "", kind=Kind.EXISTS, target=target)
    [(_, code, payload)] = core.answers()
    assert code == 0
    assert payload in (YES[0], NO[0])
    return payload == YES[0]


def test_the_store_is_written_up_to_a_record_with_all_that_is_in_earlier_ones() -> None:
    """A hot object is changed on and on while its earlier changes are applied."""
    core = Core()
    core.create()
    core.create(2, COLD, n=b"cold")
    for sequence in range(3, 8):
        core.call(sequence)
        core.returned({"n": b"%d" % sequence})
        core.sync()
    core.call(8)
    core.returned({"n": b"8"})
    core.write()
    core.apply()
    assert core.rows.applied == core.log[-1][0]
    core.trim()
    assert core.log == []
    core.answers()

    core.crash()

    assert core.image() == {"n": b"7"}
    assert core.image(COLD) == {"n": b"cold"}
    copy = core.call(7)
    assert core.running == []
    assert core.answers() == [(copy, 0, b"ok")]


def test_what_exists_is_told_from_memory_before_the_store_knows_it() -> None:
    core = Core()
    core.create()
    passivate_all(core)
    assert exists(core)

    core.apply()
    core.call(2, "", kind=Kind.DELETE)
    core.sync()
    core.answers()
    passivate_all(core)

    assert not exists(core)
    core.call(3, "", kind=Kind.GET_OR_CREATE)
    assert len(core.running) == 1, "it is made anew"


def test_a_call_after_passivation_runs_on_what_was_answered_and_not_on_what_is_stored() -> None:
    core = Core()
    core.create()
    core.apply()
    core.call(2)
    core.returned({"n": b"1"})
    core.sync()
    passivate_all(core)

    core.call(3)

    [call] = core.running
    assert call.state is not None
    assert call.state.image == {"n": b"1"}
    core.returned({"m": b"1"})
    core.sync()
    core.apply()
    core.trim()
    core.crash()
    assert core.image() == {"n": b"1", "m": b"1"}


def test_a_handle_older_than_the_load_gets_the_whole_state() -> None:
    """What has changed since is not known any more once the object has left memory."""
    core = Core()
    core.create(1, CART, a=b"0", b=b"0")
    have = [core.epoch, core.memory.number]
    core.call(2)
    core.returned({"a": b"1"})
    core.sync()
    core.apply()
    passivate_all(core)
    core.replies()

    core.call(3, have=have)
    core.returned({"b": b"1"})
    core.sync()

    [reply] = core.replies()
    assert reply.changes is not None
    assert reply.changes.full
    assert reply.changes.values == {"a": b"1", "b": b"1"}


def test_a_handle_to_an_object_that_was_deleted_and_made_again_gets_the_whole_state() -> None:
    core = Core()
    core.create(1, CART, a=b"old", gone=b"old")
    have = [core.epoch, core.memory.number]
    core.call(2, "", kind=Kind.DELETE)
    core.create(3, CART, a=b"new")
    core.replies()

    core.call(1, session=THERE, have=have)
    core.returned({"b": b"1"})
    core.sync()

    [reply] = core.replies()
    assert reply.changes is not None
    assert reply.changes.full
    assert reply.changes.values == {"a": b"new", "b": b"1"}


def test_a_save_counts_as_use_of_the_object() -> None:
    core = Core(Limits(activations_max=1))
    core.create(1, CART)
    core.create(2, COLD)
    core.apply()
    core.call(3, "long", target=CART)
    core.call(4, target=COLD)
    core.returned(at=1)
    core.sync()
    core.partition.journalled.saved(core.running[0], {"n": b"half"}, ({"n": b"0"}, 1), 1, [Saved()])
    core.returned({}, code=int(Code.RAISED), payload=b"\x91\xa3bad")
    core.sync()
    core.apply()

    assert [state.key for state, _ in core.residents.surplus(core.now_ms)] == [COLD]


def do_a_step(core: Core, *, ends: bool) -> None:
    """Let the call that runs make a step, and save; and end if it `ends`."""
    call = core.running[0]
    start = ({"n": b"0"}, 1)
    core.partition.journalled.step(call, [Scheduled(1, "run", "dice", None)], start, "go")
    core.partition.journalled.step_done(call, 1, 0, b"6")
    core.partition.journalled.saved(call, {"n": b"half"}, start, 1, [Saved()])
    if ends:
        core.returned({"n": b"1"})
    core.sync()


def rows_of_calls(core: Core) -> list[bytes]:
    return [key for key in core.rows.rows if key[:1] in (b"p", b"e")]


def test_the_store_never_hears_of_a_call_with_steps_that_has_ended_before() -> None:
    core = Core()
    core.create()
    core.apply()
    core.call(2, "long")
    do_a_step(core, ends=True)

    batch = core.memory.take_batch()

    assert batch is not None
    assert batch.deletes == []
    assert not [key for key, _ in batch.puts if key[:1] in (b"p", b"e")]


def test_the_store_has_a_call_with_steps_until_it_has_ended() -> None:
    core = Core()
    core.create()
    core.call(2, "long")
    do_a_step(core, ends=False)
    core.apply()
    assert len(rows_of_calls(core)) == 1 + 3
    core.trim()
    core.crash()
    [call] = core.running
    assert call.progress is not None
    assert [type(event) for event in call.progress.events] == [Scheduled, Done, Saved]

    core.returned({"n": b"1"})
    core.call(3, "long")
    do_a_step(core, ends=True)
    core.apply()

    assert rows_of_calls(core) == []
    core.trim()
    core.crash()
    assert core.running == []
    assert core.image() == {"n": b"1"}
