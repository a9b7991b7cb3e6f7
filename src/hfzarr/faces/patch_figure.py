"""A sheet of drawn patches: their windows over the image that they came from, and their pixels.

Where a window is drawn is worked out from coordinates alone (``y_origin``, and ``y`` within the
patch), so that the picture is also a check of them.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from hfzarr.faces.picture import CHANNEL, ChannelLook, Picture, channel_looks, unit
from hfzarr.faces.sheet import BACKGROUND, FAINT, INK, RGB, Sheet, fit, ink, panel, scale_bar

__all__ = ["Extent", "extents", "frame_color", "patch_figure"]

MARGIN = 28
GUTTER = 24
HEADER = 92
CAPTION = 34
MAIN = 880
SIDE_LIGHT = 0.55
COLUMNS = 3
GAP = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """Where a window lies along one dimension of an image, outer edge to outer edge.

    Attributes
    ----------
    start, stop
        As parts of the image's extent: 0 is its first edge, 1 its last.
    """

    start: float
    stop: float


def patch_figure(
    image: xr.DataArray,
    patches: xr.Dataset,
    *,
    name: str = "image",
    labels: str | None = None,
    title: str,
    subtitle: str = "",
) -> Picture:
    """Return a sheet with an image, windows on it, and the middle plane of each patch.

    Parameters
    ----------
    image
        What the patches were cut from, with coordinates. All of it is read.
    patches
        A Dataset as `random_patches` returns it; a dozen patches fit well.
    name
        The variable of `patches` that is shown.
    labels
        The variable whose outlines are drawn over it.
    title, subtitle
        Two lines above the panels.

    Returns
    -------
    numpy.ndarray
        RGB pixels, shape ``(height, width, 3)``.
    """
    image, patches = image.load(), patches.load()
    plane = (str(image.dims[-2]), str(image.dims[-1]))
    views = [plane, *_side_view(image, plane)]
    sizes = [fit(image, view, MAIN, MAIN) for view in views]
    height = sum(tall for tall, _ in sizes) + CAPTION * (len(views) - 1)
    tile = _tile_edge(patches.sizes["patch"], height)
    width = MARGIN * 2 + MAIN + GUTTER + COLUMNS * (tile + GAP) - GAP
    sheet = Sheet(width, HEADER + height + CAPTION + MARGIN // 2)
    sheet.text(MARGIN, 22, title, 30)
    sheet.text(MARGIN, 60, subtitle, 17, FAINT)
    looks = channel_looks(image)
    top = HEADER
    for view, (tall, wide) in zip(views, sizes, strict=True):
        _draw_view(sheet, image, patches, view, looks, (top, MARGIN, tall, wide))
        top += tall + CAPTION
    outlines = None if labels is None else patches[labels]
    _draw_tiles(sheet, patches[name], outlines, plane, looks, tile)
    return sheet.pixels()


def extents(patches: xr.Dataset, image: xr.DataArray, dim: str) -> list[Extent]:
    """Return where each window lies along a dimension of an image, by coordinates.

    Examples
    --------
    >>> x = xr.DataArray(np.zeros(4), dims="x", coords={"x": [10.0, 12.0, 14.0, 16.0]})
    >>> patches = x.to_dataset(name="image").hfzarr.patches({"x": 2})
    >>> extents(patches, x, "x")
    [Extent(start=0.0, stop=0.5), Extent(start=0.5, stop=1.0)]
    """
    values: Any = image[dim].values
    step = (values[-1] - values[0]) / (len(values) - 1)
    reach: Any = patches[dim].values
    first = np.atleast_1d(patches[f"{dim}_origin"].values)
    # Coordinates are of centres, and half a pixel lies before the first one of either.
    starts = (first - values[0]) / (step * len(values))
    stops = (first + reach[-1] + step - values[0]) / (step * len(values))
    return [
        Extent(start=float(start), stop=float(stop))
        for start, stop in zip(starts, stops, strict=True)
    ]


def frame_color(number: int, count: int) -> RGB:
    """Return the colour of one frame of several: light, and as far apart in hue as can be.

    Examples
    --------
    >>> frame_color(0, 3), frame_color(1, 3)
    ((255, 102, 102), (102, 255, 102))
    """
    red, green, blue = colorsys.hsv_to_rgb(number / count, 0.6, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _side_view(image: xr.DataArray, plane: tuple[str, str]) -> list[tuple[str, str]]:
    """Return the plane seen from the side, if the image has a depth."""
    before = [str(dim) for dim in image.dims if dim not in (*plane, CHANNEL)]
    return [(before[-1], plane[1])] if before and image.sizes[before[-1]] > 1 else []


def _tile_edge(count: int, height: int) -> int:
    """Return the edge of a tile, so that all rows of them are as high as the panels beside them."""
    rows = -(-count // COLUMNS)
    return (height - GAP * (rows - 1)) // rows


def _draw_view(
    sheet: Sheet,
    image: xr.DataArray,
    patches: xr.Dataset,
    view: tuple[str, str],
    looks: Sequence[ChannelLook],
    place: tuple[int, int, int, int],
) -> None:
    """Draw the image in one view, the windows over it; `place` is top, left, height and width."""
    top, left, height, width = place
    picture = panel(image, None, view, height, width, looks)
    if view[0] != image.dims[-2]:
        # Seen from the side, all cells lie behind one another: too bright to read frames on.
        picture = np.asarray(picture * SIDE_LIGHT, np.uint8)
    sheet.paste(picture, top, left)
    boxes = [
        (round(top + down.start * height), round(left + along.start * width),
         round(top + down.stop * height), round(left + along.stop * width))
        for down, along in zip(*(extents(patches, image, dim) for dim in view), strict=True)
    ]  # fmt: skip
    count = len(boxes)
    for number, (up, start, down, end) in enumerate(boxes):
        sheet.frame(up - 1, start - 1, down, end, BACKGROUND, width=5)
        sheet.frame(up, start, down - 1, end - 1, frame_color(number, count), width=3)
    for number, (up, start, _, _) in enumerate(boxes):
        sheet.tag(up, start, str(int(patches["patch"][number])), 15, frame_color(number, count))
    others = [str(dim) for dim in image.dims if dim not in (*view, CHANNEL)]
    flat = f", maximum over {', '.join(others)}" if others else ""
    line = top + height + CAPTION // 2
    sheet.text(left, line, f"{view[1]}-{view[0]}{flat}", 16, FAINT, "lm")
    at = left + width
    for look in reversed(looks if len(looks) > 1 else []):
        at -= sheet.text(at, line, look.name, 16, ink(look), "rm") + 14
    scale_bar(sheet, image, view[1], width, left + width - 16, top + height - 16, 17)


def _draw_tiles(
    sheet: Sheet,
    patches: xr.DataArray,
    labels: xr.DataArray | None,
    plane: tuple[str, str],
    looks: Sequence[ChannelLook],
    edge: int,
) -> None:
    """Draw the middle plane of each patch, in a frame of the colour that its window has."""
    first = MARGIN + MAIN + GUTTER
    traced = "" if labels is None else f", with the outlines of {labels.name}"
    sheet.text(first, 60, f"the middle plane of each patch{traced}", 17, FAINT)
    count = patches.sizes["patch"]
    for number in range(count):
        down, along = divmod(number, COLUMNS)
        top, left = HEADER + down * (edge + GAP), first + along * (edge + GAP)
        one, caption = _middle(patches.isel(patch=number), plane)
        traces = None if labels is None else _middle(labels.isel(patch=number), plane)[0]
        height, width = fit(one, plane, edge, edge)
        sheet.paste(panel(one, traces, plane, height, width, looks), top, left)
        color = frame_color(number, count)
        sheet.frame(top, left, top + height - 1, left + width - 1, color, width=4)
        sheet.tag(top, left, str(int(one["patch"])), 19, color)
        sheet.text(left + 14, top + height - 12, caption, 16, INK, "ls")


def _middle(patch: xr.DataArray, plane: tuple[str, str]) -> tuple[xr.DataArray, str]:
    """Return the plane in the middle of a patch, and where that is."""
    told = []
    for dim in [str(dim) for dim in patch.dims if dim not in (*plane, CHANNEL)]:
        patch = patch.isel({dim: patch.sizes[dim] // 2})
        if f"{dim}_origin" in patch.coords:
            at = float(patch[f"{dim}_origin"] + patch[dim])
            told.append(f"{dim} = {at:g} {unit(patch, dim)}")
    return patch, ", ".join(told)
