"""What a process leaves behind about the call that it ran when it died."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.core import CART, HERE, THERE

from perdure.bodies import Request
from perdure.frames import Kind
from perdure.schedules import TimerSetting
from perdure_node.core.blames import Driven
from perdure_node.core.calls import Call, Target
from perdure_node.core.firings import NOBODY
from perdure_node.core.window import SessionWindow
from perdure_node.driving import DrivenCoroutine, Driving


def call_of(session: bytes, sequence: int) -> Call:
    request = Request(Kind.CALL, session, sequence, 0, [0], *CART, "add", 0, b"", None, None, [], 0)
    return Call(CART, request, Target(shared=False, deferred=False), SessionWindow(0), 0)


@pytest.fixture
def driving(tmp_path: Path) -> Iterator[Driving]:
    opened = Driving.open(tmp_path, 7)
    opened.start()
    yield opened
    opened.close()


def last(directory: Path) -> Driven | None:
    """What the next process would find, if this one died now."""
    return Driving.open(directory, 8).last


def test_the_call_that_runs_is_found_by_the_next_process(tmp_path: Path, driving: Driving) -> None:
    assert last(tmp_path) is None
    driving.begin(5, call_of(HERE, 12))

    found = last(tmp_path)

    assert found is not None
    assert found[:4] == (5, 7, HERE, 12)


def test_a_call_that_has_come_back_is_not_found(tmp_path: Path, driving: Driving) -> None:
    outer = driving.outer()
    driving.begin(5, call_of(HERE, 12))
    driving.end(outer)

    assert last(tmp_path) is None


def test_a_call_goes_on_after_one_that_it_has_begun(tmp_path: Path, driving: Driving) -> None:
    driving.begin(5, call_of(HERE, 12))
    outer = driving.outer()
    driving.begin(6, call_of(THERE, 1))
    inner = last(tmp_path)
    driving.end(outer)

    found = last(tmp_path)

    assert inner is not None
    assert found is not None
    assert (inner.session, found.session) == (THERE, HERE)


def test_a_firing_is_found_with_its_timer(tmp_path: Path, driving: Driving) -> None:
    call = call_of(NOBODY, 0)
    call.firing = True
    call.timer = TimerSetting("täglich", 1_000, "add", b"", generation=3)

    driving.begin(5, call)

    assert last(tmp_path) == Driven(5, 7, NOBODY, 0, CART, "täglich", 3, 1_000)


def test_it_stays_until_the_next_process_says_that_it_has_it(
    tmp_path: Path, driving: Driving
) -> None:
    driving.begin(5, call_of(HERE, 12))
    again = Driving.open(tmp_path, 8)
    assert again.last == last(tmp_path)

    again.start()

    assert last(tmp_path) is None


def test_another_boot_of_the_machine_blames_nobody(tmp_path: Path, driving: Driving) -> None:
    driving.begin(5, call_of(HERE, 12))
    assert last(tmp_path) is not None

    boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()[:36]
    with (tmp_path / "driving").open("r+b") as file:
        assert file.read(52).endswith(boot), "it is noted behind 16 bytes"
        file.seek(16)
        file.write(b"another".ljust(36))

    assert last(tmp_path) is None


def test_what_runs_on_after_the_end_of_the_node_is_not_noted(
    tmp_path: Path, driving: Driving
) -> None:
    driving.close()

    driving.begin(5, call_of(HERE, 12))

    assert last(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\xff" * 4096])
def test_a_file_that_says_nothing_blames_nobody(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "driving").write_bytes(content)

    assert last(tmp_path) is None


def test_a_task_is_noted_while_its_code_runs_and_not_while_it_waits(
    tmp_path: Path, driving: Driving
) -> None:
    seen: list[Any] = []

    def note() -> None:
        found = last(tmp_path)
        seen.append(None if found is None else found.sequence)

    async def method(waits_for: asyncio.Future[str]) -> str:
        note()
        try:
            await waits_for
        except ValueError as error:
            note()
            return str(error)
        return "no error"

    async def program() -> str:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        coroutine = DrivenCoroutine(method(future), driving, 5, call_of(HERE, 12))
        task = asyncio.create_task(coroutine)
        await asyncio.sleep(0)
        note()
        future.set_exception(ValueError("so"))
        return await task

    assert asyncio.run(program()) == "so"
    note()
    assert seen == [12, None, 12, None]
