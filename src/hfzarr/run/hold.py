"""Decoded chunks under some windows are held, and patches are cut out of them in any order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hfzarr.plan.axis import IntArray
from hfzarr.plan.tasks import chunks_under
from hfzarr.plan.tracks import Sampled
from hfzarr.plan.windows import Windows
from hfzarr.run.gather import Blocks, Layout, gather_list
from hfzarr.run.share import Region

__all__ = ["HeldPatches", "PatchArrays"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchArrays:
    """Arrays under windows, of which any windows can be asked for.

    Attributes
    ----------
    windows
        The windows.
    names
        What each array is called.
    arrays
        How each is cut, and how windows lie on it.
    regions
        Where each is read.
    dtypes
        Data type of each.
    pads
        What lies outside each.
    """

    windows: Windows
    names: tuple[str, ...]
    arrays: tuple[Sampled, ...]
    regions: tuple[Region, ...]
    dtypes: tuple[np.dtype[Any], ...]
    pads: tuple[Any, ...]

    @property
    def patch_bytes(self) -> int:
        """Bytes of one patch of all arrays."""
        return sum(array.patch_bytes for array in self.arrays)

    def held_bytes(self, numbers: IntArray) -> int:
        """Return the bytes that `hold` would decode, without reading."""
        total = 0
        for array in self.arrays:
            if not array.held:
                chunk = math.prod(track.cuts.largest for track in array.tracks)
                total += array.itemsize * chunk * len(self._chunks(array, numbers))
        return total

    def hold(self, numbers: IntArray) -> HeldPatches:
        """Fetch and decode the chunks under some windows, each once.

        Raises
        ------
        ReadError
            A chunk could not be fetched or decoded.
        """
        return HeldPatches(
            self,
            [self._read(i, self._chunks(array, numbers)) for i, array in enumerate(self.arrays)],
        )

    def starts(self, array: Sampled, numbers: IntArray) -> tuple[IntArray, ...]:
        """Return where windows start along each axis of an array; once for axes held whole."""
        reference = self.windows.starts(numbers)
        whole = np.zeros(1, np.intp)
        return tuple(
            whole if t.window is None else t.starts(reference[:, t.window]) for t in array.tracks
        )

    def _chunks(self, array: Sampled, numbers: IntArray) -> IntArray:
        return chunks_under(array.tracks, self.starts(array, numbers), grid=False)

    def _read(self, number: int, chunks: IntArray) -> Blocks:
        cuts = [track.cuts for track in self.arrays[number].tracks]
        places = [tuple(row) for row in chunks.tolist()]
        boxes = [
            tuple(axis.interval(k) for axis, k in zip(cuts, place, strict=True)) for place in places
        ]
        return dict(zip(places, self.regions[number].read_boxes(boxes), strict=True))


class HeldPatches:
    """Decoded chunks of some windows; many threads may cut patches out of them.

    Parameters
    ----------
    source
        Whose chunks they are.
    blocks
        The chunks of each array.
    """

    def __init__(self, source: PatchArrays, blocks: list[Blocks]) -> None:
        self._source = source
        self._blocks = blocks

    @property
    def nbytes(self) -> int:
        """Decoded bytes that are held."""
        held = zip(self._source.arrays, self._blocks, strict=True)
        return sum(a.nbytes for one, some in held if not one.held for a in some.values())

    def take(self, numbers: IntArray) -> dict[str, npt.NDArray[Any]]:
        """Return the patches of some of the windows by array: shape ``(windows, *patch)``."""
        source = self._source
        found = {}
        for i, (name, array) in enumerate(zip(source.names, source.arrays, strict=True)):
            layout = Layout(
                tracks=array.tracks,
                cuts=tuple(track.cuts for track in array.tracks),
                dtype=source.dtypes[i],
                pad=source.pads[i],
            )
            starts = source.starts(array, numbers)
            found[name] = gather_list(layout, starts, len(numbers), self._blocks[i])
        return found
