"""Which servers a client has streams to, beside the one that it was given.

A node is reached when a call needs it, and left for a while when it cannot be: a router takes its
calls meanwhile. What is known of owners is only a hint where to ask: a node gets calls when it says
itself that it owns their partition.

Deterministic and free of I/O: events go in, what is to be done comes out of `take`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from perdure.partition_map import PartitionMap

__all__ = ["PathLimits", "PathWork", "Paths", "Peer"]


@dataclass(frozen=True, slots=True)
class PathLimits:
    """How patient a client is with servers, and how often it asks for maps."""

    patience_ms: int = 5_000
    """A node that is not reached for so long is left, if a router takes its calls meanwhile."""

    rest_first_ms: int = 5_000
    """For so long it is left alone; twice as long each time."""

    rest_max_ms: int = 60_000
    """But not longer."""

    ask_first_ms: int = 200
    """The time between two maps; twice as long whenever one brings nothing new."""

    ask_max_ms: int = 30_000
    """But not longer."""

    look_ms: int = 50
    """How often a partition is looked at whose calls a router takes."""


class _State(enum.Enum):
    KNOWN = enum.auto()
    OPENING = enum.auto()
    UP = enum.auto()
    LOST = enum.auto()
    """It was up. Its transport tries to reach it again."""
    RESTING = enum.auto()


@dataclass(slots=True)
class Peer:
    """A node or router."""

    name: str
    address: str
    is_router: bool = False
    kept: bool = False
    """Its stream is the one that the client was given: it is never left."""
    state: _State = _State.KNOWN
    since_ms: int = 0
    """When it began to be reached, or was lost; when a rest ends."""
    rest_ms: int = 0
    """How long its last rest was."""
    was_reached: bool = False
    why: str = ""
    """Why it was not reached."""


@dataclass(slots=True)
class PathWork:
    """What is to be done."""

    leave: list[str] = field(default_factory=list[str])
    """The names of those whose streams are to be closed. Before others are opened."""
    reach: list[Peer] = field(default_factory=list[Peer])
    """Those to whom streams are to be opened."""
    ask: bool = False
    """A map is to be asked for."""
    unreachable: Peer | None = None
    """The first node that this client has never reached, told once."""


class Paths:
    """What a client knows of its cluster."""

    def __init__(self, cluster_id: str, partition_count: int, limits: PathLimits) -> None:
        self._cluster = (cluster_id, partition_count)
        self._limits = limits
        self._peers: dict[str, Peer] = {}
        self._owners: dict[int, tuple[int, str]] = {}
        """Partition to epoch and node, as far as anybody has said."""
        self._work = PathWork()
        self._router_since_ms = 0
        """Since when a router has been up, while one is."""
        self._told_unreachable = False
        self._map_is_wanted = False
        self._map_is_coming = False
        self._ask_at_ms = 0
        self._ask_pause_ms = limits.ask_first_ms
        self._looked_at: set[int] = set()
        """Partitions, since `_look_at_ms` was set."""
        self._look_at_ms = 0
        self._ownerless: set[int] = set()
        """Partitions that a map is wanted for."""

    def take(self) -> PathWork:
        """Return what is to be done since the last time, and forget it."""
        work, self._work = self._work, PathWork()
        return work

    @property
    def next_ms(self) -> int | None:
        """When to call `tick` next."""
        due = [self._ask_at_ms] if self._map_is_wanted and not self._map_is_coming else []
        if self._a_router_is_up:
            due += [self._tried_until_ms(p) for p in self._peers.values() if self._tries(p)]
        return min(due) if due else None

    # What happens.

    def needed(self, now_ms: int, partitions: Iterable[int]) -> bool:
        """Note that calls of these partitions wait, or are sent to a router.

        Returns:
            Whether that was looked at. It is not when it was just now, and a router takes them.
        """
        has_router = self._a_router_is_up
        if has_router:
            if now_ms >= self._look_at_ms:
                self._look_at_ms = now_ms + self._limits.look_ms
                self._looked_at.clear()
            partitions = [number for number in partitions if number not in self._looked_at]
            if not partitions:
                return False
            self._looked_at.update(partitions)
        ownerless = self._reach_owners(now_ms, partitions, at_once=not has_router)
        if ownerless:
            self._ownerless.update(ownerless)
            self.want_map(now_ms)
        if not has_router:
            for peer in self._peers.values():
                if peer.is_router:
                    self._reach(now_ms, peer, at_once=True)
        return True

    def reached(
        self,
        now_ms: int,
        name: str,
        owned: Mapping[int, int],
        *,
        is_router: bool = False,
        kept_at: str | None = None,
    ) -> None:
        """Note that a server can be reached, or has news of itself.

        Args:
            now_ms: Of a clock that never goes back.
            name: The server's.
            owned: What it says that it owns: partitions and their epochs.
            is_router: It takes calls to every partition.
            kept_at: The address that the client was given, if this stream is the one to it.
        """
        peer = self._peers.get(name)
        if peer is None:
            peer = self._peers[name] = Peer(name, kept_at or "")
        if kept_at is not None:
            self._let_go_of_kept(peer)
            peer.kept = True
        if is_router and not self._a_router_is_up:
            self._router_since_ms = now_ms
        peer.is_router = is_router
        peer.state = _State.UP
        peer.was_reached = True
        peer.rest_ms = 0
        for partition, epoch in owned.items():
            known = self._owners.get(partition)
            if known is None or epoch >= known[0]:
                self._owners[partition] = (epoch, name)
        self.tick(now_ms)

    def lost(self, now_ms: int, name: str, why: str) -> None:
        """Note that a server cannot be reached."""
        peer = self._peers.get(name)
        if peer is None:
            return
        peer.why = why
        if peer.state is _State.UP:
            peer.state = _State.LOST
            peer.since_ms = now_ms
            # Perhaps it is elsewhere now.
            self.want_map(now_ms)

    def is_another(self, now_ms: int, name: str) -> None:
        """Note that somebody else answers at a server's address: it is left for long."""
        peer = self._peers[name]
        peer.rest_ms = self._limits.rest_max_ms
        self._leave(now_ms, peer)
        self.want_map(now_ms)

    def learn(self, now_ms: int, map: PartitionMap) -> None:
        """Take in a map that was asked for. One of another cluster says nothing."""
        news = False
        if (map.cluster_id, map.partition_count) == self._cluster:
            for node in map.nodes:
                news |= self._hear_of(node.name, node.address)
                for partition, epoch in node.owned.items():
                    news |= self._hear_of_owner(partition, epoch, node.name)
            kept = {peer.address for peer in self._peers.values() if peer.kept}
            for address in map.routers:
                if address not in kept:
                    news |= self._hear_of(f"router at {address}", address, is_router=True)
            ownerless, self._ownerless = self._ownerless, set()
            # If they have none now either, their next calls say that they still need one.
            self._reach_owners(now_ms, ownerless, at_once=not self._a_router_is_up)
        self._asked(now_ms, news=news)

    def learnt_nothing(self, now_ms: int) -> None:
        """Note that nobody has answered with a map."""
        self._asked(now_ms, news=False)

    def want_map(self, now_ms: int) -> None:
        """Have a map asked for, unless that was done just now."""
        self._map_is_wanted = True
        self.tick(now_ms)

    def tick(self, now_ms: int) -> None:
        """Let time pass."""
        if self._map_is_wanted and not self._map_is_coming and now_ms >= self._ask_at_ms:
            self._map_is_wanted = False
            self._map_is_coming = True
            self._work.ask = True
        if not self._a_router_is_up:
            return
        for peer in self._peers.values():
            if self._tries(peer) and now_ms >= self._tried_until_ms(peer):
                if not (peer.was_reached or peer.is_router or self._told_unreachable):
                    self._told_unreachable = True
                    self._work.unreachable = peer
                rest_ms = peer.rest_ms * 2 or self._limits.rest_first_ms
                peer.rest_ms = min(rest_ms, self._limits.rest_max_ms)
                self._leave(now_ms, peer)
                self._map_is_wanted = True

    # What is known.

    @property
    def _a_router_is_up(self) -> bool:
        return any(p.is_router and p.state is _State.UP for p in self._peers.values())

    @staticmethod
    def _tries(peer: Peer) -> bool:
        return not peer.kept and peer.state in (_State.OPENING, _State.LOST)

    def _tried_until_ms(self, peer: Peer) -> int:
        return max(peer.since_ms, self._router_since_ms) + self._limits.patience_ms

    def _let_go_of_kept(self, but: Peer) -> None:
        """Note that another server than before is at the address that the client was given."""
        for other in list(self._peers.values()):
            if other.kept and other is not but:
                other.kept, other.state = False, _State.KNOWN
                if other.is_router:
                    # It was known by that address only.
                    del self._peers[other.name]

    def _hear_of(self, name: str, address: str, *, is_router: bool = False) -> bool:
        """Take in where a server listens; tell whether that is new."""
        peer = self._peers.get(name)
        if peer is None:
            self._peers[name] = Peer(name, address, is_router)
            return True
        if peer.address == address or peer.kept:
            return False
        if self._tries(peer):
            self._work.leave.append(name)
        if peer.state is not _State.UP:
            # It starts anew at its new address.
            peer.state = _State.KNOWN
            peer.rest_ms = 0
        peer.address = address
        return True

    def _hear_of_owner(self, partition: int, epoch: int, name: str) -> bool:
        known = self._owners.get(partition)
        if known is None or epoch > known[0]:
            self._owners[partition] = (epoch, name)
            return known is None or known[1] != name
        if epoch == known[0]:
            self._owners[partition] = (epoch, name)
        return False

    def _asked(self, now_ms: int, *, news: bool) -> None:
        limits = self._limits
        self._map_is_coming = False
        self._ask_pause_ms = (
            limits.ask_first_ms if news else min(self._ask_pause_ms * 2, limits.ask_max_ms)
        )
        self._ask_at_ms = now_ms + self._ask_pause_ms

    def _reach_owners(self, now_ms: int, partitions: Iterable[int], *, at_once: bool) -> list[int]:
        """Return those whose owner is not known, or is none as it says itself."""
        ownerless: list[int] = []
        for partition in partitions:
            owner = self._owners.get(partition)
            peer = None if owner is None else self._peers[owner[1]]
            if peer is None or peer.state is _State.UP:
                ownerless.append(partition)
            else:
                self._reach(now_ms, peer, at_once=at_once)
        return ownerless

    def _reach(self, now_ms: int, peer: Peer, *, at_once: bool) -> None:
        resting = peer.state is _State.RESTING and not at_once and now_ms < peer.since_ms
        if peer.state in (_State.KNOWN, _State.RESTING) and not resting and not peer.kept:
            peer.state = _State.OPENING
            peer.since_ms = now_ms
            self._work.reach.append(peer)

    def _leave(self, now_ms: int, peer: Peer) -> None:
        peer.state = _State.RESTING
        peer.since_ms = now_ms + peer.rest_ms
        self._work.leave.append(peer.name)
