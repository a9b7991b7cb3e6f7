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
    nice_length,
    outline,
    physical_size,
    pillow,
    pixel_size,
    project,
    resize,
    unit,
)

__all__ = ["figure"]

RGB = tuple[int, int, int]

MARGIN = 28
GUTTER = 24
HEADER = 92
MAIN = 1024
SIDE = 530
GAP = 8
BACKGROUND: RGB = (11, 13, 18)
INK: RGB = (238, 241, 246)
FAINT: RGB = (148, 158, 174)
EDGE: RGB = (255, 255, 255)


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
    main_height, main_width = _fit(image, plane, MAIN, MAIN)
    sheet = _Sheet(
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


class _Sheet:
    """A canvas with the few strokes that the panels need."""

    def __init__(self, width: int, height: int) -> None:
        self._canvas = pillow("Image").new("RGB", (width, height), BACKGROUND)
        self._draw = pillow("ImageDraw").Draw(self._canvas)

    def paste(self, picture: Picture, top: int, left: int) -> None:
        """Lay a picture onto the canvas."""
        self._canvas.paste(pillow("Image").fromarray(picture), (left, top))

    def text(
        self, left: float, top: float, text: str, size: int, color: RGB = INK, anchor: str = "la"
    ) -> int:
        """Write a line and return its width; a dark rim keeps it readable on any picture."""
        font = pillow("ImageFont").load_default(size=size)
        # Pillow's own font has no µ: it is written as a u, which then gets its tail.
        plain = text.replace("µ", "u")
        rim = {"stroke_width": 2, "stroke_fill": BACKGROUND}
        self._draw.text((left, top), plain, color, font, anchor, **rim)
        start, _, _, _ = self._draw.textbbox((left, top), plain, font, anchor)
        _, _, _, bottom = self._draw.textbbox((left, top), "u", font, anchor)
        for index in (i for i, letter in enumerate(text) if letter == "µ"):
            at = round(start + font.getlength(plain[:index]) + 0.07 * size)
            self._draw.rectangle(
                (at, bottom - 0.2 * size, at + max(1, size // 11) - 1, bottom + 0.17 * size), color
            )
        return int(self._draw.textlength(plain, font))

    def bar(self, right: int, bottom: int, length: float, caption: str, size: int) -> None:
        """Draw a scale bar that ends at the given corner."""
        thick = max(3, size // 4)
        span = (right - round(length), bottom - thick, right - 1, bottom - 1)
        rim = (span[0] - 2, span[1] - 2, span[2] + 2, span[3] + 2)
        self._draw.rectangle(rim, BACKGROUND)
        self._draw.rectangle(span, INK)
        self.text(right - length / 2, bottom - thick - 5, caption, size, INK, "md")

    def frame(self, top: float, left: float, bottom: float, right: float, color: RGB) -> None:
        """Draw a thin rectangle."""
        self._draw.rectangle((left, top, right, bottom), outline=color, width=2)

    def line(self, top: int, left: int, right: int, color: RGB) -> None:
        """Draw a dashed horizontal line."""
        for start in range(left, right, 14):
            self._draw.line((start, top, min(start + 6, right), top), color, 1)

    def pixels(self) -> Picture:
        """Return what was drawn."""
        return np.asarray(self._canvas, np.uint8)


def _draw_projection(
    sheet: _Sheet,
    image: xr.DataArray,
    labels: xr.DataArray | None,
    plane: tuple[str, str],
    places: tuple[float, float, float, float],
    looks: Sequence[ChannelLook],
) -> None:
    height, width = _fit(image, plane, MAIN, MAIN)
    sheet.paste(_panel(image, labels, plane, height, width, looks), HEADER, MARGIN)
    right, bottom = MARGIN + width, HEADER + height
    up, start, down, end = places
    sheet.frame(
        HEADER + up * height, MARGIN + start * width, HEADER + down * height,
        MARGIN + end * width, INK,
    )  # fmt: skip
    at = MARGIN + 18
    for look in looks:
        at += sheet.text(at, HEADER + 16, look.name, 24, _ink(look)) + 20
    others = [str(d) for d in image.dims if d not in (*plane, CHANNEL)]
    if others:
        caption = "maximum over " + ", ".join(others)
        sheet.text(MARGIN + 18, bottom - 18, caption, 17, INK, "ls")
    if _has_section(image, plane):
        sheet.line(HEADER + height // 2, MARGIN, right - 1, INK)
    _draw_bar(sheet, image, plane[1], width, right - 22, bottom - 22, 22)


def _draw_section(
    sheet: _Sheet,
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
    height, width = _fit(slab, cut, 220, SIDE)
    caption = f"section {cut[1]}-{cut[0]} at {plane[0]} = {middle:.4g}, {thick} thick"
    sheet.text(left, top, caption, 17)
    top += 26
    sheet.paste(_panel(slab, inside, cut, height, width, looks), top, left)
    _draw_bar(sheet, slab, cut[1], width, left + width - 12, top + height - 12, 15)
    return top + height + 22


def _draw_channels(
    sheet: _Sheet,
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
        height, width = _fit(one, plane, edge, edge)
        sheet.paste(_panel(one, None, plane, height, width, [look]), top, at)
        sheet.text(at + 8, top + 6, look.name, 15, _ink(look))
    return top + edge + 22


def _draw_levels(
    sheet: _Sheet,
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
        height, width = _fit(region, plane, edge, edge)
        down, along = divmod(index, 2)
        at = (top + down * (edge + GAP), left + along * (edge + GAP))
        picture = resize(composite(region, plane=plane, looks=looks), height, width, smooth=False)
        sheet.paste(picture, *at)
        step = f"{pixel_size(level, plane[1]):g} {unit(level, plane[1])}"
        sheet.text(at[1] + 8, at[0] + 6, f"level {index}: {step}", 15)


def _draw_bar(
    sheet: _Sheet, image: xr.DataArray, dim: str, width: int, right: int, bottom: int, size: int
) -> None:
    extent = image.sizes[dim] * pixel_size(image, dim)
    length = nice_length(extent / 5)
    sheet.bar(right, bottom, length / extent * width, f"{length:g} {unit(image, dim)}", size)


def _panel(
    image: xr.DataArray,
    labels: xr.DataArray | None,
    plane: tuple[str, str],
    height: int,
    width: int,
    looks: Sequence[ChannelLook],
) -> Picture:
    """Return a picture of a given size, with the outlines of the labels over it."""
    picture = resize(composite(image, plane=plane, looks=looks), height, width)
    if labels is None:
        return picture
    # Labels are enlarged before they are traced, so that outlines stay one pixel thin.
    flat = project(labels, plane)
    for dim, wanted in zip(plane, (height, width), strict=True):
        flat = _under(flat, image, dim, wanted)
    edge = outline(flat)
    mixed = picture.astype(np.float32)
    mixed[edge] = 0.2 * mixed[edge] + 0.8 * np.asarray(EDGE, np.float32)
    return np.asarray(mixed, np.uint8)


def _under(labels: xr.DataArray, image: xr.DataArray, dim: str, wanted: int) -> xr.DataArray:
    """Return the labels that lie under ``wanted`` pixels drawn over the extent of ``image``.

    They are found by coordinate, not by index: labels in the wrong place are drawn there.
    """
    size = image.sizes[dim]
    index = (np.arange(wanted) + 0.5) * size / wanted - 0.5
    if dim not in image.coords or dim not in labels.coords:
        return labels.isel({dim: np.clip(np.rint(index), 0, labels.sizes[dim] - 1).astype(int)})
    first, last = (float(v) for v in image[dim].values[[0, -1]])
    places = first + index * (last - first) / max(1, size - 1)
    return labels.sel({dim: places}, method="nearest")


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


def _fit(image: xr.DataArray, plane: tuple[str, str], height: int, width: int) -> tuple[int, int]:
    """Return the largest size at physical aspect within a box."""
    tall, wide = physical_size(image, plane)
    scale = min(height / tall, width / wide)
    return max(1, round(tall * scale)), max(1, round(wide * scale))


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
        section = 48 + _fit(image, cut, 220, SIDE)[0]
    channels = 0
    if CHANNEL in image.dims:
        count = min(4, image.sizes[CHANNEL])
        channels = 48 + (SIDE - GAP * (count - 1)) // count
    rows = (min(4, len(levels)) + 1) // 2
    return section + channels + 26 + rows * ((SIDE - GAP) // 2 + GAP) - GAP


def _ink(look: ChannelLook) -> RGB:
    """Return the channel's colour, lightened to be read on black."""
    red, green, blue = (round(255 * (0.25 + 0.75 * part)) for part in look.color)
    return red, green, blue
