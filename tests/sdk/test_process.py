from __future__ import annotations

import subprocess
import sys

from perdure.process import EXIT_CONFIG, EXIT_HELD

SERVER = """
import sys
from perdure.errors import ConfigError, StorageHeld
from perdure.process import run_server

async def serve():
    {body}

sys.exit(run_server("server", serve, log_level="{level}", parent_pid=None))
"""


def run(body: str, *options: str, level: str = "info") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", SERVER.format(body=body, level=level)],
        check=False,
        capture_output=True,
        text=True,
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
