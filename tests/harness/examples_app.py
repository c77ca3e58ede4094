"""All examples: those of `app`, and those that take a second to import."""

from __future__ import annotations

import app  # noqa: F401  (it is beside this file, and knows where the examples are)

import agent  # noqa: F401  isort: skip
import durable_counter  # noqa: F401  isort: skip
import durable_session  # noqa: F401  isort: skip
import order_fulfillment  # noqa: F401  isort: skip
