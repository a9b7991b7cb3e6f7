"""A store written anew from the Hub while something breaks: right, or an error and then right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

pytest.importorskip("huggingface_hub", minversion="1.0")
pytest.importorskip("datasets")
pytest.importorskip("aiohttp")

import hfzarr
from hfzarr.errors import ChangedSourceError, HfzarrError
from hub import Hub
from hub.faults import (
    Fault,
    cut_short,
    dropped,
    shifted,
    status,
    too_long,
    too_short,
    unlabeled,
    whole,
)
from hubstores import URL, pixels, write_image
from hubstores import hub as hub
from hubstores import servers as servers

PASSING = {
    "429": status(429, Retry_After="0"),
    "429, silent": status(429),
    "500": status(500),
    "503": status(503, Retry_After="0"),
    "dropped": dropped,
    "cut short": cut_short,
    "too short": too_short,
    "too long": too_long,
    "shifted": shifted,
    "unlabeled": unlabeled,
    "expired": status(403),
    "gone": status(410),
}
LASTING = [name for name in PASSING if name not in ("429, silent", "503")]
ROUTES: dict[str, dict[str, Any]] = {
    "repack": {"shard": {"y": 256, "x": 256}},
    "transcode": {"shard": {"y": 256, "x": 256}, "codecs": "zstd:1", "inner_chunk": [128, 128]},
}


@pytest.fixture
def chunked(hub: Hub, tmp_path: Path) -> np.ndarray[Any, Any]:
    """The pixels of an image of 64 files on the Hub, at ``URL``."""
    data = pixels()
    write_image(tmp_path / "stores" / "a.zarr", data, shards=None)
    hub.add_repo("ada/cells", tmp_path / "stores")
    hub.log.clear()
    return data


def rewrite(out: Path, route: str, **options: Any) -> None:
    hfzarr.reshard(URL, out, progress=False, verify="full", **ROUTES[route], **options)


def check_rewritten(out: Path, data: np.ndarray[Any, Any]) -> None:
    array = zarr.open_array(out, path="0", mode="r")
    assert array.shards == (256, 256)
    np.testing.assert_array_equal(array[:], data)
    assert not list(out.glob(".hfzarr*"))


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_passes_does_not_stop_a_rewriting(
    hub: Hub, chunked: np.ndarray, tmp_path: Path, name: str, route: str
) -> None:
    # Twice in the midst of the chunks, once where they are located.
    hub.faults += [
        Fault(hub, PASSING[name], origin="cdn", skip=20, times=2),
        Fault(hub, PASSING["500"], path="/resolve/", skip=30),
    ]
    rewrite(tmp_path / "out.zarr", route)
    check_rewritten(tmp_path / "out.zarr", chunked)
    assert hub.faults[0].hits == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("origin", ["cdn", "hub"])
@pytest.mark.parametrize("skip", [3, 40])
@pytest.mark.parametrize("name", LASTING)
def test_a_rewriting_that_a_fault_stops_goes_on(
    hub: Hub, chunked: np.ndarray, tmp_path: Path, name: str, origin: str, skip: int
) -> None:
    if origin == "hub" and name in ("cut short", "too short", "too long", "shifted", "unlabeled"):
        pytest.skip("an answer like any other")
    out, route = tmp_path / "out.zarr", "transcode" if skip % 2 else "repack"
    hub.faults.append(Fault(hub, PASSING[name], origin=origin, skip=skip, times=10**6))
    told = ""
    try:
        rewrite(out, route)
    except HfzarrError as error:
        told = str(error)
    if told:
        assert "cells" in told
        assert "Signature" not in told
        assert not (out / "zarr.json").exists()
        hub.faults.clear()
        rewrite(out, route)
    check_rewritten(out, chunked)
    # A whole object is no part that could be another one.
    assert told or name in ("shifted", "unlabeled")


@pytest.mark.parametrize("name", ["shifted", "unlabeled", "whole", "too short"])
def test_parts_that_are_not_those_asked_for_stop_a_rewriting(
    hub: Hub, tmp_path: Path, name: str
) -> None:
    data = pixels()
    write_image(tmp_path / "stores" / "a.zarr", data, shards=(512, 512))
    hub.add_repo("ada/cells", tmp_path / "stores")
    wrong = (tmp_path / "stores" / "a.zarr" / "0" / "zarr.json").read_bytes()
    broken = whole(wrong) if name == "whole" else PASSING[name]
    out = tmp_path / "out.zarr"
    fault = Fault(hub, broken, origin="cdn", ranged=True, skip=2, times=10**6)
    hub.faults.append(fault)
    with pytest.raises(HfzarrError, match="cells"):
        rewrite(out, "repack", max_memory="400 kB")
    assert fault.hits
    hub.faults.clear()
    rewrite(out, "repack", max_memory="400 kB")
    check_rewritten(out, data)


def test_a_rewriting_goes_on_with_what_is_there(
    hub: Hub, chunked: np.ndarray, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    hub.faults.append(Fault(hub, status(404), origin="cdn", skip=50, times=10**6))
    with pytest.raises(HfzarrError):
        rewrite(out, "repack", client="serial")
    done = {file: file.stat().st_mtime_ns for file in out.glob("0/c/*/*")}
    assert 0 < len(done) < 4
    hub.faults.clear()
    hub.log.clear()
    rewrite(out, "repack", client="serial")
    check_rewritten(out, chunked)
    assert all(file.stat().st_mtime_ns == then for file, then in done.items())


def test_a_source_that_goes_on_is_not_mixed_with_what_it_was(
    hub: Hub, chunked: np.ndarray, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    hub.faults.append(Fault(hub, status(404), origin="cdn", skip=50, times=10**6))
    with pytest.raises(HfzarrError):
        rewrite(out, "repack")
    hub.faults.clear()
    new = chunked[::-1].copy()
    write_image(tmp_path / "new" / "a.zarr", new, shards=None)
    hub.add_commit(hub.repo("ada/cells"), tmp_path / "new")
    with pytest.raises(ChangedSourceError, match="resume=False"):
        rewrite(out, "repack")
    rewrite(out, "repack", resume=False)
    check_rewritten(out, new)
