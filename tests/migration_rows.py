"""The rows of ``docs/migration.md``, and the folder of stores that their calls are run in."""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.storage import LocalStore

import hfzarr
from stores import write_image

PAGE = Path(__file__).resolve().parents[1] / "docs" / "migration.md"
HEIGHTS = np.arange(12 * 16, dtype="int32").reshape(12, 16)
FRAMES = np.random.default_rng(0).integers(0, 256, (4, 24, 30, 3), "uint8")
STORES = ["test/sick/3.zarr", "train/sick/1.zarr", "train/well/2.zarr"]
CHECKS: dict[tuple[str, str], Callable[[Any, Any, Any], None]] = {}

Row = tuple[str, str, str]


def rows() -> list[Row]:
    """Return section, their call and our expression of each row of the page."""
    found, section = [], ""
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif line.startswith("| `"):
            before, now = line.strip("| ").split(" | ", 1)
            expression = re.match("`([^`]+)`", now)
            assert expression, f"the second cell begins with code that runs: {line}"
            found.append((section, before.strip("`"), expression[1]))
    return found


def check(section: str, *calls: str) -> Callable[[Any], Any]:
    """Keep a function as the check of some rows of a section."""

    def keep(function: Callable[[Any, Any, Any], None]) -> Callable[[Any, Any, Any], None]:
        for call in calls:
            assert (section, call) not in CHECKS, call
            CHECKS[section, call] = function
        return function

    return keep


# --- the folder, and the names in it -------------------------------------------------------------


def write_all(folder: Path) -> None:
    for number, name in enumerate(STORES):
        data = np.full((16, 16), number + 1, "uint8")
        zarr.create_array(f"{folder}/stores/{name}", data=data, chunks=(8, 8))
    named = "".join(f"{name},{30 + i}\n" for i, name in enumerate(STORES))
    (folder / "stores" / "metadata.csv").write_text(f"file_name,age\n{named}")
    attributes = {"unit": "m"}
    place = f"{folder}/heights.zarr"
    zarr.create_array(place, data=HEIGHTS, chunks=(4, 8), attributes=attributes)
    zarr.create_array(f"{folder}/frames.zarr", data=FRAMES, chunks=(1, 24, 30, 3))
    group = zarr.create_group(f"{folder}/group.zarr", attributes={"site": "A"})
    group.create_array("a/b", data=HEIGHTS)
    group.create_group("c")
    table = zarr.create_group(f"{folder}/table.zarr")
    table.create_array("x", data=np.arange(20.0).reshape(10, 2), chunks=(4, 2))
    table.create_array("y", data=np.arange(10), chunks=(4,))
    write_image(LocalStore(f"{folder}/cells.ome.zarr"))


def our_names(folder: Path) -> dict[str, Any]:
    array = hfzarr.ZarrHandle(f"{folder}/heights.zarr")
    image = hfzarr.ZarrHandle(f"{folder}/cells.ome.zarr")
    grid = (("y", "x"), np.arange(768.0).reshape(24, 32))
    return {
        "hfzarr": hfzarr, "datasets": datasets, "xr": xr, "np": np,
        "array": array, "image": image, "store": image, "selection": array.select([2, 5]),
        "group": hfzarr.ZarrHandle(f"{folder}/group.zarr"),
        "frames": hfzarr.ZarrHandle(f"{folder}/frames.zarr"),
        "manifest": hfzarr.scan(folder / "stores"),
        "ds": hfzarr.load_zarr_dataset(folder / "stores", split="train"),
        "data": xr.Dataset({"v": grid}),
    }  # fmt: skip


def datachain_names(folder: Path) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import datachain
        from datachain.lib.file import File
        from datachain.lib.zarr import ZarrStore

    def store(name: str) -> Any:
        return ZarrStore(file=File(source=f"file://{folder}", path=name))

    read_zarr = partial(datachain.read_zarr, in_memory=True)
    array, frames = store("heights.zarr").get_array(), store("frames.zarr").get_array()
    return {
        "read_zarr": read_zarr, "chain": read_zarr("stores"), "store": store("cells.ome.zarr"),
        "info": store("cells.ome.zarr").get_info(), "array": array, "frames": frames,
        "selection": array.select([2, 5]),
    }  # fmt: skip


def xbatcher_names(data: xr.Dataset) -> dict[str, Any]:
    import xbatcher

    sizes = {"y": 8, "x": 8}
    generator = xbatcher.BatchGenerator(data, input_dims=sizes)
    return {"BatchGenerator": xbatcher.BatchGenerator, "data": data, "generator": generator}


@contextmanager
def places(folder: Path) -> Iterator[SimpleNamespace]:
    """Give the folder that calls are run in, our names and theirs by section."""
    write_all(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
        patch.setenv("DATACHAIN_ROOT_DIR", str(folder / "datachain"))
        patch.setenv("DATACHAIN_NO_ANALYTICS", "1")
        ours = our_names(folder)
        theirs: dict[str, dict[str, Any]] = {}
        if importlib.util.find_spec("datachain"):
            theirs["From DataChain"] = datachain_names(folder)
        if importlib.util.find_spec("xbatcher"):
            theirs["From xbatcher"] = xbatcher_names(ours["data"])
        yield SimpleNamespace(folder=folder, ours=ours, theirs=theirs)


def equal(expected: Any) -> Callable[[Any, Any, Any], None]:
    """Return a check that compares pixels and values with what was written."""

    def compare(now, theirs, at):
        wanted = expected(at) if callable(expected) else expected
        np.testing.assert_equal(now, wanted)
        if theirs is not None:
            np.testing.assert_equal(_plain(now), _plain(theirs))

    return compare


def _plain(value: Any) -> Any:
    """Return lists for tuples: DataChain's models hold lists."""
    return list(value) if isinstance(value, tuple) else value


def zarr_arrays(place: Path) -> list[str]:
    members = zarr.open_group(place, mode="r").members(max_depth=None)
    return [path for path, node in members if isinstance(node, zarr.Array)]
