"""Whatever waits for whom: every circle is broken, by refusing what is part of one."""

from __future__ import annotations

from harness.waits import Waits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

OPS = st.tuples(
    st.sampled_from(
        ["call"] * 8
        + ["begin", "ignore", "nap", "wake", "end", "shared", "crash"]
        + ["deliver"] * 9
        + ["lose", "time", "time"]
    ),
    st.integers(0, 20),
    st.integers(0, 20),
    st.integers(-100, 100),
)


def play(world: Waits, op: str, one: int, other: int, amount: int) -> None:
    object, target = one % len(world.keys), other % len(world.keys)
    if op == "begin":
        world.begin(object)
    elif op == "shared":
        world.begin(object, "shared")
    elif op in ("call", "ignore"):
        if object != target:
            world.call(object, target, awaited=op == "call", skew_ms=amount)
    elif op == "nap":
        world.nap(object, awaited=amount > 0)
    elif op == "wake":
        world.wake(object)
    elif op == "end":
        world.end(object)
    elif op == "crash":
        world.crash(one % len(world.cores))
    elif op == "deliver":
        world.deliver(one)
    elif op == "lose":
        world.lose(one)
    else:
        world.time_passes(abs(amount))
    world.look()


def calm_down(world: Waits) -> None:
    """Deliver everything, and let time pass: 10 seconds, far less than calls have to start."""
    for _ in range(20):
        world.deliver_all()
        world.time_passes(500)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.booleans(),
    st.lists(st.integers(0, 2), min_size=2, max_size=6),
    st.lists(OPS, min_size=10, max_size=80),
)
def test_only_the_youngest_of_circles_are_refused_and_no_circle_stays(
    exact: bool, places: list[int], ops: list[tuple[str, int, int, int]]
) -> None:
    world = Waits(places, exact=exact)
    for object in range(len(places)):
        world.begin(object)
    for op in ops:
        play(world, *op)
    # Refusals are compared with the truth where they happen.
    calm_down(world)
    assert not world.circles()
