"""Errors of runs of workflows and of their hooks."""

from __future__ import annotations

from perdure.error_families import CallFailed, PerdureError

__all__ = ["HookClosed", "HookConflict", "HookNotFound", "RunExists", "RunFailed", "RunNotFound"]


class HookNotFound(PerdureError, LookupError):
    """No run has a hook with this token, now or earlier: nothing was resumed."""

    def __init__(self, token: str) -> None:
        super().__init__(token)
        self.token = token

    def __str__(self) -> str:
        return (
            f"no run has a hook with the token {self.token!r}: a run has it once it has created "
            f"the hook and waits; resume_hook(..., wait=timedelta(seconds=10)) waits for it"
        )


class HookClosed(PerdureError):
    """The hook takes nothing any more: its run has ended, or has disposed of it.

    A payload that the run has not taken, or not answered before it failed, ends so too.
    """

    def __init__(self, token: str, reason: str) -> None:
        super().__init__(token, reason)
        self.token = token
        self.reason = reason

    def __str__(self) -> str:
        return f"the hook {self.token!r} is closed: {self.reason}"


class HookConflict(PerdureError):
    """Another run holds the token: the hook of this run will never get anything."""

    def __init__(self, token: str, run: str) -> None:
        super().__init__(token, run)
        self.token = token
        self.run = run
        """The id of the run that holds it."""

    def __str__(self) -> str:
        return f"the token {self.token!r} is held by the run {self.run!r}: use another token"


class RunExists(PerdureError):
    """There is a run with this id already: of another workflow, or with other arguments."""

    def __init__(self, run: str, workflow: str, reason: str) -> None:
        super().__init__(run, workflow, reason)
        self.run = run
        self.workflow = workflow
        """That of the run that is there."""
        self.reason = reason

    def __str__(self) -> str:
        return f"there is a run {self.run!r} of {self.workflow} already, {self.reason}: another id"


class RunNotFound(PerdureError, LookupError):
    """There is no run with this id."""

    def __init__(self, run: str) -> None:
        super().__init__(run)
        self.run = run

    def __str__(self) -> str:
        return f"there is no run {self.run!r}: start(workflow, id={self.run!r}) makes one"


class RunFailed(CallFailed):
    """The run has ended with an error, which is the `__cause__` of this one."""

    def __init__(self, run: str, error: str) -> None:
        super().__init__(run, error)
        self.run = run
        self.error = error
        """The class of the error, and its message."""

    def __str__(self) -> str:
        return f"the run {self.run!r} has failed: {self.error}"
