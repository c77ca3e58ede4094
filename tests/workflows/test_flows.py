"""Every promise about workflows, in a program's own node and with code dropped at every wait."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.flow_rows import FLOWS
from harness.flows import Flow
from harness.world import Embedded, Served, World

from perdure_node.core.limits import Limits


@pytest.fixture(params=["embedded", "dropped at every wait"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    if request.param == "embedded":
        return Embedded(tmp_path / "data")
    return Served(tmp_path / "data", Limits(runs_in_memory_max=0))


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.__name__)
def test_it_comes_out_the_same(world: World, flow: Flow) -> None:
    world.run(flow)
