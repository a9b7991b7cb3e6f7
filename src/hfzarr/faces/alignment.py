"""Levels and labels of one image, under the windows of one of its levels."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Literal

from hfzarr.errors import NodeNotFoundError, TargetError
from hfzarr.faces.patches import Member, Shift
from hfzarr.faces.windowing import spacing_along
from hfzarr.model.spacing import Spacing

if TYPE_CHECKING:
    from xarray import Dataset, DataTree

__all__ = [
    "Context",
    "aligned",
    "label_level",
    "label_mask",
    "label_names",
    "level_names",
    "named_level",
    "reference",
]

#: What a window shows of a coarser level: the same region, or as many pixels around its centre.
Context = Literal["same", "wide"]

# Pyramids are made by whole factors; what differs by less was lost to rounding.
_EXACT = 6
#: A mask is read whole before windows are drawn.
_MASK_PIXELS = 2**24


def reference(dataset: Dataset, size: dict[Hashable, int]) -> Member:
    """Return the Dataset that windows are made for."""
    return Member(dataset=dataset, shifts={dim: Shift(size=n) for dim, n in size.items()})


def aligned(base: Member, dataset: Dataset, name: str, *, context: Context, rename: bool) -> Member:
    """Return another Dataset under the same windows, aligned by world coordinates.

    Dimensions on which windows differ in number of pixels or in place get `name` as a suffix.

    Parameters
    ----------
    base
        The Dataset that windows were made for.
    dataset
        The other one.
    name
        What tells its variables from those of others.
    context
        What its windows show.
    rename
        Whether its only variable is called `name`; otherwise `name` is a suffix of all of them.

    Raises
    ------
    TargetError
        Coordinates do not tell how the two lie on each other.
    """
    if context not in ("same", "wide"):
        raise TargetError(f"context is 'same' or 'wide', not {context!r}")
    shifts = {
        dim: _shift(base, dataset, dim, shift.size, context)
        for dim, shift in base.shifts.items()
        if dim in dataset.sizes
    }
    if not shifts:
        raise TargetError(
            f"{name!r} has none of the windowed dimensions {list(base.shifts)}: it has "
            f"{list(dataset.sizes)}"
        )
    dims: dict[Hashable, Hashable] = {
        dim: f"{dim}_{name}"
        for dim, shift in shifts.items()
        if shift != base.shifts[dim] or dataset.sizes[dim] != base.dataset.sizes[dim]
    }
    names: dict[Hashable, Hashable] = {old: f"{old}_{name}" for old in dataset.data_vars}
    taken = {*base.dataset.variables, *base.dims.values()}
    if rename and len(names) == 1:
        names = {old: f"{old}_{name}" if name in taken else name for old in names}
    return Member(dataset=dataset, shifts=shifts, names=names, dims=dims)


def level_names(tree: DataTree) -> list[str]:
    """Return the names of the levels of an image, finest first.

    Raises
    ------
    NodeNotFoundError
        The node of the tree is no image with levels.
    """
    listed = [str(name) for name in tree.attrs.get("levels", [])]
    found = [name for name in listed if name in tree.children]
    found = found or [name for name, child in tree.children.items() if child.data_vars]
    if not found:
        raise NodeNotFoundError(
            f"node {tree.path!r} has no levels to cut patches from. Its children are "
            f"{list(tree.children)}: choose the node of one image, as in tree['A/1/0']"
        )
    return found


def named_level(tree: DataTree, level: int | str) -> str:
    """Return the name of a level that is given by name, or by number from the finest.

    Raises
    ------
    NodeNotFoundError
        There is no such level.
    """
    names = level_names(tree)
    if isinstance(level, str) and level in names:
        return level
    if isinstance(level, int) and -len(names) <= level < len(names):
        return names[level]
    raise NodeNotFoundError(
        f"node {tree.path!r} has no level {level!r}; it has {len(names)}: {names}. Give a name, "
        f"or a number of 0 to {len(names) - 1}"
    )


def label_level(tree: DataTree, name: str, base: Member) -> Dataset:
    """Return the level of a label image whose pixels are nearest in size to those of windows.

    Raises
    ------
    NodeNotFoundError
        The image has no such labels.
    """
    node = _label_node(tree, name)
    levels = [node.children[level].to_dataset() for level in level_names(node)]
    return min(levels, key=lambda level: _difference(base, level))


def label_mask(tree: DataTree, name: str) -> Dataset:
    """Return the finest level of a label image that is quickly read whole.

    Raises
    ------
    NodeNotFoundError
        The image has no such labels.
    """
    node = _label_node(tree, name)
    levels = [node.children[level].to_dataset() for level in level_names(node)]
    small = [one for one in levels if max(v.size for v in one.data_vars.values()) <= _MASK_PIXELS]
    return small[0] if small else levels[-1]


def _label_node(tree: DataTree, name: str) -> DataTree:
    labels = tree.children.get("labels")
    known = [] if labels is None else list(labels.children)
    if labels is None or name not in known:
        raise NodeNotFoundError(f"node {tree.path!r} has no labels {name!r}; it has {known}")
    return labels.children[name]


def _difference(base: Member, dataset: Dataset) -> float:
    """Return how far a Dataset's pixels are from the windows' in size."""
    total = 0.0
    for dim in base.shifts:
        if dim not in dataset.sizes:
            continue
        ours, theirs = spacing_along(base.dataset, dim), spacing_along(dataset, dim)
        if ours is None or theirs is None or ours.timed or theirs.timed:
            total += abs(base.dataset.sizes[dim] / max(dataset.sizes[dim], 1) - 1)
        else:
            total += abs(float(theirs.step / ours.step) - 1)
    return total


def _shift(base: Member, dataset: Dataset, dim: Hashable, size: int, context: Context) -> Shift:
    ours, theirs = spacing_along(base.dataset, dim), spacing_along(dataset, dim)
    if ours is None or theirs is None or ours.timed != theirs.timed:
        same = base.dataset.sizes[dim] == dataset.sizes[dim]
        if same and (ours is None) == (theirs is None):
            return Shift(size=size)
        raise TargetError(
            f"dimension {dim!r} has {base.dataset.sizes[dim]} and {dataset.sizes[dim]} pixels, and "
            "no evenly spaced coordinates that tell how the two lie on each other"
        )
    _check_units(base.dataset, dataset, dim)
    ratio = _exact(float(ours.step / theirs.step))
    if ratio <= 0:
        raise TargetError(f"coordinates {dim!r} run in opposite directions")
    n = size if context == "wide" else max(1, round(size * ratio))
    return Shift(size=n, ratio=ratio, offset=_offset(ours, theirs, ratio, size, n, context))


def _offset(
    ours: Spacing, theirs: Spacing, ratio: float, size: int, n: int, context: Context
) -> float:
    """Return where a window starts that starts at pixel 0 of its own level."""
    begin = theirs.place(ours.origin)
    if context == "wide":
        # Centre on centre.
        return _exact(begin + ratio * (size - 1) / 2 - (n - 1) / 2)
    # Edge on edge: a pixel's edge lies half a pixel before its centre.
    return _exact(begin - ratio / 2 + 0.5)


def _exact(value: float) -> float:
    """Return a factor or a place without what was lost to rounding."""
    inverse = 1 / value if value else 0.0
    if inverse and abs(inverse - round(inverse)) < 10**-_EXACT * abs(inverse) and round(inverse):
        return 1 / round(inverse)
    return round(value, _EXACT)


def _check_units(one: Dataset, other: Dataset, dim: Hashable) -> None:
    ours, theirs = one.coords[dim].attrs.get("units"), other.coords[dim].attrs.get("units")
    if ours is not None and theirs is not None and ours != theirs:
        raise TargetError(
            f"coordinates {dim!r} are in {ours!r} and in {theirs!r}: convert one of them first"
        )


def label_names(tree: DataTree, labels: Sequence[str] | str | bool) -> list[str]:
    """Return the names of label images: those given, or all for True."""
    if labels is True:
        node = tree.children.get("labels")
        return [] if node is None else list(node.children)
    if labels is False:
        return []
    return [labels] if isinstance(labels, str) else list(labels)
