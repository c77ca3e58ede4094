"""`perdure check`: what was typed, and what is printed."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TextIO

from rich.console import Console

from perdure.check.faults import FAULTS
from perdure.check.history import write_events
from perdure.check.report import as_json, print_report
from perdure.check.run import Settings, run_check
from perdure.cli.failure import USAGE, CommandFailed
from perdure.hints import did_you_mean

__all__ = ["check_cluster", "faults_of"]

_WIDTH_OF_A_FILE: Final = 200


def check_cluster(
    address: str | None,
    nodes: int,
    faults: str,
    minutes: float,
    callers: int,
    objects: int,
    seed: int | None,
    json_file: Path | None,
    history_file: Path | None,
) -> int:
    """Check a cluster, print what came of it, and return the exit status: see `Verdict`.

    Raises:
        CommandFailed: There is no cluster to check, or a file cannot be written.
    """
    chosen = faults_of(faults)
    if address is not None and chosen:
        raise CommandFailed(
            "--faults needs a cluster of the check's own: leave --address out", USAGE
        )
    settings = Settings(
        address=address,
        nodes=nodes,
        faults=chosen,
        load_s=60.0 * minutes,
        callers=callers,
        objects=objects,
        seed=random.randrange(1_000_000) if seed is None else seed,
    )
    # Opened now: nobody wants to hear in the end that there is no room for the result.
    json_to, history_to = _open(json_file), _open(history_file)
    run, operations = asyncio.run(run_check(settings, _say))
    if history_to is not None:
        with history_to:
            write_events(operations, history_to)
    if json_to is not None:
        with json_to:
            json.dump(as_json(run), json_to, indent=1)
            json_to.write("\n")
    print_report(Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE), run)
    return int(run.findings.verdict)


def faults_of(text: str) -> tuple[str, ...]:
    """Read the faults that were typed: names with commas between, or `none`.

    Raises:
        CommandFailed: There is no such fault.
    """
    names: Sequence[str] = [name.strip() for name in text.split(",") if name.strip()]
    if names == ["none"]:
        return ()
    for name in names:
        if name not in FAULTS:
            raise CommandFailed(
                f"there is no fault {name!r}{did_you_mean(name, list(FAULTS))}; "
                f"there are {', '.join(FAULTS)}",
                USAGE,
            )
    return tuple(dict.fromkeys(names))


def _open(path: Path | None) -> TextIO | None:
    if path is None:
        return None
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise CommandFailed(f"{path} cannot be written: {error.strerror}") from None


def _say(line: str) -> None:
    sys.stderr.write(f"perdure: {line}\n")
    sys.stderr.flush()
