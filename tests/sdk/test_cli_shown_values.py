"""Values of classes that the command line does not know, as JSON and in one line."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import json
from collections import deque
from typing import Any

import pytest
from harness import value_trees
from harness.known_classes import known_classes
from harness.value_trees import Colour, Point, trees
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.bodies import pack_error
from perdure.cli.shown_values import (
    arguments_text,
    error_as_json,
    error_text,
    json_of,
    shortened,
    text_of,
)
from perdure.codec import encode
from perdure.errors import Code
from perdure.frames import Encoding
from perdure.jsonvalue import to_json
from perdure.raised import pack_exception

_slow = [HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=250, deadline=None, suppress_health_check=_slow)
@given(trees)
def test_json_says_what_a_process_with_the_classes_would_say(value: Any) -> None:
    with known_classes(value_trees.__name__):
        packed, expected = encode(value), json.loads(to_json(value))

    assert json_of(packed) == expected
    assert "\n" not in text_of(expected)


@settings(max_examples=250, deadline=None)
@given(st.binary(max_size=40))
def test_bytes_that_are_no_value_are_shown_all_the_same(data: bytes) -> None:
    json.dumps(json_of(data))
    text_of(json_of(data))
    arguments_text(data)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"count": 1, "who": "Ünal", "is": None}, '{"count": 1, "who": "Ünal", "is": null}'),
        (("a",), '("a",)'),
        ((1, 2.5), "(1, 2.5)"),
        ({1}, "{1}"),
        (set(), "set()"),
        ({1: 2}, "{1: 2}"),
        (b"abc", "<3 bytes>"),
        (deque([1, 2], 5), "[1, 2]"),
        (decimal.Decimal("1.50"), "1.50"),
        (dt.datetime(2026, 3, 1, 9, 30, tzinfo=dt.UTC), "2026-03-01T09:30:00+00:00"),
        (dt.timedelta(seconds=90), "PT90S"),
        (2**70, str(2**70)),
        (float("nan"), "nan"),
        ("red \x1b[31m alert\n", r'"red \u001b[31m alert\n"'),
        (
            dt.datetime(2026, 3, 1, tzinfo=dt.timezone(dt.timedelta(0), "\x1b[31m\n")),
            r"2026-03-01T00:00:00+00:00[name=\x1b[31m\n]",
        ),
    ],
)
def test_a_value_is_one_line_that_no_terminal_obeys(value: Any, text: str) -> None:
    assert text_of(json_of(encode(value))) == text


def test_instances_and_members_are_written_as_in_the_program() -> None:
    with known_classes(value_trees.__name__):
        packed = encode([Point(1, {"a": 2}), Colour.RED])

    assert text_of(json_of(packed)) == '[Point(x=1, y={"a": 2}, label="none"), Colour.RED]'


def test_arguments_are_written_as_in_a_call() -> None:
    assert arguments_text(b"") == ""
    assert arguments_text(encode([["a", 2], {}])) == '"a", 2'
    assert arguments_text(encode([[], {"n": 1}])) == "n=1"
    assert arguments_text(encode([[True], {"n": None}])) == "true, n=null"
    assert arguments_text(b'["a", 2]', Encoding.JSON) == '"a", 2'
    assert arguments_text(b'{"n": 1}', Encoding.JSON) == "n=1"


def test_what_is_cut_off_is_counted() -> None:
    assert shortened("a" * 30, 30) == "a" * 30
    cut = shortened("a" * 1_031, 30)

    assert 28 <= len(cut) <= 30
    kept = cut.count("a")
    assert cut == "a" * kept + f"...(+{1_031 - kept:,})"
    assert all(len(shortened("a" * n, 20)) <= 20 for n in range(2_000))


@dataclasses.dataclass
class ShownFailure(Exception):
    why: str

    def __str__(self) -> str:
        return f"because of\n  {self.why}"


def test_an_error_is_its_class_and_its_message() -> None:
    packed = pack_exception(ShownFailure("rain"), object="workflow[r]", method="f", call_id="c")

    assert error_text(Code.RAISED, packed) == "ShownFailure: because of rain"
    assert error_as_json(Code.RAISED, packed)["message"] == "because of\n  rain"
    code, payload = pack_error(Code.HOOK_CLOSED, ("t", "the run is over"))
    assert error_text(code, payload) == "HookClosed: the hook 't' is closed: the run is over"
    assert error_text(Code.RAISED, b"\xc1") == "unreadable: <1 unreadable bytes>"
