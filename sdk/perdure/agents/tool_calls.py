"""One call of a tool: from the arguments that a model gave to what it is told."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError
from pydantic_ai import ModelRetry, Tool, ToolDefinition
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import ModelRequest, ToolCallPart, ToolReturnPart
from pydantic_core import PydanticSerializationError

from perdure.agents.requests import dump
from perdure.agents.tools import is_step

__all__ = ["BoundTool", "bound"]


class BoundTool:
    """A decorated function, with what the model is told of it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        """Read the function's signature and docstring.

        Raises:
            pydantic_ai.exceptions.UserError: A parameter's type has no JSON schema.
        """
        self.is_step = is_step(function)
        self._function = function
        self._tool: Tool[None] = Tool(function, takes_ctx=False)

    @property
    def definition(self) -> ToolDefinition:
        """What the model is told of it."""
        return self._tool.tool_def

    async def use(self, call: ToolCallPart) -> str:
        """Call the function, and return what the model is told, as `dump` does.

        Raises:
            TypeError: What the function returned is no JSON.
            Exception: What the function raised.
        """
        validator = self._tool.function_schema.validator
        try:
            if isinstance(call.args, str):
                arguments = validator.validate_json(call.args or "{}")
            else:
                arguments = validator.validate_python(call.args or {})
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False)
            return _told(call, problems, "retried")
        try:
            result = await self._run(arguments)
        except ModelRetry as error:
            return _told(call, error.message, "retried")
        except ToolFailed as error:
            return _told(call, error.message, "failed")
        try:
            return _told(call, result)
        except PydanticSerializationError as error:
            raise TypeError(
                f"what the tool {call.tool_name} returned is no JSON: {error}"
            ) from None

    async def _run(self, arguments: dict[str, Any]) -> Any:
        if asyncio.iscoroutinefunction(self._function):
            return await self._function(**arguments)
        return await asyncio.to_thread(self._function, **arguments)


@functools.lru_cache(maxsize=1_000)
def bound(function: Callable[..., Any]) -> BoundTool:
    """Return what a decorated function is as a tool.

    Reading a signature takes a millisecond, and agents may be made anew in each run of a workflow.

    Raises:
        pydantic_ai.exceptions.UserError: A parameter's type has no JSON schema.
    """
    return BoundTool(function)


def _told(call: ToolCallPart, content: Any, outcome: Any = "success") -> str:
    part = ToolReturnPart(
        tool_name=call.tool_name,
        content=content,
        tool_call_id=call.tool_call_id,
        outcome=outcome,
    )
    return dump(ModelRequest(parts=[part]))
