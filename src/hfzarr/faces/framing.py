"""How large a picture is, and which way up."""

from __future__ import annotations

from collections.abc import Hashable

import xarray as xr

from hfzarr.faces.picture import physical_size

__all__ = ["fit", "runs_north"]

_NORTHWARD = ("lat", "latitude", "projection_y_coordinate", "grid_latitude", "degrees_north")


def fit(image: xr.DataArray, plane: tuple[Hashable, Hashable], size: int) -> tuple[int, int]:
    """Return height and width of a picture of a plane, as pixels are long and wide.

    Its longer side has `size` pixels, or as many as there are.
    """
    counts = image.sizes[plane[0]], image.sizes[plane[1]]
    lengths = physical_size(image, plane) if _comparable(image, plane) else counts
    # Pixels per unit of length: those of the finer of the two axes, and no more than fit.
    dense = max(n / length for n, length in zip(counts, lengths, strict=True))
    dense = min(dense, size / max(lengths))
    height, width = (min(size, max(1, round(length * dense))) for length in lengths)
    return height, width


def _comparable(image: xr.DataArray, plane: tuple[Hashable, Hashable]) -> bool:
    """Return whether both coordinates are lengths of one kind."""
    if not all(dim in image.coords for dim in plane):
        return False
    units = [str(image.coords[dim].attrs.get("units", "")) for dim in plane]
    same = units[0] == units[1] or all(unit.startswith("degree") for unit in units)
    return same and all(image.coords[dim].dtype.kind in "iuf" for dim in plane)


def runs_north(image: xr.DataArray, dim: Hashable) -> bool:
    """Return whether rows run from south to north, where a map begins with the north."""
    if dim not in image.coords or image.sizes[dim] < 2:
        return False
    along = image.coords[dim]
    said = {str(dim).lower(), along.attrs.get("standard_name"), along.attrs.get("units")}
    if along.dtype.kind not in "iuf" or along.dims != (dim,) or said.isdisjoint(_NORTHWARD):
        return False
    first, last = along.values[[0, -1]]
    return bool(last > first)
