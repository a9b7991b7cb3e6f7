"""What a picture shows of a Dataset: chosen lazily, then read as planes, then painted."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from hfzarr.errors import TargetError
from hfzarr.faces.colormaps import AMOUNT, ColorMap, suited
from hfzarr.faces.excerpt import BANDS, Excerpt, Layout, Projection, layout
from hfzarr.faces.images import PYRAMID_KEY, Pyramid
from hfzarr.faces.looks import NATURAL, looks_of, natural_bands
from hfzarr.faces.paint import mean, paint_labels, sensible, shade, shrink
from hfzarr.faces.picture import ChannelLook, Picture, composite

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = ["Shown", "label_colors", "painted", "projected", "pyramid_of", "read", "shown_of"]

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

    @property
    def is_rgb(self) -> bool:
        """Whether its channels are red, green and blue, as they are."""
        return _is_rgb(self.image, self.layout)

    def taken(self, found: Excerpt) -> Shown:
        """Return what is shown of an excerpt."""
        more = tuple(one.isel(found.index) for one in self.more)
        return replace(self, image=self.image.isel(found.index), more=more)

    def check_colors(self) -> None:
        """Raise where a colormap has nothing to colour.

        Raises
        ------
        TargetError
            Its pixels are labels, or it has several channels.
        """
        count = 1 + len(self.more)
        if self.layout.channel is not None:
            count = self.image.sizes[self.layout.channel]
        if self.is_labels:
            raise TargetError("cmap= is for amounts, and labels have colours of their own")
        if count > 1:
            raise TargetError(f"cmap= is for one channel, and {count} are shown: select one")


def shown_of(dataset: Dataset, name: Hashable) -> Shown:
    """Return the image of a Dataset at the first place along every dimension but its own."""
    image, pyramid = dataset[name], pyramid_of(dataset)
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


def pyramid_of(dataset: Dataset) -> Pyramid | None:
    """Return the image that a Dataset is a level of, or a part of one; None if it is none."""
    found = dataset.encoding.get(PYRAMID_KEY)
    return found if isinstance(found, Pyramid) else None


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


def read(shown: Shown, project: Projection, target: tuple[int, int] | None) -> list[AnyArray]:
    """Read each channel as a plane, not much larger than it is shown; what is missing is NaN.

    Parameters
    ----------
    shown
        What is shown; all of it is read.
    project
        How its depth is projected.
    target
        Height and width of the picture, or None for one pixel a pixel.
    """
    planes = []
    for one, missing in _channels(shown):
        values = np.abs(one) if one.dtype.kind == "c" else one
        if missing:
            values = np.where(np.isin(values, missing), np.nan, values)
        if values.ndim > 2:
            values = projected(values, project, labels=shown.is_labels)
        planes.append(
            values if target is None else shrink(values, target, smooth=not shown.is_labels)
        )
    return planes


def _channels(shown: Shown) -> Iterator[tuple[AnyArray, list[Any]]]:
    """Yield the pixels of each channel, and which of them stand for missing ones."""
    lead = [dim for dim in (shown.layout.channel, shown.layout.depth) if dim is not None]
    for image in (shown.image, *shown.more):
        values = np.asarray(image.transpose(*lead, *shown.layout.plane).values)
        missing = _missing(image)
        for one in values if shown.layout.channel is not None else values[np.newaxis]:
            yield one, missing


def projected(values: AnyArray, project: Projection, *, labels: bool = False) -> AnyArray:
    """Return a plane of a volume, along its first axis; there is no mean of labels.

    Examples
    --------
    >>> volume = np.array([[[1, 4]], [[3, 2]]])
    >>> projected(volume, "mean").tolist(), projected(volume, "mean", labels=True).tolist()
    ([[2.0, 3.0]], [[3, 4]])
    """
    if project not in ("max", "mean"):
        return np.asarray(values[len(values) // 2])
    with np.errstate(all="ignore"):
        if project == "max" or labels:
            return np.asarray(np.fmax.reduce(values, axis=0))
        return mean(values, 0)


def _missing(image: xr.DataArray) -> list[Any]:
    """Return the numbers that stand for missing values and were not decoded."""
    found = [image.attrs.get(key) for key in ("_FillValue", "missing_value")]
    flat = [one for some in found if some is not None for one in np.ravel(some)]
    return [one for one in flat if isinstance(one, (int, float, np.number)) and one == one]


def painted(
    planes: list[AnyArray], shown: Shown, colors: ColorMap | None, *, uniform: bool
) -> Picture:
    """Return planes, one for each channel, as a picture.

    Parameters
    ----------
    planes
        As `read` returns them.
    shown
        What they are planes of.
    colors
        Those of amounts, where they were chosen.
    uniform
        Whether all pixels may look alike.
    """
    if shown.is_labels:
        return paint_labels(planes[0], label_colors(shown.image.attrs))
    if shown.is_rgb:
        return np.asarray(np.rint(np.nan_to_num(np.stack(planes, axis=-1))), np.uint8)
    looks = [
        replace(look, window=sensible(look.window, one, shown.image.dtype, uniform=uniform))
        for look, one in zip(shown.looks, planes, strict=False)
    ]
    colors = colors if colors is not None or len(planes) > 1 else _colors(shown, planes[0])
    if colors is not None:
        return shade(planes[0], colors, looks[0].window)
    return composite(xr.DataArray(np.stack(planes), dims=("c", "y", "x")), looks=looks)


def _colors(shown: Shown, plane: AnyArray) -> ColorMap | None:
    """Return the colours of an amount; None for light, which is no such thing."""
    image = shown.image
    if shown.pyramid is not None or image.dtype.kind not in "iuf":
        return None
    return suited(image.name, image.attrs, plane) or (AMOUNT if image.dtype.kind == "f" else None)


def label_colors(attrs: Mapping[Any, Any]) -> dict[int, Any]:
    """Return what a label image says of its colours: red, green, blue and alpha by label."""
    colors = attrs.get("colors")
    return dict(colors) if isinstance(colors, Mapping) else {}
