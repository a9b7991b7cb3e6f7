"""How a fill value is written in Zarr v2 and v3, by data type."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["v2_fill_fault", "v3_fill_fault"]

_INTEGER = re.compile(r"(u?)int(8|16|32|64)")
_FLOAT = re.compile(r"float(16|32|64)")
_COMPLEX = re.compile(r"complex(64|128)")
_RAW = re.compile(r"r(\d+)")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_NAMED = ("NaN", "Infinity", "-Infinity")


def v2_fill_fault(dtype: str, value: Any) -> str | None:
    """Return what the fill value of an array in v2 has to be; None where it is that.

    Parameters
    ----------
    dtype
        A NumPy typestr; only numbers are looked at.
    value
        The fill value, as JSON has it; null is none, and always allowed.

    Examples
    --------
    >>> v2_fill_fault("<u2", "0"), v2_fill_fault("<f4", "NaN")
    ('an integer, or null', None)
    """
    if value is None:
        return None
    kind = dtype[1:2]
    if kind in ("i", "u"):
        sound = _is_number(value) and float(value).is_integer()
        return None if sound else "an integer, or null"
    if kind == "f":
        sound = _is_number(value) or value in _NAMED
        return None if sound else "a number, NaN, Infinity or -Infinity, or null"
    return None


def v3_fill_fault(data_type: str, value: Any) -> str | None:
    """Return what the fill value of a core data type has to be; None where it is that.

    Parameters
    ----------
    data_type
        Name of a data type; nothing is known of those that are extensions.
    value
        The fill value, as JSON has it.

    Examples
    --------
    >>> v3_fill_fault("uint8", 255), v3_fill_fault("uint8", 256)
    (None, 'an integer from 0 to 255')
    >>> v3_fill_fault("float32", "NaN"), v3_fill_fault("bool", 0)
    (None, 'true or false')
    """
    if data_type == "bool":
        return None if isinstance(value, bool) else "true or false"
    if found := _INTEGER.fullmatch(data_type):
        bits = int(found[2])
        low, high = (0, 2**bits - 1) if found[1] else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        sound = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return None if sound else f"an integer from {low} to {high}"
    if _FLOAT.fullmatch(data_type):
        return None if _is_float(value) else "a number, NaN, Infinity or -Infinity, or hex digits"
    if _COMPLEX.fullmatch(data_type):
        sound = isinstance(value, list) and len(value) == 2 and all(map(_is_float, value))
        return None if sound else "a list of two, the real and the imaginary part"
    if found := _RAW.fullmatch(data_type):
        count = int(found[1]) // 8
        sound = isinstance(value, list) and len(value) == count
        sound = sound and all(isinstance(n, int) and 0 <= n <= 255 for n in value)
        return None if sound else f"a list of {count} integers from 0 to 255"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_float(value: Any) -> bool:
    if isinstance(value, str):
        return value in _NAMED or _HEX.fullmatch(value) is not None
    return _is_number(value)
