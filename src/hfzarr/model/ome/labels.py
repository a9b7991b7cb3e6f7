"""Label images: their colours and the properties of their labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hfzarr.model.ome.version import OmeAttrs
from hfzarr.model.report import Report, shorten

__all__ = ["ImageLabel", "label_names", "parse_image_label"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLabel:
    """What a label image says of its labels.

    Attributes
    ----------
    colors
        ``{label: (red, green, blue, alpha)}``, each 0 to 255.
    properties
        One mapping per label, with at least ``"label-value"``.
    source
        Path of the image that was labeled, relative to the label image; or None.
    """

    colors: Mapping[int, tuple[int, int, int, int]] = field(default_factory=dict, hash=False)
    properties: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    source: str | None = None


def label_names(ome: OmeAttrs, report: Report) -> tuple[str, ...]:
    """Return the paths of the label images that a ``labels`` group lists."""
    names = ome.data.get("labels")
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return tuple(name.strip("/") for name in names)
    report.must(
        ome.where,
        ome.rule("labels", "'labels' MUST be a list of paths"),
        f"labels {shorten(names)}",
        "what is not a string left out",
    )
    return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()


def parse_image_label(raw: Any, ome: OmeAttrs, report: Report) -> ImageLabel:
    """Read the ``image-label`` object of a label image."""
    if not isinstance(raw, Mapping):
        report.must(
            ome.where, ome.rule("image-label", "'image-label' is an object"), raw, "taken as empty"
        )
        raw = {}
    if "colors" not in raw:
        report.note(ome.where, ome.rule("image-label", "'colors' SHOULD be there"), "no colors")
    if ome.version == "0.4" and "version" not in raw:
        rule = ome.rule("image-label", "'version' SHOULD be there")
        report.note(ome.where, rule, "no version in image-label")
    source = raw.get("source")
    image = source.get("image") if isinstance(source, Mapping) else None
    return ImageLabel(
        colors=_colors(raw, ome, report),
        properties=_properties(raw, ome, report),
        source=image if isinstance(image, str) else None,
    )


def _items(raw: Mapping[str, Any], key: str, ome: OmeAttrs, report: Report) -> list[Any]:
    """Return the list at ``key``, refusing one that is empty or repeats itself."""
    if key not in raw:
        return []
    items = raw[key]
    if not isinstance(items, list) or not items:
        report.must(
            ome.where,
            ome.rule("image-label", f"{key!r} MUST be a list, not empty"),
            items,
            "ignored",
        )
        return []
    distinct = [item for i, item in enumerate(items) if item not in items[:i]]
    if len(distinct) != len(items):
        report.must(
            ome.where,
            ome.rule("image-label", f"the items of {key!r} MUST be unique"),
            f"{len(items) - len(distinct)} repeated",
            "each taken once",
        )
    return distinct


def _value(item: Any, key: str, ome: OmeAttrs, report: Report) -> int | None:
    value = item.get("label-value") if isinstance(item, Mapping) else None
    if (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and float(value).is_integer()
    ):
        return int(value)
    report.must(
        ome.where,
        ome.rule("image-label", f"each item of {key!r} MUST have an integer 'label-value'"),
        item,
        "left out",
    )
    return None


def _colors(
    raw: Mapping[str, Any], ome: OmeAttrs, report: Report
) -> dict[int, tuple[int, int, int, int]]:
    colors: dict[int, tuple[int, int, int, int]] = {}
    for item in _items(raw, "colors", ome, report):
        value = _value(item, "colors", ome, report)
        if value is None or "rgba" not in item:
            continue
        rgba = item["rgba"]
        if (
            isinstance(rgba, list)
            and len(rgba) == 4
            and all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v <= 255 for v in rgba)
        ):
            colors[value] = (rgba[0], rgba[1], rgba[2], rgba[3])
            continue
        report.must(
            ome.where,
            ome.rule("image-label", "'rgba' MUST be four integers from 0 to 255"),
            f"rgba {shorten(rgba)} of label {value}",
            "left out",
        )
    return colors


def _properties(
    raw: Mapping[str, Any], ome: OmeAttrs, report: Report
) -> tuple[Mapping[str, Any], ...]:
    items = _items(raw, "properties", ome, report)
    return tuple(item for item in items if _value(item, "properties", ome, report) is not None)
