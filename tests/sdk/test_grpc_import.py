from __future__ import annotations

import asyncio
import inspect
import os
import sys
from pathlib import Path

import pytest
from harness.grpc_threads import SWITCHES
from harness.world import Served

from perdure import DurableObject, durable


@durable.object
class Gong(DurableObject):
    """Rung by programs of their own."""

    def __init__(self, gong_id: str) -> None:
        super().__init__(gong_id)
        self.rung = 0

    async def ring(self) -> int:
        self.rung += 1
        return self.rung


RINGS = (
    """
import asyncio, os, sys
{first}
from perdure import DurableObject, durable

"""
    + inspect.getsource(Gong)
    + SWITCHES
    + """
async def main():
    gong = await Gong.get_or_create("b")
    before = switches()
    for _ in range(100):
        last = await gong.ring()
    print(last, switches() - before, os.environ.get("GRPC_EXPERIMENTS"))

asyncio.run(main())
"""
)
"""Prints the last answer, how often gRPC's threads slept meanwhile, and what children are told."""

NEWER = "event_engine_client,event_engine_listener"


def rung(data: Path, first: str = "", **environment: str) -> tuple[int, int, str]:
    async def main() -> tuple[bytes, bytes]:
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", RINGS.format(first=first)),
            env={**os.environ, **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return await program.communicate()

    out, err = Served(data).run(main)
    assert err == b"", "does gRPC still know what is set here?"
    last, switches, told = out.decode().split()
    return int(last), int(switches), told


def test_messages_of_a_program_that_calls_do_not_pass_through_grpcs_own_threads(
    tmp_path: Path,
) -> None:
    last, switches, told = rung(tmp_path)

    assert (last, told) == (100, "None")
    assert switches < 50


@pytest.mark.parametrize(
    ("first", "environment"),
    [
        pytest.param("", {"GRPC_EXPERIMENTS": NEWER}, id="by the variable"),
        pytest.param("import grpc", {}, id="by importing gRPC first"),
    ],
)
def test_a_program_that_has_chosen_keeps_what_it_has(
    tmp_path: Path, first: str, environment: dict[str, str]
) -> None:
    last, switches, told = rung(tmp_path, first, **environment)

    assert (last, told) == (100, environment.get("GRPC_EXPERIMENTS", "None"))
    assert switches >= 100
