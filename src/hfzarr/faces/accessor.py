"""``.hfzarr`` on Dataset and DataTree."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import xarray as xr

from hfzarr.errors import TargetError
from hfzarr.faces.alignment import reference
from hfzarr.faces.images import PYRAMID_KEY, Pyramid
from hfzarr.faces.patches import patch_dataset, patch_set
from hfzarr.faces.windowing import Lengths, Units, memory_bytes, window_grid, window_size
from hfzarr.model.report import Diagnosis
from hfzarr.plan.windows import Edge

if TYPE_CHECKING:
    from xarray import Dataset, DataTree

__all__ = ["DatasetAccessor", "TreeAccessor"]

#: Where the diagnosis is kept: it travels with the object and is never written to a file.
DIAGNOSIS_KEY = "hfzarr_diagnosis"
#: What patches may hold in memory unless they are told otherwise.
MAX_MEMORY = "256 MiB"


@xr.register_dataset_accessor("hfzarr")  # type: ignore[no-untyped-call]
class DatasetAccessor:
    """What hfzarr adds to a Dataset."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def diagnose(self) -> Diagnosis:
        """Return what the store turned out to be, and every departure from its specification.

        Raises
        ------
        TargetError
            The Dataset was not opened with ``engine="hfzarr"``, or was computed from one that
            was.

        Examples
        --------
        >>> import xarray as xr, zarr
        >>> memory = zarr.storage.MemoryStore()
        >>> _ = zarr.create_array(memory, name="a", shape=(2,), dtype="i4")
        >>> xr.open_dataset(memory, engine="hfzarr", group="a").hfzarr.diagnose().ok
        True
        """
        return _diagnosis(self._dataset.encoding)

    def patches(
        self,
        size: Mapping[Any, Any],
        *,
        stride: Lengths | None = None,
        overlap: Lengths | None = None,
        edge: Edge = "drop",
        units: Units = "px",
        level: int | str | None = None,
        pad_value: Any = 0,
        max_memory: int | str = MAX_MEMORY,
    ) -> Dataset:
        """Return all windows of a size as patches along a leading dimension, lazily.

        Every variable with a windowed dimension is cut; the others come along as they are. One
        dask task makes a group of patches, and each chunk of the store is decoded once for all
        the patches that share it.

        Parameters
        ----------
        size
            Length of a window along each dimension that it has, such as ``{"y": 64, "x": 64}``.
            Dimensions that it does not name stay whole.
        stride, overlap
            How far windows are apart, or how much of one the next one shares: a length for all
            dimensions or a mapping. Without either, windows lie side by side.
        edge
            What becomes of the pixels that whole strides do not reach: ``"drop"`` leaves them out
            (``attrs["left_out"]`` counts them), ``"shift"`` moves a last window back until it
            ends with the array, ``"pad"`` lets it stick out.
        units
            ``"px"``, or ``"world"`` for lengths in the units of the coordinates, rounded to
            whole pixels; along time, lengths such as ``"6h"``.
        level
            Another level of the image that this Dataset is a level of, by name or number.
        pad_value
            What windows hold where they stick out; a mapping gives it by variable. Times get
            NaT, text is empty.
        max_memory
            Bytes, or text such as ``"256 MB"``: what carrying this out may hold in memory, but
            for a window whose own chunks take more.

        Returns
        -------
        xarray.Dataset
            With the dimension ``patch`` before the variable's own. For a windowed dimension
            ``y``: ``y_start`` (pixel at which a patch starts, from 0) and ``y_origin`` (its
            coordinate) along ``patch``, and along ``y`` the distance from there. Nothing is read
            yet.

        Raises
        ------
        TargetError
            A length does not fit, or names no dimension.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> ds = xr.Dataset({"image": (("y", "x"), np.arange(20).reshape(4, 5))})
        >>> patches = ds.hfzarr.patches({"y": 2, "x": 2}, edge="shift")
        >>> dict(patches.image.sizes), patches.x_start.values.tolist()
        ({'patch': 6, 'y': 2, 'x': 2}, [0, 2, 3, 0, 2, 3])
        >>> patches.image[2].values.tolist()
        [[3, 4], [8, 9]]
        """
        dataset = _at_level(self._dataset, level)
        found = window_size(dataset, size, units)
        windows = window_grid(
            dataset, found, stride=stride, overlap=overlap, edge=edge, units=units
        )
        patches = patch_set([reference(dataset, found)], windows, list(found), pad_value=pad_value)
        return patch_dataset(patches, max_bytes=memory_bytes(max_memory))

    def chunk(self, by: Literal["inner", "shard"] = "inner") -> Dataset:
        """Return the Dataset with dask chunks that follow its store.

        Parameters
        ----------
        by
            ``"inner"`` for one dask chunk per inner chunk, as ``chunks={}`` gives; ``"shard"``
            for one per shard, which is what writing back needs: two tasks that write one shard
            lose data. An array without shards goes by its inner chunks.

        Raises
        ------
        TargetError
            ``by`` is neither.
        """
        if by not in ("inner", "shard"):
            raise TargetError(f"chunk by 'inner' or 'shard', not {by!r}")
        dataset = self._dataset
        chunked = {
            name: variable.chunk(_chunks(variable, by))
            for name, variable in dataset.variables.items()
            if name not in dataset.xindexes and _chunks(variable, by)
        }
        return dataset._replace({**dataset._variables, **chunked})


def _at_level(dataset: Dataset, level: int | str | None) -> Dataset:
    """Return another level of the image that a Dataset is a level of."""
    if level is None:
        return dataset
    pyramid = dataset.encoding.get(PYRAMID_KEY)
    if not isinstance(pyramid, Pyramid):
        raise TargetError(
            "level= is for a Dataset as engine='hfzarr' opens an image: open the level that you "
            "want, or cut patches from the tree"
        )
    own = pyramid.level(dataset.attrs.get("level", 0))
    if dict(own.sizes) != dict(dataset.sizes) or set(own.data_vars) != set(dataset.data_vars):
        raise TargetError(
            f"level= would lose what was selected: the level has {dict(own.sizes)}, the Dataset "
            f"{dict(dataset.sizes)}. Open the other level and select there"
        )
    return pyramid.level(level)


def _chunks(variable: xr.Variable, by: str) -> dict[Hashable, int]:
    """Return the chunk lengths by dim; where dims were added or dropped, what is still known."""
    preferred: dict[Hashable, int] = dict(variable.encoding.get("preferred_chunks", {}))
    shard = variable.encoding.get("shards")
    if by == "shard" and shard is not None and len(shard) == len(preferred):
        preferred = dict(zip(preferred, shard, strict=True))
    return {dim: n for dim, n in preferred.items() if dim in variable.dims}


@xr.register_datatree_accessor("hfzarr")  # type: ignore[no-untyped-call]
class TreeAccessor:
    """What hfzarr adds to a DataTree."""

    def __init__(self, tree: DataTree) -> None:
        self._tree = tree

    def diagnose(self) -> Diagnosis:
        """Return what the store turned out to be, and every departure from its specification.

        Raises
        ------
        TargetError
            The tree was not opened with ``engine="hfzarr"``.
        """
        return _diagnosis(self._tree.encoding)

    def chunk(self, by: Literal["inner", "shard"] = "inner") -> DataTree:
        """Return the tree with dask chunks that follow its store; see `DatasetAccessor.chunk`."""
        return xr.map_over_datasets(lambda node: DatasetAccessor(node).chunk(by), self._tree)


def _diagnosis(encoding: Any) -> Diagnosis:
    found = encoding.get(DIAGNOSIS_KEY)
    if isinstance(found, Diagnosis):
        return found
    raise TargetError(
        "there is no diagnosis here: open the store with engine='hfzarr' and diagnose the result "
        "before computing with it"
    )
