"""The nodes and routers of one cluster, as a client that calls nodes itself reaches them.

Invariants:
  * A call waits for no node that is only being reached: a router takes it meanwhile, if one is
    reached. On whichever way, it has its one id.
  * Calls are sent only to who has said that it owns their partition, and to routers.
  * Streams are opened when they are needed. Only the one to the address given is always there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Final

from perdure.frames import AnswerFrame, CallFrame
from perdure.kept_task import end_task, keep
from perdure.partition_map import PartitionMap
from perdure.routing.core.limits import ForwardingLimits
from perdure.routing.core.paths import PathLimits, Paths, Peer
from perdure.routing.forwarder import Forwarder
from perdure.routing.link import Link
from perdure.transport import Transport, Welcome

__all__ = ["KnownCluster"]

_RECALL_S: Final = 1.0
"""So long after a node is reached, what a router still has for it is sent to it too."""

_ASKED_MAX: Final = 3
"""Servers asked for a map, one after the other, until one has it."""

_NO_BOUND: Final = 1 << 62
_LIMITS: Final = ForwardingLimits(
    # All comes from one session, which has its own bounds.
    calls_max=_NO_BOUND,
    bytes_max=_NO_BOUND,
    waiting_calls_max=_NO_BOUND,
    waiting_bytes_max=_NO_BOUND,
)

_log = logging.getLogger("perdure")


class _Session:
    """The one that calls."""

    closed = False


class KnownCluster:
    """Streams to the servers of one cluster, and the calls on them."""

    def __init__(
        self,
        cluster: Welcome,
        home: Link,
        address: str,
        *,
        keep: bool,
        connect: Callable[[str], Transport],
        ask: Callable[[str], Awaitable[PartitionMap | str]],
        limits: PathLimits,
        answer: Callable[[list[AnswerFrame]], None],
        on_changed: Callable[[Welcome], None],
    ) -> None:
        """Begin with the one server that is known.

        Args:
            cluster: Which it is.
            home: The link to the server at the address given. It is closed by whoever made it.
            address: Where that is.
            keep: The end of the loop does not cancel what is done here.
            connect: Makes the transport to an address.
            ask: Returns the map that the server at an address has, or why it has none.
            limits: How patient it is with nodes that cannot be reached.
            answer: Takes answers.
            on_changed: Hears of the cluster whenever calls go other ways than before: what was
                told without wanting an answer may be lost.
        """
        # To the session it is like a router.
        self._cluster = Welcome(cluster.cluster_id, cluster.partition_count, cluster.server, {})
        self._home = home
        self._address = address
        self._keep = keep
        self._connect = connect
        self._ask = ask
        self._answer = answer
        self._on_changed = on_changed
        self._loop = asyncio.get_running_loop()
        self._session = _Session()
        self._paths = Paths(cluster.cluster_id, cluster.partition_count, limits)
        self._forwarder: Forwarder[_Session] = Forwarder(
            cluster.partition_count,
            _LIMITS,
            send=self._send,
            answer=self._pass_on,
            on_waiting=self._calls_wait,
        )
        self._links: dict[str, Link] = {}
        """By the name of the server, the home's among them."""
        self._addresses: dict[str, str] = {}
        self._routers: set[str] = set()
        self._home_name = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking: asyncio.Task[None] | None = None
        self._times_asked = 0
        self._had_a_map = False
        self._said_no_map = False
        self._is_left = False
        self._timer: asyncio.TimerHandle | None = None
        self._recall_timer: asyncio.TimerHandle | None = None

    def is_that_of(self, welcome: Welcome) -> bool:
        """Tell whether a server belongs to this cluster."""
        cluster = self._cluster
        return (cluster.cluster_id, cluster.partition_count) == (
            welcome.cluster_id,
            welcome.partition_count,
        )

    @property
    def reached(self) -> list[str]:
        """The names of the nodes that calls are sent to."""
        names = self._links.keys() - self._routers
        return sorted(name for name in names if self._forwarder.knows(name))

    def receive(self, frames: list[CallFrame]) -> None:
        """Take in calls, in order."""
        self._forwarder.receive(frames, self._session)

    def leave(self) -> None:
        """Do no more. What was sent is on its way."""
        if self._is_left:
            return
        self._is_left = True
        self._forwarder.close()
        for timer in (self._timer, self._recall_timer):
            if timer is not None:
                timer.cancel()
        if self._asking is not None:
            end_task(self._asking)
        for link in self._links.values():
            if link is not self._home:
                self._start(link.close())

    async def close(self) -> None:
        """Send what is left, then close all streams but the home's."""
        self.leave()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # Servers.

    def home_welcomed(self, welcome: Welcome) -> None:
        """Note that the server at the address given can be reached, or has news."""
        is_node = welcome.owned or welcome.server == self._home_name
        name = welcome.server if is_node else _router_at(self._address)
        if name != self._home_name:
            self._name_home(name)
        self._welcomed(name, welcome, kept_at=self._address)
        self._paths.want_map(self._now_ms())
        self._act()

    def home_lost(self, why: str) -> None:
        """Note that it cannot be reached."""
        self.node_lost(self._home_name, why)

    def node_welcomed(self, name: str, welcome: Welcome) -> None:
        """Note that a server can be reached, or has news."""
        is_another = welcome.owned if name in self._routers else welcome.server != name
        if is_another or not self.is_that_of(welcome):
            _log.info(
                "at %s is %s of the cluster %s, not %s: it is left out",
                self._addresses[name],
                welcome.server,
                welcome.cluster_id,
                name,
            )
            self._paths.is_another(self._now_ms(), name)
        else:
            self._welcomed(name, welcome)
        self._act()

    def node_answered(self, frames: list[AnswerFrame]) -> None:
        """Pass answers on."""
        self._forwarder.answered(frames)

    def node_lost(self, name: str, why: str) -> None:
        """Note that a server cannot be reached."""
        self._paths.lost(self._now_ms(), name, why)
        if self._forwarder.knows(name):
            self._forwarder.node_lost(name)
            self._on_changed(self._cluster)
        self._act()

    def _name_home(self, name: str) -> None:
        """Note who is at the address given: a node, or a router."""
        self._forwarder.node_lost(self._home_name)
        self._links.pop(self._home_name, None)
        self._routers.discard(self._home_name)
        if name in self._links:
            # A node that has a link of its own by now.
            self._forwarder.node_lost(name)
            self._close(name)
        self._home_name = name
        self._links[name] = self._home
        self._addresses[name] = self._address
        if name == _router_at(self._address):
            self._routers.add(name)

    def _welcomed(self, name: str, welcome: Welcome, *, kept_at: str | None = None) -> None:
        is_router = name in self._routers
        owned = welcome.owned
        if is_router:
            # After every node: those count from 1.
            owned = dict.fromkeys(range(self._cluster.partition_count), 0)
        now_ms = self._now_ms()
        self._paths.reached(now_ms, name, welcome.owned, is_router=is_router, kept_at=kept_at)
        self._forwarder.node_welcomed(name, owned)
        self._on_changed(self._cluster)
        if not is_router:
            if self._recall_timer is not None:
                self._recall_timer.cancel()
            self._recall_timer = self._loop.call_later(_RECALL_S, self._recall)

    def _recall(self) -> None:
        self._recall_timer = None
        for name in list(self._routers):
            self._forwarder.recall(name)

    # Calls.

    def _send(self, name: str, frames: list[CallFrame]) -> None:
        self._links[name].transport.send(frames)
        if name in self._routers:
            self._calls_wait({frame.partition for frame in frames})

    def _pass_on(self, answers: Sequence[tuple[_Session, AnswerFrame]]) -> None:
        self._answer([frame for _, frame in answers])

    def _calls_wait(self, partitions: Iterable[int]) -> None:
        if self._paths.needed(self._now_ms(), partitions):
            # Not from inside of the forwarder.
            self._loop.call_soon(self._act)

    # What is to be done.

    def _act(self) -> None:
        """Do what the paths ask for, and come back when they want to be asked again."""
        if self._is_left:
            return
        work = self._paths.take()
        for name in work.leave:
            self._close(name)
        for peer in work.reach:
            self._open(peer)
        if work.ask:
            self._asking = self._start(self._ask_for_map())
        if work.unreachable is not None:
            _log.warning(
                "node %s cannot be reached at %s (%s): a router takes its calls, and those of "
                "other nodes like it; direct routing is tried again from time to time",
                work.unreachable.name,
                work.unreachable.address,
                work.unreachable.why or "no answer",
            )
        self._set_timer()

    def _open(self, peer: Peer) -> None:
        link = Link(self, peer.name, self._connect(peer.address))
        self._links[peer.name] = link
        self._addresses[peer.name] = peer.address
        if peer.is_router:
            self._routers.add(peer.name)
        link.start()

    def _close(self, name: str) -> None:
        link = self._links.pop(name, None)
        if link is not None:
            self._start(link.close())
            self._forwarder.node_lost(name)

    def _set_timer(self) -> None:
        due_ms = self._paths.next_ms
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due_ms is not None:
            wait_s = max(0.0, due_ms / 1000 - self._loop.time())
            self._timer = self._loop.call_later(wait_s + 0.001, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._paths.tick(self._now_ms())
        self._act()

    async def _ask_for_map(self) -> None:
        why = ""
        for address in self._addresses_to_ask():
            answer = await self._ask(address)
            if isinstance(answer, PartitionMap):
                self._had_a_map = True
                self._learn(answer, address)
                return
            why = f"{address}: {answer}"
        if not (self._had_a_map or self._said_no_map):
            self._said_no_map = True
            _log.warning(
                "no map of the cluster yet (%s): all calls go to %s until there is one",
                why,
                self._address,
            )
        self._paths.learnt_nothing(self._now_ms())
        self._act()

    def _addresses_to_ask(self) -> list[str]:
        """Return those who can be reached, each time beginning with another one."""
        names = [name for name in self._links if self._forwarder.knows(name)]
        first = self._times_asked % len(names) if names else 0
        self._times_asked += 1
        names = [*names[first:], *names[:first]] or [self._home_name]
        return [self._addresses[name] for name in names[:_ASKED_MAX]]

    def _learn(self, map: PartitionMap, address: str) -> None:
        if address == self._address and map.role == "node" and self._home_name != map.server:
            # A node that owns nothing looks like a router at first.
            self._name_home(map.server)
            welcome = Welcome(map.cluster_id, map.partition_count, map.server, {})
            self._welcomed(map.server, welcome, kept_at=address)
        self._paths.learn(self._now_ms(), map)
        self._act()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = keep(work) if self._keep else self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _now_ms(self) -> int:
        return int(self._loop.time() * 1000)


def _router_at(address: str) -> str:
    """Return the name of a router. No node's name has a space."""
    return f"router at {address}"
