"""Which version of an object a store holds, by its own word: what is kept is known by it."""

from __future__ import annotations

import contextlib
import re
import time
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, TypeAlias

from hfzarr.errors import CacheWarning, HfzarrError
from hfzarr.store.source import Source

__all__ = ["Changes", "Mark", "Marks", "is_dated", "marks_of"]

#: Text that is another for other content; empty where the store tells none that can be relied on,
#: None where it says that there is no object.
Mark: TypeAlias = str | None

#: How objects of a store may change: never, as those of a commit; so that each change has its time,
#: which the store sets and nobody can set back; or in any way.
Changes: TypeAlias = Literal["never", "dated", "any"]

# Remembering more than that would cost more than asking again.
_MOST_KEYS = 200_000
_MOST_STORES = 64
# A store that fails so often to tell marks is not asked any more.
_MOST_FAILURES = 3
# A time says which version is there only once its second is over (RFC 9110, 8.8.2.2), by clocks
# that may differ.
_SETTLED = 60.0
# As HTTP writes a time, and as Python does.
_MOMENT = re.compile(
    r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"
    r"|\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d{3,6})?(Z|[+-]\d\d:\d\d)?"
)


class Marks:
    """What a store told of its objects when this process first looked at them.

    Parameters
    ----------
    final
        Whether marks are those of a commit: nothing that is read can change.

    Attributes
    ----------
    proven
        Whether this process may read objects, as far as is known; where a store lists to all what
        it gives to some, one must have been read.
    silent
        Whether the store tells nothing by which a version is known.
    """

    def __init__(self, *, final: bool) -> None:
        self.final = final
        self.proven = not final
        self.silent = False
        self._known: dict[str, Mark] = {}
        self._failures = 0

    def of(self, source: Source, keys: Sequence[str]) -> dict[str, Mark]:
        """Return the mark of each of many keys; what is not known yet is asked for at once."""
        found = {key: self._known[key] for key in keys if key in self._known}
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        if not missing:
            return found
        told: dict[str, Mark] = {}
        if not self.silent:
            try:
                told = self.ask(source, missing)
                self._failures = 0
            except HfzarrError:
                # Whether it is a fault is said by who reads the object.
                self._failures += 1
                self.silent = self._failures >= _MOST_FAILURES
            self._remember(told)
        return {**found, **dict.fromkeys(missing, ""), **told}

    def ask(self, source: Source, keys: Sequence[str]) -> dict[str, Mark]:
        """Ask for the mark of each of many keys, whatever is known.

        Raises
        ------
        HfzarrError
            The store could not be asked.
        """
        told = dict(zip(keys, source.stamps(keys), strict=True))
        there = [mark for mark in told.values() if mark is not None]
        if there and not any(map(_names_version, there)):
            self._fall_silent(source.url)
        return {
            key: "" if mark and not (_names_version(mark) and _is_firm(mark)) else mark
            for key, mark in told.items()
        }

    def forget(self, keys: Sequence[str]) -> None:
        """Forget marks of objects that were replaced."""
        for key in keys:
            self._known.pop(key, None)

    def _remember(self, told: dict[str, Mark]) -> None:
        if len(self._known) > _MOST_KEYS:
            self._known.clear()
        # What is absent may be written yet, unless it is absent from a commit.
        lasting = {key: mark for key, mark in told.items() if self.final or mark is not None}
        self._known.update(lasting)

    def _fall_silent(self, url: str) -> None:
        if not self.silent:
            self.silent = True
            warnings.warn(
                f"nothing of store {url!r} is kept in the cache: it tells neither a checksum (a "
                "strong ETag) nor a time of its objects, so that one that was replaced could not "
                "be told from the one before.",
                CacheWarning,
                stacklevel=2,
            )


def _names_version(mark: str) -> bool:
    """Return whether a mark tells more than a size, and is not that of another encoding.

    Examples
    --------
    >>> [_names_version(mark) for mark in ("9c5f-1024", "1024", "?", 'W/"9c5f-1024')]
    [True, False, False, False]
    """
    return re.fullmatch(r"|\?|-?\d+|W/.*", mark, re.DOTALL) is None


def is_dated(mark: str) -> bool:
    """Return whether a mark names a time that is past, so that a later change has another one.

    Examples
    --------
    >>> [is_dated(mark) for mark in ("9c5f-2024-01-31 12:00:00+00:00-1024", "9c5f-1024")]
    [True, False]
    """
    found = _MOMENT.search(mark)
    if found is None:
        return False
    text = found.group()
    http = text[0].isalpha()
    moment = parsedate_to_datetime(text) if http else datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return time.time() - moment.timestamp() > _SETTLED


def _is_firm(mark: str) -> bool:
    """Return whether a mark is a checksum, or a time in which nothing can change any more."""
    return _MOMENT.match(mark) is None or is_dated(mark)


_stores: OrderedDict[str, Marks] = OrderedDict()


def marks_of(opened: str, *, final: bool) -> Marks:
    """Return the marks that all copies of one opened store share in this process.

    Parameters
    ----------
    opened
        Its name.
    final
        As for `Marks`.
    """
    marks = _stores.setdefault(opened, Marks(final=final))
    with contextlib.suppress(KeyError):
        _stores.move_to_end(opened)
        if len(_stores) > _MOST_STORES:
            _stores.popitem(last=False)
    return marks
