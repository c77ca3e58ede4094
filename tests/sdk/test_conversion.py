import collections
import dataclasses
import datetime as dt
import decimal
import enum
import typing
import uuid
import zoneinfo
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Annotated, Any, Literal, NewType, NotRequired, TypedDict, TypeVar

import pydantic
import pytest

from perdure.errors import BadArguments
from perdure.jsonvalue import convert

DAY = dt.date(2026, 3, 1)
MOMENT = dt.datetime(2026, 3, 1, 9, 30, tzinfo=dt.UTC)
ID = uuid.UUID(int=5)
UserId = NewType("UserId", int)
T = TypeVar("T")
Bound = TypeVar("Bound", bound=int)
Either = TypeVar("Either", int, str)


class Status(enum.Enum):
    OPEN = "o"
    SHUT = 2


@dataclasses.dataclass
class Line:
    sku: str
    price: decimal.Decimal
    tags: set[str] = dataclasses.field(default_factory=set)
    parent: "Line | None" = None

    def __post_init__(self):
        if self.price < 0:
            raise ValueError("a price is not negative")


class Model(pydantic.BaseModel):
    day: dt.date
    lines: list[Line] = []


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Handle:
    pass


HANDLE = Handle()


@pytest.mark.parametrize(
    ("value", "annotation", "wanted"),
    [
        ({"any": (1,)}, Any, {"any": (1,)}),
        ({"any": 1}, object, {"any": 1}),
        (None, None, None),
        (True, bool, True),
        (2.0, int, 2),
        (2, float, 2.0),
        ("a", str, "a"),
        (b"a", bytes, b"a"),
        (b"a", bytearray, bytearray(b"a")),
        ("2026-03-01T09:30:00Z", dt.datetime, MOMENT),
        ("2026-03-01T09:30:00+00:00", dt.datetime, MOMENT),
        (MOMENT, dt.datetime, MOMENT),
        ("2026-03-01", dt.date, DAY),
        ("09:30", dt.time, dt.time(9, 30)),
        ("PT1M30.5S", dt.timedelta, dt.timedelta(seconds=90.5)),
        ("-P1W2DT3H", dt.timedelta, -dt.timedelta(days=9, hours=3)),
        (90, dt.timedelta, dt.timedelta(seconds=90)),
        (0.1, decimal.Decimal, decimal.Decimal("0.1")),
        ("1.50", decimal.Decimal, decimal.Decimal("1.50")),
        (3, decimal.Decimal, decimal.Decimal(3)),
        (str(ID), uuid.UUID, ID),
        ("Europe/Berlin", zoneinfo.ZoneInfo, zoneinfo.ZoneInfo("Europe/Berlin")),
        ("o", Status, Status.OPEN),
        (2, Status, Status.SHUT),
        ("SHUT", Status, Status.SHUT),
        ("a", Literal["a", 1], "a"),
        ([1, 2], list[int], [1, 2]),
        ([1], list, [1]),
        ((1, 2), list[float], [1.0, 2.0]),
        (["2026-03-01"], list[dt.date], [DAY]),
        ([1, "a"], tuple[int, str], (1, "a")),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([], tuple[()], ()),
        ([1], tuple, (1,)),
        ([1, 2], set[int], {1, 2}),
        ({1, 2}, set[float], {1.0, 2.0}),
        (["a"], frozenset[str], frozenset({"a"})),
        (["a"], Set[str], frozenset({"a"})),
        ([1], collections.deque[int], collections.deque([1])),
        ([1], Sequence[int], [1]),
        ([1], Iterable[int], [1]),
        ({"a": 1}, dict[str, float], {"a": 1.0}),
        ({"1": "x"}, dict[int, str], {1: "x"}),
        ({"1.5": 1}, dict[float, int], {1.5: 1}),
        ({"2026-03-01": 1}, dict[dt.date, int], {DAY: 1}),
        ({"o": 1}, dict[Status, int], {Status.OPEN: 1}),
        ({"a": 1}, Mapping[str, int], {"a": 1}),
        ({"a": 1}, collections.OrderedDict[str, int], collections.OrderedDict(a=1)),
        ({"a": 1}, collections.Counter[str], collections.Counter(a=1)),
        (
            {"a": [1]},
            collections.defaultdict[str, list[int]],
            collections.defaultdict(list, {"a": [1]}),
        ),
        (None, int | None, None),
        (1, int | None, 1),
        ("2026-03-01", dt.date | str, "2026-03-01"),
        ("2026-03-01", dt.date | None, DAY),
        ("x", dt.date | int | str, "x"),
        (1, float | str, 1.0),
        (5, Annotated[int, "minutes"], 5),
        (5, UserId, 5),
        (5, T, 5),
        (5, Bound, 5),
        ("a", Either, "a"),
        ({"title": "x"}, Movie, {"title": "x"}),
        ({"title": "x", "year": 2.0}, Movie, {"title": "x", "year": 2}),
        (
            {"sku": "a", "price": "1.5", "tags": ["x"]},
            Line,
            Line("a", decimal.Decimal("1.5"), {"x"}),
        ),
        (Line("a", decimal.Decimal(1)), Line, Line("a", decimal.Decimal(1))),
        (
            {"sku": "a", "price": 1, "parent": {"sku": "b", "price": 2}},
            "Line",
            Line("a", decimal.Decimal(1), set(), Line("b", decimal.Decimal(2))),
        ),
        (
            {"day": "2026-03-01", "lines": [{"sku": "a", "price": 1}]},
            Model,
            Model(day=DAY, lines=[Line("a", decimal.Decimal(1))]),
        ),
        ([1], "list[int]", [1]),
        ([1], "list[OnlyForTypeCheckers]", [1]),
        (5, "no Python at all", 5),
        (HANDLE, Handle, HANDLE),
        (HANDLE, "Handle | None", HANDLE),
    ],
    ids=lambda value: f"{value!r:.40}",
)
def test_json_becomes_what_the_annotation_says(value, annotation, wanted):
    converted = convert(value, annotation, globals())

    assert converted == wanted
    assert type(converted) is type(wanted)
    if isinstance(wanted, (list, tuple)):
        assert [type(x) for x in converted] == [type(x) for x in wanted]


@pytest.mark.parametrize(
    ("value", "annotation", "text"),
    [
        (1, None, "null is wanted, not 1"),
        (1, bool, "bool is wanted, not 1"),
        (True, int, "int is wanted, not True"),
        ("1", int, "int is wanted, not '1'"),
        (1.5, int, "int is wanted, not 1.5"),
        (1e300, int, "int is wanted, not 1e+300"),
        (None, int, "int is wanted, not null"),
        (True, float, "float is wanted, not True"),
        (2**63 + 1, float, "is no float without a loss"),
        (10**400, float, "is no float without a loss"),
        (1, str, "str is wanted, not 1"),
        ("a", bytes, 'bytes: {"$bytes": base64} is wanted'),
        ("soon", dt.datetime, "a datetime as ISO 8601 text is wanted, not 'soon'"),
        (5, dt.datetime, "a datetime as ISO 8601 text is wanted, not 5"),
        ("2026-03-01T10:00", dt.date, "a date as ISO 8601 text"),
        (DAY, dt.datetime, "a datetime as ISO 8601 text is wanted, not date"),
        (1e300, dt.timedelta, "a duration"),
        (float("nan"), dt.timedelta, "a duration"),
        ("abc", decimal.Decimal, "Decimal is wanted"),
        (True, decimal.Decimal, "Decimal is wanted"),
        ("5", uuid.UUID, "a UUID as text"),
        ("../etc/passwd", zoneinfo.ZoneInfo, "a time zone's key"),
        ("nothing", Status, "Status: OPEN, SHUT is wanted"),
        (True, Literal[1], "1 is wanted"),
        ("ab", list[str], "list is wanted, not 'ab'"),
        ({1}, list[int], "list is wanted, not set"),
        ([1, "x"], list[int], "at [1]: int is wanted"),
        ([1], tuple[int, int], "2 items are wanted, not 1"),
        ([1, 1], set[int], "an item is there twice"),
        ([[]], set[Any], "unhashable"),
        ([1], dict[str, int], "dict[str, int] is wanted, not list"),
        ({"a": {"b": "x"}}, dict[str, dict[str, int]], "at ['a']['b']: int is wanted"),
        ({"01": 1}, dict[int, int], "at [key '01']: int is wanted"),
        ({"1.0": 1}, dict[int, int], "at [key '1.0']"),
        ({1: "a", "1": "b"}, dict[int, str], "the key 1 is there twice"),
        ({"a": 1}, collections.defaultdict, "$defaultdict"),
        ("x", int | dt.date, "int or date is wanted, not 'x'"),
        ("x", Bound, "int is wanted"),
        (None, Either, "int or str is wanted"),
        ({}, Movie, "'title' is missing"),
        ({"title": "x", "more": 1}, Movie, "there is no 'more'; there are title, year"),
        ({"sku": "a"}, Line, "price"),
        ({"sku": "a", "price": 1, "more": 1}, Line, "there is no 'more'"),
        ({"sku": "a", "price": -1}, Line, "a price is not negative"),
        ({"sku": "a", "price": 1, "parent": {"sku": 5}}, Line, "at .parent"),
        ([1], Line, "Line is wanted as an object, not list"),
        ({"day": "never"}, Model, "day: "),
        ({"x": 1}, Handle, "Handle is wanted, not dict"),
    ],
    ids=lambda value: f"{value!r:.40}",
)
def test_what_cannot_be_converted_without_a_loss_or_a_guess_is_refused(value, annotation, text):
    with pytest.raises(BadArguments) as refused:
        convert(value, annotation, globals())

    assert text in str(refused.value)


def test_a_runtime_protocol_lets_pass_what_only_a_type_checker_can_tell():
    class Named(typing.Protocol):
        name: str

    assert convert({"name": 1}, Named, {}) == {"name": 1}
