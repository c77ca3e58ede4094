"""Models that say what a test has written down, and remember what they were asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

Calls = dict[str, Any]
"""Arguments of tools to be called, by the tools' names."""


class Script:
    """What a model says, request by request."""

    def __init__(self, *answers: str | Calls) -> None:
        self.answers = list(answers)
        self.asked: list[list[tuple[str, Any]]] = []
        """Of each request: kind and content of every part of its messages."""
        self.infos: list[AgentInfo] = []
        self.streamed: list[bool] = []
        self.model = FunctionModel(self._answer, stream_function=self._stream)

    def _next(self, messages: Sequence[ModelMessage], info: AgentInfo, *, streamed: bool) -> Any:
        self.asked.append(told(messages))
        self.infos.append(info)
        self.streamed.append(streamed)
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _answer(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        answer = self._next(messages, info, streamed=False)
        if isinstance(answer, dict):
            return ModelResponse(parts=[ToolCallPart(name, args) for name, args in answer.items()])
        return ModelResponse(parts=[TextPart(answer)] if answer else [])

    async def _stream(
        self, messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        answer = self._next(messages, info, streamed=True)
        if isinstance(answer, dict):
            for number, (name, args) in enumerate(answer.items()):
                yield {number: DeltaToolCall(name, args, tool_call_id=f"c{number}")}
        else:
            for word in answer.split(" "):
                yield f"{word} "


def told(messages: Sequence[ModelMessage]) -> list[tuple[str, Any]]:
    """Return kind and content of every part of some messages."""
    return [
        (part.part_kind, part.args if isinstance(part, ToolCallPart) else part.content)
        for message in messages
        for part in message.parts
    ]
