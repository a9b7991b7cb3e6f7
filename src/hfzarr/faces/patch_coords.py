"""Where patches lie: coordinates along the patches, and within one."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from xarray import Variable

from hfzarr.faces.members import PATCH, PatchSet, Shift
from hfzarr.faces.regions import cuts_of
from hfzarr.faces.windowing import spacing_along
from hfzarr.plan.axis import IntArray
from hfzarr.plan.tracks import Track
from hfzarr.plan.windows import AxisWindows, WindowGrid, WindowList

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = ["left_out_of", "window_coords"]


def window_coords(
    patches: PatchSet, windows: WindowGrid | WindowList, numbers: IntArray | None = None
) -> dict[Hashable, Variable]:
    """Return where each window lies, and the distances within one."""
    if numbers is None:
        numbers = np.arange(len(windows), dtype=np.int64)
        reference = windows.starts(numbers)
    else:
        reference = windows.starts(np.arange(len(windows)))
    coords: dict[Hashable, Variable] = {PATCH: Variable((PATCH,), numbers.astype(np.int64))}
    for member in patches.members:
        for dim, shift in member.shifts.items():
            name = member.dims.get(dim, dim)
            axis = patches.dims.index(dim)
            if f"{name}_start" in coords or dim not in member.dataset.sizes:
                continue
            track = Track(
                cuts=cuts_of(Variable((dim,), np.empty(member.dataset.sizes[dim], "u1")))[0],
                size=shift.size,
                ratio=shift.ratio,
                offset=shift.offset,
            )
            starts = track.starts(reference[:, axis])
            about = _about(patches.windows, axis, member.dataset.sizes[dim], shift)
            coords[f"{name}_start"] = Variable((PATCH,), starts.astype(np.int64), about)
            coords |= _world_coords(member.dataset, dim, name, starts, shift.size)
    return coords


def _about(
    windows: WindowGrid | WindowList, axis: int, length: int, shift: Shift
) -> dict[str, Any]:
    about: dict[str, Any] = {"length": length, "size": shift.size}
    if isinstance(windows, WindowGrid) and shift.ratio == 1.0:
        one = windows.axes[axis]
        about |= {"stride": one.stride, "edge": one.edge}
        if one.left_out:
            about["left_out"] = one.left_out
    return about


def _world_coords(
    dataset: Dataset, dim: Hashable, name: Hashable, starts: IntArray, size: int
) -> dict[Hashable, Variable]:
    coords: dict[Hashable, Variable] = {}
    if dim not in dataset.coords or dataset.coords[dim].dims != (dim,):
        return coords
    coord = dataset.coords[dim]
    values = np.asarray(coord.values)
    units = {"units": coord.attrs["units"]} if "units" in coord.attrs else {}
    spacing = spacing_along(dataset, dim)
    inside = (starts >= 0) & (starts < len(values))
    if values.dtype.kind in "iufmM":
        if spacing is not None and not inside.all():
            origins = spacing.origin + starts * spacing.step
            origins[inside] = values[starts[inside]]
        else:
            origins = values[np.clip(starts, 0, len(values) - 1)]
        coords[f"{name}_origin"] = Variable((PATCH,), origins, units)
    if spacing is not None:
        about = {**units, "long_name": f"distance from {name}_origin"}
        distances = np.arange(size) * spacing.step
        # Without the minus that a descending coordinate gives to zero.
        distances[:1] = abs(distances[:1])
        coords[name] = Variable((name,), distances, about)
    return coords


def left_out_of(patches: PatchSet) -> dict[str, int]:
    """Return the pixels at the end of each dimension that no window reaches, where there are any.

    Drawn windows leave out whatever they do; that is not counted.
    """
    if not isinstance(patches.windows, WindowGrid):
        return {}
    axes: Sequence[AxisWindows] = patches.windows.axes
    return {
        str(dim): axis.left_out
        for dim, axis in zip(patches.dims, axes, strict=True)
        if axis.left_out
    }
