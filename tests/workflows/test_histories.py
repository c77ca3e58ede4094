"""Runs of released versions, as they were recorded, are replayed by the code of today.

Each file of `tests/histories` is one record of a partition: the beginning of a run and all that
happened in it up to its end. `scripts/store_histories.py` stores those of a version before it is
released; what is there is never changed.
"""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import harness.flow_steps  # noqa: F401
import pytest
from harness.nodes import running, settings

from perdure import codec
from perdure.frames import Kind
from perdure.ids import ObjectKey, partition_of
from perdure_node.core.commits import Commit, unpack_record
from perdure_node.core.run_rows import WORKFLOW, RunRow
from perdure_node.node import Node

HISTORIES = Path(__file__).parents[1] / "histories"
STORED = sorted(HISTORIES.glob("*.history"))
PARTITION_COUNT = 16
"""As in the nodes that have recorded them: random numbers of a run depend on it."""


def test_there_are_histories_of_a_release() -> None:
    assert STORED


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_a_stored_history_is_replayed_to_the_same_end(path: Path, tmp_path: Path) -> None:
    _, [commit] = unpack_record(base64.decodebytes(path.read_bytes()))
    key = commit.key
    assert key is not None
    assert commit.progress is not None
    row = RunRow.of(commit.values)

    async def put_in() -> None:
        async with running(
            settings(tmp_path / "data", partition_count=PARTITION_COUNT), crash=True
        ) as (node, _):
            host = _host_of(node, key)
            begun = row._replace(status="running", code=0, result=b"").image()
            made = Commit(key, True, False, 1, begun, [], commit.progress, commit.events, [])
            host.partition.recorder.commit_run_whole(made)
            durable = asyncio.get_running_loop().create_future()
            host.partition.hold_all(lambda: durable.set_result(None))
            node._note(host)
            await durable

    async def replay() -> tuple[int, bytes]:
        async with running(settings(tmp_path / "data", partition_count=PARTITION_COUNT)) as (
            node,
            caller,
        ):
            target = ObjectKey(WORKFLOW, key.id)
            answer = await caller.client.call(target, Kind.ASK, "result", timeout_s=20)
            assert answer.code == 0, "it is not parked"
            assert not node._executor.runs._graces
            code, payload = codec.decode(answer.reply.payload)
            return code, payload

    asyncio.run(put_in())
    assert asyncio.run(replay()) == (row.code, row.result)


def _host_of(node: Node, key: ObjectKey) -> Any:
    return node._hosts.find(partition_of(key, node.partition_count))
