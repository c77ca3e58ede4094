"""One node of this machine, called without a router: started, waited for, and ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from processes import LAUNCH, free_port

SCRIPTS = Path(__file__).parent
APP = SCRIPTS / "measured_app.py"
TOLD_S = 120.0

COMPILED = Path(tempfile.gettempdir()) / f"perdure-measured-compiled-{os.getuid()}"
"""Where Python keeps compiled modules: what pip has installed is compiled, whatever is wanted of
the Python that measures."""

CHILD = """
import os, sys
os.execv(sys.argv[1], [*sys.argv[1:], "--parent-pid", str(os.getppid())])
"""
"""Runs a node that ends with its parent, whoever that is."""


@dataclass(frozen=True)
class OneNode:
    """A running node."""

    address: str
    process: psutil.Process
    data: Path
    began: float
    """When its process was started, by `time.perf_counter`."""
    ready_s: float
    """From then until it served."""

    @property
    def rss_bytes(self) -> int:
        """Its resident memory now."""
        return int(self.process.memory_info().rss)

    def allocations(self) -> dict[str, Any]:
        """Return what its Python code has allocated: `bytes`, and by `places`."""
        written = self._allocations
        written.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR1)
        give_up = time.monotonic() + TOLD_S
        while not written.exists():
            if time.monotonic() > give_up or not self.process.is_running():
                raise SystemExit("the node does not tell what it has allocated")
            time.sleep(0.05)
        told: dict[str, Any] = json.loads(written.read_text())
        return told

    @property
    def _allocations(self) -> Path:
        return allocations_of(self.data)


def allocations_of(data: Path) -> Path:
    """Return where a node with this folder writes what it has allocated."""
    return data.with_name(f"{data.name}.allocations")


@contextmanager
def one_node(
    data: Path,
    *,
    partitions: int = 64,
    traced: bool = False,
    fdatasync_delay_us: int = 0,
    kill: bool = False,
) -> Iterator[OneNode]:
    """Start a node, and end it afterwards.

    Args:
        data: Its folder. If there is none, it is made by the node.
        partitions: Of the new folder.
        traced: Its allocations are traced, which makes it slower.
        fdatasync_delay_us: So much longer each of its fdatasyncs takes. That needs strace.
        kill: It ends as in a crash, by SIGKILL.
    """
    address = f"127.0.0.1:{free_port()}"
    tracing = ["-X", "tracemalloc=1"] if traced else []
    command = [sys.executable, *tracing, "-P", "-m", "perdure_node", "--name", "n1"]
    command += ["--listen", address, "--node", f"n1={address}", "--data", str(data)]
    command += ["--app", str(APP), "--cluster-id", "measured", "--partitions", str(partitions)]
    if not (data / "node.json").exists():
        command.append("--init")
    if fdatasync_delay_us:
        command = _with_slow_disk(fdatasync_delay_us, command)
    else:
        command += ["--parent-pid", str(os.getpid())]
    environment = {**compiled(), "MEASURED_ALLOCATIONS": str(allocations_of(data))}
    began = time.perf_counter()
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            ready_s = _wait_until_served(process) - began
            # strace may be around it.
            outermost = psutil.Process(process.pid)
            node = [outermost, *outermost.children(recursive=True)][-1]
            yield OneNode(address, node, data, began, ready_s)
            (node.kill if kill else node.terminate)()
            process.wait()
        finally:
            # Whatever it has started ends with it.
            process.kill()


def imports_s() -> float:
    """Return how long a Python takes that imports all of a node, and ends."""
    script = "import perdure_node.__main__, measured_app, perdure_node.server"
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", script], cwd=SCRIPTS, env=compiled(), check=True)
    return time.perf_counter() - began


def compiled() -> dict[str, str]:
    """Return the environment of a Python that compiles each module once."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(COMPILED)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def _with_slow_disk(delay_us: int, command: Sequence[str]) -> list[str]:
    """Return what runs a node so that each fdatasync takes longer, and nothing else does."""
    if shutil.which("strace") is None:
        raise SystemExit("there is no strace: apt-get install strace")
    inject = f"inject=fdatasync:delay_exit={delay_us}"
    traced = ["strace", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fdatasync"]
    launch = [sys.executable, "-c", LAUNCH, str(os.getpid())]
    return [*launch, *traced, "-e", inject, sys.executable, "-c", CHILD, *command]


def _wait_until_served(process: subprocess.Popen[str]) -> float:
    """Return when it said that it serves. What it says is passed on, there and later."""
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        if "node serves" in line:
            served = time.perf_counter()
            threading.Thread(target=_pass_on, args=(process,), daemon=True).start()
            return served
        lines.append(line)
    raise SystemExit("the node has ended:\n" + "".join(lines))


def _pass_on(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if "[info" not in line:
            sys.stderr.write(line)
