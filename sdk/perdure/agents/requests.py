"""One request to a model, and messages as pydantic-ai has them."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic_ai import exceptions
from pydantic_ai.direct import model_request, model_request_stream
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    SystemPromptPart,
    TextPart,
    TextPartDelta,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings

from perdure import values
from perdure.agents.agent import Writable
from perdure.agents.messages import Message
from perdure.agents.open_models import open_model

__all__ = ["ask", "dump", "history_of", "load"]


async def ask(
    model: Model | str,
    history: Sequence[ModelMessage],
    settings: ModelSettings | None,
    parameters: ModelRequestParameters,
    writable: Writable | None,
) -> str:
    """Ask a model for its next message, and return that as `dump` does."""
    async with open_model(model) as opened:
        if writable is None:
            response = await model_request(
                opened, history, model_settings=settings, model_request_parameters=parameters
            )
            return dump(response)
        async with model_request_stream(
            opened, history, model_settings=settings, model_request_parameters=parameters
        ) as stream:
            async for event in stream:
                if text := _text_of(event):
                    await writable.write(text)
            return dump(stream.get())


def dump(message: ModelMessage) -> str:
    """Return a message as text, which is what a journal can keep of it.

    Raises:
        pydantic_core.PydanticSerializationError: It holds something that is no JSON.
    """
    return ModelMessagesTypeAdapter.dump_json([message]).decode()


def load(text: str) -> ModelMessage:
    """Return the message that `dump` was given."""
    (message,) = ModelMessagesTypeAdapter.validate_json(text)
    return message


def history_of(messages: Sequence[Message], instructions: str | None) -> list[ModelMessage]:
    """Return a conversation as pydantic-ai's messages."""
    history: list[ModelMessage] = []
    for role, content in messages:
        if role == "assistant":
            history.append(ModelResponse(parts=[TextPart(content)]))
        else:
            part = UserPromptPart(content) if role == "user" else SystemPromptPart(content)
            history.append(ModelRequest(parts=[part], instructions=instructions))
    return history


def _text_of(event: ModelResponseStreamEvent) -> str | None:
    """Return the chunk of the answer's text that an event brings."""
    if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
        return event.part.content
    if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
        return event.delta.content_delta
    return None


def _make_errors_known() -> None:
    """Have pydantic-ai's errors leave a step and a method as what they are."""
    for name in exceptions.__all__:
        cls = getattr(exceptions, name)
        if isinstance(cls, type) and issubclass(cls, Exception) and not issubclass(cls, Warning):
            # Not by its bare name: programs have a `UserError` of their own.
            values.register(cls, f"pydantic_ai.{name}")


_make_errors_known()
