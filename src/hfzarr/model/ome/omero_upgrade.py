"""How channels and labels are shown, as OME-Zarr 0.5 writes it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from hfzarr.model.ome.restated import (
    Restated,
    is_index,
    is_number,
    is_text,
    keep_sound,
    without_version,
)
from hfzarr.model.ome.version import OmeAttrs

__all__ = ["restate_image_label", "restate_omero"]


def _is_color(value: Any) -> bool:
    text = value.lstrip("#") if isinstance(value, str) else ""
    return re.fullmatch(r"[0-9A-Fa-f]{6}([0-9A-Fa-f]{2})?", text) is not None


def _is_window(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        is_number(value.get(key)) for key in ("min", "max", "start", "end")
    )


def _is_rgba(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) == 4 and all(is_index(v) and v < 256 for v in value)
    )


_CHANNEL = {
    "label": is_text,
    "color": _is_color,
    "window": _is_window,
    "active": lambda value: isinstance(value, bool),
    "family": is_text,
}


def restate_omero(raw: Any, ome: OmeAttrs, count: int | None) -> Restated:
    """Return the ``omero`` of an image in 0.5.

    Its schema asks for the list of channels alone, so a channel keeps what is sound.

    Parameters
    ----------
    raw
        The object as the store has it.
    ome
        The metadata it stands in.
    count
        Length of the channel axis, or None where the image has none.
    """
    channels = raw.get("channels") if isinstance(raw, Mapping) else None
    if not isinstance(channels, list):
        return Restated(value=None, whole=raw is None)
    parts = [_channel(item) for item in channels]
    whole = all(part.whole for part in parts) and (count is None or len(parts) <= count)
    values = [part.value for part in parts]
    if count is not None:
        values = values[:count] + [{} for _ in range(count - len(values))]
    # The version of `omero` is its own affair; only in 0.4 was it one of the specification.
    kept = dict(raw) if ome.version == "0.5" else without_version(raw, ome)
    return Restated(value={**kept, "channels": values}, whole=whole)


def _channel(raw: Any) -> Restated:
    if not isinstance(raw, Mapping):
        return Restated(value={}, whole=raw is None)
    label = raw.get("label")
    if label is not None and not isinstance(label, str):
        raw = {**raw, "label": str(label)}
    return keep_sound(raw, _CHANNEL)


def restate_image_label(raw: Any, ome: OmeAttrs) -> Restated:
    """Return the ``image-label`` of a label image in 0.5."""
    if not isinstance(raw, Mapping):
        return Restated(value={}, whole=raw is None)
    part = keep_sound(without_version(raw, ome), {"source": _is_source})
    out, whole = dict(part.value), part.whole
    for key in ("colors", "properties"):
        if key in out:
            listed = _labeled(out[key], once=key == "colors")
            out[key] = listed.value
            whole &= listed.whole
    # An empty list is not allowed, and says nothing.
    empty = {key for key in ("colors", "properties") if out.get(key) == []}
    return Restated(value={k: v for k, v in out.items() if k not in empty}, whole=whole)


def _is_source(value: Any) -> bool:
    return isinstance(value, Mapping) and is_text(value.get("image", ""))


def _labeled(raw: Any, *, once: bool) -> Restated:
    """Return the entries of a list that name a label, none of them twice.

    Parameters
    ----------
    raw
        The list as the store has it.
    once
        Whether a label may have one entry only: the last, which is the one that readers take.
    """
    if not isinstance(raw, list):
        return Restated(value=[], whole=raw is None)
    parts = [_entry(item) for item in raw]
    values = [part.value for part in parts if part.value is not None]
    # By their text, as an image may well have a hundred thousand labels.
    distinct = list({json.dumps(item, sort_keys=True): item for item in values}.values())
    kept = distinct
    if once:
        last = {item["label-value"]: item for item in distinct}
        kept = [item for item in distinct if last[item["label-value"]] is item]
    return Restated(
        value=kept, whole=all(part.whole for part in parts) and len(kept) == len(distinct)
    )


def _entry(raw: Any) -> Restated:
    number = raw.get("label-value") if isinstance(raw, Mapping) else None
    if not is_number(number) or number % 1 != 0:
        return Restated(value=None, whole=False)
    return keep_sound({**raw, "label-value": int(number)}, {"rgba": _is_rgba})
