"""What the options of the command take, and how it is read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import click

__all__ = ["CLIENT", "CODECS", "JSON_OBJECT", "LENGTHS", "LEVEL", "PATH", "SHARD", "WINDOW"]

#: A path that a shell completes, or a URL, which it leaves alone.
PATH = click.Path()


class Parsed(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A type of option that a function reads.

    Parameters
    ----------
    name
        What the help calls it.
    read
        Makes a value of text; a ``ValueError`` says what was wanted.
    """

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return what text stands for."""
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def lengths(text: str) -> dict[str, int] | tuple[int, ...]:
    """Return ``z=64,y=128`` as a mapping, ``64,128`` as a tuple.

    Examples
    --------
    >>> lengths("z=64, y=-1"), lengths("64,128")
    ({'z': 64, 'y': -1}, (64, 128))
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    try:
        if parts and all("=" in part for part in parts):
            pairs = [part.split("=") for part in parts]
            return {dim.strip(): int(length) for dim, length in pairs}
        if parts:
            return tuple(int(part) for part in parts)
    except ValueError:
        pass
    raise ValueError(f"wanted lengths such as z=64,y=128,x=128 or 64,128,128, got {text!r}")


def window(text: str) -> dict[str, int | float | str]:
    """Return the lengths of a window, in pixels or in units of the coordinates.

    Examples
    --------
    >>> window("y=64,x=12.5,time=6h")
    {'y': 64, 'x': 12.5, 'time': '6h'}
    """
    pairs = [part.split("=") for part in text.split(",") if part.strip()]
    if not pairs or any(len(pair) != 2 or not all(map(str.strip, pair)) for pair in pairs):
        raise ValueError(f"wanted lengths by dimension such as y=256,x=256, got {text!r}")
    return {dim.strip(): _number(length.strip()) for dim, length in pairs}


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def shard(text: str) -> dict[str, int] | tuple[int, ...] | str | None:
    """Return a shape, or the text of a size; a number alone is a size in bytes."""
    if text == "none":
        return None
    return lengths(text) if "=" in text or "," in text else text


def codecs(text: str) -> Any:
    """Return the name of a codec, or what JSON says of several."""
    return _json(text) if text.lstrip().startswith(("[", "{")) else text


def json_object(text: str) -> dict[str, Any]:
    """Return a JSON object as a mapping."""
    found = _json(text)
    if not isinstance(found, dict):
        raise ValueError("wanted a JSON object such as '{\"anon\": true}', got another value")
    return found


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        # Not the text itself: there may be a secret in it.
        raise ValueError(f"that is no JSON: {error}") from error


def level(text: str) -> int | str:
    """Return a level's number, or its name."""
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def client(text: str) -> str:
    """Return where a run is to take place."""
    if text in ("threads", "serial", "dask") or re.fullmatch(r"local:[1-9]\d*", text):
        return text
    if ":" in text and not text.startswith("local:"):
        return text
    raise ValueError(
        "wanted threads, serial, dask, local:N with a number of processes, or the address of a "
        f"scheduler as tcp://HOST:PORT, got {text!r}"
    )


LENGTHS = Parsed("lengths", lengths)
WINDOW = Parsed("lengths", window)
SHARD = Parsed("size", shard)
CODECS = Parsed("codecs", codecs)
JSON_OBJECT = Parsed("json", json_object)
LEVEL = Parsed("level", level)
CLIENT = Parsed("where", client)
