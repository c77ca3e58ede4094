"""A server that is compatible with OpenAI, and remembers every request: what paying once is
judged by.

It is a process of its own with a ledger that it appends to and fsyncs before it answers, and
again when an answer has been sent whole. Its model says the same to the same conversation:

    call NAME {"a": 1}     the tool of that name is called
    the result of a tool   "NAME says RESULT"
    anything else          "answer N to: ...", where N counts what the user has said

    POST /v1/chat/completions   a request, streamed or not
    POST /hold                  {"request": number, "chunks": after so many of its answer}, or
                                {"ahead": counted from now on, ...}; answers the number
                                What comes while it is held is kept back
    GET  /held                  answers whether that request is held, once it is or was released
    POST /release               lets it go
    GET  /ledger                all requests, in order
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypedDict

READY_S = 300.0


class Asked(TypedDict):
    """One request in the ledger."""

    number: int
    """Counts the requests, from 1."""
    conversation: list[list[str]]
    """Role and content of each message but the instructions; `call` and what, for a tool call."""
    instructions: str
    settings: dict[str, Any]
    """What else was sent, besides messages and tools."""
    finished: bool
    """The answer was sent whole."""


class ModelServer:
    """The server, as a test sees it."""

    def __init__(self, ledger: Path) -> None:
        self._file = ledger
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    @property
    def settings(self) -> dict[str, str]:
        """What tells OpenAI's library to ask it."""
        return {"OPENAI_BASE_URL": f"http://127.0.0.1:{self.port}/v1", "OPENAI_API_KEY": "none"}

    def start(self) -> None:
        """Start it."""
        # It reads its stdin to notice when whoever started it is gone.
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(self._file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the model server has not started"
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

    def hold(self, request: int, chunks: int) -> None:
        """Have the answer to a request held after some of its chunks, until it is released.

        One that has fewer chunks is held at its end.
        """
        self._ask("POST", "/hold", json.dumps({"request": request, "chunks": chunks}).encode())

    def hold_ahead(self, ahead: int, chunks: int) -> int:
        """Have the answer to a request held that has not come yet; return its number.

        Args:
            ahead: Counts the requests from now on, from 1. The server counts: others come and
                are answered while this is asked.
            chunks: As for `hold`.
        """
        wanted = json.dumps({"ahead": ahead, "chunks": chunks}).encode()
        return int(self._ask("POST", "/hold", wanted))

    def wait_until_held(self) -> bool:
        """Return once that request has come so far. False: it was released before."""
        return self._ask("GET", "/held") == b"true"

    def release(self) -> None:
        """Let it go."""
        self._ask("POST", "/release", b"")

    def ledger(self) -> list[Asked]:
        """Return all requests, in the order in which they came."""
        asked: list[Asked] = json.loads(self._ask("GET", "/ledger"))
        return asked

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
def running_model_server(ledger: Path) -> Iterator[ModelServer]:
    """Give a started server, and end it afterwards, however."""
    server = ModelServer(ledger)
    try:
        server.start()
        yield server
    finally:
        server.kill()


# What runs in the process.


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, ledger: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.changed = threading.Condition()
        self.asked: list[Asked] = []
        self.to_hold: tuple[int, int] | None = None
        self.held = False
        self._ledger = ledger.open("ab")

    def ask(self, body: dict[str, Any]) -> Asked:
        """Take a request into the ledger, durably."""
        conversation, instructions = _conversation(body["messages"])
        left_out = ("messages", "tools", "stream_options")
        asked = Asked(
            number=0,
            conversation=conversation,
            instructions=instructions,
            settings={name: value for name, value in body.items() if name not in left_out},
            finished=False,
        )
        with self.changed:
            asked["number"] = len(self.asked) + 1
            self.asked.append(asked)
            self._write(asked)
        return asked

    def finished(self, asked: Asked) -> None:
        """Note that an answer was sent whole."""
        with self.changed:
            asked["finished"] = True
            self._write(asked)

    def hold(self, wanted: dict[str, int]) -> bytes:
        """Hold that request when it comes, and let go what is held; answer its number."""
        with self.changed:
            request = wanted.get("request") or len(self.asked) + wanted["ahead"]
            self._hold_instead((request, wanted["chunks"]))
        return str(request).encode()

    def release(self) -> bytes:
        """Let go what is held; nothing to answer."""
        with self.changed:
            self._hold_instead(None)
        return b""

    def _hold_instead(self, to_hold: tuple[int, int] | None) -> None:
        self.held = False
        self.to_hold = to_hold
        self.changed.notify_all()

    def maybe_hold(self, request: int, chunks: int, *, last: bool = False) -> None:
        """Hold an answer here if that was asked for; `last`: it has no more chunks."""
        with self.changed:
            to_hold = self.to_hold
            if to_hold is None:
                return
            if request != to_hold[0]:
                self.changed.wait_for(lambda: not self.held or self.to_hold is not to_hold)
            elif chunks == to_hold[1] or (last and chunks < to_hold[1]):
                self.held = True
                self.changed.notify_all()
                self.changed.wait_for(lambda: self.to_hold is not to_hold)

    def _write(self, asked: Asked) -> None:
        self._ledger.write(json.dumps(asked).encode() + b"\n")
        self._ledger.flush()
        os.fsync(self._ledger.fileno())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone is nothing to talk about: it was killed by the test."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _conversation(messages: list[dict[str, Any]]) -> tuple[list[list[str]], str]:
    conversation: list[list[str]] = []
    instructions = ""
    for message in messages:
        if message["role"] == "system":
            instructions = message["content"]
            continue
        for call in message.get("tool_calls", ()):
            called = call["function"]
            conversation.append(["call", f"{called['name']} {called['arguments']}"])
        if message.get("content"):
            conversation.append([message["role"], message["content"]])
    return conversation, instructions


def answer_to(conversation: list[list[str]]) -> tuple[str, dict[str, Any] | None]:
    """Return what the model says to a conversation: text, or a call of a tool."""
    role, content = conversation[-1]
    if role == "tool":
        return f"{conversation[-2][1].split(' ')[0]} says {content}", None
    if content.startswith("call "):
        _, name, arguments = content.split(" ", 2)
        called = {"name": name, "arguments": arguments}
        id = f"c{len(conversation)}"
        return "", {"index": 0, "id": id, "type": "function", "function": called}
    number = sum(role == "user" for role, _ in conversation)
    return f"answer {number} to: {content}", None


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        with self.server.changed:
            if self.path == "/ledger":
                self._answer(json.dumps(self.server.asked).encode())
            else:
                self.server.changed.wait_for(
                    lambda: self.server.held or self.server.to_hold is None
                )
                self._answer(json.dumps(self.server.held).encode())

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True  # The client was killed while it wrote.
        elif self.path == "/v1/chat/completions":
            self._complete(json.loads(body))
        else:
            hold = self.path == "/hold"
            self._answer(self.server.hold(json.loads(body)) if hold else self.server.release())

    def _complete(self, body: dict[str, Any]) -> None:
        asked = self.server.ask(body)
        text, call = answer_to(asked["conversation"])
        reason = "stop" if call is None else "tool_calls"
        if body.get("stream"):
            words = [f"{word} " for word in text.split(" ")] if text else []
            self._stream(asked, words, call, reason)
        else:
            self.server.maybe_hold(asked["number"], 0, last=True)
            message: dict[str, Any] = {"role": "assistant", "content": text or None}
            if call is not None:
                message["tool_calls"] = [call]
            whole = {"message": message, "finish_reason": reason, "index": 0}
            self._answer(json.dumps(_frame("chat.completion", whole)).encode())
        self.server.finished(asked)

    def _stream(
        self, asked: Asked, words: list[str], call: dict[str, Any] | None, reason: str
    ) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        chunks: list[dict[str, Any]] = [{"content": word} for word in words]
        if call is not None:
            chunks.append({"tool_calls": [call]})
        for number, chunk in enumerate(chunks):
            self.server.maybe_hold(asked["number"], number)
            self._send(_frame("chat.completion.chunk", {"index": 0, "delta": chunk}))
        self.server.maybe_hold(asked["number"], len(chunks), last=True)
        end = {"index": 0, "delta": {}, "finish_reason": reason}
        self._send(_frame("chat.completion.chunk", end))
        self.wfile.write(b"data: [DONE]\n\n")

    def _send(self, frame: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(frame).encode() + b"\n\n")
        self.wfile.flush()

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _frame(kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    return {"id": "x", "object": kind, "created": 1, "model": "echo", "choices": [choice]}


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Serve until killed, or until whoever started it is gone."""
    server = _Server(Path(sys.argv[1]))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
