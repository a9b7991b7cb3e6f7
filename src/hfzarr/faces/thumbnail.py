"""A small picture of any Dataset, from as few bytes as show it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from hfzarr.errors import NodeNotFoundError, TargetError
from hfzarr.faces.colormaps import ColorMap, colormap
from hfzarr.faces.excerpt import Projection, excerpt, layout, plane_of
from hfzarr.faces.framing import fit, runs_north
from hfzarr.faces.images import Pyramid
from hfzarr.faces.looks import natural_bands
from hfzarr.faces.overlay import Cut, Labels, Overlay, chosen, cut, of_dataset
from hfzarr.faces.picture import Picture, resize
from hfzarr.faces.planes import Shown, painted, pyramid_of, read, shown_of
from hfzarr.faces.sampling import at_level
from hfzarr.faces.windowing import memory_bytes
from hfzarr.plan.reshard import in_units

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = ["MAX_BYTES", "Wish", "candidates_of", "draw", "render", "subject", "thumbnail", "wish"]

#: What a picture may read unless it is told otherwise.
MAX_BYTES = "64 MiB"
_PROJECTIONS = ("max", "mean", "slice")
# Of what may be read, the image's part where labels are laid over it, besides an equal one.
_PARTS = (0.75, 0.94)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a picture is to be like.

    Attributes
    ----------
    size
        Pixels of its longer side, or None for one a pixel.
    project
        What is shown of the depth.
    colors
        Those of amounts, where they were chosen.
    budget
        Bytes that may be read.
    """

    size: int | None
    project: Projection
    colors: ColorMap | None
    budget: int


def thumbnail(
    dataset: Dataset,
    size: int | None = 256,
    *,
    level: int | str | None = None,
    project: Projection = "max",
    labels: Labels = False,
    cmap: str | None = None,
    max_bytes: int | str = MAX_BYTES,
) -> Picture:
    """Return a small picture of a Dataset, read from the coarsest level of it that serves.

    It shows the image or the labels of an OME-Zarr store, else the first variable with a plane.
    Channels, six at most, go through their windows in their colours, through percentiles where a
    window is missing or was never chosen; three channels of bytes without colours are red, green
    and blue. Labels and classes each have a colour. An amount that is no image of OME-Zarr has the
    colours that suit it, by its ``standard_name``, ``long_name``, name and units: anomalies and
    changes run from blue to red around zero, and so do vectors where they have both signs;
    temperature, water, vegetation, heights and directions have colours of their own; all else runs
    from dark blue to yellow. What is missing is black. Of time, bands and fields the first is
    shown. Height and width follow the pixels' size, and a map has its north above.

    Parameters
    ----------
    dataset
        Any Dataset. One that `engine="hfzarr"` opened as a level of an image brings the others.
    size
        Pixels of the longer side; there are never more than the image has. None for one pixel a
        pixel of this Dataset as it is.
    level
        Level to show, by name or number, whatever the size.
    project
        What is shown of ``z``: ``"max"``, ``"mean"``, ``"slice"`` for the middle; or one plane, by
        an integer as its number in this Dataset (from the end if negative; in the level that was
        named, if one was), by a float as its place in the units of the coordinate. Of another level
        it is the plane nearest to that place.
    labels
        Labels to lay over the image, tinted and outlined in their colours: a name or several, or
        True for all there are, of those beside the image in its store and of the variables of
        integers beside it here. They are placed by the coordinates.
    cmap
        Colours of an amount or of a lone channel, low to high: ``"amount"``, ``"grey"``,
        ``"diverging"``, ``"thermal"``, ``"rain"``, ``"green"``, ``"land"``, ``"relief"``,
        ``"phase"``, or a name that matplotlib knows, if it is installed. ``_r`` at its end turns it
        around. Those with a neutral middle are centered on zero.
    max_bytes
        Decoded bytes of the chunks that may be read, labels and all, as a number or as text. Where
        the level is larger, it shows fewer chunks along ``z``, evenly spread, down to the middle
        one; where no level is so small, the middle of the plane, then of the first channel alone.
        With ``size=None`` only ``z`` is thinned out.

    Returns
    -------
    numpy.ndarray
        ``uint8``, shape ``(height, width, 3)``.

    Raises
    ------
    TargetError
        There is nothing with two dimensions, or it is empty; an option does not fit; or one chunk
        takes more than `max_bytes`.
    NodeNotFoundError
        There is no such level, or there are no such labels.
    MissingDependencyError
        Pillow is needed for another size, and not installed.

    Examples
    --------
    >>> ds = xr.Dataset({"a": ("x", [1.0])})
    >>> thumbnail(ds)
    Traceback (most recent call last):
    hfzarr.errors.TargetError: a picture needs a variable of numbers with two dimensions ...
    """
    asked = wish(size, project, cmap, max_bytes)
    name = subject(dataset)
    overlays = chosen(of_dataset(dataset, name), labels) if labels is not False else ()
    candidates = list(candidates_of(dataset, name, size, level))
    whole = dataset if level is None else candidates[0]
    return draw(candidates, name, asked, overlays, whole[name])


def wish(size: Any, project: Any, cmap: Any, max_bytes: Any) -> Wish:
    """Return what was asked for.

    Raises
    ------
    TargetError
        An option does not fit.

    Examples
    --------
    >>> wish(64, 3, "grey", "1 KiB").budget
    1024
    """
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise TargetError(f"size is a number of pixels from 1 on, or None, not {size!r}")
    return Wish(
        size=size,
        project=_projection(project),
        colors=None if cmap is None else colormap(cmap),
        budget=memory_bytes(max_bytes, "max_bytes"),
    )


def _projection(project: Any) -> Projection:
    if isinstance(project, str) and project in _PROJECTIONS:
        return project  # type: ignore[return-value]
    if isinstance(project, (float, np.floating)) and np.isfinite(project):
        return float(project)
    if hasattr(project, "__index__") and not isinstance(project, bool):
        return index(project)
    raise TargetError(
        f"project is one of {_PROJECTIONS}, the number of a plane, or its place as a float, not "
        f"{project!r}"
    )


def render(image: xr.DataArray, *, project: Projection = "max", cmap: str | None = None) -> Picture:
    """Return a picture of an array, one pixel a pixel; all of it is read.

    Parameters
    ----------
    image
        With two dimensions at least: along depth it is projected, along others but channels the
        first index is shown.
    project, cmap
        As for `thumbnail`.

    Returns
    -------
    numpy.ndarray
        ``uint8``, shape ``(height, width, 3)``.

    Raises
    ------
    TargetError
        It is empty, has fewer dimensions, or holds no numbers.

    Examples
    --------
    >>> render(xr.DataArray([[False, True]], dims=("y", "x"))).tolist()
    [[[0, 0, 0], [255, 255, 255]]]
    """
    name = "image" if image.name is None else image.name
    dataset = image.to_dataset(name=name)
    return thumbnail(dataset, None, project=project, cmap=cmap, max_bytes=2**62)


def subject(dataset: Dataset) -> Hashable:
    """Return the name of the variable that a picture shows.

    It is the image or the labels of an OME-Zarr store, else the first variable whose dimensions
    are named as those of a plane, else the first with two.

    Raises
    ------
    TargetError
        There is none, or it is empty.
    """
    bounds = {str(dataset.variables[name].attrs.get("bounds")) for name in dataset.variables}
    names = [name for name in dataset.data_vars if _is_image(dataset[name])]
    if not names:
        raise TargetError(
            "a picture needs a variable of numbers with two dimensions or more; this Dataset has "
            + (_listed(dataset) or "no variables")
        )
    named = [name for name in names if _has_plane(dataset[name]) and str(name) not in bounds]
    plain = [name for name in names if str(name) not in bounds]
    known: list[Hashable] = [name for name in ("image", "labels") if name in names]
    known += [band.name for band in natural_bands(dataset)[:1]]
    found = (known or named or plain or names)[0]
    if not dataset[found].size:
        raise TargetError(f"{found!r} has no pixel to make a picture of: {_sizes(dataset[found])}")
    return found


def _is_image(image: xr.DataArray) -> bool:
    dims = image.dims
    return len(dims) > 1 and len(set(dims)) == len(dims) and image.dtype.kind in "buifc"


def _has_plane(image: xr.DataArray) -> bool:
    names = {str(dim).lower()[:3] for dim in image.dims}
    return {"y", "x"} <= names or {"lat", "lon"} <= names


def _listed(dataset: Dataset) -> str:
    some = [f"{name!r} {_sizes(dataset[name])} {dataset[name].dtype}" for name in dataset.data_vars]
    return ", ".join(some[:8]) + (f" and {len(some) - 8} more" if len(some) > 8 else "")


def _sizes(image: xr.DataArray) -> str:
    return str({str(dim): n for dim, n in image.sizes.items()})


def candidates_of(
    dataset: Dataset, name: Hashable, size: int | None, level: int | str | None
) -> Iterator[Dataset]:
    """Yield the levels that may be shown, the best first.

    Raises
    ------
    NodeNotFoundError, TargetError
        There is no such level.
    """
    if level is not None:
        # A level that was named is the one that is shown, whatever the size.
        yield at_level(dataset, level)
    elif size is None:
        yield dataset
    else:
        yield from _fitting(dataset, name, size)


def _fitting(dataset: Dataset, name: Hashable, size: int) -> Iterator[Dataset]:
    """Yield the coarsest level that has `size` pixels along its longer side, then coarser ones."""
    pyramid = pyramid_of(dataset)
    if pyramid is None or not _is_whole(dataset, name, pyramid):
        yield dataset
        return
    plane = layout(dataset[name], pyramid.image.channel_dim).plane
    levels = pyramid.image.levels
    sides = [
        max(one.array.shape[one.dims.index(str(dim))] for dim in plane if str(dim) in one.dims)
        for one in levels
    ]
    fitting = [i for i, side in enumerate(sides) if side >= size]
    for i in range(fitting[-1] if fitting else 0, len(levels)):
        yield pyramid.level(levels[i].path)


def _is_whole(dataset: Dataset, name: Hashable, pyramid: Pyramid) -> bool:
    """Return whether a Dataset is a level as it was opened, rather than a selection of one."""
    try:
        own = pyramid.level(dataset.attrs.get("level", 0))
    except NodeNotFoundError:
        return False
    return name in own.data_vars and dict(own[name].sizes) == dict(dataset[name].sizes)


def draw(
    candidates: Sequence[Dataset],
    name: Hashable,
    asked: Wish,
    overlays: Sequence[Overlay],
    whole: xr.DataArray,
) -> Picture:
    """Return a picture of the first Dataset of which enough can be read.

    Parameters
    ----------
    candidates
        Levels of one image.
    name
        The variable that is shown.
    asked
        What the picture is to be like.
    overlays
        Labels to lay over it.
    whole
        The image in which planes of the depth are numbered.

    Raises
    ------
    TargetError
        Too little may be read, or what was asked for does not fit the image.
    """
    shown, cuts = _within(candidates, name, asked, overlays, whole)
    height, width = _frame(shown, asked)
    planes = read(shown, asked.project, None if asked.size is None else (height, width))
    picture = painted(planes, shown, asked.colors, uniform=asked.size is None)
    if picture.shape[:2] != (height, width):
        picture = resize(picture, height, width, smooth=not shown.is_labels)
    for one in cuts:
        picture = one.laid_over(picture, asked.project)
    north = asked.size is not None and runs_north(shown.image, shown.layout.plane[0])
    return np.ascontiguousarray(picture[::-1] if north else picture)


def _frame(shown: Shown, asked: Wish) -> tuple[int, int]:
    plane = shown.layout.plane
    if asked.size is not None:
        return fit(shown.image, plane, asked.size)
    return shown.image.sizes[plane[0]], shown.image.sizes[plane[1]]


def _within(
    candidates: Sequence[Dataset],
    name: Hashable,
    asked: Wish,
    overlays: Sequence[Overlay],
    whole: xr.DataArray,
) -> tuple[Shown, tuple[Cut, ...]]:
    """Return what is shown, and labels over it: whole if one of the levels is small enough."""
    rooms = [asked.budget]
    if overlays:
        rooms = [int(part * asked.budget) for part in (1 / (1 + len(overlays)), *_PARTS)]
    for dataset in candidates:
        shown = shown_of(dataset, name)
        if asked.colors is not None:
            shown.check_colors()
        at = plane_of(shown.image, shown.layout.depth, asked.project, whole)
        for room in rooms:
            found = _taken(shown, at, asked, overlays, room, crop=False)
            if found is not None:
                return found
    labelled = "".join(f" with labels {one.name!r}" for one in overlays)
    if asked.size is None:
        raise TargetError(
            f"{name!r} {_sizes(shown.image)}{labelled} pixel by pixel takes more than "
            f"{in_units(asked.budget)}: select less of it, give a size=, or more max_bytes="
        )
    if overlays:
        # Less of the image has fewer labels over it.
        rooms += [rooms[0] >> i for i in range(1, rooms[0].bit_length())]
    for room in rooms:
        found = _taken(shown, at, asked, overlays, room, crop=True)
        if found is not None:
            return found
    raise TargetError(
        f"{name!r} {_sizes(shown.image)}{labelled} has no part that takes less than "
        f"{in_units(asked.budget)}: give more max_bytes="
    )


def _taken(
    shown: Shown,
    at: int | None,
    asked: Wish,
    overlays: Sequence[Overlay],
    room: int,
    *,
    crop: bool,
) -> tuple[Shown, tuple[Cut, ...]] | None:
    """Return what is shown within some bytes, and labels over it within the others."""
    images = 1 + len(shown.more)
    try:
        found = excerpt(shown.image, shown.layout, at, room // images, crop=crop)
    except TargetError:
        if not overlays:
            raise
        # There may be room for a chunk where the labels get less.
        return None
    if found is None:
        return None
    taken = shown.taken(found)
    left = asked.budget - images * found.nbytes
    cuts = cut(taken, overlays, _frame(taken, asked), left)
    return None if cuts is None else (taken, cuts)
