"""The turn of one call: what its method may do while it runs."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from perdure import codec
from perdure.client import Answer
from perdure.context import DurableContext, StepResult, TimerSetting
from perdure.frames import Encoding, Kind, Reply
from perdure.ids import ObjectKey, partition_of
from perdure.objects import Method
from perdure_node.activation import Activation, changed_attributes
from perdure_node.core.calls import Call
from perdure_node.core.chains import chain_inside
from perdure_node.core.events import Effect, Event, OutboxEntry, Saved
from perdure_node.core.firings import id_of
from perdure_node.core.journalled import SavedPart
from perdure_node.core.limits import Limits
from perdure_node.core.partition import Partition
from perdure_node.core.reader import READS
from perdure_node.delivery import arrived, deliver
from perdure_node.driving import DrivenCoroutine, Driving
from perdure_node.method_task import MethodTask
from perdure_node.method_timers import cancel_timer, set_timer, timers_of
from perdure_node.rounds import Rounds
from perdure_node.signals import CannotGoOn, OwnershipLost
from perdure_node.step_answer import answer_of
from perdure_node.steps import Steps
from perdure_node.surroundings import Surroundings

if TYPE_CHECKING:
    from perdure.client import Client
    from perdure_node.stepwise import Stepwise

__all__ = ["MethodTurn"]

T = TypeVar("T")

_log = logging.getLogger("perdure.node")


_BESIDE: Final = frozenset((Kind.CANCEL, Kind.ASK))

# Members of an enum cost ten times as much to look up.
_CALL: Final = int(Kind.CALL)

_NOTHING: Final[dict[str, bytes]] = {}
"""Never changed."""


class MethodTurn:
    """One run of one method: a `context.Turn`.

    `save()` only notes what has changed. A record of its own is made when the method suspends
    afterwards, because only then can the node die with the call half done; else it becomes part
    of the one record at the end.
    """

    # Not in `__init__`, and no slots: most turns change none of them.
    activation: Activation | None = None
    saved = False
    saves = 0
    over = False
    spoilt = False
    """A shared call beside this one has changed the state under it."""
    waking = False
    """`on_activate` runs."""
    unwritten = 0
    """How many `save()` are not in a record yet."""
    _context: DurableContext | None = None
    steps_type: ClassVar[type[Steps]] = Steps
    _steps: Steps | None = None
    has_steps = False
    """The method has asked for some, now or in an earlier run."""
    folded = _NOTHING
    """Saved, and not in a record yet."""
    broken: CannotGoOn | None = None
    """The method has asked for what its journal does not have; whatever it says now is void."""
    cancelled: str | None = None
    """Somebody wants the call to end, and why."""
    killed = False
    """Its outcome is decided: whatever its code still does is void."""
    given_up = False
    """The method has raised, and the call is to run again in another turn."""
    task: MethodTask | None = None
    """What the method runs in, once it has waited for something else than its steps."""
    stepwise: Stepwise | None = None
    """What wakes it, while it waits for a step and has no task."""
    is_noted = False
    """It is noted already that its code runs."""
    waits_for: Any = None
    """What the method has yielded to its task, while it waits."""
    is_alone = True
    """The method has made no task by now."""

    def __init__(
        self, partition: Partition, call: Call, method: Method | None, node: Surroundings
    ) -> None:
        state = call.state
        assert state is not None
        self.partition = partition
        self.admitted = call
        self.method = method
        self._node = node
        self.start_image: dict[str, bytes] = state.image or _NOTHING
        self.start_version = state.state_version
        if call.progress is not None:
            self.start_image = call.progress.start_image
            self.start_version = call.progress.start_version
            self._steps = self.steps_type(self, node.performer)
            self.has_steps = True

    @property
    def client(self) -> Client:
        """Makes the calls of this node."""
        return self._node.client

    @property
    def rounds(self) -> Rounds:
        """Those of the node's loop."""
        return self._node.rounds

    @property
    def limits(self) -> Limits:
        """Those of this node."""
        return self._node.limits

    @property
    def driving(self) -> Driving:
        """Where it is noted when code of the call runs."""
        return self._node.driving

    @property
    def what(self) -> str:
        """What runs, for people."""
        return f"{self.admitted.key}.{self.admitted.request.method}"

    @property
    def partition_count(self) -> int | None:
        """How many partitions the cluster has."""
        return self.client.partition_count

    @property
    def context(self) -> DurableContext:
        """What the method's `ctx` is."""
        context = self._context
        if context is None:
            call = self.admitted
            context = self._context = DurableContext(
                call.key,
                call.request.method,
                id_of(call, self.partition.number),
                attempt=self.attempt,
                key=call.request.key,
            )
        return context

    def save(self) -> None:
        """Make a commit point of the state as it is now."""
        if self.partition.stopped is not None:
            raise OwnershipLost(self.partition.stopped.code.name)
        if self.over or self.given_up:
            raise RuntimeError("save() after the call was over")
        if self.admitted.shared:
            raise RuntimeError("save() in a @durable.shared method: it may not change state")
        self.saved = True
        self.saves += 1
        if self._steps is not None and not self._steps.saved():
            # It is in the journal already, and is not made again by this run.
            return
        self.unwritten += 1
        changed = self.changes()
        if changed:
            self.folded = {**self.folded, **changed} if self.folded else changed

    def changes(self) -> dict[str, bytes]:
        """Return what differs from the last commit, or from the last `save()` after it."""
        activation, call = self.activation, self.admitted
        assert activation is not None
        state, folded = call.state, self.folded
        assert state is not None
        base, size = state.image or _NOTHING, state.size
        if folded:
            size += sum(len(value) - len(base.get(name, b"")) for name, value in folded.items())
            base = {**base, **folded}
        return changed_attributes(activation, call.key, base, size)

    def suspended(self) -> None:
        """The method waits for something: what it has saved gets a record now."""
        if self.unwritten and (saved := self.take_saved()) is not None:
            start = (self.start_image, self.start_version)
            self.partition.journalled.saved(
                self.admitted, saved.values, start, saved.state_version, saved.events, saved.effects
            )
            if self._steps is not None:
                self._steps.grown()
                self._steps.pump()
            self.depart(saved.effects)
            self.flush()

    def take_saved(self) -> SavedPart | None:
        """Return what was saved and is in no record yet, and forget it; None: nothing."""
        if not self.unwritten or self.admitted.request.kind != _CALL:
            return None
        assert self.activation is not None
        events, effects = ([], []) if self._steps is None else self._steps.take_saved()
        events += [Saved()] * self.unwritten
        saved = SavedPart(self.folded, self.activation.type.state_version, events, effects)
        self.unwritten, self.folded = 0, _NOTHING
        return saved

    # For the steps.

    @property
    def steps(self) -> Steps:
        """The steps of this run, which begin with the first."""
        if self._steps is None:
            self._steps = Steps(self, self._node.performer, self.saves)
            self.has_steps = True
        return self._steps

    @property
    def pending(self) -> list[Effect]:
        """What is made with the next commit of the state."""
        return [] if self._steps is None else self._steps.pending

    def awaits(self, step: int) -> bool:
        """Tell whether the method waits for a step that has no result."""
        return self._steps is not None and self._steps.awaits(step)

    @property
    def attempt(self) -> int:
        """How many times the call has been started, this one included, as far as is known."""
        return self.admitted.starts

    def check_step(self) -> None:
        """Refuse a step where there can be none.

        Raises:
            RuntimeError: Here nothing may be asked for: see `_refuse_effects`.
            OwnershipLost: The node must not act for the object any more.
        """
        if self.broken is not None:
            raise self.broken
        if self.partition.stopped is not None:
            raise OwnershipLost(self.partition.stopped.code.name)
        if self.over or self.given_up:
            raise RuntimeError("a step after the call was over: await it in the method")
        call = self.admitted
        if call.shared or self.waking:
            self._refuse_effects()
        if call.target.deferred:
            # What leaves must not depend on what a crash could take back. Changed or not: a second
            # run counts saves, and finds its changes committed.
            self.save()

    def schedule(
        self,
        events: Sequence[Event],
        saved: SavedPart | None,
        sends: Sequence[OutboxEntry],
        perform: Callable[[], None],
    ) -> None:
        """Have a step recorded; `perform` is called when it is durable, behind these sends.

        Args:
            events: The step, behind the values and sends that were decided before it.
            saved: What was saved before those, and is recorded with them.
            sends: Calls to the same object.
            perform: Makes the step.
        """
        partition = self.partition
        effects: Sequence[Effect] = sends
        if saved is not None and saved.effects:
            effects = [*saved.effects, *sends]
        leaves = functools.partial(self._leave, effects, perform) if effects else perform
        start = (self.start_image, self.start_version)
        partition.journalled.step(self.admitted, events, start, leaves, sends, saved)
        self._node.flush(partition)

    def _leave(self, effects: Sequence[Effect], perform: Callable[[], None]) -> None:
        for entry in _entries(effects):
            self._deliver(entry)
        perform()

    def depart(self, effects: Sequence[Effect]) -> None:
        """Let calls leave of which nobody here awaits the answer, once they are durable."""
        for entry in _entries(effects):
            self.partition.hold_all(functools.partial(self._deliver, entry))

    def _deliver(self, entry: OutboxEntry) -> None:
        deliver(self._node.performer, self.partition, entry, self._node.flush)

    def arrived(self, entry: OutboxEntry, future: asyncio.Future[StepResult]) -> None:
        """Take the answer to a call that the method has not waited for."""
        # One that was killed is in the outbox as what ends that call, and settles it.
        if not self.killed:
            arrived(self._node.performer, self.partition, entry, self._node.flush, future)

    def driven(self, work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """Return a coroutine that is this one, and of which it is noted when its code runs."""
        return DrivenCoroutine(work, self._node.driving, self.partition.number, self.admitted)

    def flush(self) -> None:
        """Tell the node that the partition has something to do."""
        self._node.flush(self.partition)

    def cancel(self, reason: str) -> None:
        """End the method, which may clean up."""
        self.cancelled = reason
        if self.task is not None:
            # Soon, because one that has not begun would not get to its own end.
            asyncio.get_running_loop().call_soon(self.task.cancel)
        elif self.stepwise is not None and self.waits_for is not None:
            self.stepwise.into_task()

    def give_up(self) -> None:
        """Take word that the method has raised, and will be run again in another turn."""
        self.given_up = True
        self._leave_instance()

    def leave(self) -> None:
        """Take word that the run is over: nothing more can be asked for."""
        self.over = True
        self._leave_instance()

    def _leave_instance(self) -> None:
        activation = self.activation
        if activation is not None and activation.instance._perdure_turn is self:
            activation.instance._perdure_turn = None

    def part(self) -> None:
        """Let go of what holds this turn, too: it would all have to wait for the collector."""
        self.admitted.turn = self._steps = self.task = None

    def take_over(self, earlier: MethodTurn) -> None:
        """Begin where an earlier run of the call has been given up."""
        self.cancelled = earlier.cancelled
        if earlier._steps is not None and self._steps is not None:
            self._steps = earlier._steps
            self._steps.serve(self)

    def _refuse_effects(self) -> None:
        """Refuse a call where it could be made twice.

        No record says that a shared method or an `on_activate` has run, so both run again: the
        first for a late copy of its call, the other whenever the object comes into memory.
        """
        type, method = self.admitted.key.type, self.admitted.request.method
        if self.waking:
            raise RuntimeError(
                f"a call inside of {type}.on_activate, which only rebuilds what is in memory: "
                f"call from a method"
            )
        if self.admitted.shared:
            raise RuntimeError(
                f"a call inside of {type}.{method}, a @durable.shared method, which only reads: "
                f"leave @durable.shared away, or use durable.refresh and attributes"
            )

    def call(
        self,
        target: ObjectKey,
        kind: Kind,
        method: str = "",
        *,
        arguments: bytes = b"",
        encoding: Encoding = Encoding.MSGPACK,
        key: str | None = None,
        timeout_s: float | None = 30.0,
        have: tuple[int, int] | None = None,
        partition: int | None = None,
    ) -> asyncio.Future[Answer]:
        """Call an object from inside of the method, or from a task that has outlived it.

        Raises:
            RuntimeError: Here nothing may be called: see `_refuse_effects`.
        """
        self._check_may_call(kind)
        if self.over or kind == Kind.LIST or not self._may_have_steps:
            return self._call_plainly(
                target, kind, method, arguments=arguments, encoding=encoding, key=key,
                timeout_s=timeout_s, have=have, partition=partition,
            )  # fmt: skip
        version = None if have is None else list(have)
        if kind in READS or kind in _BESIDE:
            return answer_of(self.steps.read(target, kind, method, version, arguments))
        entry = self._entry(target, kind, method, arguments, key)
        entry = entry._replace(
            encoding=int(encoding),
            have=version,
            start_by_ms=self._node.performer.wall_ms() + self.limits.nested_start_ms,
        )
        return answer_of(self.steps.call(entry, f"{target}.{method or kind.name.lower()}"))

    def _check_may_call(self, kind: Kind) -> None:
        """Refuse a call of code whose outcome is decided: reads do no harm."""
        if self.killed and kind not in READS:
            raise RuntimeError("a call after the method was killed")

    def _entry(
        self, target: ObjectKey, kind: Kind, method: str, arguments: bytes, key: str | None
    ) -> OutboxEntry:
        count = self.partition_count
        assert count is not None
        return OutboxEntry(
            partition_of(target, count), 0, *target, int(kind), method, 0, arguments, key, None,
            self.chain, 0,
        )  # fmt: skip

    @property
    def chain(self) -> list[list[str]]:
        """The calls that whatever this one calls is inside of."""
        return chain_inside(self.admitted.request)

    @property
    def _may_have_steps(self) -> bool:
        return self.admitted.request.kind == Kind.CALL and not (self.admitted.shared or self.waking)

    def _call_plainly(
        self, target: ObjectKey, kind: Kind, method: str, **options: Any
    ) -> asyncio.Future[Answer]:
        """Call as a client does: nothing of it is recorded."""
        if not self.over and kind not in READS:
            self._refuse_effects()
        return self.client.call(target, kind, method, **options)

    # Steps, as a context asks for them.

    def service(
        self, service: str, method: str, payload: bytes | None
    ) -> asyncio.Future[StepResult]:
        """See `context.Turn`."""
        return (self._steps or self.steps).service(service, method, payload)

    def run_step(self, name: str, function: Callable[[], Any]) -> asyncio.Future[StepResult]:
        """See `context.Turn`."""
        return self.steps.run(name, function)

    def sleep(self, until_ms: int) -> asyncio.Future[StepResult]:
        """See `context.Turn`."""
        return self.steps.sleep(until_ms)

    def value(self, name: str, make: Callable[[], bytes]) -> bytes:
        """See `context.Turn`."""
        if not self._may_have_steps:
            return make()
        return self.steps.value(name, make)

    def set_timer(self, timer: TimerSetting) -> None:
        """See `context.Turn`.

        Raises:
            TooManyTimers: The object has as many as it may have.
        """
        set_timer(self, timer)

    def cancel_timer(self, name: str) -> bool:
        """See `context.Turn`."""
        return cancel_timer(self, name)

    def timers(self) -> list[TimerSetting]:
        """See `context.Turn`."""
        return timers_of(self)

    def send(
        self, target: ObjectKey, method: str, arguments: bytes, due_ms: int, key: str | None
    ) -> asyncio.Future[Answer]:
        """See `context.Turn`."""
        entry = self._entry(target, Kind.SEND, method, arguments, key)
        # What was sent is not inside of this call: it may come back to this object.
        entry = entry._replace(chain=[], due_ms=due_ms)

        def make() -> tuple[None, OutboxEntry]:
            sequence = self.partition.memory.underway.next_sequence(entry.partition)
            return None, entry._replace(sequence=sequence)

        self.steps.commit_with("send", f"{target}.{method}", make)
        sent: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        sent.set_result(Answer(0, Reply(codec.encode(None), None, None)))
        return sent


def _entries(effects: Iterable[Effect]) -> list[OutboxEntry]:
    return [effect for effect in effects if isinstance(effect, OutboxEntry)]
