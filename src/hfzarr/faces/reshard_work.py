"""What is to be rewritten, and how: a store is looked at and planned, and nothing is written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from hfzarr.errors import TargetError, UnsupportedError
from hfzarr.faces.inventory import Inventory, take_inventory
from hfzarr.faces.opening import Opening, Options, open_store
from hfzarr.faces.reshaping import Wishes, reshaped
from hfzarr.faces.windowing import memory_bytes
from hfzarr.model.array import ArrayMeta
from hfzarr.model.report import shorten
from hfzarr.plan.reshard import ReshardPlan, in_units
from hfzarr.plan.routes import ArrayPlan, ArraySpec, TooLittleMemory, plan_array
from hfzarr.plan.shards import FileLimits
from hfzarr.run.array_job import ArrayJob
from hfzarr.run.execute import Executor
from hfzarr.run.publish import Documents
from hfzarr.run.reshard import Work
from hfzarr.store.connect import connect_sink
from hfzarr.store.finding import naming
from hfzarr.store.folder_sink import FolderSink
from hfzarr.store.location import locate
from hfzarr.store.sink import Sink
from hfzarr.store.source import Source, Usage

__all__ = ["prepare"]

# A task with less than this would do little but begin and end.
_LEAST_TASK = 32 * 2**20
_ROOTS = ("zarr.json", ".zmetadata", ".zgroup", ".zarray", ".zattrs")
_SHOWN = 20
# Bytes; only records and fixed strings have larger elements.
_LARGEST_ITEM = 64
#: Something that nothing is written to, for a plan without a target.
_NOWHERE = FolderSink("the target")


def prepare(
    source: Any,
    target: Any,
    wishes: Wishes,
    executor: Executor,
    *,
    zarr_format: Any,
    max_memory: int | str,
    group: str | None,
    drop_variables: str | Collection[str] | None,
    storage_options: Mapping[str, Any] | None,
    target_options: Mapping[str, Any] | None,
) -> Work:
    """Return what `hfzarr.reshard` will do; its parameters are documented there."""
    if zarr_format != 3:
        raise UnsupportedError(
            f"zarr_format={zarr_format!r}: wanted 3, as Zarr v2 has no shards. A source may be v2."
        )
    memory = memory_bytes(max_memory)
    opening = open_store(
        source,
        group=group,
        storage_options=storage_options,
        consolidated=None,
        zarr_format=None,
        on_invalid="repair",
        options=Options(drop_variables=_names(drop_variables)),
    )
    sink: Sink = _NOWHERE
    if target is not None:
        sink = connect_sink(locate(target, target_options))
        _refuse_same(opening, sink)
    width = executor.width
    if executor.in_process:
        # A worker of a cluster runs as many tasks as it has threads, whatever is planned here.
        width = max(1, min(width, memory // _LEAST_TASK))
    with naming(opening.source.url):
        inventory = take_inventory(opening)
        wishes.check(inventory.arrays.values())
        made = _plan_arrays(opening, inventory, wishes, sink, memory // width)
    if executor.in_process and executor.width > 1 and _only_copies(made):
        # They wait for the disk more than they compute.
        width = max(width, min(2 * executor.width, memory // _LEAST_TASK))
    return _assemble(opening, inventory, made, sink, wishes, width=width, memory=memory)


def _names(drop: str | Collection[str] | None) -> frozenset[str]:
    if drop is None or isinstance(drop, str):
        return frozenset([drop] if drop else ())
    if not isinstance(drop, Collection) or not all(isinstance(name, str) for name in drop):
        raise TargetError(f"drop_variables is a name or a list of names or paths, not {drop!r}")
    return frozenset(drop)


def _refuse_same(opening: Opening, sink: Sink) -> None:
    """Raise where source and target are one place, or lie in each other."""
    if not (opening.source.local and sink.local):
        return
    here, there = (os.path.realpath(place) for place in (opening.source.url, sink.url))
    if here == there or there.startswith(here + os.sep) or here.startswith(there + os.sep):
        raise TargetError(
            f"the target {sink.url!r} and the source {opening.source.url!r} lie in each other. "
            "Choose a target beside the source; delete the source when the target is complete."
        )


_Made = list[tuple[ArrayPlan, ArrayMeta, ArrayMeta]]


def _plan_arrays(
    opening: Opening, inventory: Inventory, wishes: Wishes, sink: Sink, task_bytes: int
) -> _Made:
    """Plan every array; with larger shards, where there would be too many files."""
    from hfzarr.store.bridge import v3_types

    size = wishes.shard_bytes
    if size is not None and not sink.local:
        # A file for an object store is held in memory until it is whole.
        size = min(size, max(task_bytes // 4, 1))
    types = {path: v3_types(array.meta) for path, array in inventory.arrays.items()}
    limit = FileLimits().per_store
    largest = max((array.meta.size for array in inventory.arrays.values()), default=0)
    while True:
        made: _Made = []
        for path, array in inventory.arrays.items():
            spec, target = reshaped(
                array, types[path], opening.source, wishes, path=path, shard_bytes=size
            )
            made.append((_planned(spec, task_bytes, opening.source, sink), array.meta, target))
        files = sum(plan.spec.files_after for plan, *_ in made)
        fits = files + len(inventory.groups) <= limit
        # A shard of the largest array's size is all of it: what is left cannot be helped.
        if size is None or fits or size > largest * _LARGEST_ITEM:
            return made
        size *= 2


def _only_copies(made: _Made) -> bool:
    return all(plan.route == "repack" for plan, *_ in made)


def _planned(spec: ArraySpec, task_bytes: int, source: Source, sink: Sink) -> ArrayPlan:
    try:
        return plan_array(
            spec, task_bytes=task_bytes, spooled=not sink.local, fetched=not source.local
        )
    except TooLittleMemory as error:
        needed = int(error.args[0])
        raise TargetError(
            f"array {spec.path or '/'!r}: a task needs {in_units(needed)} at least, for source "
            f"chunks {spec.chunk}, inner chunks {spec.inner} and shards {spec.unit} of "
            f"{spec.dtype}; it may have {in_units(task_bytes)}. Give more max_memory=, or ask for "
            "smaller chunks or shards."
        ) from error


def _assemble(
    opening: Opening,
    inventory: Inventory,
    made: _Made,
    sink: Sink,
    wishes: Wishes,
    *,
    width: int,
    memory: int,
) -> Work:
    source = opening.source
    jobs = tuple(
        ArrayJob(number=number, plan=plan, source=source, meta=meta, sink=sink, target=target)
        for number, (plan, meta, target) in enumerate(made)
    )
    nodes = {target.path: dict(target.doc) for _, _, target in made}
    nodes.update({path: _group(attrs) for path, attrs in inventory.groups.items()})
    usage = source.usage(opening.path)
    plan = ReshardPlan(
        source=source.url,
        target=sink.url,
        arrays=tuple(plan for plan, *_ in made),
        width=width,
        max_memory=memory,
        documents=len(nodes),
        extra_files=len(inventory.files),
        found_files=None if usage is None else usage.files,
        found_bytes=None if usage is None else usage.nbytes,
        notes=_notes(opening, inventory),
    )
    roots = [f"{opening.path}/{name}" if opening.path else name for name in _ROOTS]
    there = zip(roots, source.stamps(roots), strict=True)
    return Work(
        plan=plan,
        jobs=jobs,
        documents=Documents(nodes=nodes, extra=inventory.files),
        source=source,
        sink=sink,
        witness=next((key for key, stamp in there if stamp is not None), None),
        fingerprint=_fingerprint(jobs, nodes, usage),
        about=_about(opening, wishes, jobs),
        prefix=opening.path,
        usage=usage,
    )


def _group(attrs: Mapping[str, Any]) -> dict[str, Any]:
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attrs)}


def _notes(opening: Opening, inventory: Inventory) -> tuple[str, ...]:
    findings = [f"{f.where or '/'}: {f.found}; {f.action}" for f in opening.report.findings]
    if len(findings) > _SHOWN:
        findings = [*findings[:_SHOWN], f"and {len(findings) - _SHOWN} more findings"]
    return (*inventory.notes, *findings)


def _about(opening: Opening, wishes: Wishes, jobs: Sequence[ArrayJob]) -> dict[str, str]:
    """Return what was asked for, as far as it decides what a shard holds."""
    return {
        "source": f"{opening.source.url}/{opening.path}".rstrip("/"),
        "inner_chunk": shorten(wishes.inner_chunk),
        "shard": shorten(wishes.shard),
        "codecs": shorten(wishes.codecs),
        "arrays": ", ".join(job.plan.path for job in jobs)[:1000],
    }


def _fingerprint(jobs: Iterable[ArrayJob], nodes: Mapping[str, Any], usage: Usage | None) -> str:
    arrays = [[asdict(job.plan.spec), job.meta.doc, job.target.doc] for job in jobs]
    # Without its mark: which files changed is told by those that were read.
    found = None if usage is None else usage[:2]
    text = json.dumps([1, arrays, nodes, found], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
