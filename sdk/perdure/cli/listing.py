"""The ids of all objects of a type, from all partitions, in one order."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from typing import Final, Protocol

__all__ = ["PAGE_IDS_MAX", "Pages", "ids_in_order"]

PAGE_IDS_MAX: Final = 1_000


class Pages(Protocol):
    """Where pages of ids come from."""

    def list_ids(
        self, type_name: str, prefix: str, after: list[tuple[int, str]], limit: int
    ) -> list[tuple[list[str], bool]]:
        """Return for each partition its ids after the given one, and whether there are more."""
        ...


def ids_in_order(
    pages: Pages, partition_count: int, type_name: str, prefix: str, after: str, limit: int
) -> Iterator[str]:
    """Give at most `limit` ids that sort after `after`, by their UTF-8 bytes.

    Reads on as it is read: memory holds one page of each partition.
    """
    # Ids are spread evenly, so this many from each are mostly enough for all.
    page_ids = min(PAGE_IDS_MAX, 2 * limit // partition_count + 16)
    firsts = pages.list_ids(
        type_name, prefix, [(partition, after) for partition in range(partition_count)], page_ids
    )

    def of_partition(partition: int, ids: list[str], more: bool) -> Iterator[tuple[bytes, str]]:
        while True:
            yield from ((id.encode(), id) for id in ids)
            if not (more and ids):
                return
            [(ids, more)] = pages.list_ids(type_name, prefix, [(partition, ids[-1])], PAGE_IDS_MAX)

    merged = heapq.merge(
        *(of_partition(partition, *first) for partition, first in enumerate(firsts))
    )
    return (id for _, id in itertools.islice(merged, limit))
