"""A call on its way through a partition, and what a partition has to know of types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from perdure.bodies import Request
from perdure.errors import Code
from perdure.ids import ObjectKey
from perdure.schedules import TimerSetting
from perdure_node.core.commits import Progress
from perdure_node.core.copies import Copy
from perdure_node.core.state import ObjectState
from perdure_node.core.window import SessionWindow

__all__ = [
    "FOR_EVER_MS",
    "PLAIN",
    "Call",
    "Catalog",
    "Ready",
    "Refusal",
    "Target",
]

FOR_EVER_MS: Final = 1 << 62
"""A time that does not come: the deadline of calls that have none."""


class Refusal(NamedTuple):
    """Why a call does not run."""

    code: Code
    args: tuple[object, ...]


class Target:
    """What a call is for, as the registered types know it."""

    __slots__ = ("deferred", "found", "made_by_calls", "shared", "stateless")

    def __init__(
        self,
        *,
        shared: bool,
        deferred: bool,
        stateless: bool = False,
        made_by_calls: bool = False,
        found: Any = None,
    ) -> None:
        self.shared: Final = shared
        self.deferred: Final = deferred
        """The type persists on save only: its answers do not wait."""
        self.stateless: Final = stateless
        """It is a durable function: an object without state, which is there while it runs."""
        self.made_by_calls: Final = made_by_calls
        """An object that is not there is made by the first call."""
        self.found: Final = found
        """The method that is called, as the catalog knows it. The shell's business."""

    @property
    def alone(self) -> Target:
        """The same, but never beside other calls."""
        if not self.shared:
            return self
        return Target(
            shared=False,
            deferred=self.deferred,
            stateless=self.stateless,
            made_by_calls=self.made_by_calls,
            found=self.found,
        )


PLAIN: Final = Target(shared=False, deferred=False)


class Catalog(Protocol):
    """The registered types, as far as a partition has to know them."""

    def find(self, request: Request) -> Target | Refusal:
        """Return what the call is for, or why there is no such thing."""
        ...

    def digest(self, request: Request) -> bytes | Refusal:
        """Return a digest of the arguments, equal for equal arguments however written."""
        ...

    def start(self, request: Request) -> tuple[str, bytes] | Refusal:
        """Return a workflow's version and the digest of its arguments, or why it cannot start."""
        ...

    def retention_ms(self, workflow: str) -> int | None:
        """Return how long runs of a workflow stay after their end; None: as the limit says.

        Less than 0: for ever.
        """
        ...

    def payload(self, token: str, schema: str, payload: bytes, encoding: int) -> bytes | Refusal:
        """Return what a hook of this schema gets for a payload, or what is wrong with it."""
        ...

    def as_json(self, value: bytes) -> bytes | Refusal:
        """Return a value as JSON, or why it cannot be shown."""
        ...

    def show(self, image: dict[str, bytes]) -> bytes | Refusal:
        """Return a state as JSON, or why it cannot be shown."""
        ...


class Call:
    """A call that has been admitted: it waits in a mailbox, or runs."""

    # Not in `__init__`, and no slots: most calls change none of them.
    digest = b""
    """Of its arguments; only with an idempotency key."""
    followers: Sequence[Call] = ()
    """Calls with the same idempotency key, which wait for this one's outcome."""
    state: ObjectState | None = None
    """Set while it runs."""
    progress: Progress | None = None
    """What the journal knows of it already."""
    firing = False
    """Nobody waits for it: a timer has fired, or it was sent."""
    timer: TimerSetting | None = None
    """The timer that has fired, until a record says so."""
    fired: TimerSetting | None = None
    """The same afterwards."""
    starts = 1
    """How many times its method has been started, this time included, as far as is known."""
    retries = 0
    """How often its method was run again because it had raised."""
    turn: Any = None
    """The run of its method. The shell's business, but for one thing: `awaits(step)` tells whether
    the method waits for a step that is not done."""
    parked: str | None = None
    """Why it does not go on until an operator decides."""
    since_ms = 0
    """When it came; once it runs, when it began to. Monotonic clock."""
    resumed = False
    """It was begun by an earlier process."""
    run: Any = None
    """The `runs.Run`, if the call is one."""

    def __init__(
        self,
        key: ObjectKey,
        request: Request,
        target: Target,
        window: SessionWindow[Call],
        deadline_ms: int,
    ) -> None:
        self.key = key
        self.request = request
        self.target = target
        self.shared = target.shared
        self.window = window
        self.deadline_ms = deadline_ms
        self.copies: list[Copy] = []


class Ready:
    """Work for the shell, in this order: let `outputs` out, then run the methods of `runs`."""

    __slots__ = ("outputs", "runs")

    def __init__(self, outputs: list[Any], runs: list[Call]) -> None:
        self.outputs: Final = outputs
        """`Answer`s, and tokens given to `Partition.hold` whose time has come."""
        self.runs: Final = runs
