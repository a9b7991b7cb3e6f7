"""What patches, batches or a selection would read, told without reading."""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from xarray import DataTree, Variable

from hfzarr.errors import TargetError
from hfzarr.faces.alignment import label_mask
from hfzarr.faces.batches import Batches
from hfzarr.faces.costing import PatchCosts, Told, in_memory, variable_cost
from hfzarr.faces.members import PATCH, Member, PatchSet
from hfzarr.faces.patches import (
    PLAN_KEY,
    left_out_of,
    patch_job,
    patch_set,
)
from hfzarr.faces.regions import HeldRegion, is_dask
from hfzarr.faces.sampling import choose_windows, cut_batches, dataset_members, tree_members
from hfzarr.faces.windowing import memory_bytes
from hfzarr.plan.axis import IntArray
from hfzarr.plan.cost import Cost
from hfzarr.plan.epoch import EpochOrder, pieces, whole_number
from hfzarr.plan.overlap import chunks_covered
from hfzarr.plan.passes import (
    chunk_boxes,
    chunks_touched,
    needs_of,
    peak_bytes,
    shortened,
    simulate,
)
from hfzarr.plan.patches import PatchPlan
from hfzarr.plan.windows import WindowGrid
from hfzarr.run.hold import PatchArrays
from hfzarr.run.pool import workers
from hfzarr.run.tasks import PatchJob

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = ["explain"]

#: Bytes of encoded chunks that one read of a remote store may have under way.
_ENCODED = 64 * 2**20
#: Of an epoch of more windows, so many are looked at.
_MOST_WINDOWS = 1 << 20


def explain(accessor: type, target: Dataset | DataTree, size: Any, options: dict[str, Any]) -> Cost:
    """Return what patches, batches or a selection would read.

    Parameters
    ----------
    accessor
        The class whose methods say which options there are, and what they are by default.
    target
        What it is an accessor of.
    size, options
        Those of its methods; without a size, the target as it is.

    Raises
    ------
    TargetError
        There is no such option, or one does not fit.
    """
    if size is not None:
        return _of_windows(target, _given(accessor, size, options))
    if options:
        raise TargetError(
            f"{sorted(options)} are for windows: say how large they are with size=, or explain a "
            "selection, or patches as patches() returned them, without options"
        )
    made = None if isinstance(target, DataTree) else target.encoding.get(PLAN_KEY)
    if made is not None and not isinstance(target, DataTree):
        return _of_patches(target, *made)
    return _of_selection(target)


def _given(accessor: type, size: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return all options of the method that would be called, checked by name."""
    verb = (
        "batches" if "batch_size" in options else "random_patches" if "n" in options else "patches"
    )
    epoch = {"epoch": options.pop("epoch", 0)} if verb == "batches" else {}
    signature = inspect.signature(getattr(accessor, verb))
    unknown = [name for name in options if name not in signature.parameters or name == "self"]
    if unknown:
        known = [name for name in signature.parameters if name != "self"]
        raise TargetError(f"{verb}() has no option {', '.join(unknown)}; it has {known}")
    bound = signature.bind(None, size=size, **options)
    bound.apply_defaults()
    return bound.arguments | epoch


# Windows


def _of_windows(target: Dataset | DataTree, given: dict[str, Any]) -> Cost:
    members = _members(target, given)
    where = given.get("where")
    if isinstance(target, DataTree) and isinstance(where, str):
        where = label_mask(target, where)
    windows = choose_windows(
        members[0],
        given.get("stride"),
        given.get("overlap"),
        given.get("edge", "drop"),
        given["units"],
        given.get("n"),
        where,
        given.get("min_foreground", 0.0),
        given.get("seed"),  # type: ignore[arg-type]
    )
    pad_value = given.get("pad_value", 0)
    patches = patch_set(members, windows, list(members[0].shifts), pad_value=pad_value)
    if "batch_size" not in given:
        job = patch_job(patches, max_bytes=memory_bytes(given["max_memory"]))
        return _of_job(patches, job, _unpatched(patches))
    names = [
        "batch_size",
        "shuffle",
        "seed",
        "rank",
        "world_size",
        "drop_last",
        "prefetch",
        "to",
        "max_memory",
    ]
    asked = {name: given[name] for name in names}
    batches = cut_batches(members, windows, pad_value=pad_value, **asked)
    return _of_batches(patches, batches, whole_number("epoch", given["epoch"], 0))


def _members(target: Dataset | DataTree, given: Mapping[str, Any]) -> list[Member]:
    if not isinstance(target, DataTree):
        return dataset_members(target, given["size"], given["units"], given["level"])
    further = {name: given[name] for name in ("level", "levels", "labels", "context")}
    return tree_members(target, given["size"], given["units"], **further)


def _of_patches(dataset: Dataset, patches: PatchSet, job: PatchJob) -> Cost:
    """Return the cost of a Dataset of patches, or of some of them."""
    names = patches.arrays.names
    rest = [
        (str(name), variable)
        for name, variable in dataset.variables.items()
        if name not in names and not in_memory(variable)
    ]
    lazy = {name for name in names if name in dataset.variables and _is_lazy(dataset, name)}
    numbers = _patch_numbers(dataset, len(job.plan.windows))
    return _of_job(patches, job, rest, names=lazy, numbers=numbers)


def _is_lazy(dataset: Dataset, name: Hashable) -> bool:
    return is_dask(dataset.variables[name]._data)


def _patch_numbers(dataset: Dataset, count: int) -> IntArray | None:
    """Return the numbers of the windows whose patches are left; None for all of them."""
    if PATCH not in dataset.coords or dataset.coords[PATCH].dtype.kind not in "iu":
        raise TargetError(
            f"these patches have lost their coordinate {PATCH!r}, which tells what they were cut "
            "from: explain them before, or keep it"
        )
    numbers = np.asarray(dataset.coords[PATCH].values, np.intp).reshape(-1)
    if numbers.size and not (numbers.min() >= 0 and numbers.max() < count):
        raise TargetError(
            f"the coordinate {PATCH!r} has numbers that are not of these {count} windows: explain "
            "patches as patches() returned them, or a selection"
        )
    return None if np.array_equal(numbers, np.arange(count)) else np.unique(numbers)


def _unpatched(patches: PatchSet) -> list[tuple[str, Variable]]:
    """Return the lazy variables that come along with patches as they are."""
    found: dict[str, Variable] = {}
    for member in patches.members:
        for name, variable in member.dataset.variables.items():
            lazy = name not in member.dataset.xindexes and not in_memory(variable)
            if lazy and not set(variable.dims) & set(member.shifts):
                found.setdefault(str(member.names.get(name, name)), variable)
    return list(found.items())


def _of_job(
    patches: PatchSet,
    job: PatchJob,
    rest: Sequence[tuple[str, Variable]],
    *,
    names: Iterable[str] | None = None,
    numbers: IntArray | None = None,
) -> Cost:
    """Return the cost of one pass over patches, and of what comes along with them."""
    plan, factor = (job.plan, 1.0) if numbers is not None else shortened(job.plan)
    groups = list(plan.groups())
    chosen = np.arange(len(groups))
    if numbers is not None:
        firsts = np.array([group.first for group in groups], np.intp)
        chosen = np.unique(np.searchsorted(firsts, numbers, side="right") - 1)
    counts = np.array([groups[i].stop - groups[i].first for i in chosen], np.intp)
    results = np.zeros(len(counts), np.intp)
    told, passes, scratch = [], [], 0
    for i, (name, needs) in enumerate(zip(patches.arrays.names, needs_of(plan), strict=True)):
        if names is not None and name not in names:
            continue
        array, held = plan.arrays[i], isinstance(job.regions[i], HeldRegion)
        ours = needs if numbers is None else needs.only(chosen)
        limit = plan.shared_bytes[i] if not array.held else 1 << 62
        done = simulate(ours, itemsize=array.itemsize, limit=limit, per_read=plan.block_bytes)
        results += counts * array.patch_bytes
        passes += [] if held else [done]
        reads = [needs.boxes[part] for part in np.split(done.blocks, done.stops[1:-1])]
        pieces_of = PatchCosts(patches.arrays, i, job.plan.windows, numbers)
        times = factor if factor == 1 else _times(job.plan, plan, i)
        told.append(pieces_of.cost(reads, times, tasks=round(len(counts) * factor)))
        scratch = max(scratch, pieces_of.scratch(plan.block_bytes))
    others = [variable_cost(name, variable) for name, variable in rest]
    total = len(job.plan.windows) if numbers is None else len(numbers)
    n = round(len(counts) * factor)
    return Cost(
        what=f"{total:,} patches of {_size(patches)} in {n:,} groups",
        variables=tuple([one.cost for one in (*told, *others)]),
        groups=n,
        peak_memory=peak_bytes(passes, results, threads=workers())
        + scratch
        + sum(one.cost.bytes_delivered for one in others),
        left_out=tuple(left_out_of(patches).items()),
        notes=_notes(told + others, factor),
    )


def _times(whole: PatchPlan, part: PatchPlan, number: int) -> float:
    """Return how many times what a whole plan reads of an array is what a part of it reads."""
    if isinstance(whole.windows, WindowGrid) and isinstance(part.windows, WindowGrid):
        array = whole.arrays[number]
        return chunks_covered(array, whole.windows) / chunks_covered(array, part.windows)
    return len(whole.windows) / len(part.windows)


def _size(patches: PatchSet) -> str:
    sides = zip(patches.dims, patches.windows.size, strict=True)
    return " × ".join(f"{dim} {n}" for dim, n in sides)


def _notes(told: Iterable[Told], factor: float) -> tuple[str, ...]:
    notes = dict.fromkeys(note for one in told for note in one.notes)
    if factor != 1:
        notes[f"windows were looked at in part: one of {factor:.3g}"] = None
    return tuple(notes)


# Batches


def _of_batches(patches: PatchSet, batches: Batches, epoch: int) -> Cost:
    """Return the cost of one epoch on one rank."""
    source, spec = patches.arrays, batches.spec
    share = spec.share()
    total = share.offset(share.batches)
    held: list[IntArray] = []
    seen = 0
    for numbers in _shuffle_windows(source, batches, epoch):
        held.append(numbers)
        seen += len(numbers)
        if seen >= _MOST_WINDOWS:
            break
    factor = total / max(seen, 1)
    chosen = None
    if total != spec.windows:
        order = _order(batches, epoch)
        listed = [order.numbers(share.start, share.start + total)] if seen < total else held
        chosen = np.sort(np.concatenate(listed))
    told = []
    for i, array in enumerate(source.arrays):
        reads = (
            []
            if isinstance(source.regions[i], HeldRegion)
            else [chunk_boxes(array.tracks, _chunks(source, i, numbers)) for numbers in held]
        )
        part = PatchCosts(source, i, source.windows, chosen)
        told.append(part.cost(reads, factor, tasks=round(len(held) * factor)))
    n = round(len(held) * factor)
    return Cost(
        what=f"{len(batches):,} batches of {spec.batch_size:,} patches of {_size(patches)}, epoch "
        f"{epoch}, rank {spec.rank} of {spec.world_size}, in {n:,} shuffle windows",
        variables=tuple([one.cost for one in told]),
        groups=n,
        peak_memory=batches.memory,
        left_out=tuple(left_out_of(patches).items()),
        notes=_notes(told, factor),
    )


def _shuffle_windows(source: PatchArrays, batches: Batches, epoch: int) -> Iterator[IntArray]:
    """Yield the windows that are held together, in the order of an epoch."""
    spec = batches.spec

    def weigh(numbers: IntArray) -> int:
        return sum(
            array.chunk_bytes * len(_chunks(source, i, numbers))
            for i, array in enumerate(source.arrays)
            if not array.held
        )

    return pieces(
        _order(batches, epoch),
        spec.share(),
        first=0,
        cells=batches._window_cells,
        weigh=weigh,
        limit=batches._window_bytes,
    )


def _order(batches: Batches, epoch: int) -> EpochOrder:
    spec = batches.spec
    return EpochOrder(batches._cells(), seed=spec.seed, epoch=epoch, shuffle=spec.shuffle)


def _chunks(source: PatchArrays, number: int, windows: IntArray) -> IntArray:
    """Return the chunks of an array under some windows, each once."""
    array = source.arrays[number]
    starts = source.starts(array, windows)
    return np.unique(chunks_touched(array.tracks, starts, len(windows))[1])


# Selections


def _of_selection(target: Dataset | DataTree) -> Cost:
    told = [variable_cost(name, variable) for name, variable in _variables(target)]
    delivered = sum(one.cost.bytes_delivered for one in told if one.cost.kind != "memory")
    fetched = max((one.cost.bytes_fetched for one in told), default=0)
    chunks = [one.cost.bytes_decoded // max(one.cost.chunk_decodes, 1) for one in told]
    return Cost(
        what="a selection",
        variables=tuple(one.cost for one in told),
        peak_memory=delivered + workers() * max(chunks, default=0) + min(fetched, _ENCODED),
        notes=_notes(told, 1),
    )


def _variables(target: Dataset | DataTree) -> Iterator[tuple[str, Variable]]:
    """Yield the variables of a Dataset, or of all nodes of a tree; coordinates if they are lazy."""
    if isinstance(target, DataTree):
        for node in target.subtree:
            path = node.relative_to(target)
            for name, variable in _variables(node.to_dataset(inherit=False)):
                yield (name if path == "." else f"{path}/{name}"), variable
        return
    for key, variable in target.variables.items():
        if key in target.data_vars or not in_memory(variable):
            yield str(key), variable
