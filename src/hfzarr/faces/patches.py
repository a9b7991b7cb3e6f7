"""Patches as a lazy Dataset."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from xarray import IndexVariable, Variable

from hfzarr.errors import TargetError
from hfzarr.faces.members import PATCH, Member, PatchSet, Shift
from hfzarr.faces.patch_coords import left_out_of, window_coords
from hfzarr.faces.regions import cuts_of, is_dask, region_of
from hfzarr.model.spacing import spacing_of
from hfzarr.plan.axis import IntArray
from hfzarr.plan.patches import plan_patches
from hfzarr.plan.tracks import Sampled, Track
from hfzarr.plan.windows import WindowGrid, WindowList
from hfzarr.run.graph import patch_arrays
from hfzarr.run.hold import PatchArrays
from hfzarr.run.tasks import PatchJob, run_threaded

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = [
    "Member",
    "PatchSet",
    "Shift",
    "label_patches",
    "left_out_of",
    "made_of",
    "patch_dataset",
    "patch_job",
    "patch_set",
    "stream_patches",
]

#: Where a Dataset of patches keeps how it is made: it travels with it, and is never written.
PLAN_KEY = "hfzarr_patches"
NAMES_KEY = "hfzarr_patch_names"


def patch_set(
    members: Sequence[Member],
    windows: WindowGrid | WindowList,
    dims: Sequence[Hashable],
    *,
    pad_value: Any = 0,
) -> PatchSet:
    """Gather what patches are made of.

    Raises
    ------
    TargetError
        No variable has a windowed dimension.
    """
    for member in members:
        _check_free(member)
    sources = [
        (member, name)
        for member in members
        for name, variable in member.dataset.variables.items()
        if set(variable.dims) & set(member.shifts) and not _is_told(member.dataset, name)
    ]
    if not any(name in member.dataset.data_vars for member, name in sources):
        raise TargetError(
            f"no variable has a dimension of {list(dims)}, so there is nothing to cut patches from"
        )
    variables = [_plain(member.dataset.variables[name]) for member, name in sources]
    regions = [region_of(variable) for variable in variables]
    names = tuple(str(_new_name(member, name)) for member, name in sources)
    unknown = (
        [name for name in pad_value if name not in names] if isinstance(pad_value, Mapping) else []
    )
    if unknown:
        raise TargetError(f"pad_value names {unknown}; what is cut is {list(names)}")
    arrays = PatchArrays(
        windows=windows,
        names=names,
        arrays=tuple(
            _sampled(variable, member, dims)
            for variable, (member, _) in zip(variables, sources, strict=True)
        ),
        regions=tuple(regions),
        dtypes=tuple(variable.dtype for variable in variables),
        pads=tuple(
            _pad_value(pad_value, name, variable)
            for name, variable in zip(names, variables, strict=True)
        ),
    )
    return PatchSet(
        windows=windows,
        dims=tuple(dims),
        members=tuple(members),
        sources=tuple(sources),
        arrays=arrays,
    )


def patch_dataset(patches: PatchSet, *, max_bytes: int) -> Dataset:
    """Return patches as a lazy Dataset, one dask task to a group of patches."""
    job = patch_job(patches, max_bytes=max_bytes)
    variables = [_plain(member.dataset.variables[name]) for member, name in patches.sources]
    chunked: dict[int, Any] = {
        i: one._data for i, one in enumerate(variables) if is_dask(one._data)
    }
    arrays = patch_arrays(job, f"patches-{uuid.uuid4().hex}", chunked)
    data: dict[Hashable, Variable] = {}
    coords = window_coords(patches, job.plan.windows)
    for (member, name), array in zip(patches.sources, arrays, strict=True):
        variable = member.dataset.variables[name]
        cut = Variable(_patch_dims(member, variable), array, variable.attrs)
        kind = data if name in member.dataset.data_vars else coords
        kind[_new_name(member, name)] = cut
    for member in patches.members:
        _keep_unpatched(member, data, coords)
    result = xr.Dataset(data, coords=coords, attrs=_attrs(patches))
    result.encoding[PLAN_KEY] = (patches, job)
    result.encoding[NAMES_KEY] = _graph_names(result)
    return result


def made_of(dataset: Dataset) -> tuple[PatchSet, PatchJob] | None:
    """Return how a Dataset of patches is made; None for any other, and for one that was changed.

    xarray keeps what travels with a Dataset when it selects from it or computes with it.
    """
    made: tuple[PatchSet, PatchJob] | None = dataset.encoding.get(PLAN_KEY)
    if made is None or dataset.encoding.get(NAMES_KEY) != _graph_names(dataset):
        return None
    return made


def _graph_names(dataset: Dataset) -> dict[Hashable, str]:
    """Return the names of the dask arrays, which differ for all that differs."""
    found: dict[Hashable, str] = {}
    for name, variable in dataset.data_vars.items():
        data: Any = variable.variable._data
        if PATCH in variable.dims and is_dask(data):
            found[name] = data.name
    return found


def stream_patches(
    dataset: Dataset, *, to: str = "xarray", ahead: int | None = None
) -> Iterator[Any]:
    """Yield the groups of a Dataset of patches, in memory and in order.

    Raises
    ------
    TargetError
        The Dataset is not one of patches, as it was made.
    """
    if to not in ("xarray", "numpy"):
        raise TargetError(f"patches are streamed to 'xarray' or 'numpy', not {to!r}")
    made = made_of(dataset)
    if made is None:
        raise TargetError(
            "wanted a Dataset as patches() or random_patches() returned it; compute a selection "
            "of one instead"
        )
    return _streamed(*made, to=to, ahead=ahead)


def _streamed(patches: PatchSet, job: PatchJob, *, to: str, ahead: int | None) -> Iterator[Any]:
    windows = job.plan.windows
    ordered = replace(patches, windows=windows)
    for group, arrays in run_threaded(job, ahead=ahead):
        numbers = np.arange(group.first, group.stop)
        values: dict[str, Any] = dict(zip(patches.arrays.names, arrays, strict=True))
        if to == "xarray":
            yield label_patches(ordered, numbers, values)
        else:
            yield {**values, PATCH: numbers, "start": windows.starts(numbers)}


def patch_job(patches: PatchSet, *, max_bytes: int) -> PatchJob:
    """Return the plan of all patches, and the arrays that it is about."""
    arrays = patches.arrays
    plan = plan_patches(patches.windows, arrays.arrays, max_bytes=max_bytes)
    return PatchJob(plan=plan, regions=arrays.regions, dtypes=arrays.dtypes, pads=arrays.pads)


def label_patches(patches: PatchSet, numbers: IntArray, values: Mapping[str, Any]) -> Dataset:
    """Return patches that are in memory as a Dataset like the lazy one.

    Parameters
    ----------
    patches
        What they were made of.
    numbers
        The windows' numbers.
    values
        The patches of each array.
    """
    origins = patches.windows.starts(numbers)
    listed = WindowList(lengths=patches.windows.lengths, size=patches.windows.size, origins=origins)
    coords = window_coords(patches, listed, numbers)
    data: dict[Hashable, Variable] = {}
    for member, name in patches.sources:
        variable = member.dataset.variables[name]
        new = _new_name(member, name)
        kind = data if name in member.dataset.data_vars else coords
        kind[new] = Variable(_patch_dims(member, variable), values[str(new)], variable.attrs)
    for member in patches.members:
        _keep_unpatched(member, data, coords)
    return xr.Dataset(data, coords=coords, attrs=_attrs(patches))


def _check_free(member: Member) -> None:
    """Raise if the Dataset has what patches are to have."""
    names = [member.dims.get(dim, dim) for dim in member.shifts]
    new = {PATCH, *(f"{name}{end}" for name in names for end in ("_start", "_origin", "_values"))}
    variables = member.dataset.variables
    # One patch of other patches has such coordinates: its place among those is told anew.
    scalars = {name for name in member.dataset.coords if not variables[name].dims}
    taken = new & ({*variables, *member.dataset.dims} - scalars)
    if taken:
        raise TargetError(
            f"patches are to have {sorted(map(str, taken))}, which the Dataset has: rename it first"
        )


def _is_told(dataset: Dataset, name: Hashable) -> bool:
    """Return whether a variable is a coordinate that origins and distances tell in full."""
    variable = dataset.variables[name]
    if not isinstance(variable, IndexVariable):
        return False
    # A dimension with levels has a coordinate of tuples, which the levels tell.
    levels = isinstance(dataset.indexes.get(name), pd.MultiIndex) and variable.dims == (name,)
    return levels or spacing_of(np.asarray(variable.values)) is not None


def _new_name(member: Member, name: Hashable) -> Hashable:
    """Return what a variable is called among patches."""
    if name in member.shifts:
        # The name of a dimension is taken by the distance from a patch's origin.
        return f"{member.dims.get(name, name)}_values"
    return member.names.get(name, name)


def _plain(variable: Variable) -> Variable:
    """Return a variable whose data is no index."""
    if not isinstance(variable, IndexVariable):
        return variable
    return Variable(variable.dims, np.asarray(variable.values), variable.attrs)


def _sampled(variable: Variable, member: Member, dims: Sequence[Hashable]) -> Sampled:
    tracks = []
    for dim, cuts, length in zip(variable.dims, cuts_of(variable), variable.shape, strict=True):
        shift = member.shifts.get(dim)
        if shift is None:
            tracks.append(Track(cuts=cuts, size=length))
        else:
            tracks.append(
                Track(
                    cuts=cuts,
                    size=shift.size,
                    window=list(dims).index(dim),
                    ratio=shift.ratio,
                    offset=shift.offset,
                )
            )
    data = variable._data
    held = is_dask(data) or isinstance(data, np.ndarray)
    return Sampled(tracks=tuple(tracks), itemsize=variable.dtype.itemsize, held=held)


def _pad_value(given: Any, name: str, variable: Variable) -> Any:
    """Return what lies outside a variable, as a value of its data type."""
    value = given.get(name, 0) if isinstance(given, Mapping) else given
    dtype = variable.dtype
    plain = isinstance(value, (int, float)) and value == 0
    if plain and dtype.kind in "mM":
        return np.array("NaT", dtype)
    if plain and dtype.kind in "SUTVO":
        return np.zeros((), dtype)[()] if dtype.kind != "O" else _no_object(variable)
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            fitting = np.asarray(value).astype(dtype)[()]
        same = bool(fitting == value) or bool(value != value and fitting != fitting)
    except (TypeError, ValueError, OverflowError):
        same = False
    if not same:
        raise TargetError(f"pad_value {value!r} cannot be a value of {name!r}, which is {dtype}")
    return fitting


def _no_object(variable: Variable) -> str | None:
    """Return what stands for no object: no text among texts, else None."""
    data = variable._data
    first = data.flat[0] if isinstance(data, np.ndarray) and data.size else None
    texts = isinstance(first, str) or (variable.dtype.metadata or {}).get("element_type") is str
    return "" if texts else None


def _patch_dims(member: Member, variable: Variable) -> tuple[Hashable, ...]:
    return (PATCH, *[member.dims.get(dim, dim) for dim in variable.dims])


def _keep_unpatched(
    member: Member, data: dict[Hashable, Variable], coords: dict[Hashable, Variable]
) -> None:
    """Add the variables without a windowed dimension, as they are."""
    dataset = member.dataset
    for name, variable in dataset.variables.items():
        if set(variable.dims) & set(member.shifts):
            continue
        if name in dataset.data_vars:
            data.setdefault(member.names.get(name, name), variable)
        else:
            coords.setdefault(name, variable)


def _attrs(patches: PatchSet) -> dict[Hashable, Any]:
    attrs = dict(patches.members[0].dataset.attrs)
    lengths = dict(zip(patches.dims, patches.windows.lengths, strict=True))
    left_out = [f"{dim}: {n} of {lengths[dim]} px" for dim, n in left_out_of(patches).items()]
    if left_out:
        attrs["left_out"] = ", ".join(left_out)
    return attrs
