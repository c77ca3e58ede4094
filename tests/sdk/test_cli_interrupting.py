"""Ctrl-C or another signal ends what waits, whenever it comes."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from perdure.cli.interrupting import run_until_interrupted


async def for_ever() -> None:
    await asyncio.Event().wait()


def test_the_result_of_the_work_comes_back() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert run_until_interrupted(work()) == 7


def test_ctrl_c_cancels_the_work_which_may_clean_up() -> None:
    cleaned: list[str] = []

    async def work() -> None:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
        try:
            await for_ever()
        finally:
            await asyncio.sleep(0)
            cleaned.append("up")

    with pytest.raises(KeyboardInterrupt):
        run_until_interrupted(work())
    assert cleaned == ["up"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_any_of_the_signals_that_are_named_cancels_the_work(number: signal.Signals) -> None:
    async def work() -> None:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), number)
        await for_ever()

    with pytest.raises(KeyboardInterrupt):
        run_until_interrupted(work(), by=(signal.SIGINT, signal.SIGTERM))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_signal_that_comes_just_before_the_loop_waits_wakes_it() -> None:
    async def work() -> int:
        # What a signal writes to in the moment when it comes.
        wakes = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(wakes)
        return wakes

    assert run_until_interrupted(work()) != -1
