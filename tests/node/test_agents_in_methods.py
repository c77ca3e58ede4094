"""Agents in methods: requests and calls of tools are steps, and no second run repeats them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.loop import on_loop
from harness.nodes import Caller, running, settings
from harness.scripted_models import told
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from perdure import Agent, DurableObject, ctx, durable, tool
from perdure.errors import Parked

MADE: list[str] = []
"""Requests and calls of tools that were really made, in both lives."""
CRASH_AT = [""]
"""What hangs in the first life; nothing does in the second."""
REACHED: list[asyncio.Event] = []
NAME = ["tutor"]
"""The agent's name: another one is another version of the code."""


async def make(what: str) -> None:
    MADE.append(what)
    if CRASH_AT[0] == what:
        REACHED[0].set()
        await asyncio.Event().wait()


async def think(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Ask for the tools that the last question names, then tell what they have said."""
    asked = told(messages)
    questions = [content for kind, content in asked if kind == "user-prompt"]
    answers = [content for kind, content in asked if kind == "tool-return"]
    question = questions[-1]
    await make(f"{question}: request {len(answers) + 1}")
    if question == "too much":
        raise ModelHTTPError(status_code=429, model_name="scripted", body={"wait": 5})
    names = [name for name in question.split() if name in TOOLS]
    if len(answers) < len(names):
        return ModelResponse(parts=[ToolCallPart(names[len(answers)], {"word": question})])
    return ModelResponse(parts=[TextPart(f"{question}: {answers}")])


async def speak(messages: list[ModelMessage], info: AgentInfo) -> Any:
    response = await think(messages, info)
    for word in str(response.text).split(" "):
        yield f"{word} "


@tool
async def spell(word: str) -> str:
    """Spell a word."""
    await make(f"{word}: spell")
    return "-".join(word)


@tool
def count(word: str) -> int:
    """Count letters."""
    MADE.append(f"{word}: count")
    return len(word)


@tool(step=False)
async def note(word: str) -> int:
    """Write a word on the board."""
    length = await durable.ref(Chalkboard, "b").write(word)
    await ctx.run("written", make, f"{word}: written")
    return length


TOOLS: dict[str, Callable[..., Any]] = {"spell": spell, "count": count, "note": note}


def agent() -> Agent:
    model = FunctionModel(think, stream_function=speak)
    return Agent(name=NAME[0], model=model, tools=list(TOOLS.values()))


@durable.object
class Chalkboard(DurableObject):
    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.words: list[str] = []

    async def write(self, word: str) -> int:
        self.words.append(word)
        return len(self.words)


class Pages:
    def __init__(self) -> None:
        self.chunks: list[str] = []

    async def write(self, chunk: str) -> None:
        self.chunks.append(chunk)


@durable.object
class Tutor(DurableObject):
    def __init__(self, object_id: str) -> None:
        super().__init__(object_id)
        self.messages: list[dict[str, str]] = []
        self.log: list[Any] = []

    async def say(self, text: str) -> str:
        self.messages.append({"role": "user", "content": text})
        reply = await agent().stream(messages=self.messages)
        self.messages.append(reply)
        await ctx.run("end", make, "end")
        return reply["content"]

    async def say_aloud(self, text: str) -> list[str]:
        pages = Pages()
        await agent().stream(messages=[text], writable=pages)
        return pages.chunks

    async def ask_many(self, questions: list[str]) -> list[str]:
        async def ask(number: int, question: str) -> str:
            for _ in range(number % 3):
                await durable.ref(Chalkboard, "b").write(f"before {number}")
            answer = await agent().run(question)
            await durable.ref(Chalkboard, "b").write(f"after {number}")
            return answer

        asked = [ask(number, question) for number, question in enumerate(questions)]
        self.log = await asyncio.gather(*asked)
        await ctx.run("end", make, "end")
        return self.log

    async def ask_within_a_step(self, text: str) -> str:
        return await ctx.run("all in one", agent().run, text)

    async def ask_too_much(self) -> list[Any]:
        try:
            await agent().run("too much")
        except ModelHTTPError as error:
            self.log = [error.status_code, error.body, "too much" in error.model_name]
        await ctx.run("end", make, "end")
        return self.log

    @durable.shared
    async def ask_in_passing(self, text: str) -> str:
        return await agent().run(text)

    async def read(self) -> list[Any]:
        return [self.messages, self.log]


@durable.object(retries=3)
class PatientTutor(DurableObject):
    async def ask(self) -> str:
        first = await agent().run("first")
        await ctx.run("fail twice", fail_twice)
        return f"{first}, {await agent().run('second')}"


def fail_twice() -> None:
    MADE.append("fail")
    if MADE.count("fail") < 3:
        raise ConnectionError("not yet")


def begin(crash_at: str = "") -> None:
    MADE.clear()
    CRASH_AT[0] = crash_at
    REACHED[:] = [asyncio.Event()]
    NAME[0] = "tutor"


async def crash_in(path: Path, crash_at: str, method: str, *args: Any) -> list[str]:
    """Run a method until it comes to something, and crash there; return what was made."""
    begin(crash_at)
    async with running(settings(path), crash=True) as (_, caller):
        await caller.create("Tutor")
        await caller.create("Chalkboard", "b")
        caller.send("Tutor", method, *args, key="k")
        await REACHED[0].wait()
    CRASH_AT[0] = ""
    return list(MADE)


async def go_on(caller: Caller, method: str, *args: Any) -> Any:
    """Wait for the call that was interrupted by a crash."""
    return await caller.call("Tutor", method, *args, key="k")


ALL = [
    "spell and count: request 1",
    "spell and count: spell",
    "spell and count: request 2",
    "spell and count: count",
    "spell and count: request 3",
    "end",
]


@pytest.mark.parametrize("crash_at", [made for made in ALL if "count: count" not in made])
@on_loop
async def test_a_second_run_makes_again_what_the_crash_cut_off_and_nothing_else(
    tmp_path: Path, crash_at: str
) -> None:
    first = await crash_in(tmp_path, crash_at, "say", "spell and count")
    async with running(settings(tmp_path)) as (_, caller):
        answer = await go_on(caller, "say", "spell and count")
        messages, _ = await caller.call("Tutor", "read")

    assert answer == "spell and count: ['s-p-e-l-l- -a-n-d- -c-o-u-n-t', 15]"
    assert messages == [
        {"role": "user", "content": "spell and count"},
        {"role": "assistant", "content": answer},
    ]
    assert first == ALL[: ALL.index(crash_at) + 1]
    assert MADE[len(first) :] == ALL[ALL.index(crash_at) :]


@on_loop
async def test_conversations_that_run_at_once_get_their_own_answers_in_a_second_run(
    tmp_path: Path,
) -> None:
    questions = [f"q{n} {' '.join(list(TOOLS)[: n % 4])}" for n in range(12)]
    begin("end")
    first = await crash_in(tmp_path, "end", "ask_many", questions)
    async with running(settings(tmp_path)) as (_, caller):
        answers = await go_on(caller, "ask_many", questions)
        board = await caller.state("Chalkboard", "b")

    assert [answer.split(":")[0] for answer in answers] == questions
    assert all(answer.count(question) for answer, question in zip(answers, questions, strict=True))
    assert MADE[len(first) :] == ["end"]
    assert sorted(word for word in board["words"] if word.startswith("q")) == sorted(
        question for question in questions if "note" in question
    )
    assert len(board["words"]) == 12 + 12 + 3


@on_loop
async def test_what_a_tool_that_is_no_step_does_is_done_once_although_it_runs_again(
    tmp_path: Path,
) -> None:
    first = await crash_in(tmp_path, "note: written", "say", "note")
    async with running(settings(tmp_path)) as (_, caller):
        assert await go_on(caller, "say", "note") == "note: [1]"
        assert (await caller.state("Chalkboard", "b"))["words"] == ["note"]

    assert first == ["note: request 1", "note: written"]
    assert MADE[len(first) :] == ["note: written", "note: request 2", "end"]


@on_loop
async def test_an_error_of_a_model_is_caught_as_what_it_is_in_every_run(tmp_path: Path) -> None:
    first = await crash_in(tmp_path, "end", "ask_too_much")
    async with running(settings(tmp_path)) as (_, caller):
        assert await go_on(caller, "ask_too_much") == [429, {"wait": 5}, False]

    assert first == ["too much: request 1", "end"]
    assert MADE[len(first) :] == ["end"]


@on_loop
async def test_a_method_that_is_run_again_because_it_raised_keeps_the_answers_it_has(
    tmp_path: Path,
) -> None:
    begin()
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("PatientTutor")
        answer = await caller.call("PatientTutor", "ask")

    assert answer == "first: [], second: []"
    assert MADE == ["first: request 1", "fail", "fail", "fail", "second: request 1"]


@on_loop
async def test_chunks_are_written_again_only_when_the_request_was_cut_off(tmp_path: Path) -> None:
    await crash_in(tmp_path, "hello: request 1", "say_aloud", "hello")
    async with running(settings(tmp_path)) as (_, caller):
        assert await go_on(caller, "say_aloud", "hello") == ["hello: ", "[] "]

    assert MADE == ["hello: request 1"] * 2


@on_loop
async def test_code_whose_agent_asks_for_other_steps_is_found(tmp_path: Path) -> None:
    await crash_in(tmp_path, "end", "say", "hello")
    NAME[0] = "teacher"
    async with running(settings(tmp_path)) as (_, caller):
        with pytest.raises(Parked, match=r"run tutor: model request.*run teacher: model request"):
            await go_on(caller, "say", "hello")

    assert MADE == ["hello: request 1", "end"]


@on_loop
async def test_an_agent_within_a_step_is_part_of_that_step(tmp_path: Path) -> None:
    begin()
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("Tutor")
        assert await caller.call("Tutor", "ask_within_a_step", "spell") == "spell: ['s-p-e-l-l']"


@on_loop
async def test_a_method_that_only_reads_cannot_ask_a_model(tmp_path: Path) -> None:
    begin()
    async with running(settings(tmp_path)) as (_, caller):
        await caller.create("Tutor")
        with pytest.raises(RuntimeError, match=r"a @durable\.shared method, which only reads"):
            await caller.call("Tutor", "ask_in_passing", "hello")
    assert MADE == []
