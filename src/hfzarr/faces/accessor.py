"""``.hfzarr`` on Dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import xarray as xr

from hfzarr.faces.diagnosis import DIAGNOSIS_KEY, diagnosis_of
from hfzarr.model.report import Diagnosis

if TYPE_CHECKING:
    from xarray import Dataset

    from hfzarr.faces.batches import Batches, Kind
    from hfzarr.faces.excerpt import Projection
    from hfzarr.faces.picture import Picture
    from hfzarr.faces.windowing import Lengths, Units
    from hfzarr.plan.cost import Cost
    from hfzarr.plan.reshard import Resharded
    from hfzarr.plan.windows import Edge

__all__ = ["BATCHES_MEMORY", "DIAGNOSIS_KEY", "MAX_MEMORY", "DatasetAccessor", "diagnosis_of"]

#: What patches may hold in memory unless they are told otherwise.
MAX_MEMORY = "256 MiB"
#: The same for batches, which shuffle within what they hold.
BATCHES_MEMORY = "1 GiB"


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
            It was not opened with ``engine="hfzarr"``, or was computed from one that was.

        Examples
        --------
        >>> import xarray as xr, zarr
        >>> memory = zarr.storage.MemoryStore()
        >>> _ = zarr.create_array(memory, name="a", shape=(2,), dtype="i4")
        >>> xr.open_dataset(memory, engine="hfzarr", group="a").hfzarr.diagnose().ok
        True
        """
        return diagnosis_of(self._dataset.encoding)

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
            (``attrs["left_out"]`` says how many, ``y_start.attrs["left_out"]`` as a number),
            ``"shift"`` moves a last window back until it ends with the array, ``"pad"`` lets it
            stick out.
        units
            ``"px"``, or ``"world"`` for lengths in the units of the coordinates, rounded to
            whole pixels; along time, lengths such as ``"6h"``.
        level
            Another level of the image that this Dataset is a level of, by name or number.
        pad_value
            What windows hold where they stick out; a mapping gives it by variable. Times get
            NaT, text is empty, objects are None.
        max_memory
            Bytes, or text such as ``"256 MB"``: what carrying this out may hold in memory, but
            for a window whose own chunks take more.

        Returns
        -------
        xarray.Dataset
            With the dimension ``patch`` before the variable's own. For a windowed dimension
            ``y``: ``y_start`` (pixel at which a patch starts, from 0) and ``y_origin`` (its
            coordinate) along ``patch``, and along ``y`` the distance from there; where coordinates
            are not evenly spaced, ``y_values`` instead. Nothing is read yet.

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
        from hfzarr.faces.sampling import dataset_members, grid_patches

        members = dataset_members(self._dataset, size, units, level)
        return grid_patches(
            members, stride, overlap, edge, units, pad_value=pad_value, max_memory=max_memory
        )

    def random_patches(
        self,
        n: int,
        size: Mapping[Any, Any],
        seed: Any = None,
        *,
        where: Any = None,
        min_foreground: float = 0.1,
        units: Units = "px",
        level: int | str | None = None,
        max_memory: int | str = MAX_MEMORY,
    ) -> Dataset:
        """Return windows at drawn places as patches along a leading dimension, lazily.

        Parameters
        ----------
        n
            How many to draw, with replacement.
        size
            Length of a window along each dimension that it has; others stay whole.
        seed
            Anything that `numpy.random.default_rng` takes; the same seed draws the same windows.
        where
            The foreground: a mask or labels (what is not 0) as a DataArray, at any resolution, as
            coordinates tell where it lies; or a function of the Dataset that returns one. It is
            read at once. Every window inside the Dataset with enough foreground is as likely.
        min_foreground
            Which part of a window is enough.
        units, level, max_memory
            As for `patches`.

        Returns
        -------
        xarray.Dataset
            Like that of `patches`. Patches come in the order in which they are best read; take
            them in another one with ``.isel(patch=...)``, or shuffled from `batches`.

        Raises
        ------
        TargetError
            A length or the mask does not fit, or no window has enough foreground.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> image = xr.DataArray(np.arange(64).reshape(8, 8), dims=("y", "x"))
        >>> ds = xr.Dataset({"image": image})
        >>> patches = ds.hfzarr.random_patches(
        ...     3, {"y": 2, "x": 2}, seed=0, where=image >= 48, min_foreground=1.0
        ... )
        >>> patches.y_start.values.tolist(), bool((patches.image >= 48).all())
        ([6, 6, 6], True)
        """
        from hfzarr.faces.sampling import cut_patches, dataset_members, drawn_windows

        members = dataset_members(self._dataset, size, units, level)
        windows = drawn_windows(
            members[0], n, seed=seed, where=where, min_foreground=min_foreground
        )
        return cut_patches(members, windows, pad_value=0, max_memory=max_memory)

    def batches(
        self,
        batch_size: int,
        size: Mapping[Any, Any],
        *,
        stride: Lengths | None = None,
        overlap: Lengths | None = None,
        edge: Edge = "drop",
        units: Units = "px",
        level: int | str | None = None,
        pad_value: Any = 0,
        n: int | None = None,
        where: Any = None,
        min_foreground: float = 0.1,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        prefetch: int = 2,
        to: Kind = "numpy",
        transform: Callable[[Any], Any] | None = None,
        max_memory: int | str = BATCHES_MEMORY,
    ) -> Batches:
        """Return patches as a stream of batches for training, one epoch each time it is iterated.

        Every window comes once in an epoch, in an order that depends on `seed` and the epoch
        alone. It is local to shards: windows of a few shards, which are drawn, are shuffled
        together, so that a chunk is decoded about once an epoch.

        Parameters
        ----------
        batch_size
            Patches in a batch.
        size, stride, overlap, edge, units, level, pad_value
            Which windows, as for `patches`.
        n, where, min_foreground
            With `n`, that many windows drawn with `seed` as for `random_patches`, in the place of
            all windows; the same ones in every epoch.
        shuffle
            Whether to shuffle; otherwise windows come shard by shard.
        seed
            What the order depends on.
        rank, world_size
            Which of how many processes this is: each gets its own windows, and as many batches.
        drop_last
            Whether to leave out what fills no whole batch on every rank. Otherwise every window
            comes, and batches differ in size by at most one.
        prefetch
            Batches made ahead on a thread; 0 for none.
        to
            ``"numpy"``: dicts of arrays by variable, with ``"patch"`` and ``"start"`` beside
            them; ``"torch"``: the same as tensors, from an ``IterableDataset`` that a
            ``DataLoader(batches, batch_size=None, num_workers=...)`` takes; ``"xarray"``:
            Datasets like that of `patches`.
        transform
            Called with each batch; what it returns is the batch.
        max_memory
            Bytes, or text such as ``"512 MB"``, that each process that reads may hold.

        Returns
        -------
        Batches
            With ``len()``, ``set_epoch``, ``state_dict`` and ``load_state_dict``.

        Raises
        ------
        TargetError
            An option is out of its range, or memory is too small for the batches.
        MissingDependencyError
            Tensors are wanted and torch is not installed.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> ds = xr.Dataset({"image": (("y", "x"), np.arange(16).reshape(4, 4))})
        >>> batches = ds.hfzarr.batches(2, {"y": 2, "x": 2}, seed=1)
        >>> [batch["image"].shape for batch in batches]
        [(2, 2, 2), (2, 2, 2)]
        """
        from hfzarr.faces.sampling import choose_windows, cut_batches, dataset_members

        members = dataset_members(self._dataset, size, units, level)
        windows = choose_windows(
            members[0], stride, overlap, edge, units, n, where, min_foreground, seed
        )
        return cut_batches(
            members,
            windows,
            batch_size,
            pad_value=pad_value,
            shuffle=shuffle,
            seed=seed,
            rank=rank,
            world_size=world_size,
            drop_last=drop_last,
            prefetch=prefetch,
            max_memory=max_memory,
            to=to,
            transform=transform,
        )

    def stream(
        self, *, to: Literal["xarray", "numpy"] = "xarray", ahead: int | None = None
    ) -> Iterator[Any]:
        """Iterate over patches in memory, group by group, without dask.

        For a Dataset that `patches` or `random_patches` returned, as it was returned.

        Parameters
        ----------
        to
            ``"xarray"`` for Datasets, ``"numpy"`` for dicts of arrays as `batches` makes them.
        ahead
            Groups under way while one is used; by default one more than there are threads.

        Yields
        ------
        xarray.Dataset or dict
            Some of the patches, in order.

        Raises
        ------
        TargetError
            This is no such Dataset, or patches were selected from it.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> ds = xr.Dataset({"image": (("x",), np.arange(6))})
        >>> [group.image.values.tolist() for group in ds.hfzarr.patches({"x": 3}).hfzarr.stream()]
        [[[0, 1, 2], [3, 4, 5]]]
        """
        from hfzarr.faces.patches import stream_patches

        return stream_patches(self._dataset, to=to, ahead=ahead)

    def explain(self, size: Mapping[Any, Any] | None = None, **options: Any) -> Cost:
        """Return what patches, batches or the Dataset as it is would read, without reading a pixel.

        Parameters
        ----------
        size
            Length of a window along each dimension that it has. Without it, the cost of computing
            the Dataset as it is: a selection, or patches that `patches` returned or some of them.
        **options
            Those of `patches`; with ``n=``, of `random_patches`; with ``batch_size=``, of
            `batches`, for the epoch ``epoch=``, 0 by default.

        Returns
        -------
        Cost
            Requests, chunks, bytes, tasks and memory by variable; it prints as a table. Sizes of
            files and indexes of shards are asked of the store, of some if there are many.

        Raises
        ------
        TargetError
            There is no such option, or one does not fit.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> ds = xr.Dataset({"image": (("y", "x"), np.zeros((6, 6), "u1"))}).chunk(y=3, x=3)
        >>> cost = ds.hfzarr.explain({"y": 2, "x": 2}, stride=2)
        >>> cost.chunks, cost.bytes_delivered, round(cost.naive_amplification, 2)
        (4, 36, 4.0)
        """
        from hfzarr.faces.explain import explain

        return explain(type(self), self._dataset, size, options)

    def thumbnail(
        self,
        size: int | None = 256,
        *,
        level: int | str | None = None,
        project: Projection = "max",
        labels: bool | str | Sequence[str] = False,
        cmap: str | None = None,
        max_bytes: int | str = "64 MiB",
    ) -> Picture:
        """Return a picture of the image, from the coarsest level that serves.

        Parameters
        ----------
        size, level, project, labels, cmap, max_bytes
            As for `hfzarr.faces.thumbnail.thumbnail`, which says what is shown.

        Returns
        -------
        numpy.ndarray
            ``uint8``, shape ``(height, width, 3)``.

        Raises
        ------
        TargetError
            There are no two dimensions to show, or one chunk takes more than `max_bytes`.

        Examples
        --------
        >>> xr.Dataset({"mask": (("y", "x"), [[True]])}).hfzarr.thumbnail().tolist()
        [[[255, 255, 255]]]
        """
        from hfzarr.faces.thumbnail import thumbnail

        how: dict[str, Any] = {"project": project, "labels": labels, "cmap": cmap}
        return thumbnail(self._dataset, size, level=level, max_bytes=max_bytes, **how)

    def reshard(self, target: Any, **options: Any) -> Resharded:
        """Write the store that the Dataset was opened from anew, with many chunks in each file.

        All of the node that was opened is written: each level of an image and its labels, every
        group and array below.

        Parameters
        ----------
        target
            A path or URL that is empty or not there.
        **options
            Those of `hfzarr.reshard`.

        Raises
        ------
        TargetError
            The Dataset was not opened with ``engine="hfzarr"``, or is a selection of what was.

        Examples
        --------
        >>> import tempfile, numpy as np, xarray as xr
        >>> folder = tempfile.mkdtemp()
        >>> made = xr.Dataset({"a": (("y", "x"), np.arange(64).reshape(8, 8))}).chunk(y=1)
        >>> _ = made.to_zarr(f"{folder}/a.zarr", zarr_format=3, consolidated=False)
        >>> ds = xr.open_dataset(f"{folder}/a.zarr", engine="hfzarr", consolidated=False)
        >>> ds.hfzarr.reshard(f"{folder}/b.zarr", progress=False).files
        3
        """
        from hfzarr.faces.origin import origin_of_dataset
        from hfzarr.faces.reshard import reshard

        return reshard(origin_of_dataset(self._dataset), target, **options)

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
        from hfzarr.faces.chunking import chunk_by

        return chunk_by(self._dataset, by)
