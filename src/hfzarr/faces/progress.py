"""How far a run is: a bar in terminals and notebooks, lines in logs, or the caller's function."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from hfzarr.plan.reshard import in_units

__all__ = ["Progress", "Tracker", "tracking"]

_COUNTED = {"verify": "parts", "look": "stores", "push": "stores", "index": "rows"}
# A log is not a terminal: a line now and then is enough there.
_SECONDS_BETWEEN_LINES = 30.0
_LAYOUT = (
    "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{unit} [{elapsed}<{remaining}{postfix}]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is.

    Attributes
    ----------
    stage
        ``"reshard"`` or ``"verify"``; of a push ``"look"``, ``"push"`` or ``"index"``.
    done, total
        Shards (and parts of an intermediate) that are written, or parts that are compared, or
        stores, or rows; and all there are.
    before
        Those of ``done`` that an earlier run did.
    bytes_written
        Bytes that this run wrote to the target.
    bytes_total
        Decoded bytes of all arrays.
    seconds
        Time since the stage began.

    Examples
    --------
    >>> Progress(stage="reshard", done=30, total=50, before=20, seconds=4.0).seconds_left
    8.0
    """

    stage: str
    done: int = 0
    total: int = 0
    before: int = 0
    bytes_written: int = 0
    bytes_total: int = 0
    seconds: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time left at the pace of this run so far; None while nothing tells."""
        left, made = self.total - self.done, self.done - self.before
        if left <= 0:
            return 0.0
        return self.seconds / made * left if made > 0 else None

    @property
    def counted(self) -> str:
        """What ``done`` and ``total`` count, in a word."""
        return _COUNTED.get(self.stage, "shards")

    def __str__(self) -> str:
        parts = [f"{self.stage}: {self.done:,} of {self.total:,} {self.counted}"]
        if self.bytes_written:
            parts.append(f"{in_units(self.bytes_written)} written")
        if self.seconds_left is not None:
            parts.append(f"{timedelta(seconds=round(self.seconds_left))} left")
        return ", ".join(parts)


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
        True for a bar (in a log: a line now and then), False for nothing, or a function that is
        called with a `Progress`.
    stage
        What is being done.
    total
        Shards in all, or parts to compare.
    nbytes
        Bytes in all.
    before
        Shards that an earlier run did.
    """
    progress = Progress(stage=stage, done=before, before=before, total=total, bytes_total=nbytes)
    if callable(show):
        yield Tracker(progress, show)
    elif not show or not total:
        yield Tracker(progress, lambda progress: None)
    elif _in_notebook() or getattr(sys.stderr, "isatty", lambda: False)():
        with _bar(progress) as tell:
            yield Tracker(progress, tell)
    else:
        yield Tracker(progress, _Lines())


def _in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this process: output that is no terminal, but is watched."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(shell, "config", ())


def _width() -> dict[str, Any]:
    """Return how tqdm finds its width: of a terminal that says it has no size, it shows nothing."""
    try:
        known = _in_notebook() or os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError, AttributeError):
        known = False
    size = shutil.get_terminal_size()
    return {"dynamic_ncols": True} if known else {"ncols": size.columns, "nrows": size.lines}


@contextmanager
def _bar(progress: Progress) -> Iterator[Callable[[Progress], object]]:
    with warnings.catch_warnings():
        # Without ipywidgets, tqdm warns that it shows text in a notebook; that is good enough.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm
    bar: Any = tqdm(
        total=progress.total,
        initial=progress.done,
        desc=progress.stage,
        bar_format=_LAYOUT,
        unit=f" {progress.counted}",
        **_width(),
        mininterval=0.2,
        smoothing=0,  # time left as `seconds_left` has it: shards come in bursts
    )

    def tell(now: Progress) -> None:
        if now.bytes_written:
            pace = now.bytes_written / max(now.seconds, 1e-3)
            written = f"{in_units(now.bytes_written)}, {in_units(pace)}/s"
            bar.set_postfix_str(written, refresh=False)
        bar.update(now.done - bar.n)
        if now.done >= now.total:
            # The next stage's bar would lie below one that is open, and be drawn over it.
            bar.close()

    with bar:
        if progress.done >= progress.total:
            bar.close()
        yield tell


class _Lines:
    """Writes a line to a log now and then, and one at the end if there was any."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._told = False

    def __call__(self, now: Progress) -> None:
        """Write a line if it is time."""
        finished = self._told and now.done >= now.total
        if finished or time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            self._last, self._told = time.monotonic(), True
            print(now, file=sys.stderr, flush=True)
