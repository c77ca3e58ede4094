"""What the code of a workflow can ask of its node, beside what any method can."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, cast

from perdure.turn import StepResult, Turn, current_turn

if TYPE_CHECKING:
    from perdure.workflows.metadata import WorkflowMetadata
    from perdure.workflows.steps import StepFunction

__all__ = ["HookPort", "RunTurn", "current_run", "run_here"]


class HookPort(Protocol):
    """A hook, as its run's node has it."""

    token: str

    @property
    def is_disposed(self) -> bool:
        """Tell whether it is closed."""
        ...

    async def take(self) -> bytes:
        """Wait for the next payload."""
        ...

    async def claimed(self) -> str | None:
        """Wait until the token is claimed; return the other run that holds it, if one does."""
        ...

    def reply(self, value: object) -> None:
        """Answer the payload that was taken last."""
        ...


class RunTurn(Turn, Protocol):
    """The turn of a run: set in `current_turn` while the workflow's code runs."""

    is_run: bool

    @property
    def metadata(self) -> WorkflowMetadata:
        """What the run is."""
        ...

    def step_function(
        self, function: StepFunction[..., Any], args: bytes
    ) -> asyncio.Future[StepResult]:
        """Run a function as a step, again and again if need be."""
        ...

    def hook_of(self, token: str) -> HookPort | None:
        """Return the hook of a token, if this run has one that is not closed."""
        ...

    def create_hook(self, token: str, schema: str, described: bytes) -> HookPort:
        """Return the hook of a token, which is created if the run has none."""
        ...

    def dispose_hook(self, hook: Any) -> None:
        """Close a hook and let go of its token."""
        ...

    def patched(self, name: str) -> bool:
        """Tell whether the run takes a way that its code did not have at first."""
        ...

    def write(self, stream: str, chunk: bytes) -> None:
        """Append a chunk to a stream of the run."""
        ...


def current_run() -> RunTurn | None:
    """Return the turn of the run whose workflow this code is; None: it is none."""
    turn = current_turn.get()
    return cast("RunTurn", turn) if getattr(turn, "is_run", False) else None


def run_here(name: str) -> RunTurn:
    """Return the turn of the run whose workflow this code is.

    Args:
        name: Of what is called, for the error.

    Raises:
        RuntimeError: No workflow runs here.
    """
    run = current_run()
    if run is None:
        raise RuntimeError(f"{name}() works inside of workflows only: functions with @workflow")
    return run
