from __future__ import annotations

from perdure.schedules import TimerSetting
from perdure_node.core.firing import TimerChange, failed, fired, is_same, parked, unpack_change
from perdure_node.core.limits import Limits

NOW = 1_800_000_000_000


def timer(name: str, due_ms: int, every: str = "", generation: int = 1) -> TimerSetting:
    return TimerSetting(name, due_ms, "ring", b"", every, generation)


def test_a_timer_that_comes_once_is_over_when_it_has_fired() -> None:
    assert fired(timer("x", NOW), NOW + 5) is None


def test_a_repeated_timer_is_armed_again_in_its_beat() -> None:
    one = timer("x", NOW, "ms:1000", generation=7)._replace(attempts=2)

    assert fired(one, NOW + 5_500) == timer("x", NOW + 6_000, "ms:1000", generation=7)


def test_a_repeated_timer_finds_its_beat_again_after_failures() -> None:
    one: TimerSetting | None = timer("x", NOW, "ms:10000")
    assert one is not None
    for now_ms in (NOW + 300, NOW + 1_400):
        one = failed(one, now_ms, Limits())
        assert one is not None

    assert one.due_ms == NOW + 3_400
    assert fired(one, NOW + 3_450) == timer("x", NOW + 10_000, "ms:10000")


def test_the_waits_double_from_a_second_to_five_minutes() -> None:
    one: TimerSetting | None = timer("x", NOW)
    waits = []
    while one is not None:
        before, one = one, failed(one, NOW, Limits())
        if one is not None:
            waits.append(one.due_ms - NOW)
            assert one.attempts == len(waits)

    assert [wait // 1_000 for wait in waits[:10]] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert set(waits[9:]) == {300_000}
    assert len(waits) == Limits().timer_attempts_max - 1
    assert parked(before).attempts == Limits().timer_attempts_max


def test_a_failed_timer_keeps_its_generation_and_a_firing_of_before_does_not_run() -> None:
    one = timer("x", NOW, generation=5)
    again = failed(one, NOW, Limits())

    assert again is not None
    assert again.generation == 5
    assert is_same(one, one._replace(attempts=1))
    assert not is_same(one, again)
    assert not is_same(one, one._replace(generation=6))
    assert not is_same(one, None)


def test_a_change_is_read_back_as_it_was() -> None:
    for change in (TimerChange("x", timer("x", NOW)), TimerChange("x", None)):
        name, one, tag = change
        assert unpack_change([name, one and list(one), tag]) == change
