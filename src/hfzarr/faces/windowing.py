"""What a user says of windows, in pixels or in world units, becomes a grid of windows."""

from __future__ import annotations

import numbers
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from hfzarr.errors import TargetError
from hfzarr.model.spacing import Spacing, spacing_of
from hfzarr.plan.windows import AxisWindows, Edge, WindowGrid

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = ["Lengths", "memory_bytes", "spacing_along", "window_grid", "window_size"]

#: Pixels or world units, for each dimension or for all of them.
Lengths = Mapping[Any, Any] | int | float | str | np.timedelta64
Units = Literal["px", "world"]


def window_size(dataset: Dataset, size: Mapping[Any, Any], units: Units) -> dict[Hashable, int]:
    """Return the pixels of a window along each dimension that it has, in the Dataset's order.

    Raises
    ------
    TargetError
        `size` names no dimension of the Dataset, or is no length along one.
    """
    if units not in ("px", "world"):
        raise TargetError(f"units are 'px' or 'world', not {units!r}")
    if not isinstance(size, Mapping) or not size:
        raise TargetError(
            "size is a mapping from dimensions to lengths, such as "
            f"{_example(dataset)}, not {size!r}"
        )
    _check_dims(dataset, size, "size")
    return {dim: _pixels(dataset, dim, size[dim], units, "size") for dim in _ordered(dataset, size)}


def window_grid(
    dataset: Dataset,
    size: Mapping[Hashable, int],
    *,
    stride: Lengths | None,
    overlap: Lengths | None,
    edge: Edge,
    units: Units,
) -> WindowGrid:
    """Return all windows of a size, ``stride`` apart.

    Parameters
    ----------
    dataset
        What the windows lie on.
    size
        Pixels of a window along each dimension, as `window_size` gives them.
    stride, overlap
        How far windows are apart, or how much of one the next one shares: one of the two, for all
        dimensions or for each; where neither is said, windows lie side by side.
    edge
        What becomes of pixels that whole strides do not reach.
    units
        The units of `stride` and `overlap`.

    Raises
    ------
    TargetError
        Both are given, or one does not fit.
    """
    if stride is not None and overlap is not None:
        raise TargetError("give stride= or overlap=, not both: overlap is size minus stride")
    steps = dict(size)
    for what, given in (("stride", stride), ("overlap", overlap)):
        for dim, length in _for_each_dim(dataset, given, size, what).items():
            least = 0 if what == "overlap" else 1
            pixels = _pixels(dataset, dim, length, units, what, least=least)
            steps[dim] = pixels if what == "stride" else size[dim] - pixels
            if steps[dim] < 1:
                raise TargetError(
                    f"windows of {size[dim]} pixels along {dim!r} cannot overlap by {pixels}: "
                    f"{size[dim] - 1} at most"
                )
    axes = []
    for dim, n in size.items():
        try:
            axes.append(
                AxisWindows(length=dataset.sizes[dim], size=n, stride=steps[dim], edge=edge)
            )
        except TargetError as error:
            raise TargetError(f"dimension {dim!r}: {error}") from None
    return WindowGrid(axes=tuple(axes))


def spacing_along(dataset: Dataset, dim: Hashable) -> Spacing | None:
    """Return how a dimension's coordinate is spaced, or None if it has none or an uneven one."""
    if dim not in dataset.coords or dataset.coords[dim].dims != (dim,):
        return None
    return spacing_of(np.asarray(dataset.coords[dim].values))


def memory_bytes(value: int | str, name: str = "max_memory") -> int:
    """Return a number of bytes, given as such or as text like ``"256 MB"``.

    Raises
    ------
    TargetError
        It is neither, or not above zero.

    Examples
    --------
    >>> memory_bytes("256 MiB"), memory_bytes(1000)
    (268435456, 1000)
    """
    from dask.utils import parse_bytes

    try:
        found = 0 if isinstance(value, bool) or not value else int(parse_bytes(value))
    except (ValueError, TypeError, AttributeError):
        found = 0
    if found < 1:
        raise TargetError(f"{name} is a number of bytes or text like '256 MB', not {value!r}")
    return found


def _for_each_dim(
    dataset: Dataset, given: Lengths | None, size: Mapping[Hashable, int], what: str
) -> Mapping[Any, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        return dict.fromkeys(size, given)
    _check_dims(dataset, given, what)
    extra = [dim for dim in given if dim not in size]
    if extra:
        raise TargetError(f"{what} names {extra}, which size does not: it has {list(size)}")
    return given


def _check_dims(dataset: Dataset, given: Mapping[Any, Any], what: str) -> None:
    unknown = [dim for dim in given if dim not in dataset.sizes]
    if unknown:
        raise TargetError(f"{what} names {unknown}; the dimensions are {list(dataset.sizes)}")


def _ordered(dataset: Dataset, size: Mapping[Any, Any]) -> list[Hashable]:
    """Return the windowed dimensions in the order of the largest variable, then the Dataset's."""
    variables = sorted(dataset.data_vars.values(), key=lambda one: -one.ndim)
    order = [dim for one in variables for dim in one.dims] + list(dataset.sizes)
    return [dim for dim in dict.fromkeys(order) if dim in size]


def _pixels(
    dataset: Dataset, dim: Hashable, length: Any, units: Units, what: str, *, least: int = 1
) -> int:
    if units == "px":
        # NumPy counts its times among the integers.
        no_number = isinstance(length, (bool, np.timedelta64))
        whole = isinstance(length, numbers.Integral) and not no_number
        if not whole or int(length) < least:
            raise TargetError(
                f"{what} along {dim!r} is a whole number of pixels, at least {least}, not "
                f"{length!r}; for lengths in world units give units='world'"
            )
        return int(length)
    spacing = spacing_along(dataset, dim)
    if spacing is None:
        raise TargetError(
            f"{what} along {dim!r} cannot be in world units, as its coordinate is missing or not "
            "evenly spaced: give all lengths in pixels"
        )
    try:
        steps = _as_length(length, spacing) / abs(spacing.step)
        pixels = round(float(steps))
    except (TypeError, ValueError, OverflowError) as error:
        kind = "a time such as '6h'" if spacing.timed else "a number"
        raise TargetError(
            f"{what} along {dim!r} is {kind} in world units, not {length!r}"
        ) from error
    if pixels < 0 or (least and not float(steps) > 0):
        raise TargetError(f"{what} along {dim!r} is a length above zero, not {length!r}")
    # A window thinner than a pixel is a pixel.
    return max(pixels, least)


def _as_length(length: Any, spacing: Spacing) -> Any:
    if spacing.timed:
        if isinstance(length, numbers.Number) and not isinstance(length, np.timedelta64):
            raise TypeError("a plain number is no time")
        return np.timedelta64(pd.Timedelta(length).value, "ns")
    return float(length)


def _example(dataset: Dataset) -> dict[Any, int]:
    return {dim: min(64, n) for dim, n in list(dataset.sizes.items())[-2:]}
