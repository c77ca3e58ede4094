"""Records of the journal after a start, many at once: fewer commits that leave the same.

Most commits say only what some attributes of an object are from now on, and what came of calls.
Of many such commits only the last value of an attribute counts, and only the outcomes that their
callers have not confirmed since. So they are folded, and `Memory.replay` takes over the rest.

Invariants:
  * `replay_all` leaves what `Memory.replay` of one record after the other leaves, except that a
    record's number may stand where an earlier one would; all of them are durable.
  * Any other commit is replayed as it is, after all that come before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from perdure.ids import ObjectKey
from perdure_node.core.commits import Commit, Outcome, unpack_records, with_types
from perdure_node.core.memory import Memory
from perdure_node.core.window import merge_settled

__all__ = ["pieces", "replay_all"]

_PIECE_BYTES: Final = 1 << 20


def pieces(
    first: int, bodies: Iterable[bytes | None]
) -> Iterator[tuple[int, Sequence[bytes | None]]]:
    """Divide records into pieces of about 1 MB, which is several times as much when decoded.

    Args:
        first: The number of the first record.
        bodies: Of it and of those that follow it. None: an owner's claim.

    Yields:
        What `replay_all` takes beside the memory.
    """
    piece: list[bytes | None] = []
    size = 0
    for body in bodies:
        piece.append(body)
        size += len(body) if body is not None else 0
        if size >= _PIECE_BYTES:
            yield first, piece
            first += len(piece)
            piece, size = [], 0
    if piece:
        yield first, piece


def replay_all(memory: Memory, first: int, bodies: Sequence[bytes | None]) -> None:
    """Take over durable records of the journal that the store does not have.

    Args:
        memory: Of a partition that is not served yet.
        first: The number of the first record.
        bodies: Of it and of those that follow it. None: an owner's claim.
    """
    fold = _Fold(memory.progress)
    takes = fold.takes
    latest_ms = size = 0
    record = first - 1
    for body, (time_ms, commits) in zip(bodies, unpack_records(bodies), strict=True):
        record += 1
        bytes = len(body) if body is not None else 0
        for at, commit in enumerate(commits):
            if not takes(commit):
                memory.replay(record, latest_ms, fold.take(), size)
                memory.replay(record, time_ms, with_types(commits[at:]), bytes)
                size = 0
                break
        else:
            size += bytes
            latest_ms = max(latest_ms, time_ms)
    memory.replay(record, latest_ms, fold.take(), size)


class _Fold:
    """Commits that are folded."""

    def __init__(self, underway: Mapping[ObjectKey, object]) -> None:
        """Begin with none.

        Args:
            underway: Objects with a call in progress, always as of the last commit replayed.
        """
        self._underway = underway
        self._changes: dict[ObjectKey, tuple[Commit, list[int]]] = {}
        """The first commit of an object, whose values are those of all; and the versions."""
        self._outcomes: dict[bytes, list[Outcome]] = {}
        """By session."""

    def takes(self, commit: Commit) -> bool:
        """Take a commit; False: it says more, and has to be replayed as it is."""
        key = commit.key
        if commit.events or commit.effects or commit.gone or commit.progress is not None:
            return False
        outcomes = commit.outcomes
        if key is not None:
            if self._underway and key in self._underway:
                return False
            for outcome in outcomes:
                if outcome.key is not None:
                    return False
            values = commit.values
            if values or commit.created:
                change = self._changes.get(key)
                if change is None or commit.created:
                    self._changes[key] = commit, [commit.state_version]
                else:
                    change[0].values.update(values)
                    change[1][0] = commit.state_version
        for outcome in outcomes:
            of_session = self._outcomes.get(outcome.session)
            if of_session is None:
                self._outcomes[outcome.session] = [outcome]
            else:
                of_session.append(outcome)
        return True

    def take(self) -> list[Commit]:
        """Return what is left of the commits, and begin anew."""
        folded = [
            Commit(key, first.created, False, version, first.values, [], None)
            for key, (first, [version]) in self._changes.items()
        ]
        outcomes = [o for of_session in self._outcomes.values() for o in _unconfirmed(of_session)]
        if outcomes:
            folded.append(Commit(None, False, False, 0, {}, outcomes, None))
        self._changes = {}
        self._outcomes = {}
        return folded


def _unconfirmed(outcomes: list[Outcome]) -> list[Outcome]:
    """Return those outcomes of one session that are kept, each of them telling what all tell.

    At least one: what it tells of the others counts, whatever became of itself.
    """
    told = [outcome.confirmed for outcome in outcomes]
    watermark = max(told)[0]
    settled = {
        span
        for confirmed in told
        if confirmed[-1] > watermark
        for span in zip(confirmed[1::2], confirmed[2::2], strict=True)
    }
    confirmed = merge_settled([watermark], [watermark, *(n for span in settled for n in span)])
    kept = [outcome for outcome in outcomes if outcome.sequence > confirmed[0]]
    return [
        Outcome(outcome.session, outcome.sequence, confirmed, outcome.code, outcome.payload)
        for outcome in kept or outcomes[-1:]
    ]
