"""Questions about runs, and what is asked of them beside everything else.

Nothing here has a sequence: copies of a question do no harm.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from msgspec.structs import astuple

from perdure import codec
from perdure.bodies import Request, pack_error, pack_reply
from perdure.errors import BadPayload, Code
from perdure.ids import ObjectKey
from perdure_node.core.calls import Catalog, Refusal
from perdure_node.core.cancelling import Stop
from perdure_node.core.copies import Answer, Copy
from perdure_node.core.gate import Gate
from perdure_node.core.limits import Limits
from perdure_node.core.memory import Memory
from perdure_node.core.recorder import Recorder
from perdure_node.core.run import END, Run
from perdure_node.core.run_rows import WORKFLOW, RunRow, StartPayload
from perdure_node.core.runs import Runs

__all__ = ["RunQuestions"]

_PAGE: Final = 500
"""Events or runs in one answer."""
_PAGE_BYTES: Final = 1 << 20
"""Events of more do not come in one answer, unless it is a single one."""

_LOOKS: Final = 200
"""Runs that are looked at for one answer: others wait meanwhile."""

_LISTED: Final = ("workflow", "version", "started_ms", "parent", "status", "ended_ms", "left")
"""What is told of each run in a list."""


class RunQuestions:
    """Answers the questions about the runs of one partition."""

    def __init__(
        self,
        memory: Memory,
        gate: Gate,
        recorder: Recorder,
        runs: Runs,
        catalog: Catalog,
        limits: Limits,
    ) -> None:
        self._memory = memory
        self._gate = gate
        self._recorder = recorder
        self._runs = runs
        self._catalog = catalog
        self._limits = limits

    def ask(self, request: Request, copy: Copy) -> None:
        """Answer one."""
        key = request.object_key
        answers: dict[str, Callable[..., None]] = {
            "status": self._status,
            "result": self._result,
            "result_as_json": self._result_as_json,
            "holds": self._holds,
            "events": self._events,
            "details": self._details,
            "cancel": self._cancel,
            "list": self._list,
            "chunks": self._chunks,
            "streams": self._streams,
        }
        answer = answers.get(request.method)
        if key.type != WORKFLOW or answer is None:
            text = f"nothing is known about {request.method!r} of a {key.type}"
            self._gate.refuse(copy, Refusal(Code.MALFORMED, (text,)))
            return
        try:
            args = codec.decode(request.arguments) if request.arguments else []
            answer(key, copy, *args)
        except (BadPayload, TypeError):
            text = f"these are no arguments of {request.method}"
            self._gate.refuse(copy, Refusal(Code.MALFORMED, (text,)))

    def _row(self, key: ObjectKey, copy: Copy) -> RunRow | None:
        """Return what is known of a run. None: there is none, and the asker is told so."""
        state = self._memory.state(key)
        if state is not None and state.image is not None:
            return RunRow.of(state.image)
        not_found = pack_error(Code.RUN_NOT_FOUND, (key.id,))
        self._gate.answer([copy], None, *not_found, self._recorder.last)
        return None

    def _status(self, key: ObjectKey, copy: Copy) -> None:
        row = self._row(key, copy)
        if row is not None:
            self._tell(copy, self._facts(key, row))

    def _facts(self, key: ObjectKey, row: RunRow) -> dict[str, Any]:
        run = self._runs.live.get(key)
        journal = None if run is None else run.journal
        progress = None if run is None else run.call.progress
        return {
            "id": key.id,
            "workflow": row.workflow,
            "version": row.version,
            "status": row.status,
            "started_ms": row.started_ms,
            "ended_ms": row.ended_ms,
            "parent": row.parent,
            "parked": None if run is None else run.call.parked,
            "cancelling": journal is not None and journal.cancelled is not None,
            "hooks": [] if journal is None else sorted(journal.hooks),
            "generation": 0 if journal is None else journal.generation,
            "events": len(progress.events) if progress is not None else 0,
            "left": row.left,
        }

    def _result(self, key: ObjectKey, copy: Copy) -> None:
        row = self._row(key, copy)
        if row is None:
            return
        run = self._runs.live.get(key)
        if run is None:
            self._tell(copy, [row.code, row.result])
        elif run.call.parked is not None:
            parked = Refusal(Code.PARKED, (str(key), key.id, run.call.parked))
            self._gate.refuse(copy, parked)
        elif len(run.curious) >= self._limits.waiting_for_run_max:
            what = (f"callers of the run {key.id}", self._limits.retry_after_s)
            self._gate.refuse(copy, Refusal(Code.BACKPRESSURE, what))
        else:
            run.curious.append(copy)

    def _result_as_json(self, key: ObjectKey, copy: Copy) -> None:
        """Tell how a run has ended, once it has, to somebody who has none of its classes."""
        row = self._row(key, copy)
        if row is None:
            return
        run = self._runs.live.get(key)
        if run is None:
            shown = row.result if row.code else self._catalog.as_json(row.result)
            if isinstance(shown, Refusal):
                self._gate.refuse(copy, shown)
            else:
                self._tell(copy, [row.code, shown])
        elif run.call.parked is not None:
            parked = Refusal(Code.PARKED, (str(key), key.id, run.call.parked))
            self._gate.refuse(copy, parked)
        else:
            again = functools.partial(self._result_as_json, key, copy)
            self._follow(run, END, copy, again, f"callers of the run {key.id}")

    def _follow(
        self, run: Run, stream: str, copy: Copy, again: Callable[[], None], who: str
    ) -> None:
        """Ask a question again once a run has written to a stream, or has ended."""
        followers = run.followers.setdefault(stream, [])
        if len(followers) >= self._limits.waiting_for_run_max:
            what = (who, self._limits.retry_after_s)
            self._gate.refuse(copy, Refusal(Code.BACKPRESSURE, what))
        else:
            followers.append((copy, again))

    def _holds(self, key: ObjectKey, copy: Copy, token: str, claim: str) -> None:
        run = self._runs.live.get(key)
        self._tell(copy, run is not None and run.journal.holds(token, claim))

    def _events(self, key: ObjectKey, copy: Copy, after: int = 0) -> None:
        """Tell what has happened in a run, as far as it is recorded, and when."""
        if self._row(key, copy) is None:
            return
        progress = self._memory.progress.get(key)
        moments = self._memory.histories.read(key, progress, after, _PAGE)
        told: list[list[Any]] = []
        size = 0
        for time_ms, event in moments:
            row = [time_ms, *_plain(event)]
            size += len(codec.encode(row))
            if told and size > _PAGE_BYTES:
                break
            told.append(row)
        self._tell(copy, told)

    def _details(self, key: ObjectKey, copy: Copy) -> None:
        """Tell what a run was given, and what it gives: too much to be told of all of them."""
        row = self._row(key, copy)
        if row is None:
            return
        run = self._runs.live.get(key)
        given = row.input if run is None else StartPayload.given(run.call.request)
        self._tell(copy, {"input": given, "code": row.code, "result": row.result})

    def _cancel(self, key: ObjectKey, copy: Copy, reason: str = "on request") -> None:
        row = self._row(key, copy)
        if row is None:
            return
        is_told = self._runs.cancel(key, reason) is not None
        run = self._runs.live.get(key)
        if run is not None and run.call.parked is not None:
            # Its code cannot go on: so it cannot clean up either.
            self._gate.outputs.append(Stop(run.call, reason, kill=True))
        elif run is not None and is_told:
            self._gate.outputs.append(Stop(run.call, reason, kill=False))
        # Behind the `Stop`, so that it waits for what that commits.
        self._gate.outputs.append(lambda: self._tell(copy, run is not None))

    def _list(
        self,
        key: ObjectKey,
        copy: Copy,
        after: str,
        workflow: str | None,
        status: str | None,
        limit: int = _PAGE,
    ) -> None:
        """Tell of runs whose ids begin with the id that is asked for.

        The answer is the runs, and after which id to ask on; None: there are no more. It may be
        of no runs although there are more: so many are looked at for one answer, and no more.
        """
        told: list[dict[str, Any]] = []
        limit, size = min(max(limit, 1), _PAGE), 0
        page = limit if workflow is status is None else _LOOKS
        ids, more = self._memory.list_ids(WORKFLOW, key.id, after, min(page, _LOOKS))
        wanted = workflow, status
        for id in ids:
            if len(told) == limit or size > _PAGE_BYTES:
                more = True
                break
            after = id
            found = self._memory.peek(ObjectKey(WORKFLOW, id), ("workflow", "status"))
            if found is None or not all(
                want is None or want == codec.decode(has)
                for want, has in zip(wanted, found, strict=True)
            ):
                continue
            row = self._listed(id)
            size += sum(len(payload) for _, payload in row.left)
            told.append(self._facts(ObjectKey(WORKFLOW, id), row))
        self._tell(copy, [told, after if more else None])

    def _listed(self, id: str) -> RunRow:
        """Return what a list tells of a run: it is not brought into memory for that."""
        packed = self._memory.peek(ObjectKey(WORKFLOW, id), _LISTED)
        assert packed is not None
        values = dict(zip(_LISTED, map(codec.decode, packed), strict=True))
        return RunRow(digest=b"", **values)

    def _streams(self, key: ObjectKey, copy: Copy) -> None:
        if self._row(key, copy) is not None:
            streams = self._memory.streams
            self._tell(copy, {name: streams.length(key.id, name) for name in streams.names(key.id)})

    def _chunks(self, key: ObjectKey, copy: Copy, stream: str, start: int, wait: bool) -> None:
        """Tell of a part of a stream, once there is one if the asker wants to wait.

        The answer is the chunks, where to read on, and whether the stream is closed.
        """
        row = self._row(key, copy)
        if row is None:
            return
        run = self._runs.live.get(key)
        page = self._memory.streams.read(key.id, stream, start, _PAGE)
        length = self._memory.streams.length(key.id, stream)
        if page.chunks or run is None or not wait:
            closed = run is None and page.next >= length
            self._tell(copy, [[list(chunk) for chunk in page.chunks], page.next, closed])
            return
        again = functools.partial(self._chunks, key, copy, stream, start, wait)
        self._follow(run, stream, copy, again, f"readers of the run {key.id}")

    def _tell(self, copy: Copy, value: object) -> None:
        """Answer once all is durable that the answer could have seen."""
        body = pack_reply(codec.encode(value))
        self._gate.let_out(Answer(copy.sink, (copy.number, 0, body)), self._recorder.last)


def _plain(event: Any) -> list[Any]:
    """Return the fields of an event as values that travel; entries of the outbox become lists."""
    return [event.tag, *(list(f) if isinstance(f, tuple) else f for f in astuple(event)[:-1])]
