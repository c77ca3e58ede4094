"""The bugs that `plant_bugs.py` plants, and the tests that have to notice: a module for each part.

Those named M are the ones that every release has to catch, under the numbers they have always
had; the gaps are bugs of parts that are not there yet. A bug that was found for real gets a row
too.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from planted.bug import Bug

__all__ = ["BUGS", "Bug"]

PARTS = [import_module(f"planted.{part.name}") for part in iter_modules(__path__)]

BUGS: list[Bug] = [bug for part in PARTS for bug in getattr(part, "BUGS", ())]
