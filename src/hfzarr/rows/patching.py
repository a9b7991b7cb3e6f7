"""Patches of what a handle refers to, one after the other or drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from hfzarr.errors import TargetError
from hfzarr.plan.windows import Edge
from hfzarr.rows.labeled import pixels_variable

if TYPE_CHECKING:
    from hfzarr.rows.handle import ZarrHandle

__all__ = ["is_length", "iter_patches", "lengths_by_dim", "random_patch"]

Lengths = int | Sequence[int] | Mapping[str, int]
AnyArray = npt.NDArray[Any]


def lengths_by_dim(lengths: Lengths, dims: Sequence[str], what: str) -> dict[str, int]:
    """Return a length for each dimension that is spoken of, in the order of the array.

    A number is for the last two, a sequence for as many as it is long.

    Examples
    --------
    >>> lengths_by_dim((8, 16), ("c", "y", "x"), "patch_size")
    {'y': 8, 'x': 16}
    """
    if isinstance(lengths, (int, np.integer)) and not isinstance(lengths, bool):
        lengths = [int(lengths)] * min(2, len(dims))
    if isinstance(lengths, (bool, str)) or not isinstance(lengths, (Mapping, Sequence, np.ndarray)):
        raise TargetError(f"{what} takes a number, a sequence or a mapping, not {lengths!r}")
    if not isinstance(lengths, Mapping):
        if not 0 < len(lengths) <= len(dims):
            raise TargetError(
                f"{what} has {len(lengths)} lengths, {tuple(lengths)}, and the array has the axes "
                f"{tuple(dims)}: give one to {len(dims)}, for the last axes"
            )
        lengths = dict(zip(dims[-len(lengths) :], lengths, strict=True))
    unknown = [dim for dim in lengths if dim not in dims]
    if unknown:
        raise TargetError(f"{what} names {unknown}, and the array has the axes {tuple(dims)}")
    bad = {dim: n for dim, n in lengths.items() if not is_length(n)}
    if bad:
        raise TargetError(f"{what} takes whole numbers of pixels from 1 on, not {bad}")
    return {dim: int(lengths[dim]) for dim in dims if dim in lengths}


def is_length(value: Any) -> bool:
    """Return whether a value is a whole number of pixels from 1 on."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value > 0)


def iter_patches(
    handle: ZarrHandle,
    patch_size: Lengths,
    stride: Lengths | None,
    *,
    level: int | str,
    edge: Edge,
) -> Iterator[tuple[tuple[int, ...], AnyArray]]:
    """Yield where each patch starts, and its pixels; each chunk is decoded once."""
    with handle.store.naming():
        size = lengths_by_dim(patch_size, handle.dims, "patch_size")
        step = None if stride is None else lengths_by_dim(stride, handle.dims, "stride")
        # As a base variable: a coordinate would become an index.
        pixels = pixels_variable(handle, level).variable.to_base_variable()
        patches = xr.Dataset({"pixels": pixels}).hfzarr.patches(size, stride=step, edge=edge)
    return _one_by_one(handle, patches)


def _one_by_one(handle: ZarrHandle, patches: Any) -> Iterator[tuple[tuple[int, ...], AnyArray]]:
    with handle.store.naming():
        for group in patches.hfzarr.stream(to="numpy"):
            for start, patch in zip(group["start"], group["pixels"], strict=True):
                yield tuple(int(i) for i in start), patch


def random_patch(
    handle: ZarrHandle, patch_size: Lengths, *, level: int | str, rng: Any
) -> AnyArray:
    """Read one patch at a place drawn evenly."""
    with handle.store.naming():
        key = _drawn(handle, patch_size, level=level, rng=rng)
    return handle.read(key, level=level)


def _drawn(
    handle: ZarrHandle, patch_size: Lengths, *, level: int | str, rng: Any
) -> tuple[slice, ...]:
    meta = handle.store.pixels(handle.node, level)
    size = lengths_by_dim(patch_size, handle.dims, "patch_size")
    try:
        draw = np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise TargetError(
            f"rng= takes a numpy.random.Generator or what makes one, such as a number, not {rng!r}"
        ) from error
    key = []
    for dim, length in zip(handle.dims, meta.shape, strict=True):
        wanted = size.get(dim, length)
        if wanted > length:
            raise TargetError(
                f"a patch of {wanted} pixels does not fit into the {length} along {dim!r} of "
                f"{handle!r}. Make it smaller, or choose a finer level."
            )
        start = int(draw.integers(0, length - wanted + 1))
        key.append(slice(start, start + wanted))
    return tuple(key)
