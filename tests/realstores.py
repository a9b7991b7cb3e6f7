"""The folder of real stores, for tests that make one case of each store.

A module rather than a fixture, as the cases are wanted before any test runs.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import hfzarr

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("zarr.json", ".zgroup", ".zattrs", ".zarray", ".zmetadata")
ABSENT = "no real stores: set HFZARR_REALDATA to their folder"


def folder() -> Path | None:
    """Return ``$HFZARR_REALDATA``, else ``../shared/realdata``; None where there is neither."""
    path = Path(os.environ.get("HFZARR_REALDATA") or ROOT.parent / "shared" / "realdata")
    return path if (path / "expected.json").is_file() else None


@cache
def expected() -> dict[str, Any]:
    """Return ``expected.json``: what each array holds, by its path in the folder."""
    here = folder()
    found: dict[str, Any] = json.loads((here / "expected.json").read_text("utf-8")) if here else {}
    return found


def is_node(path: Path) -> bool:
    return any((path / name).is_file() for name in DOCUMENTS)


def root_of(path: str) -> str:
    """Return the topmost node at or above the array at ``path``: the store it lies in."""
    here = folder()
    assert here is not None
    root = here / path
    while root.parent != here and is_node(root.parent):
        root = root.parent
    return root.relative_to(here).as_posix()


def cases(names: str, values: Sequence[Any]) -> pytest.MarkDecorator:
    """Return a parametrization that says why it is skipped where there are no real stores."""
    if folder() is None:
        none = [None] * len(names.split(","))
        values = [pytest.param(*none, marks=pytest.mark.skip(reason=ABSENT), id="absent")]
    return pytest.mark.parametrize(names, values)


@contextmanager
def quietly() -> Iterator[None]:
    """Let repairs, the want of consolidated metadata and the like pass without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hfzarr.RepairWarning)
        # Sentinel-3 OLCI has covariances over ('bands', 'bands'), which xarray warns of.
        warnings.filterwarnings("ignore", "Duplicate dimension names present")
        warnings.filterwarnings("ignore", "Failed to open Zarr store with consolidated metadata")
        yield
