"""Coordinates as values: what a transform says of an axis, before a number is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hfzarr.model.limits import check_coordinate_size

__all__ = ["AxisCoord", "CoordSpec", "PlaneCoord"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisCoord:
    """A 1-D coordinate, evenly spaced: ``offset + scale * i``.

    Attributes
    ----------
    name
        Name of the coordinate, which is also the name of its dimension.
    size
        Number of points.
    scale
        Step from one point to the next, in ``units``.
    offset
        Position of point 0, in ``units``.
    units
        Unit of the positions, or None.
    """

    name: str
    size: int
    scale: float
    offset: float
    units: str | None = None

    @property
    def dims(self) -> tuple[str, ...]:
        """The dimension that the coordinate labels."""
        return (self.name,)

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of that dimension, as a shape."""
        return (self.size,)

    def values(self) -> npt.NDArray[np.float64]:
        """Return the positions, shape ``(size,)``.

        Raises
        ------
        LimitError
            There are more than fit in memory, by what `Limits` allow.

        Examples
        --------
        >>> AxisCoord(name="y", size=3, scale=0.5, offset=10.0).values()
        array([10. , 10.5, 11. ])
        """
        check_coordinate_size(8 * self.size, self.name)
        return self.offset + self.scale * np.arange(self.size, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneCoord:
    """A 2-D coordinate of a rotated or sheared plane: ``offset + rows * i + columns * j``.

    Attributes
    ----------
    name
        Name of the coordinate; never that of a dimension.
    dims
        The two dimensions it varies along, in the order of the array.
    shape
        Their lengths.
    rows, columns
        Step along the first and the second of ``dims``, in ``units``.
    offset
        Position of pixel (0, 0), in ``units``.
    units
        Unit of the positions, or None.
    """

    name: str
    dims: tuple[str, str]
    shape: tuple[int, int]
    rows: float
    columns: float
    offset: float
    units: str | None = None

    def values(self, rows: Any = slice(None), columns: Any = slice(None)) -> Any:
        """Return the positions of a selection of rows and columns (integers or slices).

        Examples
        --------
        >>> plane = PlaneCoord(
        ...     name="xc", dims=("y", "x"), shape=(2, 3), rows=10.0, columns=1.0, offset=0.5
        ... )
        >>> plane.values(slice(1, 2))
        array([[10.5, 11.5, 12.5]])
        """
        for size in self.shape:
            check_coordinate_size(8 * size, self.name)
        i = np.arange(self.shape[0], dtype=np.float64)[rows]
        j = np.arange(self.shape[1], dtype=np.float64)[columns]
        if np.ndim(i) and np.ndim(j):
            i = i[:, np.newaxis]
        return self.offset + self.rows * i + self.columns * j


CoordSpec = AxisCoord | PlaneCoord
