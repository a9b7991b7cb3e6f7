"""What a handle refers to as one xarray variable, with its coordinates or without."""

from __future__ import annotations

import contextlib
import posixpath
from typing import TYPE_CHECKING, Any

from hfzarr.errors import AmbiguousTargetError, UnnamedDimensionsError

if TYPE_CHECKING:
    from xarray import Dataset

    from hfzarr.rows.handle import ZarrHandle

__all__ = ["labeled_dataset", "pixels_variable"]

_UNDECODED = {"decode_times": False, "mask_and_scale": False, "decode_coords": False}


def pixels_variable(handle: ZarrHandle, level: int | str = 0) -> Any:
    """Return an array, or a level of an image, as a lazy DataArray of its pixels as stored."""
    if handle.kind == "image":
        dataset = handle.open_dataset(level=level)
        return next(iter(dataset.data_vars.values()))
    handle.store.pixels(handle.node, level)  # refuses a group, with the names of its arrays
    dataset = handle.open_dataset(**_UNDECODED)
    return next(iter({**dataset.data_vars, **dataset.coords}.values()))


def labeled_dataset(
    handle: ZarrHandle, level: int | str = 0, **options: Any
) -> tuple[Dataset, Any]:
    """Return an array, or a level of an image, as a lazy Dataset, and its name in that.

    An array in a group comes with the coordinates that lie beside it.
    """
    if handle.kind == "image":
        dataset = handle.open_dataset(level=level, **options)
        return dataset, next(iter(dataset.data_vars))
    handle.store.pixels(handle.node)
    name = posixpath.basename(handle.node)
    if handle.node:
        group = handle.at(type(handle), posixpath.dirname(handle.node))
        # Where they are raised, the arrays beside it have nothing to do with it.
        with contextlib.suppress(UnnamedDimensionsError, AmbiguousTargetError):
            beside = group.open_dataset(**options)
            if name in beside.variables:
                return beside[[name]], name
    dataset = handle.open_dataset(**options)
    return dataset, next(iter({**dataset.data_vars, **dataset.coords}))
