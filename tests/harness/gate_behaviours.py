"""What objects promise of methods that stay where they are for a while."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from pathlib import Path

from harness.app import Gate, has_entered, until_entered
from harness.behaviours import Restart, behaviour

from perdure import DeadlineExceeded, NotStarted, durable


async def _given_up(timeout_s: float) -> Gate:
    """Return an object whose method was entered, given up by its caller, and has ended."""
    with tempfile.TemporaryDirectory() as folder:
        for attempt in itertools.count():
            door = Path(folder) / f"door-{attempt}"
            gate = await Gate.get_or_create(f"given-up-{attempt}")
            try:
                await durable.options(gate, timeout=timeout_s * 2**attempt).wait_for(str(door))
            except (DeadlineExceeded, NotStarted):
                # Where the machine is busy, it has not come so far.
                entered = has_entered(door)
            door.touch()
            if entered:
                assert await gate.pass_by() == 2
                return gate
    raise AssertionError


@behaviour
async def a_caller_that_gives_up_does_not_cancel_the_method(restart: Restart) -> None:
    gate = await _given_up(timeout_s=0.2)
    await restart()
    assert await gate.pass_by() == 3


@behaviour
async def calls_to_different_objects_run_at_the_same_time(restart: Restart) -> None:
    gates = [await Gate.get_or_create(f"abreast-{number}") for number in range(8)]
    with tempfile.TemporaryDirectory() as folder:
        doors = [Path(folder) / str(number) for number in range(8)]
        calls = [gate.wait_for(str(door)) for gate, door in zip(gates, doors, strict=True)]
        # No door opens before all have come to theirs.
        for door in doors:
            await asyncio.to_thread(until_entered, door)
        for door in doors:
            door.touch()
        assert await asyncio.gather(*calls) == [1] * 8
    await restart()
    assert await asyncio.gather(*(gate.pass_by() for gate in gates)) == [2] * 8
