"""The description of the wire for other languages says what the code does."""

import base64
import inspect
import re
from pathlib import Path

from perdure.bodies import Request
from perdure.errors import KINDS, Code
from perdure.frames import CallFrame, Kind
from perdure.serving.limits import ServerLimits

TEXT = (Path(__file__).parents[2] / "docs" / "wire.md").read_text("utf-8")


def test_every_code_stands_in_the_table_with_its_status_and_applied() -> None:
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \| ([A-Z_]+) \| (\w*) ?\|", TEXT, re.MULTILINE)

    assert rows == [
        ("0", "OK", "OK", ""),
        *((str(int(c)), c.name, KINDS[c].status, KINDS[c].applied) for c in Code if c != Code.OK),
    ]


def test_every_field_of_a_call_stands_in_the_table_in_its_place() -> None:
    rows = re.findall(r"^\| (\d+) \| ([a-z_]+) \|", TEXT, re.MULTILINE)

    assert rows == [
        (str(at), name) for at, name in enumerate(inspect.signature(Request).parameters)
    ]
    assert len(CallFrame._fields) == 4


def test_every_kind_of_call_is_named_with_its_number() -> None:
    (row,) = re.findall(r"^\| 0 \| kind \| (.*) \|$", TEXT, re.MULTILINE)

    said = {int(n): name for n, name in (word.split(" ", 1) for word in row.split(", "))}
    assert said == {int(kind): kind.name.lower().replace("_", " ") for kind in Kind}


def test_the_limits_that_are_named_are_those_of_the_server() -> None:
    limits = ServerLimits()

    assert f"{limits.frames_max:,} frames and {limits.message_bytes_max >> 20} MiB" in TEXT
    assert f"a body at most {limits.call_bytes_max >> 20} MiB" in TEXT
    assert f"lets {limits.unsent_bytes_max >> 20} MiB of answers pile up" in TEXT
    assert f"metadata over {limits.metadata_bytes_max >> 10} KiB" in TEXT


def test_the_arguments_of_the_example_are_what_it_says() -> None:
    assert base64.b64decode("WzVd") == b"[5]"
