"""Runs methods: from an admitted call to what the partition is told of its end.

A call that does not wait for anything is run to its end at once. Otherwise its coroutine goes on
in a task of its own, which ends with the method and with nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from perdure import codec, jsonvalue
from perdure.bodies import pack_error
from perdure.context import current_turn
from perdure.errors import (
    BadArguments,
    BadPayload,
    Code,
    ResultNotStorable,
    ResultTooLarge,
    StateNotStorable,
    UnknownType,
    code_of,
)
from perdure.frames import Encoding, Kind
from perdure.objects import Method, ObjectType, find_type
from perdure_node.activation import Activation, changed_attributes
from perdure_node.arguments import arguments_of
from perdure_node.awakening import activation_of, invoked, is_awake, wake
from perdure_node.beginning import Beginnings
from perdure_node.catalog import Found
from perdure_node.clock import Clock
from perdure_node.core.calls import Call, Refusal
from perdure_node.core.cancelling import Stop
from perdure_node.core.events import Effect
from perdure_node.core.limits import Limits
from perdure_node.core.partition import Partition
from perdure_node.driving import Driving
from perdure_node.inlining import Waits, waits_of
from perdure_node.method_task import MethodTask, run_to_its_end, watched
from perdure_node.performer import Performer
from perdure_node.retries import Retries, failure_of
from perdure_node.rounds import Rounds
from perdure_node.runs.driver import RunDriver
from perdure_node.signals import CannotGoOn
from perdure_node.steps import QUIET_ROUNDS
from perdure_node.stepwise import Stepwise
from perdure_node.surroundings import Surroundings
from perdure_node.turn import MethodTurn

if TYPE_CHECKING:
    from perdure.client import Client

__all__ = ["Executor"]

_log = logging.getLogger("perdure.node")

# Members of an enum cost ten times as much to look up.
_GET_OR_CREATE: Final = int(Kind.GET_OR_CREATE)
_JSON: Final = int(Encoding.JSON)
_NEVER: Final = Waits.NEVER
_FOR_STEPS: Final = Waits.FOR_STEPS
_AT_WILL: Final = Waits.AT_WILL

# Each call needs them, and so they need no look-up where modules are compiled.
_set_turn: Final = current_turn.set
_reset_turn: Final = current_turn.reset


class Executor:
    """Runs the methods of one node's objects."""

    def __init__(
        self,
        client: Client,
        limits: Limits,
        clock: Clock,
        performer: Performer,
        flush: Callable[[Partition], None],
        driving: Driving,
    ) -> None:
        self._clock = clock
        self._result_bytes_max = limits.result_bytes_max
        self._flush = flush
        self._loop = asyncio.get_running_loop()
        rounds = Rounds(self._loop, QUIET_ROUNDS)
        self._node = Surroundings(client, limits, performer, flush, driving, rounds)
        self._tasks: dict[MethodTask, MethodTurn] = {}
        self._shared: dict[Call, MethodTurn] = {}
        """Shared calls that wait for something: others of their objects run beside them."""
        self._waits: dict[Method, Waits] = {}
        self.beginnings = Beginnings()
        self.stepwise: set[Stepwise] = set()
        """Runs of methods that wait for nothing but steps, while they wait."""
        self._closing = False
        self._retries = Retries(limits, self.run)
        self.runs = RunDriver(self._node)

    def run(self, partition: Partition, call: Call) -> None:
        """Run a call of `Ready.runs`. The partition is told of its end now or later."""
        if call.run is not None:
            self.runs.begin(partition, call)
            return
        earlier: MethodTurn | None = call.turn
        if earlier is not None and earlier.killed:
            return
        request = call.request
        found: Found | None = call.target.found or _found(partition, call)
        if found is None:
            return
        object_type, method = found.type, found.method
        call.turn = turn = MethodTurn(partition, call, method, self._node)
        if earlier is not None and earlier.given_up:
            turn.take_over(earlier)
        if request.kind == _GET_OR_CREATE:
            coroutine = self._create(turn, object_type)
            if object_type.has_on_activate:
                self._start(coroutine, turn)
            else:
                run_to_its_end(coroutine, turn)
            return
        assert method is not None
        try:
            args, kwargs = arguments_of(method, request)
        except Exception as error:
            self._refuse(turn, error)
            return
        waits = self._waits.get(method)
        if waits is None:
            waits = self._look_at(method, object_type)
        if object_type.has_on_activate and not is_awake(call, object_type):
            waits = _AT_WILL  # Its hook may wait for anything.
        if waits is _NEVER:
            self._run_at_once(turn, method, object_type, args, kwargs)
        elif waits is _FOR_STEPS and call.progress is None and turn.cancelled is None:
            context = copy_context()
            context.run(self._run_stepwise, context, turn, method, object_type, args, kwargs)
        else:
            whole = partial(self._invoke, turn, object_type, args, kwargs)
            self._start(self._conclude(turn, whole), turn)

    def stop(self, partition: Partition, stop: Stop) -> None:
        """End a method that runs, or (`kill`) that is about to run again."""
        call = stop.call
        if call.run is not None:
            self.runs.hear(partition, stop)
            return
        turn: MethodTurn | None = call.turn
        if turn is None and stop.kill:
            turn = call.turn = MethodTurn(partition, call, None, self._node)
        if turn is None or turn.over:
            return
        if not stop.kill:
            if call.progress is not None:
                # In the order of its journal, as in every later run.
                turn.steps.grown()
                turn.steps.pump()
            else:
                turn.cancel(stop.reason)
            self._retries.hurry(turn)
            return
        turn.killed = True
        assert call.state is not None
        call.state.forget_instance()
        what = f"{call.key}.{call.request.method}"
        self._end(turn, *pack_error(Code.CANCELLED, (what, stop.reason)), {})
        if turn.stepwise is not None:
            turn.stepwise.into_task()
            # Soon, because one that has not begun would not get to its own end.
            self._loop.call_soon(cast("MethodTask", turn.task).end)
        elif turn.task is not None:
            turn.task.end()

    def _look_at(self, method: Method, object_type: ObjectType) -> Waits:
        """Find out what a method waits for."""
        waits = waits_of(object_type.cls, method.function) if method.is_async else _NEVER
        self._waits[method] = waits
        return waits

    async def close(self) -> None:
        """End the methods that still run, as a crash would: they go on after the next start."""
        self._closing = True
        self._retries.close()
        self.runs.close()
        for method in list(self.stepwise):
            method.into_task()
        if self._tasks:
            # Those that have not begun would not get to their own ends.
            await asyncio.sleep(0)
        tasks = list(self._tasks)
        for task, turn in self._tasks.items():
            # It cleans up for a stop that its object knows nothing of: none of that counts.
            turn.give_up()
            task.end()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)

    @property
    def running(self) -> int:
        """Methods that wait for something."""
        return len(self._tasks) + len(self.stepwise)

    def _refuse(self, turn: MethodTurn, error: Exception) -> None:
        """End a call whose arguments are none for its method."""
        call = turn.admitted
        if isinstance(error, (BadArguments, BadPayload)):
            code = Code.TOO_DEEP if isinstance(error, codec.TooDeep) else code_of(error)
            refusal = Refusal(code, error.args)
        else:
            # A bug of ours, or of a class that the arguments are made of.
            _log.error("the arguments of a call to %s could not be read", call.key, exc_info=error)
            text = "the node has failed on the arguments of this call: it did not run"
            refusal = Refusal(Code.INTERNAL, (text,))
        turn.partition.method_refused(call, refusal)

    def _start(self, coroutine: Coroutine[Any, Any, None], turn: MethodTurn) -> None:
        """Run a call in a task of its own."""
        if turn.admitted.shared:
            self._shared[turn.admitted] = turn
        context = copy_context()
        context.run(current_turn.set, turn)
        noted = turn.driven(coroutine)
        task = MethodTask(noted, loop=self._loop, context=context, name=str(turn.admitted.key))
        turn.task = task
        self._tasks[task] = turn
        task.add_done_callback(self._ended)
        if turn.cancelled is not None:
            # It has heard of it before it had a task.
            turn.cancel(turn.cancelled)
        if turn.admitted.progress is not None:
            # Once it waits: it may have to hear there what it heard in an earlier run.
            self._loop.call_soon(turn.steps.pump)

    def _ended(self, task: MethodTask) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            # What methods raise never comes here.
            _log.error("a call to %s could not be ended", task.get_name(), exc_info=error)

    # The two kinds of run.

    async def _create(self, turn: MethodTurn, object_type: ObjectType) -> None:
        partition, call = turn.partition, turn.admitted
        try:
            activation = Activation(object_type, object_type.new(call.key.id))
            turn.activation = activation
            activation.instance._perdure_turn = turn
            await wake(turn, activation)
            # What `on_activate` has saved is part of the creation.
            activation.seen.clear()
            values = changed_attributes(activation, call.key, {}, 0)
        except BaseException as error:
            if self._closing:
                return
            self._end(turn, *failure_of(turn, error), {})
            if isinstance(error, KeyboardInterrupt):
                raise
            return
        if self._closing:
            return
        turn.leave()
        partition.memory.now_ms = self._clock.monotonic_ms()
        partition.method_returned(
            call, 0, b"", values, created=True, state_version=object_type.state_version
        )
        state = partition.memory.state(call.key)
        if state is not None and state.image is not None:
            state.instance = activation
        turn.part()
        self._flush(partition)

    def _run_at_once(
        self,
        turn: MethodTurn,
        method: Method,
        object_type: ObjectType,
        args: list[Any],
        kwargs: dict[str, Any],
    ) -> None:
        """Run a call whose method is not expected to wait for anything. If it does, a task goes on.

        The same as `_conclude`, without its coroutines: they would cost as much as a small method.
        """
        token = _set_turn(turn)
        try:
            result = invoked(turn, method, object_type, args, kwargs)
            if method.is_async or isinstance(result, Coroutine):
                rest, result = self.beginnings.begin(result)
                if rest is not None:
                    turn.is_alone = False  # Or so it may be: nobody has watched it.
                    self.go_on_in_task(turn, partial(watched, rest, turn, result))
                    return
        except BaseException as error:
            self.raised(turn, error)
        else:
            self.returned(turn, result)
        finally:
            _reset_turn(token)

    def _run_stepwise(
        self,
        context: Context,
        turn: MethodTurn,
        method: Method,
        object_type: ObjectType,
        args: list[Any],
        kwargs: dict[str, Any],
    ) -> None:
        """Run a call whose method is expected to wait for its steps and for nothing else."""
        current_turn.set(turn)
        try:
            coroutine = invoked(turn, method, object_type, args, kwargs)
        except BaseException as error:
            self.raised(turn, error)
            return
        Stepwise(self, turn, coroutine, context).go_on()

    def go_on_in_task(self, turn: MethodTurn, rest: Callable[[], Awaitable[Any]]) -> None:
        """Run the rest of a method in a task of its own, and end its call."""
        self._start(self._conclude(turn, rest), turn)

    def returned(self, turn: MethodTurn, result: object, *, is_over: bool = False) -> None:
        """End a call with the result of its method, and with the attributes that it has changed.

        Args:
            turn: The method's.
            result: What it has returned.
            is_over: All that it has begun is over, too. Else that is waited for.
        """
        call, activation = turn.admitted, turn.activation
        assert activation is not None
        try:
            if turn.has_steps and not is_over and turn.steps.finished() is not None:
                self.go_on_in_task(turn, partial(_given, result))
                return
            if turn.broken is not None:
                raise turn.broken
            if turn.has_steps:
                turn.steps.check_returned()
            payload = self._result(call, result)
            values = self._unchanged(turn) if call.shared else turn.changes()
        except BaseException as error:
            self.raised(turn, error)
            return
        if turn.folded:
            values = {**turn.folded, **values}
        self._end(turn, 0, payload, values, activation.type.state_version)

    async def _conclude(self, turn: MethodTurn, go_on: Callable[[], Awaitable[Any]]) -> None:
        """Run a method, or the rest of it, to its end; and then all that it has begun."""
        try:
            result = await go_on()
            if turn.has_steps and (open_steps := turn.steps.finished()) is not None:
                await open_steps
        except BaseException as error:
            self.raised(turn, error)
        else:
            self.returned(turn, result, is_over=True)

    async def _invoke(
        self, turn: MethodTurn, object_type: ObjectType, args: list[Any], kwargs: dict[str, Any]
    ) -> Any:
        state, method = turn.admitted.state, turn.method
        assert state is not None
        assert method is not None
        activation = activation_of(turn, object_type)
        while activation.pending:
            await wake(turn, activation)
            if state.instance is not activation:
                # Another call was waking it, and has failed.
                activation = activation_of(turn, object_type)
        context: Any = turn.context if method.context_parameter is not None else None
        result = method.invoke(activation.instance, context, args, kwargs)
        if method.is_async or isinstance(result, Coroutine):
            result = await watched(result, turn)
        return result

    def raised(self, turn: MethodTurn, error: BaseException) -> None:
        """End a call whose method has raised, or has left what cannot be stored."""
        if turn.over or self._closing:
            return  # It was killed, or goes on after the next start.
        call, activation = turn.admitted, turn.activation
        assert call.state is not None
        call.state.forget_instance()
        error = turn.broken or error
        if isinstance(error, CannotGoOn):
            if turn.has_steps:
                turn.steps.record()
            turn.leave()
            turn.partition.journalled.park(call, error.reason, error.code, error.payload)
            self._flush(turn.partition)
            return
        if activation is not None and activation.type.retries and self._retries.again(turn, error):
            return
        version = activation.type.state_version if turn.folded and activation else None
        self._end(turn, *failure_of(turn, error), turn.folded, version)
        if isinstance(error, KeyboardInterrupt):
            raise error

    def _end(
        self,
        turn: MethodTurn,
        code: int,
        payload: bytes,
        values: dict[str, bytes],
        version: int | None = None,
    ) -> None:
        if turn.over or self._closing:
            return  # It was killed meanwhile, or goes on after the next start.
        partition, call = turn.partition, turn.admitted
        turn.leave()
        partition.memory.now_ms = self._clock.monotonic_ms()
        if call.firing:
            # Its timer may be set again, for a time from now on.
            memory = partition.memory
            memory.time_ms = max(memory.time_ms, self._clock.wall_ms())
        if call.shared:
            if self._shared:
                self._shared.pop(call, None)
            partition.shared_returned(call, code, payload)
        else:
            made: list[Effect] = []
            effects: Sequence[Effect] = ()
            if turn.has_steps:
                made, calls = turn.steps.leave(failed=code != 0)
                effects = [*made, *calls]
            partition.method_returned(
                call,
                code,
                payload,
                values,
                state_version=version,
                saved=turn.saved,
                effects=effects,
            )
            if made:
                turn.depart(made)
        if not turn.killed:
            turn.part()
        self._flush(partition)

    # Steps of a run.

    def _unchanged(self, turn: MethodTurn) -> dict[str, bytes]:
        """Check that a shared call has changed nothing."""
        activation = turn.activation
        assert activation is not None
        values = turn.changes()
        if not (values or activation.uncommitted or turn.spoilt):
            return values
        if activation.uncommitted:
            activation.seen.clear()
        if turn.spoilt or values != (activation.uncommitted or {}):
            for beside in self._shared.values():
                beside.spoilt |= beside.activation is activation
            path = ".".join((str(turn.admitted.key), *sorted(values)[:1]))
            raise StateNotStorable(path, "changed by a @durable.shared method, which only reads")
        return {}

    def _result(self, call: Call, result: object) -> bytes:
        try:
            if call.request.encoding == _JSON:
                payload = jsonvalue.to_json(result)
            else:
                payload = codec.encode(result)
        except codec.NotEncodable as error:
            what = f"{call.key}.{call.request.method}()"
            raise ResultNotStorable(f"{what}{error.path}", error.problem) from None
        if len(payload) > self._result_bytes_max:
            what = f"{call.key}.{call.request.method}()"
            raise ResultTooLarge(what, len(payload), self._result_bytes_max)
        return payload


def _found(partition: Partition, call: Call) -> Found | None:
    """Find what is called; None: the call has been refused."""
    request = call.request
    try:
        object_type = find_type(request.type)
    except UnknownType as error:
        partition.method_refused(call, Refusal(Code.UNKNOWN_TYPE, error.args))
        return None
    return Found(object_type, object_type.methods.get(request.method))


async def _given(result: object) -> object:
    """Return what is there already."""
    return result
