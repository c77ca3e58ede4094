"""What a workflow and a step may know of themselves."""

from __future__ import annotations

import datetime as dt
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

__all__ = [
    "StepMetadata",
    "WorkflowMetadata",
    "current_step",
    "get_step_metadata",
    "get_workflow_metadata",
    "time_of",
]

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def time_of(wall_ms: int) -> dt.datetime:
    """Return a time of the wall clock: aware, in UTC."""
    return _EPOCH + dt.timedelta(milliseconds=wall_ms)


@dataclass(frozen=True, slots=True)
class WorkflowMetadata:
    """The run that some code belongs to."""

    workflow_run_id: str
    workflow_name: str
    workflow_version: str
    """As the run was started with: another deployment does not change it."""
    workflow_started_ms: int
    parent_run_id: str | None
    """The run that has started it, if there is one."""

    @property
    def workflow_started_at(self) -> dt.datetime:
        """When the run was started: aware, in UTC."""
        return time_of(self.workflow_started_ms)


@dataclass(frozen=True, slots=True)
class StepMetadata:
    """The attempt of a step that some code is."""

    step_id: str
    """Equal for all attempts of the step, and for no other step: an idempotency key."""
    step_name: str
    attempt: int
    """1 for the first."""
    step_started_ms: int

    @property
    def step_started_at(self) -> dt.datetime:
        """When this attempt was started: aware, in UTC."""
        return time_of(self.step_started_ms)


current_step: Final[ContextVar[tuple[StepMetadata, Any] | None]] = ContextVar(
    "perdure_step", default=None
)
"""The attempt that this code is, and where it may write to. None: it is none."""


def get_workflow_metadata() -> WorkflowMetadata:
    """Return what the run is in whose workflow this is called.

    Raises:
        RuntimeError: No workflow runs here.
    """
    from perdure.workflows.turn import run_here

    return run_here("get_workflow_metadata").metadata


def get_step_metadata() -> StepMetadata:
    """Return what the attempt of a step is in which this is called.

    Raises:
        RuntimeError: No step runs here.
    """
    step = current_step.get()
    if step is None:
        raise RuntimeError(
            "get_step_metadata() works inside functions with @step that a workflow has called"
        )
    return step[0]
