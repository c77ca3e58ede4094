from __future__ import annotations

from collections import defaultdict

import pytest

from perdure.cli.listing import PAGE_IDS_MAX, ids_in_order
from perdure.ids import ObjectKey, partition_of

PARTITIONS = 8


class Stored:
    """Ids in partitions, given out in pages as a cluster does."""

    def __init__(self, ids: list[str]) -> None:
        self.asked = 0
        self.ids: dict[int, list[str]] = defaultdict(list)
        for id in sorted(ids, key=str.encode):
            self.ids[partition_of(ObjectKey("Cart", id), PARTITIONS)].append(id)

    def list_ids(
        self, type_name: str, prefix: str, after: list[tuple[int, str]], limit: int
    ) -> list[tuple[list[str], bool]]:
        assert type_name == "Cart"
        self.asked += 1
        pages: list[tuple[list[str], bool]] = []
        for partition, last in after:
            found = [
                id
                for id in self.ids[partition]
                if id.startswith(prefix) and id.encode() > last.encode()
            ]
            pages.append((found[:limit], len(found) > limit))
        return pages


IDS = [f"{country}-{number}" for country in ("de", "fr", "ö", "😀") for number in range(2_500)]
IN_ORDER = sorted(IDS, key=str.encode)


def test_all_partitions_are_merged_in_the_order_of_utf8() -> None:
    assert list(ids_in_order(Stored(IDS), PARTITIONS, "Cart", "", "", 100_000)) == IN_ORDER


@pytest.mark.parametrize("page", [1, 7, 1_000, 3_000])
def test_pages_one_after_the_other_give_every_id_once(page: int) -> None:
    stored, found, last = Stored(IN_ORDER[:500]), list[str](), ""
    while ids := list(ids_in_order(stored, PARTITIONS, "Cart", "", last, page)):
        assert len(ids) <= page
        found += ids
        last = ids[-1]

    assert found == IN_ORDER[:500]


def test_a_prefix_leaves_out_the_rest() -> None:
    found = list(ids_in_order(Stored(IDS), PARTITIONS, "Cart", "fr-", "", 100_000))

    assert found == [id for id in IN_ORDER if id.startswith("fr-")]


def test_a_few_ids_of_many_are_found_with_one_question() -> None:
    stored = Stored(IDS)

    assert list(ids_in_order(stored, PARTITIONS, "Cart", "", "", 10)) == IN_ORDER[:10]
    assert stored.asked == 1


def test_nothing_is_asked_for_before_it_is_needed() -> None:
    stored = Stored(IDS)
    ids = ids_in_order(stored, PARTITIONS, "Cart", "", "", 5 * PAGE_IDS_MAX)

    next(ids)

    assert stored.asked == 1


def test_no_objects_are_an_empty_list() -> None:
    assert list(ids_in_order(Stored([]), PARTITIONS, "Cart", "", "", 10)) == []
