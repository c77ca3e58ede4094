"""One owner: what a node does with partitions, epochs and directories that are not its own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from harness.loop import on_loop
from harness.nodes import running, settings
from harness.tally import Tally

from perdure import codec
from perdure.bodies import Request, pack_request, unpack_error, unpack_reply
from perdure.errors import Code, NotOwner, StorageHeld
from perdure.frames import AnswerFrame, CallFrame, Kind
from perdure.ids import ObjectKey, new_session_id, partition_of
from perdure_node.node import Node
from perdure_node.service import NodeService

TYPE = Tally.__name__
NODES = {"n1": "127.0.0.1:1", "n2": "127.0.0.1:2"}


class Sink:
    """Collects answers."""

    closed = False

    def __init__(self) -> None:
        self.frames: list[AnswerFrame] = []

    def send(self, frame: AnswerFrame) -> None:
        self.frames.append(frame)


def ask(node: Node, key: ObjectKey, kind: Kind, method: str = "") -> Any:
    """Send one call straight to a node, whoever owns its object; return the error at once."""
    sink = Sink()
    session = new_session_id(node._clock.wall_ms(), os.urandom(10))
    sequence = 0 if kind in (Kind.GET, Kind.EXISTS) else 1
    arguments = codec.encode([[], {}])
    request = Request(
        kind, session, sequence, 0, [0], *key, method, 0, arguments, None, [0, 0], [], 0
    )  # fmt: skip
    partition = partition_of(key, node.partition_count)
    node.receive([CallFrame(1, partition, 30_000, pack_request(request))], sink)
    [frame] = sink.frames
    return frame[1], unpack_error(unpack_reply(frame[2]).payload)


@on_loop
async def test_a_node_refuses_calls_and_reads_of_partitions_that_are_not_its_own(
    tmp_path: Path,
) -> None:
    made = settings(tmp_path, partition_count=16, nodes=NODES)
    async with running(made) as (node, _):
        keys = [ObjectKey(TYPE, str(number)) for number in range(40)]
        foreign = {key: partition_of(key, 16) for key in keys}
        foreign = {key: number for key, number in foreign.items() if number not in node.owned}
        assert 0 < len(foreign) < len(keys)

        for key, partition in foreign.items():
            refused = (Code.NOT_OWNER, [partition, node.welcome().owned.popitem()[1]])
            for kind in (Kind.GET_OR_CREATE, Kind.DELETE, Kind.GET, Kind.EXISTS):
                assert ask(node, key, kind) == refused
            assert ask(node, key, Kind.CALL, "add") == refused
            with pytest.raises(NotOwner):
                await node.list(partition, TYPE, "", "", 10)
        own = [key for key in keys if partition_of(key, 16) in node.owned]
        for key in own:
            ask(node, key, Kind.EXISTS)
        stores = {int(path.name) for path in (tmp_path / "partitions").iterdir()}
        assert stores == {partition_of(key, 16) for key in own}


@on_loop
async def test_a_node_knows_where_partitions_were_placed_and_the_epoch_of_its_own(
    tmp_path: Path,
) -> None:
    made = settings(tmp_path, partition_count=16, nodes=NODES, routers=["127.0.0.1:7400"])
    async with running(made) as (node, _):
        map = NodeService(node).partition_map()

        assert (map.server, map.role, list(map.routers)) == ("n1", "node", ["127.0.0.1:7400"])
        assert {mapped.name: mapped.address for mapped in map.nodes} == NODES
        mine, others = (mapped.owned for mapped in map.nodes)
        assert mine == node.welcome().owned
        assert sorted([*mine, *others]) == list(range(16))
        assert set(others.values()) == {0}


@on_loop
async def test_a_second_node_on_the_same_directory_is_refused_and_the_first_goes_on(
    tmp_path: Path,
) -> None:
    made = settings(tmp_path)
    async with running(made) as (_, caller):
        await caller.create(TYPE)
        before = (tmp_path / "node.json").read_bytes()

        with pytest.raises(StorageHeld):
            await Node(settings(tmp_path)).start()

        assert (tmp_path / "node.json").read_bytes() == before
        assert await caller.call(TYPE, "add") == 1


@on_loop
async def test_an_older_node_file_put_back_does_not_bring_an_epoch_back(tmp_path: Path) -> None:
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create(TYPE)
    shutil.copy(tmp_path / "node.json", tmp_path / "saved")
    for _ in range(3):
        async with running(settings(tmp_path), crash=True) as (node, caller):
            await caller.call(TYPE, "add")
    last = node.welcome().owned[0]
    (tmp_path / "saved").rename(tmp_path / "node.json")

    async with running(settings(tmp_path)) as (node, caller):
        assert set(node.welcome().owned.values()) == {last + 1}
        assert (await caller.state(TYPE))["n"] == 3
    async with running(settings(tmp_path)) as (node, _):
        assert set(node.welcome().owned.values()) == {last + 2}
