"""A store under a handle, as far as it was looked at."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from hfzarr.errors import (
    HfzarrError,
    NodeNotFoundError,
    NoPixelsError,
    StoreNotFoundError,
    TargetError,
)
from hfzarr.model.array import ArrayMeta
from hfzarr.model.ome.image import Image, find_level
from hfzarr.model.ome.version import OmeAttrs
from hfzarr.model.report import Report
from hfzarr.run.read import ArrayReader
from hfzarr.store.finding import Found, find_node, naming
from hfzarr.store.hierarchy import Hierarchy, NodeDoc
from hfzarr.store.location import Location
from hfzarr.store.node import Kind, classify, read_images
from hfzarr.store.source import Source

_LOST = (
    "Some of its storage_options are secret and stayed in the process that they were given in. Log "
    "in here too, or name a variable that is set in every process: {'secret': 'env:NAME'}."
)

__all__ = ["Look", "OpenedStore", "naming_row"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a node turned out to be.

    Attributes
    ----------
    node
        Its metadata document.
    kind
        Which kind of thing it is.
    ome
        Its OME-Zarr metadata, or None.
    """

    node: NodeDoc
    kind: Kind
    ome: OmeAttrs | None


class OpenedStore:
    """One store that is looked at node by node, at first use; shared by a handle and its children.

    It may be used from many threads. In a forked process the store is opened anew, as its
    connections belong to the parent.

    Parameters
    ----------
    location
        Where the store lies.
    row
        Which row of which table named it, for errors; or empty.
    lost
        Whether options were secret, and stayed in another process; errors say so.
    """

    def __init__(self, location: Location, row: str = "", *, lost: bool = False) -> None:
        self._location = location
        self._row = row
        self._lost = lost
        self._lock = threading.RLock()
        self._forget()

    def _forget(self) -> None:
        self._process = os.getpid()
        self._hierarchy: Hierarchy | None = None
        self._looks: dict[str, Look] = {}
        self._images: dict[str, Image] = {}
        self._readers: dict[str, ArrayReader] = {}

    @contextlib.contextmanager
    def _looking(self) -> Iterator[None]:
        if os.getpid() != self._process:
            self._lock = threading.RLock()
            self._forget()
        with self._lock, self.naming(), naming(self._location.shown):
            yield

    @contextlib.contextmanager
    def naming(self) -> Iterator[None]:
        """Put into errors which row the store came from, and what it was not told."""
        with naming_row(self._row):
            try:
                yield
            except HfzarrError as error:
                if not self._lost or _LOST in str(error):
                    raise
                raise type(error)(f"{error} {_LOST}") from error

    def look(self, path: str) -> Look:
        """Return what the node at a path is.

        Raises
        ------
        StoreNotFoundError
            There is no store.
        NodeNotFoundError
            It has no such node.
        """
        with self._looking():
            if path not in self._looks:
                node = self._node(path)
                kind, ome = classify(node, Report())
                self._looks[path] = Look(node=node, kind=kind, ome=ome)
            return self._looks[path]

    def _node(self, path: str) -> NodeDoc:
        if self._hierarchy is None:
            return self._open(path).node
        node = self._hierarchy.node(path)
        if node is None:
            raise NodeNotFoundError(
                f"there is no group or array {path!r}. What is there: the handle's keys()."
            )
        return node

    def _open(self, path: str) -> Found:
        found = find_node(self._location, path, report=Report())
        self._hierarchy = found.hierarchy
        return found

    @property
    def hierarchy(self) -> Hierarchy:
        """The store's metadata; its root is read now, unless something was."""
        with self._looking():
            return self._hierarchy or self._open("").hierarchy

    @property
    def source(self) -> Source:
        """Where the bytes lie."""
        return self.hierarchy.source

    def children(self, path: str) -> list[str]:
        """Return the paths of the nodes directly below a group."""
        self.look(path)
        with self._looking():
            return self.hierarchy.children(path)

    def array(self, path: str) -> ArrayMeta:
        """Return the array at a path."""
        self.look(path)
        with self._looking():
            meta = self.hierarchy.array(path)
            if meta is None:
                raise NodeNotFoundError(f"node {path or '/'!r} is a group, not an array")
            return meta

    def image(self, path: str) -> Image:
        """Return the first multiscale of the image at a path."""
        look = self.look(path)
        if look.kind != "image" or look.ome is None:
            raise NodeNotFoundError(f"node {path or '/'!r} is no image, but of kind {look.kind!r}")
        with self._looking():
            if path not in self._images:
                found = read_images(self.hierarchy, [look.ome], Report(), labels=False)
                self._images[path] = found[path].images[0]
            return self._images[path]

    def pixels(self, path: str, level: int | str = 0) -> ArrayMeta:
        """Return the array whose pixels are meant: itself, or a level of an image.

        Raises
        ------
        NoPixelsError
            A group has no pixels of its own.
        """
        kind = self.look(path).kind
        if kind == "array" and level in (0, -1):
            return self.array(path)
        if kind == "array":
            raise TargetError(
                f"level={level!r} chooses a level of an image, and node {path or '/'!r} of "
                f"{self._location.shown!r} is an array. Leave it out."
            )
        if kind == "image":
            return find_level(self.image(path), level).array
        names = [below[len(path) :].lstrip("/") for below in self.arrays_below(path)]
        with self.naming():
            raise NoPixelsError(
                f"node {path or '/'!r} of {self._location.shown!r} is of kind {kind!r} and has no "
                f"pixels of its own. Choose an array: handle[name], with a name of {names[:20]}"
            )

    def arrays_below(self, path: str) -> list[str]:
        """Return the paths of all arrays at and below a node, level by level."""
        level, found = [path], []
        while level:
            looks = {path: self.look(path) for path in level}
            found += [path for path, look in looks.items() if look.node.kind == "array"]
            groups = [path for path, look in looks.items() if look.node.kind == "group"]
            with self._looking():
                self.hierarchy.load_children(groups)
                level = [child for group in groups for child in self.hierarchy.children(group)]
        return found

    def reader(self, path: str) -> ArrayReader:
        """Return what reads the pixels of the array at a path; it keeps the shards' indexes."""
        meta = self.array(path)
        with self._looking():
            if self._location.kind == "folder" and not os.path.isdir(self._location.url):
                # Every chunk would be absent, and read as the fill value.
                raise StoreNotFoundError(f"the folder {self._location.url!r} is no longer there")
            if path not in self._readers:
                self._readers[path] = ArrayReader(self.source, meta)
            return self._readers[path]


@contextlib.contextmanager
def naming_row(row: str) -> Iterator[None]:
    """Put the row of a table that an error comes from into its message."""
    try:
        yield
    except HfzarrError as error:
        message = str(error)
        if not row or message.startswith(row):
            raise
        raise type(error)(f"{row}: {message}") from error
