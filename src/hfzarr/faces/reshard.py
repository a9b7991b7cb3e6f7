"""`hfzarr.reshard`: a store written anew as few large shards."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from typing import Any, Literal

from hfzarr.errors import TargetError
from hfzarr.faces.progress import Progress, tracking
from hfzarr.faces.reshaping import Lengths, Wishes
from hfzarr.faces.reshard_work import prepare
from hfzarr.model.recode import CodecsLike
from hfzarr.plan.reshard import Resharded, ReshardPlan, in_units
from hfzarr.run.execute import choose_executor
from hfzarr.run.reshard import Add, Outcome, run
from hfzarr.run.verify import Checked
from hfzarr.store.sink import WORK

__all__ = ["plan_reshard", "reshard"]

MAX_MEMORY = "512 MiB"
_VERIFY = ("sample", "full", False)


def reshard(
    source: Any,
    target: Any,
    *,
    inner_chunk: Lengths | None = None,
    shard: Lengths | str | None = "auto",
    codecs: CodecsLike = None,
    zarr_format: Literal[3] = 3,
    max_memory: int | str = MAX_MEMORY,
    resume: bool = True,
    verify: Literal["sample", "full", False] = "sample",
    client: Any = None,
    progress: bool | Callable[[Progress], object] = True,
    group: str | None = None,
    drop_variables: str | Collection[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    target_options: Mapping[str, Any] | None = None,
) -> Resharded:
    """Write a store anew as Zarr v3, with many chunks in each file.

    The source may be anything that ``engine="hfzarr"`` opens: an array, a group, an OME-Zarr
    pyramid with its labels, a plate, a CF or GeoZarr store, v2 or v3. All of it is written:
    attributes, dimension names, fill values, data types, and the files beside the arrays. OME-Zarr
    metadata becomes 0.5 (0.6 stays 0.6). The target has consolidated metadata.

    Each file is written whole under a temporary name and then renamed, and the metadata that makes
    the target a store comes last: a run that was killed leaves nothing that looks complete, and the
    same call goes on where it was.

    Parameters
    ----------
    source
        A path, URL, zip, zarr store, group or array.
    target
        A path or URL that is empty or not there, or a zarr store that takes writes. A zip cannot
        be written to.
    inner_chunk
        Shape of what is encoded as one, in pixels: a mapping from dimensions (others keep what
        they have, -1 is the whole axis), or a length for each axis, for arrays of as many axes. By
        default the source's chunks. Where an array is shorter, so is its inner chunk.
    shard
        Shape of a file, likewise, rounded up to whole inner chunks; a decoded size that it comes
        near to, such as ``"256 MiB"``; ``"auto"`` for 128 MiB; None for a file to each inner
        chunk. A size is exceeded where files would be more than 10,000 in a folder or 100,000 in
        all, which are the limits of the Hugging Face Hub.
    codecs
        ``"zstd:5"``, ``"blosc:lz4"``, ``"none"``, a codec of zarr-python or a list of these; see
        `hfzarr.model.recode.chosen_codecs`. By default the source's where v3 has them, which lets
        encoded chunks be copied as they are, and else Zstd at level 3.
    zarr_format
        3: Zarr v2 has no shards.
    max_memory
        Bytes that the tasks of one process may hold together, as a number or as text; on a
        cluster, for each worker. Where a shard's chunks would not fit, an intermediate is written
        beside the target.
    resume
        Go on with an unfinished run in the target. False deletes it and begins anew.
    verify
        What is compared before the target becomes a store: ``"sample"``, up to ten shards of each
        array and six chunks of each, ``"full"``, every pixel; of chunks that were copied, all
        bytes of these shards by size and crc32c as well. False for nothing.
    client
        None for threads of this process; ``"serial"``; ``"dask"`` for dask's threaded scheduler;
        or a ``distributed.Client``.
    progress
        Show a bar, or a function that is called with a `Progress`.
    group
        Path of a node in the source, to write only that and what is below it.
    drop_variables
        Names or paths of arrays and groups to leave out.
    storage_options, target_options
        Options for fsspec, for the source and for the target.

    Returns
    -------
    Resharded
        What was done; it prints.

    Raises
    ------
    TargetError
        A wish does not fit, or the target is not empty.
    UnsupportedError
        An array cannot be read; leave it out with ``drop_variables=``.
    ChangedSourceError
        The source is not what it was when the run was begun.
    ReadError, WriteError
        A chunk could not be read, or a shard not be written; the message names both.
    VerificationError
        What was written is not what was read.

    Examples
    --------
    >>> import tempfile, numpy as np, zarr
    >>> folder = tempfile.mkdtemp()
    >>> _ = zarr.create_array(f"{folder}/a.zarr", data=np.arange(64).reshape(8, 8), chunks=(1, 4))
    >>> done = reshard(f"{folder}/a.zarr", f"{folder}/b.zarr", progress=False)
    >>> done.plan.arrays[0].route, done.plan.files_before, done.files
    ('repack', 17, 2)
    """
    start = time.monotonic()
    if verify not in _VERIFY:
        raise TargetError(f"verify is one of {_VERIFY}, not {verify!r}")
    if not isinstance(progress, bool) and not callable(progress):
        raise TargetError(f"progress is True, False or a function, not {progress!r}")
    if target is None:
        raise TargetError("wanted a target to write to: a path, a URL or a zarr store, got None")
    executor = choose_executor(client)
    wishes = Wishes(inner_chunk=inner_chunk, shard=shard, codecs=codecs)
    work = prepare(
        source,
        target,
        wishes,
        executor,
        zarr_format=zarr_format,
        max_memory=max_memory,
        group=group,
        drop_variables=drop_variables,
        storage_options=storage_options,
        target_options=target_options,
    )
    executor = choose_executor(client, work.plan.width)
    mode = verify or None
    with ExitStack() as stack:
        tell = _Teller(stack, progress, work.plan.nbytes)
        outcome = run(work, executor, resume=resume, verify=mode, tell=tell)
    return _summary(outcome, mode, time.monotonic() - start)


def plan_reshard(
    source: Any,
    target: Any = None,
    *,
    inner_chunk: Lengths | None = None,
    shard: Lengths | str | None = "auto",
    codecs: CodecsLike = None,
    zarr_format: Literal[3] = 3,
    max_memory: int | str = MAX_MEMORY,
    client: Any = None,
    group: str | None = None,
    drop_variables: str | Collection[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    target_options: Mapping[str, Any] | None = None,
) -> ReshardPlan:
    """Return what `reshard` would do, without reading a chunk or writing anything.

    Parameters
    ----------
    source, target, inner_chunk, shard, codecs, zarr_format, max_memory, client, group, \
drop_variables, storage_options, target_options
        As for `reshard`. Without a target, as for one on this machine.

    Returns
    -------
    ReshardPlan
        Route, files before and after, bytes, tasks, passes and memory of each array; it prints as
        a table.

    Raises
    ------
    TargetError
        A wish does not fit.
    UnsupportedError
        An array cannot be read.

    Examples
    --------
    >>> import tempfile, numpy as np, zarr
    >>> folder = tempfile.mkdtemp()
    >>> _ = zarr.create_array(f"{folder}/a.zarr", data=np.arange(64).reshape(8, 8), chunks=(1, 4))
    >>> plan = plan_reshard(f"{folder}/a.zarr", inner_chunk=(8, 2))
    >>> plan.arrays[0].route, plan.arrays[0].spec.unit, plan.files_before, plan.files_after
    ('transcode', (8, 8), 17, 2)
    """
    work = prepare(
        source,
        target,
        Wishes(inner_chunk=inner_chunk, shard=shard, codecs=codecs),
        choose_executor(client),
        zarr_format=zarr_format,
        max_memory=max_memory,
        group=group,
        drop_variables=drop_variables,
        storage_options=storage_options,
        target_options=target_options,
    )
    return work.plan


class _Teller:
    """Shows one stage after the other."""

    def __init__(
        self, stack: ExitStack, progress: bool | Callable[[Progress], object], nbytes: int
    ) -> None:
        self._stack = stack
        self._progress = progress
        self._nbytes = nbytes

    def __call__(self, stage: Literal["reshard", "verify"], total: int, before: int) -> Add:
        tracker = self._stack.enter_context(
            tracking(self._progress, stage, total=total, nbytes=self._nbytes, before=before)
        )
        return tracker.add


def _summary(outcome: Outcome, mode: str | None, seconds: float) -> Resharded:
    work, done = outcome.work, outcome.done.values()
    shards = {
        key: size
        for one in done
        for key, size in one.files.items()
        if not key.startswith(f"{WORK}/")
    }
    usage = work.sink.source().usage("")
    others = work.plan.documents + work.plan.extra_files
    return Resharded(
        plan=work.plan,
        files=len(shards) + others if usage is None else usage.files,
        bytes_stored=sum(shards.values()) if usage is None else usage.nbytes,
        chunks=sum(one.chunks for one in done),
        tasks=outcome.tasks,
        verified=_told(mode, outcome.checked),
        seconds=seconds,
    )


def _told(mode: str | None, checked: Checked) -> str:
    if mode is None:
        return "nothing"
    chunks = f", {checked.chunks:,} encoded chunks" if checked.chunks else ""
    pixels = f"{in_units(checked.nbytes)} of pixels"
    return f"all{chunks}, {pixels}" if mode == "full" else f"a sample{chunks}, {pixels}"
