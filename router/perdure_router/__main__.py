"""`python -m perdure_router`: one router process. `perdure up` and `perdure router` start it."""

from __future__ import annotations

import argparse
import sys

from perdure.config import check_address, check_node_name
from perdure.process import LOG_LEVELS, run_server

__all__ = ["main"]


def main() -> int:
    """Run a router until it is told to end, and return the exit status."""
    arguments = _parser().parse_args()
    return run_server(
        arguments.name,
        lambda: _serve(arguments),
        log_level=arguments.log_level,
        parent_pid=arguments.parent_pid,
    )


async def _serve(arguments: argparse.Namespace) -> int:
    # Imported only now: gRPC takes a while, and a refusal should not.
    from perdure_router.server import serve
    from perdure_router.settings import RouterSettings

    settings = RouterSettings(
        name=arguments.name,
        listen=check_address(arguments.listen, "--listen"),
        nodes={
            check_node_name(name, "--node"): check_address(address, "--node")
            for name, _, address in (pair.partition("=") for pair in arguments.node)
        },
    )
    return await serve(settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m perdure_router", description=__doc__)
    parser.add_argument("--name", default="router", help="in logs and errors")
    parser.add_argument("--listen", required=True, metavar="HOST:PORT")
    parser.add_argument("--node", action="append", required=True, metavar="NAME=HOST:PORT")
    parser.add_argument("--log-level", choices=LOG_LEVELS, default="info")
    parser.add_argument("--parent-pid", type=int, help="the process to end with")
    return parser


if __name__ == "__main__":
    sys.exit(main())
