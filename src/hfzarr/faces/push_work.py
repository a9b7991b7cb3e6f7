"""What is to be pushed: stores are looked at, and it is decided what becomes of each."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from hfzarr.errors import HfzarrError, TargetError
from hfzarr.faces.reshaping import Lengths, Wishes
from hfzarr.faces.reshard_work import prepare
from hfzarr.model.report import Report
from hfzarr.plan.push import StorePush, fullest_folder, store_paths
from hfzarr.plan.shards import FileLimits, chunk_counts, files_in
from hfzarr.rows.consolidated import consolidated_text
from hfzarr.rows.handle import ZarrHandle
from hfzarr.rows.manifest import Manifest
from hfzarr.rows.places import is_absolute
from hfzarr.run.execute import choose_executor
from hfzarr.run.publish import root_document
from hfzarr.run.reshard import Work
from hfzarr.store.connect import connect
from hfzarr.store.files import StoreFile, stored_files
from hfzarr.store.finding import find_node, naming
from hfzarr.store.location import locate
from hfzarr.store.source import Source
from hfzarr.store.zipped import ZipSource

__all__ = ["PushJob", "Wanted", "around", "look_at", "places_of"]

Shard = Lengths | str | None

# Most of it is waiting.
_LOOKED_AT_ONCE = 16
# A store of fewer files is left as it is, unless the repo would have too many.
_FEW_FILES = 1000
_FEW_OF_MANY = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a user asked for.

    Attributes
    ----------
    shard
        As for `hfzarr.reshard`; None copies every store as it is.
    max_memory
        Bytes that resharding may hold.
    limits
        How many files there may be.
    """

    shard: Shard
    max_memory: int
    limits: FileLimits = field(default_factory=FileLimits)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PushJob:
    """One store to be pushed.

    Attributes
    ----------
    push
        What becomes of it.
    source, prefix, files
        Its files: the store that they lie in, the path in it, and their keys.
    digest
        Changes when a file does, or what is wished.
    work
        How it is written anew, if it is.
    metadata
        The consolidated metadata that it will have; None where it cannot be told.
    """

    push: StorePush
    source: Source
    prefix: str
    files: Sequence[StoreFile]
    digest: str
    work: Work | None
    metadata: str | None

    @property
    def names(self) -> list[str]:
        """Paths of its files in the repo, where it is copied."""
        below = [one.key[len(self.prefix) :].strip("/") for one in self.files]
        return [posixpath.join(self.push.path, name) if name else self.push.path for name in below]


def places_of(manifest: Manifest) -> dict[str, ZarrHandle]:
    """Return the stores that a table names, each once, by URL; one within another goes with that.

    Raises
    ------
    TargetError
        It names none.
    """
    found: dict[str, ZarrHandle] = {}
    for cell in manifest.handles():
        handle = cell if isinstance(cell, ZarrHandle) or cell is None else cell.handle
        if handle is not None:
            found.setdefault(handle.url, handle)
    if not found:
        raise TargetError(f"{manifest.name!r} names no stores, so there is nothing to push")
    return {url: handle for url, handle in found.items() if around(url, found) is None}


def around(url: str, stores: Collection[str]) -> str | None:
    """Return the outermost of some stores that another lies in; None where it lies in none.

    Examples
    --------
    >>> around("s3://bucket/plate.zarr/A/1", ["s3://bucket/plate.zarr"])
    's3://bucket/plate.zarr'
    """
    parts = url.split("/")
    outside = ("/".join(parts[:count]) for count in range(1, len(parts)))
    return next((place for place in outside if place in stores), None)


def look_at(
    manifest: Manifest,
    stores: Mapping[str, ZarrHandle],
    wanted: Wanted,
    tell: Callable[[], object],
) -> list[PushJob]:
    """Look at each store of a table, and decide what becomes of it; nothing is written.

    Raises
    ------
    HfzarrError
        A store cannot be read, or cannot be made to fit; the message names it.
    """
    names = _names(list(stores), _base_of(manifest))
    if wanted.shard not in (None, "auto"):
        # What is written anew is a folder.
        names = [re.sub(r"\.(zip|ozx)$", "", name, flags=re.IGNORECASE) for name in names]
    names = store_paths(names)
    wishes = [
        (url, handle, path) for (url, handle), path in zip(stores.items(), names, strict=True)
    ]

    def look(one: tuple[str, ZarrHandle, str]) -> PushJob:
        with naming(locate(one[0]).shown):
            return _look(*one, wanted, _FEW_FILES)

    jobs: list[PushJob] = []
    with ThreadPoolExecutor(_LOOKED_AT_ONCE, thread_name_prefix="hfzarr-push") as pool:
        try:
            for job in pool.map(look, wishes):
                jobs.append(job)
                tell()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    total = sum(one.push.files_after for one in jobs)
    if wanted.shard != "auto" or total <= wanted.limits.per_store:
        return jobs
    # Each has few files, and all of them too many.
    return [
        _look(*wish, wanted, _FEW_OF_MANY)
        if job.work is None and len(job.files) > _FEW_OF_MANY
        else job
        for job, wish in zip(jobs, wishes, strict=True)
    ]


def _names(urls: Sequence[str], base: str) -> list[str]:
    """Return the paths of stores below a folder, or else below the one that all lie in."""
    plain = [_plain(url) for url in urls]
    if base and all(url.startswith(f"{_plain(base)}/") for url in plain):
        return [url[len(_plain(base)) + 1 :] for url in plain]
    try:
        # It makes one slash of the two of a protocol.
        common = posixpath.commonpath([posixpath.dirname(url) for url in plain])
    except ValueError:
        common = ""
    if not common.strip("/") or common.endswith(":"):
        # Nothing but a root, or a protocol: the folders say nothing.
        return [posixpath.basename(url) for url in plain]
    return [posixpath.normpath(url)[len(common) :].strip("/") for url in plain]


def _plain(url: str) -> str:
    return locate(url).shown.replace(os.sep, "/").rstrip("/")


def _base_of(manifest: Manifest) -> str:
    """Return the folder that a table counts from; empty where its stores are named absolutely."""
    column = manifest.table.column(manifest.column).to_pylist()
    texts = [cell["path"] if isinstance(cell, dict) else cell for cell in column]
    return "" if any(is_absolute(text) for text in texts if text) else manifest.base


def _look(url: str, handle: ZarrHandle, path: str, wanted: Wanted, few: int) -> PushJob:
    location = locate(url, handle.options.resolve())
    found = find_node(location, report=Report(), consolidated=None)
    source = found.hierarchy.source
    try:
        metadata: str | None = consolidated_text(found.hierarchy)
    except HfzarrError:
        metadata = None
    prefix = location.path
    if isinstance(source, ZipSource):
        folder, _, name = url.rpartition("/")
        source, prefix = connect(locate(folder or "/", handle.options.resolve())), name
        size, stamp = source.sizes([name])[0], source.stamps([name])[0]
        files = [StoreFile(key=name, size=size or 0, stamp=stamp or "")]
    else:
        files = stored_files(source, prefix)
    push = StorePush(
        path=path,
        source=location.shown,
        route="copy",
        files_before=len(files),
        files_after=len(files),
        nbytes=sum(one.size for one in files),
        fullest=fullest_folder(one.key for one in files),
        largest=max((one.size for one in files), default=0),
    )
    job = PushJob(
        push=push,
        source=source,
        prefix=prefix,
        files=files,
        digest=_digest(files, wanted),
        work=None,
        metadata=metadata,
    )
    return _resharded(job, url, handle, wanted, few)


def _digest(files: Sequence[StoreFile], wanted: Wanted) -> str:
    text = json.dumps([[one.key, one.size, one.stamp] for one in files])
    return hashlib.sha256(f"{wanted.shard!r} {text}".encode()).hexdigest()


def _resharded(job: PushJob, url: str, handle: ZarrHandle, wanted: Wanted, few: int) -> PushJob:
    """Return a job that writes the store anew, if that is wished or needed."""
    if wanted.shard is None:
        return job
    crowded = job.push.fullest > wanted.limits.per_folder
    asked = wanted.shard != "auto"
    if not (asked or crowded or len(job.files) > few):
        return job
    try:
        work = _prepare(url, handle, wanted)
    except HfzarrError as error:
        if asked or crowded:
            raise
        return replace(job, push=replace(job.push, note=f"copied as it is: {error}"))
    after = work.plan.files_after
    if not (asked or crowded) and 2 * after > len(job.files):
        return job
    push = replace(
        job.push,
        route="reshard",
        files_after=after,
        fullest=_fullest(work),
        note="; ".join(work.plan.notes[:3]),
    )
    return replace(job, push=push, work=work, metadata=root_document(work.documents).decode())


def _prepare(url: str, handle: ZarrHandle, wanted: Wanted) -> Work:
    return prepare(
        url,
        None,
        Wishes(inner_chunk=None, shard=wanted.shard, codecs=None),
        choose_executor(None),
        zarr_format=3,
        max_memory=wanted.max_memory,
        group=None,
        drop_variables=None,
        storage_options=handle.options.resolve(),
        target_options=None,
    )


def _fullest(work: Work) -> int:
    counts = [
        files_in(chunk_counts(one.spec.shape, one.spec.unit), "/") for one in work.plan.arrays
    ]
    return max(counts, default=1)
