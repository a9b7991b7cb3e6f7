"""From what a user asks for to windows, and to what is cut under them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hfzarr.errors import TargetError
from hfzarr.faces.alignment import (
    Context,
    aligned,
    label_level,
    label_names,
    named_level,
    reference,
)
from hfzarr.faces.batches import Batches, make_batches
from hfzarr.faces.foreground import resolve_mask
from hfzarr.faces.images import PYRAMID_KEY, Pyramid
from hfzarr.faces.patches import Member, PatchSet, label_patches, patch_dataset, patch_set
from hfzarr.faces.regions import cuts_of, view_of
from hfzarr.faces.windowing import Lengths, Units, memory_bytes, window_grid, window_size
from hfzarr.plan.draw import draw_in_mask, draw_windows
from hfzarr.plan.windows import Edge, WindowGrid, WindowList

if TYPE_CHECKING:
    from xarray import Dataset, DataTree

__all__ = [
    "at_level",
    "cell_of",
    "choose_windows",
    "cut_batches",
    "cut_patches",
    "dataset_members",
    "drawn_windows",
    "grid_patches",
    "tree_members",
]

#: Decoded bytes that windows of one cell lie in, about: what is shuffled together at least.
_CELL_BYTES = 32 * 2**20


def dataset_members(
    dataset: Dataset, size: Mapping[Any, Any], units: Units, level: int | str | None
) -> list[Member]:
    """Return a Dataset, or another level of it, under windows of a size.

    Raises
    ------
    TargetError
        The size does not fit, or there is no such level.
    """
    chosen = at_level(dataset, level)
    return [reference(chosen, window_size(chosen, size, units))]


def tree_members(
    tree: DataTree,
    size: Mapping[Any, Any],
    units: Units,
    *,
    level: int | str | None,
    levels: Sequence[int | str] | None,
    labels: Sequence[str] | str | bool,
    context: Context,
) -> list[Member]:
    """Return a level of an image, further ones and labels, under windows of a size.

    Raises
    ------
    NodeNotFoundError
        There is no such level or label image.
    TargetError
        The size does not fit, or coordinates do not tell how two of them lie on each other.
    """
    if level is not None and levels is not None:
        raise TargetError("give level= or levels=, not both: windows lie on the first of levels")
    wanted = [0 if level is None else level] if levels is None else list(levels)
    if not wanted:
        raise TargetError("levels= names no level: give at least the one that windows lie on")
    names = list(dict.fromkeys(named_level(tree, one) for one in wanted))
    first = tree.children[names[0]].to_dataset()
    base = reference(first, window_size(first, size, units))
    others = [
        aligned(base, tree.children[name].to_dataset(), name, context=context, rename=False)
        for name in names[1:]
    ]
    others += [
        aligned(base, label_level(tree, name, base), name, context="same", rename=True)
        for name in label_names(tree, labels)
    ]
    return [base, *others]


def drawn_windows(
    base: Member, n: int, *, seed: Any, where: Any, min_foreground: float
) -> WindowList:
    """Return windows at drawn places; with a mask, only where enough of it is foreground.

    Raises
    ------
    TargetError
        A window does not fit, or the mask does not, or no window has enough foreground.
    """
    dims = list(base.shifts)
    lengths = [base.dataset.sizes[dim] for dim in dims]
    size = [shift.size for shift in base.shifts.values()]
    try:
        rng = np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise TargetError(
            f"seed is an integer, a numpy.random.Generator or None, not {seed!r}"
        ) from error
    if where is None:
        return draw_windows(n, lengths, size, rng=rng)
    mask = resolve_mask(base.dataset, where, dims)
    return draw_in_mask(n, lengths, size, mask, least=min_foreground, rng=rng)


def choose_windows(
    base: Member,
    stride: Lengths | None,
    overlap: Lengths | None,
    edge: Edge,
    units: Units,
    n: int | None,
    where: Any,
    min_foreground: float,
    seed: int,
) -> WindowGrid | WindowList:
    """Return all windows, or ``n`` drawn ones.

    Raises
    ------
    TargetError
        Options of both are given, or one does not fit.
    """
    if n is not None:
        if stride is not None or overlap is not None:
            raise TargetError("give stride= or overlap= for all windows, or n= for drawn ones")
        return drawn_windows(base, n, seed=seed, where=where, min_foreground=min_foreground)
    if where is not None:
        raise TargetError("where= is for drawn windows: say how many with n=")
    size = {dim: shift.size for dim, shift in base.shifts.items()}
    return window_grid(base.dataset, size, stride=stride, overlap=overlap, edge=edge, units=units)


def grid_patches(
    members: Sequence[Member],
    stride: Lengths | None,
    overlap: Lengths | None,
    edge: Edge,
    units: Units,
    *,
    pad_value: Any,
    max_memory: int | str,
) -> Dataset:
    """Return patches under all windows."""
    windows = choose_windows(members[0], stride, overlap, edge, units, None, None, 0, 0)
    return cut_patches(members, windows, pad_value=pad_value, max_memory=max_memory)


def cut_patches(
    members: Sequence[Member],
    windows: WindowGrid | WindowList,
    *,
    pad_value: Any,
    max_memory: int | str,
) -> Dataset:
    """Return patches under some windows, lazily."""
    patches = patch_set(members, windows, list(members[0].shifts), pad_value=pad_value)
    return patch_dataset(patches, max_bytes=memory_bytes(max_memory))


def cut_batches(
    members: Sequence[Member],
    windows: WindowGrid | WindowList,
    batch_size: int,
    *,
    pad_value: Any,
    max_memory: int | str,
    **options: Any,
) -> Batches:
    """Return patches under some windows as a stream; for the options, see `make_batches`."""
    patches = patch_set(members, windows, list(members[0].shifts), pad_value=pad_value)
    return make_batches(
        patches.arrays,
        batch_size,
        cell=cell_of(patches),
        max_memory=memory_bytes(max_memory),
        label=partial(label_patches, patches),
        **options,
    )


def at_level(dataset: Dataset, level: int | str | None) -> Dataset:
    """Return another level of the image that a Dataset is a level of.

    Raises
    ------
    TargetError
        It is none, or something was selected from it, which the other level would not have.
    """
    if level is None:
        return dataset
    pyramid = dataset.encoding.get(PYRAMID_KEY)
    if not isinstance(pyramid, Pyramid):
        raise TargetError(
            "level= is for a Dataset as engine='hfzarr' opens an image: open the level that you "
            "want, or cut patches from the tree"
        )
    own = pyramid.level(dataset.attrs.get("level", 0))
    if dict(own.sizes) != dict(dataset.sizes) or set(own.data_vars) != set(dataset.data_vars):
        raise TargetError(
            f"level= would lose what was selected: the level has {dict(own.sizes)}, the Dataset "
            f"{dict(dataset.sizes)}. Open the other level and select there"
        )
    return pyramid.level(level)


def cell_of(patches: PatchSet) -> tuple[int, ...]:
    """Return the box of pixels whose windows are shuffled together: a shard, or about as much.

    Returns
    -------
    tuple of int
        Pixels along each axis of the windows.
    """
    arrays = patches.arrays.arrays
    lead = max(range(len(arrays)), key=lambda i: (not arrays[i].held, arrays[i].patch_bytes))
    member, name = patches.sources[lead]
    variable = member.dataset.variables[name]
    lengths = dict(zip(patches.dims, patches.windows.lengths, strict=True))
    cell = dict(zip(patches.dims, patches.windows.size, strict=True))
    for dim, side in zip(variable.dims, _shard(variable), strict=True):
        if dim in cell:
            ratio = member.shifts[dim].ratio
            cell[dim] = max(1, min(math.ceil(side / ratio), lengths[dim]))
    # Text of no length has no bytes, and no cell of it would be large enough.
    return tuple(_reduced(cell, patches.windows.size, max(variable.dtype.itemsize, 1)))


def _shard(variable: Any) -> tuple[int, ...]:
    """Return the pixels of a variable that lie in one file, along each axis."""
    view = view_of(variable)
    cuts = cuts_of(variable)
    if view is None or view.reader.meta.shard is None:
        return tuple(one.largest for one in cuts)
    shard = view.reader.meta.shard
    return tuple(max(1, shard[axis.source] // abs(axis.step)) for axis in view.axes)


def _reduced(cell: Mapping[Hashable, int], size: Sequence[int], itemsize: int) -> list[int]:
    """Return a cell of about the bytes that it should have: halved, or doubled, side by side."""
    sides = list(cell.values())
    while math.prod(sides) * itemsize > 2 * _CELL_BYTES:
        room = [side / n for side, n in zip(sides, size, strict=True)]
        widest = room.index(max(room))
        if room[widest] < 2:
            break
        sides[widest] = -(-sides[widest] // 2)
    while math.prod(sides) * itemsize < _CELL_BYTES / 2:
        room = [side / n for side, n in zip(sides, size, strict=True)]
        sides[room.index(min(room))] *= 2
    return sides
