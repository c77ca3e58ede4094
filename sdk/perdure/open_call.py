"""A call without an answer, and where it stands among the others of its client."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from perdure.errors import Code
from perdure.frames import Encoding, Kind, RequestFields, encode
from perdure.ids import CallId, ObjectKey
from perdure.refusals import RETRIED

if TYPE_CHECKING:
    from perdure.lane import Lane, Window

__all__ = ["Ended", "OpenCall", "by_serial"]

T = TypeVar("T")

_UNNUMBERED: Final = frozenset(
    {Kind.GET, Kind.EXISTS, Kind.LIST, Kind.CANCEL, Kind.ASK, Kind.PROBE}
)
_NO_ROOM: Final = frozenset({int(Code.BACKPRESSURE), int(Code.DISK_FULL)})


class OpenCall(Generic[T]):
    """What a caller asks for, and how it stands. `T` is what the caller ties to it."""

    # Not in `__init__`, and no slots: most calls change few of them.
    serial = 0
    """Counts all calls of this client: their order."""
    place: MutableMapping[OpenCall[T], None] | None = None
    """The collection it waits in."""
    queued_ms = 0
    """Since when it waits in the queue of a lane."""
    ahead = 0
    """How many calls were before it then, those on their way among them."""
    lane: Lane[T] | None = None
    """Set when it is on its way, together with `window`."""
    window: Window | None = None
    sequence = 0
    when_numbered: Callable[[], None] | None = None
    """Called once it has `window` and `sequence`."""
    before: OpenCall[T] | None = None
    """An earlier call to the same object, open when this one was numbered."""

    number = 0
    """Of its latest frame."""
    copies = 0
    """Frames on the present stream that are not answered."""
    lost = False
    """Whether a copy went away on a stream that broke: it may arrive at any time."""
    attempts = 0
    """Refusals so far."""
    refusal: tuple[int, bytes] | None = None
    """The last one."""
    retry_ms: int | None = None
    """When it will be sent again, while it waits for that."""
    ended = False

    def __init__(  # noqa: PLR0913, PLR0917 - a call has so many parts
        self,
        token: T,
        kind: Kind,
        target: ObjectKey,
        method: str = "",
        arguments: bytes = b"",
        encoding: Encoding = Encoding.MSGPACK,
        key: str | None = None,
        have: tuple[int, int] | None = None,
        chain: Sequence[Sequence[str]] = (),
        partition: int | None = None,
        deadline_ms: int | None = None,
        due_ms: int = 0,
        origin: CallId | None = None,
    ) -> None:
        self.token = token
        self.kind = kind
        self.target = target
        self.method = method
        self.arguments = arguments
        self.encoding = encoding
        self.key = key
        self.have = have
        self.chain = chain
        self.partition = partition
        """Computed from the target unless it is given, as for `Kind.LIST`."""
        self.deadline_ms = deadline_ms
        self.due_ms = due_ms
        """Wall clock. For `Kind.SEND`: when it is to run; 0 at once. For others with an `origin`:
        by when they are to have started; 0 whenever."""
        self.origin = origin
        """Its id, if it is not given here: the call leaves a partition, whose journal says it."""

    @property
    def is_unnumbered(self) -> bool:
        """Whether any number of its copies may run: it has no sequence and no order."""
        return self.kind in _UNNUMBERED

    @property
    def may_have_run(self) -> bool:
        """Whether a copy is open."""
        return self.copies > 0 or self.lost

    @property
    def outlives_deadline(self) -> bool:
        """Whether only its target may say that its time was over before it began.

        The caller is a partition, which acts on the answer: "perhaps" is none.
        """
        return self.origin is not None and self.may_have_run

    def open_before(self) -> OpenCall[T] | None:
        """Return the latest earlier call to the same object that is still open."""
        before = self.before
        if before is not None and before.ended:
            while before is not None and before.ended:
                before = before.before
            # Shortened, so that ended calls are not kept in memory by later ones.
            self.before = before
        return before

    def is_ended_by(self, code: int) -> bool:
        """Tell whether a refusal of its last copy says how the call ends."""
        if code == Code.DEADLINE_EXCEEDED:
            # To a client without a deadline this says nothing. To a partition it never does: it is
            # the word of who is on the way. Its target says, and remembers, NOT_STARTED.
            return self.deadline_ms is not None and self.origin is None
        if code in RETRIED:
            return False
        if self.origin is None:
            # It does no harm if a lost copy of a question is answered otherwise.
            return not self.lost or self.is_unnumbered
        if code in _NO_ROOM:
            return not self.lost and self.deadline_ms is not None
        # What remains is the same for every copy, lost ones too.
        return code != Code.SESSION_EXPIRED

    def body(self) -> bytes:
        """Pack the body of a frame, with all that is settled by now."""
        assert self.window is not None
        before = self.open_before() if self.before is not None else None
        have = self.have
        fields: RequestFields = (
            self.kind,
            self.window.session,
            self.sequence,
            0 if before is None else before.sequence,
            self.window.settled.spans,
            self.target[0],
            self.target[1],
            self.method,
            self.encoding,
            self.arguments,
            self.key,
            None if have is None else [have[0], have[1]],
            [list(link) for link in self.chain] if self.chain else [],
            self.due_ms,
        )
        return encode(fields)

    @property
    def id(self) -> CallId | None:
        """Its name among all calls. None before it is numbered, and for what never is."""
        if not self.sequence or self.window is None:
            return None
        return CallId(self.window.session, self.window.partition, self.sequence)

    def __str__(self) -> str:
        return f"{self.target}.{self.method or self.kind.name.lower()}"


Ended = tuple[T, int, bytes]
"""The end of a call: its token, a code, and a packed `Reply`. A plain tuple, because each call
ends with one."""


by_serial: Final = attrgetter("serial")
"""Sorts calls in the order in which they were made."""
