"""What all tests share: how they run beside one another."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# So that an assertion that fails there says what it has found, too.
pytest.register_assert_rewrite("harness")

# How long an example takes says more of the neighbours than of us. The examples are the same in
# each run, so that a change is judged by what it changes; PERDURE_EXPLORE=1 draws others.
settings.register_profile(
    "beside others",
    deadline=None,
    derandomize="PERDURE_EXPLORE" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("beside others")


@pytest.fixture(autouse=True)
def environment_stays() -> Generator[None, None, None]:
    """See that a test leaves the environment as it was: the next one's servers inherit it."""
    before = _environment()
    yield
    assert _environment() == before


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Start twice as many workers as there are cores: tests wait as long as they compute."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return 2 * len(os.sched_getaffinity(0))


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Let workers tell of every test: half a surrogate in a report would end the worker."""
    return _sendable((yield))


def _sendable(part: Any) -> Any:
    if isinstance(part, str):
        return part.encode(errors="backslashreplace").decode()
    if isinstance(part, dict):
        return {key: _sendable(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return type(part)(map(_sendable, part))
    return part
