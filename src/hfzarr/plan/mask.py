"""A mask over an array: where its pixels lie, and which of them a window covers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hfzarr.errors import TargetError

__all__ = ["MASK_LIMIT", "AxisCover", "MaskAxis", "MaskGrid", "cover"]

#: The most pixels of a mask, and the most places that windows are told apart by.
MASK_LIMIT = 2**27

#: Positions closer than this part of a mask pixel are the same, so that the rounding of
#: coordinates decides nothing.
_TOLERANCE = 1e-3

_Bools = npt.NDArray[np.bool_]
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskAxis:
    """Where the pixels of a mask lie along one axis of an array.

    Attributes
    ----------
    axis
        Number of the array's axis.
    offset
        Position of the centre of mask pixel 0, in array pixels; array pixel i is centred at i.
    ratio
        Array pixels from one mask pixel to the next: 2 for a mask coarser by 2, negative for one
        that runs the other way.

    Raises
    ------
    TargetError
        A number is not finite, or the ratio is zero.
    """

    axis: int
    offset: float = 0.0
    ratio: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.offset) or not math.isfinite(self.ratio) or self.ratio == 0:
            raise TargetError(
                f"wanted a finite offset and a ratio other than 0 along axis {self.axis}, got "
                f"{self.offset} and {self.ratio}"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaskGrid:
    """A mask over an array, of any resolution; along an axis that it lacks it is constant.

    Attributes
    ----------
    foreground
        The mask, True in the foreground.
    axes
        Where it lies, for each of its axes.

    Raises
    ------
    TargetError
        The mask is not boolean, is empty or too large, or the axes are not those of an array.
    """

    foreground: _Bools
    axes: tuple[MaskAxis, ...]

    def __post_init__(self) -> None:
        if self.foreground.dtype != np.bool_:
            raise TargetError(f"wanted a boolean mask, got {self.foreground.dtype}")
        numbers = {place.axis for place in self.axes}
        if len(numbers) != len(self.axes) or len(self.axes) != self.foreground.ndim:
            raise TargetError(
                f"wanted one place for each of the mask's {self.foreground.ndim} axes, got axes "
                f"{[place.axis for place in self.axes]}"
            )
        if not 0 < self.foreground.size <= MASK_LIMIT:
            raise TargetError(
                f"wanted a mask of 1 to {MASK_LIMIT} pixels, got {self.foreground.size}: give a "
                "coarser level of it"
            )

    def aligned(self, ndim: int) -> tuple[_Bools, list[MaskAxis | None]]:
        """Return the mask with the array's axes in their order, and where it lies along each.

        Its axes ascend with the array's. One that it lacks has length 1 and no place.

        Raises
        ------
        TargetError
            The mask has an axis that the array has not.
        """
        places: list[MaskAxis | None] = [None] * ndim
        foreground = self.foreground
        for own, place in enumerate(self.axes):
            if not 0 <= place.axis < ndim:
                raise TargetError(f"wanted axes of 0 to {ndim - 1} for a mask, got {place.axis}")
            places[place.axis] = place
            if place.ratio < 0:
                last = place.offset + place.ratio * (foreground.shape[own] - 1)
                places[place.axis] = MaskAxis(axis=place.axis, offset=last, ratio=-place.ratio)
                foreground = np.flip(foreground, own)
        foreground = foreground.transpose(np.argsort([place.axis for place in self.axes]))
        absent = [axis for axis, place in enumerate(places) if place is None]
        return np.expand_dims(foreground, absent), places


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AxisCover:
    """The starts of windows along one axis, in runs that cover the same mask pixels.

    Attributes
    ----------
    start
        First start of each run.
    count
        Starts in each run.
    first, stop
        The mask pixels covered; there is background below 0 and from the mask's length on.
    """

    start: _Ints
    count: _Ints
    first: _Ints
    stop: _Ints


def cover(length: int, size: int, pixels: int, place: MaskAxis | None) -> AxisCover:
    """Group the starts of windows along an axis by the mask pixels that they cover.

    Parameters
    ----------
    length
        Pixels of the axis.
    size
        Pixels of a window.
    pixels
        Pixels of the mask.
    place
        Where they lie, the ratio positive; None for one pixel that stands for the whole axis.

    Examples
    --------
    >>> runs = cover(8, 6, 2, MaskAxis(axis=0, offset=1.5, ratio=4.0))
    >>> runs.start.tolist(), runs.count.tolist()
    ([0, 1], [1, 2])
    >>> runs.first.tolist(), runs.stop.tolist()
    ([0, 0], [1, 2])
    """
    if place is None:
        start, count, first, stop = np.array([[0], [length - size + 1], [0], [1]], np.int64)
        return AxisCover(start=start, count=count, first=first, stop=stop)
    starts = np.arange(length - size + 1, dtype=np.int64)
    low, high = _reach(length, pixels, place)
    first = np.clip(_first_from(starts - 0.5, place), low, high)
    stop = np.clip(_first_from(starts + (size - 0.5), place), low, high)
    # The first pixel from half a mask pixel before the centre on is the one nearest to it.
    centre = starts + (size - 1) / 2
    nearest = np.clip(_first_from(centre - place.ratio / 2, place), low, high - 1)
    empty = first >= stop
    first, stop = np.where(empty, nearest, first), np.where(empty, nearest + 1, stop)
    changes = np.flatnonzero((np.diff(first) != 0) | (np.diff(stop) != 0)) + 1
    start = np.concatenate([[0], changes]).astype(np.int64)
    count = np.diff(start, append=len(starts))
    return AxisCover(start=start, count=count, first=first[start], stop=stop[start])


def _reach(length: int, pixels: int, place: MaskAxis) -> tuple[int, int]:
    """Return the first mask pixel and one past the last, background around the mask included."""
    half = place.ratio / 2
    before = (place.offset - half + 0.5) / place.ratio
    last = place.offset + place.ratio * (pixels - 1)
    after = (length - 0.5 - last - half) / place.ratio
    return (
        -max(0, math.floor(before + _TOLERANCE)),
        pixels + max(0, math.floor(after + _TOLERANCE)),
    )


def _first_from(position: npt.NDArray[Any], place: MaskAxis) -> _Ints:
    """Return the first mask pixel whose centre lies at a position, in array pixels, or beyond."""
    pixel = (position - place.offset) / place.ratio
    return np.ceil(pixel - _TOLERANCE).astype(np.int64)
