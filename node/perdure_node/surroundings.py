"""What every run of a method on a node stands on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from perdure_node.core.limits import Limits
from perdure_node.core.partition import Partition
from perdure_node.driving import Driving
from perdure_node.performer import Performer
from perdure_node.rounds import Rounds

if TYPE_CHECKING:
    from perdure.client import Client

__all__ = ["Surroundings"]


class Surroundings(NamedTuple):
    """What every run of a node stands on."""

    client: Client
    """Makes the calls of this node."""
    limits: Limits
    performer: Performer
    flush: Callable[[Partition], None]
    """Tells the node that a partition has something to do."""
    driving: Driving
    """Where it is noted when code of a call runs."""
    rounds: Rounds
    """For steps, whose results are given one after another."""
