"""Agents in workflows: requests are steps of the run, and their chunks are in its stream once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import held_sessions
from harness.held_sessions import Reader, held_session
from harness.loop import on_loop
from harness.nodes import running, settings
from harness.scripted_models import told
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from perdure import Agent, get_run, resume_hook, start, tool, workflow
from perdure_node.core.limits import Limits

MADE: list[str] = []
"""Chunks that the model has made, in all lives."""
HANG_AT = [""]
REACHED: list[asyncio.Event] = []


async def speak(messages: list[ModelMessage], info: AgentInfo) -> Any:
    """Say how many messages there were, and the last of them, chunk by chunk."""
    asked = told(messages)
    assert [kind for kind, _ in asked[::2]] == ["user-prompt"] * (len(asked) // 2 + 1)
    for chunk in (f"{len(asked)}.", asked[-1][1], "end"):
        MADE.append(chunk)
        yield f"{chunk} "
        if HANG_AT[0] == chunk:
            REACHED[0].set()
            await asyncio.Event().wait()


@tool
async def measure(word: str) -> int:
    """Count the letters of a word."""
    MADE.append(f"measured {word}")
    if HANG_AT[0] == word:
        REACHED[0].set()
        await asyncio.Event().wait()
    return len(word)


async def think(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    asked = told(messages)
    MADE.append(f"asked {len(asked)}")
    if asked[-1][0] == "user-prompt":
        words = asked[-1][1].split()
        return ModelResponse(parts=[ToolCallPart("measure", {"word": word}) for word in words])
    return ModelResponse(parts=[TextPart(str([n for kind, n in asked if kind == "tool-return"]))])


@workflow
async def measuring_flow(sentences: list[str]) -> list[str]:
    agent = Agent(name="measurer", model=FunctionModel(think), tools=[measure])
    return await asyncio.gather(*(agent.run(sentence) for sentence in sentences))


@pytest.fixture(autouse=True)
def _scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(held_sessions, "MODEL", [FunctionModel(stream_function=speak)])
    MADE.clear()
    HANG_AT[0] = ""
    yield


def hang_at(what: str) -> None:
    HANG_AT[0] = what
    REACHED[:] = [asyncio.Event()]


async def send(text: str) -> None:
    await resume_hook("session:chat-1", {"content": text}, reply=False)


@pytest.mark.parametrize("in_memory", [1_000, 0])
@on_loop
async def test_a_session_answers_message_after_message_and_streams_the_chunks(
    tmp_path: Path, in_memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(runs_in_memory_max=in_memory)
    async with running(settings(tmp_path, limits=limits)) as (_, caller):
        monkeypatch.setattr("perdure.remote.current_client", lambda: caller.client)
        run = await start(held_session, id="chat-1")
        reader = Reader("chat-1")
        for number in range(3):
            await send(f"m{number}")
            said = await reader.until(f"m{number} end ")
        assert (said, reader.resets) == ("1. m0 end 3. m1 end 5. m2 end ", 0)
        await run.cancel()

    assert MADE == ["1.", "m0", "end", "3.", "m1", "end", "5.", "m2", "end"]


@on_loop
async def test_a_crash_in_the_middle_of_an_answer_takes_back_its_chunks_and_makes_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(settings(tmp_path), crash=True) as (_, caller):
        monkeypatch.setattr("perdure.remote.current_client", lambda: caller.client)
        await start(held_session, id="chat-1")
        await send("hello")
        reader = Reader("chat-1")
        await reader.until("hello end ")
        hang_at("again")
        await send("again")
        await REACHED[0].wait()
        # Readers see only what is durable, so this is what the crash leaves behind.
        assert await reader.until("again") == "1. hello end 3. again "
    hang_at("")
    async with running(settings(tmp_path)) as (_, caller):
        monkeypatch.setattr("perdure.remote.current_client", lambda: caller.client)
        assert await reader.until("again end ") == "1. hello end 3. again end "
        assert reader.resets == 1
        assert await Reader("chat-1").until("again end ") == "1. hello end 3. again end "
        await get_run("chat-1").cancel()

    assert MADE == ["1.", "hello", "end", "3.", "again", "3.", "again", "end"]


@on_loop
async def test_agents_of_one_run_that_work_at_once_go_on_where_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentences = ["one two", "three four five", "six"]
    hang_at("four")
    async with running(settings(tmp_path), crash=True) as (_, caller):
        monkeypatch.setattr("perdure.remote.current_client", lambda: caller.client)
        run = await start(measuring_flow, sentences, id="m")
        await REACHED[0].wait()
        # All but what hangs goes on. What is not recorded at a crash may be asked again.
        while [event.kind for event in await run.events()].count("step_completed") < 10:
            pass
    assert sorted(MADE) == [
        "asked 1", "asked 1", "asked 1", "asked 3", "asked 5",
        "measured five", "measured four", "measured one", "measured six", "measured three",
        "measured two",
    ]  # fmt: skip
    MADE.clear()
    hang_at("")
    async with running(settings(tmp_path)) as (_, caller):
        monkeypatch.setattr("perdure.remote.current_client", lambda: caller.client)
        assert await get_run("m").result() == ["[3, 3]", "[5, 4, 4]", "[3]"]

    assert MADE == ["measured four", "asked 7"], "what was recorded was asked again"
