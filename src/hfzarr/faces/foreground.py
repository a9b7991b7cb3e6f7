"""A mask, as xarray gives it, over the windowed dims of a Dataset."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from hfzarr.errors import TargetError
from hfzarr.model.spacing import Spacing, spacing_of
from hfzarr.plan.mask import MASK_LIMIT, MaskAxis, MaskGrid

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

__all__ = ["resolve_mask"]


def resolve_mask(dataset: Dataset, where: Any, dims: Sequence[Hashable]) -> MaskGrid:
    """Read a mask and find where it lies over a Dataset.

    This is the one place where drawing windows reads pixels: the whole mask is read, and held in
    memory as booleans while the windows are drawn.

    Parameters
    ----------
    dataset
        What windows are cut from.
    where
        A DataArray, a Dataset or a level of a tree with one variable, a NumPy array of the
        windowed dims' shape, or a function of the Dataset that returns one of them. Booleans are
        the foreground where True, integers, such as labels, where not 0.

        A mask with coordinates is placed by them, so it may have another resolution, cover another
        part, or run the other way. Where the mask or the Dataset has none along a dim, their
        lengths must be equal. The mask is constant along windowed dims that it lacks.
    dims
        The windowed dims, in the order of the windows' axes.

    Raises
    ------
    TargetError
        The mask is of another kind, has dims that are not windowed, does not lie over the
        Dataset, or is too large; or it cannot be told where it lies.

    Examples
    --------
    >>> image = xr.DataArray(np.zeros((4, 8)), dims=("y", "x"), coords={"x": np.arange(8.0)})
    >>> labels = xr.DataArray([0, 0, 7, 7], dims="x", coords={"x": [0.5, 2.5, 4.5, 6.5]})
    >>> mask = resolve_mask(image.to_dataset(name="image"), labels, ("y", "x"))
    >>> mask.foreground.tolist(), mask.axes
    ([False, False, True, True], (MaskAxis(axis=1, offset=0.5, ratio=2.0),))
    """
    mask = _as_array(dataset, where, dims)
    if mask.dtype.kind not in "biu":
        raise TargetError(
            f"wanted a mask of booleans or labels, got {mask.dtype}: compare it with something, "
            "as in where=image > 500, or where=labels > 0"
        )
    mask = _over(mask, dims)
    if mask.size > MASK_LIMIT:
        raise TargetError(
            f"wanted a mask of at most {MASK_LIMIT} pixels, got {mask.size}: give a coarser level "
            "of it"
        )
    axes = tuple(_axis(dataset, mask, dim, dims.index(dim)) for dim in mask.dims)
    foreground = mask if mask.dtype.kind == "b" else mask != 0
    return MaskGrid(foreground=np.asarray(foreground.values), axes=axes)


def _as_array(dataset: Dataset, where: Any, dims: Sequence[Hashable]) -> DataArray:
    """Return what the caller gave as a DataArray."""
    mask = where(dataset) if callable(where) else where
    if isinstance(mask, xr.DataTree):
        mask = mask.to_dataset()
    if isinstance(mask, xr.Dataset):
        if len(mask.data_vars) != 1:
            names = ", ".join(map(repr, mask.data_vars)) or "none"
            raise TargetError(f"wanted a mask of one variable, got {names}: choose one")
        return next(iter(mask.data_vars.values()))
    if isinstance(mask, np.ndarray):
        shape = tuple(dataset.sizes[dim] for dim in dims)
        if mask.shape != shape:
            raise TargetError(
                f"wanted a mask of shape {shape} for the dims {_listed(dims)}, got {mask.shape}: "
                "give a DataArray with coordinates if it has another resolution"
            )
        return xr.DataArray(mask, dims=tuple(dims))
    if isinstance(mask, xr.DataArray):
        return mask
    if isinstance(mask, str):
        raise TargetError(
            f"wanted a DataArray, a NumPy array or a function as the mask, got {mask!r}: the name "
            "of a label image is for the tree, as in tree.hfzarr.random_patches(..., "
            f"where={mask!r})"
        )
    kind = type(mask).__name__
    raise TargetError(
        "wanted a DataArray, a NumPy array or a function that returns one as the mask, got "
        f"{'a function that returned ' if callable(where) else ''}{kind}"
    )


def _over(mask: DataArray, dims: Sequence[Hashable]) -> DataArray:
    """Return the mask without dims of length 1 that are not windowed."""
    others = [dim for dim in mask.dims if dim not in dims]
    wide = [dim for dim in others if mask.sizes[dim] != 1]
    if wide:
        raise TargetError(
            f"wanted a mask over the windowed dims {_listed(dims)}, got {_listed(wide)} too: "
            f"reduce it, as in mask.any({wide[0]!r})"
        )
    if len(others) == mask.ndim:
        raise TargetError(
            f"wanted a mask over some of the windowed dims {_listed(dims)}, got none of them"
        )
    return mask.squeeze(others, drop=True)


def _axis(dataset: Dataset, mask: DataArray, dim: Hashable, number: int) -> MaskAxis:
    """Find where a mask lies along a dim."""
    own, other = _coordinate(dataset, dim), _coordinate(mask, dim)
    if own is None or other is None:
        if mask.sizes[dim] == dataset.sizes[dim]:
            return MaskAxis(axis=number)
        lacking = " and ".join(
            name for name, found in (("the Dataset", own), ("the mask", other)) if found is None
        )
        raise TargetError(
            f"wanted a mask of {dataset.sizes[dim]} pixels along {dim!r}, got {mask.sizes[dim]}, "
            f"and {lacking} has no coordinate there to place it by"
        )
    _check_units(own, other, dim)
    if np.array_equal(own.values, other.values):
        return MaskAxis(axis=number)
    return _placed(*_spacings(own, other, dim), mask.sizes[dim], dataset.sizes[dim], dim, number)


def _coordinate(owner: Dataset | DataArray, dim: Hashable) -> DataArray | None:
    # Without the first test, xarray would make up 0, 1, 2… for a dim that has no coordinate.
    return owner.coords[dim] if dim in owner.coords and owner[dim].dims == (dim,) else None


def _check_units(own: DataArray, other: DataArray, dim: Hashable) -> None:
    wanted, got = own.attrs.get("units"), other.attrs.get("units")
    if wanted is not None and got is not None and wanted != got:
        raise TargetError(
            f"wanted a mask with {dim!r} in {wanted!r}, got {got!r}: convert its coordinate"
        )


def _spacings(own: DataArray, other: DataArray, dim: Hashable) -> tuple[Spacing, Spacing]:
    """Return the spacing of two coordinates that are not equal."""
    spacing, of_mask = spacing_of(own.values), spacing_of(other.values)
    if of_mask is None and other.size == 1:
        raise TargetError(
            f"wanted at least 2 pixels along {dim!r} to tell the mask's resolution, got 1: for a "
            f"mask that is constant along it, give mask.squeeze({dim!r}, drop=True)"
        )
    for name, found in (("the Dataset", spacing), ("the mask", of_mask)):
        if found is None:
            raise TargetError(
                f"wanted evenly spaced coordinates, or the same in the mask as in the Dataset, "
                f"got neither along {dim!r} of {name}: bring the mask to the Dataset's, as in "
                "mask.reindex_like(dataset, method='nearest')"
            )
    if spacing is None or of_mask is None or _kind(own) != _kind(other):
        raise TargetError(
            f"wanted the same kind of coordinate along {dim!r}, got {own.dtype} in the Dataset "
            f"and {other.dtype} in the mask"
        )
    return spacing, of_mask


def _kind(coordinate: DataArray) -> str:
    """Tell dates, durations and numbers apart."""
    kind = coordinate.dtype.kind
    return kind if kind in "mM" else "number"


def _placed(
    spacing: Spacing, of_mask: Spacing, pixels: int, length: int, dim: Hashable, number: int
) -> MaskAxis:
    """Return where evenly spaced mask pixels lie among evenly spaced pixels."""
    offset = spacing.place(of_mask.origin)
    ratio = float(of_mask.step / spacing.step)
    ends = sorted([offset - ratio / 2, offset + ratio * (pixels - 0.5)])
    if ends[1] <= -0.5 or ends[0] >= length - 0.5:
        raise TargetError(
            f"wanted a mask over pixels 0 to {length - 1} along {dim!r}, got one over "
            f"{ends[0]:.6g} to {ends[1]:.6g} by its coordinate: it lies outside"
        )
    return MaskAxis(axis=number, offset=offset, ratio=ratio)


def _listed(dims: Sequence[Hashable]) -> str:
    return ", ".join(repr(dim) for dim in dims)
