"""Handles, selections and manifests as HTML, for notebooks: light or dark, and no script.

Colours are those of the page, or grey that shows on both, so nothing has to know its theme. Every
text is escaped. `card`, `facts_table`, `rows_table` and `image` know plain values alone;
`handle_card` and `selection_card` ask what they are given for them.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from hfzarr.errors import HfzarrError
from hfzarr.model.visible import visible
from hfzarr.plan.html import CELL, FAINT, FRAME, LINE
from hfzarr.plan.reshard import in_units
from hfzarr.store.location import hide_secrets

if TYPE_CHECKING:
    from hfzarr.rows.handle import ZarrHandle
    from hfzarr.rows.selection import ZarrSelection

__all__ = [
    "card",
    "facts_table",
    "handle_card",
    "image",
    "picture_kind",
    "rows_table",
    "selection_card",
]

_KINDS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}

# Of a fact: a long one is broken, a short one stays in one piece beside a long value.
_NAME = f"{CELL};font-weight:400;{FAINT};min-width:5em"
_CARD = f"display:inline-flex;flex-wrap:wrap;gap:14px;align-items:flex-start;color:inherit;{FRAME}"
_MONO = "font-family:ui-monospace,monospace;font-size:12px"
_MOST_TEXT = 300
_PICTURE = 256


def card(
    title: str,
    facts: Mapping[str, object] | Iterable[tuple[str, object]],
    *,
    place: str = "",
    picture: bytes | None = None,
    note: str = "",
) -> str:
    """Return a card: a picture, a title, and a table of facts.

    Parameters
    ----------
    title
        What it is.
    facts
        Names and values; what is None or empty is left out.
    place
        Where it lies; shown below the title.
    picture
        Bytes of a PNG file.
    note
        What else is to be said, such as why there is no picture.

    Examples
    --------
    >>> html = card("image", {"shape": (3, 4), "unit": None}, place="a<b.zarr")
    >>> "a&lt;b.zarr" in html, "(3, 4)" in html, "unit" in html, "<img" in html
    (True, True, False, False)
    """
    parts = [f"<div style='{_CARD}'>"]
    if picture:
        parts.append(image(picture, 128, alt=f"picture of {title}"))
    parts.append(f"<div style='min-width:0'><div style='font-weight:600'>{_text(title)}</div>")
    if place:
        parts.append(f"<div style='{_MONO};{FAINT}'>{_text(place)}</div>")
    parts.append(facts_table(facts))
    if note:
        parts.append(f"<div style='{FAINT};margin-top:4px'>{_text(note)}</div>")
    return "".join([*parts, "</div></div>"])


def facts_table(facts: Mapping[str, object] | Iterable[tuple[str, object]]) -> str:
    """Return names and values as a table of two columns; what is None or empty is left out.

    Examples
    --------
    >>> facts_table({}), facts_table([("axes", ["y", "x"])]).count("<td")
    ('', 1)
    """
    pairs = facts.items() if isinstance(facts, Mapping) else facts
    lines = [
        f"<tr style='background:none'><th scope='row' style='{_NAME}'>"
        f"{_text(name)}</th><td style='{CELL}'>{_text(value)}</td></tr>"
        for name, value in pairs
        if not _is_nothing(value)
    ]
    if not lines:
        return ""
    return f"<table style='border-collapse:collapse;margin-top:6px'>{''.join(lines)}</table>"


def rows_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str = "",
    note: str = "",
    pictures: Sequence[bytes | None] | None = None,
) -> str:
    """Return rows as a table, with a picture before each where there are some.

    Parameters
    ----------
    columns
        Names of the columns.
    rows
        One value for each column.
    title
        What it is.
    note
        What else is to be said, such as how many rows are not shown.
    pictures
        For each row, bytes of a PNG file, or None.

    Examples
    --------
    >>> html = rows_table(["zarr", "label"], [["a.zarr", 1], ["b.zarr", None]], note="2 rows")
    >>> html.count("<tr"), html.count("<td"), "2 rows" in html
    (3, 4, True)
    """
    rows = list(rows)
    shown = [None] * len(rows) if pictures is None else list(pictures)
    has_pictures = any(shown)
    head = "".join(
        f"<th scope='col' style='{CELL};font-weight:600'>{_text(name)}</th>" for name in columns
    )
    head = (f"<th style='{CELL}'></th>" if has_pictures else "") + head
    lines = []
    for row, png in zip(rows, shown, strict=True):
        cells = "".join(f"<td style='{CELL}'>{_text(value)}</td>" for value in row)
        if has_pictures:
            drawn = image(png, 40) if png else ""
            cells = f"<td style='{CELL}'>{drawn}</td>" + cells
        lines.append(f"<tr style='background:none;border-top:{LINE}'>{cells}</tr>")
    above = f"<div style='font-weight:600;margin-bottom:4px'>{_text(title)}</div>" if title else ""
    below = f"<div style='{FAINT};margin-top:4px'>{_text(note)}</div>" if note else ""
    return (
        f"<div style='{_CARD};display:block;overflow-x:auto;overflow-wrap:normal'>{above}"
        f"<table style='border-collapse:collapse'><thead><tr style='background:none'>{head}</tr>"
        f"</thead><tbody>{''.join(lines)}</tbody></table>{below}</div>"
    )


def image(png: bytes, size: int, *, alt: str = "picture") -> str:
    """Return a picture, no larger than `size` either way; a tiny one keeps its square pixels.

    Examples
    --------
    >>> image(b"PNG", 40)[:29]
    "<img src='data:image/png;base"
    """
    data = b64encode(png).decode("ascii")
    kind = picture_kind(png) or "png"
    return (
        f"<img src='data:image/{kind};base64,{data}' alt='{_text(alt)}' style='width:{size}px;"
        f"height:{size}px;object-fit:contain;image-rendering:{_rendering(png, size)};"
        "border-radius:4px;margin:0'>"
    )


def picture_kind(data: bytes) -> str | None:
    """Return the kind of a picture by its first bytes; None if no browser shows it.

    Examples
    --------
    >>> picture_kind(b"GIF89a"), picture_kind(b"<svg>")
    ('gif', None)
    """
    return next((kind for magic, kind in _KINDS.items() if data.startswith(magic)), None)


def handle_card(handle: ZarrHandle) -> str:
    """Return a handle as a card; where it cannot be read, why is told in the place of facts."""
    place = hide_secrets(handle.path)
    try:
        title, facts = f"{handle.name} · {handle.kind}", _handle_facts(handle)
    except (HfzarrError, OSError) as error:
        return card(type(handle).__name__, {}, place=place, note=_reason(error))
    if handle.kind == "image":
        picture, note = _drawn(lambda: handle.thumbnail(level=None, size=_PICTURE))
    elif handle.kind == "array" and handle.ndim > 1:
        picture, note = _drawn(lambda: handle.thumbnail(size=_PICTURE))
    else:
        picture, note = None, ""
    return card(title, facts, place=place, picture=picture, note=note)


def selection_card(selection: ZarrSelection) -> str:
    """Return a selection as a card; where it cannot be read, why is told in place of facts."""
    place = hide_secrets(selection.handle.path)
    region = selection.region
    try:
        facts = {
            "region": region,
            "shape": selection.shape,
            "data type": selection.dtype,
            "size": in_units(selection.nbytes),
        }
    except (HfzarrError, OSError) as error:
        return card("selection", {"region": region}, place=place, note=_reason(error))
    picture, note = None, ""
    if len(selection.shape) > 1:
        # As the store was found: one without consolidated metadata is nothing to warn of here.
        found = selection.handle.store.hierarchy.consolidated or False
        picture, note = _drawn(
            lambda: selection.to_xarray(consolidated=found).hfzarr.thumbnail(size=_PICTURE)
        )
    return card("selection", facts, place=place, picture=picture, note=note)


def _handle_facts(handle: ZarrHandle) -> dict[str, object]:
    facts: dict[str, object] = {"format": f"Zarr v{handle.zarr_format}"}
    if handle.kind not in ("array", "image"):
        return {**facts, "members": handle.keys()[:12], "attributes": list(handle.attrs)[:12]}
    facts["axes"] = ", ".join(
        f"{dim}: {n}" for dim, n in zip(handle.dims, handle.shape, strict=True)
    )
    facts |= {"data type": handle.dtype, "chunks": handle.chunks, "shards": handle.shards}
    facts["size"] = in_units(handle.nbytes)
    if handle.kind == "image":
        facts["levels"] = len(handle.store.image(handle.node).levels)
        channels = handle.store.image(handle.node).channels
        facts["channels"] = [str(one.label) for one in channels if one.label is not None]
    return facts


def _drawn(draw: Callable[[], Any]) -> tuple[bytes | None, str]:
    """Return a picture as bytes of a PNG file, or why there is none."""
    from hfzarr.rows.pictures import encoded

    try:
        return encoded(draw()), ""
    except ImportError:
        return None, 'no picture, as Pillow is not installed: pip install "hfzarr[demo]"'
    except (HfzarrError, OSError) as error:
        return None, f"no picture: {_reason(error)}"


def _reason(error: Exception) -> str:
    return hide_secrets(str(error).splitlines()[0] if str(error) else type(error).__name__)


def _text(value: object) -> str:
    """Return a value as escaped text, not too long."""
    if isinstance(value, (list, tuple)) and not any(isinstance(one, int) for one in value):
        value = ", ".join(map(str, value))
    elif value is None:
        value = ""
    text = str(value)
    shown = text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "…"
    return escape("\n".join(map(visible, shown.split("\n"))))


def _is_nothing(value: object) -> bool:
    return value is None or (isinstance(value, (str, list, tuple, dict)) and not value)


def _rendering(png: bytes, size: int) -> str:
    """Return how a browser is to enlarge a picture: width and height stand in its header."""
    width, height = (int.from_bytes(png[i : i + 4], "big") for i in (16, 20))
    return "pixelated" if max(width, height) < size else "auto"
