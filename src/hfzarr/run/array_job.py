"""One array that is being rewritten: what every task of it needs to know."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from hfzarr.errors import HfzarrError
from hfzarr.model.array import ArrayMeta
from hfzarr.plan.boxes import Boxes
from hfzarr.plan.routes import ArrayPlan
from hfzarr.store.sink import WORK, Sink
from hfzarr.store.source import Source

__all__ = ["ArrayJob", "digest_of"]

_REMOTE_STAMPS = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArrayJob:
    """An array, what it becomes, and how.

    Attributes
    ----------
    number
        Number of the array in the plan.
    plan
        How it is rewritten.
    source
        The store that it lies in.
    meta
        The array there.
    sink
        Where the target is written.
    target
        The array there.
    """

    number: int
    plan: ArrayPlan
    source: Source
    meta: ArrayMeta
    sink: Sink
    target: ArrayMeta

    @property
    def last(self) -> int:
        """Number of the pass that writes the target."""
        return len(self.plan.passes) - 1

    def units(self) -> Boxes:
        """Return the grid of the target's files."""
        return Boxes(shape=self.target.shape, box=self.plan.spec.unit)

    def key(self, unit: Sequence[int]) -> str:
        """Return the key of a file of the target."""
        return _below(self.target, tuple(unit))

    def of_target(self) -> ArrayJob:
        """Return the job that would rewrite the target as it is, and so reads it as tasks do."""
        spec = self.plan.spec
        spec = replace(spec, file=spec.unit, chunk=spec.inner, packed=spec.sharded)
        plan = replace(self.plan, spec=spec)
        return replace(self, plan=plan, source=self.sink.source(), meta=self.target)

    def task(self, step: int, number: int) -> str:
        """Return the name of a task, the same in every run."""
        return f"{self.number}.{step}.{number}"

    def scratch_key(self, step: int, number: int) -> str:
        """Return the key of what a task of a pass before the last writes."""
        return f"{WORK}/scratch/{self.number}/{step}/{number}"

    def source_keys(self, number: int) -> list[str]:
        """Return the keys of the source's files that a task of the first pass may read."""
        bounds = self.plan.boxes(0).bounds(self.plan.boxes(0).place(number))
        files = Boxes(shape=self.meta.shape, box=self.plan.spec.file)
        return [_below(self.meta, place) for place in itertools.product(*files.touching(bounds))]

    def stamped_keys(self, step: int, number: int) -> list[str]:
        """Return the keys of the source whose stamps tell whether a task's sources changed."""
        if step:
            return []
        keys = self.source_keys(number)
        # Over a network a stamp is a request: some of many must do.
        return keys if self.source.local else keys[:: max(len(keys) // _REMOTE_STAMPS, 1)]

    def stamp(self, step: int, number: int) -> str:
        """Return a short text that changes when what a task reads from the source does."""
        return digest_of(self.source.stamps(self.stamped_keys(step, number)))

    @contextmanager
    def naming(self, bounds: Sequence[tuple[int, int]]) -> Iterator[None]:
        """Name array and shard in whatever goes wrong over a box inside."""
        try:
            yield
        except HfzarrError as error:
            if ", shard '" in str(error):
                # It names them already.
                raise
            first = next(itertools.product(*self.units().touching(bounds)), ())
            raise type(error)(
                f"array {self.meta.path or '/'!r}, shard {self.key(first)!r} of "
                f"{self.sink.url}: {error}"
            ) from error


def digest_of(stamps: Sequence[str | None]) -> str:
    """Return many stamps as one short text."""
    digest = hashlib.blake2b(digest_size=12)
    for stamp in stamps:
        digest.update(f"{stamp}\n".encode())
    return digest.hexdigest() if stamps else ""


def _below(meta: ArrayMeta, index: tuple[int, ...]) -> str:
    key = meta.chunk_key(index)
    return f"{meta.path}/{key}" if meta.path else key
