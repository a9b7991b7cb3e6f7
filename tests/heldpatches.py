"""A source of patches over an array in memory, which counts what is held of it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import numpy as np

from hfzarr.plan.windows import WindowGrid, Windows


class Count:
    """Bytes held now and at most, and the chunks that were decoded; not sent to processes."""

    def __init__(self):
        self.lock = threading.Lock()
        self.now = self.most = 0
        self.decoded = []

    def __reduce__(self):
        return Count, ()

    def add(self, nbytes):
        with self.lock:
            self.now += nbytes
            self.most = max(self.most, self.now)


@dataclass
class MemorySource:
    """Patches of images whose pixels are their own number; cut out of chunks that are copied."""

    windows: Windows
    chunk: tuple[int, ...]
    dtypes: dict[str, str] = field(default_factory=lambda: {"image": "<i4"})
    slow: float = 0.0
    fail_at: int | None = None
    """Number of the `hold` that fails."""
    count: Count = field(default_factory=Count)
    holds: int = 0

    @property
    def names(self):
        return tuple(self.dtypes)

    @property
    def patch_bytes(self):
        items = sum(np.dtype(d).itemsize for d in self.dtypes.values())
        return items * int(np.prod(self.windows.size))

    def images(self):
        shape = self.windows.lengths
        numbers = np.arange(np.prod(shape)).reshape(shape)
        return {name: numbers.astype(dtype) for name, dtype in self.dtypes.items()}

    def patches(self, numbers):
        """Return what a batch of windows should hold, by plain slicing."""
        images = self.images()
        return {name: np.stack([self.cut(a, n) for n in numbers]) for name, a in images.items()}

    def cut(self, image, number):
        (start,) = self.windows.starts([number]).tolist()
        boxes = zip(start, self.windows.size, strict=True)
        return image[tuple(slice(first, first + size) for first, size in boxes)]

    def chunks(self, numbers):
        starts = self.windows.starts(numbers)
        lows, highs = starts // self.chunk, (starts + self.windows.size - 1) // self.chunk
        found = set()
        for low, high in zip(lows.tolist(), highs.tolist(), strict=True):
            ranges = [range(a, b + 1) for a, b in zip(low, high, strict=True)]
            found |= {tuple(i) for i in np.stack(np.meshgrid(*ranges), -1).reshape(-1, len(low))}
        return found

    def held_bytes(self, numbers):
        items = sum(np.dtype(d).itemsize for d in self.dtypes.values())
        return items * int(np.prod(self.chunk)) * len(self.chunks(numbers))

    def hold(self, numbers):
        self.holds += 1
        if self.fail_at == self.holds:
            raise OSError("the store is gone")
        nbytes = self.held_bytes(numbers)
        self.count.add(nbytes)
        time.sleep(self.slow)
        self.count.decoded += [tuple(map(int, chunk)) for chunk in self.chunks(numbers)]
        return MemoryHeld(self, set(numbers.tolist()), nbytes)


class MemoryHeld:
    def __init__(self, source, numbers, nbytes):
        self.source, self.numbers, self.nbytes = source, numbers, nbytes

    def __del__(self):
        self.source.count.add(-self.nbytes)

    def take(self, numbers):
        if not self.numbers.issuperset(numbers.tolist()):
            raise KeyError("a window that is not held")
        return self.source.patches(numbers.tolist())


def grid_source(length=24, size=4, stride=4, chunk=6, ndim=2, **options):
    from hfzarr.plan.windows import AxisWindows

    axis = AxisWindows(length=length, size=size, stride=stride)
    return MemorySource(windows=WindowGrid(axes=(axis,) * ndim), chunk=(chunk,) * ndim, **options)
