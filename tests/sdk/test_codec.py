import collections
import dataclasses
import datetime as dt
import decimal
import enum
import math
import subprocess
import sys
import time
import types
import uuid
import zoneinfo

import numpy as np
import ormsgpack
import pandas as pd
import pytest
from harness import value_trees
from harness.known_classes import known_classes
from harness.value_trees import Colour, Level, Point, Price, Rights, Word, same

from perdure import codec, values
from perdure.codec import NotEncodable, TooDeep, decode, encode
from perdure.errors import BadPayload, UnknownType
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
        (ormsgpack.Ext(1, b"a"), "", "Ext"),
        ([ormsgpack.Fragment(b"\x01")], "[0]", "Fragment"),
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


def _extensions(code, levels, data):
    """Return arrays of one, each in an extension, around some data."""
    for _ in range(levels):
        data = encode_extension(code, b"\x91" + data)
    return data


def encode_extension(code, payload):
    head = b"\xc9" + len(payload).to_bytes(4, "big") + bytes([code & 255])
    return head + payload


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


def test_nothing_is_imported_because_of_a_name_in_a_value():
    for name in (b"this", b"antigravity.fly", b"os.system", b"perdure.errors.RemoteError"):
        payload = b"\x92" + bytes([0xA0 + len(name)]) + name + b"\x80"
        with pytest.raises(UnknownType):
            decode(encode_extension(Extension.INSTANCE, payload))
    assert not {"this", "antigravity"} & set(sys.modules)


def test_huge_lengths_and_long_payloads_are_refused_at_once():
    started = time.monotonic()
    for data in (
        *(head + b"\xff\xff\xff\xff" for head in (b"\xdd", b"\xdf", b"\xc6", b"\xdb")),
        b"\xc9\xff\xff\xff\xff\x02",
        b"\xdd\x00\xff\xff\xff" + b"\xc0" * 100,
        _extensions(Extension.TUPLE, 400, b"\xc0"),
        _extensions(Extension.TUPLE, 70, encode(b"x" * 1_000_000)),
    ):
        with pytest.raises(BadPayload):
            decode(data)
    assert time.monotonic() - started < 5


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


def test_a_reference_travels_by_exactly_its_class(monkeypatch):
    from perdure import lifting, lowering
    from perdure.ids import ObjectKey

    @dataclasses.dataclass(frozen=True)
    class Reference:
        key: ObjectKey

    monkeypatch.setattr(lowering, "to_keys", {})
    monkeypatch.setattr(lifting, "from_key", [])
    data = encode_extension(Extension.REFERENCE, encode(["Cart", "u1"]))
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
