"""The set of numbers that a client tells servers of."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perdure.settled import Settled


@given(st.permutations(range(1, 12)), st.integers(0, 11))
def test_spans_tell_exactly_the_numbers_that_were_added(order: list[int], count: int) -> None:
    settled = Settled()
    for number in order[:count]:
        settled.add(number)

    spans = settled.spans
    told = set(range(1, spans[0] + 1))
    for first, last in zip(spans[1::2], spans[2::2], strict=True):
        told |= set(range(first, last + 1))

    assert told == set(order[:count])
    # As short as possible: everything has a gap before it.
    assert all(after - before > 1 for before, after in zip(spans[0::2], spans[1::2], strict=False))
    assert all(first <= last for first, last in zip(spans[1::2], spans[2::2], strict=True))


def test_numbers_added_in_order_are_one_number_on_the_wire() -> None:
    settled = Settled()
    for number in range(1, 10_001):
        settled.add(number)

    assert settled.spans == [10_000]
