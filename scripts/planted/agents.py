"""Agents, and what they have brought to light."""

from __future__ import annotations

from planted.bug import Bug

__all__ = ["BUGS"]

ANSWERING = "sdk/perdure/agents/answering.py"
METHODS = "tests/node/test_agents_in_methods.py"
CRASH = f"{METHODS}::test_a_second_run_makes_again_what_the_crash_cut_off_and_nothing_else"

BUGS = [
    Bug(
        "agent-request",
        "A request to a model is no step, so a second run makes all of them again.",
        ANSWERING,
        'await ctx.run(\n            f"{self._name}: model request",\n            ask,',
        "await ask(",
        [CRASH],
    ),
    Bug(
        "agent-tool",
        "A call of a tool is no step, so a second run makes all of them again.",
        ANSWERING,
        'await ctx.run(f"{self._name}: tool {call.tool_name}", tool.use, call)',
        "await tool.use(call)",
        [CRASH],
    ),
    Bug(
        "agent-slow",
        "An agent takes its time between steps, and others of its method overtake it.",
        ANSWERING,
        "            if response.tool_calls:\n",
        "            for _ in range(len(messages[0].content) * 3):\n"
        "                await asyncio.sleep(0)\n"
        "            if response.tool_calls:\n",
        [f"{METHODS}::test_conversations_that_run_at_once_get_their_own_answers_in_a_second_run"],
    ),
    Bug(
        "first-result",
        "A second run has its first result before all of its tasks have asked for their steps.",
        "node/perdure_node/steps.py",
        "if self._fresh and isinstance(event, Done):",
        "if False:",
        [
            "tests/node/test_second_runs.py"
            "::test_steps_of_one_name_in_several_tasks_keep_their_results_in_a_second_run"
        ],
    ),
    Bug(
        "agent-chunks",
        "The chunks of an answer are written when it is whole.",
        "sdk/perdure/agents/requests.py",
        "                if text := _text_of(event):\n"
        "                    await writable.write(text)\n"
        "            return dump(stream.get())",
        "                _text_of(event)\n"
        '            await writable.write(stream.get().text or "")\n'
        "            return dump(stream.get())",
        ["tests/sdk/test_agents.py::test_the_chunks_of_an_answer_are_written_as_they_are_made"],
    ),
    Bug(
        "agent-loop-end",
        "The connections of a model stay open when their event loop ends.",
        "sdk/perdure/agents/open_models.py",
        "            async with await _load(self._given) as opened:\n"
        "                self.ready.set_result(opened)\n"
        "                await self._unused.wait()",
        "            opened = await _load(self._given)\n"
        "            self.ready.set_result(opened)\n"
        "            await self._unused.wait()",
        [
            "tests/sdk/test_agents_over_http.py"
            "::test_agents_of_one_model_share_its_connections_and_the_end_of_the_loop_closes_them"
        ],
    ),
]
