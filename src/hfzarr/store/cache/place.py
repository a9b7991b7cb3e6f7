"""Where chunks are kept between runs, as a value: a folder of this machine, and how many bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hfzarr.errors import TargetError
from hfzarr.model.report import shorten

__all__ = ["CachePlace", "cache_of_environment", "split_cache"]

_FOLDER, _SIZE = "cache", "cache_size"
_FOLDER_VARIABLE, _SIZE_VARIABLE = "HFZARR_CACHE", "HFZARR_CACHE_SIZE"
_DEFAULT_SIZE = 10 * 2**30
_UNITS = {
    "": 1, "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePlace:
    """A folder that chunks are kept in.

    Attributes
    ----------
    folder
        Its path; empty where nothing is to be kept, whatever the environment says.
    size
        How much it may hold, bytes.

    Examples
    --------
    >>> CachePlace.of("chunks", "2 GiB").size
    2147483648
    """

    folder: str
    size: int = _DEFAULT_SIZE

    @classmethod
    def of(cls, folder: Any, size: Any = None) -> CachePlace:
        """Return the place that options name.

        Parameters
        ----------
        folder
            A path; a relative one counts from the current folder. None, False and ``""`` stand
            for no cache.
        size
            Bytes, as a number or as text with a unit; None for 10 GiB.

        Raises
        ------
        TargetError
            The folder is no path, or the size no number of bytes.
        """
        if folder is None or folder is False or folder == "":
            return cls(folder="", size=_bytes(size))
        text = os.fspath(folder) if isinstance(folder, (str, os.PathLike)) else None
        if not isinstance(text, str) or "://" in text:
            raise TargetError(
                f"the storage option {_FOLDER!r} is the path of a folder on this machine that "
                f"chunks are kept in, not {shorten(folder)}"
            )
        return cls(folder=os.path.abspath(os.path.expanduser(text)), size=_bytes(size))

    def __bool__(self) -> bool:
        return bool(self.folder)


def split_cache(options: Mapping[str, Any]) -> tuple[dict[str, Any], CachePlace | None]:
    """Return options for fsspec, and the place that chunks are kept in, if that is among them.

    Raises
    ------
    TargetError
        The place is none.

    Examples
    --------
    >>> split_cache({"anon": True, "cache": False})
    ({'anon': True}, CachePlace(folder='', size=10737418240))
    """
    rest = {name: value for name, value in options.items() if name not in (_FOLDER, _SIZE)}
    if len(rest) == len(options):
        return rest, None
    folder, size = options.get(_FOLDER), options.get(_SIZE)
    if _FOLDER not in options:
        folder = os.environ.get(_FOLDER_VARIABLE)
        if not folder:
            raise TargetError(
                f"{_SIZE!r} bounds the folder that chunks are kept in, and there is none: name it "
                f"with {_FOLDER!r} beside it, or in the variable {_FOLDER_VARIABLE}"
            )
    elif size is None:
        size = os.environ.get(_SIZE_VARIABLE) or None
    return rest, CachePlace.of(folder, size)


def cache_of_environment() -> CachePlace | None:
    """Return the place that the environment names, if it names one.

    Raises
    ------
    TargetError
        What it names as a size is no number of bytes.
    """
    folder = os.environ.get(_FOLDER_VARIABLE)
    return CachePlace.of(folder, os.environ.get(_SIZE_VARIABLE) or None) if folder else None


def _bytes(size: Any) -> int:
    if size is None:
        return _DEFAULT_SIZE
    number: float = 0
    if isinstance(size, (int, float)) and not isinstance(size, bool):
        number = size
    elif isinstance(size, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", size)
        if found is not None and found[2].upper() in _UNITS:
            number = float(found[1]) * _UNITS[found[2].upper()]
    if not 1 <= number < 2**63:
        raise TargetError(
            f"{_SIZE!r} is a number of bytes, or a text such as '10 GiB', not {shorten(size)}"
        )
    return int(number)
