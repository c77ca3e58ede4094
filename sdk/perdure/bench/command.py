"""`perdure bench`: what was typed, and what is printed and written."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

from rich.console import Console

from perdure.bench.compare import compare
from perdure.bench.places import Routing, Target
from perdure.bench.progress import progress_on
from perdure.bench.run import Settings, run_bench
from perdure.bench.scenarios import SCENARIOS
from perdure.bench.table import print_comparisons, print_results
from perdure.bench.written import FORMAT, as_json
from perdure.cli.arguments import limit_settings
from perdure.cli.failure import USAGE, CommandFailed
from perdure.cli.interrupting import run_until_interrupted
from perdure.cli.options import config_of
from perdure.config import check_address
from perdure.hints import did_you_mean

__all__ = ["compare_files", "measure_all", "settings_of", "targets_of"]

_IN_FLIGHT: Final = 64
_ROUTINGS: Final[tuple[Routing, ...]] = ("router", "direct")
_WIDTH_OF_A_FILE: Final = 200
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def targets_of(
    *,
    embedded: bool,
    node: bool,
    router: bool,
    nodes: Sequence[int],
    addresses: Sequence[str],
    routings: str,
) -> tuple[Target, ...]:
    """Return what is to be called: one node, unless something is said.

    Raises:
        CommandFailed: Some of what was typed does not go together.
    """
    chosen = _routings_of(routings)
    targets: list[Target] = []
    if embedded:
        targets.append(Target("embedded"))
    if node:
        targets.append(Target("one node", nodes=1))
    for count in dict.fromkeys(list(nodes) or ([1] if router else [])):
        name = "1 node" if count == 1 else f"{count} nodes"
        targets += [
            Target(f"{way}, {name}", nodes=count, router=True, routing=way) for way in chosen
        ]
    for address in dict.fromkeys(addresses):
        check_address(address, "--address")
        targets += [
            Target(
                address if way == "router" else f"direct, {address}", address=address, routing=way
            )
            for way in chosen
        ]
    if "direct" in chosen and not (nodes or router or addresses):
        raise CommandFailed("--routing direct is for --nodes and --address", USAGE)
    return tuple(targets or [Target("one node", nodes=1)])


def _routings_of(text: str) -> list[Routing]:
    words = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    ways: list[Routing] = [way for way in _ROUTINGS if way in words]
    if not words or len(ways) < len(words):
        raise CommandFailed(f"--routing is router, direct, or router,direct, not {text!r}", USAGE)
    return ways


def settings_of(  # noqa: PLR0913 - what can be typed
    *,
    scenarios: str,
    targets: tuple[Target, ...],
    in_flight: int | None,
    rate: float | None,
    objects: int | None,
    processes: int,
    rounds: int,
    warm_up_s: float,
    seconds: float,
    timeout_s: float,
    seed: int,
    app: str | None,
    data: Path | None,
    partitions: int | None,
    limits: Sequence[str],
    config_file: Path | None,
) -> Settings:
    """Return what is to be measured.

    Raises:
        CommandFailed: Some of what was typed does not go together.
    """
    names = _scenarios_of(scenarios)
    if rate is not None and in_flight is not None:
        raise CommandFailed(
            "--rate makes calls whether earlier ones are answered or not: leave --inflight out",
            USAGE,
        )
    if rate is None:
        in_flight = in_flight or _IN_FLIGHT
        if processes > in_flight:
            raise CommandFailed(
                f"{processes} processes cannot share {in_flight} calls in flight", USAGE
            )
    if processes > 1 and any(target.is_embedded for target in targets):
        raise CommandFailed("an embedded node belongs to one process: no --processes", USAGE)
    if config_file is not None and any(target.is_embedded for target in targets):
        raise CommandFailed(
            "an embedded node reads ./perdure.toml, as in a program of yours: no --config", USAGE
        )
    if objects is not None and all(_has_no_choice(name) for name in names):
        raise CommandFailed(f"--objects means nothing to {', '.join(names)}", USAGE)
    if app is not None and all(name in SCENARIOS for name in names):
        raise CommandFailed(
            "--app is for scenarios of yours: --scenario module:function calls its objects", USAGE
        )
    settings = limit_settings(limits)
    if "cold" in names and "limits.activations_max" in settings:
        raise CommandFailed("cold sets the limit activations_max itself: see --objects", USAGE)
    flags = {"cluster.partitions": partitions, "app": app, **settings}
    config = config_of(config_file, **flags)
    return Settings(
        scenarios=names,
        targets=targets,
        in_flight=in_flight or 0,
        rate=rate or 0.0,
        objects=objects,
        processes=processes,
        rounds=rounds,
        warm_up_s=warm_up_s,
        seconds=seconds,
        timeout_s=timeout_s,
        seed=seed,
        app=config.app,
        config=config,
        data=data,
    )


def _scenarios_of(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise CommandFailed(f"which scenario? There are {', '.join(SCENARIOS)}", USAGE)
    for name in names:
        if name not in SCENARIOS and not all(name.rpartition(":")):
            raise CommandFailed(
                f"there is no scenario {name!r}{did_you_mean(name, list(SCENARIOS))}; there are "
                f"{', '.join(SCENARIOS)}, and module:function for one of yours",
                USAGE,
            )
    return names


def _has_no_choice(name: str) -> bool:
    return name not in SCENARIOS or SCENARIOS[name].is_fixed


def measure_all(settings: Settings, json_file: Path | None, report_file: Path | None) -> int:
    """Measure, print and write what came of it, and return the exit status.

    Raises:
        CommandFailed: Nothing could be measured, or a file cannot be written.
    """
    # Opened now: nobody wants to hear in the end that there is no room for the result.
    is_printed = json_file == Path("-")
    json_to = None if is_printed else _open(json_file)
    report_to = _open(report_file)
    # What is printed as JSON is all that there is on stdout.
    console = Console(stderr=is_printed, width=_width(sys.stderr if is_printed else sys.stdout))
    with progress_on(Console(stderr=True), settings) as progress:
        try:
            # What it has started ends and is removed then, too.
            results = run_until_interrupted(run_bench(settings, progress), by=_ENDING)
        except KeyboardInterrupt:
            raise CommandFailed("stopped before the end, without a result", 130) from None
    content = as_json(settings, results)
    print_results(console, results, open_loop=bool(settings.rate))
    for to in (sys.stdout if is_printed else None, json_to):
        if to is not None:
            json.dump(content, to, indent=1)
            to.write("\n")
    if json_to is not None:
        json_to.close()
    if report_to is not None:
        from perdure.bench.report import html_of

        with report_to:
            report_to.write(html_of(settings, results))
    empty = [str(each.case) for each in results if any(not run.ok for run in each.rounds)]
    if empty:
        raise CommandFailed(f"no call succeeded in some run: {'; '.join(empty)}")
    return 0


def compare_files(before: Path, after: Path) -> None:
    """Compare two files of `--json`, and print what has changed.

    Raises:
        CommandFailed: They are no such files, or have nothing in common.
    """
    first, second = _read(before), _read(after)
    try:
        comparisons = compare(first, second)
    except (LookupError, TypeError) as error:
        raise CommandFailed(f"{before} or {after} is damaged: there is no {error}") from None
    print_comparisons(Console(width=_width(sys.stdout)), comparisons)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise CommandFailed(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        content = None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CommandFailed(f"{path} was not written by `perdure bench --json` of this release")
    return content


def _open(path: Path | None) -> TextIO | None:
    if path is None:
        return None
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise CommandFailed(f"{path} cannot be written: {error.strerror}") from None


def _width(stream: TextIO) -> int | None:
    return None if stream.isatty() else _WIDTH_OF_A_FILE
