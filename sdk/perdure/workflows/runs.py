"""Runs of workflows, as those see them who start them and ask about them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar

from perdure import codec
from perdure.answers import Answer, error_of
from perdure.call import Call
from perdure.codec import decode, encode
from perdure.context import ctx
from perdure.errors import CallCancelled, RunExists, RunFailed
from perdure.frames import Kind, Reply
from perdure.ids import ObjectKey, check_object_id
from perdure.remote import current_caller
from perdure.runtime import current_client
from perdure.turn import current_turn
from perdure.workflows.definitions import WORKFLOW, WorkflowFunction
from perdure.workflows.events import RunEvent, events_of
from perdure.workflows.metadata import current_step
from perdure.workflows.streams import DEFAULT, Reading, check_stream, tail_index

__all__ = ["Run", "RunStatus", "get_run", "list_runs", "run_to_its_end", "start"]

_R = TypeVar("_R")

_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How a run stands."""

    id: str
    workflow: str
    version: str
    status: str
    """`running`, `completed`, `failed` or `cancelled`."""
    started_ms: int
    """Wall clock."""
    ended_ms: int
    """0 while it runs."""
    parent: str
    """The run that has started it; empty: there is none."""
    parked: str | None
    """Why it cannot go on until somebody decides about it; None: it can."""
    cancelling: bool
    """It was cancelled, and cleans up."""
    hooks: list[str]
    """The tokens that it holds."""
    generation: int
    """How often it was continued as new."""
    events: int
    """In its journal since then."""
    left: list[list[Any]]
    """`[token, payload]` of what came for its hooks and was not taken when it ended."""


class Run(Generic[_R]):
    """A run, known by its id. Having one means no I/O."""

    __slots__ = ("_id",)

    def __init__(self, id: str) -> None:
        self._id = check_object_id(id)

    def __repr__(self) -> str:
        return f"<run {self._id!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and other._id == self._id

    def __hash__(self) -> int:
        return hash((Run, self._id))

    @property
    def id(self) -> str:
        """The run's id."""
        return self._id

    def status(self) -> Call[RunStatus]:
        """Ask how the run stands.

        Raises:
            RunNotFound: There is no such run.
        """
        return self._ask("status", [], lambda value: RunStatus(**value))

    async def result(self) -> _R:
        """Wait for the end of the run, for ever, and return its result.

        Raises:
            RunFailed: It has ended with an error, which is the cause.
            CallCancelled: It was cancelled.
            Parked: It cannot go on until somebody decides about it.
            RunNotFound: There is no such run, or not any more: its time was over.
        """
        future = self._send(Kind.ASK, "result", [], None)
        answer = await Call(f"result of {self!r}", future, lambda reply: reply)
        code, payload = decode(answer.payload)
        if code == 0:
            result: _R = decode(payload)
            return result
        error = error_of(Answer(code, Reply(payload, None, None)))
        if isinstance(error, CallCancelled):
            raise error
        raise RunFailed(self._id, f"{type(error).__name__}: {error}") from error

    def cancel(self, reason: str = "on request") -> Call[bool]:
        """Cancel the run: `CancelledError` is raised where it waits, and it may clean up.

        One that is parked cannot clean up, and ends at once.

        Returns:
            Whether it was running. Of a run that has ended since, no: also when it has ended by
            this call, whose answer was lost with its node, so that it was sent again.
        """
        return self._ask("cancel", [reason], bool)

    def wake_up(self) -> Call[bool]:
        """End all sleeps of the run now. Returns whether there were any.

        Raises:
            RunNotFound: There is no such run.
        """
        future = self._send(Kind.WAKE, "", None, _TIMEOUT_S)
        return Call(f"wake_up of {self!r}", future, lambda reply: bool(decode(reply.payload)))

    def events(self, start: int = 0) -> Call[list[RunEvent]]:
        """Return what has happened in the run, 500 events at most, from one on.

        What was before the last `continue_as_new` is gone. There are no more events behind the
        last ones when there are none from `start` on.

        Raises:
            RunNotFound: There is no such run.
        """
        return self._ask("events", [start], lambda rows: events_of(rows, start))

    def readable(
        self, name: str | None = None, *, start_index: int = 0, follow: bool = True
    ) -> Reading:
        """Read a stream: `async for chunk in run.readable(): ...`.

        It goes on until the run has ended. Chunks of an attempt of a step that has failed are
        left out; a reader that has got some of them gets a `StreamReset`.

        Args:
            name: Of the stream; that without a name by default.
            start_index: The first chunk to get. A negative one counts from the last.
            follow: Wait for what is not written yet.

        Raises:
            TypeError: An argument is something else.
            ValueError: The name is not possible.
        """
        if type(start_index) is not int:
            raise TypeError(f"start_index is an int, not {type(start_index).__name__}")
        stream = DEFAULT if name is None else check_stream(name)
        return Reading(self._id, stream, start_index, follow=follow)

    async def tail_index(self, name: str | None = None) -> int:
        """Return the index of the last chunk of a stream; -1: there is none.

        Raises:
            RunNotFound: There is no such run.
        """
        return await tail_index(self._id, DEFAULT if name is None else check_stream(name))

    def streams(self) -> Call[dict[str, int]]:
        """Return the streams of the run, and how many indexes each has.

        Raises:
            RunNotFound: There is no such run.
        """
        return self._ask("streams", [], dict)

    def _ask(self, question: str, args: list[Any], read: Callable[[Any], Any]) -> Call[Any]:
        future = self._send(Kind.ASK, question, args, _TIMEOUT_S)
        return Call(f"{question} of {self!r}", future, lambda reply: read(decode(reply.payload)))

    def _send(
        self, kind: Kind, method: str, args: list[Any] | None, timeout_s: float | None
    ) -> asyncio.Future[Answer]:
        return current_caller().call(
            ObjectKey(WORKFLOW, self._id),
            kind,
            method,
            arguments=b"" if not args else encode(args),
            timeout_s=timeout_s,
        )


def get_run(id: str) -> Run[Any]:
    """Return a run by its id, whether there is one or not.

    Raises:
        TypeError: The id is no text.
        BadObjectId: It is not possible.
    """
    return Run(id)


async def list_runs(
    *, workflow: str | None = None, status: str | None = None, prefix: str = ""
) -> AsyncIterator[RunStatus]:
    """Iterate over the runs of the whole cluster, partition by partition, by their ids.

    Args:
        workflow: Only runs of the workflow of this name.
        status: Only `running`, `completed`, `failed` or `cancelled` ones.
        prefix: Only runs whose ids begin with this.

    Raises:
        RuntimeError: In a workflow or method, which would get other runs in a replay.
    """
    if current_turn.get() is not None and current_step.get() is None:
        raise RuntimeError("list_runs() is not for workflows and methods: put it into a @step")
    caller = current_caller()
    if caller.partition_count is None:
        await current_client().connected(_TIMEOUT_S)
    count = caller.partition_count
    assert count is not None
    for partition in range(count):
        after: str | None = ""
        while after is not None:
            future = caller.call(
                ObjectKey(WORKFLOW, prefix),
                Kind.ASK,
                "list",
                arguments=encode([after, workflow, status]),
                partition=partition,
                timeout_s=_TIMEOUT_S,
            )
            rows, after = await Call("list_runs()", future, _value)
            for row in rows:
                yield RunStatus(**row)


async def start(
    workflow: Callable[..., Any],
    *args: Any,
    id: str | None = None,
    if_exists: Literal["attach", "raise"] = "attach",
    resume: tuple[str, Any] | None = None,
    timeout: float | None = _TIMEOUT_S,
) -> Run[Any]:
    """Begin a run of a workflow.

    Returns once it is durable and has come to its first wait: the hooks exist that it has
    created by then. A run of that id that is there already is attached to; that is so for a
    while after its end too, see `@workflow(retention=)`. Later, the id begins another run.

    Args:
        workflow: The workflow. Named arguments go by `functools.partial(workflow, **named)`.
        args: For the workflow.
        id: Of the run; a fresh one by default.
        if_exists: `raise`: a run that is there already is an error.
        resume: `(token, payload)` for one of its hooks, once it waits.
        timeout: How long to wait for its first wait, in seconds; None for ever.

    Raises:
        TypeError: It is no workflow.
        BadArguments: They do not fit it, or cannot travel; nothing is started.
        RunExists: The id belongs to a run of another workflow, or with other arguments.
        HookNotFound: The run has no hook of the token in `resume`. It has started.
    """
    definition, packed = _bound(workflow, args)
    if if_exists not in ("attach", "raise"):
        raise ValueError(f"if_exists is 'attach' or 'raise', not {if_exists!r}")
    run: Run[Any] = Run(ctx.uuid().hex if id is None else id)
    given = None if resume is None else [resume[0], encode_payload(resume[1])]
    future = _send_start(run, definition, packed, given, timeout)
    created = await Call(f"start({definition.name})", future, lambda reply: decode(reply.payload))
    if not created and if_exists == "raise":
        raise RunExists(run.id, definition.name, "and if_exists='raise'")
    return run


def run_to_its_end(
    workflow: WorkflowFunction[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Call[Any]:
    """Start a run, which is sent before this returns; its result is that of the call."""
    packed = workflow.method.pack(args, kwargs)
    run: Run[Any] = Run(ctx.uuid().hex)
    started = _send_start(run, workflow, packed, None, None)
    ended: asyncio.Future[Answer] = started.get_loop().create_future()

    def on_start(future: asyncio.Future[Answer]) -> None:
        if future.cancelled() or future.exception() is not None or future.result().code:
            _pass_on(future, ended)
        else:
            asked = run._send(Kind.ASK, "result", [], None)
            asked.add_done_callback(functools.partial(_pass_on, to=ended))

    started.add_done_callback(on_start)
    return Call(f"{workflow.name}()", _unwrapped(ended), _value)


def encode_payload(payload: object) -> bytes:
    """Return a payload as it travels.

    Raises:
        BadPayload: It cannot.
    """
    from perdure.errors import BadPayload

    try:
        return encode(payload)
    except codec.NotEncodable as error:
        dump = getattr(payload, "model_dump", None)
        if dump is None:
            text = f"the payload{error.path}: {error.problem} cannot be sent"
            raise BadPayload(text) from None
        return encode(dump())


def _bound(
    workflow: Callable[..., Any], args: tuple[Any, ...]
) -> tuple[WorkflowFunction[..., Any], bytes]:
    kwargs: dict[str, Any] = {}
    if isinstance(workflow, functools.partial):
        args, kwargs = (*workflow.args, *args), workflow.keywords
        workflow = workflow.func
    if not isinstance(workflow, WorkflowFunction):
        raise TypeError(f"start takes a function with @workflow, not {workflow!r:.100}")
    return workflow, workflow.method.pack(args, kwargs)


def _send_start(
    run: Run[Any],
    workflow: WorkflowFunction[..., Any],
    packed: bytes,
    resume: list[Any] | None,
    timeout_s: float | None,
) -> asyncio.Future[Answer]:
    return current_caller().call(
        ObjectKey(WORKFLOW, run.id),
        Kind.START,
        workflow.name,
        arguments=encode([packed, resume]),
        timeout_s=timeout_s,
    )


def _pass_on(future: asyncio.Future[Answer], to: asyncio.Future[Answer]) -> None:
    if to.done():
        return
    if future.cancelled():
        to.cancel()
    elif (error := future.exception()) is not None:
        to.set_exception(error)
    else:
        to.set_result(future.result())


def _unwrapped(future: asyncio.Future[Answer]) -> asyncio.Future[Answer]:
    """Return the answer that is inside of the answer to a question for a run's result."""
    inner: asyncio.Future[Answer] = future.get_loop().create_future()

    def take_out(done: asyncio.Future[Answer]) -> None:
        if not done.cancelled() and done.exception() is None and done.result().code == 0:
            code, payload = decode(done.result().reply.payload)
            if not inner.done():
                inner.set_result(Answer(code, Reply(payload, None, None)))
        else:
            _pass_on(done, inner)

    future.add_done_callback(take_out)
    return inner


def _value(reply: Reply) -> Any:
    return decode(reply.payload)
