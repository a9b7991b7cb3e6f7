"""Handles: what a cell of a table that names a store decodes to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from hfzarr.errors import NodeNotFoundError, TargetError
from hfzarr.model.array import ArrayMeta
from hfzarr.rows.habits import no_attribute
from hfzarr.rows.indexing import expanded
from hfzarr.rows.info import StoreInfo
from hfzarr.rows.opened import Look, OpenedStore, naming_row
from hfzarr.store.location import Location, hide_secrets, join_path, locate
from hfzarr.store.node import Kind
from hfzarr.store.options import StorageOptions

if TYPE_CHECKING:
    from xarray import Dataset, DataTree

    from hfzarr.plan.windows import Edge
    from hfzarr.rows.kinds import ZarrArray, ZarrGroup
    from hfzarr.rows.selection import ZarrSelection

__all__ = ["ZarrHandle"]

H = TypeVar("H", bound="ZarrHandle")
AnyArray = npt.NDArray[Any]


class _Memory:
    """Keeps what a handle looked at apart from what it is: no field, never compared or copied."""

    __slots__ = ("_store",)
    _store: OpenedStore


@dataclass(frozen=True, slots=True, repr=False)
class ZarrHandle(_Memory):
    """A lazy reference to a node of a Zarr store: a place, and nothing of what is there.

    Making, comparing, copying and pickling a handle reads nothing. It becomes what it is (an
    array, a group, an OME-Zarr image) at its first use, and remembers that, not pixels. A pickle
    holds the place alone. It has no length, no iterator and no ``__array__``: NumPy, pandas and
    those who build on them would take it for a sequence and read the whole store.

    Parameters
    ----------
    url
        The store's place: a path or a URL.
    node
        Path of the node in the store; empty for its root.
    options
        Options for fsspec, a mapping or `StorageOptions`, kept by reference.
    row
        Which row of which table it came from; errors name it.
    metadata
        JSON of the store's consolidated metadata, which saves requests; it does not travel.

    Examples
    --------
    >>> import numpy as np, tempfile, zarr
    >>> folder = tempfile.mkdtemp() + "/heights.zarr"
    >>> _ = zarr.create_array(folder, data=np.arange(6).reshape(2, 3))
    >>> handle = ZarrHandle(folder)
    >>> handle.kind, handle.shape, handle[1, ::2].tolist()
    ('array', (2, 3), [3, 5])
    """

    url: str
    node: str = ""
    options: StorageOptions = field(default_factory=StorageOptions)
    row: str = field(default="", compare=False)
    metadata: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.url, (str, os.PathLike)) or not isinstance(self.node, str):
            raise TargetError(
                f"a handle takes a path or URL, and text: {self.url!r}, {self.node!r}"
            )
        object.__setattr__(self, "url", os.fspath(self.url))
        object.__setattr__(self, "options", StorageOptions.of(self.options))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.url, self.node, self.options, self.row)

    def __deepcopy__(self: H, memo: Any = None) -> H:
        return self

    def __eq__(self, other: object) -> bool:
        # Whether its kind was found yet makes no difference to what a handle refers to.
        if not isinstance(other, ZarrHandle):
            return NotImplemented
        return (self.url, self.node, self.options) == (other.url, other.node, other.options)

    def __hash__(self) -> int:
        return hash((self.url, self.node))

    def __repr__(self) -> str:
        node = f", node={self.node!r}" if self.node else ""
        return f"{type(self).__name__}({hide_secrets(self.url)!r}{node})"

    def _repr_html_(self) -> str:
        from hfzarr.rows.html import handle_card

        return handle_card(self)

    @property
    def path(self) -> str:
        """The store's place and the path in it."""
        return f"{self.url.rstrip('/')}/{self.node}" if self.node else self.url

    @property
    def name(self) -> str:
        """The last part of its place, without the suffixes of a store."""
        return self.location.name

    @property
    def location(self) -> Location:
        """Where the node lies, for whatever opens it."""
        with naming_row(self.row):
            place = locate(self.url, self.options.resolve())
        return replace(place, path=self.node, carried=self.metadata)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return type(self).__name__, self.url, self.node, self.options.plain, self.options.kept

    def toDict(self) -> dict[str, str]:
        """Return the place alone: pandas' ``to_json`` would write all that it can reach."""
        return dict(self.items())

    def items(self) -> Iterator[tuple[str, str]]:
        """Yield the place alone, which is how `datasets` writes a cell that was decoded."""
        from hfzarr.rows.cells import cell_text

        yield "path", cell_text(self)

    @property
    def store(self) -> OpenedStore:
        """The store, looked at as far as it was asked for."""
        try:
            return self._store
        except AttributeError:
            opened = OpenedStore(replace(self.location, path=""), self.row, lost=self.options.lost)
            object.__setattr__(self, "_store", opened)
            return opened

    def _look(self) -> Look:
        return self.store.look(self.node)

    @property
    def kind(self) -> Kind:
        """Which kind of thing it is: its metadata is read at the first time."""
        return self._look().kind

    def resolve(self) -> ZarrArray | ZarrGroup:
        """Return the same place as a `ZarrArray`, a `ZarrGroup` or an `OmeZarr`."""
        from hfzarr.rows.kinds import kind_of

        return self.at(kind_of(self.kind), self.node)

    def __getattr__(self, name: str) -> Any:
        """Return what only an image has, if this turns out to be one."""
        # Nothing is read for a name that no kind has: libraries ask for many.
        from hfzarr.rows.kinds import OmeZarr

        if name in vars(ZarrHandle) and not name.startswith("_"):
            self._pixels()  # raises once more what Python took for a missing attribute
        if name.startswith("_") or name not in vars(OmeZarr) or isinstance(self, OmeZarr):
            raise no_attribute(self, name)
        if self.kind != "image":
            raise AttributeError(
                f"{self!r} is of kind {self.kind!r}, and only an OME-Zarr image has {name!r}"
            )
        return getattr(self.resolve(), name)

    def at(self, kind: type[H], node: str) -> H:
        """Return a handle of a node of the same store, which shares what was looked at."""
        handle = kind(self.url, node, self.options, self.row, self.metadata)
        object.__setattr__(handle, "_store", self.store)
        return handle

    @property
    def attrs(self) -> dict[str, Any]:
        """Its attributes."""
        return dict(self._look().node.attrs)

    @property
    def zarr_format(self) -> int:
        """2 or 3."""
        return self._look().node.zarr_format

    def keys(self) -> list[str]:
        """Return the names of the arrays and groups directly below a group."""
        with self.store.naming():
            if self.kind == "array":
                raise TargetError(f"{self!r} is an array without members; index it with slices")
        return [path.rpartition("/")[2] for path in self.store.children(self.node)]

    def __contains__(self, name: object) -> bool:
        try:
            child = self._child(name) if isinstance(name, str) else None
        except TargetError:  # it leads out of the store
            return False
        with contextlib.suppress(NodeNotFoundError):
            return child is not None and bool(child.kind)
        return False

    # Without it, Python would iterate by means of __getitem__.
    __iter__ = None
    __copy__ = __deepcopy__

    def _child(self, name: str) -> ZarrHandle:
        return self.at(ZarrHandle, join_path(self.node, name))

    def __getitem__(self, key: Any) -> Any:
        """Return a member by its path, or pixels by NumPy's indices (of level 0 of an image)."""
        if not isinstance(key, str):
            return self.read((key,) if key is None else key)
        with naming_row(self.row):
            try:
                return self._child(key).resolve()
            except NodeNotFoundError as error:
                raise NodeNotFoundError(
                    f"{self!r} has no member {key!r}; it has {self.keys()[:20]}"
                ) from error

    def info(self) -> StoreInfo:
        """Return format, kind, paths of all arrays and attributes."""
        look = self._look()
        return StoreInfo(
            zarr_format=look.node.zarr_format,
            kind=look.kind,
            arrays=tuple(
                path[len(self.node) :].lstrip("/") for path in self.store.arrays_below(self.node)
            ),
            attrs=dict(look.node.attrs),
        )

    def arrays(self) -> list[ZarrArray]:
        """Return all arrays at and below it, level by level, in the order of their names."""
        from hfzarr.rows.kinds import ZarrArray

        return [self.at(ZarrArray, path) for path in self.store.arrays_below(self.node)]

    def array(self, path: str = "") -> ZarrArray:
        """Return the array at a path below it, or raise with a list of those there are."""
        from hfzarr.rows.kinds import ZarrArray

        with naming_row(self.row):
            found = self._child(path)
            there = path in ("", "/") or path in self
            if not there or found.kind != "array":
                raise NodeNotFoundError(
                    f"{path or '/'!r} in {self!r} is {'a group' if there else 'not there'}; the "
                    f"arrays are {(found if there else self).info().arrays}"
                )
        return self.at(ZarrArray, found.node)

    def _pixels(self, level: int | str = 0) -> ArrayMeta:
        return self.store.pixels(self.node, level)

    @property
    def shape(self) -> tuple[int, ...]:
        """Pixels along each axis, of an array or of level 0 of an image; an error for a group."""
        return self._pixels().shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the pixels."""
        return self._pixels().dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self._pixels().size

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels, decoded."""
        return self.size * self.dtype.itemsize

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Shape of an inner chunk, which is what is read and decoded as one."""
        return self._pixels().inner_chunk

    @property
    def shards(self) -> tuple[int, ...] | None:
        """Shape of a shard, the file that holds inner chunks; None where chunks are files."""
        return self._pixels().shard

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes, as xarray will have them."""
        image = self.kind == "image"
        return self.store.image(self.node).levels[0].dims if image else self._pixels().dim_names

    def read(self, selection: Any = None, *, level: int | str = 0) -> AnyArray:
        """Return pixels as a new array; axes indexed by an integer are dropped.

        Parameters
        ----------
        selection
            NumPy's indices: integers, slices, an ellipsis, one 1-D array of integers or booleans.
        level
            Which level of an image: 0 is the finest, -1 the coarsest, or its name.

        Raises
        ------
        IndexError
            The indices do not fit the array.
        ReadError
            A chunk could not be fetched or decoded.
        """
        meta = self._pixels(level)
        with self.store.naming():
            return self.store.reader(meta.path).read(expanded(selection, meta.shape))

    def select(
        self,
        index: Any = None,
        *,
        level: int | str | None = None,
        world: Mapping[str, Any] | None = None,
        **dims: Any,
    ) -> ZarrSelection:
        """Return a bounded region of an array or of a level of an image, unread.

        Parameters
        ----------
        index
            Integers and slices for the first axes, as NumPy takes them, or a list of them; or a
            mapping by dimension.
        level
            Which level of an image; by default the finest.
        world
            By dimension, a pair (or slice) of positions in the units of the coordinates: the
            pixels that lie within, both ends included; or one position, the nearest pixel.
        **dims
            Integers or slices by dimension.

        Raises
        ------
        TargetError
            A dimension is unknown or named twice, or the region lies outside.
        """
        from hfzarr.rows.selection import make_selection

        with naming_row(self.row):
            return make_selection(
                self, index, level=level, world={} if world is None else world, dims=dims
            )

    def iter_patches(
        self,
        patch_size: int | Sequence[int] | Mapping[str, int],
        stride: int | Sequence[int] | Mapping[str, int] | None = None,
        *,
        level: int | str = 0,
        edge: Edge = "drop",
    ) -> Iterator[tuple[tuple[int, ...], AnyArray]]:
        """Yield every patch with where it starts; each chunk is decoded once.

        Parameters
        ----------
        patch_size
            Pixels along the last axes, or by dimension; a number is for the last two axes. Other
            axes stay whole.
        stride
            How far patches are apart; by default their size.
        level, edge
            Which level of an image; as for ``Dataset.hfzarr.patches``, and always full patches.

        Yields
        ------
        starts, patch
            Where it starts along the axes that ``patch_size`` speaks of, in pixels; its pixels.
        """
        from hfzarr.rows.patching import iter_patches

        return iter_patches(self, patch_size, stride, level=level, edge=edge)

    def random_patch(
        self,
        patch_size: int | Sequence[int] | Mapping[str, int],
        level: int | str = 0,
        rng: Any = None,
    ) -> AnyArray:
        """Read one patch at a place drawn evenly.

        Parameters
        ----------
        patch_size, level
            As for `iter_patches`.
        rng
            A `numpy.random.Generator`, or anything that makes one.
        """
        from hfzarr.rows.patching import random_patch

        return random_patch(self, patch_size, level=level, rng=rng)

    def open_dataset(self, **options: Any) -> Dataset:
        """Return ``xarray.open_dataset(self, engine="hfzarr", **options)``."""
        import xarray as xr

        with self.store.naming():
            return xr.open_dataset(self, engine="hfzarr", **options)

    def open_datatree(self, **options: Any) -> DataTree:
        """Return ``xarray.open_datatree(self, engine="hfzarr", **options)``."""
        import xarray as xr

        with self.store.naming():
            return xr.open_datatree(self, engine="hfzarr", **options)

    def to_xarray(self, level: int | str | None = None) -> Dataset:
        """Return it as a lazy Dataset, with dimension names and coordinates."""
        from hfzarr.rows.labeled import labeled_dataset

        if self.kind == "array" and level is None:
            return labeled_dataset(self)[0]
        return self.open_dataset(level=level)

    def thumbnail(self, level: int | str | None = -1, *, size: int = 256, **more: Any) -> AnyArray:
        """Return a picture of it: RGB, ``uint8``, shape ``(height, width, 3)``.

        Parameters
        ----------
        level, size, **more
            Which level of an image, None for the coarsest that is as large as the picture; the
            picture's longest side in pixels; the others of ``.hfzarr.thumbnail`` of a Dataset.
        """
        from hfzarr.rows.pictures import picture_of

        if self.kind == "array" and level is not None:
            self._pixels(level)
        return picture_of(self, level, size=size, **more)
