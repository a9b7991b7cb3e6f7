"""How far a run is: a bar in terminals and notebooks, or the caller's own function."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["Progress", "Tracker", "tracking"]

# A log is not a terminal: a line now and then is enough there.
_SECONDS_BETWEEN_LINES = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is.

    Attributes
    ----------
    stage
        ``"reshard"`` or ``"verify"``.
    done, total
        Shards (and parts of an intermediate) that are written, or compared, and all there are.
    bytes_written
        Bytes that were written to the target.
    bytes_total
        Decoded bytes of all arrays.
    seconds
        Time since it began.
    """

    stage: str
    done: int = 0
    total: int = 0
    bytes_written: int = 0
    bytes_total: int = 0
    seconds: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time left at the pace so far; None while nothing tells."""
        return self.seconds / self.done * (self.total - self.done) if self.done else None


class Tracker:
    """Counts what is done, and tells. Several threads may add to it."""

    def __init__(self, progress: Progress, tell: Callable[[Progress], object]) -> None:
        self.progress = progress
        self._tell = tell
        self._start = time.monotonic()
        self._lock = threading.Lock()

    def add(self, done: int, bytes_written: int = 0) -> None:
        """Count what one call brought."""
        with self._lock:
            self.progress = replace(
                self.progress,
                done=self.progress.done + done,
                bytes_written=self.progress.bytes_written + bytes_written,
                seconds=time.monotonic() - self._start,
            )
            self._tell(self.progress)


@contextmanager
def tracking(
    show: bool | Callable[[Progress], object],
    stage: str,
    *,
    total: int,
    nbytes: int,
    before: int = 0,
) -> Iterator[Tracker]:
    """Show how far a run is, while the block lasts.

    Parameters
    ----------
    show
        True for a bar, False for nothing, or a function that is called with a `Progress`.
    stage
        What is being done.
    total
        Shards in all.
    nbytes
        Bytes in all.
    before
        Shards that an earlier run did.
    """
    progress = Progress(stage=stage, done=before, total=total, bytes_total=nbytes)
    if callable(show):
        yield Tracker(progress, show)
    elif not show or not total:
        yield Tracker(progress, lambda progress: None)
    else:
        with _bar(progress) as tell:
            yield Tracker(progress, tell)


@contextmanager
def _bar(progress: Progress) -> Iterator[Callable[[Progress], object]]:
    from tqdm.auto import tqdm

    plain = not sys.stderr.isatty()
    bar: Any = tqdm(
        total=progress.total,
        initial=progress.done,
        desc=progress.stage,
        unit=" shards",
        mininterval=_SECONDS_BETWEEN_LINES if plain and "ipykernel" not in sys.modules else 0.2,
    )

    def tell(now: Progress) -> None:
        if now.bytes_written:
            bar.set_postfix_str(f"{now.bytes_written / 1e6:,.0f} MB written", refresh=False)
        bar.update(now.done - bar.n)

    with bar:
        yield tell
