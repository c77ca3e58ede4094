"""Which servers a client has streams to, and when it asks for maps."""

from __future__ import annotations

from perdure.partition_map import MappedNode, PartitionMap
from perdure.routing.core.paths import PathLimits, Paths

LIMITS = PathLimits()
HOME = "router at r:1"
EVERYTHING = range(4)
"""n1 owns the even partitions, n2 the odd ones."""


def the_map(
    n1: str = "n1:1", n2: str = "n2:1", epoch: int = 1, cluster: str = "c", **more
) -> PartitionMap:
    nodes = [
        MappedNode("n1", n1, {0: epoch, 2: epoch}),
        MappedNode("n2", n2, {1: epoch, 3: epoch}),
    ]
    return PartitionMap(cluster, 4, "r", "router", nodes, **more)


class Bench:
    """Paths in the hands of a test, with a router at the address given."""

    def __init__(self, *, router: bool = True, map: PartitionMap | None = None) -> None:
        self.paths = Paths("c", 4, LIMITS)
        self.now_ms = 10_000
        self.opened: list[str] = []
        self.left: list[str] = []
        self.asked = 0
        self.unreachable: list[str] = []
        if router:
            self.up(HOME, {}, is_router=True, kept_at="r:1")
        if map is not None:
            self.paths.want_map(self.now_ms)
            self.learn(map)
        self.asked = 0

    def up(self, name: str, owned: dict[int, int], **more) -> None:
        self.paths.reached(self.now_ms, name, owned, **more)
        self.done()

    def lost(self, name: str, why: str = "refused") -> None:
        self.paths.lost(self.now_ms, name, why)
        self.done()

    def need(self, *partitions: int) -> None:
        self.now_ms += LIMITS.look_ms
        self.paths.needed(self.now_ms, partitions)
        self.done()

    def learn(self, map: PartitionMap) -> None:
        self.paths.learn(self.now_ms, map)
        self.done()

    def wait(self, time_ms: int) -> None:
        until_ms = self.now_ms + time_ms
        while (due_ms := self.paths.next_ms) is not None and due_ms <= until_ms:
            self.now_ms = max(due_ms, self.now_ms)
            self.paths.tick(self.now_ms)
            self.done()
        self.now_ms = max(until_ms, self.now_ms)

    def done(self) -> None:
        work = self.paths.take()
        self.left += work.leave
        self.opened += [f"{peer.name} at {peer.address}" for peer in work.reach]
        self.asked += work.ask
        if work.unreachable is not None:
            self.unreachable.append(work.unreachable.name)


def test_a_node_is_reached_when_a_call_needs_it_and_only_then() -> None:
    bench = Bench(map=the_map())
    assert bench.opened == []

    bench.need(0)
    bench.need(2)

    assert bench.opened == ["n1 at n1:1"]


def test_a_call_whose_owner_nobody_knows_has_a_map_asked_for_once() -> None:
    bench = Bench()

    bench.need(0)
    bench.need(0)

    assert bench.asked == 1
    assert bench.opened == []


def test_a_call_that_came_before_the_map_has_its_node_reached_by_it() -> None:
    bench = Bench()
    bench.need(0)

    bench.learn(the_map())

    assert bench.opened == ["n1 at n1:1"]


def test_a_map_that_brings_nothing_new_is_asked_for_less_and_less_often() -> None:
    bench = Bench(map=the_map())
    bench.up("n1", {2: 1})
    pauses = []
    for _ in range(9):
        learnt_ms = bench.now_ms
        bench.asked = 0
        while not bench.asked:
            bench.need(0)
        pauses.append(bench.now_ms - learnt_ms)
        bench.learn(the_map())

    assert pauses == [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000]


def test_a_map_with_news_is_believed_and_the_next_one_may_come_soon() -> None:
    bench = Bench(map=the_map())
    bench.up("n1", {0: 1, 2: 1})
    moved = PartitionMap("c", 4, "r", "router", [MappedNode("n2", "n2:1", {0: 2})])

    bench.need(0)
    bench.wait(LIMITS.ask_first_ms)
    assert bench.asked == 1
    bench.learn(moved)
    bench.need(0)

    assert bench.opened == ["n2 at n2:1"]


def test_an_older_map_does_not_take_back_what_a_newer_one_has_said() -> None:
    bench = Bench(map=the_map(epoch=5))

    bench.learn(PartitionMap("c", 4, "n2", "node", [MappedNode("n2", "n2:1", {0: 0, 2: 4})]))
    bench.need(0, 2)

    assert bench.opened == ["n1 at n1:1"]


def test_what_a_node_says_of_itself_counts_as_much_as_a_map() -> None:
    bench = Bench(map=the_map(epoch=5))
    bench.up("n2", {1: 6, 0: 6})

    bench.learn(the_map(epoch=5))
    bench.need(0)

    assert bench.opened == [], "n2 has it, and is reached"


def test_a_map_of_another_cluster_says_nothing() -> None:
    bench = Bench()

    bench.learn(the_map(cluster="d"))
    bench.need(0)

    assert bench.opened == []


def test_a_node_that_is_not_reached_is_left_after_a_while_and_told_of_once() -> None:
    bench = Bench(map=the_map())
    bench.need(0, 1)
    bench.lost("n1")
    bench.lost("n2")

    bench.wait(LIMITS.patience_ms - LIMITS.look_ms - 1)
    assert bench.left == []
    bench.wait(LIMITS.look_ms + 1)

    assert sorted(bench.left) == ["n1", "n2"]
    assert bench.unreachable == ["n1"]


def test_a_node_that_was_left_rests_twice_as_long_each_time() -> None:
    bench = Bench(map=the_map())
    rests = []
    for _ in range(6):
        bench.need(0)
        bench.wait(LIMITS.patience_ms)
        bench.learn(the_map())
        assert bench.left == ["n1"]
        left_ms = bench.now_ms
        bench.opened.clear()
        while not bench.opened:
            bench.need(0)
        rests.append(round((bench.now_ms - left_ms) / 1_000))
        bench.left.clear()

    assert rests == [5, 10, 20, 40, 60, 60]
    assert bench.unreachable == ["n1"]


def test_a_node_that_was_reached_once_is_left_without_a_word_and_rests_anew() -> None:
    bench = Bench(map=the_map())
    bench.need(0)
    bench.up("n1", {0: 1, 2: 1})
    bench.lost("n1")

    bench.wait(LIMITS.patience_ms)

    assert bench.left == ["n1"]
    assert bench.unreachable == []


def test_without_a_router_no_node_is_left_and_one_that_rests_is_reached_at_once() -> None:
    bench = Bench(map=the_map())
    bench.need(0)
    bench.wait(LIMITS.patience_ms)
    assert bench.left == ["n1"]
    bench.opened.clear()
    bench.lost(HOME)

    bench.need(0)
    bench.wait(10 * LIMITS.patience_ms)

    assert bench.opened == ["n1 at n1:1"]
    assert bench.left == ["n1"]


def test_a_node_that_came_back_with_the_router_is_not_left_for_the_time_before() -> None:
    bench = Bench(map=the_map())
    bench.need(0)
    bench.up("n1", {0: 1, 2: 1})
    bench.lost("n1")
    bench.lost(HOME)
    bench.wait(10 * LIMITS.patience_ms)

    bench.up(HOME, {}, is_router=True, kept_at="r:1")
    bench.wait(LIMITS.patience_ms - 1)
    assert bench.left == []
    bench.wait(1)

    assert bench.left == ["n1"]


def test_without_a_router_those_that_a_map_names_are_reached_too() -> None:
    bench = Bench(router=False)
    bench.up("n1", {0: 1, 2: 1}, kept_at="n1:1")
    bench.learn(the_map(routers=["r:1", "r:2"]))

    bench.need(1)

    assert bench.opened == ["n2 at n2:1", "router at r:1 at r:1", "router at r:2 at r:2"]


def test_the_server_at_the_address_given_is_never_left_nor_opened_again() -> None:
    bench = Bench(router=False)
    bench.up("n1", {0: 1, 2: 1}, kept_at="here:1")
    bench.learn(the_map(routers=["r:1"]))
    bench.up("router at r:1", {}, is_router=True)
    bench.lost("n1")

    bench.need(0)
    bench.wait(10 * LIMITS.patience_ms)

    assert bench.opened == []
    assert bench.left == []


def test_a_node_with_a_new_address_is_reached_there() -> None:
    bench = Bench(map=the_map())
    bench.need(0)

    bench.learn(the_map(n1="n1:2"))
    bench.need(0)

    assert bench.left == ["n1"]
    assert bench.opened == ["n1 at n1:1", "n1 at n1:2"]


def test_a_node_that_is_reached_stays_where_it_is_whatever_maps_say() -> None:
    bench = Bench(map=the_map())
    bench.need(0)
    bench.up("n1", {0: 1, 2: 1})

    bench.learn(the_map(n1="elsewhere:1"))
    bench.need(0)

    assert bench.left == []
    assert bench.opened == ["n1 at n1:1"]


def test_an_address_at_which_somebody_else_answers_is_left_for_long() -> None:
    bench = Bench(map=the_map())
    bench.need(0)

    bench.paths.is_another(bench.now_ms, "n1")
    bench.done()
    bench.wait(LIMITS.rest_max_ms - 1_000)
    bench.need(0)

    assert bench.left == ["n1"]
    assert bench.opened == ["n1 at n1:1"]


def test_another_server_at_the_address_given_takes_the_place_of_the_first() -> None:
    bench = Bench(map=the_map())

    bench.up("n1", {0: 1, 2: 1}, kept_at="r:1")
    bench.need(1)

    assert bench.opened == ["n2 at n2:1"], "a router is not known any more"


def test_calls_that_a_router_takes_are_looked_at_only_now_and_then() -> None:
    bench = Bench(map=the_map())
    assert bench.paths.needed(bench.now_ms, [0])

    assert not bench.paths.needed(bench.now_ms + LIMITS.look_ms - 1, [0])
    assert bench.paths.needed(bench.now_ms + LIMITS.look_ms - 1, [0, 1])
    assert bench.paths.needed(bench.now_ms + LIMITS.look_ms, [1])
