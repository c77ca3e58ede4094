"""A service outside of Perdure that remembers every attempt: what exactly-once is judged by.

It is a process of its own with a ledger that it appends to and fsyncs before it answers. It does
the work of each idempotency key once; the same key again gets the recorded answer. Tests tell it
to fail, and read afterwards what has reached it.

    POST /<method>      an attempt, with `Idempotency-Key`
    POST /plan/<method> what the next attempts of a method get, one `Fate` each
    POST /release       let go on whatever is held
    GET  /ledger        all attempts, in order
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypedDict

READY_S = 300.0


class Fate(TypedDict, total=False):
    """What one attempt gets. Nothing said: the work is done and answered."""

    status: int
    """Answered instead of doing the work."""
    text: str
    """The body of that answer; or of the answer to the work, as it is."""
    headers: dict[str, str]
    drop: str
    """`before` or `after` the work: the connection is closed without an answer."""
    hold: bool
    """The answer to the work waits for `release`."""
    answer: Any
    """The answer of the work, which is recorded."""


class Entry(TypedDict):
    """One attempt in the ledger."""

    key: str
    method: str
    attempt: str
    payload: Any
    """None: there was no body."""
    applied: bool
    """This attempt did the work of its key."""
    answer: Any
    """What the work gave; None when it has not been done."""
    misused: bool
    """The key had been used for something else."""


class Witness:
    """The witness, as a test sees it."""

    def __init__(self, ledger: Path) -> None:
        self._file = ledger
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; again on the same port and ledger if it has run before."""
        # It reads its stdin to notice when whoever started it is gone.
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(self._file), str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the witness has not started"
        self.port = int(line)

    def kill(self) -> None:
        """End it with kill -9."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process = None

    def plan(self, method: str, *fates: Fate) -> None:
        """Say what the next attempts of a method get."""
        self._ask("POST", f"/plan/{method}", json.dumps(fates).encode())

    def release(self) -> None:
        """Let all held answers go, those to come too."""
        self._ask("POST", "/release", b"")

    def ledger(self) -> list[Entry]:
        """Return all attempts, in the order in which they were recorded."""
        entries: list[Entry] = json.loads(self._ask("GET", "/ledger"))
        return entries

    def effects(self) -> dict[str, Entry]:
        """Return the attempt that did the work, of each key.

        Raises:
            AssertionError: The work of a key was done twice, or a key used for two things.
        """
        effects: dict[str, Entry] = {}
        for entry in self.ledger():
            assert not entry["misused"], f"a key used for something else: {entry}"
            if entry["applied"]:
                assert entry["key"] not in effects, f"done twice: {entry}"
                effects[entry["key"]] = entry
        return effects

    def _ask(self, verb: str, path: str, body: bytes | None = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=READY_S)
        try:
            connection.request(verb, path, body)
            response = connection.getresponse()
            content = response.read()
            assert response.status == 200, content
            return content
        finally:
            connection.close()


@contextmanager
def running_witness(ledger: Path) -> Iterator[Witness]:
    """Give a started witness, and end it afterwards, however."""
    witness = Witness(ledger)
    try:
        witness.start()
        yield witness
    finally:
        witness.kill()


# What runs in the process.


class _Ledger:
    """Attempts in a file, and by key. What waits for the disk at one time is synced together."""

    def __init__(self, path: Path) -> None:
        self._changed = threading.Condition()
        self._pending: list[bytes] = []
        self._synced = 0
        self.entries: list[Entry] = []
        self.effects: dict[str, Entry] = {}
        whole = 0
        if path.exists():
            for line in path.read_bytes().splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    break  # It was being written when the witness was killed: nobody was answered.
                whole += len(line)
                self._note(json.loads(line))
        self._synced = len(self.entries)
        self._file = path.open("ab")
        self._file.truncate(whole)
        threading.Thread(target=self._write, daemon=True).start()

    def record(
        self, key: str, method: str, attempt: str, payload: Any, answer: Any, *, work: bool
    ) -> Entry:
        """Record an attempt, durably; `work`: it does the work unless that has been done."""
        with self._changed:
            done = self.effects.get(key)
            misused = done is not None and (done["method"], done["payload"]) != (method, payload)
            applied = work and done is None
            if applied and answer is None:
                answer = {"receipt": f"r{len(self.effects) + 1}", "echo": payload}
            entry = Entry(
                key=key,
                method=method,
                attempt=attempt,
                payload=payload,
                applied=applied,
                answer=answer if applied else None if done is None else done["answer"],
                misused=misused,
            )
            self._note(entry)
            self._pending.append(json.dumps(entry).encode() + b"\n")
            number = len(self.entries)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._synced >= number)
        return entry

    def _note(self, entry: Entry) -> None:
        self.entries.append(entry)
        if entry["applied"]:
            self.effects[entry["key"]] = entry

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending)
                lines, self._pending = self._pending, []
            self._file.write(b"".join(lines))
            self._file.flush()
            os.fsync(self._file.fileno())
            with self._changed:
                self._synced += len(lines)
                self._changed.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, port: int, ledger: _Ledger) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.ledger = ledger
        self.lock = threading.Lock()
        self.plans: dict[str, deque[Fate]] = {}
        self.released = threading.Event()

    def next_fate(self, method: str) -> Fate:
        with self.lock:
            plan = self.plans.get(method)
            return plan.popleft() if plan else Fate()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone is nothing to talk about: it was killed by the test."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path == "/ledger":
            with self.server.lock:
                self._answer(200, json.dumps(list(self.server.ledger.entries)).encode())
        else:
            self._answer(405, b"POST it")

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True  # The client was killed while it wrote.
            return
        path = self.path.removeprefix("/")
        if path == "release":
            self.server.released.set()
            self._answer(200, b"")
        elif path.startswith("plan/"):
            with self.server.lock:
                self.server.plans[path.removeprefix("plan/")] = deque(json.loads(body))
            self._answer(200, b"")
        else:
            self._attempt(path, json.loads(body) if body else None)

    def _attempt(self, method: str, payload: Any) -> None:
        key = self.headers.get("Idempotency-Key", "")
        attempt = self.headers.get("Perdure-Attempt", "")
        fate = self.server.next_fate(method)
        work = "status" not in fate and fate.get("drop") != "before"
        entry = self.server.ledger.record(
            key, method, attempt, payload, fate.get("answer"), work=work
        )
        headers = fate.get("headers", {})
        if "drop" in fate:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif "status" in fate:
            self._answer(fate["status"], fate.get("text", "").encode(), headers)
        elif entry["misused"]:
            self._answer(422, b"the key was used for something else")
        else:
            if fate.get("hold"):
                self.server.released.wait()
            text = fate.get("text", json.dumps(entry["answer"]))
            self._answer(200, text.encode(), headers)

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Serve until killed, or until whoever started it is gone."""
    path, port = sys.argv[1:]
    server = _Server(int(port), _Ledger(Path(path)))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
