"""GeoZarr pyramids: their levels, be they groups, arrays, or arrays in groups."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from xarray import Dataset

from hfzarr.errors import NodeNotFoundError
from hfzarr.faces.groups import clash_error, clashing, group_arrays, group_dataset, kept
from hfzarr.faces.opening import Opening
from hfzarr.model.array import ArrayMeta
from hfzarr.model.geo import GeoLevel, GeoMultiscales
from hfzarr.store.location import join_path

__all__ = ["choose_levels", "companions", "has_own_data", "level_dataset"]


def choose_levels(opening: Opening, where: str, pyramid: GeoMultiscales) -> list[GeoLevel]:
    """Return the level that was asked for, or all of them, finest first.

    Raises
    ------
    NodeNotFoundError
        The pyramid has no such level.
    """
    level, names = opening.options.level, [one.asset for one in pyramid.levels]
    if level is None:
        return list(pyramid.levels)
    index = names.index(level) if isinstance(level, str) and level in names else level
    if isinstance(index, int) and -len(names) <= index < len(names):
        return [pyramid.levels[index]]
    raise NodeNotFoundError(
        f"pyramid {where or '/'!r} has no level {level!r}; it has {names}. "
        f"Give level= as 0 to {len(names) - 1}, as -1 to {-len(names)}, or by name."
    )


def has_own_data(arrays: Mapping[str, ArrayMeta], assets: Collection[str]) -> bool:
    """Whether a pyramid's group holds arrays that are neither levels nor coordinates."""
    return any(
        name not in assets and meta.dim_names != (name,) and meta.ndim
        for name, meta in arrays.items()
    )


def companions(meta: ArrayMeta, arrays: Mapping[str, ArrayMeta]) -> dict[str, ArrayMeta]:
    """Return the arrays beside a level that are coordinates of it: 1-D or less, of its size."""
    sizes = dict(zip(meta.dim_names, meta.shape, strict=True))
    return {
        name: other
        for name, other in arrays.items()
        if other.path != meta.path
        and other.ndim <= 1
        and (other.dims is not None or not other.ndim)
        and all(sizes.get(d) == n for d, n in zip(other.dim_names, other.shape, strict=True))
    }


def level_dataset(opening: Opening, where: str, level: GeoLevel) -> Dataset:
    """Return one level of a pyramid.

    Raises
    ------
    NodeNotFoundError
        The pyramid lists a level that is not there.
    """
    path = join_path(where, level.asset)
    node = opening.hierarchy.node(path)
    if node is None:
        raise NodeNotFoundError(
            f"pyramid {where or '/'!r} lists the level {level.asset!r}, which is not there"
        )
    if node.kind == "array":
        return array_level(opening, path, level)
    arrays = group_arrays(opening, opening.hierarchy.children(path))
    clashes = clashing(kept(opening, arrays).values())
    if clashes:
        raise clash_error(opening, clashes)
    return group_dataset(opening, arrays, node.attrs, where=path, inherited=level.geo)


def array_level(opening: Opening, path: str, level: GeoLevel) -> Dataset:
    """Return a level that is an array, with the coordinates that lie beside it."""
    parent = path.rpartition("/")[0]
    beside = group_arrays(opening, opening.hierarchy.children(parent))
    own = group_arrays(opening, [path])
    (meta,) = own.values()
    arrays = {**own, **companions(meta, beside)}
    return group_dataset(opening, arrays, {}, where=path, inherited=level.geo)
