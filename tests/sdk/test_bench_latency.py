"""Latencies of several processes, moments and rounds add up; their percentiles do not."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from perdure.bench.latency import LONGEST_S, Latencies

MS = 1_000_000


def of(*latencies_ms: float) -> Latencies:
    latencies = Latencies()
    latencies.record(round(each * MS) for each in latencies_ms)
    return latencies


def test_what_two_processes_saw_has_the_percentiles_of_all_their_calls_together() -> None:
    # All the slow calls are in one process: the mean of two 99th percentiles would be 50 ms.
    fast, slow = of(*[1.0] * 990, *[2.0] * 10), of(*[100.0] * 1_000)

    fast.add(slow)

    assert len(fast) == 2_000
    found = fast.percentiles_ms([25, 49.7, 50.2, 99, 100])
    assert [round(each, 1) for each in found] == [1.0, 2.0, 100.0, 100.0, 100.0]


@given(
    st.lists(st.integers(min_value=100, max_value=10**11), min_size=1, max_size=200),
    st.sampled_from([0.0, 50.0, 90.0, 99.0, 100.0]),
)
def test_a_percentile_is_that_of_the_sorted_calls_to_three_digits(
    latencies_ns: list[int], percentile: float
) -> None:
    latencies = Latencies()
    latencies.record(latencies_ns)

    found_ns = latencies.percentiles_ms([percentile])[0] * MS

    rank = max(1, int(percentile / 100 * len(latencies_ns) + 0.5))
    exact_ns = sorted(latencies_ns)[rank - 1]
    assert abs(found_ns - exact_ns) <= exact_ns / 1_000 + 100


def test_latencies_travel_as_text() -> None:
    chance = Random(1)
    latencies = of(*(chance.lognormvariate(0, 1) for _ in range(5_000)))
    shares = [0, 50, 90, 99, 99.9, 100]

    back = Latencies.decode(latencies.encode())

    assert len(back) == 5_000
    assert back.percentiles_ms(shares) == latencies.percentiles_ms(shares)


def test_no_calls_travel_too() -> None:
    back = Latencies.decode(Latencies().encode())

    assert len(back) == 0


def test_no_call_is_too_fast_or_too_slow_to_count() -> None:
    latencies = Latencies()

    latencies.record([0, 1, round(3 * LONGEST_S * 1e9)])

    assert len(latencies) == 3
    assert latencies.percentiles_ms([0])[0] <= 0.001
    assert latencies.percentiles_ms([100])[0] >= LONGEST_S * 1_000 * 0.999
