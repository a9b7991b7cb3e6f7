"""Selections: bounded regions of an array or of a level of an image, as values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from hfzarr.errors import TargetError
from hfzarr.model.ome.image import find_level
from hfzarr.rows.handle import ZarrHandle
from hfzarr.rows.indexing import expanded
from hfzarr.rows.labeled import labeled_dataset
from hfzarr.rows.pictures import encoded
from hfzarr.store.location import hide_secrets

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = ["Span", "ZarrSelection", "make_selection", "parse_spans"]

AnyArray = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Span:
    """What is taken of one axis, in pixels.

    Attributes
    ----------
    start
        The first pixel.
    stop
        One past the last; None for a single pixel, whose axis is dropped.
    step
        From pixel to pixel.
    """

    start: int
    stop: int | None
    step: int = 1

    @property
    def index(self) -> int | slice:
        """The same as NumPy has it."""
        return self.start if self.stop is None else slice(self.start, self.stop, self.step)

    @property
    def length(self) -> int:
        """How many pixels."""
        return 1 if self.stop is None else len(range(self.start, self.stop, self.step))

    def __str__(self) -> str:
        if self.stop is None:
            return str(self.start)
        step = "" if self.step == 1 else f":{self.step}"
        return f"{self.start}:{self.stop}{step}"


@dataclass(frozen=True, slots=True, repr=False)
class ZarrSelection:
    """A bounded region of an array, or of a level of an image: a place, and no pixels.

    It can be compared, pickled and kept as a cell of a table without reading anything.

    Parameters
    ----------
    handle
        The array or image.
    spans
        What is taken of each axis, in pixels.
    level
        Name of the level of an image; empty for an array.

    Examples
    --------
    >>> import numpy as np, tempfile, zarr
    >>> folder = tempfile.mkdtemp() + "/heights.zarr"
    >>> _ = zarr.create_array(folder, data=np.arange(12).reshape(3, 4))
    >>> selection = ZarrHandle(folder).select(1, dim_1=slice(0, 2))
    >>> selection.shape, selection.read().tolist(), str(selection)[-15:]
    ((2,), [4, 5], 's.zarr#[1, 0:2]')
    """

    handle: ZarrHandle
    spans: tuple[Span, ...]
    level: str = ""

    def __repr__(self) -> str:
        return f"ZarrSelection({hide_secrets(self.handle.path)!r}, {self.region})"

    def __str__(self) -> str:
        return f"{self.handle.url}#{_coded(self.handle.node)}{self.region}"

    @property
    def region(self) -> str:
        """Its level and indices, as text."""
        level = f"@{_coded(self.level)}" if self.level else ""
        return f"{level}[{', '.join(str(span) for span in self.spans)}]"

    def _repr_html_(self) -> str:
        from hfzarr.rows.html import selection_card

        return selection_card(self)

    def toDict(self) -> dict[str, Any]:
        """Return the fields of the cell: pandas' ``to_json`` would write all that it can reach."""
        return dict(self.items())

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yield the fields of the selection as a cell of a table, an Arrow struct."""
        from hfzarr.rows.cells import cell_text

        yield "path", cell_text(ZarrHandle(self.handle.url, "", self.handle.options))
        yield "node", self.handle.node
        yield "level", self.level
        yield "start", [span.start for span in self.spans]
        yield "stop", [span.stop for span in self.spans]
        yield "step", [span.step for span in self.spans]

    @property
    def shape(self) -> tuple[int, ...]:
        """Pixels along each axis that is left."""
        return tuple(span.length for span in self.spans if span.stop is not None)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the pixels."""
        return self.handle.store.pixels(self.handle.node, self.level or 0).dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels, decoded."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    @property
    def index(self) -> tuple[int | slice, ...]:
        """The region as NumPy's index."""
        return tuple(span.index for span in self.spans)

    def read(self) -> AnyArray:
        """Read its pixels.

        Raises
        ------
        TargetError
            The array no longer has such a region.
        ReadError
            A chunk could not be fetched or decoded.
        """
        shape = self.handle.store.pixels(self.handle.node, self.level or 0).shape
        _check(self.spans, shape, repr(self))
        return self.handle.read(self.index, level=self.level or 0)

    def to_xarray(self, **options: Any) -> Dataset:
        """Return it as a lazy Dataset, with coordinates.

        Parameters
        ----------
        **options
            Of ``xarray.open_dataset(..., engine="hfzarr")``.
        """
        dataset, name = labeled_dataset(self.handle, self.level or 0, **options)
        variable = dataset[name]
        _check(self.spans, variable.shape, repr(self))
        return dataset.isel(dict(zip(variable.dims, self.index, strict=True)))

    def read_bytes(self, format: str = "PNG") -> bytes:
        """Return the region drawn as an image file, a pixel for a pixel.

        A region of an array of bytes, ``(height, width)`` or with 3 or 4 colours last, is a picture
        as it is. Others are drawn as ``ds.hfzarr.thumbnail`` draws them.

        Parameters
        ----------
        format
            Any format that Pillow writes, by name or suffix.

        Raises
        ------
        TargetError
            It has fewer than two axes, or Pillow does not write the format.
        """
        if _is_picture(self):
            return encoded(self.read(), format)
        return encoded(self.to_xarray().hfzarr.thumbnail(size=None), format)


def _is_picture(selection: ZarrSelection) -> bool:
    """Return whether the pixels are those of a picture already: grey, RGB or RGBA in bytes."""
    shape = selection.shape
    bytes_alone = not selection.level and selection.dtype == np.uint8 and 0 not in shape
    return bytes_alone and (len(shape) == 2 or (len(shape) == 3 and shape[-1] in (3, 4)))


def _coded(name: str) -> str:
    """Return a name without the marks of a selection's text form."""
    return quote(name, safe="/ !$&'()*+,;=:~") if re.search(r"[#@\[\]%]", name) else name


def make_selection(
    handle: ZarrHandle,
    index: Any,
    *,
    level: int | str | None,
    world: Mapping[str, Any],
    dims: Mapping[str, Any],
) -> ZarrSelection:
    """Return the region that a user describes; see `ZarrHandle.select`."""
    name = ""
    if handle.kind == "image":
        name = find_level(handle.store.image(handle.node), 0 if level is None else level).path
    elif level is not None:
        raise TargetError(f"level= chooses a level of an image, and {handle!r} is none")
    if not isinstance(world, Mapping):
        raise TargetError(f"world= takes positions by dimension, a mapping, not {world!r}")
    shape = handle.store.pixels(handle.node, name or 0).shape
    chosen = _by_dim(index, handle.dims, shape)
    for more, what in ((dims, "index"), (_in_pixels(handle, world, name), "world=")):
        for dim, part in more.items():
            if dim not in handle.dims:
                raise TargetError(f"there is no dimension {dim!r}; there are {handle.dims}")
            if dim in chosen:
                raise TargetError(f"dimension {dim!r} is given twice, once as {what}")
            chosen[dim] = part
    spans = tuple(
        _span(chosen.get(dim, slice(None)), n, dim)
        for dim, n in zip(handle.dims, shape, strict=True)
    )
    return ZarrSelection(handle, spans, name)


def _by_dim(index: Any, dims: Sequence[str], shape: Sequence[int]) -> dict[str, Any]:
    if isinstance(index, Mapping):
        if unknown := [dim for dim in index if dim not in dims]:
            raise TargetError(f"there is no dimension {unknown[0]!r}; there are {tuple(dims)}")
        return dict(index)
    if index is None:
        return {}
    try:
        parts = expanded(tuple(index) if isinstance(index, list) else index, shape)
    except IndexError as error:
        raise TargetError(f"the index {index!r} makes no region: {error}") from error
    return {dim: part for dim, part in zip(dims, parts, strict=True) if not _is_whole(part)}


def _is_whole(part: Any) -> bool:
    return isinstance(part, slice) and part == slice(None)


def _span(part: Any, length: int, dim: str) -> Span:
    """Return an index along an axis as pixels that are there."""
    if isinstance(part, slice):
        try:
            start, stop, step = part.indices(length)
        except (TypeError, ValueError) as error:
            raise TargetError(
                f"along {dim!r} a slice of whole pixels is wanted, not {part!r}; positions in "
                "units go into world="
            ) from error
        if step < 1:
            raise TargetError(f"the step along {dim!r} is {step}; a region goes forwards")
        return Span(start, max(start, stop), step)
    try:
        place = int(np.asarray(part).reshape(())) if not isinstance(part, bool) else None
    except (TypeError, ValueError):
        place = None
    if place is None or place != part:
        raise TargetError(f"along {dim!r} an integer or a slice is wanted, not {part!r}")
    if not -length <= place < length:
        raise TargetError(f"pixel {place} lies outside of the {length} along {dim!r}")
    return Span(place % length, None)


def _in_pixels(handle: ZarrHandle, world: Mapping[str, Any], level: str) -> dict[str, Any]:
    """Return positions in the units of the coordinates as indices."""
    if not world:
        return {}
    dataset, name = labeled_dataset(handle, level or 0)
    variable = dataset[name]
    out = {}
    for dim, part in world.items():
        if dim not in variable.dims:
            raise TargetError(f"there is no dimension {dim!r}; there are {variable.dims}")
        if dim not in variable.indexes:
            raise TargetError(
                f"dimension {dim!r} of {handle!r} has no coordinates, so a position along it means "
                "nothing; give pixels"
            )
        out[dim] = _place(variable.indexes[dim], part, dim)
    return out


def _place(index: Any, part: Any, dim: str) -> int | slice:
    """Return the pixels whose positions lie within a pair, or the one nearest to a position."""
    if isinstance(part, (tuple, list)) and len(part) == 2:
        part = slice(*part)
    try:
        places = _within(index, part, dim) if isinstance(part, slice) else None
        nearest = _nearest(index, part, dim) if places is None else None
    except (TypeError, ValueError) as error:
        if isinstance(error, TargetError):
            raise
        raise TargetError(
            f"{part!r} is no position along {dim!r}, whose positions are like {index[0]!r}: {error}"
        ) from error
    if places is None:
        return int(nearest or 0)
    if not len(places):
        raise TargetError(
            f"no pixel along {dim!r} lies between {part.start} and {part.stop}; they lie from "
            f"{index[0]} to {index[-1]}"
        )
    return slice(int(places[0]), int(places[-1]) + 1)


def _within(index: Any, part: slice, dim: str) -> npt.NDArray[np.intp]:
    """Return the pixels within a pair of positions, in either order, both ends included."""
    if part.step is not None:
        raise TargetError(f"positions along {dim!r} are a pair; steps are in pixels")
    ends = (part.start, part.stop)
    low, high = ends if None in ends else sorted(ends)
    if index.is_monotonic_increasing:
        # As xarray's sel does it: a text such as "2020-05" stands for all of the month.
        return _places(index, index.slice_indexer(low, high))
    if index.is_monotonic_decreasing:
        return _places(index, index.slice_indexer(high, low))
    inside = np.ones(len(index), bool)
    if low is not None:
        inside &= np.asarray(index >= low)
    if high is not None:
        inside &= np.asarray(index <= high)
    return np.flatnonzero(inside)


def _places(index: Any, part: slice) -> npt.NDArray[np.intp]:
    return np.arange(len(index), dtype=np.intp)[part]


def _nearest(index: Any, position: Any, dim: str) -> int:
    text = isinstance(position, str) and index.dtype.kind not in "mM"
    none = position is None or position != position
    place = (
        -1 if none else int(index.get_indexer([position], method=None if text else "nearest")[0])
    )
    if place < 0:
        raise TargetError(
            f"there is no {position!r} along {dim!r}; there are {list(index[:3])} … {index[-1]!r}"
        )
    return place


def _check(spans: Sequence[Span], shape: Sequence[int], what: str) -> None:
    fits = len(spans) == len(shape) and all(
        span.start < n if span.stop is None else 0 <= span.start <= span.stop <= n
        for span, n in zip(spans, shape, strict=True)
    )
    if not fits:
        raise TargetError(
            f"{what} does not fit the array, whose shape is {tuple(shape)}: it is another array "
            "than the one that was selected from, or has changed"
        )


_SPAN = re.compile(r"(\d+)(?::(\d+)(?::(\d+))?)?$")


def parse_spans(text: str) -> tuple[Span, ...]:
    """Return the spans of the text form of a selection, such as ``0, 3:7, 0:9:2``.

    Examples
    --------
    >>> parse_spans("0, 3:7")
    (Span(start=0, stop=None, step=1), Span(start=3, stop=7, step=1))
    """
    spans = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _SPAN.match(part)
        if found is None:
            raise TargetError(f"{part!r} is no index of a selection; '3' and '3:7' are")
        start, stop, step = found.groups()
        spans.append(Span(int(start), None if stop is None else int(stop), int(step or 1)))
    return tuple(spans)
