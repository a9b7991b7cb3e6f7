"""How much a store may ask of this machine before it is refused."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from hfzarr.errors import LimitError, TargetError
from hfzarr.model.report import shorten

__all__ = [
    "Limits",
    "SizeCheck",
    "check_chunk_count",
    "check_coordinate_size",
    "check_object_size",
    "get_limits",
    "set_limits",
]

#: Raises where so many bytes, of what is named, are too many.
SizeCheck = Callable[[int, str], None]

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_SIZE = re.compile(r"\s*(\d{1,18}(?:\.\d{1,6})?)\s*([KMGT]?)(?:iB|B)?\s*", re.IGNORECASE)
_TRUTHS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_BYTES = frozenset(["max_document", "max_chunk", "max_coordinate"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What metadata and chunks of a store may take; beyond it they are refused.

    The defaults are far above what stores in use need, and low enough for a laptop. They bound
    what a store can make this machine do by itself; what a user selects is not limited.

    Attributes
    ----------
    max_document
        Bytes of one metadata document, such as a ``zarr.json`` or ``.zmetadata``.
    max_depth
        How deep lists and objects lie in each other in a document, and groups in a store.
    max_nodes
        Groups and arrays of one store whose metadata is looked at.
    max_entries
        Files in one zip.
    max_chunk
        Bytes that one chunk decodes to, or the index of one shard, or one object takes that is
        read whole.
    max_chunks
        Chunks along one axis that one read touches.
    max_coordinate
        Bytes of one coordinate along a dimension: these are in memory as soon as a store is open.
    follow_links
        Whether links in a folder may lead out of it, as they do in the cache of the Hub.

    Examples
    --------
    >>> Limits().max_depth
    100
    """

    max_document: int = 64 * 2**20
    max_depth: int = 100
    max_nodes: int = 200_000
    max_entries: int = 1_000_000
    max_chunk: int = 4 * 2**30
    max_chunks: int = 2_000_000
    max_coordinate: int = 2**30
    follow_links: bool = True


_set: dict[str, Any] = {}
_found: Limits | None = None
_NAMES = tuple(field.name for field in fields(Limits))


def get_limits() -> Limits:
    """Return the limits of this process.

    They are those that `set_limits` was given, else those of the environment when a limit was
    first asked for (``HFZARR_MAX_DOCUMENT`` and so on, each field's name in capitals), else the
    defaults.

    Raises
    ------
    TargetError
        A variable of the environment holds no number.
    """
    # Asked for at every chunk, so the environment is not looked at again.
    return _found if _found is not None else _look()


def _look() -> Limits:
    global _found
    variables = {name: f"HFZARR_{name.upper()}" for name in _NAMES}
    told = {name: os.environ.get(variable) for name, variable in variables.items()}
    values = {name: _value(name, variables[name], text) for name, text in told.items() if text}
    _found = Limits(**{**values, **_set})
    return _found


def check_object_size(nbytes: int, name: str) -> None:
    """Refuse to read a whole object that is larger than any chunk may be.

    Raises
    ------
    LimitError
        It has more bytes than `Limits` allow.
    """
    most = get_limits().max_chunk
    if nbytes > most:
        raise LimitError(
            f"{name} has {nbytes:,} bytes, and a chunk may have {most:,}. If the store is to be "
            f"trusted, allow it with hfzarr.set_limits(max_chunk={nbytes})."
        )


def check_chunk_count(count: int) -> None:
    """Refuse to plan a read of too many chunks along one axis.

    Raises
    ------
    LimitError
        There are more than `Limits` allow.
    """
    most = get_limits().max_chunks
    if count > most:
        raise LimitError(
            f"the selection takes {count:,} chunks along one axis, and {most:,} is the limit of "
            "one read. Select less at once, or, if the store is to be trusted, allow it with "
            f"hfzarr.set_limits(max_chunks={count})."
        )


def check_coordinate_size(nbytes: int, name: str) -> None:
    """Refuse a coordinate that would fill memory, before it is made or read.

    Raises
    ------
    LimitError
        It has more bytes than `Limits` allow.
    """
    most = get_limits().max_coordinate
    if nbytes > most:
        raise LimitError(
            f"coordinate {shorten(name)} would take {nbytes:,} bytes of memory, and {most:,} is "
            "the limit. Leave it out with drop_variables=, or, if the store is to be trusted, "
            f"allow it with hfzarr.set_limits(max_coordinate={nbytes})."
        )


def set_limits(**limits: int | str | None) -> Limits:
    """Change what a store may ask of this machine, for this process.

    Processes that are started later get it by the environment only: see `get_limits`.

    Parameters
    ----------
    **limits
        Fields of `Limits`: a number, for bytes also a text such as ``"8 GiB"``, True or False for
        `follow_links`; None for what it was before any was set.

    Returns
    -------
    Limits
        All of them, as they are now.

    Raises
    ------
    TargetError
        There is no limit of that name, or the value is no number of one or more.

    Examples
    --------
    >>> set_limits(max_chunk="8 GiB").max_chunk
    8589934592
    >>> set_limits(max_chunk=None) == get_limits()
    True
    """
    global _set
    if unknown := sorted(limits.keys() - set(_NAMES)):
        raise TargetError(f"there is no limit {unknown[0]!r}; the limits are {', '.join(_NAMES)}")
    changed = dict(_set)
    for name, value in limits.items():
        changed.pop(name, None)
        if value is not None:
            changed[name] = _value(name, f"{name}=", value)
    _set = changed
    return _look()


def _value(name: str, called: str, value: Any) -> int | bool:
    if name != "follow_links":
        return _number(name, called, value)
    if (told := str(value).lower()) not in _TRUTHS:
        raise TargetError(f"{called} is True or False (1 or 0), not {shorten(value)}")
    return _TRUTHS[told]


def _number(name: str, called: str, value: Any) -> int:
    number: float = 0
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        # Not a number, infinity, and what is no whole number are none.
        number = value if value < 2**63 and value == value // 1 else 0
    elif isinstance(value, str) and (found := _SIZE.fullmatch(value)):
        unit = found[2].upper()
        number = float(found[1]) * 2 ** _UNITS[unit] if not unit or name in _BYTES else 0
    if number < 1:
        kind = "a number of bytes, or a text such as '8 GiB'" if name in _BYTES else "a number"
        raise TargetError(f"{called} is a limit: wanted {kind}, got {shorten(value)}")
    return int(number)
