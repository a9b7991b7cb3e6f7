"""A small picture of any Dataset, from as few bytes as show it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from hfzarr.errors import NodeNotFoundError, TargetError
from hfzarr.faces.excerpt import BANDS, Excerpt, Layout, Projection, excerpt, layout
from hfzarr.faces.framing import fit, runs_north
from hfzarr.faces.images import PYRAMID_KEY, Pyramid
from hfzarr.faces.looks import NATURAL, looks_of, natural_bands
from hfzarr.faces.paint import mean, paint_labels, sensible, shade, shrink
from hfzarr.faces.picture import (
    ChannelLook,
    Picture,
    composite,
    resize,
)
from hfzarr.faces.sampling import at_level
from hfzarr.faces.windowing import memory_bytes
from hfzarr.plan.reshard import in_units

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = ["MAX_BYTES", "render", "subject", "thumbnail"]

#: What a picture may read unless it is told otherwise.
MAX_BYTES = "64 MiB"
_PROJECTIONS = ("max", "mean", "slice")
_MASKS = ("labels", "image")

AnyArray = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shown:
    """An image, and what is known of it as a whole.

    Attributes
    ----------
    image
        The image, lazily.
    layout
        What its dimensions are.
    looks
        How its channels are shown.
    pyramid
        The image that it is a level of, or a part of one; None if it is no such thing.
    more
        Green and blue, where the image is red.
    """

    image: xr.DataArray
    layout: Layout
    looks: tuple[ChannelLook, ...]
    pyramid: Pyramid | None = None
    more: tuple[xr.DataArray, ...] = ()

    @property
    def is_labels(self) -> bool:
        """Whether its values are names rather than amounts."""
        if self.image.dtype.kind not in "iuf":
            return False
        if "flag_values" in self.image.attrs:
            return True
        if self.pyramid is not None:
            return self.pyramid.image.label is not None
        return self.image.name == "labels" and self.image.dtype.kind != "f"

    def taken(self, found: Excerpt) -> Shown:
        """Return what is shown of an excerpt."""
        more = tuple(one.isel(found.index) for one in self.more)
        return replace(self, image=self.image.isel(found.index), more=more)


def thumbnail(
    dataset: Dataset,
    size: int | None = 256,
    *,
    level: int | str | None = None,
    project: Projection = "max",
    max_bytes: int | str = MAX_BYTES,
) -> Picture:
    """Return a small picture of a Dataset, read from the coarsest level of it that serves.

    It shows the image or the labels of an OME-Zarr store, else the first variable with a plane.
    Channels, six at most, go through their windows in their colours, through percentiles where a
    window is missing or was never chosen; three channels of bytes without colours are red, green
    and blue. Labels and classes each have a colour; an amount that is no image of OME-Zarr runs
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
        What is shown of ``z``: ``"max"``, ``"mean"``, or ``"slice"`` for the middle.
    max_bytes
        Decoded bytes of the chunks that may be read, as a number or as text. Where the level is
        larger, it shows fewer chunks along ``z``, evenly spread, down to the middle one; where no
        level is so small, the middle of the plane, then of the first channel alone. With
        ``size=None`` only ``z`` is thinned out.

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
        There is no such level.
    MissingDependencyError
        Pillow is needed for another size, and not installed.

    Examples
    --------
    >>> ds = xr.Dataset({"a": ("x", [1.0])})
    >>> thumbnail(ds)
    Traceback (most recent call last):
    hfzarr.errors.TargetError: a picture needs a variable of numbers with two dimensions ...
    """
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise TargetError(f"size is a number of pixels from 1 on, or None, not {size!r}")
    if project not in _PROJECTIONS:
        raise TargetError(f"project is one of {_PROJECTIONS}, not {project!r}")
    budget = memory_bytes(max_bytes, "max_bytes")
    name = subject(dataset)
    if level is not None:
        # A level that was named is the one that is shown, whatever the size.
        candidates = [at_level(dataset, level)]
    elif size is None:
        candidates = [dataset]
    else:
        candidates = list(_fitting(dataset, name, size))
    shown = _within(candidates, name, project, budget, crop=size is not None)
    return _picture(shown, size, project)


def render(image: xr.DataArray, *, project: Projection = "max") -> Picture:
    """Return a picture of an array, one pixel a pixel; all of it is read.

    Parameters
    ----------
    image
        With two dimensions at least: along depth it is projected, along others but channels the
        first index is shown.
    project
        ``"max"``, ``"mean"``, or ``"slice"`` for the middle.

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
    return thumbnail(dataset, None, project=project, max_bytes=2**62)


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


def _fitting(dataset: Dataset, name: Hashable, size: int) -> Iterator[Dataset]:
    """Yield the coarsest level that has `size` pixels along its longer side, then coarser ones."""
    pyramid = _pyramid(dataset)
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


def _pyramid(dataset: Dataset) -> Pyramid | None:
    found = dataset.encoding.get(PYRAMID_KEY)
    return found if isinstance(found, Pyramid) else None


def _is_whole(dataset: Dataset, name: Hashable, pyramid: Pyramid) -> bool:
    """Return whether a Dataset is a level as it was opened, rather than a selection of one."""
    try:
        own = pyramid.level(dataset.attrs.get("level", 0))
    except NodeNotFoundError:
        return False
    return name in own.data_vars and dict(own[name].sizes) == dict(dataset[name].sizes)


def _within(
    candidates: list[Dataset], name: Hashable, project: Projection, budget: int, *, crop: bool
) -> Shown:
    """Return what is shown of the first Dataset whose whole plane is within the budget."""
    for dataset in candidates:
        shown = _shown(dataset, name)
        share = budget // (1 + len(shown.more))
        found = excerpt(shown.image, shown.layout, project, share, crop=False)
        if found is not None:
            return shown.taken(found)
    if not crop:
        raise TargetError(
            f"{name!r} {_sizes(shown.image)} pixel by pixel takes more than {in_units(budget)}: "
            "select less of it, give a size=, or more max_bytes="
        )
    found = excerpt(shown.image, shown.layout, project, share, crop=True)
    if found is None:
        raise TargetError(f"{name!r} {_sizes(shown.image)} has no part that is small enough")
    return shown.taken(found)


def _shown(dataset: Dataset, name: Hashable) -> Shown:
    """Return the image of a Dataset at the first place along every dimension but its own."""
    image, pyramid = dataset[name], _pyramid(dataset)
    if pyramid is not None and name not in _MASKS:
        pyramid = None
    whole = layout(image, None if pyramid is None else pyramid.image.channel_dim)
    first = _first_present(dataset, whole.rest)
    if str(whole.channel).lower() in BANDS and pyramid is None and not _is_rgb(image, whole):
        # Bands are not stains: each is a picture of its own.
        first |= {dim: 0 for dim in (whole.channel,) if dim is not None}
        whole = replace(whole, channel=None)
    image, whole = image.isel(first), replace(whole, rest=())
    bands = natural_bands(dataset) if pyramid is None and whole.channel is None else ()
    if bands and image.name == bands[0].name:
        more = tuple(band.isel(first) for band in bands[1:])
        return Shown(image=image, layout=whole, looks=NATURAL, more=more)
    return Shown(image=image, layout=whole, looks=looks_of(image, whole, pyramid), pyramid=pyramid)


def _first_present(dataset: Dataset, dims: tuple[Hashable, ...]) -> dict[Hashable, int]:
    """Return the first index along some dimensions; of a plate, that of a field that is there."""
    first: dict[Hashable, int] = dict.fromkeys(dims, 0)
    present = dataset.coords.get("present")
    if (
        present is not None
        and present.dtype == bool
        and present.ndim
        and set(present.dims) <= set(dims)
    ):
        places = np.argwhere(np.asarray(present.values))
        if len(places):
            first |= dict(zip(present.dims, map(int, places[0]), strict=True))
    return first


def _is_rgb(image: xr.DataArray, shown: Layout) -> bool:
    return (
        image.dtype == np.uint8
        and shown.channel is not None
        and image.sizes[shown.channel] == 3
        and not any(image.attrs.get("channel_colors") or ())
    )


def _picture(shown: Shown, size: int | None, project: Projection) -> Picture:
    """Read what is shown, and paint it."""
    image, plane = shown.image, shown.layout.plane
    height, width = image.sizes[plane[0]], image.sizes[plane[1]]
    if size is not None:
        height, width = fit(image, plane, size)
    planes = [
        _plane(values, shown, project, missing, (height, width) if size is not None else None)
        for values, missing in _read(shown)
    ]
    painted = _painted(planes, shown, uniform=size is None)
    if size is not None and runs_north(image, plane[0]):
        painted = painted[::-1]
    if painted.shape[:2] == (height, width):
        return np.ascontiguousarray(painted)
    return resize(painted, height, width, smooth=not shown.is_labels)


def _read(shown: Shown) -> Iterator[tuple[AnyArray, list[Any]]]:
    """Yield the pixels of each channel, and which of them stand for missing ones."""
    lead = [dim for dim in (shown.layout.channel, shown.layout.depth) if dim is not None]
    for image in (shown.image, *shown.more):
        values = np.asarray(image.transpose(*lead, *shown.layout.plane).values)
        missing = _missing(image)
        for one in values if shown.layout.channel is not None else values[np.newaxis]:
            yield one, missing


def _plane(
    values: AnyArray,
    shown: Shown,
    project: Projection,
    missing: list[Any],
    target: tuple[int, int] | None,
) -> AnyArray:
    """Return one channel as a plane, not much larger than it is shown."""
    if values.dtype.kind == "c":
        values = np.abs(values)
    if missing:
        values = np.where(np.isin(values, missing), np.nan, values)
    if values.ndim > 2:
        values = _projected(values, "max" if shown.is_labels and project == "mean" else project)
    return values if target is None else shrink(values, target, smooth=not shown.is_labels)


def _projected(values: AnyArray, project: Projection) -> AnyArray:
    """Return a plane of a volume, along its first axis."""
    if project == "slice":
        return np.asarray(values[len(values) // 2])
    with np.errstate(all="ignore"):
        if project == "max":
            return np.asarray(np.fmax.reduce(values, axis=0))
        return mean(values, 0)


def _missing(image: xr.DataArray) -> list[Any]:
    """Return the numbers that stand for missing values and were not decoded."""
    found = [image.attrs.get(key) for key in ("_FillValue", "missing_value")]
    flat = [one for some in found if some is not None for one in np.ravel(some)]
    return [one for one in flat if isinstance(one, (int, float, np.number)) and one == one]


def _painted(planes: list[AnyArray], shown: Shown, *, uniform: bool) -> Picture:
    """Return planes, one for each channel, as a picture."""
    if shown.is_labels:
        return paint_labels(planes[0], _label_colors(shown.image.attrs))
    if _is_rgb(shown.image, shown.layout):
        return np.asarray(np.rint(np.nan_to_num(np.stack(planes, axis=-1))), np.uint8)
    if shown.image.dtype.kind == "f" and shown.pyramid is None and len(planes) == 1:
        return shade(planes[0])
    looks = [
        replace(look, window=sensible(look.window, one, shown.image.dtype, uniform=uniform))
        for look, one in zip(shown.looks, planes, strict=False)
    ]
    return composite(xr.DataArray(np.stack(planes), dims=("c", "y", "x")), looks=looks)


def _label_colors(attrs: Mapping[Any, Any]) -> dict[int, Any]:
    """Return what a label image says of its colours: red, green, blue and alpha by label."""
    colors = attrs.get("colors")
    return dict(colors) if isinstance(colors, Mapping) else {}
