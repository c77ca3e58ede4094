"""Agents that ask a model over HTTP, as OpenAI's are asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop
from harness.model_server import ModelServer, running_model_server

from perdure import Agent, tool
from perdure.agents import open_models


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with running_model_server(tmp_path / "ledger") as running:
        for name, value in running.settings.items():
            monkeypatch.setenv(name, value)
        yield running


class Written:
    def __init__(self) -> None:
        self.chunks: list[str] = []

    async def write(self, chunk: str) -> None:
        self.chunks.append(chunk)


@tool
def double(number: int) -> int:
    """Double a number."""
    return 2 * number


def test_a_bare_name_is_asked_by_chat_completions_and_only_what_is_given_is_sent(
    server: ModelServer,
) -> None:
    plain = Agent(name="plain", model="gpt-4o")
    warm = Agent(name="warm", model="gpt-4o", temperature=0.5, instructions="Be warm.")

    assert asyncio.run(plain.run("hello")) == "answer 1 to: hello"
    assert asyncio.run(warm.run("hello")) == "answer 1 to: hello"

    first, second = server.ledger()
    assert (first["instructions"], second["instructions"]) == ("", "Be warm.")
    assert first["settings"] == {"model": "gpt-4o", "stream": False}
    assert second["settings"] == {"model": "gpt-4o", "stream": False, "temperature": 0.5}


@pytest.mark.parametrize("streamed", [False, True])
def test_a_conversation_with_a_tool_goes_to_and_fro(server: ModelServer, streamed: bool) -> None:
    agent = Agent(name="a", model="gpt-4o", tools=[double])
    written = Written() if streamed else None
    messages = ["one", {"role": "assistant", "content": "two"}, 'call double {"number": 4}']

    answer = asyncio.run(agent.stream(messages=messages, writable=written))

    assert answer == {"role": "assistant", "content": "double says 8" + " " * streamed}
    assert [asked["conversation"][-1] for asked in server.ledger()] == [
        ["user", 'call double {"number": 4}'],
        ["tool", "8"],
    ]
    if written is not None:
        assert written.chunks == ["double ", "says ", "8 "]


def test_chunks_arrive_before_the_answer_is_whole(server: ModelServer) -> None:
    written = Written()
    server.hold(request=1, chunks=2)

    async def main() -> None:
        agent = Agent(name="a", model="gpt-4o")
        answer = asyncio.ensure_future(agent.stream(messages=["hello"], writable=written))
        await asyncio.to_thread(server.wait_until_held)
        while len(written.chunks) < 2:
            await asyncio.sleep(0)
        assert not answer.done()
        await asyncio.to_thread(server.release)
        assert (await answer)["content"] == "answer 1 to: hello "

    asyncio.run(main())

    assert written.chunks == ["answer ", "1 ", "to: ", "hello "]


def test_one_agent_serves_several_event_loops_one_after_another(server: ModelServer) -> None:
    agent = Agent(name="a", model="gpt-4o")

    for new_loop in (asyncio.new_event_loop, uvloop.new_event_loop) * 2:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            assert runner.run(agent.run("hello")) == "answer 1 to: hello"
            assert runner.run(agent.run("hello")) == "answer 1 to: hello"


def test_agents_of_one_model_share_its_connections_and_the_end_of_the_loop_closes_them(
    server: ModelServer,
) -> None:
    async def main() -> None:
        agents = [Agent(name=f"a{n}", model="gpt-4o") for n in range(5)]
        await asyncio.gather(*(agent.run("hello") for agent in agents))
        home = open_models._homes[asyncio.get_running_loop()]
        (opened,) = home.models.values()
        opened_here.append((home, await opened.ready))

    opened_here: list[tuple[open_models._Home, open_models.Model]] = []
    asyncio.run(main())

    home, model = opened_here[0]
    assert home.models == {}
    assert model.provider is not None
    assert model.provider._own_http_client is not None
    assert model.provider._own_http_client.is_closed


def test_a_loop_that_ends_in_the_middle_of_a_request_ends(server: ModelServer) -> None:
    server.hold(request=1, chunks=1)

    async def main() -> None:
        agent = Agent(name="a", model="gpt-4o")
        task = asyncio.ensure_future(agent.stream(messages=["hello"], writable=Written()))
        await asyncio.to_thread(server.wait_until_held)
        unfinished.append(task)

    unfinished: list[asyncio.Future[dict[str, str]]] = []
    asyncio.run(main())

    assert unfinished[0].cancelled()
