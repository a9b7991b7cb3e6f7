"""How the channels of a level are shown, or of a selection of one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from hfzarr.faces.excerpt import Layout
from hfzarr.faces.images import Pyramid
from hfzarr.faces.picture import ChannelLook, channel_looks

__all__ = ["NATURAL", "looks_of", "natural_bands"]

#: Red, green and blue bands as one picture, each through the percentiles of its own.
NATURAL = tuple(
    ChannelLook(name=name, color=color)
    for name, color in (
        ("red", (1.0, 0.0, 0.0)),
        ("green", (0.0, 1.0, 0.0)),
        ("blue", (0.0, 0.0, 1.0)),
    )
)
_TRIPLES = (("red", "green", "blue"), ("b04", "b03", "b02"), ("r", "g", "b"))


def natural_bands(dataset: xr.Dataset) -> tuple[xr.DataArray, ...]:
    """Return the variables that are red, green and blue by their names; none if there are not.

    The bands of Sentinel-2 are among them: B04, B03 and B02.

    Examples
    --------
    >>> pixels = ("y", "x"), np.zeros((2, 2))
    >>> [band.name for band in natural_bands(xr.Dataset({"B02": pixels, "B03": pixels}))]
    []
    """
    by_name = {str(name).lower(): dataset[name] for name in dataset.data_vars}
    for triple in _TRIPLES:
        bands = tuple(by_name[name] for name in triple if name in by_name)
        alike = len({(band.dims, band.shape, band.dtype.kind in "uif") for band in bands}) == 1
        if len(bands) == 3 and alike and bands[0].ndim > 1:
            return bands
    return ()


def looks_of(
    image: xr.DataArray, whole: Layout, pyramid: Pyramid | None
) -> tuple[ChannelLook, ...]:
    """Return how the channels are shown; those of a selection are known by their names."""
    if whole.channel not in (None, "c"):
        image = image.drop_vars("c", errors="ignore").rename({whole.channel: "c"})
    own = channel_looks(image)
    if image.dtype.kind == "b":
        return tuple(replace(look, window=(0.0, 1.0)) for look in own)
    channels = () if pyramid is None else pyramid.image.channels
    if not channels or len(own) == len(channels):
        return own
    said = xr.DataArray(
        np.empty((len(channels), 0, 0)),
        dims=("c", "y", "x"),
        coords={"c": [_name(i, channel.label) for i, channel in enumerate(channels)]},
        attrs={
            "channel_colors": [channel.color for channel in channels],
            "channel_windows": [_window(channel.window) for channel in channels],
        },
    )
    known = {look.name: look for look in channel_looks(said)}
    distinct = len(known) == len(channels)
    return tuple(known.get(look.name, look) for look in own) if distinct else own


def _name(index: int, label: object) -> str:
    return f"channel {index}" if label is None else str(label)


def _window(window: Any) -> dict[str, Any] | None:
    return window and dict(zip(("min", "max", "start", "end"), window, strict=True))
