"""A small picture of a tree: of its first image, or of the level of it that serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hfzarr.errors import NodeNotFoundError, TargetError
from hfzarr.faces.excerpt import Projection, layout
from hfzarr.faces.images import PYRAMID_KEY
from hfzarr.faces.overlay import Labels, Overlay, chosen, of_dataset, of_tree
from hfzarr.faces.picture import Picture
from hfzarr.faces.thumbnail import candidates_of, draw, subject, wish

if TYPE_CHECKING:
    from xarray import Dataset, DataTree

__all__ = ["tree_thumbnail"]


def tree_thumbnail(
    tree: DataTree,
    size: int | None,
    *,
    level: int | str | None,
    project: Projection,
    labels: Labels,
    cmap: str | None,
    max_bytes: int | str,
) -> Picture:
    """Return a picture of a tree; see `hfzarr.faces.thumbnail.thumbnail`.

    Raises
    ------
    NodeNotFoundError
        There is no such level, or there are no such labels.
    TargetError
        No node has anything to show, or an option does not fit.
    """
    asked = wish(size, project, cmap, max_bytes)
    first = _first(tree)
    dataset = first.to_dataset()
    name = subject(dataset)
    overlays: tuple[Overlay, ...] = ()
    if labels is not False:
        overlays = chosen(of_tree(first) or of_dataset(dataset, name), labels)
    if PYRAMID_KEY in dataset.encoding:
        candidates = list(candidates_of(dataset, name, size, level))
        whole = dataset if level is None else candidates[0]
        return draw(candidates, name, asked, overlays, whole[name])
    levels = _levels(first)
    if level is not None:
        one = _named(levels, level)
        return draw([one], name, asked, overlays, one[name])
    finest = _fitting(list(levels.values()), None)
    return draw([_fitting(list(levels.values()), size)], name, asked, overlays, finest[name])


def _first(tree: DataTree) -> DataTree:
    """Return the first node, from the root down, that has something to show."""
    errors: list[TargetError] = []
    for node in tree.subtree:
        try:
            subject(node.to_dataset())
        except TargetError as error:
            errors += [error] if node.data_vars else []
            continue
        return node
    if errors:
        raise errors[0]
    raise TargetError(
        "a picture needs a variable of numbers with two dimensions; this tree is empty"
    )


def _levels(node: DataTree) -> dict[str, Dataset]:
    """Return the node and those beside it that show the same, each in its own pixels."""
    dataset = node.to_dataset()
    name = subject(dataset)
    levels = {}
    for beside in (node,) if node.parent is None else node.parent.children.values():
        other = beside.to_dataset()
        if name in other.data_vars and other[name].dims == dataset[name].dims:
            levels[str(beside.name or "")] = other
    return levels


def _fitting(levels: Sequence[Dataset], size: int | None) -> Dataset:
    """Return the coarsest level with so many pixels along its longer side, else the finest."""
    sides = []
    for dataset in levels:
        image = dataset[subject(dataset)]
        sides.append(max(image.sizes[dim] for dim in layout(image).plane))
    fitting = [side for side in sides if size is not None and side >= size]
    return levels[sides.index(min(fitting) if fitting else max(sides))]


def _named(levels: dict[str, Dataset], level: int | str) -> Dataset:
    names = list(levels)
    name = names[level] if isinstance(level, int) and -len(names) <= level < len(names) else level
    if name not in levels:
        raise NodeNotFoundError(f"there is no level {level!r}: the levels are {names}")
    return levels[str(name)]
