"""`hfzarr.push_to_hub`: stores and their index sent to the Hugging Face Hub."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hfzarr.errors import TargetError
from hfzarr.faces.hub_card import check_card, dataset_card, facts_tags
from hfzarr.faces.hub_index import IndexFile, check_index, index_files
from hfzarr.faces.progress import Progress, tracking
from hfzarr.faces.push_rows import Landed, pushed_rows
from hfzarr.faces.push_source import as_manifest
from hfzarr.faces.push_work import PushJob, Shard, Wanted, look_at, places_of
from hfzarr.faces.windowing import memory_bytes
from hfzarr.plan.push import Pushed, PushPlan
from hfzarr.rows.manifest import Manifest
from hfzarr.rows.pictures import check_pillow
from hfzarr.run.push import Delivery
from hfzarr.store.hub.paths import HubPlace
from hfzarr.store.hub.repo import parse_repo
from hfzarr.store.options import hidden

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["push_to_hub"]

_CARD = "README.md"


def push_to_hub(
    source: Any,
    repo_id: str,
    *,
    shard: Shard = "auto",
    data_repo: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    thumbnails: bool = True,
    resume: bool = True,
    dry_run: bool = False,
    progress: bool | Callable[[Progress], object] = True,
    metadata: bool = True,
    max_memory: int | str = "512 MiB",
    max_disk: int | str = "4 GiB",
    storage_options: Mapping[str, Any] | None = None,
) -> Pushed | PushPlan:
    """Send stores to the Hugging Face Hub, with an index that opens as a dataset.

    All is planned first: a store of very many files is written anew with large shards on the way,
    and what the Hub would not take is refused before anything is sent. Files are made, sent and
    deleted in batches, so that little disk is needed. The index comes last, once all that it names
    is there: parquet files with a row for each store, what each says of itself and a picture, and
    a card.

    A push that was interrupted, by whatever, is completed by the same call, on this machine or
    another: what has arrived is not sent again.

    Parameters
    ----------
    source
        A store, a folder of stores, a pattern, a list of them, or a table of them: anything that
        `hfzarr.scan` or `hfzarr.open_manifest` takes.
    repo_id
        Where the index goes: ``"user/name"`` for a dataset repo, ``"buckets/user/name"`` for a
        bucket. It is made if it is not there.
    shard
        ``"auto"`` writes a store anew if it has over 1,000 files and would have less than half as
        many, or over 10,000 in a folder. A size such as ``"256 MiB"``, or lengths as for
        `hfzarr.reshard`, write every store anew; None sends all as they are.
    data_repo
        Where the stores go, if not beside the index.
    private
        Whether a repo that is made is private; None for what the account says.
    revision
        The branch of both repos; made if it is not there.
    token
        Whose right it is; None for the login of this machine.
    thumbnails
        Whether rows get a picture, which the Hub's viewer shows.
    resume
        Keep what an earlier push sent of the same stores. False sends all anew.
    dry_run
        Return the plan, and write nothing anywhere.
    progress
        Show a bar, or a function that is called with a `Progress`.
    metadata
        Whether rows carry the metadata of their store, so that opening one takes fewer requests.
    max_memory
        Bytes that tasks which write a store anew may hold together, as a number or as text.
    max_disk
        Bytes of this machine's disk that files under way may take, about.
    storage_options
        Options for reading the source.

    Returns
    -------
    Pushed or PushPlan
        What was done, or with ``dry_run`` what would be; both print.

    Raises
    ------
    TargetError
        A wish makes no sense, or the Hub would not take so many files.
    StoreNotFoundError
        There is no store at the source.
    ReadError
        A store could not be read.
    WriteError
        Nobody is logged in, or the Hub refused, or could not be reached.
    VerificationError
        What was written anew is not what was read.

    Examples
    --------
    >>> import hfzarr
    >>> done = hfzarr.push_to_hub("scans/", "user/scans")  # doctest: +SKIP
    >>> xr.open_dataset(done.url, engine="hfzarr")  # doctest: +SKIP
    """
    began = time.monotonic()
    # A traceback may show what names stand for.
    right, token = hidden(token), None
    _check(
        private=private, thumbnails=thumbnails, resume=resume, dry_run=dry_run, metadata=metadata
    )
    index_place = parse_repo(repo_id, revision)
    data_place = index_place if data_repo is None else parse_repo(data_repo, revision)
    if thumbnails:
        check_pillow()
    disk = memory_bytes(max_disk, "max_disk")
    wanted = Wanted(shard=shard, max_memory=memory_bytes(max_memory))
    manifest = as_manifest(source, storage_options)
    stores = places_of(manifest)
    with tracking(progress, "look", total=len(stores), nbytes=0) as looked:
        jobs = look_at(manifest, stores, wanted, lambda: looked.add(1))
    with tempfile.TemporaryDirectory(prefix="hfzarr-push-") as folder:
        delivery = Delivery(
            index_place, data_place, token=right, folder=folder, batch_bytes=max(disk // 2, 1)
        )
        delivery.load()
        if resume:
            jobs = [_kept(job, delivery) for job in jobs]
        plan = _plan(jobs, manifest, delivery)
        if dry_run:
            return plan
        _refuse(plan)
        # What cannot be published is refused now rather than at the end.
        check_index(manifest.table, manifest.column)
        check_card(delivery.read_card(_CARD) or "", repo_id=index_place.repo)
        delivery.create(private)
        pinned = _send_all(jobs, delivery, plan, progress, resume=resume)
        files, nbytes = delivery.data.sent_files, delivery.data.sent_bytes
        landed = {
            url: Landed(url=f"{pinned.url}/{job.push.path}", metadata=job.metadata)
            for url, job in zip(stores, jobs, strict=True)
        }
        with tracking(progress, "index", total=len(manifest), nbytes=0) as drawn:
            rows = pushed_rows(
                manifest,
                landed,
                options=delivery.data.repo.options,
                thumbnails=thumbnails,
                metadata=metadata,
                tell=lambda: drawn.add(1),
            )
        places = [one.url for one in landed.values()]
        commit = delivery.send_index(_index(delivery, rows, manifest.column, places), pinned)
    return Pushed(
        plan=plan,
        url=index_place.url,
        commit=pinned.revision if pinned.versioned else None,
        index_commit=commit,
        files=files,
        nbytes=nbytes,
        seconds=time.monotonic() - began,
    )


def _check(**switches: object) -> None:
    for name, value in switches.items():
        if not isinstance(value, bool) and not (value is None and name == "private"):
            raise TargetError(f"{name}= is True or False, not {value!r}")


def _kept(job: PushJob, delivery: Delivery) -> PushJob:
    if not delivery.stands(job.push.path, job.digest):
        return job
    return replace(job, push=replace(job.push, route="keep", note=""))


def _plan(jobs: Sequence[PushJob], manifest: Manifest, delivery: Delivery) -> PushPlan:
    return PushPlan(
        repo=delivery.index.repo.place.url,
        data_repo=delivery.data.repo.place.url,
        stores=tuple(job.push for job in jobs),
        rows=len(manifest),
        files_there=delivery.files_beside([job.push.path for job in jobs]),
    )


def _refuse(plan: PushPlan) -> None:
    """Raise for what the Hub would not take; warn of what it advises against."""
    if refusal := plan.refusal():
        raise TargetError(refusal)
    if warning := plan.warning():
        warnings.warn(warning, UserWarning, stacklevel=3)


def _send_all(
    jobs: Sequence[PushJob],
    delivery: Delivery,
    plan: PushPlan,
    progress: bool | Callable[[Progress], object],
    *,
    resume: bool,
) -> HubPlace:
    """Send every store; return the place that holds them all."""
    with tracking(progress, "push", total=len(jobs), nbytes=plan.nbytes) as sent:
        delivery.data.tell = lambda nbytes: sent.add(0, nbytes)
        for job in jobs:
            path = job.push.path
            if job.push.route != "keep" and job.work is not None:
                delivery.reshard(path, job.digest, job.work, resume=resume)
            elif job.push.route != "keep":
                delivery.copy(path, job.digest, job.source, job.prefix, job.files)
            sent.add(1)
        return delivery.arrive([job.push.path for job in jobs])


def _index(
    delivery: Delivery, rows: pa.Table, column: str, stores: Sequence[str]
) -> dict[str, bytes]:
    """Return the files of the index, by path; a bucket has no card, as nobody would show it."""
    files = index_files(rows, column)
    there = {one.path: one.data for one in files}
    if delivery.index.repo.place.versioned:
        there[_CARD] = _card(delivery, rows, column, files, stores).encode()
    return there


def _card(
    delivery: Delivery,
    rows: pa.Table,
    column: str,
    files: Sequence[IndexFile],
    stores: Sequence[str],
) -> str:
    # A table's own column keeps its name; the fact's is then another.
    names = [name for name in ("zarr_bytes", "bytes") if name in rows.schema.names]
    known = rows.column(names[0]).to_pylist() if names else []
    return dataset_card(
        repo_id=delivery.index.repo.place.repo,
        column=column,
        files=files,
        schema=rows.schema,
        stores=stores,
        data_bytes=sum(n for n in known if isinstance(n, int)),
        previous=delivery.read_card(_CARD),
        tags=facts_tags(rows),
    )
