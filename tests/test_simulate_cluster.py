"""The simulation of clusters that are too large to be run: it keeps to its own rules."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "simulate_cluster.py"


def load() -> ModuleType:
    """Import the script, which is in no package."""
    spec = importlib.util.spec_from_file_location("simulate_cluster", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its data classes look themselves up there.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


sim = load()

COSTS = sim.Costs(
    client_call=10.0, client_message=100.0, node_call=20.0, node_message=200.0, node_group=70.0,
    router_call=5.0, router_client=80.0, router_node=60.0, sync_us=100.0, wire_us=30.0,
)  # fmt: skip


def run(*shape: int | None, calls: int = 2_000) -> Any:
    return sim.Simulation(sim.Shape(*shape), COSTS).run(calls, calls)


def test_a_lone_call_takes_as_long_as_all_that_is_done_for_it() -> None:
    outcome = run(1, 0, 1, 1)

    # Without the half of its client's cost that comes after its answer, and before it is sent.
    worked_us = COSTS.node_call + COSTS.node_message + COSTS.node_group
    assert outcome.p50_ms * 1e3 == pytest.approx(worked_us + COSTS.sync_us + 2 * COSTS.wire_us)
    between_us = COSTS.client_call + COSTS.client_message
    assert 1e6 / outcome.rate == pytest.approx(outcome.p50_ms * 1e3 + between_us, rel=0.01)


def test_calls_of_one_message_share_its_cost() -> None:
    alone, together = run(1, 1, 1, 1), run(1, 1, 1, 50)

    sides = COSTS.router_client + COSTS.router_node
    assert alone.cpu_us["router"] == pytest.approx(COSTS.router_call + sides)
    assert together.cpu_us["router"] == pytest.approx(COSTS.router_call + sides / 50, rel=0.05)
    assert together.batch["node"] == pytest.approx(50)


def test_more_nodes_thin_the_messages_of_a_router() -> None:
    few, many = run(1, 1, 4, 64), run(40, 1, 4, 64)

    assert many.batch["node"] < few.batch["node"]
    assert many.cpu_us["router"] > few.cpu_us["router"]


def test_processes_share_the_cores_that_there_are() -> None:
    outcome = run(3, 1, 1, 64, 2)
    used = outcome.busy["node"] * 3 + outcome.busy["router"] + outcome.busy["client"]

    assert 1 < used <= 2.01
    assert outcome.rate < run(3, 1, 1, 64, None).rate


def test_a_node_does_not_answer_faster_than_it_works() -> None:
    outcome = run(1, 0, 8, 512, calls=20_000)

    assert outcome.rate < 1e6 / COSTS.node_call
    assert outcome.rate > 0.9 * 1e6 / (
        COSTS.node_call + (COSTS.node_message + COSTS.node_group) / 512
    )


def test_the_same_seed_brings_the_same_outcome() -> None:
    assert dataclasses.asdict(run(5, 2, 4, 16)) == dataclasses.asdict(run(5, 2, 4, 16))
