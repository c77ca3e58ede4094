"""What all tests share."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest


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
