"""A labelled image becomes a picture: channels through their windows, in their colours.

Everything a picture needs (colours, windows, pixel sizes, names) is read from the xarray object,
so that a picture is also a check of what was opened. Pillow is loaded on first use.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from math import floor, isfinite, log10
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from hfzarr.errors import MissingDependencyError, TargetError

__all__ = [
    "ChannelLook",
    "Picture",
    "channel_looks",
    "composite",
    "nice_length",
    "outline",
    "physical_size",
    "pixel_size",
    "png_bytes",
    "project",
    "resize",
    "save_png",
    "strength",
    "unit",
]

Picture = npt.NDArray[np.uint8]
"""RGB pixels, ``(height, width, 3)``."""

CHANNEL = "c"
PALETTE = ("00E5A0", "FF2F9A", "FFC400", "2F9BFF", "FF6A2F", "A66BFF")
"""Colours for channels without one, apart in hue for the first few; a lone channel is white."""

PERCENTILES = (1.0, 99.7)
"""Where the window of a channel without one starts and ends."""

UNITS = {"micrometer": "µm", "nanometer": "nm", "millimeter": "mm", "meter": "m", "angstrom": "Å"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelLook:
    """How one channel is shown.

    Attributes
    ----------
    name
        Name of the channel.
    color
        Red, green and blue, each from 0 to 1.
    window
        Values shown as black and as the full colour, or None to take them from the pixels.
    """

    name: str
    color: tuple[float, float, float]
    window: tuple[float, float] | None = None


def composite(
    image: xr.DataArray,
    *,
    plane: tuple[str, str] | None = None,
    looks: Sequence[ChannelLook] | None = None,
) -> Picture:
    """Return an RGB picture: each channel through its window, in its colour, screened together.

    Parameters
    ----------
    image
        Image with or without a channel dimension ``c``. All of it is read: choose a level and a
        region first.
    plane
        The dimensions shown downwards and across; by default the last two besides ``c``. Over
        every other dimension the maximum is taken.
    looks
        How the channels are shown; by default as :func:`channel_looks` says.

    Returns
    -------
    numpy.ndarray
        ``uint8``, shape ``(height, width, 3)``, one pixel per pixel of the image.

    Raises
    ------
    TargetError
        If the image has no such plane, or the looks are not one per channel.

    Examples
    --------
    >>> image = xr.DataArray([[[0, 50]], [[100, 0]]], dims=("c", "y", "x"))
    >>> image.attrs["channel_colors"] = ["00FF00", "FF0000"]
    >>> image.attrs["channel_windows"] = [{"start": 0, "end": 100}] * 2
    >>> composite(image).tolist()
    [[[255, 0, 0], [0, 128, 0]]]
    """
    looks = channel_looks(image) if looks is None else looks
    flat = project(image, plane)
    values = np.asarray(flat.values if CHANNEL in flat.dims else flat.values[np.newaxis])
    if len(values) != len(looks):
        raise TargetError(f"{len(looks)} looks were given for {len(values)} channels")
    dark = np.ones((*values.shape[1:], 3), np.float32)
    for channel, look in zip(values, looks, strict=True):
        # Screened light gets brighter where channels meet, and never clips to a flat white.
        dark *= 1 - strength(channel, look.window)[..., np.newaxis] * np.asarray(
            look.color, np.float32
        )
    return np.asarray(np.rint(255 * (1 - dark)), np.uint8)


def project(image: xr.DataArray, plane: tuple[str, str] | None = None) -> xr.DataArray:
    """Return the maximum over every dimension besides ``plane`` and the channels.

    Examples
    --------
    >>> project(xr.DataArray(np.ones((2, 3, 4, 5)), dims=("c", "z", "y", "x"))).dims
    ('c', 'y', 'x')
    """
    spatial = [str(d) for d in image.dims if d != CHANNEL]
    shown = tuple(spatial[-2:]) if plane is None else plane
    if len(shown) != 2 or not set(shown) <= set(spatial):
        raise TargetError(
            f"a picture needs two dimensions besides {CHANNEL!r}; "
            f"{shown} was wanted and the image has {tuple(image.dims)}"
        )
    flat = image.max([d for d in spatial if d not in shown], keep_attrs=True)
    return flat.transpose(CHANNEL, *shown, missing_dims="ignore")


def channel_looks(image: xr.DataArray) -> tuple[ChannelLook, ...]:
    """Return how each channel is shown, from ``channel_colors``, ``channel_windows`` and ``c``.

    A list in the attributes counts only when it has one entry per channel: after a selection
    along ``c`` nobody can tell which entry belongs to which channel.

    Examples
    --------
    >>> image = xr.DataArray(
    ...     [[[0]]], dims=("c", "y", "x"), coords={"c": ["DAPI"]},
    ...     attrs={"channel_colors": ["0000FF"]},
    ... )
    >>> channel_looks(image)
    (ChannelLook(name='DAPI', color=(0.0, 0.0, 1.0), window=None),)
    """
    count = int(image.sizes.get(CHANNEL, 1))
    names = [f"channel {i}" for i in range(count)]
    if CHANNEL in image.coords and image[CHANNEL].size == count:
        names = [str(name) for name in np.atleast_1d(image[CHANNEL].values)]
    colors = _one_each(image.attrs.get("channel_colors"), count)
    windows = _one_each(image.attrs.get("channel_windows"), count)
    return tuple(
        ChannelLook(name=name, color=_color(color, index, count), window=_window(window))
        for index, (name, color, window) in enumerate(zip(names, colors, windows, strict=True))
    )


def outline(labels: xr.DataArray | npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return which pixels of a 2-D label image lie on the inner edge of their label.

    Examples
    --------
    >>> outline(np.pad(np.ones((3, 3), int), 1)).astype(int)
    array([[0, 0, 0, 0, 0],
           [0, 1, 1, 1, 0],
           [0, 1, 0, 1, 0],
           [0, 1, 1, 1, 0],
           [0, 0, 0, 0, 0]])
    """
    values = np.asarray(labels)
    if values.ndim != 2:
        raise TargetError(f"an outline needs a 2-D label image, and this has {values.ndim} axes")
    edge = np.zeros(values.shape, np.bool_)
    down, across = values[1:] != values[:-1], values[:, 1:] != values[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge &= values != 0
    return edge


def pixel_size(image: xr.DataArray, dim: Hashable) -> float:
    """Return the step of the coordinate ``dim``; 1 where there is none to tell from.

    Examples
    --------
    >>> pixel_size(xr.DataArray([0, 0, 0], coords={"x": [0.0, 0.5, 1.0]}, dims="x"), "x")
    0.5
    """
    if dim not in image.coords or image.sizes.get(dim, 0) < 2:
        return 1.0
    if image[dim].dims != (dim,) or image[dim].dtype.kind not in "iuf":
        return 1.0
    first, last = image[dim].values[[0, -1]]
    step = abs(float(last) - float(first)) / (image.sizes[dim] - 1)
    return step if step > 0 and isfinite(step) else 1.0


def physical_size(image: xr.DataArray, plane: tuple[Hashable, Hashable]) -> tuple[float, float]:
    """Return height and width of a plane, outer edge to outer edge of its pixels."""
    height, width = (image.sizes[dim] * pixel_size(image, dim) for dim in plane)
    return height, width


def unit(image: xr.DataArray, dim: str) -> str:
    """Return the symbol of the unit of ``dim``, ``"px"`` where there is none."""
    units = image[dim].attrs.get("units") if dim in image.coords else None
    return UNITS.get(str(units), str(units)) if units else "px"


def nice_length(limit: float) -> float:
    """Return the longest of 1, 2, 5, 10, 20, 50… (or their tenths) that is within ``limit``.

    Examples
    --------
    >>> nice_length(37.0), nice_length(0.7)
    (20.0, 0.5)
    """
    power = float(10.0 ** floor(log10(limit)))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= limit * (1 + 1e-9))


def resize(picture: Picture, height: int, width: int, *, smooth: bool = True) -> Picture:
    """Return the picture at another size, smoothly or with square pixels."""
    resampling = pillow("Image").Resampling
    how = resampling.BICUBIC if smooth else resampling.NEAREST
    resized = pillow("Image").fromarray(picture).resize((width, height), how)
    return np.array(resized, np.uint8)


def save_png(picture: Picture, path: str | Path) -> None:
    """Write a picture as a PNG file.

    Raises
    ------
    MissingDependencyError
        If Pillow is not installed.
    """
    Path(path).write_bytes(png_bytes(picture))


def png_bytes(picture: Picture) -> bytes:
    """Return a picture as the bytes of a PNG file.

    Raises
    ------
    MissingDependencyError
        If Pillow is not installed.

    Examples
    --------
    >>> png_bytes(np.zeros((2, 3, 3), np.uint8))[1:4]
    b'PNG'
    """
    file = BytesIO()
    image = pillow("Image").fromarray(np.ascontiguousarray(picture))
    image.save(file, format="PNG", optimize=True)
    return file.getvalue()


def pillow(module: str) -> ModuleType:
    """Return a module of Pillow, or say how to install it."""
    from importlib import import_module

    try:
        return import_module(f"PIL.{module}")
    except ImportError as error:
        raise MissingDependencyError(
            'pictures need Pillow, which is not installed: pip install "hfzarr[demo]"'
        ) from error


def strength(
    values: npt.NDArray[Any], window: tuple[float, float] | None
) -> npt.NDArray[np.float32]:
    """Return how bright each value is shown, from 0 to 1; what is not a number is dark."""
    kind = np.float64 if values.dtype.itemsize > 4 else np.float32
    with np.errstate(over="ignore", invalid="ignore"):
        shown = np.nan_to_num(values.astype(kind), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        if window is None:
            finite = shown[np.isfinite(shown)]
            window = tuple(np.percentile(finite, PERCENTILES)) if finite.size else (0.0, 1.0)
        start, end = window
        span = end - start if end > start else 1.0
        part = np.clip((shown - kind(start)) / kind(span), 0, 1)
        return np.asarray(np.nan_to_num(part), np.float32)


def _one_each(values: Any, count: int) -> Sequence[Any]:
    """Return one entry per channel, None where the attribute does not say."""
    listed = isinstance(values, Sequence) and not isinstance(values, str)
    return values if listed and len(values) == count else [None] * count


def _color(text: Any, index: int, count: int) -> tuple[float, float, float]:
    digits = str(text or "").removeprefix("#")[:6]
    try:
        red, green, blue = bytes.fromhex(digits)
    except ValueError:
        if count == 1:
            return (1.0, 1.0, 1.0)
        red, green, blue = bytes.fromhex(PALETTE[index % len(PALETTE)])
    return (red / 255, green / 255, blue / 255)


def _window(window: Any) -> tuple[float, float] | None:
    """Return start and end of an OMERO window, or None where it makes no sense."""
    if not isinstance(window, Mapping):
        return None
    try:
        start, end = float(window["start"]), float(window["end"])
    except (KeyError, TypeError, ValueError):
        return None
    return (start, end) if end > start and isfinite(end - start) else None
