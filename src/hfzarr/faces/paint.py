"""Planes of labels and of amounts as pictures, and planes in fewer pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hfzarr.faces.colormaps import AMOUNT, ColorMap
from hfzarr.faces.picture import Picture, outline, strength

__all__ = ["mean", "overlaid", "paint_labels", "sensible", "shade", "shrink"]

#: How strongly labels tint what they lie on; their outlines cover it.
_TINT = 0.25


def paint_labels(
    labels: npt.NDArray[Any], colors: Mapping[int, Sequence[float]] | None = None
) -> Picture:
    """Return a picture in which labels differ, and always have the same colours.

    Parameters
    ----------
    labels
        A plane of integers; 0 is dark, and so is what is not a number.
    colors
        Red, green and blue (and alpha) of some labels, each 0 to 255; one with alpha 0 is dark.

    Examples
    --------
    >>> paint_labels(np.array([[0, 1]]), {1: (255, 0, 0, 255)}).tolist()
    [[[0, 0, 0], [255, 0, 0]]]
    """
    values = np.asarray(labels)
    if values.dtype.kind == "f":
        values = np.rint(np.where(np.abs(values) < 2**53, values, 0)).astype(np.int64)
    found, places = np.unique(values, return_inverse=True)
    shades = _label_shades(found)
    for value, color in (colors or {}).items():
        # Compared one by one: what is no number, or beyond the dtype, is no label here.
        at = np.flatnonzero(found == value) if isinstance(value, (int, float)) else ()
        shades[at] = 0 if len(color) > 3 and color[3] == 0 else np.clip(color[:3], 0, 255)
    return np.asarray(shades[places.reshape(values.shape)], np.uint8)


def overlaid(
    picture: Picture,
    labels: npt.NDArray[Any],
    colors: Mapping[int, Sequence[float]] | None = None,
) -> Picture:
    """Return a picture under labels: tinted in their colours, within outlines.

    Parameters
    ----------
    picture
        What they lie on.
    labels
        A plane of as many pixels; nothing is laid over where it is 0.
    colors
        As for `paint_labels`; a label whose alpha is 0 is not shown.

    Examples
    --------
    >>> under = np.full((1, 2, 3), 100, np.uint8)
    >>> overlaid(under, np.array([[0, 1]]), {1: (255, 0, 0)}).tolist()
    [[[100, 100, 100], [255, 0, 0]]]
    """
    hidden = [value for value, color in (colors or {}).items() if len(color) > 3 and color[3] == 0]
    values = np.where(np.isfinite(labels) & ~np.isin(labels, hidden), labels, 0)
    painted = paint_labels(values, colors).astype(np.float32)
    share = np.where(outline(values), 1.0, np.where(values != 0, _TINT, 0.0))[..., np.newaxis]
    return np.asarray(np.rint(picture * (1 - share) + painted * share), np.uint8)


def _label_shades(labels: npt.NDArray[Any]) -> Picture:
    """Return a colour for each label: hues a golden angle apart, in three strengths."""
    turns = labels.astype(np.uint64) % np.uint64(1_000_003)
    hue = turns.astype(np.float64) * 0.618034 % 1.0
    bright = np.array([1.0, 0.78, 0.9])[(turns % np.uint64(3)).astype(np.intp)]
    pale = np.array([0.0, 0.15, 0.45])[(turns // np.uint64(3) % np.uint64(3)).astype(np.intp)]
    wheel = np.abs((hue[:, np.newaxis] + np.array([0, 2, 1]) / 3) % 1.0 * 6 - 3) - 1
    light = pale[:, np.newaxis] + (1 - pale[:, np.newaxis]) * np.clip(wheel, 0, 1)
    shades = np.rint(255 * light * bright[:, np.newaxis]).astype(np.uint8)
    shades[labels == 0] = 0
    return np.asarray(shades, np.uint8)


def shade(
    values: npt.NDArray[Any],
    colors: ColorMap = AMOUNT,
    window: tuple[float, float] | None = None,
) -> Picture:
    """Return a plane of amounts in colours; what is missing is black.

    Parameters
    ----------
    values
        The plane.
    colors
        From low to high.
    window
        Values at the ends; by default those of the colours, else percentiles.

    Examples
    --------
    >>> shade(np.array([[0.0, np.nan]])).tolist()[0][1]
    [0, 0, 0]
    """
    amounts = strength(values, colors.window(values) if window is None else window)
    steps = np.linspace(0, 1, len(colors.colors))
    channels = [np.interp(amounts, steps, one) for one in np.transpose(colors.colors)]
    painted = np.stack(channels, axis=-1)
    painted[~np.isfinite(values)] = 0
    return np.asarray(np.rint(painted), np.uint8)


def sensible(
    window: tuple[float, float] | None,
    values: npt.NDArray[Any],
    dtype: np.dtype[Any],
    *,
    uniform: bool = False,
) -> tuple[float, float] | None:
    """Return a window, or None where it was never chosen or shows all of the pixels alike.

    A window is taken as never chosen if it spans all that integers of the dtype can hold, and the
    pixels less than a tenth of that.

    Parameters
    ----------
    window
        Values shown as dark and as bright.
    values
        The pixels.
    dtype
        Of the image as it is stored.
    uniform
        Whether all pixels may look alike, as in a part of an image that is bright all over.

    Examples
    --------
    >>> values = np.array([100, 900])
    >>> sensible((0, 65535), values, np.dtype("u2")), sensible((0, 1000), values, np.dtype("u2"))
    (None, (0, 1000))
    """
    if window is None or not np.all(np.isfinite(window)):
        return None
    finite = values[np.isfinite(values)]
    if not finite.size:
        return window
    low, high = float(finite.min()), float(finite.max())
    start, end = window
    if not uniform and low < high and (high <= start or low >= end):
        return None
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if start <= limits.min and end >= limits.max and high - start < (end - start) / 10:
            return None
    return window


def mean(values: npt.NDArray[Any], axis: int | tuple[int, ...]) -> npt.NDArray[Any]:
    """Return the mean of what is finite, without a warning where nothing is.

    Examples
    --------
    >>> mean(np.array([[1.0, np.nan], [3.0, np.nan]]), 0).tolist()
    [2.0, nan]
    """
    if values.dtype.kind != "f":
        return np.asarray(values.mean(axis, dtype=np.float64))
    there = np.isfinite(values)
    with np.errstate(all="ignore"):
        total = np.where(there, values, 0).sum(axis, dtype=np.float64)
        return np.asarray(total / there.sum(axis))


def shrink(
    values: npt.NDArray[Any], target: tuple[int, int], *, smooth: bool = True
) -> npt.NDArray[Any]:
    """Return a plane in fewer pixels, but at least twice those of `target` where there are more.

    Parameters
    ----------
    values
        The plane. Pixels at its lower and right edge that fill no block are left out.
    target
        Height and width in which it will be shown.
    smooth
        Whether blocks become their mean, or their middle pixel.

    Examples
    --------
    >>> shrink(np.arange(16).reshape(4, 4), (1, 1)).tolist()
    [[2.5, 4.5], [10.5, 12.5]]
    """
    blocks = [max(1, n // (2 * wanted)) for n, wanted in zip(values.shape, target, strict=True)]
    if blocks == [1, 1]:
        return values
    (down, across), (rows, columns) = (
        blocks,
        (n // b for n, b in zip(values.shape, blocks, strict=True)),
    )
    whole = values[: rows * down, : columns * across]
    if not smooth:
        return whole[down // 2 :: down, across // 2 :: across]
    return mean(whole.reshape(rows, down, columns, across), (1, 3))
