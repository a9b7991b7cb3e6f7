"""Labels over a picture: where they are kept, and which of their pixels lie where on it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr

from hfzarr.errors import NodeNotFoundError, TargetError
from hfzarr.faces.excerpt import Excerpt, Layout, Projection, excerpt
from hfzarr.faces.images import image_dataset
from hfzarr.faces.paint import overlaid
from hfzarr.faces.picture import Picture
from hfzarr.faces.planes import Shown, label_colors, projected, pyramid_of
from hfzarr.model.report import Report
from hfzarr.store.hierarchy import Hierarchy
from hfzarr.store.node import classify, read_images

if TYPE_CHECKING:
    from xarray import Dataset, DataTree

__all__ = ["Cut", "Labels", "Overlay", "chosen", "cut", "of_dataset", "of_tree"]

#: Which labels are laid over: none, all, one or several by name.
Labels: TypeAlias = bool | str | Sequence[str]

AnyArray = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Overlay:
    """A label image that can be laid over a picture.

    Attributes
    ----------
    name
        What it is called.
    levels
        Its pixels, lazily, finest first.
    """

    name: str
    levels: tuple[xr.DataArray, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cut:
    """The pixels of a label image that lie under a picture.

    Attributes
    ----------
    image
        They, lazily.
    layout
        What its dimensions are.
    rows, columns
        For each row and column of the picture, which of the pixels lie there; -1 for none.
    nbytes
        Decoded bytes of the chunks that hold them.
    """

    image: xr.DataArray
    layout: Layout
    rows: Indices
    columns: Indices
    nbytes: int

    def laid_over(self, picture: Picture, project: Projection) -> Picture:
        """Read the labels, and return a picture with them."""
        lead = [] if self.layout.depth is None else [self.layout.depth]
        values = np.asarray(self.image.transpose(*lead, *self.layout.plane).values)
        if lead:
            values = projected(values, project, labels=True)
        under = values[self.rows[:, np.newaxis], self.columns]
        absent = (self.rows < 0)[:, np.newaxis] | (self.columns < 0)
        return overlaid(picture, np.where(absent, 0, under), label_colors(self.image.attrs))


def chosen(known: Mapping[str, Overlay], labels: Labels) -> tuple[Overlay, ...]:
    """Return the labels that were asked for.

    Raises
    ------
    NodeNotFoundError
        There are none of that name.
    TargetError
        It is no name.
    """
    if isinstance(labels, bool):
        return tuple(known.values()) if labels else ()
    names = [labels] if isinstance(labels, str) else labels
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise TargetError(f"labels= is a name, several, or True for all of them, not {labels!r}")
    for name in names:
        if name not in known:
            raise NodeNotFoundError(
                f"there are no labels {name!r} of this image: there are {list(known) or 'none'}"
            )
    return tuple(known[name] for name in dict.fromkeys(names))


def of_dataset(dataset: Dataset, name: Hashable) -> dict[str, Overlay]:
    """Return the labels that lie over a variable: beside it, and beside its image in the store."""
    plane = {str(dim) for dim in dataset[name].dims}
    found: dict[str, Overlay] = {}
    for other, variable in dataset.data_vars.items():
        named = other == "labels" or variable.dtype.kind in "iub"
        if other != name and named and variable.ndim > 1 and {*map(str, variable.dims)} <= plane:
            found[str(other)] = Overlay(name=str(other), levels=(variable,))
    pyramid = pyramid_of(dataset)
    if pyramid is None or pyramid.image.label is not None:
        return found
    # Repairs were told of when the image was opened.
    hierarchy, report = Hierarchy(pyramid.source), Report()
    node = hierarchy.open(pyramid.image.where)
    ome = None if node is None else classify(node, report)[1]
    images = {} if ome is None else read_images(hierarchy, [ome], report, lenient=True)
    for image in images.values():
        for label, own in image.labels.items():
            levels = [image_dataset(pyramid.source, own, level) for level in own.levels]
            found[label] = Overlay(name=label, levels=tuple(one["labels"] for one in levels))
    return found


def of_tree(node: DataTree) -> dict[str, Overlay]:
    """Return the labels in a tree that lie over a node of it, or over levels beside that."""
    found: dict[str, Overlay] = {}
    for near in (node, node.parent):
        below = None if near is None else near.children.get("labels")
        for name, child in {} if below is None else below.children.items():
            nodes = [one.to_dataset() for one in (child, *child.children.values())]
            levels = [variable for one in nodes for variable in _masks(one)]
            if levels:
                finest_first = sorted(levels, key=lambda one: one.size, reverse=True)
                found.setdefault(name, Overlay(name=name, levels=tuple(finest_first)))
    return found


def _masks(dataset: Dataset) -> Iterable[xr.DataArray]:
    """Return the variable of a level that holds labels, if one does."""
    names = [name for name in dataset.data_vars if dataset[name].ndim > 1]
    names.sort(key=lambda name: name != "labels")
    return [dataset[name] for name in names if dataset[name].dtype.kind in "iufb"][:1]


def cut(
    shown: Shown, overlays: Sequence[Overlay], target: tuple[int, int], budget: int
) -> tuple[Cut, ...] | None:
    """Return the labels under a picture, each from the coarsest level that has as many pixels.

    Parameters
    ----------
    shown
        What the picture is of; labels are laid over it by the coordinates of both.
    overlays
        The labels.
    target
        Height and width of the picture.
    budget
        Decoded bytes that all of them may read.

    Returns
    -------
    tuple of Cut or None
        None where even their coarsest levels take more. One that lies elsewhere is left out.

    Raises
    ------
    TargetError
        Coordinates do not tell how a label image lies on the picture.
    """
    cuts: list[Cut] = []
    for i, overlay in enumerate(overlays):
        share = budget // (len(overlays) - i)
        places = [_Places.of(shown, level, overlay.name, target) for level in overlay.levels]
        there = [one for one in places if one is not None]
        if not there:
            continue
        fitting = [k for k, one in enumerate(there) if one.is_fine]
        found = next(
            (one for at in there[max(fitting, default=0) :] if (one := at.cut(share))), None
        )
        if found is None:
            return None
        cuts.append(found)
        budget -= found.nbytes
    return tuple(cuts)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Places:
    """Where a level of a label image lies on a picture."""

    image: xr.DataArray
    layout: Layout
    rows: Indices
    columns: Indices

    @classmethod
    def of(
        cls, shown: Shown, labels: xr.DataArray, name: str, target: tuple[int, int]
    ) -> _Places | None:
        """Return where it lies; None if it lies elsewhere."""
        image, plane = shown.image, shown.layout.plane
        if not set(plane) <= set(labels.dims):
            raise TargetError(
                f"labels {name!r} have dimensions {list(labels.dims)}, and the picture shows "
                f"{list(plane)}"
            )
        depth = _depth(shown, labels)
        lines, index = list[Indices](), dict[Hashable, Any]()
        for dim, count in zip(plane, target, strict=True):
            along = _nearest(image, labels, dim, name)
            centres = (np.arange(count) + 0.5) * len(along) / count
            lines.append(along[centres.astype(np.intp)])
            index[dim] = _span(lines[-1])
        for dim in labels.dims:
            if dim not in (*plane, depth):
                index[dim] = _place(image, labels, dim, name)
            elif dim == depth and dim in image.dims:
                index[dim] = _span(_nearest(image, labels, dim, name))
        if None in index.values():
            return None
        rows, columns = (
            np.where(one < 0, -1, one - index[dim].start)
            for dim, one in zip(plane, lines, strict=True)
        )
        taken = labels.isel(index)
        return cls(image=taken, layout=Layout(plane=plane, depth=depth), rows=rows, columns=columns)

    @property
    def is_fine(self) -> bool:
        """Whether it has about a pixel for each of the picture, or more."""
        return all(_step(one) >= 0.99 for one in (self.rows, self.columns))

    def cut(self, budget: int) -> Cut | None:
        """Return its pixels; None where their chunks take more than a budget."""
        found: Excerpt | None = excerpt(self.image, self.layout, None, budget, crop=False)
        if found is None:
            return None
        return Cut(
            image=self.image.isel(found.index),
            layout=self.layout,
            rows=self.rows,
            columns=self.columns,
            nbytes=found.nbytes,
        )


def _depth(shown: Shown, labels: xr.DataArray) -> Hashable | None:
    """Return the dimension of labels that is projected, if there is one."""
    own = shown.layout.depth
    if own is not None:
        return own if own in labels.dims else None
    return next(
        (dim for dim in labels.dims if str(dim) == "z" and dim not in shown.image.coords), None
    )


def _nearest(image: xr.DataArray, labels: xr.DataArray, dim: Hashable, name: str) -> Indices:
    """Return for each pixel of an image along a dimension which of the labels is there, or -1."""
    ours, theirs = _coordinate(image, dim), _coordinate(labels, dim)
    count, own = labels.sizes[dim], image.sizes.get(dim, 1)
    if ours is None or theirs is None:
        if count != own and (ours is None) != (theirs is None):
            raise TargetError(
                f"dimension {dim!r} has {own} pixels, and {count} of labels {name!r}: give both a "
                "coordinate, which tells how they lie on each other"
            )
        return np.asarray(np.arange(own) * count // own, np.intp)
    units = [str(one.coords[dim].attrs.get("units", "")) for one in (image, labels)]
    if all(units) and units[0] != units[1]:
        raise TargetError(f"{dim!r} is in {units[0]!r}, that of labels {name!r} in {units[1]!r}")
    if count < 2:
        return np.zeros(own, np.intp)
    order = np.argsort(theirs, kind="stable")
    steps = np.diff(theirs[order])
    # What lies between two pixels is the first's, whatever rounding made of its place.
    places = ours - 1e-6 * np.abs(steps).min()
    found = np.searchsorted(theirs[order][1:] - steps / 2, places)
    ends = theirs[order[0]] - steps[0] / 2, theirs[order[-1]] + steps[-1] / 2
    return np.where((places < ends[0]) | (places > ends[1]), -1, order[found])


def _coordinate(image: xr.DataArray, dim: Hashable) -> AnyArray | None:
    """Return a dimension's coordinate, also of a place that was selected; None if it has none."""
    if dim not in image.coords or image.coords[dim].dims not in ((), (dim,)):
        return None
    values = np.atleast_1d(image.coords[dim].values)
    return values.astype(np.float64) if values.dtype.kind in "iuf" else None


def _place(image: xr.DataArray, labels: xr.DataArray, dim: Hashable, name: str) -> int | None:
    """Return which index of further labels is shown: that of the place of the image."""
    if dim in image.dims or _coordinate(image, dim) is None or _coordinate(labels, dim) is None:
        return 0
    found = int(_nearest(image, labels, dim, name)[0])
    return None if found < 0 else found


def _span(along: Indices) -> slice | None:
    """Return the pixels that are named; None where none is."""
    there = along[along >= 0]
    return slice(int(there.min()), int(there.max()) + 1) if there.size else None


def _step(along: Indices) -> float:
    """Return from one pixel of a picture to the next, in pixels of labels."""
    there = along[along >= 0]
    return abs(int(there[-1]) - int(there[0])) / (len(there) - 1) if len(there) > 1 else 1.0
