"""The picture of a run, the list of runs, and what is typed wrongly."""

from __future__ import annotations

import datetime as dt
import io
import json
import textwrap
from typing import Any

import pytest
from harness.commands import perdure
from harness.told import START_MS, Story, packed, told_status
from rich.console import Console

from perdure.cli.run_json import event_as_json, run_as_json
from perdure.cli.run_output import print_events
from perdure.cli.run_picture import ROWS, Shown, picture
from perdure.cli.run_table import print_runs
from perdure.cli.run_timeline import timeline_of
from perdure.cli.run_wording import took
from perdure.codec import encode
from perdure.errors import Code
from perdure.workflows.runs import RunStatus


class AsciiFile(io.StringIO):
    encoding = "ascii"


def shown(story: Story, status: RunStatus, now_ms: int = 60_000, **changes: Any) -> Shown:
    facts: dict[str, Any] = {
        "status": status,
        "timeline": timeline_of(story.events(), START_MS),
        "input": (0, encode([["o1"], {"amount": 5}])),
        "code": 0,
        "result": encode({"parcel": 7}),
        "streams": {},
        "now_ms": START_MS + now_ms,
    }
    return Shown(**(facts | changes))


def drawn(run: Shown, width: int = 80, *, file: io.StringIO | None = None, **how: Any) -> str:
    console = Console(file=file or io.StringIO(), width=width, color_system=None)
    return "\n".join(line.plain for line in picture(run, dt.UTC, console, **how))


def timeline(text: str) -> str:
    """Return the part with the items."""
    return text.split("\n\n")[1]


def order() -> Story:
    """Tell of a run with two things at once, a retried step, and a hook."""
    story = Story()
    story.at(2)
    call = story.call("Stock[apple].reserve", 2)
    charge = story.step("charge", "o1", amount=500)
    slow = story.step("slow", 1.0)
    story.at(9).retries(charge, 1, ConnectionError("the till\nis closed"), next_ms=310)
    story.at(10).answered(call, 8)
    story.at(910).done(charge, "receipt-1")
    story.at(1_003).done(slow, 1.0)
    story.at(1_004).done(story.service("post.ship", {"order": "o1"}), "parcel")
    nap = story.sleep(61_000)
    story.at(61_004).done(nap)
    story.at(61_005).hook("confirm:o1")
    story.at(61_900).payload("confirm:o1", {"type": "yes"})
    story.at(61_901).reply("confirm:o1", 1, {"ok": True})
    story.at(61_902).ended()
    return story


def test_a_run_that_has_ended_is_understood_at_a_glance() -> None:
    run = shown(order(), told_status("completed", ended_ms=61_902), now_ms=120_000)

    assert drawn(run) == textwrap.dedent("""\
        run       order-1
        workflow  order
        state     completed after 1.0 min
        started   2026-03-01 09:30:00 UTC, 2.0 min ago
        input     "o1", amount=5
        result    {"parcel": 7}

        at               what                                                        for
        09:30:00.002 ●   call 1    Stock[apple].reserve(2) → 8                      8 ms
        09:30:00.002 │●  step 2    charge("o1", amount=500) → "receipt-1"         908 ms
                     ││            attempt 1 failed after 7 ms: ConnectionError:
                     ││            the till is closed; the next one 301 ms later
        09:30:00.002 ││● step 3    slow(1.0) → 1.0                                 1.0 s
        09:30:01.004 ●   service 4 post.ship({"order": "o1"}) → "parcel"            0 ms
        09:30:01.004 ●   sleep 5   until 09:31:01.000                            1.0 min
        09:31:01.005 ·   hook      confirm:o1 opened
        09:31:01.900 ◆   hook      confirm:o1 ← {"type": "yes"}                   895 ms
        09:31:01.901 ◆   reply     confirm:o1 → {"ok": true}                        1 ms
        09:31:01.902     completed""")


def test_on_a_wide_terminal_each_row_has_a_bar() -> None:
    run = shown(order(), told_status("completed", ended_ms=61_902))

    assert timeline(drawn(run, 104)) == textwrap.dedent("""\
        at               what                                                       for
        09:30:00.002 ●   call 1    Stock[apple].reserve(2) → 8                     8 ms ━
        09:30:00.002 │●  step 2    charge("o1", amount=500) → "receipt-1"        908 ms ━
                     ││            attempt 1 failed after 7 ms:
                     ││            ConnectionError: the till is closed; the
                     ││            next one 301 ms later
        09:30:00.002 ││● step 3    slow(1.0) → 1.0                                1.0 s ━
        09:30:01.004 ●   service 4 post.ship({"order": "o1"}) → "parcel"           0 ms ━
        09:30:01.004 ●   sleep 5   until 09:31:01.000                           1.0 min ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄
        09:31:01.005 ·   hook      confirm:o1 opened
        09:31:01.900 ◆   hook      confirm:o1 ← {"type": "yes"}                  895 ms                        ┄
        09:31:01.901 ◆   reply     confirm:o1 → {"ok": true}                       1 ms                        ┄
        09:31:01.902     completed""")  # noqa: E501


def test_a_terminal_without_unicode_gets_other_characters() -> None:
    run = shown(order(), told_status("completed", ended_ms=61_902))

    text = drawn(run, 104, file=AsciiFile())

    assert text.isascii()
    assert "09:30:00.002 |*  step 2    charge" in text
    assert 'confirm:o1 <- {"type": "yes"}' in text
    assert text.count("-" * 24) == 1  # The bar of the sleep.


def test_a_run_that_goes_on_says_what_it_waits_for_and_since_when() -> None:
    story = Story()
    story.at(5).hook("approve:o1")
    story.at(1_000).payload("approve:o1", 1)
    story.at(2_000).step("slow")
    charge = story.step("charge")
    story.at(3_000).retries(charge, 1, OSError("no route"), next_ms=90_000)
    story.sleep(3_600_000)
    story.call("Cart[u 1].close")
    story.answered(story.child("kid", "child"), True)
    story.ask_end("kid")
    story.hook("other", is_claimed=False)
    run = shown(story, told_status(), streams={"default": 3, "log": 1})

    assert drawn(run) == textwrap.dedent("""\
        run       order-1
        workflow  order
        state     running for 1.0 min
        started   2026-03-01 09:30:00 UTC, 1.0 min ago
        streams   default (3 chunks), log (1 chunk)
        input     "o1", amount=5

        at                  what                                                     for
        09:30:00.005 ·      hook    approve:o1 opened
        09:30:01.000 ◆      hook    approve:o1 ← 1                                995 ms
        09:30:02.000 ○      step 3  slow()                                      58 s ...
        09:30:02.000 │○     step 4  charge()                                    58 s ...
                     ││             attempt 1 failed after 1.0 s: OSError: no
                     ││             route; the next one 1.4 min later
        09:30:03.000 ││○    sleep 5 until 10:30:00.000                          57 s ...
        09:30:03.000 │││○   call 6  Cart[u 1].close()                           57 s ...
        09:30:03.000 ││││●  start 7 child() as run kid                              0 ms
        09:30:03.000 ││││○  await 8 the end of run kid                          57 s ...
        09:30:03.000 │││││· hook    other opened
        09:31:00.000 │││││  now

        waits for  step 3 (slow), for 58 s
                   step 4 (charge), for 58 s, attempt 2 begins in 30 s
                   sleep 5, which ends in 59 min (2026-03-01 10:30:00), for 57 s
                   call 6 (Cart[u 1].close), for 57 s
                   perdure why 'Cart/u 1'
                   the end of the run kid, for 57 s
                   perdure runs show kid
                   a payload for the hook approve:o1, for 59 s (1 payload so far)
                   perdure runs resume approve:o1 JSON
                   the token other, to be its own""")


def test_of_a_long_run_the_middle_is_left_out_and_counted() -> None:
    story = Story()
    story.hook("t")
    for number in range(1_000):
        story.at(10 * number).payload("t", number)
        step = story.step("add", number)
        if number == 500:
            story.failed(step, ValueError("no"))
        else:
            story.done(step, number)
        story.reply("t", number + 1, number)
    run = shown(story, told_status())

    lines = timeline(drawn(run)).split("\n")

    assert len([line for line in lines if line.startswith("09:30:")]) == ROWS
    [left] = [number for number, line in enumerate(lines) if "... 2,941 more" in line]
    text = " ".join(line[24:].strip() for line in lines[left : left + 2])
    assert text == (
        "... 2,941 more (981 steps, 980 replies, 980 payloads; 1 failed): --all shows them"
    )
    assert "add(0)" in "".join(lines[:left])
    assert "add(999)" in "".join(lines[left:])
    assert "more (" not in drawn(run, is_whole=True)
    assert drawn(run, is_whole=True).count("add(") == 1_000


def test_of_many_attempts_the_first_and_the_last_are_shown() -> None:
    story = Story()
    step = story.step("stubborn")
    for number in range(1, 13):
        story.at(number * 10).retries(step, number, OSError("x"), number * 10 + 5)
    run = shown(story, told_status())

    text = drawn(run)

    numbers = [n for n in range(1, 14) if f"attempt {n} failed" in text]
    assert numbers == [1, 2, 11, 12]
    assert "... 8 attempts more" in text
    assert "attempt 5 failed" in drawn(run, is_whole=True)
    assert "step 1 (stubborn), for 1.0 min, attempt 13" in text


def test_long_values_and_errors_are_cut_and_counted() -> None:
    story = Story()
    story.failed(story.step("send", "a" * 5_000), ValueError("b" * 5_000))
    result, given = packed(ValueError("c" * 5_000)), encode([["d" * 5_000], {}])
    status = told_status("failed", ended_ms=9)
    run = shown(story, status, code=int(Code.RAISED), result=result, input=(0, given))

    text = drawn(run)

    assert text.count("...(+4,") == 4
    assert max(map(len, text.split("\n"))) <= 80
    whole = drawn(run, is_whole=True)
    assert "...(" not in whole
    assert all(whole.count(letter) >= 5_000 for letter in "abcd")


def test_many_things_at_once_do_not_widen_the_picture() -> None:
    story = Story()
    for number in range(30):
        story.step(f"s{number}")
    lines = timeline(drawn(shown(story, told_status()))).split("\n")

    assert lines[1].startswith("09:30:00.000 ○        step 1 ")
    assert lines[8].startswith("09:30:00.000 │││││││○ step 8 ")
    assert lines[9].startswith("09:30:00.000 │││││││⋮ step 9 ")


def test_a_new_day_is_said_and_a_time_on_another_day_has_its_date() -> None:
    story = Story()
    nap = story.sleep(40 * 3_600_000)
    story.at(40 * 3_600_000).done(nap)
    story.done(story.step("a"), 1)
    run = shown(story, told_status("completed", ended_ms=40 * 3_600_000), now_ms=41 * 3_600_000)

    assert timeline(drawn(run)) == textwrap.dedent("""\
        at             what                                  for
        09:30:00.000 ● sleep 1   until 2026-03-03 01:30:00 1.7 d
        2026-03-03
        01:30:00.000 ● step 2    a() → 1                    0 ms
        01:30:00.000   completed""")


def test_what_had_not_ended_when_its_run_did_is_not_drawn_as_going_on() -> None:
    story = Story()
    story.sleep(9_000_000)
    story.at(500).cancel("no longer wanted")
    story.at(510).ended()
    run = shown(story, told_status("cancelled", ended_ms=510), code=int(Code.CANCELLED),
                result=encode(["workflow[order-1].order", "no longer wanted"]))  # fmt: skip

    text = drawn(run)

    assert "○  sleep 1   until 12:00:00.000                 510 ms\n" in text
    assert "│·           cancel requested: no longer wanted\n" in text
    assert "error     CallCancelled: " in text
    assert "waits for" not in text


def test_a_parked_run_says_why_and_what_can_be_done() -> None:
    status = told_status(id="my run", parked="its code is gone", version="abc", parent="main-1")
    text = drawn(shown(Story(), status, input=(1, b"[]")))

    assert text == textwrap.dedent("""\
        run       my run
        workflow  order
        state     parked for 1.0 min
        because   its code is gone
        started   2026-03-01 09:30:00 UTC, 1.0 min ago
        parent    run main-1
        version   abc
        input     none

        waits for  you to decide: run it again, or end it
                   perdure calls retry 'workflow/my run'
                   perdure runs cancel 'my run'""")


def test_what_a_run_has_not_taken_is_shown() -> None:
    status = told_status("completed", ended_ms=5, left=[["t", encode({"n": 1})]])

    assert 'not taken  t: {"n": 1}' in drawn(shown(Story(), status))


def test_nothing_that_a_run_holds_reaches_the_terminal_as_a_command() -> None:
    evil = "\x1b]0;evil\x07\r\n\x9b"
    story = Story()
    story.hook(evil)
    story.payload(evil, {evil: evil})
    story.failed(story.step(evil, evil), ValueError(evil))
    story.answered(story.child(evil, evil))
    story.patched(evil)
    status = told_status(id=evil, workflow=evil, version=evil, parent=evil, parked=evil,
                         left=[[evil, encode(evil)]])  # fmt: skip
    run = shown(story, status, streams={evil: 1}, input=(0, encode([[evil], {}])))

    text = drawn(run, is_whole=True) + drawn(shown(story, told_status(hooks=[evil])))

    assert all(c.isprintable() or c == "\n" for c in text)


@pytest.mark.parametrize(
    ("milliseconds", "text"), [(0, "0 ms"), (999, "999 ms"), (1_000, "1.0 s"), (90_000, "1.5 min")]
)
def test_short_times_are_in_milliseconds(milliseconds: int, text: str) -> None:
    assert took(milliseconds) == text


# For programs.


def test_json_has_everything_that_the_picture_has() -> None:
    content = run_as_json(shown(order(), told_status("completed", ended_ms=61_902)))

    assert json.loads(json.dumps(content)) == content
    assert content["state"] == "completed"
    assert content["input"] == {"positional": ["o1"], "named": {"amount": 5}}
    assert content["result"] == {"parcel": 7}
    assert content["waits_for"] == []
    charge = content["timeline"][1]
    assert (charge["name"], charge["took_ms"], charge["got"]) == ("charge", 908, "receipt-1")
    assert charge["given"] == {"positional": ["o1"], "named": {"amount": 500}}
    [attempt] = charge["failed_attempts"]
    assert attempt["error"]["message"] == "the till\nis closed"
    assert attempt["error"]["traceback"] == "ConnectionError: the till\nis closed"
    assert content["timeline"][3]["given"] == {"order": "o1"}
    payload, reply = content["timeline"][-2:]
    assert (payload["given"], payload["answer"]) == ({"type": "yes"}, "replied")
    assert (reply["got"], reply["payload"]) == ({"ok": True}, 1)


def test_json_says_what_a_run_waits_for_and_how_it_failed() -> None:
    story = Story()
    story.at(5).hook("t")
    story.at(7).step("slow")
    content = run_as_json(shown(story, told_status()))
    assert content["waits_for"] == [
        {"kind": "step", "name": "slow", "step": 3, "since_ms": START_MS + 7},
        {"kind": "hook", "name": "t", "since_ms": START_MS + 5, "payloads": 0, "claimed": True},
    ]

    failed = shown(story, told_status("failed", ended_ms=9), code=int(Code.RAISED),
                   result=packed(ValueError("no")))  # fmt: skip
    content = run_as_json(failed)
    assert content["waits_for"] == []
    assert content["result"] is None
    assert (content["error"]["class"], content["error"]["message"]) == ("ValueError", "no")


def test_raw_events_are_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    story = Story()
    story.done(story.step("pay", "a\nb"), None)
    story.value("now", 1)

    print_events(story.events(), as_json=False)
    text = capsys.readouterr().out
    assert text.count("\n") == 3
    assert 'step_scheduled  step 1  pay  "step"  [["a\\nb"], {}]' in text
    print_events(story.events(), as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [event_as_json(event) for event in story.events()]
    assert lines[0]["value"] == [["a\nb"], {}]


# The list.


def test_a_list_says_how_each_run_stands(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        told_status(id="a", hooks=["t", "u"]),
        told_status("completed", ended_ms=1_500, id="b", left=[["t", encode(1)]]),
        told_status(id="c", parked="its code is gone"),
        told_status(id="d", cancelling=True),
    ]

    print_runs(runs, None, as_json=False)

    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["run", "workflow", "state", "started", "took", "now"]
    assert [row[:3] for row in rows[1:]] == [
        ["a", "order", "running"],
        ["b", "order", "completed"],
        ["c", "order", "parked"],
        ["d", "order", "cancelling"],
    ]
    assert rows[1][-6:] == ["hook", "t", "and", "1", "hook", "more"]
    assert rows[2][-6:] == ["1.5", "s", "1", "payload", "not", "taken"]
    assert rows[3][-4:] == ["its", "code", "is", "gone"]


def test_a_list_for_programs_says_where_the_next_one_begins(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_runs([told_status(id="a", left=[["t", encode(1)]])], "a", as_json=True)

    content = json.loads(capsys.readouterr().out)
    assert content["after"] == "a"
    [run] = content["runs"]
    assert (run["id"], run["state"], run["ended_ms"]) == ("a", "running", None)
    assert run["left"] == [{"token": "t", "payload": 1}]


def test_an_empty_list_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_runs([], None, as_json=False)

    assert capsys.readouterr().out == "no such runs\n"


# What is typed wrongly.


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("list", "--status", "faild"), "did you mean 'failed'?"),
        (("resume", "t", "yes"), "a payload is JSON, with text in double quotes"),
        (("resume", "t", "NaN"), "NaN is no JSON"),
    ],
)
def test_what_is_typed_wrongly_is_refused_before_anything_is_asked(
    words: tuple[str, ...], text: str
) -> None:
    done = perdure("runs", *words, address="127.0.0.1:1")

    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr


def test_a_cluster_that_does_not_answer_is_named_at_once() -> None:
    for words in (("list",), ("show", "a"), ("tail", "a"), ("resume", "t", "1")):
        done = perdure("runs", *words, address="127.0.0.1:1")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            "perdure: nothing answers at 127.0.0.1:1: is the cluster running there?\n"
        )
