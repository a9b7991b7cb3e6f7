"""Where a Dataset or a tree was opened from: it travels with it, and is never written to a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hfzarr.errors import TargetError
from hfzarr.store.location import Location

if TYPE_CHECKING:
    from xarray import Dataset, DataTree

__all__ = ["ORIGIN_KEY", "Origin", "origin_of_dataset", "origin_of_tree"]

ORIGIN_KEY = "hfzarr_origin"

_Shape = tuple[frozenset[Any], Mapping[Any, int]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Origin:
    """A node of a store, and what it looked like when it was opened.

    Attributes
    ----------
    location
        Where the node lies.
    shapes
        Names of variables and lengths of dimensions, for each path of the tree.
    """

    location: Location
    shapes: Mapping[str, _Shape] = field(repr=False)

    @classmethod
    def of(cls, location: Location, path: str, found: Mapping[str, Dataset]) -> Origin:
        """Return the origin of what was opened at a path of a store."""
        shapes = {where: _shape(dataset) for where, dataset in found.items()}
        return cls(location=replace(location, path=path), shapes=shapes)


def _shape(dataset: Dataset) -> _Shape:
    return frozenset(dataset.variables), dict(dataset.sizes)


def origin_of_dataset(dataset: Dataset) -> Location:
    """Return where a Dataset was opened from.

    Raises
    ------
    TargetError
        It was not opened with ``engine="hfzarr"``, or it is a selection, or was changed.
    """
    origin = _origin(dataset.encoding, "Dataset")
    if origin.shapes.get("") != _shape(dataset):
        raise _changed("Dataset", origin)
    return origin.location


def origin_of_tree(tree: DataTree) -> Location:
    """Return where a tree was opened from.

    Raises
    ------
    TargetError
        It was not opened with ``engine="hfzarr"``, or it is a part of what was, or was changed.
    """
    origin = _origin(tree.encoding, "tree")
    now = {
        node.relative_to(tree).removeprefix("."): _shape(node.to_dataset(inherit=False))
        for node in tree.subtree
    }
    opened = {path: shape for path, shape in origin.shapes.items() if path in now}
    # Groups on the way to others have nothing of their own, and were not opened by themselves.
    empty: _Shape = (frozenset(), {})
    if any(opened.get(path, empty) != shape for path, shape in now.items()) or len(opened) < len(
        origin.shapes
    ):
        raise _changed("tree", origin)
    return origin.location


def _origin(encoding: Any, what: str) -> Origin:
    found = encoding.get(ORIGIN_KEY)
    if isinstance(found, Origin):
        return found
    raise TargetError(
        f"this {what} was not opened with engine='hfzarr', or is a part of one that was, so there "
        "is no store to write anew. Call hfzarr.reshard() with a path, or write it with to_zarr()."
    )


def _changed(what: str, origin: Origin) -> TargetError:
    return TargetError(
        f"this {what} is not what was opened from {origin.location.shown!r}: variables or lengths "
        "differ. The whole store is written anew, not a selection: call reshard() on what was "
        "opened, or write this with to_zarr()."
    )
