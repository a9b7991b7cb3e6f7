"""The benchmark of patches on a tiny volume: every way delivers the pixels of plain slices."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

# At the end: ci/bench has a stores.py as the tests do.
sys.path.append(str(Path(__file__).resolve().parents[1] / "ci" / "bench"))

import patches
import patches_limits
import patches_one
import volumes
from patches_goals import Goal, judge
from patches_work import Tally, Work, checksum, origins, subset, windows

SHAPE, CHUNK, SHARD = (64, 96, 100), (16, 16, 16), (32, 48, 48)
WORKS = {
    "strided": Work(kind="strided", size=24, stride=12),
    "random": Work(kind="random", size=24, count=10),
    "epoch": Work(kind="epoch", size=16, stride=16, batch=4),
}
CASES = [(kind, way) for way, one in patches_one.WAYS.items() for kind in one.kinds]


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.concatenate(list(volumes.made_slabs(SHAPE, dtype="uint16", noise=6)))


@pytest.fixture(scope="module")
def volume(tmp_path_factory, pixels) -> Path:
    path = tmp_path_factory.mktemp("bench") / "tiny.zarr"
    volumes.write(path, iter([pixels]), shape=SHAPE, dtype="uint16", chunk=CHUNK, shard=SHARD)
    return path


def wanted(pixels: np.ndarray, work: Work, numbers: np.ndarray) -> int:
    """Return the checksum of patches cut with plain slices."""
    places = origins(SHAPE, work)[numbers].tolist()
    n = work.size
    return sum(checksum(np.array([pixels[z : z + n, y : y + n, x : x + n]])) for z, y, x in places)


@pytest.mark.parametrize(("kind", "way"), CASES)
def test_every_way_delivers_the_same_pixels(pixels, volume, kind, way):
    missing = patches_one.WAYS[way].missing
    if missing:
        pytest.skip(missing)
    work = WORKS[kind]
    part = 1.0 if way.startswith("hfzarr") else 0.3
    numbers = subset(SHAPE, work, part)
    found = patches_one.WAYS[way].deliver(volume, work, numbers)
    assert (found.patches, found.total) == (len(numbers), wanted(pixels, work, numbers))


@pytest.mark.parametrize("kind", WORKS)
def test_reference_and_limits(pixels, volume, kind):
    work = WORKS[kind]
    every = np.arange(len(origins(SHAPE, work)))
    assert sum(patches_one.reference(volume, work)["checksums"]) == wanted(pixels, work, every)
    copied = patches_limits.copy_all(pixels, work, every)
    assert (copied.patches, copied.total) == (len(every), wanted(pixels, work, every))
    assert set(patches_one.run_limits(volume, work)) >= {"decode rate", "both rate"}


@pytest.mark.parametrize("kind", WORKS)
def test_touched_chunks_are_those_under_windows(volume, kind):
    work = WORKS[kind]
    grid = patches_limits.Grid.of(volume)
    assert (grid.chunk, grid.shard, grid.shape) == (CHUNK, SHARD, SHAPE)
    hit = np.zeros(SHAPE, bool)
    for window in windows(SHAPE, work, np.arange(len(origins(SHAPE, work)))):
        hit[window] = True
    for axis, length in enumerate(SHAPE):
        hit = np.logical_or.reduceat(hit, range(0, length, 16), axis)
    found = patches_limits.touched(grid, origins(SHAPE, work), work.size)
    assert found.tolist() == np.argwhere(hit).tolist()


def test_a_part_of_an_epoch_is_whole_batches():
    work = WORKS["epoch"]
    assert len(subset(SHAPE, work, 0.1)) % work.batch == 0
    every = subset(SHAPE, work, 1.0).tolist()
    assert sorted(every) == list(range(144))
    assert every != sorted(every)


def test_checksum_notices_a_patch_cut_elsewhere(pixels):
    patch = pixels[None, 3:9, 4:10, 5:11]
    for shifted in (pixels[None, 4:10, 4:10, 5:11], pixels[None, 3:9, 4:10, 6:12]):
        assert checksum(patch) != checksum(shifted)
    with pytest.raises(RuntimeError, match="contiguous"):
        Tally().block(patch)


def test_mirrored_axis_goes_up_and_down():
    assert volumes.mirrored(8, 3).tolist() == [0, 1, 2, 2, 1, 0, 0, 1]


def test_stand_in_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("HFZARR_REALDATA", str(tmp_path))
    found = volumes.prepare(tmp_path, "fibsem", (64, 64, 64))
    assert "MADE" in str(found)
    assert found.stored > 0


@pytest.mark.parametrize(
    ("goal", "told"),
    [
        (Goal(what="speed", wanted=2, value=2.5), "met"),
        (Goal(what="speed", wanted=2, value=1.5), "MISSED"),
        (Goal(what="memory", wanted=2, value=1.5, at_most=True), "met"),
        (Goal(what="memory", wanted=2, value=2.5, at_most=True), "MISSED"),
        (Goal(what="speed", wanted=2), "not measured"),
    ],
)
def test_goal_is_told(goal, told):
    assert str(goal).startswith(told)
    assert goal.met == (told != "MISSED")


def test_goals_compare_with_the_fastest_of_a_family():
    rows = {
        "hfzarr planner": {"rate": 100.0, "peak": 10.0, "seconds": 1.0},
        "hfzarr dask": {"rate": 50.0, "peak": 20.0, "seconds": 2.0},
        "tensorstore 512 MB": {"rate": 40.0, "peak": 50.0},
        "tensorstore 512 MB, sorted": {"rate": 50.0, "peak": 40.0},
        "tensorstore 128 MB, sorted": {"rate": 200.0, "peak": 15.0},
        "limits": {"both rate": 125.0, "decode rate": 500.0},
    }
    found = [goal.value for goal in judge("v", "strided", rows)]
    assert found == [None, 0.5, 2.5, 0.25, 0.8, 1.0]


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(volumes.SMALL, "uint16", (128, 160, 160))
    options = ["--folder", str(tmp_path), "--small", "--repeats", "1", "--volumes", "uint16"]
    options += ["--works", "strided", "--ways", "hfzarr planner"]
    record = tmp_path / "found.json"
    assert patches.main([*options, "--json", str(record)]) == 0
    printed = capsys.readouterr().out
    assert "failed" not in printed
    assert "limit: decode once + copy" in printed
    found = json.loads(record.read_text("utf-8"))
    assert found["results"][0]["ways"]["hfzarr planner"]["delivered"] == 4
    assert {goal["met"] for goal in found["goals"]} <= {True, False, None}


def test_wrong_pixels_are_an_error(tmp_path, monkeypatch):
    shape = (128, 160, 160)
    volume = volumes.prepare(tmp_path, "uint16", shape)
    work = Work(kind="strided", size=96, stride=48)
    with pytest.raises(patches.WrongPatchesError):
        patches.check(volume, work, "a way", 1.0, {"checksum": 1}, [1, 2, 3, 4])
