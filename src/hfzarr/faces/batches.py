"""Batches of patches, a stream for training."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hfzarr.errors import MissingDependencyError, TargetError
from hfzarr.plan.axis import IntArray
from hfzarr.plan.cells import Cells, cells_of, digest_of
from hfzarr.plan.epoch import EpochOrder, EpochSpec, Share, cells_that_fit, pieces, whole_number
from hfzarr.run.ahead import Ahead
from hfzarr.run.stream import Arrays, PatchSource, stream

__all__ = ["Batches", "Kind", "make_batches"]

Kind = Literal["numpy", "torch", "xarray"]
Label = Callable[[IntArray, Arrays], Any]

#: Of the memory allowed, what one shuffle window gets where batches leave enough. It is a share
#: of the whole, so that `prefetch` does not change the order of an epoch.
_WINDOW_SHARE = 3 / 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One pass over an epoch, as one reader makes it.

    Attributes
    ----------
    epoch
        Number of the epoch.
    share
        The reader's part of it.
    first
        Which of the share's batches is made first.
    """

    epoch: int
    share: Share
    first: int


class Batches:
    """A stream of batches: every window once in an epoch, in an order that the seed decides.

    Iterating is one pass over an epoch. After a pass that was completed comes the next epoch; one
    that was broken off is begun anew. Made by ``ds.hfzarr.batches(...)``.

    The order is local to what lies together in the store, so that each chunk is decoded about
    once an epoch: windows are divided by the *cell* (such as a shard) in which they start, cells
    are permuted, and as many cells after one another as memory allows form a *shuffle window*,
    in which all windows are permuted.

    A batch is a dict of arrays of shape ``(batch, *patch)`` by variable, and besides:
    ``"patch"``, the number of each window (int64), and ``"start"``, its first pixel along each
    axis (int64, shape ``(batch, axes)``).

    Parameters
    ----------
    source
        Where patches come from.
    spec
        How windows are divided over batches and ranks.
    cell
        Pixels of a cell along each axis.
    prefetch
        Batches made ahead, on threads, of which one fetches the next shuffle window. 0 for none.
    max_memory
        Bytes that a process which reads (with a DataLoader, each worker) may hold.
    transform
        Called with each batch; what it returns is the batch. With `prefetch`, on a thread.
    label
        Makes an xarray Dataset of the numbers of windows and their patches.

    Raises
    ------
    TargetError
        An option is out of its range, or the memory is too small for batches of this size.
    """

    kind: Kind = "numpy"
    #: How many times larger than its patches a batch may become.
    widening = 1

    def __init__(
        self,
        source: PatchSource,
        spec: EpochSpec,
        *,
        cell: Sequence[int],
        prefetch: int = 2,
        max_memory: int = 1 << 30,
        transform: Callable[[Any], Any] | None = None,
        label: Label | None = None,
    ) -> None:
        self.source = source
        self.spec = spec
        self.cell = tuple(cell)
        self.prefetch = whole_number("prefetch", prefetch, 0)
        self._transform = transform
        self._label = label
        self._check_names()
        self._batch_bytes = spec.batch_size * source.patch_bytes * self.widening
        self._window_bytes = self._divided(max_memory)
        self._window_cells = cells_that_fit(
            self._cells(), weigh=source.held_bytes, limit=self._window_bytes
        )
        self._windows_digest = digest_of(source.windows, self.cell)
        self._next = (0, 0)
        self._began = (0, 0)
        self._done = 0
        self._over = False
        self._passes = 0
        self._workers = 0

    def __len__(self) -> int:
        """Return the number of batches in an epoch, the same on every rank."""
        return self.spec.batches

    def __iter__(self) -> Iterator[Any]:
        """Iterate over one epoch, or what a loaded state leaves of it."""
        return self._deliver(self._begin())

    def __repr__(self) -> str:
        spec = self.spec
        return (
            f"{type(self).__name__}({len(self)} batches of {spec.batch_size}, rank {spec.rank} of "
            f"{spec.world_size}, seed {spec.seed}, epoch {self.epoch}, {self.kind})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive, (self.kind,), self.__dict__

    @property
    def epoch(self) -> int:
        """Number of the epoch under way, or of the one that comes next."""
        return self._next[0] if self._over else self._began[0]

    @property
    def memory(self) -> int:
        """Bytes that a process which reads holds at most.

        They are those of two shuffle windows (one without `prefetch`), of the batches made
        ahead, and of three more: the one being made, its parts, and the one in use.
        """
        held = 2 if self.prefetch else 1
        return held * self._window_bytes + (self.prefetch + 3) * self._batch_bytes

    @property
    def left_out(self) -> int:
        """Windows that an epoch leaves out, over all ranks; others are, in another epoch."""
        return self.spec.left_out

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be over a given epoch, from its first batch.

        Raises
        ------
        TargetError
            The number is not an integer of at least 0.
        """
        number = whole_number("epoch", epoch, 0)
        self._workers = 0
        self._move(number, 0)

    def state_dict(self, done: int | None = None) -> dict[str, Any]:
        """Return where the stream is, as plain numbers and strings.

        A state taken on one rank is good for all.

        Parameters
        ----------
        done
            Batches of this pass that were made use of. Without it, those that were handed out;
            a DataLoader with workers takes more than it hands on, so it has to be given there.

        Raises
        ------
        TargetError
            There are not so many batches.
        """
        epoch, first = self._began if done is not None else (self._began[0], 0)
        at = first + (self._done if done is None else done)
        if not 0 <= at <= len(self):
            raise TargetError(
                f"{done} batches cannot be done: epoch {epoch} has {len(self)}, and this pass "
                f"began with number {first}"
            )
        epoch, at = (epoch + 1, 0) if at == len(self) else (epoch, at)
        return {**self._identity(), "epoch": epoch, "done": at, "workers": self._workers_seen()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next pass go on where a state was taken.

        Raises
        ------
        TargetError
            The state was taken of other batches; the message says what differs.
        """
        wanted = self._identity()
        keys = [*wanted, "epoch", "done", "workers"]
        missing = [key for key in keys if key not in state]
        if missing:
            raise TargetError(f"the state lacks {', '.join(missing)}: give what state_dict returns")
        differing = [
            f"{key} is {state[key]!r} in the state and {value!r} here"
            for key, value in wanted.items()
            if state[key] != value
        ]
        if differing:
            raise TargetError(
                f"the state was taken of other batches: {'; '.join(differing)}. Make the batches "
                "as they were made then"
            )
        epoch, done, workers = (
            whole_number(key, state[key], 0) for key in ("epoch", "done", "workers")
        )
        if done >= len(self):
            raise TargetError(f"{done} batches cannot be done: an epoch has {len(self)}")
        self._workers = workers if done else 0
        self._move(epoch, done)

    def _move(self, epoch: int, first: int) -> None:
        self._plan_next(epoch, first)
        self._enter(epoch, first)

    def _plan_next(self, epoch: int, first: int) -> None:
        self._next = (epoch, first)

    def _enter(self, epoch: int, first: int) -> None:
        """Count from here; passes begun before count no more."""
        self._began, self._done, self._over = (epoch, first), first, False
        self._passes += 1

    def _workers_seen(self) -> int:
        return self._workers or 1

    def _begin(self) -> Pass:
        """Begin a pass in this process."""
        epoch, first = self._next
        if first:
            check_workers(self._workers, 1)
        self._workers = 1
        self._plan_next(epoch, 0)
        self._enter(epoch, first)
        return Pass(epoch=epoch, share=self.spec.share(), first=first)

    def _deliver(self, this: Pass) -> Iterator[Any]:
        number = self._passes
        ready = self._made(this)
        last = this.share.batches
        with closing(ready):
            for done in range(this.first + 1, last + 1):
                # The list lets go of the batch; a name would keep it while the next one is made.
                batch = [next(ready)]
                if number == self._passes:
                    self._done = done
                    if done == last:
                        self._plan_next(this.epoch + 1, 0)
                yield batch.pop()
        self._over = self._over or number == self._passes

    def _made(self, this: Pass) -> Any:
        """Return a closable iterator over batches as they are handed out."""
        batches = self._finished(this)
        return Ahead(batches, alive=self.prefetch + 1) if self.prefetch else batches

    def _finished(self, this: Pass) -> Iterator[Any]:
        spec, share = self.spec, this.share
        order = EpochOrder(self._cells(), seed=spec.seed, epoch=this.epoch, shuffle=spec.shuffle)
        windows = pieces(
            order,
            share,
            first=this.first,
            cells=self._window_cells,
            weigh=self.source.held_bytes,
            limit=self._window_bytes,
        )
        sizes = (share.size(batch) for batch in range(this.first, share.batches))
        made = stream(self.source, windows, sizes, ahead=self.prefetch > 0)
        with closing(made):  # type: ignore[type-var]
            yield from map(self._finish, made)

    def _finish(self, made: tuple[IntArray, Arrays]) -> Any:
        batch = self._converted(*made)
        return batch if self._transform is None else self._transform(batch)

    def _converted(self, numbers: IntArray, arrays: Arrays) -> Any:
        if self._label is not None:
            return self._label(numbers, arrays)
        starts = self.source.windows.starts(numbers)
        return {
            **arrays,
            "patch": numbers.astype(np.int64, copy=False),
            "start": starts.astype(np.int64, copy=False),
        }

    def _cells(self) -> Cells:
        return cells_of(self.source.windows, self.cell)

    def _check_names(self) -> None:
        taken = {"patch", "start"} & set(self.source.names)
        if taken and self._label is None:
            raise TargetError(
                f"a variable is called {sorted(taken)[0]!r}, which a batch uses itself: rename it"
            )

    def _divided(self, max_memory: int) -> int:
        """Return the bytes that a shuffle window may have."""
        batches = (self.prefetch + 3) * self._batch_bytes
        window = min(int(max_memory * _WINDOW_SHARE), (max_memory - batches) // 2)
        if window < 1:
            raise TargetError(
                f"{self.prefetch + 3} batches of {self._batch_bytes} bytes each leave nothing of "
                f"a max_memory of {max_memory}: raise it, or take smaller batches or windows"
            )
        return window

    def _identity(self) -> dict[str, Any]:
        """Return what decides the order of an epoch; all ranks have the same."""
        spec = self.spec
        return {
            "version": 1,
            "windows": self._windows_digest,
            "batch_size": spec.batch_size,
            "shuffle": spec.shuffle,
            "seed": spec.seed,
            "world_size": spec.world_size,
            "drop_last": spec.drop_last,
            "shuffle_cells": self._window_cells,
            "shuffle_bytes": self._window_bytes,
        }


def make_batches(
    source: PatchSource,
    batch_size: int,
    *,
    cell: Sequence[int],
    shuffle: bool = True,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    drop_last: bool = False,
    prefetch: int = 2,
    max_memory: int = 1 << 30,
    to: Kind = "numpy",
    transform: Callable[[Any], Any] | None = None,
    label: Label | None = None,
) -> Batches:
    """Make the batches of a source; for the options, see `Batches` and `EpochSpec`.

    Parameters
    ----------
    to
        ``"numpy"`` for arrays, ``"torch"`` for tensors (the batches are then a torch
        ``IterableDataset``), ``"xarray"`` for Datasets that `label` makes.

    Raises
    ------
    TargetError
        An option is out of its range, or of another kind.
    MissingDependencyError
        Tensors are wanted and torch is not installed.
    """
    if to not in ("numpy", "torch", "xarray"):
        raise TargetError(f"batches are made for 'numpy', 'torch' or 'xarray', not {to!r}")
    if to == "xarray" and label is None:
        raise TargetError("to='xarray' wants a label that makes a Dataset of a batch")
    spec = EpochSpec(
        windows=len(source.windows),
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        rank=rank,
        world_size=world_size,
        drop_last=drop_last,
    )
    return _class(to)(
        source,
        spec,
        cell=cell,
        prefetch=prefetch,
        max_memory=max_memory,
        transform=transform,
        label=label if to == "xarray" else None,
    )


class _LabeledBatches(Batches):
    kind = "xarray"


def _class(kind: Kind) -> type[Batches]:
    if kind == "torch":
        try:
            importlib.import_module("torch")
        except ImportError as error:
            raise MissingDependencyError(
                "to='torch' needs the package torch: install it, or take to='numpy'"
            ) from error
        from hfzarr.faces.torch_batches import torch_class

        return torch_class()
    return _LabeledBatches if kind == "xarray" else Batches


def _revive(kind: Kind) -> Batches:
    """Return an empty object, for a pickle to fill."""
    made = _class(kind)
    return made.__new__(made)


def check_workers(then: int, now: int) -> None:
    """Raise if an epoch was begun with another number of workers; 0 if it does not matter."""
    if then not in (0, now):
        raise TargetError(
            f"the state was taken with {then} reading processes, and there are {now} now: "
            "finish this epoch with as many workers, or call set_epoch"
        )
