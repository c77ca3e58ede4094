"""What Redis does on this machine: a counter in memory, and each increment synced to its log."""

from __future__ import annotations

import csv
import resource
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from measuring import Cost, Round
from processes import free_port, started

SERVER, BENCHMARK = "redis-server", "redis-benchmark"
MISSING = "not installed: apt install redis-server"

CLIENTS = 64
KEYS = 1_000
FIRST_CALLS = 20_000
READY_S = 60.0


class Redis:
    """A running server."""

    def __init__(self, port: int, pid: int) -> None:
        self._port = port
        self._pid = pid
        self._rate = 0.0

    def increment(self, seconds: float) -> Round:
        """Increment counters for about so long."""
        if not self._rate:
            self._rate = self._run(FIRST_CALLS).rate
        done = self._run(max(FIRST_CALLS, round(self._rate * seconds)))
        self._rate = done.rate
        return done

    def _run(self, calls: int) -> Round:
        command = [BENCHMARK, "-h", "127.0.0.1", "-p", str(self._port), "-c", str(CLIENTS)]
        command += ["-n", str(calls), "-r", str(KEYS), "--csv"]
        command += ["INCR", "counter:__rand_int__"]
        cost = Cost({"redis": [self._pid]})
        before_s = _cpu_of_children_s()
        cost.begin()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as benchmark:
            try:
                printed, _ = benchmark.communicate()
            finally:
                benchmark.kill()
        spent = cost.end()
        client_s = _cpu_of_children_s() - before_s
        row = next(csv.DictReader(printed.splitlines()))
        return Round(
            calls,
            float(row["rps"]),
            float(row["p50_latency_ms"]),
            float(row["p99_latency_ms"]),
            {"client": client_s / calls * 1e6, "redis": spent.cpu_s["redis"] / calls * 1e6},
            max(0.0, spent.others_s - client_s) / spent.seconds,
        )


def _cpu_of_children_s() -> float:
    """Return the CPU of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def redis() -> Iterator[Redis | None]:
    """Run a server that syncs its log before it answers; None: it is not installed."""
    if shutil.which(SERVER) is None or shutil.which(BENCHMARK) is None:
        yield None
        return
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="redis-") as directory:
        command = [SERVER, "--bind", "127.0.0.1", "--port", str(port), "--dir", directory]
        command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        with started(command, stdout=subprocess.DEVNULL) as server:
            _wait_until_it_answers(port)
            yield Redis(port, server.pid)


def _wait_until_it_answers(port: int) -> None:
    give_up = time.monotonic() + READY_S
    while time.monotonic() < give_up:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(64).startswith(b"+PONG"):
                    return
        except OSError:
            pass  # It does not listen yet.
        time.sleep(0.05)
    raise SystemExit(f"redis-server did not answer within {READY_S:.0f} s")
