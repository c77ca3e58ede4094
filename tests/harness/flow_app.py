"""All workflows of the behaviours, as nodes import them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import harness.flow_rows  # noqa: F401
