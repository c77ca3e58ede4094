"""Runs methods: from an admitted call to what the partition is told of its end.

A call that does not wait for anything is run to its end at once. Otherwise its coroutine goes on
in a task of its own, which ends with the method and with nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from perdure import codec, jsonvalue
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
from perdure.frames import Encoding, Kind, pack_error
from perdure.objects import Method, ObjectType, find_type
from perdure_node.activation import Activation, activate, changed_attributes
from perdure_node.arguments import arguments_of
from perdure_node.clock import Clock
from perdure_node.core.calls import Call, Refusal
from perdure_node.core.cancelling import Stop
from perdure_node.core.events import Effect
from perdure_node.core.limits import Limits
from perdure_node.core.partition import Partition
from perdure_node.driving import Driving
from perdure_node.inlining import never_waits
from perdure_node.method_task import MethodTask, run_to_its_end, watched
from perdure_node.retries import Retries, failure_of
from perdure_node.signals import CannotGoOn
from perdure_node.steps import Performer
from perdure_node.turn import MethodTurn

if TYPE_CHECKING:
    from perdure.client import Client

__all__ = ["Executor"]

_log = logging.getLogger("perdure.node")


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
        self._driving = driving
        self._client = client
        self._performer = performer
        self._clock = clock
        self._limits = limits
        self._flush = flush
        self._loop = asyncio.get_running_loop()
        self._tasks: set[MethodTask] = set()
        self._shared: dict[Call, MethodTurn] = {}
        self._at_once: dict[Method, bool] = {}
        self._closing = False
        self._retries = Retries(limits, self.run)

    def run(self, partition: Partition, call: Call) -> None:
        """Run a call of `Ready.runs`. The partition is told of its end now or later."""
        if call.turn is not None and call.turn.killed:
            return
        try:
            object_type = find_type(call.request.type)
        except UnknownType as error:
            partition.method_refused(call, Refusal(Code.UNKNOWN_TYPE, error.args))
            return
        method = object_type.methods.get(call.request.method)
        turn = self._turn(partition, call, method)
        if call.shared:
            self._shared[call] = turn
        if call.request.kind == Kind.GET_OR_CREATE:
            coroutine = self._create(turn, object_type)
            if object_type.has_on_activate:
                self._start(coroutine, turn)
            else:
                run_to_its_end(coroutine, turn)
        else:
            assert method is not None
            try:
                args, kwargs = arguments_of(method, call.request)
            except (BadArguments, BadPayload) as error:
                code = Code.TOO_DEEP if isinstance(error, codec.TooDeep) else code_of(error)
                self._refuse(turn, Refusal(code, error.args))
                return
            except Exception:
                # A bug of ours, or of a class that the arguments are made of.
                _log.exception("the arguments of a call to %s could not be read", call.key)
                text = "the node has failed on the arguments of this call: it did not run"
                self._refuse(turn, Refusal(Code.INTERNAL, (text,)))
                return
            if self._runs_at_once(turn, object_type, method):
                self._run_at_once(turn, object_type, args, kwargs)
            else:
                self._start(self._call(turn, object_type, args, kwargs), turn)

    def _turn(self, partition: Partition, call: Call, method: Method | None) -> MethodTurn:
        turn = MethodTurn(
            partition, call, self._client, method, self._performer, self._limits, self._flush
        )
        earlier: MethodTurn | None = call.turn
        if earlier is not None and earlier.given_up:
            turn.take_over(earlier)
        call.turn = turn
        turn.driving = self._driving
        return turn

    def stop(self, partition: Partition, stop: Stop) -> None:
        """End a method that runs, or (`kill`) that is about to run again."""
        call = stop.call
        turn: MethodTurn | None = call.turn
        if turn is None and stop.kill:
            turn = self._turn(partition, call, None)
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
        if turn.task is not None:
            turn.task.end()

    async def close(self) -> None:
        """End the methods that still run, as a crash would."""
        self._closing = True
        self._retries.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.end()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)

    @property
    def running(self) -> int:
        """Methods that wait for something."""
        return len(self._tasks)

    def _refuse(self, turn: MethodTurn, refusal: Refusal) -> None:
        self._shared.pop(turn.admitted, None)
        turn.partition.method_refused(turn.admitted, refusal)

    def _start(self, coroutine: Coroutine[Any, Any, None], turn: MethodTurn) -> None:
        """Run a call in a task of its own."""
        context = copy_context()
        context.run(current_turn.set, turn)
        noted = turn.driven(coroutine)
        task = MethodTask(noted, loop=self._loop, context=context, name=str(turn.admitted.key))
        turn.task = task
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        if turn.cancelled is not None:
            # It has heard of it before it had a task.
            turn.cancel(turn.cancelled)
        if turn.admitted.progress is not None:
            # Once it waits: it may have to hear there what it heard in an earlier run.
            self._loop.call_soon(turn.steps.pump)

    def _ended(self, task: MethodTask) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # What methods raise never comes here.
            _log.error("a call to %s could not be ended", task.get_name(), exc_info=error)

    def _runs_at_once(self, turn: MethodTurn, object_type: ObjectType, method: Method) -> bool:
        """Tell whether a call can be run to its end without a task."""
        if object_type.has_on_activate:
            state = turn.admitted.state
            activation: Activation | None = None if state is None else state.instance
            if activation is None or activation.pending or activation.type is not object_type:
                return False
        at_once = self._at_once.get(method)
        if at_once is None:
            at_once = not method.is_async or never_waits(object_type.cls, method.function)
            self._at_once[method] = at_once
        return at_once

    # The two kinds of run.

    async def _create(self, turn: MethodTurn, object_type: ObjectType) -> None:
        partition, call = turn.partition, turn.admitted
        try:
            activation = Activation(object_type, object_type.new(call.key.id))
            turn.activation = activation
            activation.instance._perdure_turn = turn
            await self._wake(turn, activation)
            # What `on_activate` has saved is part of the creation.
            activation.seen.clear()
            values = changed_attributes(activation, call.key, {}, 0)
        except BaseException as error:
            if self._closing and isinstance(error, asyncio.CancelledError):
                return
            self._end(turn, *failure_of(turn, error), {})
            if isinstance(error, KeyboardInterrupt):
                raise
            return
        turn.leave()
        partition.now_ms = partition.memory.now_ms = self._clock.monotonic_ms()
        partition.method_returned(
            call, 0, b"", values, created=True, state_version=object_type.state_version
        )
        state = partition.memory.state(call.key)
        if state is not None and state.image is not None:
            state.instance = activation
        turn.part()
        self._flush(partition)

    def _run_at_once(
        self, turn: MethodTurn, object_type: ObjectType, args: list[Any], kwargs: dict[str, Any]
    ) -> None:
        """Run a call whose method is not expected to wait for anything. If it does, a task goes on.

        The same as `_call`, without its coroutines: they would cost as much as a small method.
        """
        method = turn.method
        assert method is not None
        token = current_turn.set(turn)
        try:
            activation = self._activation(turn, object_type)
            if activation.pending:
                activation.pending = False
                self._note_uncommitted(turn, activation)
            context: Any = turn.context if method.context_parameter is not None else None
            result = method.invoke(activation.instance, context, args, kwargs)
            if method.is_async or isinstance(result, Coroutine):
                try:
                    waits_for = result.send(None)
                except StopIteration as stop:
                    result = stop.value
                else:
                    self._start(self._go_on(turn, result, waits_for), turn)
                    return
            if turn.has_steps and (open_steps := turn.steps.finished()) is not None:
                self._start(self._finish_later(turn, result, open_steps), turn)
                return
            payload, values = self._returned(turn, result)
        except BaseException as error:
            self._raised(turn, error)
            return
        finally:
            current_turn.reset(token)
        self._end(turn, 0, payload, values, object_type.state_version)

    async def _finish_later(
        self, turn: MethodTurn, result: object, open_steps: asyncio.Future[None]
    ) -> None:
        """End a call whose method has returned before all that it has begun was over."""
        assert turn.activation is not None
        try:
            await open_steps
            payload, values = self._returned(turn, result)
        except BaseException as error:
            self._raised(turn, error)
            return
        self._end(turn, 0, payload, values, turn.activation.type.state_version)

    async def _go_on(
        self, turn: MethodTurn, coroutine: Coroutine[Any, Any, Any], waits_for: Any
    ) -> None:
        """Go on with a method that has been driven up to its first wait."""
        assert turn.activation is not None
        try:
            result = await watched(coroutine, turn, waits_for)
            await _open_steps(turn)
            payload, values = self._returned(turn, result)
        except BaseException as error:
            self._raised(turn, error)
            return
        self._end(turn, 0, payload, values, turn.activation.type.state_version)

    async def _call(
        self, turn: MethodTurn, object_type: ObjectType, args: list[Any], kwargs: dict[str, Any]
    ) -> None:
        state, method = turn.admitted.state, turn.method
        assert state is not None
        assert method is not None
        try:
            activation = self._activation(turn, object_type)
            while activation.pending:
                await self._wake(turn, activation)
                if state.instance is not activation:
                    # Another call was waking it, and has failed.
                    activation = self._activation(turn, object_type)
            context: Any = turn.context if method.context_parameter is not None else None
            result = method.invoke(activation.instance, context, args, kwargs)
            if method.is_async or isinstance(result, Coroutine):
                result = await watched(result, turn)
            await _open_steps(turn)
            payload, values = self._returned(turn, result)
        except BaseException as error:
            self._raised(turn, error)
            return
        self._end(turn, 0, payload, values, object_type.state_version)

    def _returned(self, turn: MethodTurn, result: object) -> tuple[bytes, dict[str, bytes]]:
        """Return the encoded result of a method, and the attributes that it has changed."""
        if turn.broken is not None:
            raise turn.broken
        if turn.has_steps:
            turn.steps.check_returned()
        payload = self._result(turn.admitted, result)
        values = self._unchanged(turn) if turn.admitted.shared else turn.changes()
        return payload, {**turn.folded, **values} if turn.folded else values

    def _raised(self, turn: MethodTurn, error: BaseException) -> None:
        """End a call whose method has raised, or has left what cannot be stored."""
        if turn.over or (self._closing and isinstance(error, asyncio.CancelledError)):
            return  # It was killed, or goes on after the next start.
        call, activation = turn.admitted, turn.activation
        assert call.state is not None
        call.state.forget_instance()
        error = turn.broken or error
        if isinstance(error, CannotGoOn):
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
        partition, call = turn.partition, turn.admitted
        if turn.over:
            return  # It was killed meanwhile.
        turn.leave()
        partition.now_ms = partition.memory.now_ms = self._clock.monotonic_ms()
        if call.firing:
            # Its timer may be set again, for a time from now on.
            memory = partition.memory
            memory.time_ms = max(memory.time_ms, self._clock.wall_ms())
        if call.shared:
            del self._shared[call]
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

    def _activation(self, turn: MethodTurn, object_type: ObjectType) -> Activation:
        call = turn.admitted
        state = call.state
        assert state is not None
        activation: Activation | None = state.instance
        if activation is None or activation.type is not object_type or call.progress is not None:
            if call.progress is None:
                activation = activate(
                    object_type, state.key, state.state_version, state.image or {}
                )
            else:
                # A second run begins where the first one did, which is not what is committed.
                began = call.progress
                activation = activate(
                    object_type, state.key, began.start_version, began.start_image
                )
                activation.seen.clear()
            state.instance = activation
        turn.activation = activation
        activation.instance._perdure_turn = turn
        return activation

    async def _wake(self, turn: MethodTurn, activation: Activation) -> None:
        """Run `on_activate`, in the turn of the first call; shared ones beside it wait.

        When it fails for another call, the activation is still pending.
        """
        if not activation.type.has_on_activate:
            activation.pending = False
        elif activation.waking is not None:
            await asyncio.shield(activation.waking)
            if activation.pending:
                return
        else:
            activation.waking = self._loop.create_future()
            turn.waking = True
            try:
                hook = activation.instance.on_activate()  # type: ignore[attr-defined]
                await watched(hook, turn)
                activation.pending = False
            finally:
                turn.waking = False
                activation.waking.set_result(None)
        self._note_uncommitted(turn, activation)

    @staticmethod
    def _note_uncommitted(turn: MethodTurn, activation: Activation) -> None:
        """Keep apart what an activation has changed from what a shared method changes."""
        if turn.admitted.shared and activation.uncommitted is None:
            activation.uncommitted = turn.changes()
            # They are still to be committed, so they must be found again.
            activation.seen.clear()

    def _unchanged(self, turn: MethodTurn) -> dict[str, bytes]:
        """Check that a shared call has changed nothing."""
        activation = turn.activation
        assert activation is not None
        values = turn.changes()
        if activation.uncommitted:
            activation.seen.clear()
        if turn.spoilt or values != (activation.uncommitted or {}):
            for beside in self._shared.values():
                beside.spoilt |= beside.activation is activation
            path = ".".join((str(turn.admitted.key), *sorted(values)[:1]))
            raise StateNotStorable(path, "changed by a @durable.shared method, which only reads")
        return {}

    def _result(self, call: Call, result: object) -> bytes:
        request = call.request
        try:
            if request.encoding == Encoding.JSON:
                payload = jsonvalue.to_json(result)
            else:
                payload = codec.encode(result)
        except codec.NotEncodable as error:
            what = f"{call.key}.{request.method}()"
            raise ResultNotStorable(f"{what}{error.path}", error.problem) from None
        if len(payload) > self._limits.result_bytes_max:
            what = f"{call.key}.{request.method}()"
            raise ResultTooLarge(what, len(payload), self._limits.result_bytes_max)
        return payload


async def _open_steps(turn: MethodTurn) -> None:
    """Wait for steps that nobody awaits: they run to their end."""
    if turn.has_steps and (open_steps := turn.steps.finished()) is not None:
        await open_steps
