"""`perdure status`: 0 only when every partition is served by a node that is up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from harness.commands import perdure
from harness.loop import on_loop
from harness.serving import EchoBackend, serving

from perdure.serving.backend import Description, NodeDescription, PartitionDescription


@dataclass
class Described(EchoBackend):
    nodes: list[NodeDescription] = field(default_factory=list)

    async def describe(self) -> Description:
        return Description("c", 4, "r1", "router", self.nodes)


def node(name: str, states: dict[int, str], *, up: bool = True) -> NodeDescription:
    return NodeDescription(
        name, "", up, [PartitionDescription(number, 1, state) for number, state in states.items()]
    )


FIRST = node("n1", {0: "serving", 1: "serving"})


@pytest.mark.parametrize(
    ("second", "served"),
    [
        (node("n2", {2: "serving", 3: "serving"}), 4),
        (node("n2", {2: "serving", 3: "damaged"}), 3),
        (node("n2", {2: "serving", 3: "serving"}, up=False), 2),
        (node("n2", {}, up=False), 2),
        (node("n2", {2: "serving"}), 3),
    ],
    ids=["all", "one damaged", "a node down", "a node never seen", "one nobody has"],
)
@on_loop
async def test_status_is_0_when_every_partition_is_served_and_else_1(
    second: NodeDescription, served: int
) -> None:
    async with serving(Described(nodes=[FIRST, second])) as (_, address):
        while True:
            done = await asyncio.to_thread(perdure, "status", address=address)
            if "has not answered" not in done.stderr:
                break  # It waits a second, and no longer where the machine is busy.

    assert done.returncode == (0 if served == 4 else 1)
    assert done.stderr == ("" if served == 4 else f"perdure: {served} of 4 partitions are served\n")
    assert "n2" in done.stdout
