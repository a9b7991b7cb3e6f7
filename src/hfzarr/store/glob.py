"""Patterns of paths, matched folder by folder, so that a walk leaves out what cannot match."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hfzarr.errors import TargetError

__all__ = ["Glob"]

_ANY_DEPTH = "**"


@dataclass(frozen=True, slots=True, kw_only=True)
class Glob:
    """A path with wildcards: ``*``, ``?`` and ``[...]`` within a name, ``**`` for any folders.

    Attributes
    ----------
    base
        The folder or URL before the first name with a wildcard.
    parts
        The names after it.

    Examples
    --------
    >>> glob = Glob.of("s3://bucket/plates/*/2024-*.zarr")
    >>> glob.base, glob.parts
    ('s3://bucket/plates', ('*', '2024-*.zarr'))
    >>> glob.matches("P1/2024-05.zarr"), glob.matches("P1/2023-05.zarr")
    (True, False)
    """

    base: str
    parts: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Glob | None:
        """Return the pattern that a text is, or None where it is a plain path or URL.

        Raises
        ------
        TargetError
            There is a wildcard in the bucket or host.
        """
        scheme, mark, rest = text.partition("://")
        if not mark:
            # A folder may have any name, one with brackets too.
            if os.path.lexists(text):
                return None
            scheme, rest = "", text.replace(os.sep, "/")
        # Of a web address, a question mark begins the query.
        magic = "*[" if scheme in ("http", "https") else "*?["
        parts = rest.split("/")
        first = next((i for i, part in enumerate(parts) if set(part) & set(magic)), None)
        if first is None:
            return None
        base = "/".join(parts[:first])
        if mark and not base and scheme not in ("file", "local", "memory"):
            raise TargetError(f"{text!r}: spell the bucket or host out, and put wildcards after it")
        if not mark and not base:
            base = "/" if first else "."
        return cls(
            base=f"{scheme}{mark}{base}", parts=tuple(part for part in parts[first:] if part)
        )

    def matches(self, path: str) -> bool:
        """Whether a path below the base, or a folder that it lies in, is meant."""
        return any(len(self.parts) in states for states in self._states(path))

    def may_hold(self, path: str) -> bool:
        """Whether something in the folder at a path below the base may be meant."""
        states: set[int] = set()
        for states in self._states(path):
            if len(self.parts) in states:
                return True
        return bool(states)

    def _states(self, path: str) -> Iterator[set[int]]:
        """Yield, for each folder on the way to a path, how many parts may be behind it."""
        states = self._skipping({0})
        yield states
        for name in filter(None, path.split("/")):
            after = {i for i in states if i < len(self.parts) and self.parts[i] == _ANY_DEPTH}
            after |= {
                i + 1
                for i in states
                if i < len(self.parts)
                and self.parts[i] != _ANY_DEPTH
                and fnmatchcase(name, self.parts[i])
            }
            states = self._skipping(after)
            yield states

    def _skipping(self, states: set[int]) -> set[int]:
        """Return states with those that a ``**`` of no folder at all leads to."""
        out = set(states)
        for i in sorted(states):
            while i < len(self.parts) and self.parts[i] == _ANY_DEPTH:
                i += 1
                out.add(i)
        return out
