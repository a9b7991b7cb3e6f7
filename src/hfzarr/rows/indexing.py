"""NumPy's indices, one for each axis."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np

__all__ = ["expanded"]


def expanded(selection: Any, shape: Sequence[int]) -> tuple[Any, ...]:
    """Return an index for each axis: an integer, a slice or a 1-D array of integers.

    Parameters
    ----------
    selection
        What stands between square brackets; None alone for everything.
    shape
        Lengths of the axes.

    Raises
    ------
    IndexError
        There are too many indices, two arrays, or something else.

    Examples
    --------
    >>> expanded((..., 1), (4, 5, 6))
    (slice(None, None, None), slice(None, None, None), 1)
    """
    parts = _parts(selection)
    if sum(part is Ellipsis for part in parts) > 1:
        raise IndexError("an index has one ellipsis at most")
    if Ellipsis not in [part if part is Ellipsis else None for part in parts]:
        parts = [*parts, Ellipsis]
    at = next(i for i, part in enumerate(parts) if part is Ellipsis)
    missing = len(shape) - (len(parts) - 1)
    if missing < 0:
        raise IndexError(
            f"{len(parts) - 1} indices for an array of {len(shape)} axes, shape {tuple(shape)}"
        )
    parts[at : at + 1] = [slice(None)] * missing
    out = tuple(_axis_index(part, n) for part, n in zip(parts, shape, strict=True))
    _refuse_scattered(out)
    if sum(isinstance(part, np.ndarray) for part in out) > 1:
        raise IndexError(
            "several arrays in one index mean points to NumPy and a grid to others; index one axis "
            "by an array, or use to_xarray() with isel() for a grid"
        )
    return out


def _refuse_scattered(parts: Sequence[Any]) -> None:
    """Raise where NumPy would move axes: an integer apart from an array counts as one, too."""
    places = [i for i, part in enumerate(parts) if not isinstance(part, slice)]
    arrays = any(isinstance(part, np.ndarray) for part in parts)
    if arrays and places[-1] - places[0] >= len(places):
        raise IndexError(
            "an array and an integer with a slice between them move axes about in NumPy; index in "
            "two steps"
        )


def _parts(selection: Any) -> list[Any]:
    if selection is None:
        return [Ellipsis]
    return list(selection) if isinstance(selection, tuple) else [selection]


def _axis_index(part: Any, length: int) -> Any:
    if isinstance(part, slice):
        return part
    if _is_integer(part):
        return operator.index(part)
    array = np.asarray(part)
    if array.ndim == 1 and array.dtype == np.bool_ and len(array) == length:
        return np.flatnonzero(array)
    if array.ndim == 1 and (array.dtype.kind in "iu" or not array.size):
        return array.astype(np.intp)
    raise IndexError(
        f"an index is an integer, a slice, an ellipsis or a 1-D array of integers (or of {length} "
        f"booleans), not {part!r}"
    )


def _is_integer(part: Any) -> bool:
    if isinstance(part, np.ndarray):
        return part.ndim == 0 and part.dtype.kind in "iu"
    return isinstance(part, SupportsIndex) and not isinstance(part, (bool, np.bool_))
