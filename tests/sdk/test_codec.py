import collections
import dataclasses
import datetime as dt
import decimal
import enum
import math
import subprocess
import sys
import types
import uuid
import zoneinfo

import msgspec
import numpy as np
import pandas as pd
import pytest
from harness import value_trees
from harness.known_classes import known_classes
from harness.value_trees import Colour, Level, Point, Price, Rights, Word, same

from perdure import codec, values
from perdure.codec import NotEncodable, decode, encode
from perdure.errors import BadPayload
from perdure.extensions import Extension
from perdure.objects import DurableObject

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
TINY = dt.timezone(dt.timedelta.resolution)
DAY = dt.date(2026, 3, 1)
MOMENT = dt.datetime(2026, 3, 1, 9, 30, 15, 123456)


@pytest.fixture(autouse=True, scope="module")
def _known():
    with known_classes(value_trees.__name__):
        yield


class MyStr(str):
    __slots__ = ()


class MyInt(int):
    pass


class MyDict(dict):
    pass


class MyList(list):
    pass


class MyTime(dt.datetime):
    pass


Pair = collections.namedtuple("Pair", "a b")


def id_of(value):
    """Name a value as every process does: the order of a set is each one's own."""
    kind = type(value).__name__
    return kind if isinstance(value, set | frozenset) else f"{kind} {value!r:.40}"


@pytest.mark.parametrize(
    "value",
    [
        *(2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**70, 2**5000, -(2**63), -(2**63) - 1, -(2**64)),
        *(0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, 1.7976931348623157e308),
        *("", "\0", "a\0b", "\ud7ff\ue000", "\U0010ffff"),
        *(b"", b"\xff", bytearray(b""), bytearray(b"ab")),
        *((), (1,), [(1, [2])], [], {}, set(), frozenset(), frozenset({1, "a", None})),
        {True, 2, 2.5, "2", b"2", (2,), None, DAY, Colour.RED, Price(1)},
        collections.OrderedDict([("b", 1), ("a", 2), (DAY, 3)]),
        collections.Counter({"a": 3, "b": -1, DAY: 0}),
        *(collections.deque([1, 2], 5), collections.deque([1]), collections.deque(maxlen=0)),
        *(collections.defaultdict(f, {1: "x"}) for f in (list, dict, set, int, float, str, None)),
        *(MOMENT, MOMENT.replace(microsecond=0), dt.datetime.min, dt.datetime.max),
        *(MOMENT.replace(tzinfo=dt.UTC), MOMENT.replace(tzinfo=BERLIN), MOMENT.replace(fold=1)),
        dt.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN),
        dt.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
        dt.datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN),
        MOMENT.replace(tzinfo=dt.timezone(dt.timedelta(hours=-3, microseconds=1))),
        MOMENT.replace(tzinfo=dt.timezone(dt.timedelta(hours=1), "CET"), fold=1),
        MOMENT.replace(tzinfo=dt.timezone(dt.timedelta(0), "[fold=1][name=x]")),
        *(dt.time(), dt.time.max, dt.time(1, fold=1), dt.time(1, tzinfo=dt.UTC)),
        dt.time(1, 2, tzinfo=BERLIN, fold=1),
        *(DAY, dt.date.min, dt.date.max),
        *(dt.timedelta(), dt.timedelta.min, dt.timedelta.max, dt.timedelta(0, -1, 1)),
        *(dt.UTC, dt.timezone(dt.timedelta(hours=2), "x"), dt.timezone.min, BERLIN),
        *(TINY, MOMENT.replace(tzinfo=TINY), dt.time(1, tzinfo=TINY)),
        MOMENT.replace(tzinfo=dt.timezone(dt.timedelta(microseconds=-100), "x"), fold=1),
        *map(decimal.Decimal, ("0", "-0", "0.00", "1E+5", "-1.230E-400", "NaN", "sNaN12", "-Inf")),
        *(uuid.UUID(int=0), uuid.UUID(int=7, is_safe=uuid.SafeUUID.safe)),
        *(Colour.RED, Colour.GREEN, Level.HIGH, Word.YES, Rights(0), Rights.READ, Rights(3)),
        *(Point(1, [2]), Price((1, 2)), [Point(Price(1), {Price(2): 3})]),
    ],
    ids=id_of,
)
def test_it_comes_back_equal_with_its_type_and_gives_the_same_bytes(value):
    data = encode(value)

    assert same(decode(data), value)
    assert encode(decode(data)) == data
    # Small values are decoded at once, large ones from the outside to the inside.
    filled = [value, [[]] * 70]
    assert same(decode(encode(filled)), filled)


@pytest.mark.parametrize(
    "key",
    [
        *(None, True, 7, 2**64 - 1, 2**64, -(2**63) - 1, 1.5, math.inf, "k", b"k"),
        *(DAY, MOMENT, MOMENT.replace(tzinfo=BERLIN, fold=1), dt.time(1), dt.timedelta(1)),
        *(uuid.UUID(int=3), decimal.Decimal("1.0"), Colour.RED, Level.LOW, Word.YES, Rights(3)),
        *((), (1, "a"), (DAY, (uuid.UUID(int=3), (Level.LOW, Word.YES))), (MOMENT,), ((None,),)),
        *(frozenset({DAY}), Price(DAY), BERLIN),
    ],
    ids=lambda key: f"{type(key).__name__} {key!r:.40}",
)
def test_a_dict_key_keeps_its_type_alone_and_beside_text_and_inside_a_tuple(key):
    for value in ({key: 1}, {"a": 1, key: {key: 2}}, {(key, "t"): 1}, [{"x": {key: 1}}], {key}):
        assert same(decode(encode(value)), value)


def test_the_order_of_a_dict_is_kept_and_the_order_of_a_set_is_not():
    assert list(decode(encode({"b": 1, "a": 2, DAY: 3}))) == ["b", "a", DAY]
    assert encode({"b": 1, "a": 2}) != encode({"a": 2, "b": 1})

    numbers = [*range(50), *"abcdefgh", DAY]
    assert encode(set(numbers)) == encode({*numbers[::-1]})


def test_equal_sets_give_equal_bytes_in_processes_with_other_hashes():
    program = "from perdure import codec; print(codec.encode({'a', 'b', ('c', 1), b'd'}).hex())"
    seen = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": ":".join(sys.path)},
            check=True,
            capture_output=True,
        ).stdout
        for seed in range(2)
    }
    assert len(seen) == 1


def test_a_decimal_does_not_depend_on_the_context_of_the_user():
    value = decimal.Decimal("1.2345E+20")
    plain = encode(value)
    with decimal.localcontext(prec=2, capitals=0) as context:
        context.clear_traps()
        assert encode(value) == plain
        assert decode(plain).as_tuple() == value.as_tuple()
        with pytest.raises(BadPayload):
            decode(b"\xc7\x03" + bytes([Extension.DECIMAL]) + b"abc")


class Unknown(enum.Enum):
    A = 1


@pytest.mark.parametrize(
    ("value", "path", "problem"),
    [
        (len, "", "builtin_function_or_method"),
        (lambda: 1, "", "function"),
        ({"items": [1, {"cb": print}]}, "['items'][1]['cb']", "builtin_function_or_method"),
        ([(1, {2, (3, len)})], "[0][1]{...}[1]", "builtin_function_or_method"),
        (Point([Price({"k": object()})]), ".x[0].amount['k']", "object"),
        ({"a": {(1, object()): 2}}, "['a'][key tuple][1]", "object"),
        (MyStr("a"), "", "MyStr, a subclass of str: only str itself comes back as it was"),
        ([MyInt(1)], "[0]", "MyInt, a subclass of int: only int itself comes back as it was"),
        ({1: MyDict()}, "[1]", "MyDict, a subclass of dict: only dict itself comes back as it was"),
        ([[MyList()]], "[0][0]", "MyList, a subclass of list: only list itself comes back as it"),
        (Pair(1, 2), "", "Pair, a subclass of tuple: only tuple itself comes back as it was"),
        (MyTime(2026, 1, 1), "", "MyTime, a subclass of datetime: only datetime itself comes"),
        (pd.Timestamp(0), "", "Timestamp, a subclass of datetime: only datetime itself"),
        (np.float64(1), "", "float64, a subclass of float: only float itself comes back"),
        (np.int64(1), "", "int64"),
        (np.arange(2), "", "ndarray"),
        ({MyStr("a"): 1}, "[key MyStr]", "MyStr, a subclass of str"),
        ({1: 2, MyInt(5): 1}, "[key MyInt]", "MyInt, a subclass of int"),
        ({("t", MyStr("a")): 1}, "[key tuple][1]", "MyStr, a subclass of str"),
        ("a\ud800", "", "text with a lone surrogate"),
        ({"k": ["\udfff"]}, "['k'][0]", "text with a lone surrogate"),
        ({"\ud800": 1}, "[key '\\ud800']", "text with a lone surrogate"),
        ({(1, "\ud800"): 1}, "[key tuple][1]", "text with a lone surrogate"),
        (memoryview(b"a"), "", "memoryview"),
        (msgspec.msgpack.Ext(1, b"a"), "", "Ext"),
        ([msgspec.Raw(b"\x01")], "[0]", "Raw"),
        (1j, "", "complex"),
        (range(3), "", "range"),
        ({}.keys(), "", "dict_keys"),
        (collections.ChainMap(), "", "ChainMap"),
        (types.SimpleNamespace(), "", "SimpleNamespace"),
        (ValueError("x"), "", "ValueError"),
        (int, "", "type"),
        (collections.defaultdict(tuple), "", "a defaultdict over something else than list"),
        (collections.defaultdict(lambda: 0), "", "a defaultdict over something else than list"),
        (collections.defaultdict(MyInt), "", "a defaultdict over something else than list"),
        (MOMENT.replace(tzinfo=pd.Timestamp(0, tz="UTC").tz), None, None),
        (Colour, "", "EnumType"),
    ],
    # `repr` of many of them has an address in it, another one in each process.
    ids=lambda value: repr(value) if isinstance(value, str) else type(value).__name__,
)
def test_what_is_not_on_the_list_is_refused_with_its_place_and_never_changed(value, path, problem):
    if path is None:
        assert same(decode(encode(value)), value)
        return
    with pytest.raises(NotEncodable) as refused:
        encode(value)

    assert refused.value.path == path
    assert refused.value.problem.startswith(problem)


def test_a_zone_that_others_need_not_know_is_refused():
    class Mine(dt.tzinfo):
        def utcoffset(self, when):
            return dt.timedelta(0)

    with open("/usr/share/zoneinfo/Europe/Berlin", "rb") as file:
        nameless = zoneinfo.ZoneInfo.from_file(file)
    for zone in (Mine(), nameless):
        with pytest.raises(NotEncodable, match=r"neither a datetime\.timezone nor a ZoneInfo"):
            encode(MOMENT.replace(tzinfo=zone))
    with pytest.raises(NotEncodable, match="lone surrogate"):
        encode(dt.timezone(dt.timedelta(0), "\ud800"))


def test_a_dict_with_attributes_of_its_own_is_refused():
    for value in (collections.OrderedDict(a=1), collections.Counter("a")):
        value.note = 1
        with pytest.raises(NotEncodable, match="attributes of its own"):
            encode(value)


def test_64_levels_are_written_and_read_and_65_are_not():
    def nested(levels, wrap):
        value = wrap(None)
        for _ in range(levels - 1):
            value = wrap(value)
        return value

    for wrap in (
        lambda x: [x],
        lambda x: (x,),
        lambda x: {"k": x},
        lambda x: {DAY: x},
        lambda x: collections.deque([x]),
        lambda x: frozenset({x}),
        lambda x: {(1,): x},
        Point,
        Price,
    ):
        deep = nested(64, wrap) if wrap((1,)) != {(1,): (1,)} else nested(63, wrap)
        assert same(decode(encode(deep)), deep)
        with pytest.raises(NotEncodable, match="more than 64 containers inside one another"):
            encode(wrap(deep) if wrap((1,)) != {(1,): (1,)} else wrap(wrap(deep)))

    itself: list = []
    itself.append(itself)
    with pytest.raises(NotEncodable, match="more than 64 containers inside one another"):
        encode(itself)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        *((127, "7f"), (128, "cc80"), (255, "ccff"), (256, "cd0100"), (65536, "ce00010000")),
        *((2**32, "cf0000000100000000"), (2**64 - 1, "cf" + "ff" * 8), (-32, "e0")),
        *(
            (-33, "d0df"),
            (-129, "d1ff7f"),
            (-32769, "d2ffff7fff"),
            (-(2**63), "d38000000000000000"),
        ),
        *((2**64, "c70901010000000000000000"), (-(2**63) - 1, "c70901ff7fffffffffffffff")),
        ([1, {"a": [2**64]}], "920181a161" + "91c70901010000000000000000"),
        *((1.5, "cb3ff8000000000000"), (-0.0, "cb8000000000000000"), (None, "c0"), (True, "c3")),
        *(("a" * 31, "bf" + "61" * 31), ("a" * 32, "d920" + "61" * 32), ("ä", "a2c3a4")),
        *((b"", "c400"), (b"a", "c40161"), (bytes(256), "c50100" + "00" * 256)),
        *(
            ([], "90"),
            ([0] * 16, "dc0010" + "00" * 16),
            ({}, "80"),
            ({1: {b"k": None}}, "810181c4016bc0"),
        ),
        *(((), "d40290"), ((1,), "d5029101"), ((1, 2, 3), "d602" + "93010203")),
        *(
            (bytearray(), "c70006"),
            (bytearray(8), "d706" + "00" * 8),
            (bytearray(5), "c70506" + "00" * 5),
        ),
        *(
            ({2, 1}, "c70303920102"),
            (bytearray(16), "d806" + "00" * 16),
            ({(): 1}, "c7050592d4029001"),
        ),
    ],
    ids=lambda part: f"{part!r:.40}",
)
def test_the_bytes_of_a_value_never_change(value, data):
    assert encode(value).hex() == data
    assert same(decode(bytes.fromhex(data)), value)


def test_text_with_a_lone_surrogate_is_refused_beside_an_int_beyond_64_bits():
    for value in ([2**70, "\ud800"], {"a": 2**70, "\udfff": 1}, [(2**70, "\ud800")]):
        with pytest.raises(NotEncodable, match="lone surrogate"):
            encode(value)
    assert encode([1]) == b"\x91\x01"


def test_a_reference_travels_by_exactly_its_class(monkeypatch):
    from perdure import lifting, lowering
    from perdure.ids import ObjectKey

    @dataclasses.dataclass(frozen=True)
    class Reference:
        key: ObjectKey

    monkeypatch.setattr(lowering, "to_keys", {})
    monkeypatch.setattr(lifting, "from_key", [])
    data = b"\xc7\x09" + bytes([Extension.REFERENCE]) + encode(["Cart", "u1"])
    with pytest.raises(BadPayload, match="no references"):
        decode(data)

    codec.register_reference(Reference, lambda r: r.key, Reference)
    handle = Reference(ObjectKey("Cart", "u1"))
    assert decode(encode(handle)) == handle
    assert decode(data) == handle
    assert decode(encode({handle: [handle]})) == {handle: [handle]}


def test_a_class_that_is_not_known_is_refused_and_named():
    with pytest.raises(NotEncodable, match=r"Unknown, a class that is not known: .*@durable.value"):
        encode(Unknown.A)
    values.register(Unknown)
    assert decode(encode(Unknown.A)) is Unknown.A


def test_what_is_often_stored_by_mistake_is_refused_with_advice():
    async def method():
        """Return nothing."""

    class Cart(DurableObject):
        pass

    coroutine = method()
    with pytest.raises(NotEncodable, match="coroutine, which was not awaited"):
        encode([coroutine])
    coroutine.close()
    with pytest.raises(NotEncodable, match="Cart, a durable object: keep a handle to it"):
        encode(Cart("u1"))


def test_importing_the_codec_imports_neither_pydantic_nor_numpy():
    program = (
        "import sys; from perdure import codec, values, jsonvalue, raised; "
        "codec.encode({'a': (1, {2})}); "
        "print([m for m in ('pydantic', 'numpy', 'pickle') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"
