"""What several tests of stores of strangers need."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import xarray as xr


def grid(*chunk: int) -> dict[str, Any]:
    """Return a regular grid of chunks, as a document has it."""
    return {"name": "regular", "configuration": {"chunk_shape": list(chunk)}}


def open_dataset(path: Path, **options: Any) -> xr.Dataset:
    """Open a store, whatever there is to be repaired."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return xr.open_dataset(path, engine="hfzarr", **options)


def put(path: Path, data: bytes) -> None:
    """Write a file, and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


class Watched:
    """What is opened, connected to or run meanwhile, as this process's audit hook is told."""

    def __enter__(self) -> list[str]:
        if not _HOOKED:
            _HOOKED.append(True)
            sys.addaudithook(_note)
        _WATCHING.append([])
        return _WATCHING[-1]

    def __exit__(self, *_: object) -> None:
        _WATCHING.pop()


_HOOKED: list[bool] = []
_WATCHING: list[list[str]] = []
_EVENTS = frozenset(
    [
        "open", "os.listdir", "os.scandir", "socket.connect", "socket.getaddrinfo", "os.system",
        "subprocess.Popen", "pickle.find_class", "exec.evil",
    ]
)  # fmt: skip
# What Python and its libraries read for themselves.
_OF_PYTHON = (
    "site-packages", "lib/python", "/src/hfzarr", "__pycache__", "/proc/", "/sys/",
    "/etc/mime.types",
)  # fmt: skip


def _note(event: str, args: tuple[Any, ...]) -> None:
    if _WATCHING and event in _EVENTS:
        what = args[0]
        is_path = event == "open" and isinstance(what, (str, bytes))
        _WATCHING[-1].append(f"{event} {os.fsdecode(what) if is_path else what}")


def outside(events: list[str], *folders: Path) -> list[str]:
    """Return what was opened outside of folders, what is Python's own left out."""
    allowed = (*map(str, folders), *_OF_PYTHON)
    found = []
    for event in events:
        kind, _, what = event.partition(" ")
        inside = what.isdigit() or any(part in what for part in allowed)
        if kind not in ("open", "os.listdir", "os.scandir") or not inside:
            found.append(event)
    return found
