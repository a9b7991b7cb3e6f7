"""Plans as tables in HTML, for notebooks: light or dark, and no script.

Colours are those of the page. What is wider than the page scrolls by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["CELL", "FAINT", "FRAME", "LINE", "sheet"]

#: A line that shows on any ground.
LINE = "1px solid rgba(128,128,128,.35)"
#: Less strong than the rest, and still read on the grounds that notebooks have.
FAINT = "opacity:.78"
#: A cell without what a notebook does to tables.
CELL = "padding:2px 10px 2px 0;text-align:left;vertical-align:top;border:0;background:none"
#: What all is in.
FRAME = (
    f"max-width:100%;box-sizing:border-box;padding:10px 14px;border:{LINE};border-radius:8px;"
    "font-family:system-ui,sans-serif;font-size:13px;line-height:1.4;overflow-wrap:anywhere"
)
_NUMBER = CELL.replace("left", "right") + ";white-space:nowrap"
# A long name is broken, and a short one takes no more than it needs.
_NAME = "max-width:26em;overflow-wrap:break-word"


def sheet(
    title: str, rows: Sequence[Sequence[str]], remarks: Sequence[str] = (), *, texts: int = 1
) -> str:
    """Return a title, a table and remarks below it; every text is escaped.

    Parameters
    ----------
    title
        What it is.
    rows
        The names of the columns, then the rows.
    remarks
        Lines of text.
    texts
        How many columns hold text, from the left: it may be broken anywhere. Numbers are not
        broken, and end below each other.

    Examples
    --------
    >>> html = sheet("a plan", [["array", "files"], ["a<b", "1,000"]], ["note: none"])
    >>> html.count("<th "), html.count("<td "), "a&lt;b" in html
    (2, 2, True)
    """
    head, *others = [_cells(row, texts) for row in rows]
    names = "".join(f"<th scope='col' style='{style}'>{cell}</th>" for style, cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td style='{style}'>{cell}</td>" for style, cell in row) + "</tr>"
        for row in others
    )
    below = "<br>".join(escape(line) for line in remarks)
    return (
        f"<div style='display:inline-block;{FRAME}'>"
        f"<div style='font-weight:600;margin-bottom:4px'>{escape(title)}</div>"
        f"<div style='overflow-x:auto'><table><thead><tr>{names}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
        f"<div style='{FAINT};margin-top:4px'>{below}</div></div>"
    )


def _cells(row: Sequence[str], texts: int) -> list[tuple[str, str]]:
    """Return the style of each cell, and what is in it."""
    named = [(CELL, f"<div style='{_NAME}'>{escape(cell)}</div>") for cell in row[:texts]]
    return [*named, *[(_NUMBER, escape(cell)) for cell in row[texts:]]]
