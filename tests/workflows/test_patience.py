"""Who waits for the end of a run takes nobody's place."""

from __future__ import annotations

import asyncio
from pathlib import Path

import harness.flows
from harness.nodes import result_of, running, settings

from perdure import codec
from perdure.client import Client
from perdure.frames import Kind
from perdure.ids import ObjectKey
from perdure.session_limits import SessionLimits
from perdure_node.core.run_rows import WORKFLOW


def test_calls_go_on_while_many_wait_for_the_ends_of_runs(tmp_path: Path) -> None:
    assert harness.flows.flow_takes

    async def program() -> None:
        async with running(settings(tmp_path / "data", partition_count=1)) as (node, _):
            client = Client(node.transport(), limits=SessionLimits(sent_calls_max=2))
            runs = [ObjectKey(WORKFLOW, f"r{n}") for n in range(8)]
            for run in runs:
                packed = codec.encode([codec.encode([[run.id, 1], {}]), None])
                started = client.call(run, Kind.START, "flow_takes", arguments=packed)
                assert result_of(await started) is True
            ends = [client.call(run, Kind.ASK, "result", timeout_s=None) for run in runs]
            for number, run in enumerate(runs):
                payload = codec.encode(number)
                told = client.call(run, Kind.NOTIFY, run.id, arguments=payload)
                assert result_of(await told) is None
            for number, end in enumerate(await asyncio.gather(*ends)):
                code, result = result_of(end)
                assert (code, codec.decode(result)) == (0, [number])
            await client.close()

    asyncio.run(program())
