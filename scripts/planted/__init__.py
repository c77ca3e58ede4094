"""The bugs that `plant_bugs.py` plants, and the tests that have to notice.

Those named M are the ones that every release has to catch, under the numbers they have always
had; the gaps are bugs of parts that are not there yet. A bug that was found for real gets a row
too, in the module of its part.
"""

from __future__ import annotations

from planted import agents, blames, calls, check, clients, journal, outputs, ownership, stores
from planted.bug import Bug

__all__ = ["BUGS", "Bug"]

PARTS = [journal, stores, ownership, outputs, calls, clients, check, blames, agents]

BUGS = [bug for part in PARTS for bug in part.BUGS]
