"""What a user asks of chunks, shards and codecs becomes the v3 array that is written."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hfzarr.errors import TargetError
from hfzarr.faces.inventory import CarriedArray
from hfzarr.faces.windowing import memory_bytes
from hfzarr.model.array import ArrayMeta, parse_array
from hfzarr.model.codecs import fast_chain, shard_index
from hfzarr.model.recode import Codec, CodecsLike, chosen_codecs, default_codecs
from hfzarr.model.rewrite import (
    TypeDoc,
    array_document,
    can_be_sharded,
    carried_fill,
    kept_codecs,
)
from hfzarr.plan.routes import ArraySpec
from hfzarr.plan.shards import SHARD_BYTES, FileLimits, auto_shard, chunk_counts, covering
from hfzarr.store.source import Source

__all__ = ["Lengths", "Wishes", "reshaped"]

#: Lengths in pixels, by dimension or for every axis.
Lengths = Mapping[str, int] | Sequence[int]

# An image or a model's output is looked at one time, one channel, one band after the other.
_LAST_DIMS = frozenset(["t", "time", "c", "channel", "channels", "band", "bands"])
_OBJECT_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a user asks for; see `hfzarr.reshard`, which documents each.

    Attributes
    ----------
    inner_chunk
        Shape of what is encoded as one; None for that of the source.
    shard
        ``"auto"``, a size, a shape, or None for no shards.
    codecs
        Codecs, or None for those of the source.
    """

    inner_chunk: Lengths | None = None
    shard: Lengths | str | None = "auto"
    codecs: CodecsLike = None

    @property
    def shard_bytes(self) -> int | None:
        """The size that shards come near to, or None where a shape was given."""
        if not isinstance(self.shard, str):
            return None
        return SHARD_BYTES if self.shard == "auto" else memory_bytes(self.shard, "shard")

    def check(self, arrays: Iterable[CarriedArray]) -> None:
        """Raise unless some array has the dimensions that are named.

        Raises
        ------
        TargetError
            A wish fits no array, or is of no kind that is known.
        """
        known = [(_dims(array), array.meta.ndim) for array in arrays]
        for name, wish in (("inner_chunk", self.inner_chunk), ("shard", self.shard)):
            if isinstance(wish, Mapping):
                named = {dim for dims, _ in known for dim in dims}
                if unknown := set(wish) - named:
                    raise TargetError(
                        f"{name} names {sorted(map(str, unknown))}, and the arrays have the "
                        f"dimensions {sorted(map(str, named))}"
                    )
            elif isinstance(wish, Sequence) and not isinstance(wish, (str, bytes)):
                if all(len(wish) != ndim for _, ndim in known):
                    counts = sorted({ndim for _, ndim in known})
                    raise TargetError(
                        f"{name}={tuple(wish)} has {len(wish)} lengths, and the arrays have "
                        f"{counts} axes. Name dimensions instead, as in {{'y': 512, 'x': 512}}."
                    )
            elif wish is not None and not isinstance(wish, str):
                size = ", or a size such as '256 MiB'" if name == "shard" else ""
                raise TargetError(
                    f"{name} is a mapping from dimensions to pixels, or a sequence of "
                    f"pixels{size}, not {wish!r}"
                )
            for length in _lengths(wish):
                whole = isinstance(length, numbers.Integral) and not isinstance(length, bool)
                if not whole or (length < 1 and length != -1):
                    raise TargetError(
                        f"{name}: a length is a positive number of pixels, or -1 for all of them, "
                        f"not {length!r}"
                    )
        if isinstance(self.inner_chunk, str):
            raise TargetError(f"inner_chunk is given in pixels, not as {self.inner_chunk!r}")


def reshaped(
    array: CarriedArray,
    types: TypeDoc,
    source: Source,
    wishes: Wishes,
    *,
    path: str,
    shard_bytes: int | None,
) -> tuple[ArraySpec, ArrayMeta]:
    """Return what an array is to become: for the plan, and as the array that is written.

    Parameters
    ----------
    array
        The array as it is.
    types
        Its data type in the words of v3.
    source
        Where it lies.
    wishes
        What was asked for.
    path
        Its path in the target.
    shard_bytes
        The size that shards come near to; None where a shape was asked for.
    """
    meta = array.meta
    chunk, file = _source_chunks(array, source)
    inner = _inner(array, chunk, wishes.inner_chunk)
    legible = meta.shard is None or shard_index(meta) is not None
    codecs, same = _codecs(array, types, wishes.codecs, same_chunks=legible and inner == chunk)
    itemsize = _OBJECT_BYTES if meta.dtype.kind in "OT" else max(meta.dtype.itemsize, 1)
    separator = meta.chunk_key.separator
    unit = _unit(array, inner, itemsize, wishes.shard, shard_bytes, separator)
    sharded = unit != inner
    attrs = meta.attrs if array.is_pixels else carried_fill(meta, meta.attrs)
    doc = array_document(
        meta,
        inner_chunk=inner,
        shard=unit if sharded else None,
        codecs=codecs,
        dims=array.dims,
        attrs=attrs,
        data_type=types.data_type,
        fill_value=types.fill_value,
    )
    from hfzarr.store.bridge import resolve_types

    target = parse_array(path, doc, doc["attributes"], resolve=resolve_types)
    spec = ArraySpec(
        path=path,
        shape=meta.shape,
        dtype=meta.dtype.name,
        itemsize=itemsize,
        chunk=chunk,
        file=file,
        inner=inner,
        unit=unit,
        sharded=sharded,
        packed=meta.shard is not None,
        keeps_bytes=same and legible,
        whole_units=fast_chain(target) is None,
        elements_alike=meta.dtype.kind not in "OT",
    )
    return spec, target


def _dims(array: CarriedArray) -> tuple[str, ...]:
    return array.dims or array.meta.dims or ()


def _lengths(wish: Any) -> list[Any]:
    if isinstance(wish, Mapping):
        return list(wish.values())
    return [] if wish is None or isinstance(wish, str) else list(wish)


def _wished(array: CarriedArray, wish: Lengths, otherwise: Sequence[int]) -> tuple[int, ...] | None:
    """Return the lengths that are wished for along each axis; None if none is for this array."""
    if isinstance(wish, Mapping):
        dims = _dims(array)
        if not set(dims) & set(wish):
            return None
        found = [wish.get(dim, n) for dim, n in zip(dims, otherwise, strict=True)]
    elif len(wish) == array.meta.ndim:
        found = list(wish)
    else:
        return None
    shape = array.meta.shape
    return tuple(
        max(length, 1) if n == -1 else int(n) for n, length in zip(found, shape, strict=True)
    )


def _source_chunks(array: CarriedArray, source: Source) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape of what is encoded as one in the source, and of its files."""
    meta = array.meta
    if meta.inner_chunk is not None:
        chunk = tuple(max(n, 1) for n in meta.inner_chunk)
        return chunk, meta.shard or chunk
    from hfzarr.store.bridge import uneven_chunks

    chunks, _ = uneven_chunks(source, meta)
    # Planned as if all were as long as the longest; zarr-python reads them.
    chunk = tuple(max([*n, 1]) if isinstance(n, tuple) else max(int(n), 1) for n in chunks)
    return chunk, chunk


def _inner(array: CarriedArray, chunk: tuple[int, ...], wish: Lengths | None) -> tuple[int, ...]:
    found = None if wish is None else _wished(array, wish, chunk)
    if found is None:
        return chunk
    # A coarse level may be smaller than what is asked of the finest; its own chunk is kept as is.
    return tuple(
        n if n == own else min(n, max(length, 1))
        for n, own, length in zip(found, chunk, array.meta.shape, strict=True)
    )


def _codecs(
    array: CarriedArray, types: TypeDoc, wish: CodecsLike, *, same_chunks: bool
) -> tuple[tuple[Codec, ...], bool]:
    """Return the codecs of an inner chunk, and whether they give the bytes that are there."""
    meta = array.meta
    kept = kept_codecs(meta) if meta.inner_chunk is not None else None
    if wish is not None:
        chosen = chosen_codecs(wish, meta.dtype, data_type=types.data_type)
        return chosen, kept is not None and _plain(kept) == _plain(chosen)
    nested = kept is not None and any(_plain([c])[0]["name"] == "sharding_indexed" for c in kept)
    if kept is None or (nested and not same_chunks):
        return default_codecs(meta.dtype, data_type=types.data_type), False
    return kept, True


def _plain(codecs: Iterable[Any]) -> list[dict[str, Any]]:
    """Return codecs in one spelling, to compare them."""
    named = [{"name": c} if isinstance(c, str) else dict(c) for c in codecs]
    return [{"name": c["name"], "configuration": c.get("configuration") or {}} for c in named]


def _unit(
    array: CarriedArray,
    inner: tuple[int, ...],
    itemsize: int,
    wish: Lengths | str | None,
    shard_bytes: int | None,
    separator: str,
) -> tuple[int, ...]:
    """Return the shape of a file: the inner chunk's own, where a shard would hold only one."""
    shape = array.meta.shape
    whole = covering(shape, inner)
    if wish is None or math.prod(chunk_counts(shape, inner)) <= 1:
        return inner
    if not can_be_sharded(array.meta.dtype):
        return inner
    if not isinstance(wish, str):
        found = _wished(array, wish, inner)
        if found is not None:
            # Rounded up to whole inner chunks, and no longer than the array needs.
            return tuple(
                min(-(-n // size) * size, longest)
                for n, size, longest in zip(found, inner, whole, strict=True)
            )
    last = [axis for axis, dim in enumerate(_dims(array)) if dim.lower() in _LAST_DIMS]
    return auto_shard(
        shape,
        inner,
        itemsize,
        target_bytes=SHARD_BYTES if shard_bytes is None else shard_bytes,
        separator=separator,
        last=last,
        limits=FileLimits(),
    )
