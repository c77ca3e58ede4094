"""`Agent`: a language model with instructions and tools, whose work a crash does not repeat."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from perdure.agents.messages import Message, messages_of
from perdure.agents.providers import full_model_name
from perdure.agents.tools import is_step

if TYPE_CHECKING:
    from pydantic_ai.models import Model

    from perdure.agents.answering import Answering

__all__ = ["Agent", "Writable"]


class Writable(Protocol):
    """Where an answer is written to while it is made."""

    def write(self, chunk: str, /) -> Awaitable[object]:
        """Take the next chunk of text."""
        ...


class Agent:
    """A language model with instructions and tools.

    Inside of a method, a durable function or a workflow each request to the model and each call of
    a tool is a step: what was finished is never asked, paid or done again after a crash. Anywhere
    else an agent simply runs, and nobody records it.

    Make it once, for example at the top of a module: what connects it to its model is kept for as
    long as the event loop runs.
    """

    def __init__(
        self,
        *,
        model: str | Model,
        name: str = "agent",
        temperature: float | None = None,
        instructions: str | None = None,
        tools: Sequence[Callable[..., Any]] = (),
    ) -> None:
        """Make an agent. Nothing is asked yet, and no key is needed.

        Args:
            model: A name as pydantic-ai has them, `provider:model`. The provider may be left out
                where the name tells it, as that of `gpt-4o` or `claude-...`. Names of OpenAI alone
                go by chat completions; `OPENAI_API_KEY` and `OPENAI_BASE_URL` say where. Or a model
                of pydantic-ai's.
            name: What its steps are called after.
            temperature: None: it is not sent.
            instructions: What the model is told in front of every conversation.
            tools: Functions decorated with `@perdure.tool`.

        Raises:
            ImportError: pydantic-ai is not installed, which `perdure[agents]` brings along.
            TypeError: Something is of another type, or a tool is no decorated function.
            ValueError: Two tools have one name, nobody knows whose the model is, or `name` is not
                printable.
        """
        _check_text("name", name)
        if not name.isprintable():
            raise ValueError(f"Agent(name) is printable text, not {name!r:.100}")
        if instructions is not None:
            _check_text("instructions", instructions)
        if isinstance(temperature, bool) or not isinstance(temperature, int | float | None):
            raise TypeError(f"Agent(temperature) is a number, not {temperature!r:.100}")
        for function in tools:
            is_step(function)
        names = [function.__name__ for function in tools]
        if len(set(names)) < len(names):
            raise ValueError(f"two tools of the agent {name!r} have one name: {', '.join(names)}")
        full_name = full_model_name(model) if isinstance(model, str) else model
        self._name = name
        self._answering = _load()(name, full_name, temperature, instructions, tools)

    def __repr__(self) -> str:
        return f"<Agent {self._name!r}>"

    @property
    def name(self) -> str:
        """What its steps are called after."""
        return self._name

    async def run(self, prompt: str) -> str:
        """Answer one question.

        Args:
            prompt: What the model is asked.

        Returns:
            The text of the model's answer.

        Raises:
            TypeError: `prompt` is no text.
            Exception: What pydantic-ai raises when the model cannot be asked or its answers are of
                no use (`pydantic_ai.exceptions`), and what a tool raises.
        """
        if not isinstance(prompt, str):
            raise TypeError(f"agent.run takes the text of a question, not {prompt!r:.100}")
        return await self._answering.answer([Message("user", prompt)], None)

    async def stream(
        self, *, messages: Iterable[object], writable: Writable | None = None
    ) -> dict[str, str]:
        """Go on with a conversation, and write the answer somewhere as it is made.

        A request that a crash has cut off is made again, and what it has written is written again:
        the streams of workflows take it back, another `writable` has to.

        Args:
            messages: All of the conversation, the question last. Each is a dict or an object with
                `role` (`user`, `assistant`, `system`) and `content`, or a str, which is the user's.
            writable: Gets each chunk of text by `await writable.write(chunk)`. What it raises ends
                the request. None: the answer is not streamed.

        Returns:
            The answer as a message, to be added to `messages`.

        Raises:
            TypeError: `messages` holds something else, or `writable` has no `write`.
            ValueError: There is no message to be answered.
            Exception: As for `run`, and what `write` raises.
        """
        if writable is not None and not callable(getattr(writable, "write", None)):
            raise TypeError(
                f"agent.stream(writable) needs a method write, {writable!r:.100} has none"
            )
        text = await self._answering.answer(messages_of(messages), writable)
        return {"role": "assistant", "content": text}


def _check_text(what: str, text: object) -> None:
    if not isinstance(text, str) or not text:
        raise TypeError(f"Agent({what}) is text, not {text!r:.100}")


def _load() -> type[Answering]:
    try:
        import pydantic_ai  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "pydantic_ai":
            raise
        raise ImportError(
            "an Agent needs pydantic-ai: pip install 'perdure[agents]'", name="pydantic_ai"
        ) from None
    from perdure.agents.answering import Answering

    return Answering
