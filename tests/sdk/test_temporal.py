"""Time zones out of values that anybody may have sent."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from perdure.temporal import is_zone_file, read_zone


def test_a_zone_is_looked_for_once() -> None:
    assert read_zone("[Europe/Rome]") == ZoneInfo("Europe/Rome")
    looked = is_zone_file.cache_info().misses

    assert read_zone("[Europe/Rome]") == ZoneInfo("Europe/Rome")
    assert is_zone_file.cache_info().misses == looked


def test_a_name_too_long_for_a_file_is_no_zone_and_is_not_remembered() -> None:
    remembered = is_zone_file.cache_info().currsize

    with pytest.raises(ValueError, match="there is no time zone 'Zone"):
        read_zone(f"[{'Zone' * 100_000}]")
    assert is_zone_file.cache_info().currsize == remembered
