"""The report stands alone, says what it shows, and hides nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from harness.bench_rounds import measured, result, settings

from perdure.bench.axes import beyond, linear, logarithmic, percent_slow
from perdure.bench.charts import Bar, Line, bar_chart, line_chart
from perdure.bench.places import Target
from perdure.bench.report import html_of
from perdure.bench.scenarios import SCENARIOS
from perdure.bench.table import milliseconds

NODE = Target("one node", nodes=1)
THREE = Target("router, 3 nodes", nodes=3, router=True)
DIGIT_WIDTH = 8.3
"""In a wide font, of the size that numbers in plots have."""


def report(rounds: int = 3, **changes: object) -> str:
    first = [measured(100 + 10 * number) for number in range(rounds)]
    second = [measured(50, latency_ms=4.0, **changes) for _ in range(rounds)]  # type: ignore[arg-type]
    chosen = settings(targets=(NODE, THREE), rounds=rounds)
    return html_of(chosen, [result(*first), result(*second, target=THREE.name)])


def charts(html: str) -> dict[str, ET.Element]:
    found = [ET.fromstring(each) for each in re.findall(r"<svg.*?</svg>", html, re.S)]
    return {each.attrib["aria-label"]: each for each in found}


def text_of(html: str) -> str:
    class Text(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[str] = []
            self.skip = False

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.skip = tag == "style"

        def handle_data(self, data: str) -> None:
            if not self.skip:
                self.seen.append(data)

    parser = Text()
    parser.feed(html)
    return " ".join(" ".join(parser.seen).split())


def test_the_report_needs_nothing_but_itself() -> None:
    html = report()

    assert not re.search(r"(src|href)\s*=|url\(|@import|<script|<link|https?://", html)
    assert html.startswith("<!doctype html>")


def test_the_report_has_a_plot_of_everything_that_was_measured() -> None:
    assert set(charts(report())) == {
        "Latency by percentile",
        "Calls a second over time",
        "Latency over time",
        "CPU time of a call",
        "Memory over time: counter, one node",
        "Memory over time: counter, router, 3 nodes",
    }


def test_every_plot_says_how_to_read_it_and_which_color_is_what() -> None:
    html = report()

    assert html.count("<figcaption>") == 4
    assert html.count('class="legend"') == 5
    text = text_of(html)
    for words in (
        "How to read it",
        "Lower is better",
        "A level line is a steady server",
        "Lines that climb mean that work piles up",
        "20,000 calls a second for each core",
        "work that piles up, or a leak",
        "Thin lines are single rounds",
    ):
        assert words in text


def test_the_report_says_what_was_done_in_words() -> None:
    text = text_of(report())

    assert "64 calls were on their way at any time" in text
    assert "After 0.5 s of warm-up each run counted for 1 s" in text
    assert "in 3 rounds, in turns" in text
    assert SCENARIOS["counter"].explained in text
    assert "a router, which passes each one on" in text


def test_a_report_of_a_rate_says_what_goodput_and_latency_mean_then() -> None:
    text = text_of(html_of(settings(rate=5_000), [result(measured(100))]))

    assert "at a rate of 5,000 a second" in text
    assert "latency counts from when it was due" in text
    assert "offered/s" in text


def test_errors_and_notes_are_in_the_report_and_cannot_break_it() -> None:
    html = report(errors={"Overloaded": 7}, notes=["<b>it rained</b>"], others_cores=0.6)

    text = text_of(html)
    assert "Overloaded <said> so" in text
    assert "<b>it rained</b>" in text
    assert "other programs used up to 0.6" in text.lower()
    assert "<b>it rained" not in html


def test_a_report_of_nothing_but_errors_has_no_empty_plots() -> None:
    html = html_of(settings(), [result(measured(0, errors={"NoOwner": 3}))])

    assert "Latency by percentile" not in charts(html)
    assert "NoOwner" in text_of(html)


def test_many_cases_are_shown_scenario_by_scenario() -> None:
    names = ["counter", "hot", "read"]
    results = [
        result(measured(), scenario=name, target=target.name)
        for name in names
        for target in (NODE, THREE)
    ]

    html = html_of(settings(*names, targets=(NODE, THREE)), results)

    assert re.findall(r'<h2 class="part">(counter|hot|read)</h2>', html) == names
    assert html.count('aria-label="Latency by percentile"') == 3


def test_a_line_goes_through_what_was_measured() -> None:
    plot = charts(report())["Calls a second over time"]
    lines = [each.attrib for each in plot.iter("polyline")]

    # Three rounds of each of two cases: the middle one stands out.
    assert [line["class"].split()[-1] for line in lines] == ["faint"] * 4 + ["bold"] * 2
    heights = [float(each.split(",")[1]) for each in lines[-2]["points"].split()]
    assert len(set(heights)) == 1
    assert [each.text for each in plot.iter("title")][:1] == ["one node: 110 calls/s after 0.2 s"]


# Axes and charts.


@pytest.mark.parametrize("highest", [0.004, 0.9, 1, 7, 101, 4_999, 5_001, 123_456_789])
def test_a_linear_axis_ends_at_a_round_number_over_everything(highest: float) -> None:
    axis = linear("calls", [0.0, highest / 2, highest], lambda value: f"{value:g}")

    values = [value for value, _ in axis.ticks]
    assert values[0] == 0
    assert highest <= values[-1] * 1.001 <= 2.1 * highest
    assert 3 <= len(values) <= 7
    assert axis.place(0) == 0
    assert axis.place(values[-1]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("low", "high"), [(1, 1), (0.3, 0.4), (0.02, 80), (1, 10), (3, 1_000), (0.05, 30_000)]
)
def test_a_logarithmic_axis_holds_everything_and_says_where_it_is(low: float, high: float) -> None:
    axis = logarithmic("latency", [high, low], milliseconds)

    assert -1e-9 <= axis.place(low) <= axis.place(high) <= 1 + 1e-9
    assert axis.place(low) < 0.75
    assert len(axis.ticks) >= 2
    assert all(-1e-9 <= axis.place(value) <= 1 + 1e-9 for value, _ in axis.ticks)


def test_each_nine_of_a_percentile_takes_as_much_room() -> None:
    axis = percent_slow("share", beyond(99.999))

    places = [axis.place(beyond(share)) for share in (0, 90, 99, 99.9, 99.99, 99.999)]
    steps = [later - earlier for earlier, later in pairwise(places)]
    assert steps == [pytest.approx(0.2)] * 5
    assert [text for _, text in axis.ticks][-1] == "99.999 %"


@pytest.mark.parametrize("most", [99.9, 99.999, 99.9999])
def test_the_last_number_below_a_plot_is_not_cut_off(most: float) -> None:
    x = percent_slow("share", beyond(most))
    drawn = ET.fromstring(line_chart("", [Line("", 0, [(0, 1), (1, 1)])], x, linear("", [1], str)))

    width = float(drawn.attrib["viewBox"].split()[2])
    last = next(text for text in drawn.iter("text") if text.text == f"{most} %")
    assert float(last.attrib["x"]) + len(f"{most} %") * DIGIT_WIDTH / 2 <= width


def test_charts_show_texts_as_they_are() -> None:
    x = linear("<x> & more", [1], str)
    drawn = line_chart("a <b>", [Line("l", 0, [(0, 0), (1, 1)], told=("<here>", "&"))], x, x)
    bars = bar_chart("c", [Bar("<d>", [("e & f", 1, 3.0)])], "µs")

    texts = list(ET.fromstring(drawn).itertext())
    assert {"<x> & more", "<here>", "&"} <= set(texts)
    assert {"<d>", "e & f: 3.0 µs", "3.0 µs"} <= set(ET.fromstring(bars).itertext())


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.004, "4 µs"),
        (0.0994, "99.4 µs"),
        (0.0999, "0.0999 ms"),
        (0.32, "0.32 ms"),
        (7.0, "7 ms"),
        (99.96, "100 ms"),
        (999.9, "1 s"),
        (1_234.0, "1.23 s"),
        (30_000.0, "30 s"),
    ],
)
def test_times_have_three_digits_and_a_unit(number: float, text: str) -> None:
    assert milliseconds(number) == text
