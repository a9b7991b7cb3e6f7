"""What the Hub keeps: repos, their commits and files, and who may see them."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

TYPES = ("models", "datasets", "spaces")
EPOCH = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class File:
    """One file as git sees it: its bytes, or a pointer to a large object."""

    data: bytes
    lfs: bool = False

    @functools.cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def pointer(self) -> bytes:
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\n"
        return f"{text}size {len(self.data)}\n".encode()

    @functools.cached_property
    def oid(self) -> str:
        """The id of the git blob: of the pointer, for a large file."""
        held = self.pointer if self.lfs else self.data
        return hashlib.sha1(b"blob %d\0" % len(held) + held).hexdigest()

    @property
    def etag(self) -> str:
        return f'"{self.sha256 if self.lfs else self.oid}"'


@dataclass(frozen=True)
class Commit:
    """A state of a repo: every file, and which commit changed it last."""

    oid: str
    title: str
    date: str
    files: Mapping[str, File]
    changed: Mapping[str, str]
    """Path to the oid of the last commit that touched it."""
    parent: str | None = None
    message: str = ""

    @functools.cached_property
    def folders(self) -> Mapping[str, list[str]]:
        """Folder ("" is the root) to the sorted paths of what lies in it; folders end with "/"."""
        found: dict[str, set[str]] = {"": set()}
        for path in self.files:
            parts = path.split("/")
            for depth in range(len(parts)):
                parent = "/".join(parts[:depth])
                child = "/".join(parts[: depth + 1])
                below = found.setdefault(parent, set())
                below.add(child if depth == len(parts) - 1 else f"{child}/")
        return {folder: sorted(children) for folder, children in found.items()}


@dataclass
class Repo:
    """A repo of one type, with its history, its refs and its large objects."""

    type: str
    id: str
    private: bool = False
    gated: bool = False
    """Whether its files are for those alone whom the owner let in (``granted``)."""
    granted: set[str] = field(default_factory=set)
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    """Full ref (``refs/heads/main``, ``refs/tags/v1``, ``refs/pr/1``) to the oid of a commit."""
    objects: dict[str, bytes] = field(default_factory=dict)
    """Large objects that this repo holds, by SHA-256."""
    xet: dict[str, str] = field(default_factory=dict)
    """SHA-256 of an object that came by Xet, to its hash there."""
    mtimes: dict[str, str] = field(default_factory=dict)
    """Of a bucket: path to the time that its uploader gave it."""
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    """Parts of objects that are uploaded in several, by SHA-256 and number."""

    def __post_init__(self) -> None:
        if not self.commits:
            self.commit({}, title="initial commit")

    @property
    def namespace(self) -> str:
        return self.id.partition("/")[0]

    @property
    def prefix(self) -> str:
        """What stands before the id in addresses of the site."""
        return "" if self.type == "models" else f"{self.type}/"

    def head(self, revision: str = "main") -> Commit | None:
        """The commit that a branch, a tag, a full ref or an oid stands for."""
        for ref in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if ref in self.refs:
                return self.commits[self.refs[ref]]
        if len(revision) >= 7:
            return next((c for oid, c in self.commits.items() if oid.startswith(revision)), None)
        return None

    def commit(
        self,
        add: Mapping[str, File],
        delete: Iterable[str] = (),
        *,
        ref: str = "refs/heads/main",
        title: str = "commit",
        message: str = "",
        parent: str | None = None,
    ) -> Commit:
        """Make a commit on a ref; without ``parent``, over what the ref holds now."""
        before = self.commits[parent or self.refs[ref]] if (parent or ref in self.refs) else None
        gone = set(delete)
        files = {} if before is None else {p: f for p, f in before.files.items() if p not in gone}
        changed = {} if before is None else {p: before.changed[p] for p in files}
        files |= add
        seed = f"{self.type} {self.id} {len(self.commits)} {title} {sorted(add)}"
        oid = hashlib.sha1(seed.encode()).hexdigest()
        changed |= dict.fromkeys(add, oid)
        self.objects |= {f.sha256: f.data for f in add.values() if f.lfs}
        self.commits[oid] = commit = Commit(
            oid=oid,
            title=title,
            message=message,
            date=(EPOCH + timedelta(seconds=len(self.commits))).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            files=files,
            changed=changed,
            parent=before.oid if before else None,
        )
        self.refs[ref] = oid  # last: who reads meanwhile sees the old state or the new one
        return commit


@dataclass(frozen=True)
class Token:
    """Who calls, and what they may do."""

    secret: str
    user: str
    orgs: tuple[str, ...] = ()
    repos: frozenset[str] | None = None
    """A fine-grained token: the private repos that it opens. None for all of the user's own."""
    write: bool = True

    def opens(self, repo: Repo) -> bool:
        if self.repos is not None:
            return repo.id in self.repos
        return repo.namespace in (self.user, *self.orgs)


@dataclass
class State:
    """Everything that the Hub knows."""

    repos: dict[tuple[str, str], Repo] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    """Held while anything is changed."""
