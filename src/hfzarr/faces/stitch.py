"""Patches laid back on the grid they were cut from, as a dask graph."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

import numpy as np
from xarray import DataArray, Dataset, DataTree, Variable

from hfzarr.errors import TargetError
from hfzarr.faces.mosaic import mosaic_array
from hfzarr.plan.axis import IntArray
from hfzarr.plan.stitch import Mosaic, block_lengths, cut, forms_grid, uncovered
from hfzarr.plan.windows import WindowList
from hfzarr.run.blend import Blend, Recipe

__all__ = ["stitch"]

PATCH = "patch"
START = "_start"
#: Bytes of a block where nothing says how the grid is stored.
_BLOCK_BYTES = 64 * 2**20
#: More blocks than this are joined, so that a graph stays small.
_MAX_BLOCKS = 10_000

Labeled = TypeVar("Labeled", Dataset, DataArray)


def stitch(
    predictions: Labeled,
    like: Dataset | DataArray | DataTree,
    blend: Blend = "crop",
    *,
    fill_value: Any = None,
    chunks: Mapping[Hashable, int] | None = None,
) -> Labeled:
    """Lay patches back on the grid they were cut from: the inverse of ``patches``, lazily.

    A dim ``D`` is one that windows were cut along if there is a coordinate ``D_start``: the
    index in ``like`` of each patch's first pixel. Only that says where a patch belongs; patches
    may come in any order, more than once, or not at all.

    Parameters
    ----------
    predictions
        Patches, or what was made of them: a dim ``patch``, the windows' dims with their whole
        length, the coordinates ``D_start``. Other dims may be there (classes) or be gone
        (channels), in any order.
    like
        Whose grid to use, such as the Dataset that patches were cut from, or that node of a tree:
        its sizes, its coordinates along the windows' dims and its scalar ones. Its values are
        never read.
    blend
        What a pixel becomes that several patches cover:

        - ``"crop"``: the value of one of them, the one with the nearest centre (Euclidean, in
          pixels; for windows on a grid that cuts each overlap in the middle). If two are as near,
          the lower start counts, by the first dim where they differ; of patches at the same
          place, the first.
        - ``"mean"``: their mean.
        - ``"hann"``: their mean, weighted by the product over the dims of ``(1 - cos(2 pi (i +
          1/2) / n)) / 2`` at pixel i of n: the Hann window (Harris 1978,
          doi:10.1109/PROC.1978.10837), as Pielawski and Wählby 2020
          (doi:10.1371/journal.pone.0229839) use it for patches, half a pixel from the ends so
          that no weight is zero.

        Means are computed in float64, integers rounded to the nearest (halves to the even one).
        Where all patches agree the value stays what it is, to the last bit. A NaN in any of them
        gives NaN.
    fill_value
        What pixels become that no patch covers, for all variables or by name. By default NaN for
        floats, NaT for times, 0, False or an empty string.
    chunks
        Block lengths along the windows' dims, where they should not follow the shards of
        ``like``.

    Returns
    -------
    Dataset or DataArray
        What ``predictions`` is, without the dim ``patch``; dims, name and attrs are kept.
        Variables without patches are left as they are, coordinates along ``patch`` are dropped.
        The dask chunks are the shards of ``like``: of the variable of the same name, or else of
        the others. Without shards they are its inner chunks, without those its dask chunks, or
        else blocks of 64 MiB; more than 10,000 blocks are joined to whole multiples. Along other
        dims, the chunks of ``predictions`` are kept. Each block is one task. It needs the chunks
        of ``predictions`` whose patches overlap it.

        Pixels that no patch covers are counted in the variable's ``attrs["uncovered"]``: pixels
        along the windows' dims, classes and such not multiplied in. The entry is there if they
        are more than none. They are not counted for many windows that do not form a grid.

    Raises
    ------
    TargetError
        There are no patches or no ``D_start``; sizes do not fit ``like``; ``blend`` is none of
        the above, or takes the mean of what has none (booleans, strings, times); the fill value
        does not fit the dtype.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import hfzarr
    >>> like = xr.Dataset({"raw": ("x", np.zeros(5))}, coords={"x": [0.0, 0.5, 1.0, 1.5, 2.0]})
    >>> predictions = xr.DataArray(
    ...     [[1, 1, 1], [4, 4, 4]], dims=("patch", "x"), coords={"x_start": ("patch", [0, 2])}
    ... )
    >>> hfzarr.stitch(predictions, like).values
    array([1, 1, 1, 4, 4])
    >>> hfzarr.stitch(predictions.astype(float), like, blend="mean").values
    array([1. , 1. , 2.5, 4. , 4. ])
    """
    if blend not in get_args(Blend):
        wanted = " or ".join(repr(name) for name in get_args(Blend))
        raise TargetError(f"blend is {wanted}, not {blend!r}")
    like = like.to_dataset() if isinstance(like, DataTree) else like
    _check_kind(predictions, like)
    options = _Options(blend=blend, fill_value=fill_value, chunks=dict(chunks or {}))
    # Names that no coordinate has.
    grid = like if isinstance(like, Dataset) else like.to_dataset(name=f"{like.name} (grid)")
    if isinstance(predictions, Dataset):
        return _stitch(predictions, grid, options)
    name = f"{predictions.name} (patches)"
    whole = _stitch(predictions.to_dataset(name=name), grid, options)
    return whole[name].rename(predictions.name)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Options:
    blend: Blend
    fill_value: Any
    chunks: dict[Hashable, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Axis:
    """A dim that windows were cut along."""

    name: str
    starts: IntArray
    size: int
    length: int


def _check_kind(predictions: Any, like: Any) -> None:
    for name, value in (("predictions", predictions), ("like", like)):
        if not isinstance(value, (Dataset, DataArray)):
            raise TargetError(f"{name} is a Dataset or a DataArray, not {type(value).__name__}")
    if PATCH not in predictions.dims:
        raise TargetError(
            f"wanted predictions with a dim 'patch', got the dims {_listed(predictions.dims)}: "
            "give patches, or rename the dim that numbers them"
        )
    if not predictions.sizes[PATCH]:
        raise TargetError("the dim 'patch' has length 0: there is no patch to stitch")


def _listed(names: Iterable[Hashable]) -> str:
    return ", ".join(map(str, names)) or "none"


def _stitch(predictions: Dataset, grid: Dataset, options: _Options) -> Dataset:
    axes = _axes(predictions, grid)
    _check_chunks(options.chunks, axes)
    variables = {}
    for name in predictions.data_vars:
        variable = predictions.variables[name]
        own = [axis for axis in axes if axis.name in variable.dims]
        if PATCH in variable.dims and own:
            variable = _stitched(name, variable, own, grid, options)
        elif own or PATCH in variable.dims:
            raise TargetError(
                f"the variable {name!r} has the dims {_listed(variable.dims)}: to be stitched it "
                "needs 'patch' and a dim that windows were cut along "
                f"({_listed(axis.name for axis in axes)}), to be left as it is neither; drop it "
                "with drop_vars() first"
            )
        variables[name] = variable
    return _on_grid(predictions, grid, axes, variables)


def _axes(predictions: Dataset, grid: Dataset) -> list[_Axis]:
    """Return the dims that windows were cut along, in the grid's order."""
    found = [
        _axis(name.removesuffix(START), coord.variable, predictions, grid)
        for name, coord in predictions.coords.items()
        if isinstance(name, str) and name.endswith(START) and _says_start(name, predictions)
    ]
    if not found:
        raise TargetError(
            "nothing says where the patches belong: wanted a coordinate such as 'x_start' along "
            f"'patch' for each dim that windows were cut along, got {_listed(predictions.coords)}; "
            "take them from the patches, predictions.assign_coords(patches.coords)"
        )
    order = list(grid.sizes)
    return sorted(found, key=lambda axis: order.index(axis.name))


def _says_start(name: str, predictions: Dataset) -> bool:
    coord = predictions.coords[name]
    numbers = coord.dims == (PATCH,) and coord.dtype.kind in "iu"
    return numbers or name.removesuffix(START) in predictions.dims


def _axis(name: str, start: Variable, predictions: Dataset, grid: Dataset) -> _Axis:
    coord = name + START
    if start.dims != (PATCH,) or start.dtype.kind not in "iu":
        raise TargetError(
            f"wanted integers along 'patch' in the coordinate {coord!r}, got {start.dtype} along "
            f"{_listed(start.dims)}"
        )
    if name not in predictions.dims:
        raise TargetError(
            f"the coordinate {coord!r} says that windows were cut along {name!r}, but the "
            f"predictions have only the dims {_listed(predictions.dims)}: give them that dim, or "
            f"take the coordinate away with drop_vars({coord!r})"
        )
    if name not in grid.sizes:
        raise TargetError(
            f"windows were cut along {name!r}, but like has only the dims {_listed(grid.sizes)}: "
            "give the Dataset that the patches were cut from, or stitch the variables of each "
            "grid by themselves"
        )
    axis = _Axis(
        name=name,
        starts=np.asarray(start.values, dtype=np.intp),
        size=predictions.sizes[name],
        length=grid.sizes[name],
    )
    _check_sizes(axis, start.attrs)
    return axis


def _check_sizes(axis: _Axis, attrs: Mapping[Any, Any]) -> None:
    size, length = attrs.get("size", axis.size), attrs.get("length", axis.length)
    if size != axis.size:
        raise TargetError(
            f"windows of {size} pixels were cut along {axis.name!r}, but the predictions have "
            f"{axis.size}: pad or resize them to {size}; if they are the windows' inner part, add "
            f"its offset to {axis.name + START!r} and set the 'size' in that coordinate's attrs"
        )
    if length != axis.length:
        raise TargetError(
            f"the patches were cut from {length} pixels along {axis.name!r}, but like has "
            f"{axis.length}: give the Dataset that they were cut from"
        )
    low, high = int(axis.starts.min()), int(axis.starts.max())
    if low + axis.size <= 0 or high >= axis.length:
        raise TargetError(
            f"wanted windows that overlap the {axis.length} pixels of like along {axis.name!r}, "
            f"got starts from {low} to {high}: give the Dataset that they were cut from"
        )


def _check_chunks(chunks: Mapping[Hashable, int], axes: list[_Axis]) -> None:
    known = {axis.name for axis in axes}
    for dim, length in chunks.items():
        if dim not in known or not isinstance(length, (int, np.integer)) or length < 1:
            raise TargetError(
                f"wanted chunks as whole pixels along {_listed(sorted(known))}, got {length!r} "
                f"along {dim!r}"
            )


def _on_grid(
    predictions: Dataset, grid: Dataset, axes: list[_Axis], variables: Mapping[Any, Variable]
) -> Dataset:
    """Return the variables with the grid's coordinates, and the predictions' along other dims."""
    along = {axis.name for axis in axes}
    kept = {
        name
        for name, coord in grid.coords.items()
        if along.issuperset(coord.dims) and name not in variables
    }
    own = {
        name
        for name, coord in predictions.coords.items()
        if not {PATCH, *along}.intersection(coord.dims) and name not in kept
    }
    result = grid.drop_vars([name for name in grid.variables if name not in kept])
    others = predictions.drop_vars([name for name in predictions.variables if name not in own])
    result = result.assign_coords(others.coords).assign(variables)
    result.attrs = dict(predictions.attrs)
    return result


def _stitched(
    name: Hashable, variable: Variable, axes: list[_Axis], grid: Dataset, options: _Options
) -> Variable:
    _check_blend(name, variable.dtype, options.blend)
    windows = WindowList(
        lengths=tuple(axis.length for axis in axes),
        size=tuple(axis.size for axis in axes),
        origins=np.stack([axis.starts for axis in axes], axis=1),
    )
    dims = tuple(dim for dim in variable.dims if dim != PATCH)
    recipe = Recipe(
        blend=options.blend,
        size=windows.size,
        axes=tuple(dims.index(axis.name) for axis in axes),
        patch_axis=variable.dims.index(PATCH),
        dtype=variable.dtype,
        fill=_fill(name, variable.dtype, options.fill_value),
        grid=forms_grid(windows),
    )
    array = _patch_array(variable, axes)
    mosaic = Mosaic(
        windows=windows,
        blocks=_blocks(name, variable, axes, grid, options.chunks),
        parts=array.chunks[recipe.patch_axis],
    )
    attrs = dict(variable.attrs)
    missed = uncovered(windows)
    if missed:
        attrs["uncovered"] = missed
    return Variable(dims, mosaic_array(array, mosaic, recipe), attrs)


def _check_blend(name: Hashable, dtype: np.dtype[Any], blend: Blend) -> None:
    if blend != "crop" and dtype.kind not in "iufc":
        raise TargetError(
            f"blend={blend!r} takes a mean, and {name!r} is {dtype}: use blend='crop', or convert "
            "it to numbers"
        )


def _fill(name: Hashable, dtype: np.dtype[Any], given: Any) -> Any:
    """Return the fill value as a scalar of the dtype."""
    value = given.get(name) if isinstance(given, Mapping) else given
    if value is None:
        none = {"f": np.nan, "c": np.nan, "O": np.nan, "M": "NaT", "m": "NaT"}.get(dtype.kind)
        return np.zeros((), dtype)[()] if none is None else np.asarray(none).astype(dtype)[()]
    try:
        with np.errstate(invalid="ignore", over="ignore"):
            fill = np.asarray(value).astype(dtype)
            # A float may be rounded; an integer that changes is another one.
            fits = fill.ndim == 0 and (dtype.kind in "fcmMO" or bool(fill == value))
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise TargetError(
            f"fill_value={value!r} does not fit {name!r}, which is {dtype}: give another, or one "
            "for each variable by name"
        )
    return fill[()]


def _patch_array(variable: Variable, axes: list[_Axis]) -> Any:
    """Return the patches as a dask array with whole windows."""
    if variable.chunks is None:
        length = variable.sizes[PATCH]
        stored = variable.encoding.get("preferred_chunks", {}).get(PATCH, 1)
        step = stored * max(1, _BLOCK_BYTES * length // max(1, variable.nbytes * stored))
        variable = variable.chunk({**dict.fromkeys(variable.dims, -1), PATCH: min(step, length)})
    return variable.chunk({axis.name: -1 for axis in axes}).data


def _blocks(
    name: Hashable,
    variable: Variable,
    axes: list[_Axis],
    grid: Dataset,
    chunks: Mapping[Hashable, int],
) -> tuple[tuple[int, ...], ...]:
    """Return the lengths of the result's blocks along each axis."""
    names = [axis.name for axis in axes]
    sources = [grid.variables[name]] if name in grid.data_vars else []
    rest = [v.variable for other, v in grid.data_vars.items() if other != name]
    sources += sorted(rest, key=lambda v: -len({*names}.intersection(v.dims)))
    known = [
        cut(axis.length, chunks[axis.name])
        if axis.name in chunks
        else _stored_lengths(sources, axis)
        for axis in axes
    ]
    windowed = {PATCH, *names}
    others = math.prod(n for dim, n in variable.sizes.items() if dim not in windowed)
    pixels = _BLOCK_BYTES // max(1, variable.dtype.itemsize * others)
    return block_lengths([axis.length for axis in axes], known, pixels=pixels, limit=_MAX_BLOCKS)


def _stored_lengths(sources: list[Variable], axis: _Axis) -> int | tuple[int, ...] | None:
    """Return the length of a shard along a dim, or the lengths of all chunks, or None."""
    for variable in sources:
        if axis.name not in variable.dims:
            continue
        preferred = variable.encoding.get("preferred_chunks") or {}
        # The encoding of a transposed variable still has the stored order, as these dims have.
        dims = list(preferred) or list(variable.dims)
        for key in ("shards", "chunks"):
            stored = variable.encoding.get(key)
            if stored is not None and len(stored) == len(dims) and axis.name in dims:
                return int(stored[dims.index(axis.name)])
        if variable.chunks is not None:
            return tuple(variable.chunksizes[axis.name])
    return None
