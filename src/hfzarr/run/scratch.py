"""Memory that a thread uses again and again."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

__all__ = ["Scratch"]


class Scratch:
    """Buffers by name, one of each for every thread.

    Fresh memory costs a page fault for each 4 KiB of it, which shows beside a fast codec. Pickles
    to an empty one.
    """

    def __init__(self) -> None:
        self._local = threading.local()

    def __reduce__(self) -> tuple[type[Scratch], tuple[()]]:
        return Scratch, ()

    def get(self, name: str, nbytes: int) -> npt.NDArray[np.uint8]:
        """Return a buffer that holds until this thread asks for it by that name again."""
        buffers: dict[str, npt.NDArray[np.uint8]] = self._local.__dict__
        buffer = buffers.get(name)
        if buffer is None or buffer.nbytes < nbytes:
            # Let go of the old one first, so that both are never held.
            buffers.pop(name, None)
            buffer = buffers[name] = np.empty(nbytes, np.uint8)
        return buffer[:nbytes]
