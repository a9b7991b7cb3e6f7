"""Arrays under windows: how windows lie on each axis, and what lies under them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hfzarr.plan.axis import IntArray
from hfzarr.plan.cuts import Cuts
from hfzarr.plan.windows import WindowGrid, WindowList

__all__ = ["Sampled", "Track"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One axis of an array under the windows.

    Attributes
    ----------
    cuts
        The array's chunks along the axis.
    size
        Pixels of a patch along the axis.
    window
        Which axis of the windows it follows; None for an axis that patches hold whole.
    ratio, offset
        Where a window that starts at ``s`` starts here: ``floor(ratio * s + offset + 1/2)``.
    """

    cuts: Cuts
    size: int
    window: int | None = None
    ratio: float = 1.0
    offset: float = 0.0

    @property
    def most_chunks(self) -> int:
        """Chunks that one window can touch."""
        chunk = max(self.cuts.largest, 1)
        return (self.size + chunk - 2) // chunk + 1

    def starts(self, reference: IntArray) -> IntArray:
        """Return where windows start on this axis, given where they start on the windows' own."""
        if self.ratio == 1.0 and self.offset == 0.0:
            return reference
        moved: IntArray = np.floor(self.ratio * reference + self.offset + 0.5).astype(np.intp)
        return moved


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """One array that patches are cut from.

    Attributes
    ----------
    tracks
        Its axes.
    itemsize
        Bytes of an element.
    held
        Whether its chunks are there already, in memory or as tasks of a graph.
    """

    tracks: tuple[Track, ...]
    itemsize: int
    held: bool = False

    @property
    def patch_bytes(self) -> int:
        """Bytes of one patch."""
        return self.itemsize * math.prod(track.size for track in self.tracks)

    @property
    def chunk_bytes(self) -> int:
        """Bytes of the largest chunk."""
        return self.itemsize * math.prod(track.cuts.largest for track in self.tracks)

    def touched_bytes(self, windows: WindowGrid | WindowList, counts: Sequence[int]) -> float:
        """Return about the decoded bytes of the chunks under a group of windows.

        Parameters
        ----------
        windows
            What they are of.
        counts
            For a grid, windows along each axis of it; for a list, one number.
        """
        if self.held:
            return 0.0
        pixels, most = 1.0, 1.0
        for track in self.tracks:
            # A window lies as often as not where it touches one chunk more.
            span = min(track.size + max(track.cuts.largest, 1) - 1, track.cuts.stop)
            most *= track.cuts.stop
            if track.window is None or isinstance(windows, WindowList):
                pixels *= span
                continue
            n = counts[track.window]
            stride = track.ratio * windows.axes[track.window].stride
            pixels *= min(n * span, (n - 1) * stride + span, track.cuts.stop)
        if isinstance(windows, WindowList):
            pixels = min(pixels * counts[0], most)
        return pixels * self.itemsize
