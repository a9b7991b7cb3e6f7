"""Boxes that an array is worked through by: what is held at once, and what is read again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hfzarr.plan.shards import chunk_counts, divisors

__all__ = [
    "Boxes",
    "WorkingBox",
    "amplification",
    "axis_pieces",
    "choose_common_box",
    "choose_working_box",
    "pieces",
]

# More candidates along one axis than this only cost time.
_CANDIDATES = 48
# Work in steps of this size where nothing asks for more: each costs some Python.
_COMFORTABLE = 16 * 2**20

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxes:
    """An array cut into boxes of one size, numbered with the last axis fastest.

    Attributes
    ----------
    shape
        Shape of the array.
    box
        Shape of a box; those at the array's end are cut short.
    """

    shape: Shape
    box: Shape

    @property
    def counts(self) -> Shape:
        """Boxes along each axis."""
        return chunk_counts(self.shape, self.box)

    def __len__(self) -> int:
        """Return the number of boxes."""
        return math.prod(self.counts)

    def place(self, number: int) -> Shape:
        """Return where the box of a number lies in the grid of boxes.

        Examples
        --------
        >>> Boxes(shape=(10, 10), box=(4, 5)).place(3)
        (1, 1)
        """
        place: list[int] = []
        for n in reversed(self.counts):
            number, here = divmod(number, n)
            place.append(here)
        return tuple(reversed(place))

    def bounds(self, place: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Return the start and stop of a box along each axis, within the array.

        Examples
        --------
        >>> Boxes(shape=(10, 10), box=(4, 5)).bounds((2, 1))
        ((8, 10), (5, 10))
        """
        return tuple(
            (i * size, min((i + 1) * size, length))
            for i, size, length in zip(place, self.box, self.shape, strict=True)
        )

    def touching(self, bounds: Sequence[tuple[int, int]]) -> tuple[range, ...]:
        """Return the places of the boxes that a region touches, along each axis.

        Examples
        --------
        >>> Boxes(shape=(10, 10), box=(4, 5)).touching(((3, 9), (0, 5)))
        (range(0, 3), range(0, 1))
        """
        return tuple(
            range(start // size, -(-stop // size))
            for (start, stop), size in zip(bounds, self.box, strict=True)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkingBox:
    """What one task makes, and what it holds at once while it does.

    Attributes
    ----------
    box
        Pixels that a task makes: whole write units, one or a group.
    band
        Pixels that it holds at once: whole inner chunks, a divisor of `box` along each axis.
    """

    box: Shape
    band: Shape


def axis_pieces(length: int, one: int, other: int) -> int:
    """Return into how many pieces an axis falls that is cut twice, from its start.

    Examples
    --------
    >>> axis_pieces(12, 4, 6)  # 0-4-6-8-12
    4
    """
    if not length:
        return 0
    shared = (length - 1) // math.lcm(one, other)
    return -(-length // one) + -(-length // other) - 1 - shared


def pieces(shape: Sequence[int], one: Sequence[int], other: Sequence[int]) -> int:
    """Return into how many pieces an array falls that is cut by two grids.

    Examples
    --------
    >>> pieces((12, 12), (4, 12), (6, 12))
    4
    """
    sides = zip(shape, one, other, strict=True)
    return math.prod(axis_pieces(length, a, b) for length, a, b in sides)


def amplification(shape: Sequence[int], chunk: Sequence[int], band: Sequence[int]) -> float:
    """Return how often a chunk is read, on average, by an array worked through band by band.

    Examples
    --------
    >>> amplification((12,), (4,), (6,))
    1.3333333333333333
    """
    total = math.prod(chunk_counts(shape, chunk))
    return pieces(shape, chunk, band) / total if total else 1.0


def choose_working_box(
    shape: Sequence[int],
    chunk: Sequence[int],
    inner: Sequence[int],
    unit: Sequence[int],
    *,
    elements: int,
    comfortable: int,
) -> WorkingBox:
    """Choose how an array is worked through so that few chunks are read more than once.

    Parameters
    ----------
    shape
        Shape of the array.
    chunk
        Shape of a source chunk: what is decoded as one.
    inner
        Shape of what is encoded as one.
    unit
        Shape of a file that is written, a multiple of ``inner``.
    elements
        Elements that may be held at once.
    comfortable
        Elements to hold at once where that costs no more reads.

    Returns
    -------
    WorkingBox
        Of the bands that fit, the one that reads the fewest chunks again, and of those the
        smallest, enlarged to a comfortable size. One inner chunk, if nothing fits.

    Examples
    --------
    >>> choose_working_box((8, 64, 64), (1, 24, 24), (8, 16, 16), (8, 16, 16),
    ...                    elements=8 * 48 * 48, comfortable=1)
    WorkingBox(box=(8, 48, 48), band=(8, 48, 48))
    """
    frontiers = [
        _frontier(length, c, i, u)
        for length, c, i, u in zip(shape, chunk, inner, unit, strict=True)
    ]
    band = _best(frontiers, elements) or tuple(inner)
    band = _enlarged(shape, band, unit, min(comfortable, elements))
    box = tuple(max(b, u) for b, u in zip(band, unit, strict=True))
    return WorkingBox(box=box, band=band)


def choose_common_box(
    shape: Sequence[int],
    chunk: Sequence[int],
    inner: Sequence[int],
    unit: Sequence[int],
    *,
    elements: int,
    comfortable: int,
) -> Shape:
    """Choose by which boxes two chunkings of an array are compared, to decode little twice.

    Parameters
    ----------
    shape, chunk, inner, unit, elements, comfortable
        As for `choose_working_box`.

    Examples
    --------
    >>> choose_common_box((100, 100), (100, 1), (10, 10), (10, 10), elements=400, comfortable=1)
    (40, 10)
    """
    aligned = [
        choose_working_box(
            shape, chunk, inner, unit, elements=elements, comfortable=comfortable
        ).band,
        choose_working_box(
            shape, inner, chunk, chunk, elements=elements, comfortable=comfortable
        ).band,
    ]

    def decoded(band: Shape) -> int:
        return sum(pieces(shape, one, band) * math.prod(one) for one in (chunk, inner))

    return min(aligned, key=decoded)


def _candidates(length: int, chunk: int, inner: int, unit: int) -> Iterator[int]:
    """Yield lengths of a band: divisors of the file in inner chunks, then whole files."""
    per_unit = unit // inner
    yield from (n * inner for n in divisors(per_unit)[-_CANDIDATES - 1 : -1])
    units = max(-(-length // unit), 1)
    aligned = math.lcm(chunk, unit) // unit
    counts = {*range(1, min(units, _CANDIDATES) + 1), min(aligned, units), units}
    yield from (n * unit for n in sorted(counts))


def _frontier(length: int, chunk: int, inner: int, unit: int) -> list[tuple[int, int, int]]:
    """Return the bands along one axis of which none is both longer and worse than another.

    Each is its length, the pixels of it that lie in the array, and the chunks read.
    """
    kept: list[tuple[int, int, int]] = []
    for band in _candidates(length, chunk, inner, unit):
        reads = axis_pieces(length, chunk, band)
        if not kept or reads < kept[-1][2]:
            kept.append((band, min(band, max(length, 1)), reads))
    return kept


def _best(frontiers: Sequence[Sequence[tuple[int, int, int]]], elements: int) -> Shape | None:
    """Return the bands of the fewest reads, then of the fewest elements, that fit."""
    states: list[tuple[int, int, Shape]] = [(1, 1, ())]
    for frontier in frontiers:
        grown = sorted(
            (reads * more, held * side, (*bands, band))
            for reads, held, bands in states
            for band, side, more in frontier
            if held * side <= elements
        )
        states = []
        for state in grown:
            # Sorted by reads: a state is worth keeping if it holds less than all before it.
            if not states or state[1] < states[-1][1]:
                states.append(state)
    return states[0][2] if states else None


def _enlarged(shape: Sequence[int], band: Shape, unit: Sequence[int], elements: int) -> Shape:
    """Lengthen a band within its file, the last axes first, up to a number of elements."""
    lengths = list(band)
    for axis in reversed(range(len(lengths))):
        whole, here = unit[axis], lengths[axis]
        if here >= whole:
            continue
        rest = math.prod(
            min(n, max(length, 1))
            for i, (n, length) in enumerate(zip(lengths, shape, strict=True))
            if i != axis
        )
        fitting = [
            n * here
            for n in divisors(whole // here)
            if rest * min(n * here, shape[axis]) <= elements
        ]
        if not fitting:
            continue
        lengths[axis] = fitting[-1]
    return tuple(lengths)
