"""What a router is told at its start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from perdure.routing.core.limits import ForwardingLimits

__all__ = ["RouterSettings"]


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """The settings of one router process."""

    name: str
    listen: str
    """`host:port`. Port 0 takes a free one."""
    nodes: Mapping[str, str]
    """Name to address of every node of the cluster."""
    limits: ForwardingLimits = field(default_factory=ForwardingLimits)
