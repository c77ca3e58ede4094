"""The HTML around a report: one file that needs nothing else, in light and in the dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

__all__ = ["figure", "legend", "page", "table"]

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59626d; --line: #d9dee4; --paper: #fff;
  --box: #f5f7f9; --warn: #fff6dd; --warn-line: #e0b83c; --bad: #b3261e;
  --c0: #0b68b0; --c1: #d1550a; --c2: #148564; --c3: #9d4edd; --c4: #b8860b; --c5: #6b7280; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --soft: #a3adb8; --line: #3a424c;
  --paper: #14171b; --box: #1d2126; --warn: #33290f; --warn-line: #8f7424; --bad: #ff8a80;
  --c0: #58a6e8; --c1: #f2894a; --c2: #45c49b; --c3: #c39bf5; --c4: #e3b341; --c5: #9aa4b0; } }
body { margin: 0 auto; max-width: 940px; padding: 32px 24px 64px; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans",
  sans-serif; }
h1 { font-size: 28px; margin: 0 0 4px; } h2 { font-size: 21px; margin: 44px 0 4px; }
.part { font-size: 26px; border-top: 2px solid var(--line); padding-top: 24px; }
p { margin: 6px 0 12px; } ul { padding-left: 20px; margin: 6px 0 16px; } li { margin: 3px 0; }
.soft, figcaption { color: var(--soft); }
table { border-collapse: collapse; width: 100%; font-size: 14px; margin: 12px 0; }
th { text-align: left; color: var(--soft); font-weight: 600; }
th, td { padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.wide { overflow-x: auto; } .bad { color: var(--bad); font-weight: 600; }
.note { background: var(--warn); border-left: 4px solid var(--warn-line); padding: 8px 14px;
  margin: 8px 0; }
figure { background: var(--box); border-radius: 8px; margin: 14px 0; padding: 14px 14px 10px; }
figcaption { font-size: 14px; margin-top: 6px; } figure h3 { font-size: 15px; margin: 0 0 6px; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--ink); font-size: 13px; }
svg .tick { fill: var(--soft); } svg .on { fill: #fff; font-size: 12px; }
svg .grid { stroke: var(--line); stroke-width: 1; }
.line { fill: none; stroke-width: 2.4; stroke-linejoin: round; stroke: currentColor; }
.faint { stroke-width: 1.2; opacity: .4; } .dashed { stroke-width: 1.6; stroke-dasharray: 5 4; }
.point { fill: currentColor; opacity: 0; } .point:hover { opacity: .45; }
.bar { fill: currentColor; stroke: var(--box); }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); }
.c3 { color: var(--c3); } .c4 { color: var(--c4); } .c5 { color: var(--c5); }
.legend { display: flex; flex-wrap: wrap; gap: 2px 18px; font-size: 14px; margin-bottom: 8px; }
.legend i { display: inline-block; width: 14px; height: 14px; border-radius: 3px;
  background: currentColor; margin-right: 6px; vertical-align: -2px; }
.legend span span { color: var(--ink); }
.grid2 { display: grid; grid-template-columns: repeat(auto-fit, minmax(400px, 1fr)); gap: 14px; }
.grid2 figure { margin: 0; }
@media (prefers-color-scheme: dark) { svg .on { fill: #14171b; } }
@media print { body { max-width: none; } figure { break-inside: avoid; } }
"""


def page(title: str, parts: Sequence[str]) -> str:
    """Return a whole page.

    Args:
        title: As text.
        parts: What is on it, as HTML.
    """
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def figure(chart: str, explained: str, *, above: str = "", title: str = "") -> str:
    """Return a chart with what it shows below, and a legend above.

    Args:
        chart: As SVG.
        explained: As text.
        above: As HTML.
        title: As text.
    """
    heading = f"<h3>{escape(title)}</h3>" if title else ""
    caption = f"<figcaption>{escape(explained)}</figcaption>" if explained else ""
    return f"<figure>{heading}{above}{chart}{caption}</figure>"


def legend(entries: Sequence[tuple[str, int]]) -> str:
    """Return which color is what."""
    shown = "".join(
        f'<span class="c{color}"><i></i><span>{escape(name)}</span></span>'
        for name, color in entries
    )
    return f'<div class="legend">{shown}</div>'


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], texts: int) -> str:
    """Return a table.

    Args:
        headings: One for each column, as text.
        rows: Cells, as text. One that begins with `!` is bad news.
        texts: How many columns from the left hold words; the others hold numbers.
    """

    def cell(tag: str, number: int, text: str) -> str:
        names = ["number"] if number >= texts else []
        if text.startswith("!"):
            names.append("bad")
            text = text[1:]
        attribute = f' class="{" ".join(names)}"' if names else ""
        return f"<{tag}{attribute}>{escape(text)}</{tag}>"

    def row(tag: str, cells: Sequence[str]) -> str:
        return f"<tr>{''.join(cell(tag, number, text) for number, text in enumerate(cells))}</tr>"

    body = "".join(row("td", cells) for cells in rows)
    return f'<div class="wide"><table>{row("th", headings)}{body}</table></div>'
