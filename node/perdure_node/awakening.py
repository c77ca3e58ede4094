"""How a method begins on its object: the activation, `on_activate`, and its code is called."""

from __future__ import annotations

import asyncio
from typing import Any

from perdure.objects import Method, ObjectType
from perdure_node.activation import Activation, activate
from perdure_node.catalog import Found
from perdure_node.core.calls import Call
from perdure_node.method_task import watched
from perdure_node.turn import MethodTurn

__all__ = ["activation_of", "invoked", "is_awake", "note_uncommitted", "wake"]


def activation_of(turn: MethodTurn, object_type: ObjectType) -> Activation:
    """Return the activation that a method runs on, which may have to wake; it is the turn's now."""
    call = turn.admitted
    state = call.state
    assert state is not None
    activation: Activation | None = state.instance
    if activation is None or activation.type is not object_type or call.progress is not None:
        if call.progress is None:
            activation = activate(object_type, state.key, state.state_version, state.image or {})
        else:
            # A second run begins where the first one did, which is not what is committed.
            began = call.progress
            activation = activate(object_type, state.key, began.start_version, began.start_image)
            activation.seen.clear()
        state.instance = activation
    turn.activation = activation
    activation.instance._perdure_turn = turn
    return activation


async def wake(turn: MethodTurn, activation: Activation) -> None:
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
        activation.waking = turn.rounds.loop.create_future()
        turn.waking = True
        try:
            hook = activation.instance.on_activate()  # type: ignore[attr-defined]
            await watched(hook, turn)
            activation.pending = False
        finally:
            turn.waking = False
            activation.waking.set_result(None)
    note_uncommitted(turn, activation)


def note_uncommitted(turn: MethodTurn, activation: Activation) -> None:
    """Keep apart what an activation has changed from what a shared method changes."""
    if turn.admitted.shared and activation.uncommitted is None:
        activation.uncommitted = turn.changes()
        # They are still to be committed, so they must be found again.
        activation.seen.clear()


def is_awake(call: Call, object_type: ObjectType) -> bool:
    """Tell whether the object's `on_activate` has run."""
    state = call.state
    activation: Activation | None = None if state is None else state.instance
    return activation is not None and not activation.pending and activation.type is object_type


def invoked(
    turn: MethodTurn,
    method: Method,
    object_type: ObjectType,
    args: list[Any],
    kwargs: dict[str, Any],
) -> Any:
    """Call a method on its object, for which no `on_activate` has to run any more."""
    activation = activation_of(turn, object_type)
    if activation.pending:
        activation.pending = False
        note_uncommitted(turn, activation)
    found: Found | None = turn.admitted.target.found
    if found is not None and found.function is not None:
        function = found.function
        if kwargs or len(args) > 1:
            return function(activation.instance, *args, **kwargs)
        # Most calls: what takes arguments apart costs as much as a small method.
        return function(activation.instance, args[0]) if args else function(activation.instance)
    context: Any = turn.context if method.context_parameter is not None else None
    return method.invoke(activation.instance, context, args, kwargs)
