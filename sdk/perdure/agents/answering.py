"""How an agent comes to its answer: requests and calls of tools in turn, each a step.

Why the loop is not pydantic-ai's own: a run after a crash gets the results of steps from the
journal, and has to ask for the next ones in the same order although other tasks of the method run
beside it. A node sees to that if code asks within sixteen rounds of the event loop
(`perdure_node.steps`). That loop takes 28 rounds to its first request and 12 to the next one
(pydantic-ai 2.68), and a workflow's loop refuses it. This one waits for nothing but steps. What is
done inside of the steps, requests and tools, is pydantic-ai's.

Invariants:
  * Nothing is awaited here but steps, and tools that make steps themselves.
  * What is decided here is decided by results of steps alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from pydantic_ai.exceptions import UnexpectedModelBehavior, UsageLimitExceeded
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    RetryFeedbackPart,
    RetryInfo,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings

from perdure.agents.agent import Writable
from perdure.agents.messages import Message
from perdure.agents.requests import ask, history_of, load
from perdure.agents.tool_calls import bound
from perdure.context import ctx

__all__ = ["REQUESTS_MAX", "RETRIES_MAX", "Answering"]

REQUESTS_MAX: Final = 50
"""Requests for one answer. A model that goes on calling tools after that ends with an error."""

RETRIES_MAX: Final = 3
"""How often in a row a model is told that a call of one tool, or an answer, cannot be used."""

_Told: TypeAlias = ToolReturnPart | RetryFeedbackPart
"""What a model is told before it is asked again."""

_NO_ANSWER: Final = "an answer"
"""Counts empty answers among the tools; no function has that name."""


class Answering:
    """What an agent is made of, and how it answers."""

    def __init__(
        self,
        name: str,
        model: Model | str,
        temperature: float | None,
        instructions: str | None,
        tools: Sequence[Callable[..., Any]],
    ) -> None:
        """Look at the tools; the rest is as for `Agent`.

        Raises:
            TypeError: `model` is no model.
            pydantic_ai.exceptions.UserError: A tool's parameter has a type without JSON schema.
        """
        if not isinstance(model, Model | str):
            raise TypeError(
                f"Agent(model) is a name or a model of pydantic-ai's, not {model!r:.100}"
            )
        self._name = name
        self._model = model
        self._settings = None if temperature is None else ModelSettings(temperature=temperature)
        self._instructions = instructions
        self._tools = {function.__name__: bound(function) for function in tools}
        definitions = [tool.definition for tool in self._tools.values()]
        self._parameters = ModelRequestParameters(function_tools=definitions)

    async def answer(self, messages: Sequence[Message], writable: Writable | None) -> str:
        """Return the text that the model says to the last of some messages.

        Raises:
            UsageLimitExceeded: It has called tools `REQUESTS_MAX` times without giving an answer.
            UnexpectedModelBehavior: It does again and again what cannot be used.
            Exception: What asking it, a tool, or `writable` has raised.
        """
        history = history_of(messages, self._instructions)
        failures: Counter[str] = Counter()
        for _ in range(REQUESTS_MAX):
            response = await self._ask(history, writable)
            if response.tool_calls:
                told = await self._use_tools(response.tool_calls)
            elif text := response.text:
                return text
            else:
                told = [_no_answer(response)]
            _count(failures, told)
            history += [response, ModelRequest(parts=told, instructions=self._instructions)]
        raise UsageLimitExceeded(f"{self._name} has no answer after {REQUESTS_MAX} requests")

    async def _ask(
        self, history: Sequence[ModelMessage], writable: Writable | None
    ) -> ModelResponse:
        recorded = await ctx.run(
            f"{self._name}: model request",
            ask,
            self._model,
            list(history),
            self._settings,
            self._parameters,
            writable,
        )
        response = load(recorded)
        assert isinstance(response, ModelResponse)
        return response

    async def _use_tools(self, calls: Sequence[ToolCallPart]) -> list[_Told]:
        """Call tools at once, and return what the model is told, in the order of the calls."""
        ended = await asyncio.gather(
            *(self._use_tool(call) for call in calls), return_exceptions=True
        )
        # Not before all have ended: one that makes steps must not go on behind the answer.
        for told in ended:
            if isinstance(told, BaseException):
                raise told
        return [told for told in ended if not isinstance(told, BaseException)]

    async def _use_tool(self, call: ToolCallPart) -> _Told:
        tool = self._tools.get(call.tool_name)
        if tool is None:
            names = ", ".join(self._tools) or "none"
            content = f"Unknown tool name: {call.tool_name!r}. Available tools: {names}."
            return ToolReturnPart(call.tool_name, content, call.tool_call_id, outcome="retried")
        if tool.is_step:
            recorded = await ctx.run(f"{self._name}: tool {call.tool_name}", tool.use, call)
        else:
            recorded = await tool.use(call)
        told = load(recorded).parts[0]
        assert isinstance(told, ToolReturnPart)
        return told


def _no_answer(response: ModelResponse) -> RetryFeedbackPart:
    if response.finish_reason in ("content_filter", "length"):
        raise UnexpectedModelBehavior(
            f"the model ended without text, for the reason {response.finish_reason!r}"
        )
    return RetryFeedbackPart("Please return text.", retry=RetryInfo(cause="no_output"))


def _count(failures: Counter[str], told: Sequence[_Told]) -> None:
    """Count what the model has been told to do otherwise.

    Raises:
        UnexpectedModelBehavior: It has been told so often enough.
    """
    for part in told:
        name = part.tool_name if isinstance(part, ToolReturnPart) else _NO_ANSWER
        if isinstance(part, ToolReturnPart) and part.outcome != "retried":
            failures[name] = 0
            continue
        failures[name] += 1
        if failures[name] > RETRIES_MAX:
            raise UnexpectedModelBehavior(
                f"the model got {name} wrong {failures[name]} times in a row: {part.content}"
            )
