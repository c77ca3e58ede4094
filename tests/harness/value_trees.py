"""Values of every kind that can be stored, and what it means that two are the same.

Their classes are known inside `known_classes(value_trees.__name__)`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import math
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

import pydantic
from hypothesis import strategies as st


class Colour(enum.Enum):
    RED = "red"
    GREEN = 2


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 9


class Word(enum.StrEnum):
    YES = "yes"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = 0
    label: str = dataclasses.field(default="none", init=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Price:
    amount: Any
    currency: str = "EUR"


class Address(pydantic.BaseModel):
    street: Any
    city: str = "Berlin"
    _seen: int = pydantic.PrivateAttr(default=0)


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    name: str


ZONES = [zoneinfo.ZoneInfo(key) for key in ("UTC", "Europe/Berlin", "America/New_York")]


def same(a: Any, b: Any) -> bool:
    """Tell whether two values are equal with equal types all the way down, order included."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a, math.copysign(1, a)) == (
            b,
            math.copysign(1, b),
        )
    if isinstance(a, decimal.Decimal):
        return a.as_tuple() == b.as_tuple()
    if isinstance(a, list | tuple | deque):
        if isinstance(a, deque) and a.maxlen != b.maxlen:
            return False
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        if isinstance(a, defaultdict) and a.default_factory is not b.default_factory:
            return False
        return same(list(a), list(b)) and same(list(a.values()), list(b.values()))
    if isinstance(a, set | frozenset):
        left = list(b)
        for x in a:
            found = next((i for i, y in enumerate(left) if same(x, y)), None)
            if found is None:
                return False
            del left[found]
        return not left
    if isinstance(a, dt.datetime | dt.time):
        return (
            a.replace(tzinfo=None) == b.replace(tzinfo=None)
            and a.fold == b.fold
            and same(a.tzinfo, b.tzinfo)
        )
    if isinstance(a, dt.timezone):
        return a == b and str(a) == str(b)
    if isinstance(a, zoneinfo.ZoneInfo):
        return a.key == b.key
    if dataclasses.is_dataclass(a) and not isinstance(a, type):
        names = [field.name for field in dataclasses.fields(a)]
        return all(same(getattr(a, name), getattr(b, name)) for name in names)
    if isinstance(a, pydantic.BaseModel):
        parts = ("__dict__", "__pydantic_extra__", "__pydantic_private__")
        return a.model_fields_set == b.model_fields_set and all(
            same(getattr(a, part), getattr(b, part)) for part in parts
        )
    return bool(a == b)


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
timezones = st.one_of(
    st.none(),
    st.sampled_from(ZONES),
    st.builds(
        dt.timezone,
        st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)),
    ),
    st.builds(
        dt.timezone,
        st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)),
        text,
    ),
)
folds = st.integers(0, 1)
datetimes = st.builds(
    lambda value, zone, fold: value.replace(tzinfo=zone, fold=fold),
    st.datetimes(),
    timezones,
    folds,
)
times = st.builds(
    lambda value, zone, fold: value.replace(tzinfo=zone, fold=fold), st.times(), timezones, folds
)
scalars: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 2**53, -(2**53)]),
    st.floats(allow_nan=False),
    st.just(math.nan),
    text,
    st.sampled_from(["", "\0", "$", "$int", "\U0010ffff", "ě", "日本語"]),
    st.binary(max_size=12),
    datetimes,
    times,
    st.dates(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.sampled_from([*Colour, *Level, *Word, Rights(0), *Rights, Rights(3)]),
    st.sampled_from(ZONES),
    st.just(dt.UTC),
)
hashables: st.SearchStrategy[Any] = st.recursive(
    scalars.filter(lambda x: x == x),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.frozensets(inner, max_size=3),
        st.builds(Price, inner),
    ),
    max_leaves=4,
)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    pairs = st.dictionaries(hashables, inner, max_size=4)
    names = st.dictionaries(text, inner, max_size=4)
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        names,
        pairs,
        pairs.map(OrderedDict),
        pairs.map(Counter),
        st.builds(defaultdict, st.sampled_from([list, dict, set, int, float, str]), pairs),
        st.builds(lambda items, more: deque(items, len(items) + more), st.lists(inner), folds),
        st.lists(inner, max_size=3).map(deque),
        st.builds(Point, inner, inner),
        st.builds(Price, inner),
        st.builds(lambda street: Address(street=street), inner),
        st.builds(lambda name, more: Open(name=name, more=more), text, inner),
    )


trees: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        scalars,
        st.sets(hashables, max_size=4),
        st.frozensets(hashables, max_size=4),
        st.binary(max_size=8).map(bytearray),
    ),
    _containers,
    max_leaves=12,
)
"""Any value that can be stored."""
