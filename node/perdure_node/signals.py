"""Control of the runtime's that passes through user code."""

from __future__ import annotations

from perdure.bodies import pack_error
from perdure.errors import Code

__all__ = ["CannotGoOn", "OwnershipLost", "other_step"]


class OwnershipLost(BaseException):
    """Raised inside a method whose node can no longer commit for its object.

    Not an `Exception`: a method that says `except Exception` must not be able to swallow this
    and go on acting for an object that lives, or will live, somewhere else.
    """


class CannotGoOn(BaseException):
    """Raised inside a method that asks for other steps than the journal of its call has.

    Nothing of this run is done: the call is parked, until code comes that asks for the same.
    """

    def __init__(self, code: int, payload: bytes, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.payload = payload
        self.reason = reason


def other_step(what: str, step: int, recorded: str, asked: str) -> CannotGoOn:
    """Return what is raised inside a method that asks for another step.

    Args:
        what: The method, for people.
        step: The number of the step.
        recorded: What the journal has under that number.
        asked: What the method asks for.
    """
    code, payload = pack_error(Code.NON_DETERMINISTIC, (what, step, recorded, asked))
    text = f"step {step} is {recorded} in the journal, and this code asks for {asked}"
    return CannotGoOn(code, payload, text)
