import os
import sys

import pytest
from harness import value_trees
from harness.known_classes import known_classes
from harness.value_trees import same, trees
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure import jsonvalue
from perdure.codec import decode, encode
from perdure.errors import BadPayload, UnknownType


@pytest.fixture(autouse=True, scope="module")
def _known():
    with known_classes(value_trees.__name__):
        yield


_HEADERS = [0x80, 0x81, 0x8F, 0x90, 0x91, 0x9F, *range(0xC0, 0xE0)]
_EXTENSIONS = st.builds(
    lambda code, payload: bytes([0xC7, len(payload), code]) + payload,
    st.integers(0, 24),
    st.binary(max_size=24),
)
_hostile = st.lists(
    st.one_of(
        st.sampled_from(_HEADERS).map(lambda b: bytes([b])),
        st.binary(max_size=6),
        _EXTENSIONS,
        trees.map(encode),
    ),
    max_size=12,
).map(b"".join)
_nested = st.recursive(
    _hostile,
    lambda inner: st.builds(
        lambda code, payload: bytes([0xC8, *len(payload).to_bytes(2, "big"), code]) + payload,
        st.integers(1, 21),
        inner,
    ),
    max_leaves=6,
)

_slow = [HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=250, deadline=None, suppress_health_check=_slow)
@given(trees)
def test_any_value_comes_back_with_its_types_and_gives_the_same_bytes_again(value):
    data = encode(value)
    back = decode(data)

    assert same(back, value)
    assert encode(back) == data
    # Large values are decoded in another way than small ones.
    assert same(decode(encode([value, [[]] * 70])), [value, [[]] * 70])


@settings(max_examples=150, deadline=None, suppress_health_check=_slow)
@given(trees)
def test_any_value_comes_back_from_json_with_its_types(value):
    data = jsonvalue.to_json(value)
    back = jsonvalue.from_json(data)

    assert same(back, value)
    assert jsonvalue.to_json(back) == data


@settings(max_examples=100, deadline=None, suppress_health_check=_slow)
@given(trees, st.data())
def test_damaged_values_are_refused_or_are_other_values_but_nothing_else_happens(value, data):
    good = bytearray(encode(value))
    position = data.draw(st.integers(0, len(good) - 1))
    good[position] = data.draw(st.integers(0, 255))
    _decode_or_refuse(bytes(good))


@settings(max_examples=400, deadline=None, suppress_health_check=_slow)
@given(_nested)
def test_arbitrary_bytes_are_a_value_or_refused(data):
    _decode_or_refuse(data)


@settings(max_examples=100, deadline=None, suppress_health_check=_slow)
@given(trees)
def test_a_value_cut_short_or_with_more_bytes_is_refused(value):
    data = encode(value)
    for wrong in (data[:-1], data + b"\0", data + data, b""):
        assert _decode_or_refuse(wrong) is None


def _decode_or_refuse(data):
    """Return what was decoded, in a tuple; None when it was refused as it should be."""
    before = set(sys.modules)
    try:
        value = decode(data)
    except (BadPayload, UnknownType):
        value = None
    else:
        value = (value,)
        # What was accepted is a value: it can be written.
        encode(value[0])
    assert set(sys.modules) == before, f"{os.fsencode(str(set(sys.modules) - before))!r} imported"
    return value
