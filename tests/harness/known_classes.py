"""A registry of classes for one test or module, so that tests do not see each other's classes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from perdure import values


@contextlib.contextmanager
def known_classes(*module_names: str) -> Iterator[None]:
    """Know the classes of these modules and no others; afterwards what was known before."""
    tables = [values._registered, values._names, values._modules, values._homes]
    lists = [values._unread, values._unresolved]
    before = [dict(table) for table in tables], [list(items) for items in lists]
    for held in (*tables, *lists):
        held.clear()
    for name in module_names:
        values.register_module(name)
    try:
        yield
    finally:
        for table, content in zip(tables, before[0], strict=True):
            table.clear()
            table.update(content)
        for items, content in zip(lists, before[1], strict=True):
            items[:] = content
