"""How the command prints: text that no store can spoil, and JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from collections.abc import Mapping
from typing import Any

import click

__all__ = ["one_line", "plain", "say", "say_json"]

# Control characters move the cursor and colour a terminal, and marks of direction make one name
# look like another. Names and attributes of a store may hold either.
_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def say(text: object = "", *, err: bool = False) -> None:
    """Print text, with what would spoil a terminal as escapes.

    Parameters
    ----------
    text
        Printed as ``str`` has it.
    err
        Whether to print to standard error.
    """
    shown = _HARMFUL.sub(_escaped, str(text))
    stream = sys.stderr if err else sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    click.echo(shown.encode(encoding, "backslashreplace").decode(encoding), err=err)


def say_json(value: Any) -> None:
    """Print a value as JSON, two spaces deep."""
    click.echo(json.dumps(plain(value), indent=2, allow_nan=False))


def one_line(text: object) -> str:
    """Return text as one line.

    Examples
    --------
    >>> one_line("no store:   - a ")
    'no store: - a'
    """
    return " ".join(str(text).split())


def plain(value: Any) -> Any:
    """Return a value as JSON has it: numbers that it does not have are text.

    Examples
    --------
    >>> plain({"shape": (2, 3), "fill": float("nan"), 1: {"b"}})
    {'shape': [2, 3], 'fill': 'NaN', '1': ['b']}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(one) for one in value]
    if hasattr(value, "tolist"):  # NumPy's arrays and scalars
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (bytes, bytearray)):
        return f"{len(value)} bytes"
    return str(value)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
