"""The page of a gallery: cards and choices as HTML, its style and script inlined."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template

from hfzarr.rows.html import picture_kind

__all__ = ["Card", "page"]

# A column with more values than that is searched by words.
_MOST_CHOICES = 30
_MOST_TEXT = 300
# Not printable by themselves, and a part of words and emoji.
_JOINERS = "\u200c\u200d"
# A picture smaller than a card shows its pixels as squares.
_CARD = 190


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A row as the page shows it.

    Attributes
    ----------
    name
        What it is called.
    values
        Text of each column, None where it is missing.
    picture
        Bytes of a PNG, JPEG, GIF or WebP file, or None.
    side
        Longer side of the picture in pixels; 0 where it is not known.
    note
        Why there is no picture.
    """

    name: str
    values: Mapping[str, str | None]
    picture: bytes | None = None
    side: int = 0
    note: str = ""


def page(title: str, columns: Sequence[str], cards: Sequence[Card], left_out: int = 0) -> str:
    """Return a page that asks for nothing: its policy refuses every request but those inside.

    Parameters
    ----------
    title
        What stands above.
    columns
        Names of the columns, in their order.
    cards
        The rows.
    left_out
        How many more rows there are.

    Examples
    --------
    >>> html = page("a <b>", ["x"], [Card(name="1", values={"x": "<script>"})])
    >>> "a &lt;b&gt;" in html, "&lt;script&gt;" in html, "http://" in html, "https://" in html
    (True, True, False, False)
    """
    style, script = _part("gallery.css"), _part("gallery.js")
    chosen = _choices(columns, cards)
    number = {column: i for i, column in enumerate(columns)}
    counted = f"{len(cards):,} row" + ("" if len(cards) == 1 else "s")
    more = f" — {left_out:,} more in the table are left out" if left_out else ""
    return Template(_part("gallery.html")).substitute(
        title=_text(title),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        choices="\n".join(_select(number[name], name, told) for name, told in chosen.items()),
        count=counted,
        left_out=more,
        rows="\n".join(_card(card, columns, chosen, number) for card in cards),
    )


def _part(name: str) -> str:
    return (files("hfzarr.faces") / name).read_text("utf-8")


def _hash(text: str) -> str:
    """Return how a page's policy names a script or style that may be used."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")


def _choices(columns: Sequence[str], cards: Sequence[Card]) -> dict[str, list[str]]:
    """Return the values of each column that a reader may choose from: few, and not all alike."""
    found = {}
    for column in columns:
        told = {card.values.get(column) for card in cards}
        values = sorted((one for one in told if one), key=_natural)
        if 1 < len(told) <= min(_MOST_CHOICES, max(2, len(cards) - 1)) and values:
            found[column] = values
    return found


def _natural(text: str) -> tuple[int, float, str]:
    """Return what puts 9 before 10, and numbers before words."""
    try:
        return 0, float(text), text
    except ValueError:
        return 1, 0.0, text


def _select(number: int, column: str, values: Iterable[str]) -> str:
    options = "".join(f'<option value="{_text(one)}">{_text(one)}</option>' for one in values)
    return (
        f'<label><span>{_text(column)}</span><select data-column="{number}">'
        f'<option value="">all</option>{options}</select></label>'
    )


def _card(
    card: Card, columns: Sequence[str], chosen: Mapping[str, object], number: Mapping[str, int]
) -> str:
    data = "".join(
        f' data-v{number[name]}="{_text(card.values.get(name) or "")}"' for name in chosen
    )
    told = "".join(
        f"<div><dt>{_text(name)}</dt><dd><bdi>{_text(value)}</bdi></dd></div>"
        for name in columns
        if (value := card.values.get(name))
    )
    return (
        f'<li{data}><button type="button" aria-haspopup="dialog">{_picture(card)}'
        f'<span class="name"><bdi>{_text(card.name)}</bdi></span></button><dl>{told}</dl></li>'
    )


def _picture(card: Card) -> str:
    kind = None if card.picture is None else picture_kind(card.picture)
    if card.picture is None or kind is None:
        return f'<span class="picture"><span>{_text(card.note or "no picture")}</span></span>'
    small = ' class="small"' if 0 < card.side < _CARD else ""
    data = base64.b64encode(card.picture).decode("ascii")
    alt = _text(f"picture of {card.name}")
    return (
        f'<span class="picture"><img{small} loading="lazy" decoding="async" alt="{alt}" '
        f'src="data:image/{kind};base64,{data}"></span>'
    )


def _text(value: str) -> str:
    """Return text for a page: escaped, not too long, and without what would deceive its reader."""
    shown = value if len(value) <= _MOST_TEXT else value[: _MOST_TEXT - 1] + "…"
    # Marks that turn the direction of writing, control characters and lone surrogates.
    known = (" " if one.isspace() else one for one in shown)
    return escape(
        "".join(one if one.isprintable() or one in _JOINERS else "\ufffd" for one in known)
    )
