"""A plan of a push, as a value that prints: where stores will lie, and how many files they are."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from hfzarr.plan.html import sheet
from hfzarr.plan.reshard import in_units
from hfzarr.plan.shards import FileLimits

__all__ = ["PushPlan", "Pushed", "StorePush", "fullest_folder", "store_paths"]

#: ``"copy"``: files as they are. ``"reshard"``: written anew with few large shards. ``"keep"``:
#: nothing, as what was pushed before is still what it was made from.
PushRoute = Literal["copy", "reshard", "keep"]

#: Bytes of a file that the Hub takes.
LARGEST_FILE = 200 * 10**9
# More stores in one folder are spread over folders below it.
_MOST_BESIDE = 5000
_SHOWN = 30
# Characters that some system or tool takes for something else than a letter of a name.
_ODD = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|#%\u202a-\u202e\u2066-\u2069]')
_COLUMNS = ("store", "from", "route", "files before", "after", "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePush:
    """What a push does with one store.

    Attributes
    ----------
    path
        Folder (or zip file) that it becomes in the repo.
    source
        Name of the store.
    route
        ``"copy"``, ``"reshard"`` or ``"keep"``.
    files_before, files_after
        Files now, and in the repo at most.
    nbytes
        Bytes of the files now.
    fullest
        Files and folders in the fullest folder that it becomes.
    largest
        Bytes of its largest file now.
    note
        Why it is done this way, where that is not plain.
    """

    path: str
    source: str
    route: PushRoute
    files_before: int
    files_after: int
    nbytes: int
    fullest: int
    largest: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PushPlan:
    """What `hfzarr.push_to_hub` will do; ``dry_run=True`` returns it. It prints as a table.

    Attributes
    ----------
    repo, data_repo
        Where the index and the stores go, as ``hf://`` URLs.
    stores
        What becomes of each store.
    rows
        Rows of the index.
    files_there
        Other files that the data repo holds already.
    limits
        How many files there may be.
    notes
        What a user should know before it runs.

    Examples
    --------
    >>> one = StorePush(
    ...     path="a.zarr", source="a.zarr", route="copy", files_before=3, files_after=3, nbytes=9,
    ...     fullest=2,
    ... )
    >>> repo = "hf://datasets/ada/cells"
    >>> plan = PushPlan(repo=repo, data_repo=repo, stores=(one,), rows=1)
    >>> plan.files_before, plan.files_after, plan.refusal()
    (3, 3, '')
    """

    repo: str
    data_repo: str
    stores: tuple[StorePush, ...]
    rows: int
    files_there: int = 0
    limits: FileLimits = field(default_factory=FileLimits)
    notes: tuple[str, ...] = ()

    @property
    def files_before(self) -> int:
        """Files of all stores now."""
        return sum(one.files_before for one in self.stores)

    @property
    def files_after(self) -> int:
        """Files of all stores in the repo, at most."""
        return sum(one.files_after for one in self.stores)

    @property
    def nbytes(self) -> int:
        """Bytes of all stores now."""
        return sum(one.nbytes for one in self.stores)

    def refusal(self) -> str:
        """Return why the Hub would not take it; empty if it would."""
        for one in self.stores:
            if one.fullest > self.limits.per_folder:
                return (
                    f"{one.source!r} has {one.fullest:,} files in one folder, and the Hub takes "
                    f"{self.limits.per_folder:,}. Let it be resharded (shard='auto', or a size "
                    "such as '512 MiB')."
                )
            if one.route == "copy" and one.largest > LARGEST_FILE:
                return (
                    f"{one.source!r} has a file of {in_units(one.largest)}, and the Hub takes "
                    f"{in_units(LARGEST_FILE)}. Write it anew with smaller shards (shard='1 GiB')."
                )
        beside = Counter(one.path.rpartition("/")[0] for one in self.stores)
        for folder, count in beside.items():
            if count > self.limits.per_folder:
                return (
                    f"{count:,} stores would lie in the folder {folder or '/'!r}, and the Hub "
                    f"takes {self.limits.per_folder:,} entries. Put them into folders."
                )
        return ""

    def warning(self) -> str:
        """Return what the Hub advises against in it; empty if nothing."""
        total = self.files_after + self.files_there
        # A bucket has no such limit.
        if total <= self.limits.per_store or self.data_repo.startswith("hf://buckets/"):
            return ""
        return (
            f"{self.data_repo} would hold {total:,} files, and the Hub advises to stay below "
            f"{self.limits.per_store:,} in a repo: use larger shards (shard='1 GiB'), several "
            "repos, or a bucket."
        )

    def __str__(self) -> str:
        rows = self._table()
        widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
        return "\n".join(
            [self._title(), "", *(line.rstrip() for line in lines), "", *self._closing()]
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return sheet(self._title(), self._table(), self._closing(), texts=3)

    def _title(self) -> str:
        index = "" if self.repo == self.data_repo else f", the index to {self.repo}"
        return f"Push {_counted(len(self.stores), 'store')} to {self.data_repo}{index}"

    def _table(self) -> list[list[str]]:
        return [list(_COLUMNS), *[_row(one) for one in self.stores[:_SHOWN]]]

    def _closing(self) -> list[str]:
        routes = Counter(one.route for one in self.stores)
        told = ", ".join(f"{count:,} {_DONE[route]}" for route, count in sorted(routes.items()))
        lines = [
            f"stores: {told}",
            f"files: {self.files_before:,} of {in_units(self.nbytes)} become up to "
            f"{self.files_after:,}; {_counted(self.files_there, 'other file')} there",
            f"index: {_counted(self.rows, 'row')}",
        ]
        if len(self.stores) > _SHOWN:
            lines.insert(0, f"and {len(self.stores) - _SHOWN:,} more stores, which .stores holds")
        notes = [f"{one.path}: {one.note}" for one in self.stores if one.note][:_SHOWN]
        notes += [text for text in (*self.notes, self.warning(), self.refusal()) if text]
        return [*lines, *[f"note: {note}" for note in notes]]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Pushed:
    """What a push did. Returned by `hfzarr.push_to_hub`.

    Attributes
    ----------
    plan
        What was to be done.
    url
        The index, as what ``xr.open_dataset(url, engine="hfzarr")`` and
        `hfzarr.open_manifest` take.
    commit
        Commit that the paths in the index name; None where the stores lie in a bucket.
    index_commit
        Commit of the index; None in a bucket.
    files, nbytes
        What was sent, or found by its checksum to be there.
    seconds
        How long it took.
    """

    plan: PushPlan
    url: str
    commit: str | None
    index_commit: str | None
    files: int
    nbytes: int
    seconds: float

    def __str__(self) -> str:
        at = "" if self.commit is None else f" at commit {self.commit[:12]}"
        return (
            f"{self.url}: {_counted(self.plan.rows, 'row')} of "
            f"{_counted(len(self.plan.stores), 'store')} in {self.plan.data_repo}{at}; "
            f"{_counted(self.files, 'file')} of {in_units(self.nbytes)} sent in "
            f"{self.seconds:.1f} s"
        )

    __repr__ = __str__


_DONE = {"copy": "copied", "reshard": "resharded", "keep": "there already"}


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _row(one: StorePush) -> list[str]:
    return [
        one.path,
        one.source,
        one.route,
        f"{one.files_before:,}",
        f"{one.files_after:,}",
        in_units(one.nbytes),
    ]


def store_paths(names: Sequence[str]) -> list[str]:
    """Return where stores will lie in a repo: safe names, no two alike, no folder too full.

    Parameters
    ----------
    names
        Paths of the stores below what they have in common, or their names.

    Examples
    --------
    >>> store_paths(["cat/1.zarr", "dog/1.zarr", "dog/1.zarr"])
    ['cat/1.zarr', 'dog/1.zarr', 'dog/1-2.zarr']
    >>> store_paths(["a: b.zarr", ".git/x"])
    ['a_ b.zarr', '_git/x']
    """
    safe = _distinct([_safe(name) for name in names])
    beside = Counter(path.rpartition("/")[0] for path in safe)
    return [
        _spread(path) if beside[path.rpartition("/")[0]] > _MOST_BESIDE else path for path in safe
    ]


def _safe(name: str) -> str:
    parts = [_ODD.sub("_", part).strip() for part in name.replace("\\", "/").split("/")]
    kept = [part for part in parts if part not in ("", ".", "..")]
    # git's own folder, and what begins like a hidden file of ours or the system's.
    return "/".join(f"_{part[1:]}" if part.startswith(".") else part for part in kept) or "store"


def _distinct(paths: Iterable[str]) -> list[str]:
    """Return paths no two of which are alike, and none of which lies in another.

    Some file systems, on which a repo is cloned, do not tell capitals.
    """
    # What a push itself writes.
    stores, folders = {"readme.md"}, {"data"}
    found: list[str] = []
    for path in paths:
        *around, name = path.split("/")
        chosen = ""
        for part in around:
            chosen = _free(chosen, part, stores)
            folders.add(chosen.lower())
        chosen = _free(chosen, name, stores, folders)
        stores.add(chosen.lower())
        found.append(chosen)
    return found


def _free(folder: str, name: str, *taken: Collection[str]) -> str:
    """Return a path in a folder, with a number in its name if it is taken."""
    stem, dot, suffix = name.partition(".")
    number = 0
    while True:
        number += 1
        tried = name if number == 1 else f"{stem}-{number}{dot}{suffix}"
        path = f"{folder}/{tried}" if folder else tried
        if not any(path.lower() in some for some in taken):
            return path


def _spread(path: str) -> str:
    folder, _, name = path.rpartition("/")
    # By its name, so that a store keeps its place when others come.
    part = hashlib.sha256(name.encode()).hexdigest()[:2]
    return "/".join(piece for piece in (folder, part, name) if piece)


def fullest_folder(keys: Iterable[str]) -> int:
    """Return how many files and folders lie in the fullest folder of a tree.

    Examples
    --------
    >>> fullest_folder(["zarr.json", "c/0/0", "c/0/1", "c/0/2", "c/1/0"])
    3
    """
    below: dict[str, set[str]] = {}
    for key in keys:
        while key:
            folder, _, name = key.rpartition("/")
            names = below.setdefault(folder, set())
            if name in names:
                break
            names.add(name)
            key = folder
    return max((len(names) for names in below.values()), default=0)
