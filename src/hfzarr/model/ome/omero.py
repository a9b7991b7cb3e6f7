"""Channels: the names, colours and contrast windows that ``omero`` gives them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hfzarr.model.ome.version import OmeAttrs
from hfzarr.model.report import Report, shorten

__all__ = ["Channel", "parse_channels"]

_WINDOW = ("min", "max", "start", "end")


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One channel.

    Attributes
    ----------
    label
        Its name; an integer where the store numbers its channels; None where it has none.
    color
        Six hexadecimal digits, red, green, blue; or None.
    window
        ``(min, max, start, end)`` of the contrast in pixel values, or None.
    """

    label: str | int | None = None
    color: str | None = None
    window: tuple[float, float, float, float] | None = None


def parse_channels(
    raw: Any, ome: OmeAttrs, count: int | None, report: Report
) -> tuple[Channel, ...]:
    """Return one channel per index of the channel axis, or none where nothing is known.

    Parameters
    ----------
    raw
        The ``omero`` object, or None.
    ome
        The metadata it stands in.
    count
        Length of the channel axis, or None where the image has none.
    report
        Takes what had to be repaired.
    """
    if raw is None:
        return ()
    items = raw.get("channels") if isinstance(raw, Mapping) else None
    if not isinstance(items, list):
        report.must(
            ome.where,
            ome.rule("omero", "'channels' MUST be a list"),
            f"omero {shorten(raw)}",
            "no channel metadata",
        )
        return ()
    channels = tuple(_channel(item, i, ome, report) for i, item in enumerate(items))
    if count is None:
        return channels[:1]
    if len(channels) != count:
        report.must(
            ome.where,
            ome.rule("omero", "there is one channel per index of the channel axis"),
            f"{len(channels)} channels for an axis of length {count}",
            "surplus ones dropped, missing ones left unnamed",
        )
    return channels[:count] + (Channel(),) * (count - len(channels))


def _channel(item: Any, i: int, ome: OmeAttrs, report: Report) -> Channel:
    if not isinstance(item, Mapping):
        report.must(
            ome.where,
            ome.rule("omero", "each channel is an object"),
            f"channel {i}: {shorten(item)}",
            "left unnamed",
        )
        return Channel()
    return Channel(
        label=_label(item, i, ome, report),
        color=_color(item, i, ome, report),
        window=_window(item, i, ome, report),
    )


def _label(item: Mapping[str, Any], i: int, ome: OmeAttrs, report: Report) -> str | int | None:
    label = item.get("label")
    if label is None or isinstance(label, str):
        return label
    number = isinstance(label, int) and not isinstance(label, bool)
    report.must(
        ome.where,
        ome.rule("omero", "a channel's 'label' is a string"),
        f"label {label!r} of channel {i}",
        "kept as a number" if number else f"read as {str(label)!r}",
    )
    return label if isinstance(label, int) and number else str(label)


def _color(item: Mapping[str, Any], i: int, ome: OmeAttrs, report: Report) -> str | None:
    color = item.get("color")
    # 0.4 requires window and color of every channel, 0.5 of none (their image.schema).
    if color is None and "color" not in item and ome.version != "0.4":
        return None
    text = color.lstrip("#") if isinstance(color, str) else ""
    if re.fullmatch(r"[0-9A-Fa-f]{6}([0-9A-Fa-f]{2})?", text):
        return text[:6].upper()
    report.must(
        ome.where,
        ome.rule("omero", "a channel's 'color' is a string of hexadecimal digits"),
        f"color {color!r} of channel {i}" if "color" in item else f"channel {i} without a color",
        "no color",
    )
    return None


def _window(
    item: Mapping[str, Any], i: int, ome: OmeAttrs, report: Report
) -> tuple[float, float, float, float] | None:
    window = item.get("window")
    if window is None and "window" not in item and ome.version != "0.4":
        return None
    stated = [window.get(key) for key in _WINDOW] if isinstance(window, Mapping) else []
    numbers = [float(v) for v in stated if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if len(numbers) == len(_WINDOW):
        return (numbers[0], numbers[1], numbers[2], numbers[3])
    report.must(
        ome.where,
        ome.rule("omero", "a channel's 'window' MUST hold the numbers min, max, start and end"),
        f"window {shorten(window)} of channel {i}"
        if "window" in item
        else f"channel {i} without a window",
        "no window",
    )
    return None
