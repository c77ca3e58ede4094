from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from perdure.cli.child import Program
from perdure.cli.failure import CommandFailed
from perdure.cli.supervisor import Supervisor
from perdure.process import EXIT_CONFIG


def program(name: str, code: str, drain_s: float = 20.0, **settings: float) -> Program:
    return Program(name, [sys.executable, "-c", code], dict(os.environ), drain_s, **settings)


class Output:
    """What programs have printed, and an event for whoever waits for a line."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._more = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, name: str, line: str) -> None:
        self.lines.append(f"{name}: {line}")
        task = asyncio.create_task(self._tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        async with self._more:
            self._more.notify_all()

    async def until(self, *lines: str) -> None:
        async with self._more:
            await self._more.wait_for(lambda: all(line in self.lines for line in lines))


async def never() -> None:
    await asyncio.get_running_loop().create_future()


async def at_once() -> None:
    pass


LIVES = "import signal; print('ready', flush=True); signal.pause()"

ENDS_POLITELY = """
import signal, sys
def end(*_):
    print('ended', flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print('ready', flush=True)
while True: signal.pause()
"""


def test_a_program_that_dies_is_started_again(tmp_path: Path) -> None:
    code = f"""
import os, signal, sys
path = {str(tmp_path / "starts")!r}
open(path, "a").write("x")
if os.path.getsize(path) < 3: os.kill(os.getpid(), signal.SIGKILL)
print('ready', flush=True)
signal.pause()
"""

    async def scenario() -> list[str]:
        output, stop = Output(), asyncio.Event()
        run = asyncio.create_task(
            Supervisor([[program("one", code)]], output.take).run(at_once(), stop)
        )
        await output.until("one: ready")
        stop.set()
        await run
        return output.lines

    again = "one: was ended by SIGKILL; starts again"
    assert asyncio.run(scenario()) == [again, again, "one: ready"]


def test_what_keeps_dying_is_started_again_as_soon_as_its_setting_says(tmp_path: Path) -> None:
    code = f"""
import os, sys
path = {str(tmp_path / "starts")!r}
open(path, "a").write("x")
if os.path.getsize(path) == 11: print('ready', flush=True)
"""

    async def scenario() -> float:
        output, stop = Output(), asyncio.Event()
        restless = program("one", code, restart_wait_max_s=0.01)
        started_s = time.monotonic()
        run = asyncio.create_task(Supervisor([[restless]], output.take).run(at_once(), stop))
        await output.until("one: ready")
        stop.set()
        await run
        return time.monotonic() - started_s

    # The waits that double would come to 26 seconds.
    assert asyncio.run(scenario()) < 25


def test_a_program_that_refuses_to_start_ends_all_with_its_own_words() -> None:
    refuses = (
        f"import sys; print('perdure bad: no such app', file=sys.stderr); sys.exit({EXIT_CONFIG})"
    )

    async def scenario() -> list[str]:
        output = Output()
        supervisor = Supervisor([[program("good", LIVES)], [program("bad", refuses)]], output.take)
        with pytest.raises(CommandFailed, match=r"^no such app$"):
            await supervisor.run(never(), asyncio.Event())
        return output.lines

    assert "bad: perdure bad: no such app" not in asyncio.run(scenario())


def test_a_program_that_crashes_at_every_start_is_given_up() -> None:
    async def scenario() -> list[str]:
        output = Output()
        supervisor = Supervisor([[program("bad", "raise SystemExit(3)")]], output.take)
        with pytest.raises(CommandFailed, match="bad ended with status 3"):
            await supervisor.run(never(), asyncio.Event())
        return output.lines

    assert asyncio.run(scenario()) == ["bad: ended with status 3; starts again"] * 2


def test_once_all_was_served_no_refusal_ends_the_others(tmp_path: Path) -> None:
    code = f"""
import os, signal, sys
path = {str(tmp_path / "starts")!r}
open(path, "a").write("x")
if os.path.getsize(path) < 5:
    print('perdure one: the app is broken', flush=True)
    sys.exit({EXIT_CONFIG})
print('ready', flush=True)
signal.pause()
"""

    async def scenario() -> list[str]:
        output, stop = Output(), asyncio.Event()
        broken = program("one", code, restart_wait_max_s=0.1)
        run = asyncio.create_task(Supervisor([[broken]], output.take).run(at_once(), stop))
        await output.until("one: ready")
        stop.set()
        await run
        return output.lines

    assert asyncio.run(scenario()).count("one: the app is broken") == 4


def test_groups_end_one_after_the_other() -> None:
    async def scenario() -> tuple[list[str], list[str]]:
        output, stop = Output(), asyncio.Event()
        groups = [
            [program("first", ENDS_POLITELY)],
            [program("second", ENDS_POLITELY), program("third", ENDS_POLITELY)],
        ]
        supervisor = Supervisor(groups, output.take)
        run = asyncio.create_task(supervisor.run(at_once(), stop))
        await output.until("first: ready", "second: ready", "third: ready")
        stop.set()
        await run
        return output.lines[3:], supervisor.killed

    lines, killed = asyncio.run(scenario())

    assert lines[0] == "first: ended"
    assert sorted(lines[1:]) == ["second: ended", "third: ended"]
    assert killed == []


IGNORES_SIGTERM = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('ready', flush=True)
while True: signal.pause()
"""


def test_a_program_that_does_not_end_in_its_time_is_killed_and_named() -> None:
    async def scenario() -> list[str]:
        output, stop = Output(), asyncio.Event()
        supervisor = Supervisor([[program("stubborn", IGNORES_SIGTERM, drain_s=0.1)]], output.take)
        run = asyncio.create_task(supervisor.run(at_once(), stop))
        await output.until("stubborn: ready")
        stop.set()
        await run
        return supervisor.killed

    assert asyncio.run(scenario()) == ["stubborn"]


def test_a_second_request_to_end_kills_at_once() -> None:
    async def scenario() -> float:
        output, stop = Output(), asyncio.Event()
        supervisor = Supervisor([[program("stubborn", IGNORES_SIGTERM)]], output.take)
        run = asyncio.create_task(supervisor.run(at_once(), stop))
        await output.until("stubborn: ready")
        stop.set()
        started_s = time.monotonic()
        asyncio.get_running_loop().call_later(0.05, supervisor.kill)
        await run
        return time.monotonic() - started_s

    assert asyncio.run(scenario()) < 10


def test_output_that_is_no_text_and_has_no_lines_is_passed_on_all_the_same() -> None:
    code = "import sys; sys.stdout.buffer.write(b'\\xff' * 200_000 + b'\\nlast')"

    async def scenario() -> list[str]:
        output, stop = Output(), asyncio.Event()
        supervisor = Supervisor([[program("loud", code)]], output.take)
        run = asyncio.create_task(supervisor.run(at_once(), stop))
        await output.until("loud: last")
        stop.set()
        await run
        return output.lines

    lines = asyncio.run(scenario())
    assert sum(line.count("\ufffd") for line in lines[: lines.index("loud: last")]) == 200_000


def test_what_was_printed_in_time_is_heard_although_the_supervisor_has_not_run_meanwhile() -> None:
    shell = ["sh", "-c", "(sleep 0.5; printf late) & echo first"]
    output = Output()

    async def scenario() -> None:
        stop = asyncio.Event()
        forks = Program("forks", shell, dict(os.environ), 20.0)
        run = asyncio.create_task(Supervisor([[forks]], output.take).run(at_once(), stop))
        await output.until("forks: first")
        # Its program ends, and what that has left behind speaks while this process does nothing.
        await asyncio.sleep(0.2)
        time.sleep(2)
        await output.until("forks: ended with status 0; starts again")
        stop.set()
        await run

    asyncio.run(scenario())
    assert output.lines[:2] == ["forks: first", "forks: late"]


def test_a_server_whose_supervisor_is_killed_is_killed_with_it(tmp_path: Path) -> None:
    server = (
        "import asyncio, os, sys\n"
        "from perdure.process import run_server\n"
        "async def serve():\n"
        "    print('serving', flush=True)\n"
        "    await asyncio.get_running_loop().create_future()\n"
        "run_server('server', serve, log_level='info', parent_pid=int(sys.argv[1]))"
    )
    parent = (
        "import os, subprocess, sys, signal\n"
        f"subprocess.Popen([sys.executable, '-c', {server!r}, str(os.getpid())])\n"
        "signal.pause()"
    )
    read_end, write_end = os.pipe()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", parent],
        dict(os.environ),
        file_actions=[(os.POSIX_SPAWN_DUP2, write_end, 1)],
    )
    os.close(write_end)
    with os.fdopen(read_end) as output:
        assert output.readline() == "serving\n"

        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

        # The end of the output comes when nobody can write to it any more.
        assert output.read() == ""
