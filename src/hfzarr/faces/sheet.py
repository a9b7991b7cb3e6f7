"""The sheet that pictures are laid out on, and the panels that they have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from hfzarr.faces.picture import (
    ChannelLook,
    Picture,
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

__all__ = ["BACKGROUND", "FAINT", "INK", "RGB", "Sheet", "fit", "ink", "panel", "scale_bar"]

RGB = tuple[int, int, int]

BACKGROUND: RGB = (11, 13, 18)
INK: RGB = (238, 241, 246)
FAINT: RGB = (148, 158, 174)
EDGE: RGB = (255, 255, 255)


class Sheet:
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

    def frame(
        self, top: float, left: float, bottom: float, right: float, color: RGB, width: int = 2
    ) -> None:
        """Draw a rectangle; its line lies inside of the pixels given, which are its corners."""
        self._draw.rectangle((left, top, right, bottom), outline=color, width=width)

    def tag(self, top: float, left: float, text: str, size: int, color: RGB) -> None:
        """Write a few letters on a patch of colour, whose upper left corner is given."""
        font = pillow("ImageFont").load_default(size=size)
        wide, tall = round(font.getlength(text) + 0.7 * size), round(1.3 * size)
        self._draw.rectangle((left, top, left + wide - 1, top + tall - 1), color)
        self._draw.text((left + wide / 2, top + tall / 2), text, BACKGROUND, font, "mm")

    def line(self, top: int, left: int, right: int, color: RGB) -> None:
        """Draw a dashed horizontal line."""
        for start in range(left, right, 14):
            self._draw.line((start, top, min(start + 6, right), top), color, 1)

    def pixels(self) -> Picture:
        """Return what was drawn."""
        return np.asarray(self._canvas, np.uint8)


def scale_bar(
    sheet: Sheet, image: xr.DataArray, dim: str, width: int, right: int, bottom: int, size: int
) -> None:
    """Draw a scale bar for an image that is ``width`` pixels wide on the sheet."""
    extent = image.sizes[dim] * pixel_size(image, dim)
    length = nice_length(extent / 5)
    sheet.bar(right, bottom, length / extent * width, f"{length:g} {unit(image, dim)}", size)


def panel(
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


def fit(image: xr.DataArray, plane: tuple[str, str], height: int, width: int) -> tuple[int, int]:
    """Return the largest size at physical aspect within a box."""
    tall, wide = physical_size(image, plane)
    scale = min(height / tall, width / wide)
    return max(1, round(tall * scale)), max(1, round(wide * scale))


def ink(look: ChannelLook) -> RGB:
    """Return the channel's colour, lightened to be read on black."""
    red, green, blue = (round(255 * (0.25 + 0.75 * part)) for part in look.color)
    return red, green, blue
