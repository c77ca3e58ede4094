"""What objects take in a node's memory, and what grows there under load."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from statistics import linear_regression
from typing import TYPE_CHECKING, Any

from findings import Findings, at_most
from node_calls import adding, client_of, each, folder, load, make_and_add
from one_node import OneNode, one_node

from perdure import codec

if TYPE_CHECKING:
    from measure_node import Scale

RESIDENT_BYTES = 2_048.0
GROWTH_BYTES = 1.0
"""For each call. The least that a call can leave behind, a reference in a list, takes 8."""

LOOKS = 10
WARM_UP_LOOKS = 2
PLACES = 8


def resident(scale: Scale, found: Findings) -> None:
    """See how much memory a small object takes, as the system counts it and as Python does."""
    state = len(codec.encode({"value": 1}))
    for traced in (False, True):
        with folder() as data, one_node(data, partitions=scale.partitions, traced=traced) as node:
            measure: Callable[[OneNode], float] = _traced if traced else _rss
            before, after = asyncio.run(_fill(node, scale, measure))
        for_each = (after - before) / scale.small_objects - state
        if traced:
            found.add("traced_bytes", "... of them allocated by Python", for_each, "bytes")
        else:
            text = "a small object in memory, above its state"
            found.add("rss_bytes", text, for_each, "bytes", at_most(RESIDENT_BYTES))
    found.notes |= {"objects": scale.small_objects, "state_bytes": state}


async def _fill(
    node: OneNode, scale: Scale, measure: Callable[[OneNode], float]
) -> tuple[float, float]:
    async with client_of(node.address) as client:
        # What the first objects bring along does not count.
        await make_and_add(client, "before", scale.small_objects // 10)
        await asyncio.sleep(scale.settle_s)
        before = measure(node)
        await make_and_add(client, "small", scale.small_objects)
        await asyncio.sleep(scale.settle_s)
        return before, measure(node)


def growth(scale: Scale, found: Findings) -> None:
    """Load two nodes with calls; see what grows in one that is traced and in one that is not.

    They are looked at ten times, when they have nothing to do. The first two looks do not count,
    nor do the calls before: until a journal is trimmed for the first time, it takes some bytes
    more with each call to remember where its records lie.
    """
    with folder() as one, folder() as other, ExitStack() as nodes:
        traced = nodes.enter_context(one_node(one, partitions=scale.partitions, traced=True))
        plain = nodes.enter_context(one_node(other, partitions=scale.partitions))
        looks = asyncio.run(_growth(traced, plain, scale))[WARM_UP_LOOKS:]
    for name, text in (
        ("traced", "allocations that stay, for each call"),
        ("rss", "resident memory that stays, for each call"),
    ):
        calls = [look[f"{name}_calls"] for look in looks]
        held = [look[f"{name}_bytes"] for look in looks]
        # In steps of memory that is taken at once: a line through all looks tells most.
        slope = linear_regression(calls, held).slope
        found.add(f"{name}_bytes_per_call", text, slope, "bytes", at_most(GROWTH_BYTES))
        found.notes |= {f"{name}_calls": calls, f"{name}_bytes": held}
    found.notes |= {"grown": _grown(looks), "minutes": scale.minutes}


async def _growth(traced: OneNode, plain: OneNode, scale: Scale) -> list[dict[str, Any]]:
    calls = [0, 0]
    looks: list[dict[str, Any]] = []
    async with client_of(traced.address) as one, client_of(plain.address) as other:
        count = scale.warm_up_calls
        await asyncio.gather(*(each(count, adding(client)) for client in (one, other)))
        for _ in range(LOOKS):
            seconds = 60 * scale.minutes / LOOKS
            done = await asyncio.gather(load(one, seconds), load(other, seconds))
            calls = [a + b for a, b in zip(calls, done, strict=True)]
            await asyncio.sleep(scale.settle_s)
            told = traced.allocations()
            looks.append(
                {
                    "traced_calls": calls[0],
                    "traced_bytes": told["bytes"],
                    "places": told["places"],
                    "rss_calls": calls[1],
                    "rss_bytes": plain.rss_bytes,
                }
            )
    return looks


def _grown(looks: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Return the lines whose allocations have grown most, and by how many bytes."""
    first, last = looks[0]["places"], looks[-1]["places"]
    grown = {place: size - first.get(place, 0) for place, size in last.items()}
    return dict(sorted(grown.items(), key=lambda item: -item[1])[:PLACES])


def _traced(node: OneNode) -> float:
    return float(node.allocations()["bytes"])


def _rss(node: OneNode) -> float:
    return float(node.rss_bytes)
