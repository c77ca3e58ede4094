from __future__ import annotations

import os
import subprocess
import sys

from harness.grpc_threads import SWITCHES

from perdure.process import EXIT_CONFIG, EXIT_HELD

SERVER = """
import sys
{functions}
from perdure.errors import ConfigError, StorageHeld
from perdure.process import run_server

async def serve():
    {body}

sys.exit(run_server("server", serve, log_level="{level}", parent_pid=None))
"""

ECHO = """
    import grpc.aio

    async def echo(message, _):
        return message

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("s", {"m": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/s/m")
        await call(b"")
        before = switches()
        for _ in range(100):
            await call(b"")
        print(switches() - before)
    await server.stop(None)
    return 0
"""
"""Prints how often gRPC's own threads went to sleep while 100 calls were answered."""


def run(
    body: str, *options: str, level: str = "info", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", SERVER.format(functions=SWITCHES, body=body, level=level)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def test_the_exit_status_is_that_of_the_server() -> None:
    assert run("return 70").returncode == 70


def test_a_server_refuses_to_run_without_its_assertions() -> None:
    done = run("return 0", "-O")

    assert done.returncode == EXIT_CONFIG
    assert done.stderr == (
        "perdure server: does not run under python -O: its assertions guard your data\n"
    )


def test_settings_that_cannot_be_are_one_line_and_a_status_of_their_own() -> None:
    done = run("raise ConfigError('no such app')")

    assert (done.returncode, done.stderr) == (EXIT_CONFIG, "perdure server: no such app\n")


def test_a_held_directory_is_one_line_and_a_status_of_its_own() -> None:
    done = run("raise StorageHeld('in use by process 7')")

    assert (done.returncode, done.stderr) == (EXIT_HELD, "perdure server: in use by process 7\n")


def test_logs_of_structlog_and_of_plain_loggers_go_to_stderr_from_the_chosen_level_on() -> None:
    body = (
        "import logging, structlog\n"
        "    structlog.get_logger('a').info('plain sailing')\n"
        "    structlog.get_logger('a').warning('rough sea', waves=7)\n"
        "    logging.getLogger('b').info('nothing')\n"
        "    logging.getLogger('b').error('man overboard %s', 'Jim')\n"
        "    return 0"
    )

    done = run(body, level="warning")

    assert done.stdout == ""
    assert "rough sea" in done.stderr
    assert "waves=7" in done.stderr
    assert done.stderr.count("server=server") == 2
    assert "man overboard Jim" in done.stderr
    assert "sailing" not in done.stderr
    assert "nothing" not in done.stderr


def test_messages_of_a_server_do_not_pass_through_grpcs_own_threads() -> None:
    done = run(ECHO.strip())

    assert (done.returncode, done.stderr) == (0, ""), "does gRPC still know what is set here?"
    assert int(done.stdout) < 50


def test_whoever_sets_what_grpc_tries_is_asked_for_it() -> None:
    done = run(ECHO.strip(), GRPC_EXPERIMENTS="event_engine_client,event_engine_listener")

    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) >= 100
