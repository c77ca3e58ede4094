"""Bytes that nobody's `encode` has written: they are refused, and cost no more than others."""

import datetime as dt
import subprocess
import sys
import time

import pytest
from harness import value_trees
from harness.known_classes import known_classes
from harness.value_trees import same

from perdure.codec import TooDeep, decode, encode
from perdure.errors import BadPayload, UnknownType
from perdure.extensions import Extension

DAY = dt.date(2026, 3, 1)
MOMENT = dt.datetime(2026, 3, 1, 9, 30, 15, 123456)


@pytest.fixture(autouse=True, scope="module")
def _known():
    with known_classes(value_trees.__name__):
        yield


def _extensions(code, levels, data):
    """Return arrays of one, each in an extension, around some data."""
    for _ in range(levels):
        data = encode_extension(code, b"\x91" + data)
    return data


def encode_extension(code, payload):
    head = b"\xc9" + len(payload).to_bytes(4, "big") + bytes([code & 255])
    return head + payload


def test_bytes_that_are_too_deep_are_refused():
    for data in (
        b"\x91" * 64 + b"\x90",
        b"\x91" * 1_000_000,
        b"\x81\xa1k" * 65 + b"\xc0",
        _extensions(Extension.TUPLE, 65, b"\x90"),
        _extensions(Extension.TUPLE, 63, b"\x91" * 3 + b"\xc0"),
        b"\x91" * 60 + _extensions(Extension.FROZENSET, 6, b"\xc0"),
        b"\x92" + b"\xdc\x03\xe8" + b"\x90" * 1000 + _extensions(Extension.TUPLE, 65, b"\x90"),
    ):
        with pytest.raises(TooDeep):
            decode(data)


def test_64_levels_of_every_kind_are_read():
    for data in (
        b"\x91" * 64 + b"\xc0",
        _extensions(Extension.TUPLE, 64, b"\xc0"),
        b"\x91" * 32 + _extensions(Extension.TUPLE, 32, b"\xc0"),
        b"\x92" + b"\xdc\x03\xe8" + b"\x90" * 1000 + _extensions(Extension.TUPLE, 63, b"\xc0"),
    ):
        value = decode(data)
        assert same(decode(encode(value)), value)


@pytest.mark.parametrize(
    ("code", "payload"),
    [
        *(
            (code, b"\xc1")
            for code in Extension
            if code not in (Extension.INT, Extension.BYTEARRAY)
        ),
        *((code, b"") for code in Extension if code not in (Extension.INT, Extension.BYTEARRAY)),
        (0, b""),
        (21, b"\x90"),
        (127, b""),
        (-1, b"\0\0\0\0"),
        (Extension.TUPLE, b"\x80"),
        (Extension.TUPLE, b"\x90\x90"),
        (Extension.SET, b"\x92\x01\x01"),
        (Extension.SET, b"\x91\x90"),
        (Extension.SET, b"\x92\x01\xcb\x3f\xf0\0\0\0\0\0\0"),
        (Extension.DICT, b"\x91\x01"),
        (Extension.DICT, b"\x94\x01\x02\x01\x02"),
        (Extension.DICT, b"\x92\x90\x02"),
        (Extension.DEFAULTDICT, b"\x91\xa4eval"),
        (Extension.DEFAULTDICT, b"\x91\x05"),
        (Extension.DEQUE, b"\x93\x01\x01\x01"),
        (Extension.DEQUE, b"\x92\xff\x01"),
        (Extension.DEQUE, b"\x92\xc3\x01"),
        (Extension.DATETIME, b"2026-13-01T00:00:00"),
        (Extension.DATETIME, b"2026-03-01T00:00:00[Nowhere/Land]"),
        (Extension.DATETIME, b"2026-03-01T00:00:00[../../etc/passwd]"),
        (Extension.DATETIME, b"2026-03-01T00:00:00[/etc/passwd]"),
        (Extension.DATETIME, b"2026-03-01T00:00:00+01:00[Europe/Berlin]"),
        (Extension.DATETIME, b"2026-03-01T00:00:00[name=x]"),
        (Extension.DATETIME, b"\xff"),
        (Extension.TIMEDELTA, b"\x93\xd3\x7f\xff\xff\xff\xff\xff\xff\xff\0\0"),
        (Extension.TIMEDELTA, b"\x93\x01\x02\xc3"),
        (Extension.TIMEDELTA, b"\x94\x01\x02\x03\x04"),
        (Extension.ZONE, b"[tzdata.zoneinfo]"),
        (Extension.ZONE, b"+25:00"),
        (Extension.DECIMAL, b"1E+99999999999999999999"),
        (Extension.UUID, b"123"),
        (Extension.UUID, b"0123456789abcdef\x07"),
        (Extension.ENUM, b"\x92\x01\x02"),
        (Extension.INSTANCE, b"\x92\xa5Price\x90"),
        (Extension.INSTANCE, b"\x92\x05\x80"),
        (Extension.INSTANCE, b"\x93\xa5Price\x81\xa6amount\x01\x90"),
        (Extension.INSTANCE, b"\x93\xa7Address\x81\xa6street\x01\x90"),
        (Extension.INSTANCE, b"\x95\xa7Address\x81\xa6street\x01\x01\x80\x80"),
        (Extension.REFERENCE, b"\x92\x01\x02"),
        (Extension.REFERENCE, b"\x91\xa1a"),
    ],
)
def test_an_extension_with_wrong_content_is_refused(code, payload):
    wrong = encode_extension(code, payload)
    for data in (wrong, b"\xdc\0\x50" + b"\x90" * 79 + wrong):
        with pytest.raises((BadPayload, UnknownType)):
            decode(data)


@pytest.mark.parametrize(
    "timestamp",
    [
        b"\xd6\xff\0\0\0\0",
        b"\xd7\xff\0\0\0\0\0\0\0\0",
        *(
            head + bytes([size, 255]) + b"\0" * size
            for head in (b"\xc7", b"\xc8\0", b"\xc9\0\0\0")
            for size in (4, 8, 12, 1, 0)
        ),
    ],
    ids=bytes.hex,
)
def test_a_timestamp_of_messagepack_is_refused_wherever_it_is(timestamp):
    for data in (
        timestamp,
        b"\x91" + timestamp,
        b"\x81\xa1k" + timestamp,
        b"\x81" + timestamp + b"\x01",
        b"\x81\x91" + timestamp + b"\x01",
        encode_extension(Extension.TUPLE, b"\x91" + timestamp),
        encode_extension(Extension.INSTANCE, b"\x92\xa5Price\x81\xa6amount" + timestamp),
    ):
        for whole in (data, b"\x92" + data + b"\xdc\0\x50" + b"\x90" * 80):
            with pytest.raises(BadPayload):
                decode(whole)


def test_what_only_looks_like_a_timestamp_is_a_value():
    for value in ([12, -1], [4, -1, (8, -1)], b"\xd6\xff", [b"\xd7\xff\0\0", {DAY: MOMENT}]):
        assert same(decode(encode(value)), value)


@pytest.mark.parametrize(
    "key",
    [
        b"\x80",
        b"\x91\x80",
        encode_extension(Extension.TUPLE, b"\x90"),
        encode_extension(Extension.INT, b"\x05"),
        b"\x91" + encode_extension(Extension.TUPLE, b"\x90"),
        b"\x92\x01\x91" + encode_extension(Extension.DATE, b"2026-03-01"),
    ],
    ids=bytes.hex,
)
def test_a_key_of_a_map_is_no_map_and_no_extension(key):
    for data in (b"\x81" + key + b"\x01", b"\x82\x01\x02" + key + b"\x01"):
        for whole in (data, b"\x92" + data + b"\xdc\0\x50" + b"\x90" * 80):
            with pytest.raises(BadPayload):
                decode(whole)
        with pytest.raises(BadPayload):
            decode(encode_extension(Extension.TUPLE, b"\x91" + data))


@pytest.mark.parametrize(
    "begin",
    [
        *(b"\x91", b"\xdc\0\1", b"\xdd\0\0\0\1", b"\x81\xa1k", b"\x81\xc0", b"\x81", b"\x81\x91"),
        *(b"\x92\xc0", b"\xde\0\1\xc0", b"\x82\x01\x01\x02", b"\xc9\x7f\xff\xff\xff\x02\x91"),
    ],
    ids=bytes.hex,
)
@pytest.mark.parametrize("levels", [66, 900, 1_000, 1_100, 100_000])
def test_no_depth_of_hostile_bytes_is_more_than_a_refusal(begin, levels):
    for end in (b"", b"\xc0", b"\xc7\x01\x02\x90"):
        with pytest.raises(BadPayload):
            decode(begin * levels + end)


def test_a_value_is_not_called_too_deep_because_the_stack_is_nearly_used_up():
    deep = b"\x91" * 60 + b"\xc0"
    data = b"\x92" + deep + b"\xdc\0\x50" + b"\x90" * 80
    refusals = []

    def use_up():
        try:
            return use_up()
        except RecursionError as error:
            refusals.append(error)
        return decode(data)

    value = use_up()
    assert same(value, decode(data))
    assert refusals


def test_bytes_behind_a_value_are_refused():
    for value in (None, 5, "a", [1], {"a": 1}, (1, 2), [MOMENT], [[]] * 100, 2**70):
        for more in (b"\0", b"\xc0", b"\xc1", encode(value)):
            with pytest.raises(BadPayload):
                decode(encode(value) + more)
            with pytest.raises(BadPayload):
                decode(encode_extension(Extension.TUPLE, encode([value]) + more))


def test_every_beginning_of_a_value_is_refused():
    for value in ({"a": [1, 2.5, "text", b"bytes", MOMENT, (1, {2})]}, [[1]] * 70, 2**70):
        data = encode(value)
        for size in range(len(data)):
            with pytest.raises(BadPayload):
                decode(data[:size])


@pytest.mark.parametrize(
    "text", [b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"a\xc3"]
)
def test_text_that_is_no_utf_8_is_refused(text):
    packed = bytes([0xA0 + len(text)]) + text
    for data in (
        packed,
        b"\x91" + packed,
        b"\x81" + packed + b"\1",
        b"\xd9\x28" + b"a" * 40 + text,
    ):
        with pytest.raises(BadPayload):
            decode(data)


def test_the_last_one_of_a_key_that_occurs_twice_counts():
    assert decode(b"\x82\xa1a\x01\xa1a\x02") == {"a": 2}


def test_nothing_is_imported_because_of_a_name_in_a_value():
    for name in (b"this", b"antigravity.fly", b"os.system", b"perdure.errors.RemoteError"):
        payload = b"\x92" + bytes([0xA0 + len(name)]) + name + b"\x80"
        with pytest.raises(UnknownType):
            decode(encode_extension(Extension.INSTANCE, payload))
    assert not {"this", "antigravity"} & set(sys.modules)


def test_huge_lengths_and_long_payloads_are_refused_at_once():
    started = time.process_time()
    for data in (
        *(head + b"\xff\xff\xff\xff" for head in (b"\xdd", b"\xdf", b"\xc6", b"\xdb")),
        b"\xc9\xff\xff\xff\xff\x02",
        b"\xdd\x00\xff\xff\xff" + b"\xc0" * 100,
        _extensions(Extension.TUPLE, 400, b"\xc0"),
        _extensions(Extension.TUPLE, 70, encode(b"x" * 1_000_000)),
    ):
        with pytest.raises(BadPayload):
            decode(data)
    assert time.process_time() - started < 5


def test_no_bytes_take_more_of_the_stack_than_a_small_thread_has():
    program = """
import threading
from perdure import codec
from perdure.errors import BadPayload

def extension(data):
    return b"\\xc9" + len(data).to_bytes(4, "big") + b"\\x02" + data

def decode_all():
    for levels, arrays in ((1, 1000), (63, 1), (63, 62), (63, 900), (400, 1)):
        data = b"\\x91" * 1000 + b"\\xc0"
        for _ in range(levels):
            data = extension(b"\\x91" * arrays + data)
        for outer in (0, 60, 1000):
            try:
                codec.decode(b"\\x91" * outer + data)
            except BadPayload:
                continue
            raise AssertionError("it was decoded")
    print("alive")

threading.stack_size(1024 * 1024)
thread = threading.Thread(target=decode_all)
thread.start()
thread.join()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "alive", done.stderr


def test_the_error_of_a_hook_does_not_stay_for_the_next_value():
    with pytest.raises(UnknownType):
        decode(encode_extension(Extension.INSTANCE, b"\x92\xa4Nope\x80"))
    with pytest.raises(BadPayload, match="no MessagePack"):
        decode(b"\xc1")
