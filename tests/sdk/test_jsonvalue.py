import collections
import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import sys
import uuid
import zoneinfo

import pytest
from harness.known_classes import known_classes

from perdure import lifting, lowering
from perdure.codec import NotEncodable, TooDeep
from perdure.errors import BadPayload, UnknownType
from perdure.ids import ObjectKey
from perdure.jsonvalue import from_json, to_json

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
DAY = dt.date(2026, 3, 1)
MOMENT = dt.datetime(2026, 3, 1, 9, 30)
ID = uuid.UUID(int=5)


class Status(enum.Enum):
    OPEN = "o"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Line:
    sku: str
    price: object = None


@dataclasses.dataclass(frozen=True)
class Reference:
    key: ObjectKey


@pytest.fixture(autouse=True, scope="module")
def _known():
    with known_classes(__name__):
        yield


@pytest.fixture(autouse=True)
def _references(monkeypatch):
    monkeypatch.setattr(lowering, "to_keys", {Reference: lambda r: r.key})
    monkeypatch.setattr(lifting, "from_key", [Reference])


FORMS = [
    (None, "null"),
    (True, "true"),
    (5, "5"),
    (2**53 - 1, "9007199254740991"),
    (-(2**53) + 1, "-9007199254740991"),
    (2**53, '{"$int":"9007199254740992"}'),
    (-(2**53), '{"$int":"-9007199254740992"}'),
    (1.5, "1.5"),
    (2.0, "2.0"),
    (0.1, "0.1"),
    (1e22, "1e+22"),
    (math.inf, '{"$float":"inf"}'),
    (-math.inf, '{"$float":"-inf"}'),
    (-0.0, '{"$float":"-0.0"}'),
    ("ü\0\n", '"ü\\u0000\\n"'),
    (b"\0a", '{"$bytes":"AGE="}'),
    (bytearray(b"a"), '{"$bytearray":"YQ=="}'),
    ([1, [2]], "[1,[2]]"),
    ((1, ()), '{"$tuple":[1,{"$tuple":[]}]}'),
    ({"b", "a"}, '{"$set":["a","b"]}'),
    (frozenset({1}), '{"$frozenset":[1]}'),
    ({}, "{}"),
    ({"a": {"b": 1}}, '{"a":{"b":1}}'),
    ({"$a": 1, "b": 2}, '{"$a":1,"b":2}'),
    ({"$a": 1}, '{"$dict":[["$a",1]]}'),
    ({"$int": "5"}, '{"$dict":[["$int","5"]]}'),
    ({1: 2, "1": 3}, '{"$dict":[[1,2],["1",3]]}'),
    ({(1, DAY): 1}, '{"$dict":[[{"$tuple":[1,{"$date":"2026-03-01"}]},1]]}'),
    (collections.OrderedDict(b=1), '{"$ordereddict":[["b",1]]}'),
    (collections.Counter("a"), '{"$counter":[["a",1]]}'),
    (collections.defaultdict(list, {1: []}), '{"$defaultdict":["list",[[1,[]]]]}'),
    (collections.deque([1], 3), '{"$deque":[3,[1]]}'),
    (collections.deque([1]), '{"$deque":[null,[1]]}'),
    (MOMENT, '{"$datetime":"2026-03-01T09:30:00"}'),
    (MOMENT.replace(tzinfo=dt.UTC), '{"$datetime":"2026-03-01T09:30:00+00:00"}'),
    (
        MOMENT.replace(tzinfo=BERLIN, fold=1),
        '{"$datetime":"2026-03-01T09:30:00[Europe/Berlin][fold=1]"}',
    ),
    (DAY, '{"$date":"2026-03-01"}'),
    (dt.time(9, 30), '{"$time":"09:30:00"}'),
    (dt.timedelta(1, 2, 3), '{"$timedelta":"P1DT2.000003S"}'),
    (dt.timedelta(0), '{"$timedelta":"PT0S"}'),
    (dt.timedelta(0, -1), '{"$timedelta":"-PT1S"}'),
    (BERLIN, '{"$zone":"[Europe/Berlin]"}'),
    (dt.UTC, '{"$zone":"+00:00"}'),
    (decimal.Decimal("1.50"), '{"$decimal":"1.50"}'),
    (ID, '{"$uuid":"00000000-0000-0000-0000-000000000005"}'),
    (Status.OPEN, '{"$enum":["Status","OPEN"]}'),
    (Rights(3), '{"$enum":["Rights",3]}'),
    (Line("a", 1), '{"$value":["Line",{"sku":"a","price":1}]}'),
    (Reference(ObjectKey("Cart", "u1")), '{"$ref":["Cart","u1"]}'),
]


@pytest.mark.parametrize(("value", "text"), FORMS, ids=[text for _, text in FORMS])
def test_each_value_has_one_form_and_comes_back_from_it(value, text):
    assert to_json(value).decode() == text
    back = from_json(text.encode())
    assert type(back) is type(value)
    assert back == value
    assert to_json(back).decode() == text
    # Whatever it is, a parser of another language can read it.
    json.loads(text)


def test_nan_and_minus_zero_come_back():
    assert math.isnan(from_json(to_json(math.nan)))
    assert math.copysign(1, from_json(to_json(-0.0))) == -1
    assert str(from_json(to_json(decimal.Decimal("sNaN7")))) == "sNaN7"


def test_numbers_of_json_are_read_exactly_as_they_are_written():
    assert from_json(b"12345678901234567890123") == 12345678901234567890123
    assert type(from_json(b"1.0")) is float
    assert from_json(b"-0") == 0
    assert math.copysign(1, from_json(b"-0.0")) == -1
    assert from_json(b"9" * 4300) == 10**4300 - 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nope",
        b"[1,]",
        b"{} {}",
        b"'a'",
        b"\xff",
        b"\xef\xbb\xbf1",
        "1".encode("utf-16"),
        b"NaN",
        b"Infinity",
        b"[-Infinity]",
        b"1e400",
        b"[-1e999]",
        b"9" * 4301,
        b"-" + b"9" * 4301,
        b'{"$int":"' + b"9" * 4301 + b'"}',
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'{"$int":"5","$int":"5"}',
        b'{"$set":[1,1]}',
        b'{"$set":[1,1.0]}',
        b'{"$set":[[]]}',
        b'{"$frozenset":{}}',
        b'{"$dict":[["a",1],["a",2]]}',
        b'{"$dict":[[[],1]]}',
        b'{"$dict":[["a"]]}',
        b'{"$dict":["ab"]}',
        b'{"$dict":{}}',
        b'{"$tuple":"ab"}',
        b'{"$int":5}',
        b'{"$int":"5.0"}',
        b'{"$int":" 5"}',
        b'{"$int":"1_0"}',
        '{"$int":"\u0665"}'.encode(),
        b'{"$float":"Infinity"}',
        b'{"$float":"1e999"}',
        b'{"$float":"x"}',
        b'{"$bytes":"A"}',
        b'{"$bytes":"AG E="}',
        b'{"$bytes":[1]}',
        b'{"$datetime":5}',
        b'{"$datetime":"tomorrow"}',
        b'{"$datetime":"2026-03-01T00:00:00[Not/AZone]"}',
        b'{"$date":"2026-02-30"}',
        b'{"$timedelta":"P"}',
        b'{"$timedelta":"PT"}',
        b'{"$timedelta":"P9999999999D"}',
        b'{"$decimal":"abc"}',
        b'{"$uuid":"5"}',
        b'{"$deque":[1,[1,2]]}',
        b'{"$deque":[-1,[]]}',
        b'{"$defaultdict":["eval",[]]}',
        b'{"$enum":["Status","GONE"]}',
        b'{"$enum":["Nothing","OPEN"]}',
        b'{"$enum":["Line","OPEN"]}',
        b'{"$enum":[{},"OPEN"]}',
        b'{"$value":["Line",{"sku":"a","more":1}]}',
        b'{"$value":["Line",{}]}',
        b'{"$value":["os.system",{}]}',
        b'{"$value":["Line",[1]]}',
        b'{"$value":["Line"]}',
        b'{"$value":["Line",{"sku":1},[],{},{}]}',
        b'{"$ref":["Cart"]}',
        b'{"$ref":[1,2]}',
        b'{"$mystery":1}',
        b'{"$":1}',
        b'"\\ud800"',
        b'{"\\udfff":1}',
        b'["\\ud83d"]',
    ],
    ids=lambda data: repr(data[:40]),
)
def test_what_is_no_json_value_or_could_mean_two_things_is_refused(data):
    with pytest.raises((BadPayload, UnknownType)):
        from_json(data)


def test_escaped_characters_beyond_16_bits_are_text():
    assert from_json(b'"\\ud83d\\ude00"') == "\U0001f600"


def test_json_that_is_too_deep_is_refused():
    for data in (
        b"[" * 65 + b"]" * 65,
        b"[" * 100_000,
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b'{"$tuple":[' * 65 + b"]}" * 65,
    ):
        with pytest.raises(TooDeep):
            from_json(data)
    value: list = []
    for _ in range(63):
        value = [value]
    assert from_json(to_json(value)) == value
    with pytest.raises(NotEncodable, match="more than 64"):
        to_json([value])


def test_what_cannot_be_written_is_refused_with_its_place():
    for value, path in (({"a": [1, len]}, "['a'][1]"), (["\ud800"], "[0]"), ({len: 1}, "[key ")):
        with pytest.raises(NotEncodable) as refused:
            to_json(value)
        assert refused.value.path.startswith(path)


def test_an_int_that_no_reader_takes_is_refused_and_the_longest_other_one_is_written():
    assert from_json(to_json(10**4299)) == 10**4299
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        for value in (10**4301, -(10**4301), [2**20_000]):
            with pytest.raises(NotEncodable, match="4300 digits"):
                to_json(value)
    finally:
        sys.set_int_max_str_digits(limit)


def test_a_fields_default_fills_in_for_what_json_does_not_say():
    assert from_json(b'{"$value":["Line",{"sku":"a"}]}') == Line("a")
