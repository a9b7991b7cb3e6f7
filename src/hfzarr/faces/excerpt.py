"""Which pixels of a variable a picture is made of, within a bound on what is read."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr

from hfzarr.errors import TargetError
from hfzarr.faces.regions import cuts_of, view_of
from hfzarr.plan.cuts import Cuts
from hfzarr.plan.reshard import in_units

__all__ = [
    "BANDS",
    "CHANNELS",
    "MOST_CHANNELS",
    "Excerpt",
    "Layout",
    "Projection",
    "excerpt",
    "layout",
    "plane_of",
]

#: What is shown of the depth: all of it, its middle, a plane by number, or one by its place.
Projection: TypeAlias = Literal["max", "mean", "slice"] | int | float

#: Dimensions along which channels lie.
CHANNELS = ("c", "channel", "channels", "rgb", "rgba", "band", "bands")
#: Of those, the ones of which each is a picture of its own.
BANDS = ("band", "bands")
#: More channels than that are no picture any more, and have no colours that differ.
MOST_CHANNELS = 6
_DOWN = ("y", "lat", "latitude", "rlat", "nav_lat", "northing", "rows")
_ACROSS = ("x", "lon", "longitude", "rlon", "nav_lon", "easting", "columns")
_TIMES = ("t", "time", "date", "step", "lead_time")
_DEPTH = "z"
# A chunk costs time, however few bytes it has: beyond so many, each counts as so many bytes.
_FREE_CHUNKS = 1024
_LEAST_OF_A_CHUNK = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What the dimensions of an image are to a picture of it.

    Attributes
    ----------
    plane
        The dimensions that run downwards and across.
    channel
        The dimension along which channels lie, or None.
    depth
        The dimension that is projected, or None.
    rest
        The others, of which one index is shown.
    """

    plane: tuple[Hashable, Hashable]
    channel: Hashable | None = None
    depth: Hashable | None = None
    rest: tuple[Hashable, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """The pixels that are read.

    Attributes
    ----------
    index
        What is taken along each dimension: a slice, an index or several.
    nbytes
        Decoded bytes of the chunks that hold them; 0 for what is in memory.
    whole
        Whether they span the whole plane.
    """

    index: Mapping[Hashable, Any]
    nbytes: int
    whole: bool


def layout(image: xr.DataArray, channel: Hashable | None = None) -> Layout:
    """Return what the dimensions of an image are to a picture of it.

    Parameters
    ----------
    image
        With two dimensions at least.
    channel
        The dimension along which channels lie, where it is known.

    Examples
    --------
    >>> layout(xr.DataArray(np.zeros((1, 2, 3, 4, 3)), dims=("t", "z", "y", "x", "c")))
    Layout(plane=('y', 'x'), channel='c', depth='z', rest=('t',))
    """
    dims = list(image.dims)
    if channel not in dims:
        channel = next((d for d in dims if str(d).lower() in CHANNELS), None)
    left = [d for d in dims if d != channel]
    if len(left) < 2:
        channel, left = None, dims
    plane = _named_plane(left)
    if plane is None:
        lasting = [d for d in left if not _is_time(image, d)]
        first, second = (lasting if len(lasting) > 1 else left)[-2:]
        plane = (first, second)
    others = [d for d in left if d not in plane]
    depth = next((d for d in others if str(d).lower() == _DEPTH), None)
    rest = tuple(d for d in others if d != depth)
    return Layout(plane=plane, channel=channel, depth=depth, rest=rest)


def _named_plane(dims: list[Hashable]) -> tuple[Hashable, Hashable] | None:
    """Return the dimensions whose names say that they run downwards and across."""
    for down, across in zip(_DOWN, _ACROSS, strict=True):
        found = [next((d for d in dims if str(d).lower() == name), None) for name in (down, across)]
        if found[0] is not None and found[1] is not None:
            return found[0], found[1]
    return None


def _is_time(image: xr.DataArray, dim: Hashable) -> bool:
    if str(dim).lower() in _TIMES:
        return True
    return dim in image.coords and image.coords[dim].dtype.kind in "mMO"


def excerpt(
    image: xr.DataArray, shown: Layout, at: int | None, budget: int, *, crop: bool
) -> Excerpt | None:
    """Return which pixels to read so that their chunks take no more than `budget` bytes.

    Of very many chunks, each counts as 4 KiB at least. Where all of them take more, there are fewer
    chunks along the depth, spread evenly, down to the middle one; then, with `crop`, the middle of
    the plane; then the first channel alone.

    Parameters
    ----------
    image
        Of which nothing is read.
    shown
        What its dimensions are.
    at
        The one index along the depth that is wanted, or None for all of them.
    budget
        Bytes.
    crop
        Whether a part of the plane will do.

    Returns
    -------
    Excerpt or None
        None where the whole plane takes more and no part of it will do.

    Raises
    ------
    TargetError
        One chunk takes more.
    """
    chunks = _Chunks(image, shown)
    depth = chunks.depth_numbers(at)
    if image.variable._in_memory:
        return chunks.taken(depth, chunks.plane(), chunks.channels, at, nbytes=0)
    room = chunks.room(budget, chunks.plane(), chunks.channels)
    if room >= 1 or not crop:
        if room < 1:
            return None
        return chunks.taken(_spread(depth, room), chunks.plane(), chunks.channels, at)
    depth = _spread(depth, 1)
    for channels in (chunks.channels, 1):
        room = chunks.room(budget, (range(1), range(1)), channels)
        if room >= 1:
            return chunks.taken(depth, chunks.middle(room), channels, at)
    least = in_units(chunks.cost(1, (range(1), range(1)), 1))
    raise TargetError(
        f"a picture of {image.name!r} may read {in_units(budget)}, and one of its chunks takes "
        f"{least}: give max_bytes={least!r} or more"
    )


def plane_of(
    image: xr.DataArray, dim: Hashable | None, project: Projection, whole: xr.DataArray
) -> int | None:
    """Return which index along the depth is shown; None for all of them.

    Parameters
    ----------
    image
        What is shown.
    dim
        Its depth.
    project
        An integer counts planes of `whole`, a float is a place along its coordinate: of the image
        it is the plane nearest to that.
    whole
        The image, or another level of it.

    Raises
    ------
    TargetError
        There is no such plane, or no depth.

    Examples
    --------
    >>> fine = xr.DataArray(np.zeros(4), dims="z", coords={"z": [0.0, 1.0, 2.0, 3.0]})
    >>> plane_of(fine[::2], "z", 3, fine), plane_of(fine, "z", 2.2, fine)
    (1, 2)
    """
    if isinstance(project, str):
        return image.sizes[dim] // 2 if dim is not None and project == "slice" else None
    if dim is None or dim not in whole.sizes:
        sizes = {str(d): n for d, n in whole.sizes.items()}
        raise TargetError(f"project={project!r} is a plane along 'z': there is none in {sizes}")
    if isinstance(project, int):
        return _numbered(image, dim, project, whole)
    places = whole.coords[dim].values if dim in whole.coords else None
    if places is None or places.dtype.kind not in "iuf":
        raise TargetError(f"project={project!r} is a place along {dim!r}, which has no numbers")
    # A pixel reaches half a step beyond its centre.
    reach = float(np.abs(np.diff(places)).max()) / 2 if len(places) > 1 else 0.0
    if not places.min() - reach <= project <= places.max() + reach:
        raise TargetError(
            f"project={project!r} is no place along {dim!r}, which runs from {places[0]:g} to "
            f"{places[-1]:g}; a plane by its number is an integer"
        )
    own = image.coords[dim].values if dim in image.coords else places
    return int(np.abs(own - project).argmin())


def _numbered(image: xr.DataArray, dim: Hashable, number: int, whole: xr.DataArray) -> int:
    """Return the plane at the place of a numbered one of another level."""
    count, own = whole.sizes[dim], image.sizes[dim]
    if not -count <= number < count:
        raise TargetError(
            f"project={number} is no plane along {dim!r}, which has {count}: give 0 to "
            f"{count - 1}, or -1 to {-count} from the end"
        )
    index = number % count
    if own == count:
        return index
    known = [dim in one.coords and one.coords[dim].dtype.kind in "iuf" for one in (image, whole)]
    if all(known):
        return int(np.abs(image.coords[dim].values - whole.coords[dim].values[index]).argmin())
    return int((index + 0.5) * own / count)


class _Chunks:
    """The chunks of an image, by what its dimensions are to a picture."""

    def __init__(self, image: xr.DataArray, shown: Layout) -> None:
        self._image = image
        self._shown = shown
        self._cuts: dict[Hashable, Cuts] = dict(
            zip(image.dims, cuts_of(image.variable), strict=True)
        )
        self._lengths, self._itemsize = _decoded(image.variable, self._cuts)
        count = image.sizes[shown.channel] if shown.channel is not None else 1
        self.channels = min(count, MOST_CHANNELS)

    def plane(self) -> tuple[range, range]:
        """Return the numbers of all chunks along the plane."""
        down, across = (range(self._cuts[dim].count) for dim in self._shown.plane)
        return down, across

    def depth_numbers(self, at: int | None) -> list[int]:
        """Return the chunks along the depth that are wanted; of one index, the one it lies in."""
        if self._shown.depth is None:
            return [0]
        cuts = self._cuts[self._shown.depth]
        if at is not None:
            return [cuts.number(at)]
        return list(range(cuts.count))

    def cost(self, depth: int, plane: tuple[range, range], channels: int) -> int:
        """Return the decoded bytes of chunks: so many along the depth, and of so many channels."""
        nbytes = self._itemsize * depth
        for dim, cuts in self._cuts.items():
            length = self._lengths[dim]
            if dim in self._shown.plane:
                length *= len(plane[self._shown.plane.index(dim)])
            elif dim == self._shown.channel:
                length *= len(cuts.covered(0, channels))
            nbytes *= length
        return nbytes

    def room(self, budget: int, plane: tuple[range, range], channels: int) -> int:
        """Return how many times some chunks, one along the depth, may be read."""
        count = len(plane[0]) * len(plane[1])
        if self._shown.channel is not None:
            count *= len(self._cuts[self._shown.channel].covered(0, channels))
        most = max(_FREE_CHUNKS, budget // _LEAST_OF_A_CHUNK)
        return min(budget // self.cost(1, plane, channels), most // count)

    def middle(self, room: int) -> tuple[range, range]:
        """Return the chunks in the middle of the plane, so many at most."""
        everything = self.plane()
        counts = [len(some) for some in everything]
        steps = [self._cuts[dim].largest for dim in self._shown.plane]
        while counts[0] * counts[1] > room:
            longer = int(counts[1] * steps[1] > counts[0] * steps[0])
            longer = longer if counts[longer] > 1 else 1 - longer
            other = max(counts[1 - longer], 1)
            # In one step to where the sides are about as long, or to what there is room for.
            even = counts[1 - longer] * steps[1 - longer] // steps[longer]
            counts[longer] = max(1, min(counts[longer] - 1, max(even, room // other)))
        starts = [(len(some) - n) // 2 for some, n in zip(everything, counts, strict=True)]
        return range(starts[0], starts[0] + counts[0]), range(starts[1], starts[1] + counts[1])

    def taken(
        self,
        depth: list[int],
        plane: tuple[range, range],
        channels: int,
        at: int | None,
        nbytes: int | None = None,
    ) -> Excerpt:
        """Return the pixels of some chunks."""
        shown, index = self._shown, dict[Hashable, Any]()
        for dim, numbers in zip(shown.plane, plane, strict=True):
            cuts = self._cuts[dim]
            index[dim] = slice(cuts.interval(numbers[0])[0], cuts.interval(numbers[-1])[1])
        if shown.channel is not None:
            index[shown.channel] = slice(0, channels)
        if shown.depth is not None:
            spans = [range(*self._cuts[shown.depth].interval(number)) for number in depth]
            spans = spans if at is None else [range(at, at + 1)]
            index[shown.depth] = _joined(spans)
        found = self.cost(len(depth), plane, channels) if nbytes is None else nbytes
        return Excerpt(index=index, nbytes=found, whole=plane == self.plane())


def _decoded(
    variable: xr.Variable, cuts: Mapping[Hashable, Cuts]
) -> tuple[dict[Hashable, int], int]:
    """Return how long the chunks are that are decoded along each dimension, and bytes of a pixel.

    The bytes are those of a column of pixels: of chunks that are long along dimensions of which
    one index was taken, all is decoded.
    """
    view = view_of(variable)
    chunk = None if view is None else view.reader.meta.inner_chunk
    if view is None or chunk is None:
        preferred = variable.encoding.get("preferred_chunks", {})
        hidden = prod(n for d, n in preferred.items() if d not in cuts and isinstance(n, int))
        lengths = {d: one.largest if one.bounds else one.step for d, one in cuts.items()}
        return lengths, variable.dtype.itemsize * hidden
    # Of every n-th pixel, an interval may reach over the border of a chunk.
    lengths = {
        dim: max(chunk[axis.source], 1) * (1 if axis.step == 1 else 2)
        for dim, axis in zip(variable.dims, view.axes, strict=True)
    }
    hidden = prod(n for n, i in zip(chunk, view.fixed, strict=True) if i is not None)
    return lengths, max(variable.dtype.itemsize, view.reader.meta.dtype.itemsize) * hidden


def _spread(numbers: list[int], most: int) -> list[int]:
    """Return so many of some numbers, spread evenly; the middle one of one.

    Examples
    --------
    >>> _spread([0, 1, 2, 3, 4], 1), _spread([0, 1, 2, 3, 4], 2), _spread([0, 1], 5)
    ([2], [1, 3], [0, 1])
    """
    count = len(numbers)
    if most >= count:
        return numbers
    return [numbers[(2 * i + 1) * count // (2 * most)] for i in range(most)]


def _joined(spans: list[range]) -> slice | Any:
    """Return spans as one slice where they touch, else as places."""
    if all(a.stop == b.start for a, b in pairwise(spans)):
        return slice(spans[0].start, spans[-1].stop)
    return np.concatenate([np.arange(span.start, span.stop) for span in spans])
