"""Agents, where nobody records what they do."""

from __future__ import annotations

import asyncio
import datetime as dt
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from harness.loop import on_loop
from harness.scripted_models import Script
from pydantic import BaseModel
from pydantic_ai import ModelRetry
from pydantic_ai.exceptions import (
    ToolFailed,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
    UserError,
)
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.test import TestModel

from perdure import Agent, tool
from perdure.agents.answering import REQUESTS_MAX, RETRIES_MAX
from perdure.agents.providers import full_model_name


class Written:
    def __init__(self) -> None:
        self.chunks: list[str] = []

    async def write(self, chunk: str) -> None:
        self.chunks.append(chunk)


@tool
def add(a: int, b: int = 1) -> int:
    """Add two numbers.

    Args:
        a: The first one.
        b: The other one.
    """
    return a + b


@tool
async def day_after(day: dt.date) -> dt.date:
    """Return the next day."""
    await asyncio.sleep(0)
    return day + dt.timedelta(days=1)


# Questions and answers.


@on_loop
async def test_an_agent_answers_a_question_with_exactly_text() -> None:
    class Shout(str):
        pass

    model = FunctionModel(lambda *_: ModelResponse(parts=[TextPart(Shout("yes"))]))

    answer = await Agent(name="a", model=model).run("is it?")

    assert answer == "yes"
    assert type(answer) is str


@on_loop
async def test_the_test_model_of_pydantic_ai_calls_every_tool_and_answers() -> None:
    assert await Agent(model=TestModel(), tools=[add]).run("go on") == '{"add":1}'


@on_loop
async def test_a_model_is_told_the_instructions_before_every_request_and_the_temperature() -> None:
    script = Script({"add": {"a": 1}}, "two")
    agent = Agent(model=script.model, temperature=0.0, instructions="Be brief.", tools=[add])

    assert await agent.run("1 + 1?") == "two"
    assert [info.instructions for info in script.infos] == ["Be brief."] * 2
    assert [info.model_settings for info in script.infos] == [{"temperature": 0.0}] * 2


@on_loop
async def test_settings_that_are_not_given_are_not_sent() -> None:
    script = Script("yes")

    await Agent(model=script.model).run("is it?")

    assert (script.infos[0].model_settings, script.infos[0].instructions) == (None, None)


@on_loop
async def test_a_message_is_text_or_a_dict_or_an_object_with_role_and_content() -> None:
    class Said(BaseModel):
        role: str = "user"
        content: str

    script = Script("fine")
    messages = [
        {"role": "system", "content": "You are Bob."},
        "hello",
        {"role": "assistant", "content": "hi"},
        SimpleNamespace(role="user", content="so"),
        Said(content="how are you?"),
    ]

    answer = await Agent(model=script.model).stream(messages=messages)

    assert answer == {"role": "assistant", "content": "fine"}
    assert script.asked == [
        [
            ("system-prompt", "You are Bob."),
            ("user-prompt", "hello"),
            ("text", "hi"),
            ("user-prompt", "so"),
            ("user-prompt", "how are you?"),
        ]
    ]


@pytest.mark.parametrize(
    ("messages", "error", "says"),
    [
        ([], ValueError, "there is no message"),
        ([{"role": "assistant", "content": "hi"}], ValueError, "nothing to answer"),
        ([{"role": "tool", "content": "hi"}], ValueError, "'tool'"),
        ([{"role": "user"}], TypeError, "role and content"),
        ([{"role": "user", "content": ["hi"]}], TypeError, "role and content"),
        ([5], TypeError, "role and content"),
        ("hi", TypeError, "a list of messages"),
        ({"role": "user", "content": "hi"}, TypeError, "a list of messages"),
        (None, TypeError, "a list of messages"),
    ],
)
def test_what_is_no_conversation_is_refused(messages: Any, error: type, says: str) -> None:
    script = Script("never")

    with pytest.raises(error, match=says):
        asyncio.run(Agent(model=script.model).stream(messages=messages))
    assert script.asked == []


@on_loop
async def test_a_question_is_text() -> None:
    with pytest.raises(TypeError, match="the text of a question"):
        await Agent(model=Script("never").model).run(["hi"])  # type: ignore[arg-type]


# Streams.


@on_loop
async def test_the_chunks_of_an_answer_are_written_as_they_are_made() -> None:
    written = Written()
    seen_by_the_model: list[list[str]] = []

    async def stream(*_: Any) -> Any:
        for word in ("one ", "two ", "three"):
            seen_by_the_model.append(list(written.chunks))
            yield word

    agent = Agent(model=FunctionModel(stream_function=stream))
    answer = await agent.stream(messages=["count"], writable=written)

    assert answer == {"role": "assistant", "content": "one two three"}
    assert written.chunks == ["one ", "two ", "three"]
    assert seen_by_the_model == [[], ["one "], ["one ", "two "]]


@on_loop
async def test_a_streamed_answer_may_call_tools_on_its_way() -> None:
    script = Script({"add": '{"a": 2, "b": 3}'}, "it is 5")
    written = Written()

    agent = Agent(model=script.model, tools=[add])
    answer = await agent.stream(messages=["2 + 3?"], writable=written)

    assert answer["content"] == "it is 5 "
    assert written.chunks == ["it ", "is ", "5 "]
    assert script.asked[1][1:] == [("tool-call", '{"a": 2, "b": 3}'), ("tool-return", 5)]
    assert script.streamed == [True, True]


@on_loop
async def test_without_a_writable_nothing_is_streamed() -> None:
    script = Script("fine")

    await Agent(model=script.model).stream(messages=["hi"], writable=None)

    assert script.streamed == [False]


@on_loop
async def test_what_a_writable_raises_ends_the_request() -> None:
    class Closed:
        async def write(self, chunk: str) -> None:
            raise ConnectionResetError(chunk)

    with pytest.raises(ConnectionResetError, match="never"):
        await Agent(model=Script("never").model).stream(messages=["hi"], writable=Closed())
    with pytest.raises(TypeError, match="needs a method write"):
        await Agent(model=Script("never").model).stream(messages=["hi"], writable=print)  # type: ignore[arg-type]


# Tools.


@on_loop
async def test_a_model_is_told_names_types_and_descriptions_of_tools() -> None:
    script = Script("fine")

    await Agent(model=script.model, tools=[add, day_after]).run("hi")

    first, second = script.infos[0].function_tools
    assert (first.name, first.description) == ("add", "Add two numbers.")
    assert first.parameters_json_schema["required"] == ["a"]
    assert first.parameters_json_schema["properties"] == {
        "a": {"type": "integer", "description": "The first one."},
        "b": {"type": "integer", "description": "The other one.", "default": 1},
    }
    assert second.parameters_json_schema["properties"]["day"]["format"] == "date"


@on_loop
async def test_arguments_get_the_types_of_the_parameters_and_results_go_back_as_json() -> None:
    script = Script({"day_after": {"day": "2026-02-28"}}, "March")

    assert await Agent(model=script.model, tools=[day_after]).run("?") == "March"
    assert script.asked[1][-1] == ("tool-return", "2026-03-01")


@on_loop
async def test_several_tools_run_at_once_and_the_model_hears_in_the_order_of_its_calls() -> None:
    arrived = asyncio.Barrier(2)

    @tool
    async def slow(n: int) -> int:
        """Wait for the other one."""
        await arrived.wait()
        await asyncio.sleep(0)
        return n

    @tool
    async def quick(n: int) -> int:
        """Wait for the other one."""
        await arrived.wait()
        return n

    script = Script({"slow": {"n": 1}, "quick": {"n": 2}}, "done")

    assert await Agent(model=script.model, tools=[quick, slow]).run("go") == "done"
    assert script.asked[1][-2:] == [("tool-return", 1), ("tool-return", 2)]


@on_loop
async def test_a_tool_that_is_not_async_holds_nobody_up() -> None:
    released = threading.Event()

    @tool
    def blocking() -> bool:
        """Wait for the event loop to go on."""
        return released.wait(20)

    async def release() -> None:
        released.set()

    script = Script({"blocking": {}}, "done")
    agent = Agent(model=script.model, tools=[blocking])

    await asyncio.gather(agent.run("go"), release())

    assert script.asked[1][-1] == ("tool-return", True)


@on_loop
async def test_a_model_that_calls_a_tool_wrong_is_told_and_may_try_again() -> None:
    script = Script(
        {"add": {"a": "x"}}, {"subtract": {}}, {"add": '{"a": 2'}, {"add": {"a": 2}}, "3"
    )

    assert await Agent(model=script.model, tools=[add]).run("2 + 1?") == "3"

    asked = script.asked[4]
    told = [content for kind, content in asked if kind == "tool-return"]
    assert told[0][0]["msg"].startswith("Input should be a valid integer")
    assert told[1] == "Unknown tool name: 'subtract'. Available tools: add."
    assert "Invalid JSON" in told[2][0]["msg"]
    assert told[3] == 3


@on_loop
async def test_a_tool_tells_the_model_what_to_do_otherwise() -> None:
    @tool
    def look_up(word: str) -> str:
        """Look a word up."""
        if word == "colour":
            raise ModelRetry("American spelling, please")
        raise ToolFailed("there is no such word")

    script = Script({"look_up": {"word": "colour"}}, {"look_up": {"word": "color"}}, "sorry")

    assert await Agent(model=script.model, tools=[look_up]).run("colour?") == "sorry"
    contents = [content for kind, content in script.asked[2] if kind == "tool-return"]
    assert contents == ["American spelling, please", "there is no such word"]


@on_loop
async def test_what_a_tool_raises_is_raised_by_the_agent_once_the_others_have_ended() -> None:
    ended = []

    @tool
    async def broken() -> None:
        """Fail."""
        raise LookupError("no database")

    @tool
    async def whole() -> None:
        """Take a while."""
        for _ in range(5):
            await asyncio.sleep(0)
        ended.append("whole")

    script = Script({"broken": {}, "whole": {}}, "never")

    with pytest.raises(LookupError, match="no database"):
        await Agent(model=script.model, tools=[broken, whole]).run("go")
    assert ended == ["whole"]
    assert len(script.asked) == 1


@on_loop
async def test_what_a_tool_returns_is_json() -> None:
    @tool
    def odd() -> object:
        """Return something odd."""
        return object()

    with pytest.raises(TypeError, match="what the tool odd returned is no JSON"):
        await Agent(model=Script({"odd": {}}, "never").model, tools=[odd]).run("go")


@on_loop
async def test_a_model_that_gets_a_tool_wrong_again_and_again_is_given_up() -> None:
    script = Script({"add": {"a": "x"}})

    with pytest.raises(UnexpectedModelBehavior, match="add wrong 4 times in a row"):
        await Agent(model=script.model, tools=[add]).run("2 + 1?")
    assert len(script.asked) == RETRIES_MAX + 1


@on_loop
async def test_a_model_that_only_calls_tools_is_given_up() -> None:
    script = Script({"add": {"a": 1}})

    with pytest.raises(UsageLimitExceeded, match=f"no answer after {REQUESTS_MAX} requests"):
        await Agent(model=script.model, tools=[add]).run("2 + 1?")
    assert len(script.asked) == REQUESTS_MAX


@on_loop
async def test_a_model_that_says_nothing_is_asked_for_text() -> None:
    script = Script("", "fine")

    assert await Agent(model=script.model).run("how are you?") == "fine"
    assert "Please return text." in script.asked[1][-1][1]
    with pytest.raises(UnexpectedModelBehavior, match="an answer wrong 4 times"):
        await Agent(model=Script("").model).run("how are you?")


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_a_model_that_was_cut_off_is_not_asked_again(reason: Any) -> None:
    model = FunctionModel(lambda *_: ModelResponse(parts=[], finish_reason=reason))

    with pytest.raises(UnexpectedModelBehavior, match=f"for the reason '{reason}'"):
        asyncio.run(Agent(model=model).run("go"))


@on_loop
async def test_a_tool_stays_the_function_that_it_is() -> None:
    assert add(2, b=3) == 5
    assert await day_after(dt.date(2026, 2, 28)) == dt.date(2026, 3, 1)


def test_what_cannot_be_a_tool_is_refused() -> None:
    def no_docstring(a: int) -> None: ...

    def no_type(a) -> None:
        """Do it."""

    def by_position(a: int, /) -> None:
        """Do it."""

    def any_number(*many: int) -> None:
        """Do it."""

    def generator(a: int) -> Any:
        """Do it."""
        yield a

    def not_async(a: int) -> None:
        """Do it."""

    for function, says in [
        (no_docstring, "needs a docstring"),
        (no_type, "'a' needs a type"),
        (by_position, "by name"),
        (any_number, "by name"),
        (generator, "returns one result"),
        (Written, "decorates a function"),
        (Written().write, "decorates a function"),
    ]:
        with pytest.raises(TypeError, match=says):
            tool(function)
    with pytest.raises(TypeError, match="step=False a tool is async"):
        tool(step=False)(not_async)


# Making agents.


def test_what_cannot_be_an_agent_is_refused() -> None:
    def plain(a: int) -> None:
        """Do it."""

    @tool
    def other(a: int) -> None:
        """Do it."""

    other.__name__ = "add"
    for options, error, says in [
        ({"model": 5}, TypeError, "a name or a model of pydantic-ai's"),
        ({"name": ""}, TypeError, r"Agent\(name\) is text"),
        ({"name": "a\nb"}, ValueError, "printable"),
        ({"instructions": ["x"]}, TypeError, r"Agent\(instructions\) is text"),
        ({"temperature": "hot"}, TypeError, r"Agent\(temperature\) is a number"),
        ({"temperature": True}, TypeError, r"Agent\(temperature\) is a number"),
        ({"tools": [plain]}, TypeError, "decorated with @perdure.tool"),
        ({"tools": [add, other]}, ValueError, "have one name"),
        ({"model": "my-model"}, ValueError, "'openai-chat:my-model'"),
    ]:
        with pytest.raises(error, match=says):
            Agent(**{"model": "gpt-4o", **options})


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("gpt-4o", "openai-chat:gpt-4o"),
        ("o3-mini", "openai-chat:o3-mini"),
        ("ft:gpt-4o-mini:acme::x1", "openai-chat:ft:gpt-4o-mini:acme::x1"),
        ("claude-sonnet-4-6", "anthropic:claude-sonnet-4-6"),
        ("gemini-3.8-flash", "google:gemini-3.8-flash"),
        ("openai:gpt-4o", "openai:gpt-4o"),
        ("groq:openai/gpt-oss-20b", "groq:openai/gpt-oss-20b"),
        ("test", "test"),
    ],
)
def test_a_model_without_a_provider_gets_one_by_its_name(name: str, full: str) -> None:
    assert full_model_name(name) == full


def test_making_an_agent_needs_no_key_but_asking_it_does(monkeypatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    agent = Agent(name="a", model="gpt-4o")

    assert repr(agent) == "<Agent 'a'>"
    for _ in range(2):
        with pytest.raises(UserError, match="OPENAI_API_KEY"):
            asyncio.run(agent.run("hi"))


def test_the_names_are_there_without_the_extra_and_making_an_agent_says_which_it_is() -> None:
    code = (
        "import sys; sys.modules['pydantic_ai'] = None\n"
        "from perdure import Agent, tool\n"
        "assert 'pydantic' not in sys.modules\n"
        "@tool\n"
        "def add(a: int) -> int:\n"
        "    'Add one.'\n"
        "    return a + 1\n"
        "try:\n"
        "    Agent(name='a', model='gpt-4o', tools=[add])\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ran.stdout == "an Agent needs pydantic-ai: pip install 'perdure[agents]'\n"
