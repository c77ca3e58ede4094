"""What a node is told when it starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perdure.errors import ConfigError
from perdure.hints import did_you_mean
from perdure.service_settings import ServiceSettings
from perdure_node.core.limits import Limits
from perdure_node.journal.settings import JournalSettings

__all__ = ["NodeSettings", "limits_of"]


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """The settings of one node."""

    name: str
    data: Path
    """Its own directory. Nobody else uses it."""
    partition_count: int = 16
    """Of the whole cluster. Fixed when the data is made."""
    nodes: Mapping[str, str] = field(default_factory=dict)
    """All nodes of the cluster by name, with their addresses; this one included."""
    routers: Sequence[str] = ()
    """Who tells where the objects elsewhere are that objects here call, and takes such calls while
    their owner cannot be reached from here. Needed only with several nodes."""
    listen: str = ""
    """`host:port`. Empty for an embedded node, which nobody calls from outside."""
    cluster_id: str | None = None
    """None: whatever the directory says."""
    new: bool = False
    """The directory may be empty: it is this node's first start."""
    limits: Limits = field(default_factory=Limits)
    services: Mapping[str, ServiceSettings] = field(default_factory=dict)
    """How services are called, where it is not as usual or they are HTTP."""
    journal: JournalSettings = field(default_factory=JournalSettings)
    apply_interval_s: float = 2.0
    """How often durable records are written to the stores, unless many wait. An object that has
    changed many times by then is written once."""
    sweep_interval_s: float = 10.0
    """How often it is looked for runs whose time is over."""
    apply_bytes: int = 16 << 20
    """So many bytes of durable records are written to the stores at once."""
    checkpoint_bytes: int = 64 << 20
    """The stores are flushed, and the journal is trimmed, after so much was appended to it. A start
    after a crash reads no more than that, and what came while they were flushed."""
    checkpoint_weight: int = 128 << 20
    """The same, of what records weigh (`Host.append`): 200,000 commits, however small. They are
    what a start after a crash has to run through."""
    drain_s: float = 10.0
    """How long calls that are here get to finish when the node shuts down."""
    lazy: bool = False
    """Open a partition when the first call for it comes, or soon after the start."""


def limits_of(numbers: Mapping[str, str | float]) -> Limits:
    """Return the bounds of a node, from those that somebody has set, by name.

    Raises:
        ConfigError: There is no such limit, or the number does not fit.
    """
    defaults = dataclasses.asdict(Limits())
    chosen: dict[str, Any] = {}
    for name, value in numbers.items():
        if name not in defaults:
            raise ConfigError(f"there is no limit {name!r}{did_you_mean(name, list(defaults))}")
        number = type(defaults[name])
        try:
            # As text: 7.5 is no whole number, and `int` would make it one.
            chosen[name] = number(str(value))
        except ValueError:
            kind = "a whole number" if number is int else "a number"
            raise ConfigError(f"the limit {name} is {kind}, not {value!r}") from None
    return dataclasses.replace(Limits(), **chosen)
