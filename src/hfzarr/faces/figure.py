"""A sheet of panels that shows an opened pyramid: projection, section, channels and levels.

Panels, lengths and captions all come from dims, coordinates and attributes. A panel is drawn at
physical aspect, whatever the size of its pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from hfzarr.faces.picture import (
    CHANNEL,
    ChannelLook,
    Picture,
    channel_looks,
    composite,
    physical_size,
    pixel_size,
    resize,
    unit,
)
from hfzarr.faces.sheet import FAINT, INK, Sheet, fit, ink, panel, scale_bar

__all__ = ["figure"]

MARGIN = 28
GUTTER = 24
HEADER = 92
MAIN = 1024
SIDE = 530
GAP = 8


def figure(
    levels: Sequence[xr.DataArray],
    labels: xr.DataArray | None = None,
    *,
    title: str,
    subtitle: str = "",
) -> Picture:
    """Return a sheet of panels that shows a pyramid.

    Parameters
    ----------
    levels
        The image, finest level first. The finest one is read whole.
    labels
        Labels of the finest level, drawn as outlines.
    title, subtitle
        Two lines above the panels.

    Returns
    -------
    numpy.ndarray
        RGB pixels, 1144 high and 1634 wide for a square image.
    """
    image = levels[0].load()
    labels = None if labels is None else labels.load()
    plane = (str(image.dims[-2]), str(image.dims[-1]))
    box, places = _region(levels[-1], plane)
    main_height, main_width = fit(image, plane, MAIN, MAIN)
    sheet = Sheet(
        MARGIN * 2 + main_width + GUTTER + SIDE,
        HEADER + MARGIN + max(main_height, _side_height(image, levels, plane)),
    )
    sheet.text(MARGIN, 22, title, 30)
    sheet.text(MARGIN, 60, subtitle, 17, FAINT)
    looks = channel_looks(image)
    _draw_projection(sheet, image, labels, plane, places, looks)
    top, left = HEADER, MARGIN + main_width + GUTTER
    top = _draw_section(sheet, image, labels, plane, looks, top, left)
    top = _draw_channels(sheet, image.sel(box), plane, looks, top, left)
    _draw_levels(sheet, levels, plane, box, looks, top, left)
    return sheet.pixels()


def _draw_projection(
    sheet: Sheet,
    image: xr.DataArray,
    labels: xr.DataArray | None,
    plane: tuple[str, str],
    places: tuple[float, float, float, float],
    looks: Sequence[ChannelLook],
) -> None:
    height, width = fit(image, plane, MAIN, MAIN)
    sheet.paste(panel(image, labels, plane, height, width, looks), HEADER, MARGIN)
    right, bottom = MARGIN + width, HEADER + height
    up, start, down, end = places
    sheet.frame(
        HEADER + up * height, MARGIN + start * width, HEADER + down * height,
        MARGIN + end * width, INK,
    )  # fmt: skip
    at = MARGIN + 18
    for look in looks:
        at += sheet.text(at, HEADER + 16, look.name, 24, ink(look)) + 20
    others = [str(d) for d in image.dims if d not in (*plane, CHANNEL)]
    if others:
        caption = "maximum over " + ", ".join(others)
        sheet.text(MARGIN + 18, bottom - 18, caption, 17, INK, "ls")
    if _has_section(image, plane):
        sheet.line(HEADER + height // 2, MARGIN, right - 1, INK)
    scale_bar(sheet, image, plane[1], width, right - 22, bottom - 22, 22)


def _draw_section(
    sheet: Sheet,
    image: xr.DataArray,
    labels: xr.DataArray | None,
    plane: tuple[str, str],
    looks: Sequence[ChannelLook],
    top: int,
    left: int,
) -> int:
    """Draw a cut through the middle of the image; return where the next panel starts."""
    if not _has_section(image, plane):
        return top
    cut = (str(image.dims[image.dims.index(plane[0]) - 1]), plane[1])
    rows = _slab(image, plane[0])
    slab = image.isel({plane[0]: rows})
    inside = None if labels is None else labels.isel({plane[0]: rows})
    middle = float(slab[plane[0]].mean())
    thick = f"{slab.sizes[plane[0]] * pixel_size(image, plane[0]):g} {unit(image, plane[0])}"
    height, width = fit(slab, cut, 220, SIDE)
    caption = f"section {cut[1]}-{cut[0]} at {plane[0]} = {middle:.4g}, {thick} thick"
    sheet.text(left, top, caption, 17)
    top += 26
    sheet.paste(panel(slab, inside, cut, height, width, looks), top, left)
    scale_bar(sheet, slab, cut[1], width, left + width - 12, top + height - 12, 15)
    return top + height + 22


def _draw_channels(
    sheet: Sheet,
    image: xr.DataArray,
    plane: tuple[str, str],
    looks: Sequence[ChannelLook],
    top: int,
    left: int,
) -> int:
    """Draw the first few channels one by one; return where the next panel starts."""
    if CHANNEL not in image.dims:
        return top
    count = min(4, len(looks))
    edge = (SIDE - GAP * (count - 1)) // count
    sheet.text(left, top, f"channels of the marked square, along {CHANNEL}", 17)
    top += 26
    for index, look in enumerate(looks[:count]):
        at = left + index * (edge + GAP)
        one = image.isel({CHANNEL: [index]})
        height, width = fit(one, plane, edge, edge)
        sheet.paste(panel(one, None, plane, height, width, [look]), top, at)
        sheet.text(at + 8, top + 6, look.name, 15, ink(look))
    return top + edge + 22


def _draw_levels(
    sheet: Sheet,
    levels: Sequence[xr.DataArray],
    plane: tuple[str, str],
    box: dict[str, slice],
    looks: Sequence[ChannelLook],
    top: int,
    left: int,
) -> None:
    """Draw one region of every level, pixel by pixel, to show that they lie on one another."""
    edge = (SIDE - GAP) // 2
    sheet.text(left, top, "levels of the pyramid, the same square by coordinates", 17)
    top += 26
    for index, level in enumerate(levels[:4]):
        region = level.sel(box).load()
        height, width = fit(region, plane, edge, edge)
        down, along = divmod(index, 2)
        at = (top + down * (edge + GAP), left + along * (edge + GAP))
        picture = resize(composite(region, plane=plane, looks=looks), height, width, smooth=False)
        sheet.paste(picture, *at)
        step = f"{pixel_size(level, plane[1]):g} {unit(level, plane[1])}"
        sheet.text(at[1] + 8, at[0] + 6, f"level {index}: {step}", 15)


def _region(
    coarsest: xr.DataArray, plane: tuple[str, str]
) -> tuple[dict[str, slice], tuple[float, float, float, float]]:
    """Return a square around the middle, on whole pixels of the coarsest level.

    It comes as slices of coordinates, and as fractions (top, left, bottom, right) of the image.
    """
    steps = [pixel_size(coarsest, dim) for dim in plane]
    extent = min(physical_size(coarsest, plane)) / 4
    box, places = {}, []
    for dim, step in zip(plane, steps, strict=True):
        size = coarsest.sizes[dim]
        count = min(size, max(1, round(extent / step)))
        start = (size - count) // 2
        box[dim] = _between(coarsest, dim, start, count)
        places.append((start / size, (start + count) / size))
    (up, down), (left, right) = places
    return box, (up, left, down, right)


def _between(image: xr.DataArray, dim: str, start: int, count: int) -> slice:
    """Return the coordinates from the outer edge of one pixel to that of another."""
    if dim not in image.coords:
        return slice(start, start + count - 1)
    values: Any = image[dim].values
    half = np.sign(values[-1] - values[0]) * pixel_size(image, dim) / 2
    return slice(float(values[start] - half), float(values[start + count - 1] + half))


def _slab(image: xr.DataArray, dim: str) -> slice:
    """Return a few rows around the middle: one alone would be as noisy as a single exposure."""
    size = image.sizes[dim]
    half = max(1, size // 128)
    return slice(max(0, size // 2 - half), size // 2 + half)


def _has_section(image: xr.DataArray, plane: tuple[str, str]) -> bool:
    before = image.dims[: image.dims.index(plane[0])]
    return bool(before) and before[-1] != CHANNEL and image.sizes[before[-1]] > 1


def _side_height(
    image: xr.DataArray, levels: Sequence[xr.DataArray], plane: tuple[str, str]
) -> int:
    """Return how tall the column of small panels is."""
    section = 0
    if _has_section(image, plane):
        cut = (str(image.dims[image.dims.index(plane[0]) - 1]), plane[1])
        section = 48 + fit(image, cut, 220, SIDE)[0]
    channels = 0
    if CHANNEL in image.dims:
        count = min(4, image.sizes[CHANNEL])
        channels = 48 + (SIDE - GAP * (count - 1)) // count
    rows = (min(4, len(levels)) + 1) // 2
    return section + channels + 26 + rows * ((SIDE - GAP) // 2 + GAP) - GAP
