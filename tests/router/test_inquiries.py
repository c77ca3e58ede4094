"""How a router makes one page out of those of all nodes."""

from __future__ import annotations

from perdure.wire.v1.cluster_pb2 import CallPage, OpenCall, OpenTimer
from perdure_router.inquiries import merge_pages


def page(*calls: str, timers: str = "", more: bool = False, missing: str = "") -> CallPage:
    return CallPage(
        calls=[OpenCall(place=place) for place in calls],
        timers=[OpenTimer(place=place) for place in timers],
        more=more,
        missing=[missing] if missing else [],
    )


def places(merged: CallPage) -> list[str]:
    return [call.place for call in merged.calls] + [timer.place for timer in merged.timers]


def test_entries_of_all_nodes_come_in_one_order_and_timers_last() -> None:
    merged = merge_pages([page("b", "d", timers="x"), page("a", "c", timers="w")], 10)

    assert places(merged) == ["a", "b", "c", "d", "w", "x"]
    assert not merged.more


def test_a_page_is_cut_where_the_next_one_begins() -> None:
    merged = merge_pages([page("b", "d", more=True), page("a", "c", timers="w")], 3)

    assert places(merged) == ["a", "b", "c"]
    assert (merged.more, merged.next) == (True, "c")


def test_a_node_that_has_more_makes_more_of_the_whole() -> None:
    assert merge_pages([page("a", more=True), page()], 1).more


def test_what_is_missing_is_passed_on() -> None:
    merged = merge_pages([page("a"), page(missing="node n2 (does not answer)")], 5)

    assert list(merged.missing) == ["node n2 (does not answer)"]
    assert places(merged) == ["a"]
