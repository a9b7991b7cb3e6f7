"""Batches of tensors, for torch's `DataLoader`."""

from __future__ import annotations

import functools
import importlib
import zlib
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from hfzarr.errors import TargetError
from hfzarr.faces.batches import Batches, Kind, Pass, check_workers
from hfzarr.plan.axis import IntArray
from hfzarr.run.stream import Arrays

__all__ = ["TensorBatches", "torch_class"]

#: What holds all their values, as torch computes little with unsigned integers.
_WIDER = {"uint16": "int32", "uint32": "int64"}
_MAX_WORKERS = 1020
_EPOCH, _FIRST, _WANTED, _SEEN, _SLOTS = range(5)
_COUNT_BITS = 24
_COUNT_MASK = (1 << _COUNT_BITS) - 1


class Clock:
    """Which epoch is under way, in memory that a process shares with its DataLoader's workers.

    torch starts workers anew for every pass, or keeps them, and tells the dataset of neither. So
    workers find out on their own: those of one pass have a key in common, and whoever comes first
    takes the epoch after the latest. Each writes only into a slot of its own, key and epoch in one
    word, so no lock is needed: a fellow who reads sees either the old word, and reckons the same,
    or the new one, and takes what it says.

    Parameters
    ----------
    words
        A tensor of int64. Its memory stays shared when it is pickled for a worker.
    """

    def __init__(self, words: Any = None) -> None:
        if words is None:
            torch = importlib.import_module("torch")
            words = torch.zeros(_SLOTS + _MAX_WORKERS, dtype=torch.int64)
        if not words.is_shared():
            words = words.clone().share_memory_()
        self._tensor = words
        self._words: npt.NDArray[np.int64] = words.numpy()

    def __reduce__(self) -> tuple[Any, ...]:
        return Clock, (self._tensor,)

    @property
    def passes(self) -> int:
        """Passes that workers have begun since the clock was set."""
        return int((self._words[_SLOTS:] & _COUNT_MASK).max())

    @property
    def workers(self) -> int:
        """Workers of the latest pass."""
        return int(self._words[_SEEN])

    def place(self, passes: int) -> tuple[int, int]:
        """Return the epoch of a pass, counted from 1, and the batch that it begins with."""
        first = int(self._words[_FIRST]) if passes == 1 else 0
        return int(self._words[_EPOCH]) + passes - 1, first

    def set(self, epoch: int, first: int, wanted: int) -> None:
        """Say where the next pass begins."""
        self._words[:] = 0
        self._words[[_EPOCH, _FIRST, _WANTED]] = epoch, first, wanted

    def join(self, key: int, worker: int, workers: int) -> tuple[int, int]:
        """Join the pass of a key; return its epoch, and the batch that it begins with."""
        if workers > _MAX_WORKERS:
            raise TargetError(f"wanted at most {_MAX_WORKERS} workers, got {workers}")
        slots = self._words[_SLOTS:].tolist()
        fellows = [slot & _COUNT_MASK for slot in slots if slot and slot >> _COUNT_BITS == key]
        passes = fellows[0] if fellows else max(slot & _COUNT_MASK for slot in slots) + 1
        place = self.place(passes)
        if place[1]:
            check_workers(int(self._words[_WANTED]), workers)
        self._words[_SLOTS + worker] = key << _COUNT_BITS | passes
        self._words[_SEEN] = workers
        return place


class TensorBatches(Batches):
    """Batches of tensors; see `Batches`.

    They are a torch ``IterableDataset`` of whole batches: give
    ``DataLoader(batches, batch_size=None, num_workers=...)``. Each worker reads a part of its
    own, and the batches come in the order that ``len(batches)`` counts.

    With workers, every pass that is begun is an epoch of its own, and `state_dict` has to be told
    how many batches were taken from the loader since its pass began; an epoch is to be finished
    with as many workers as it was begun with. If torch's own seed is set to the same value before
    each pass, call `set_epoch` before each.

    `memory` bounds each worker. What the loader itself takes ahead (``prefetch_factor`` batches of
    each worker) comes on top.

    ``uint16`` becomes ``int32`` and ``uint32`` becomes ``int64``, which hold the same values: torch
    compares, adds and averages none of its own unsigned integers but bytes. The machine's byte
    order is taken.
    """

    kind: Kind = "torch"
    widening = 2

    def __init__(self, *args: Any, **options: Any) -> None:
        self._clock = Clock()
        self._begun_here = 0
        super().__init__(*args, **options)

    @property
    def epoch(self) -> int:
        """Number of the epoch under way, or of the one that comes next."""
        passes = self._clock.passes
        return self._clock.place(passes)[0] if passes else super().epoch

    def state_dict(self, done: int | None = None) -> dict[str, Any]:
        """Return where the stream is, as plain numbers and strings; see `Batches.state_dict`."""
        passes = self._clock.passes
        if passes and done is None:
            raise TargetError(
                "workers make batches before they are asked for: say how many were taken from "
                "the loader, state_dict(done=...)"
            )
        if passes:
            self._began = self._clock.place(passes)
        return super().state_dict(done)

    def _workers_seen(self) -> int:
        return self._clock.workers if self._clock.passes else super()._workers_seen()

    def _plan_next(self, epoch: int, first: int) -> None:
        super()._plan_next(epoch, first)
        if _worker() is None:
            self._clock.set(epoch, first, self._workers)

    def _begin(self) -> Pass:
        worker = _worker()
        if worker is not None:
            return self._begin_as(worker)
        if passes := self._clock.passes:
            self._move(*self._clock.place(passes + 1))
        return super()._begin()

    def _begin_as(self, worker: Any) -> Pass:
        # A worker that is kept begins many passes with one seed, and all workers equally many.
        self._begun_here += 1
        key = zlib.crc32(f"{worker.seed - worker.id}/{self._begun_here}".encode())
        epoch, first = self._clock.join(key, worker.id, worker.num_workers)
        # The loader asks worker 0 first, wherever the pass begins.
        role = (worker.id + first) % worker.num_workers
        share = self.spec.share(worker=role, workers=worker.num_workers)
        return Pass(epoch=epoch, share=share, first=(first + worker.id) // worker.num_workers)

    def _converted(self, numbers: IntArray, arrays: Arrays) -> Any:
        batch = super()._converted(numbers, arrays)
        return {name: _tensor(name, array) for name, array in batch.items()}


@functools.cache
def torch_class() -> type[Batches]:
    """Return `TensorBatches` as a kind of torch's ``IterableDataset``."""
    data = importlib.import_module("torch.utils.data")
    made = type("TorchBatches", (TensorBatches, data.IterableDataset), {"__module__": __name__})
    return cast("type[Batches]", made)


def _worker() -> Any:
    return importlib.import_module("torch.utils.data").get_worker_info()


def _tensor(name: str, array: npt.NDArray[Any]) -> Any:
    torch = importlib.import_module("torch")
    native = np.require(array.astype(array.dtype.newbyteorder("="), copy=False), None, ["C", "W"])
    if native.dtype.name in _WIDER:
        native = native.astype(_WIDER[native.dtype.name])
    try:
        return torch.from_numpy(native)
    except TypeError as error:
        raise TargetError(
            f"torch has no tensors of {native.dtype}, the data type of {name!r}: leave the "
            "variable out, or take to='numpy' and convert it in a transform"
        ) from error
