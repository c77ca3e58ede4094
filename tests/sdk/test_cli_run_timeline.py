"""What the events of a run become: items that begin, go on side by side, and end."""

from __future__ import annotations

from harness.told import START_MS, Story, packed

from perdure.cli.run_timeline import Item, Timeline, timeline_of
from perdure.cli.shown_values import json_of
from perdure.codec import encode
from perdure.errors import Code


def told(story: Story) -> Timeline:
    return timeline_of(story.events(), START_MS)


def only(story: Story) -> Item:
    [item] = told(story).items
    return item


def test_a_step_has_its_arguments_its_result_and_its_time() -> None:
    story = Story()
    step = story.at(100).step("charge", "o1", amount=5)
    assert only(story).is_open

    story.at(450).done(step, "receipt")
    item = only(story)

    assert (item.kind, item.name, item.step) == ("step", "charge", 1)
    assert not item.is_open
    assert item.ended_ms is not None
    assert (item.begun_ms - START_MS, item.ended_ms - item.begun_ms) == (100, 350)
    assert item.given is not None
    assert item.got is not None
    assert json_of(item.given.data) == [["o1"], {"amount": 5}]
    assert json_of(item.got.data) == "receipt"


def test_attempts_begin_when_they_are_due_and_the_last_one_is_counted() -> None:
    story = Story()
    step = story.step("charge")
    story.at(10).retries(step, 1, ConnectionError("a"), next_ms=300)
    story.at(340).retries(step, 2, ConnectionError("b"), next_ms=900)

    item = only(story)
    spans = [(a.begun_ms - START_MS, a.failed_ms - START_MS) for a in item.attempts]
    assert spans == [(0, 10), (300, 340)]
    assert item.attempt == 3
    assert item.is_open

    story.at(950).failed(step, ValueError("c"))
    item = only(story)
    assert item.code == Code.RAISED
    assert item.got is not None
    assert b"ValueError" in item.got.data


def test_the_answer_to_a_call_is_taken_out_of_its_envelope() -> None:
    story = Story()
    call = story.call("Stock[a].reserve", 2)
    story.answered(call, 8)
    refused = story.call("Stock[b].reserve", 2)
    story.refused(refused, Code.HOOK_CLOSED, "t", "why")

    one, two = told(story).items
    assert one.got is not None
    assert (one.kind, json_of(one.got.data), one.code) == ("call", 8, 0)
    assert two.got is not None
    assert (two.code, json_of(two.got.data)) == (Code.HOOK_CLOSED, ["t", "why"])


def test_another_run_is_started_and_its_end_awaited() -> None:
    story = Story()
    story.answered(story.child("kid].x", "child", 7), True)
    story.at(5).answered(story.ask_end("kid].x"), [0, encode(49)])
    story.at(6).answered(story.ask_end("other"), [int(Code.RAISED), packed(ValueError("no"))])

    started, awaited, failed = told(story).items
    assert (started.kind, started.name, started.target) == ("start", "child", "kid].x")
    assert started.given is not None
    assert json_of(started.given.data) == [[7], {}]
    assert awaited.got is not None
    assert (awaited.kind, awaited.target, json_of(awaited.got.data)) == ("result", "kid].x", 49)
    assert failed.code == Code.RAISED


def test_a_payload_knows_how_long_its_hook_was_open_for_it() -> None:
    story = Story()
    story.at(100).hook("t")
    story.at(2_100).payload("t", {"n": 1})
    story.at(2_150).reply("t", 1, "ok")
    story.at(5_150).payload("t", {"n": 2})
    story.at(5_200).unanswered(2)

    opened, first, reply, second = told(story).items
    assert (opened.kind, opened.begun_ms - START_MS) == ("hook", 100)
    assert (first.kind, first.waited_ms, first.answer) == ("payload", 2_000, "replied")
    assert reply.got is not None
    assert (reply.kind, reply.waited_ms, json_of(reply.got.data)) == ("reply", 50, "ok")
    assert (second.waited_ms, second.answer) == (3_000, "none")
    hook = told(story).hooks["t"]
    assert (hook.payloads, hook.since_ms - START_MS) == (2, 5_150)


def test_the_same_token_again_is_the_same_hook_and_a_closed_one_is_gone() -> None:
    story = Story()
    story.hook("t")
    story.hook("t")
    assert [item.kind for item in told(story).items] == ["hook"]

    story.dispose("t")
    assert [item.kind for item in told(story).items] == ["hook", "closed"]
    assert told(story).hooks == {}


def test_a_token_that_another_run_holds_says_which() -> None:
    story = Story()
    story.hook("t", holder="run-7")

    assert told(story).hooks == {}
    assert only(story).remarks == ["the run run-7 holds the token"]


def test_a_token_that_is_being_claimed_is_not_open_for_payloads() -> None:
    story = Story()
    story.hook("t", is_claimed=False)

    assert not told(story).hooks["t"].is_claimed


def test_a_sleep_that_ended_before_its_time_was_woken() -> None:
    story = Story()
    early = story.at(0).sleep(5_000)
    story.at(1_000).done(early)
    late = story.at(1_000).sleep(2_000)
    story.at(2_004).done(late)

    assert [item.was_woken for item in told(story).items] == [True, False]


def test_chunks_and_values_that_follow_one_another_are_one_item() -> None:
    story = Story()
    story.value("now", 1)
    story.value("random", 2)
    story.value("random", 3)
    for _ in range(40):
        story.write("log")
    story.write("other")

    items = [(item.kind, item.name, item.count) for item in told(story).items]
    assert items == [("value", "now", 1), ("value", "random", 2), ("stream", "log", 40),
                     ("stream", "other", 1)]  # fmt: skip


def test_streams_of_steps_are_said_at_the_step() -> None:
    story = Story()
    step = story.step("talk")
    story.wrote(step, 1, "text", 0)
    story.retries(step, 1, OSError("x"), 10)
    story.wrote(step, 2, "text", -1)
    story.wrote(step, 2, "text", 4)

    assert only(story).remarks == [
        "attempt 1 writes to the stream text",
        "what was written to the stream text before is void",
        "attempt 2 writes to the stream text",
    ]


def test_a_run_that_was_continued_as_new_keeps_hooks_and_payloads() -> None:
    story = Story()
    story.at(1_000).anew(3, ["t"], ["t"], dropped=12)
    story.at(1_500).payload("t", "second")
    story.reply("t", 1, "to the first")
    story.reply("t", 2, "to the second")

    timeline = told(story)
    note, payload, one, two = timeline.items
    assert (timeline.dropped, timeline.generation) == (12, 3)
    assert note.name == "continued as new (generation 3)"
    assert (payload.payload, payload.waited_ms, payload.answer) == (2, 500, "replied")
    assert (one.waited_ms, two.waited_ms) == (None, 0)


def test_what_happens_to_the_run_itself_is_noted() -> None:
    story = Story()
    story.patched("new-mail")
    story.died()
    story.parked("its code is gone")
    story.unparked()
    story.cancel("no longer wanted")
    story.sent("Cart[a].close")
    story.ended()

    assert [item.name for item in told(story).items] == [
        "takes the new way: new-mail",
        "its process died while it ran",
        "parked: its code is gone",
        "sent on its way again",
        "cancel requested: no longer wanted",
        "Cart[a].close",
    ]


def test_what_goes_on_at_the_same_time_has_lanes_of_its_own() -> None:
    story = Story()
    a = story.step("a")
    b = story.step("b")
    story.done(a)
    c = story.step("c")
    story.done(b)
    story.done(c)
    d = story.step("d")
    story.done(d)

    timeline = told(story)
    lanes = {item.name: (item.lane, item.beside) for item in timeline.items}
    assert lanes == {"a": (0, []), "b": (1, [0]), "c": (0, [1]), "d": (0, [])}
    assert timeline.lanes == 2


def test_steps_one_after_the_other_share_a_lane_even_in_one_millisecond() -> None:
    story = Story()
    for name in "abc":
        story.done(story.step(name))

    assert [item.lane for item in told(story).items] == [0, 0, 0]


def test_an_event_that_is_not_known_yet_is_not_left_out() -> None:
    story = Story()
    story._tell("v")

    assert only(story).name == "saved"
