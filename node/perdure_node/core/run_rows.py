"""What a run is as an object: its attributes, and what the requests about it hold."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import xxhash

from perdure import codec
from perdure.bodies import Request
from perdure.frames import Encoding, Kind
from perdure.ids import ObjectKey
from perdure_node.core.commits import Progress

__all__ = [
    "CANCELLED",
    "COMPLETED",
    "FAILED",
    "RUNNING",
    "TOKEN",
    "WORKFLOW",
    "RunRow",
    "StartPayload",
    "progress_of",
]

WORKFLOW: Final = "workflow"
"""The type of all runs. Their ids are one namespace."""

TOKEN: Final = "hook"
"""The type of the objects that know which run holds a token."""

RUNNING: Final = "running"
COMPLETED: Final = "completed"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"

_RUNS: Final = b"\xff" * 6
"""Sessions of runs begin as those of partitions do: nothing of them ever expires."""


class RunRow(NamedTuple):
    """The state of a run, attribute by attribute."""

    workflow: str
    version: str
    digest: bytes
    """Of the arguments."""
    started_ms: int
    parent: str
    """The id of the run that has started it; empty: there is none."""
    status: str = RUNNING
    ended_ms: int = 0
    code: int = 0
    result: bytes = b""
    """With `code`, as an answer says it."""
    left: list[list[Any]] = []  # noqa: RUF012 - a default that nobody changes
    """`[token, payload]` of what has come and the run has not taken."""
    tokens: list[str] = []  # noqa: RUF012
    """Of the hooks that it has had."""
    input: list[Any] = []  # noqa: RUF012
    """Of a run that has ended: `[encoding, arguments]`, as it was begun the last time."""
    expires_ms: int = 0
    """When it goes; 0: when the node's limit says so; `expiry_rows.FOR_EVER`: never."""

    def image(self) -> dict[str, bytes]:
        """Return the attributes, encoded."""
        return {name: codec.encode(value) for name, value in self._asdict().items()}

    def values_at_end(self, **changed: Any) -> dict[str, bytes]:
        """Return the attributes that the end of the run changes, encoded."""
        row = self._replace(**changed)
        return {name: codec.encode(getattr(row, name)) for name in changed}

    @classmethod
    def of(cls, image: dict[str, bytes]) -> RunRow:
        """Return the state that an image is."""
        return cls(**{name: codec.decode(value) for name, value in image.items()})


class StartPayload(NamedTuple):
    """What the arguments of a START are, in MessagePack."""

    arguments: bytes
    """The workflow's, encoded as a call's are."""
    resume: list[Any] | None = None
    """`[token, payload]` for a hook that the run has once it waits."""

    @classmethod
    def of(cls, request: Request) -> StartPayload:
        """Return it. JSON says only the arguments.

        Raises:
            BadPayload: It is something else.
        """
        if request.encoding == Encoding.JSON or not request.arguments:
            return cls(request.arguments)
        return cls(*codec.decode(request.arguments))

    @classmethod
    def given(cls, request: Request) -> list[Any]:
        """Return `[encoding, arguments]` of the workflow."""
        return [request.encoding, cls.of(request).arguments]


def progress_of(
    key: ObjectKey, request: Request, arguments: bytes, encoding: int, generation: int
) -> Progress:
    """Return the call in progress that a run is: a call without a caller, with an id of its own.

    Args:
        key: The run.
        request: Of its start, or of the generation before.
        arguments: A `StartPayload`, encoded.
        encoding: How that is written.
        generation: How often it was continued as new.
    """
    session = _RUNS + xxhash.xxh3_64_digest(key.id.encode()) + generation.to_bytes(2, "big")
    made = Request(
        int(Kind.START), session, generation + 1, 0, [0], *key, request.method, encoding,
        arguments, None, None, request.chain, 0,
    )  # fmt: skip
    return Progress([*made.fields()], {}, 1, [])
