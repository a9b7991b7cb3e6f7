"""Passes over an array whose new shards would each need too much of the old chunks.

The idea is rechunker's (https://rechunker.readthedocs.io/en/latest/algorithm.html): between a
grid of chunks and another, write the array once more, cut so that both sides hold no more than a
bound. There the intermediate is an array of chunks, each of which is a file. Here a task writes one
file, in which the pieces that each later task needs lie together: no more files than tasks, and
one read for each piece.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from hfzarr.plan.boxes import Shape, WorkingBox, pieces
from hfzarr.plan.shards import divisors

__all__ = ["choose_stages"]

# What an intermediate costs: its bytes, written and read, and a request for each piece.
_BYTES_PER_SECOND = 1e9
_SECONDS_PER_PIECE = 50e-6
_MOST_STAGES = 4
# Pieces of this size are read at full speed; larger ones gain nothing.
_GOOD_PIECE = 2**20


def choose_stages(
    shape: Sequence[int],
    chunk: Sequence[int],
    inner: Sequence[int],
    unit: Sequence[int],
    *,
    itemsize: int,
    elements: int,
) -> tuple[tuple[Shape, ...], WorkingBox]:
    """Choose the boxes of each pass: the first reads whole chunks, the last makes whole files.

    Parameters
    ----------
    shape
        Shape of the array.
    chunk
        Shape of a source chunk.
    inner
        Shape of what is encoded as one.
    unit
        Shape of a file that is written.
    itemsize
        Bytes of an element.
    elements
        Elements that may be held at once; at least those of ``chunk`` and of ``inner``.

    Returns
    -------
    tuple
        The box of each pass that writes an intermediate, and the working box of the last pass.

    Examples
    --------
    >>> choose_stages((1000, 1000), (1000, 1), (1, 1000), (1, 1000), itemsize=8, elements=100_000)
    (((1000, 64),), WorkingBox(box=(64, 1000), band=(64, 1000)))
    """
    first, last = _ends(shape, chunk, inner, unit, elements, _GOOD_PIECE // itemsize)
    nbytes = math.prod(shape) * itemsize
    best: tuple[Shape, ...] = (first,)
    least = math.inf
    for count in range(1, _MOST_STAGES + 1):
        boxes = [first, *_between(shape, first, last, count - 1), last]
        parts = sum(pieces(shape, a, b) for a, b in itertools.pairwise(boxes))
        cost = 2 * count * nbytes / _BYTES_PER_SECOND + parts * _SECONDS_PER_PIECE
        if cost < least:
            least, best = cost, tuple(boxes[:-1])
    box = tuple(max(b, u) for b, u in zip(last, unit, strict=True))
    return best, WorkingBox(box=box, band=last)


def _ends(
    shape: Sequence[int],
    chunk: Sequence[int],
    inner: Sequence[int],
    unit: Sequence[int],
    elements: int,
    good: int,
) -> tuple[Shape, Shape]:
    """Return the boxes that the first pass reads and the last one makes.

    Both grow, by the step that joins the most pieces for the memory it takes, until pieces are
    large enough or nothing more fits.
    """
    ends: list[Shape] = [tuple(chunk), tuple(inner)]
    total = math.prod(shape)
    count = pieces(shape, *ends)
    while total / count < good:
        steps: list[tuple[float, int, Shape, int]] = []
        for side, base in ((0, chunk), (1, inner)):
            for axis, length in enumerate(shape):
                grown = _step(ends[side], axis, base[axis], unit[axis] if side else 0, length)
                if grown is None or _held(shape, grown) > elements:
                    continue
                new = pieces(shape, grown, ends[1 - side])
                if new < count:
                    factor = _held(shape, grown) / _held(shape, ends[side])
                    gain = math.log(count / new) / math.log(max(factor, 1.0001))
                    steps.append((gain, side, grown, new))
        if not steps:
            break
        _, side, grown, count = max(steps)
        ends[side] = grown
    return ends[0], ends[1]


def _step(box: Shape, axis: int, base: int, unit: int, length: int) -> Shape | None:
    """Return a box that is longer along an axis, or None where it reaches the end."""
    here = box[axis]
    if here >= length:
        return None
    longer = 2 * here
    if unit and here < unit:
        # Within a file: a divisor of it, so that bands do not straddle two files.
        longer = base * next(n for n in divisors(unit // base) if n > here // base)
    elif unit:
        base = unit
    longest = -(-length // base) * base
    return (*box[:axis], min(longer, longest), *box[axis + 1 :])


def _held(shape: Sequence[int], box: Sequence[int]) -> int:
    return math.prod(min(n, length) for n, length in zip(box, shape, strict=True))


def _between(shape: Sequence[int], first: Shape, last: Shape, count: int) -> list[Shape]:
    """Return boxes that lead from one shape to another in equal ratios."""
    boxes: list[Shape] = []
    for step in range(1, count + 1):
        share = step / (count + 1)
        sides = []
        for *ends, length in zip(first, last, shape, strict=True):
            # What sticks out of the array holds nothing.
            a, b = (min(end, length) for end in ends)
            low = min(a, b)
            # Rounded down, to whole multiples of the smaller, so that memory is not exceeded.
            sides.append(max(int(a ** (1 - share) * b**share + 1e-9) // low, 1) * low)
        boxes.append(tuple(sides))
    return boxes
