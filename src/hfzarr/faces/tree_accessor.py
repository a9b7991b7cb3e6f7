"""``.hfzarr`` on DataTree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import xarray as xr

from hfzarr.faces.accessor import BATCHES_MEMORY, MAX_MEMORY, DatasetAccessor, diagnosis_of
from hfzarr.model.report import Diagnosis

if TYPE_CHECKING:
    from xarray import Dataset, DataTree

    from hfzarr.faces.alignment import Context
    from hfzarr.faces.batches import Batches, Kind
    from hfzarr.faces.excerpt import Projection
    from hfzarr.faces.picture import Picture
    from hfzarr.faces.windowing import Lengths, Units
    from hfzarr.plan.cost import Cost
    from hfzarr.plan.reshard import Resharded
    from hfzarr.plan.windows import Edge

__all__ = ["TreeAccessor"]

Labels = Sequence[str] | str | bool


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
        return diagnosis_of(self._tree.encoding)

    def patches(
        self,
        size: Mapping[Any, Any],
        *,
        stride: Lengths | None = None,
        overlap: Lengths | None = None,
        edge: Edge = "drop",
        units: Units = "px",
        level: int | str | None = None,
        levels: Sequence[int | str] | None = None,
        labels: Labels = (),
        context: Context = "same",
        pad_value: Any = 0,
        max_memory: int | str = MAX_MEMORY,
    ) -> Dataset:
        """Return patches of an image, its labels and further levels under the same windows.

        Parameters
        ----------
        size, stride, overlap, edge, units, pad_value, max_memory
            As for `DatasetAccessor.patches`, in pixels of the level that windows lie on.
        level
            The level that windows lie on, by name or number; the finest by default.
        levels
            Several levels; windows lie on the first.
        labels
            Names of label images, or True for all of them: of each, the level whose pixels are
            nearest in size.
        context
            What windows show of a further level: ``"same"``, the same region in fewer pixels, or
            ``"wide"``, as many pixels around the same centre, padded at the array's edges.

        Returns
        -------
        xarray.Dataset
            Variables of the first level under their own names, of level ``2`` as ``image_2``,
            and labels under their names. Where their windows have other pixels, dimensions have
            the same suffix: ``y_2``, ``y_2_start``, ``y_2_origin``. They are aligned by world
            coordinates, to the nearest pixel.

        Raises
        ------
        NodeNotFoundError
            This node has no such level or labels.
        TargetError
            A length does not fit, or coordinates do not tell how two levels lie on each other.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> def image(n, step):
        ...     x = (np.arange(n) + 0.5) * step
        ...     return xr.Dataset({"image": ("x", np.arange(n))}, coords={"x": x})
        >>> tree = xr.DataTree.from_dict({"0": image(8, 1.0), "1": image(4, 2.0)})
        >>> patches = tree.hfzarr.patches({"x": 4}, levels=[0, 1])
        >>> patches.image.values.tolist(), patches.image_1.values.tolist()
        ([[0, 1, 2, 3], [4, 5, 6, 7]], [[0, 1], [2, 3]])
        """
        from hfzarr.faces.sampling import grid_patches, tree_members

        members = tree_members(
            self._tree, size, units, level=level, levels=levels, labels=labels, context=context
        )
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
        levels: Sequence[int | str] | None = None,
        labels: Labels = (),
        context: Context = "same",
        pad_value: Any = 0,
        max_memory: int | str = MAX_MEMORY,
    ) -> Dataset:
        """Return windows at drawn places as patches, of several levels and labels.

        Parameters
        ----------
        n, size, seed, min_foreground, units, max_memory
            As for `DatasetAccessor.random_patches`.
        where
            As there, or the name of a label image, of which a coarse level is read.
        level, levels, labels, context, pad_value
            As for `patches`.

        Raises
        ------
        NodeNotFoundError
            This node has no such level or labels.
        TargetError
            A length or the mask does not fit, or no window has enough foreground.
        """
        from hfzarr.faces.sampling import cut_patches, drawn_windows, tree_members

        members = tree_members(
            self._tree, size, units, level=level, levels=levels, labels=labels, context=context
        )
        windows = drawn_windows(
            members[0],
            n,
            seed=seed,
            where=self._mask(where),
            min_foreground=min_foreground,
        )
        return cut_patches(members, windows, pad_value=pad_value, max_memory=max_memory)

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
        levels: Sequence[int | str] | None = None,
        labels: Labels = (),
        context: Context = "same",
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
        """Return patches of an image, its labels and further levels as a stream of batches.

        Options are those of `patches` and of `DatasetAccessor.batches`; `where` may name a label
        image.

        Raises
        ------
        NodeNotFoundError
            This node has no such level or labels.
        TargetError
            An option is out of its range, or memory is too small for the batches.
        MissingDependencyError
            Tensors are wanted and torch is not installed.
        """
        from hfzarr.faces.sampling import choose_windows, cut_batches, tree_members

        members = tree_members(
            self._tree, size, units, level=level, levels=levels, labels=labels, context=context
        )
        mask = self._mask(where)
        windows = choose_windows(
            members[0], stride, overlap, edge, units, n, mask, min_foreground, seed
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
            to=to,
            transform=transform,
            max_memory=max_memory,
        )

    def explain(self, size: Mapping[Any, Any] | None = None, **options: Any) -> Cost:
        """Return what patches, batches or the tree as it is would read, without reading a pixel.

        Options are those of `patches`, `random_patches` (with ``n=``) or `batches` (with
        ``batch_size=``); see `DatasetAccessor.explain`.

        Raises
        ------
        NodeNotFoundError
            This node has no such level or labels.
        TargetError
            There is no such option, or one does not fit.
        """
        from hfzarr.faces.explain import explain

        return explain(type(self), self._tree, size, options)

    def thumbnail(
        self,
        size: int | None = 256,
        *,
        level: int | str | None = None,
        project: Projection = "max",
        labels: Labels = False,
        cmap: str | None = None,
        max_bytes: int | str = "64 MiB",
    ) -> Picture:
        """Return a picture of the first image of the tree, from the coarsest level that serves.

        See `DatasetAccessor.thumbnail`. A level is one of the pyramid, or a node beside the first
        that has such a variable; labels are the nodes below ``labels``.

        Raises
        ------
        NodeNotFoundError
            There is no such level, or there are no such labels.
        TargetError
            No node has two dimensions to show, or one chunk takes more than `max_bytes`.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> def image(n):
        ...     return xr.Dataset({"image": (("y", "x"), np.eye(n))})
        >>> tree = xr.DataTree.from_dict({"0": image(64), "1": image(32), "2": image(16)})
        >>> tree.hfzarr.thumbnail(size=20).shape, tree.hfzarr.thumbnail(level="2").shape
        ((20, 20, 3), (16, 16, 3))
        """
        from hfzarr.faces.tree_thumbnail import tree_thumbnail

        return tree_thumbnail(
            self._tree,
            size,
            level=level,
            project=project,
            labels=labels,
            cmap=cmap,
            max_bytes=max_bytes,
        )

    def reshard(self, target: Any, **options: Any) -> Resharded:
        """Write the store that the tree was opened from anew, with many chunks in each file.

        See `DatasetAccessor.reshard`; options are those of `hfzarr.reshard`.

        Raises
        ------
        TargetError
            The tree was not opened with ``engine="hfzarr"``, or is a part of one that was.
        """
        from hfzarr.faces.origin import origin_of_tree
        from hfzarr.faces.reshard import reshard

        return reshard(origin_of_tree(self._tree), target, **options)

    def chunk(self, by: Literal["inner", "shard"] = "inner") -> DataTree:
        """Return the tree with dask chunks that follow its store; see `DatasetAccessor.chunk`."""
        return xr.map_over_datasets(lambda node: DatasetAccessor(node).chunk(by), self._tree)

    def _mask(self, where: Any) -> Any:
        from hfzarr.faces.alignment import label_mask

        return label_mask(self._tree, where) if isinstance(where, str) else where
