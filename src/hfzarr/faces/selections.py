"""A plan of patches as a manifest of selections, to be saved, handed on and read later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hfzarr.errors import TargetError
from hfzarr.faces.images import PYRAMID_KEY
from hfzarr.faces.origin import origin_of_dataset
from hfzarr.rows.manifest import Manifest
from hfzarr.rows.selection import Span, ZarrSelection
from hfzarr.store.location import Location, join_path
from hfzarr.store.options import StorageOptions

if TYPE_CHECKING:
    from xarray import Dataset

    from hfzarr.rows.handle import ZarrHandle

__all__ = ["selections"]

#: Name of the column of selections.
COLUMN = "patch"


def selections(dataset: Dataset, patches: Dataset, variable: str | None = None) -> Manifest:
    """Return where patches lie as a manifest, a row for each, without reading any.

    Parameters
    ----------
    dataset
        What the patches were cut from, as ``engine="hfzarr"`` opened it from a folder, zip or URL.
    patches
        What ``dataset.hfzarr.patches(...)`` or ``random_patches(...)`` returned, or a selection of
        it along ``patch``.
    variable
        Which variable, where there are several.

    Returns
    -------
    Manifest
        With the columns ``patch`` (the selections) and ``<dim>_start`` (the first pixel of a
        patch along each dim that was cut).

    Raises
    ------
    TargetError
        The Dataset was changed after it was opened, lies in memory, or windows stick out of it.

    Examples
    --------
    >>> import numpy as np, tempfile, xarray as xr, zarr
    >>> folder = tempfile.mkdtemp() + "/heights.zarr"
    >>> _ = zarr.create_array(folder, data=np.eye(6), dimension_names=["y", "x"])
    >>> ds = xr.open_dataset(folder, engine="hfzarr")
    >>> manifest = selections(ds, ds.hfzarr.patches({"y": 3, "x": 3}))
    >>> len(manifest), manifest[1]["patch"].read().sum().item()
    (4, 0.0)
    """
    import pyarrow as pa

    from hfzarr.rows.cells import selection_type
    from hfzarr.rows.opening import open_manifest

    name = _variable(dataset, variable)
    handle, level = _place(dataset, name)
    starts = _starts(dataset, patches, name)
    sides = [
        (starts.get(dim), patches.sizes[dim] if dim in starts else n)
        for dim, n in zip(dataset[name].dims, dataset[name].shape, strict=True)
    ]
    cells = [
        ZarrSelection(handle, tuple(_span(some, n, i) for some, n in sides), level)
        for i in range(patches.sizes["patch"])
    ]
    struct = pa.array([dict(cell.items()) for cell in cells], selection_type())
    columns = {f"{dim}_start": pa.array(some) for dim, some in starts.items()}
    table = pa.table({COLUMN: struct, **columns})
    options = handle.options.resolve()
    return open_manifest(
        table, COLUMN, storage_options=options or None, trusted=True, duplicates="keep"
    )


def _variable(dataset: Dataset, variable: str | None) -> Any:
    names = list(dataset.data_vars)
    if variable is None and len(names) == 1:
        return names[0]
    if variable in names:
        return variable
    raise TargetError(f"variable= names one of {names}, not {variable!r}")


def _place(dataset: Dataset, name: Any) -> tuple[ZarrHandle, str]:
    """Return the handle of what a variable shows, and the level that it is of an image."""
    from hfzarr.rows.handle import ZarrHandle

    try:
        location: Location = origin_of_dataset(dataset)
    except TargetError as error:
        raise TargetError(
            "a selection counts the pixels of a store, so the first Dataset is to be as "
            "engine='hfzarr' opened it: not a part of it, nor changed, nor the rows of a manifest"
        ) from error
    if location.kind == "object":
        raise TargetError(
            f"{location.shown} lies in memory, so nobody else could read a selection of it. Open "
            "the Dataset from a folder or a URL."
        )
    options = StorageOptions.of(location.storage_options)
    handle = ZarrHandle(location.url, location.path, options)
    pyramid = dataset.encoding.get(PYRAMID_KEY)
    if pyramid is not None:
        image = ZarrHandle(location.url, pyramid.image.where, options)
        return image, str(dataset.attrs["level"])
    if handle.kind == "array":
        return handle, ""
    return ZarrHandle(location.url, join_path(location.path, str(name)), options), ""


def _starts(dataset: Dataset, patches: Dataset, name: Any) -> dict[Any, Any]:
    """Return, for each dim that was cut, the first pixel of each patch."""
    dims = dataset[name].dims
    starts = {dim: patches[f"{dim}_start"].values for dim in dims if f"{dim}_start" in patches}
    if "patch" not in patches.dims or not starts:
        raise TargetError(
            "the second Dataset is to be what .hfzarr.patches() or .random_patches() returned, "
            f"with a dim 'patch' and coordinates such as 'y_start'; this has {list(patches.sizes)}"
        )
    for dim, some in starts.items():
        low, high = int(np.min(some, initial=0)), int(np.max(some, initial=0)) + patches.sizes[dim]
        if low < 0 or high > dataset.sizes[dim]:
            raise TargetError(
                f"windows reach from {low} to {high} along {dim!r}, and there are "
                f"{dataset.sizes[dim]} pixels: a selection lies within. Use edge='shift' or 'drop'."
            )
    return starts


def _span(starts: Any, length: int, number: int) -> Span:
    first = 0 if starts is None else int(starts[number])
    return Span(first, first + length)
