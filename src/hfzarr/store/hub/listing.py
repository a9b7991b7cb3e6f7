"""What a store on the Hub holds, as far as it was listed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hfzarr.store.source import Usage

__all__ = ["UNKNOWN", "Entry", "Listing", "Unknown"]

# Remembering more misses than that would cost more than it saves.
_MOST_ABSENT = 200_000


@dataclass(frozen=True, slots=True)
class Entry:
    """An object of a listing.

    Attributes
    ----------
    size
        In bytes.
    tag
        Text that is another for other content.
    large
        The checksum that a large object is known by in git; empty for others.
    """

    size: int
    tag: str
    large: str = ""

    @property
    def mark(self) -> str:
        """Text that is another for other content or another size."""
        return f"{self.tag}-{self.size}"


class Unknown:
    """What a listing says of a key that it has not come to yet."""

    def __repr__(self) -> str:
        return "UNKNOWN"


#: The only `Unknown`.
UNKNOWN: Final = Unknown()


class Listing:
    """The objects below one folder, by key.

    Parameters
    ----------
    root
        The folder in its repo; keys are relative to it.
    """

    def __init__(self, root: str) -> None:
        self._root = f"{root}/" if root else ""
        self.begun = self.complete = False
        #: Where the next page begins, as the Hub says.
        self.cursor: str | None = None
        self._entries: dict[str, Entry] = {}
        self._absent: set[str] = set()
        self._names: dict[str, list[str]] | None = None

    def find(self, key: str) -> Entry | Unknown | None:
        """Return the object at a key, None where there is none, or that it is not known."""
        found = self._entries.get(key)
        if found is not None:
            return found
        return None if self.complete or key in self._absent else UNKNOWN

    def add(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Take up what the Hub lists: objects, among folders."""
        found = {}
        for item in items:
            path = str(item["path"])
            if item["type"] == "file" and path.startswith(self._root):
                found[path[len(self._root) :]] = _entry(item)
        self._entries.update(found)

    def turn(self, cursor: str | None) -> None:
        """Note where the next page begins; without one, the listing is complete."""
        self.cursor, self.begun, self.complete = cursor, True, cursor is None

    def miss(self, keys: Iterable[str]) -> None:
        """Note that there are no such objects."""
        if len(self._absent) > _MOST_ABSENT:
            self._absent.clear()
        self._absent.update(keys)

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys that begin with a text, sorted."""
        return sorted(key for key in self._entries if key.startswith(prefix))

    def names(self, folder: str) -> list[str]:
        """Return the names directly under a folder of a complete listing, sorted."""
        if self._names is None:
            below: dict[str, set[str]] = {}
            for key in self._entries:
                while key:
                    parent, _, name = key.rpartition("/")
                    known = below.setdefault(parent, set())
                    if name in known:
                        break
                    known.add(name)
                    key = parent
            self._names = {path: sorted(names) for path, names in below.items()}
        return self._names.get(folder, [])

    def usage(self, prefix: str) -> Usage | None:
        """Return what lies below a prefix; None if the listing is not complete."""
        if not self.complete:
            return None
        start = f"{prefix}/" if prefix else ""
        found = [entry for key, entry in self._entries.items() if key.startswith(start)]
        mark = sum(_number(entry.mark) for entry in found)
        return Usage(len(found), sum(entry.size for entry in found), mark)


def _entry(item: Mapping[str, Any]) -> Entry:
    large = item.get("lfs") or {}
    # Of what is told, the first that stays the same when the same content is committed again.
    tag = item.get("xetHash") or large.get("oid") or item.get("oid") or item.get("mtime") or ""
    size = int(large.get("size", item["size"]))
    return Entry(size, str(tag), str(large.get("oid") or ""))


def _number(mark: str) -> int:
    return int.from_bytes(mark.encode()[:8], "big")
