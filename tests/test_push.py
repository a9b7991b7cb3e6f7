"""Stores and their index on a loopback Hub: what is sent, what opens, how much is asked."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("huggingface_hub", minversion="1.0")
pytest.importorskip("aiohttp")
pytest.importorskip("pyarrow")
pytest.importorskip("PIL")

import numpy as np
import xarray as xr
import zarr

import hfzarr
from hfzarr.errors import TargetError
from hfzarr.plan.shards import FileLimits
from hfzarr.store.hub.store import HubStore
from hub import Hub, run_python
from hubstores import hub as hub
from hubstores import log_in as log_in
from hubstores import servers as servers
from pushes import (
    NAMES,
    REPO,
    WANTED,
    changes,
    check_index,
    commits,
    dry,
    files_below,
    held,
    image_pixels,
    push,
    read_pushed,
    rows,
    write_chunks,
    write_small,
)
from pushes import ada as ada
from pushes import folder as folder
from stores import CHUNKS, LEVELS, pixels, write_image


def limits(patch: pytest.MonkeyPatch, **numbers: int) -> None:
    """Let there be fewer files than the Hub would take."""
    low = FileLimits(**numbers)
    for name in ("hfzarr.faces.push_work.FileLimits", "hfzarr.plan.push.FileLimits"):
        patch.setattr(name, lambda: low)
    for kind in (hfzarr.faces.push_work.Wanted, hfzarr.PushPlan):
        patch.setattr(kind.__dataclass_fields__["limits"], "default_factory", lambda: low)
    real = hfzarr.faces.push_work.Wanted
    patch.setattr("hfzarr.faces.push.Wanted", lambda **more: real(limits=low, **more))
    plan = hfzarr.PushPlan
    patch.setattr("hfzarr.faces.push.PushPlan", lambda **more: plan(limits=low, **more))


# What is sent


def test_a_folder_of_stores_opens_as_one_dataset(hub: Hub, ada: str, folder: Path) -> None:
    done = push(folder)
    opened = xr.open_dataset(done.url, engine="hfzarr")
    assert opened["label"].values.tolist() == ["cat", "cat", "dog"]
    for row in range(3):
        np.testing.assert_array_equal(opened["image"][row], image_pixels(row))
    manifest = hfzarr.open_manifest(done.url)
    assert all(f"@{done.commit}/" in cell for cell in manifest.to_arrow()["zarr"].to_pylist())
    assert manifest["kind"] == ["image"] * 3
    assert check_index(hub, WANTED) == 3


@pytest.mark.parametrize("shard", [None, "auto"])
def test_a_copy_is_the_same_files(hub: Hub, ada: str, tmp_path: Path, shard: Any) -> None:
    folder = tmp_path / "stores"
    write_small(folder / "new.zarr", 1)
    write_image(str(folder / "old.zarr"), zarr_format=2)
    (folder / "old.zarr" / "0" / "empty").write_bytes(b"")
    for junk in ("new.zarr/.DS_Store", "old.zarr/0/Thumbs.db", "new.zarr/__MACOSX/x"):
        (folder / junk).parent.mkdir(exist_ok=True)
        (folder / junk).write_bytes(b"junk")
    done = push(folder, shard=shard)
    here = {
        path: data
        for path, data in files_below(folder)
        if not any(word in path for word in (".DS_Store", "Thumbs.db", "__MACOSX"))
    }
    there = hub.files(REPO, revision=done.commit)
    assert {path: there[path] for path in there if ".zarr/" in path} == here
    assert {one.route for one in done.plan.stores} == {"copy"}
    assert rows(hub)[1]["ome_version"] == "0.4"
    assert json.loads(rows(hub)[1]["zarr_metadata"])  # of a v2 store, consolidated


def test_many_small_files_become_few(hub: Hub, ada: str, tmp_path: Path) -> None:
    data = write_chunks(tmp_path / "a.zarr", side=320)
    plan = dry(tmp_path / "a.zarr")
    assert (plan.stores[0].route, plan.files_before, plan.files_after) == ("reshard", 1601, 2)
    assert ("datasets", REPO) not in hub.state.repos
    done = push(tmp_path / "a.zarr")
    np.testing.assert_array_equal(hfzarr.open_manifest(done.url).handle(0).read(), data)
    assert sorted(held(hub, rows(hub)[0]["zarr"])) == ["c/0/0", "zarr.json"]


@pytest.mark.parametrize("shard", ["4 KiB", [32, 32], {"y": 32, "x": 64}])
def test_shards_as_wished(hub: Hub, ada: str, tmp_path: Path, shard: Any) -> None:
    data = write_chunks(tmp_path / "a.zarr")
    done = push(tmp_path / "a.zarr", shard=shard)
    url = rows(hub)[0]["zarr"]
    np.testing.assert_array_equal(read_pushed(hub, url), data)
    shards = [key for key in held(hub, url) if key != "zarr.json"]
    assert len(shards) == {str: 1, list: 4, dict: 2}[type(shard)]
    assert done.plan.files_after == len(shards) + 1


def test_an_old_image_is_told_as_what_it_became(hub: Hub, ada: str, tmp_path: Path) -> None:
    write_image(str(tmp_path / "a.zarr"), zarr_format=2)
    push(tmp_path / "a.zarr", shard="1 MiB")
    (row,) = rows(hub)
    assert (row["format"], row["ome_version"], row["levels"]) == ("zarr-v3", "0.5", len(LEVELS))
    np.testing.assert_array_equal(read_pushed(hub, row["zarr"]), pixels(0))
    told = json.loads(row["zarr_metadata"])
    assert told == json.loads(held(hub, row["zarr"])["zarr.json"])
    opened = xr.open_dataset(row["zarr"], engine="hfzarr")
    assert opened["image"].dims == ("c", "z", "y", "x")
    assert zarr.open(str(tmp_path / "a.zarr"))["0"].chunks == CHUNKS


# What the Hub would not take


def test_too_many_files_in_a_folder_are_refused_at_once(
    hub: Hub, ada: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits(monkeypatch, per_folder=10, per_store=100_000)
    encoding = {"name": "default", "separator": "."}
    data = write_chunks(tmp_path / "a.zarr", chunk_key_encoding=encoding)
    with pytest.raises(TargetError, match=r"65 files in one folder.* takes 10.*shard="):
        push(tmp_path / "a.zarr", shard=None)
    assert not changes(hub)
    assert "65 files in one folder" in str(dry(tmp_path / "a.zarr", shard=None))
    hub.most_files_in_folder = 20  # the index and the card lie there, too
    push(tmp_path / "a.zarr")  # by itself it becomes few files
    np.testing.assert_array_equal(read_pushed(hub, rows(hub)[0]["zarr"]), data)


def test_a_repo_of_very_many_files_is_warned_of(
    hub: Hub, ada: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits(monkeypatch, per_folder=10_000, per_store=20)
    push(folder / "cat", shard=None)
    with pytest.warns(UserWarning, match="advises to stay below 20"):
        push(folder, shard=None)
    assert "advises to stay below 20" in str(dry(folder, shard=None))


def test_a_dry_run_writes_nothing(
    hub: Hub, ada: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    (tmp_path / "temp").mkdir()
    before = dict(files_below(tmp_path))
    plan = dry(folder, private=True, revision="new", data_repo="ada/scans")
    assert hub.state.repos == {}
    assert not changes(hub)
    assert dict(files_below(tmp_path)) == before
    text = str(plan)
    assert "Push 3 stores to hf://datasets/ada/scans" in text
    assert all(name in text for name in NAMES)
    assert str(plan) == repr(plan)
    assert "<table>" in plan._repr_html_()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"repo": "cells"}, "named"),
        ({"repo": "models/ada/cells"}, "named"),
        ({"repo": "hf://datasets/ada/cells/folder"}, "named"),
        ({"repo": f"ada/cells@{'a' * 40}"}, "commit|named"),
        ({"private": "yes"}, "private="),
        ({"dry_run": 1}, "dry_run="),
        ({"thumbnails": "no"}, "thumbnails="),
        ({"max_disk": "much"}, "much"),
        ({"max_memory": "much"}, "much"),
        ({"shard": "much"}, "much"),
        ({"shard": 3.5}, "3.5"),
    ],
    ids=str,
)
def test_wishes_that_make_no_sense(
    hub: Hub, ada: str, folder: Path, options: dict[str, Any], said: str
) -> None:
    repo = options.pop("repo", REPO)
    with pytest.raises(TargetError, match=said):
        push(folder, repo, **options)
    assert not changes(hub)


# What was pushed opens


def test_what_was_pushed_opens_in_every_way(hub: Hub, ada: str, folder: Path) -> None:
    from huggingface_hub import DatasetCard
    from PIL import Image

    done = push(folder)
    by_hand = xr.open_dataset(f"{done.url}/data/*.parquet", engine="hfzarr")
    assert by_hand.sizes["row"] == 3
    for seed, row in enumerate(rows(hub)):
        np.testing.assert_array_equal(
            xr.open_dataset(row["zarr"], engine="hfzarr")["image"], image_pixels(seed)
        )
        ours = zarr.open_group(HubStore(row["zarr"]), mode="r")
        np.testing.assert_array_equal(ours["0"][...], image_pixels(seed))
        picture = Image.open(io.BytesIO(row["thumbnail"]["bytes"]))
        assert max(picture.size) >= 32
    card = DatasetCard.load(REPO)
    assert card.data.configs[0]["data_files"] == [
        {"split": "train", "path": "data/train-*.parquet"}
    ]
    assert {"zarr", "hfzarr", "ome-zarr"} <= set(card.data.tags)
    assert card.data.size_categories == ["n<1K"]


def test_plain_zarr_reads_it_by_fsspec(hub: Hub, ada: str, folder: Path) -> None:
    push(folder)
    group = zarr.open_group(rows(hub)[0]["zarr"], mode="r")
    np.testing.assert_array_equal(group["0"][...], image_pixels(0))


LOAD = """
    import io, json
    from datasets import load_dataset
    ds = load_dataset("ada/cells", split="train", streaming={streaming})
    rows = list(ds)
    said = [[row["label"], str(row["zarr"]), list(row["thumbnail"].size)] for row in rows]
    print(json.dumps(said))
"""
READ = """
    import hfzarr
    values = [int(handle["0"].read().sum()) for handle in [row["zarr"] for row in rows]]
    print(json.dumps(values))
"""


@pytest.mark.parametrize("streaming", [True, False])
def test_datasets_loads_the_index(
    hub: Hub, ada: str, folder: Path, tmp_path: Path, streaming: bool
) -> None:
    pytest.importorskip("datasets")
    push(folder)
    code = textwrap.dedent(LOAD).format(streaming=streaming)
    plain = json.loads(run_python(hub, code, tmp_path / "home"))
    assert [row[0] for row in plain] == ["cat", "cat", "dog"]
    assert [row[1] for row in plain] == [row["zarr"] for row in rows(hub)]
    again = "import hfzarr\n" + code + textwrap.dedent(READ)
    sums = json.loads(run_python(hub, again, tmp_path / "home").splitlines()[-1])
    assert sums == [int(image_pixels(seed).sum()) for seed in range(3)]


def test_splits_become_files(hub: Hub, ada: str, tmp_path: Path) -> None:
    for seed, name in enumerate(["train/cat/1.zarr", "train/dog/2.zarr", "val/cat/3.zarr"]):
        write_small(tmp_path / "s" / name, seed)
    push(tmp_path / "s")
    found = sorted(path for path in hub.files(REPO) if path.startswith("data/"))
    assert found == [
        "data/train-00000-of-00001.parquet",
        "data/validation-00000-of-00001.parquet",
    ]
    assert [row["label"] for row in rows(hub)] == ["cat", "dog", "cat"]


def test_what_is_not_wanted_is_not_sent(hub: Hub, ada: str, folder: Path) -> None:
    push(folder, thumbnails=False, metadata=False)
    assert not {"thumbnail", "zarr_metadata"} & set(rows(hub)[0])
    push(folder, "ada/more")
    assert {"thumbnail", "zarr_metadata"} <= set(rows(hub, "ada/more")[0])


def test_the_index_may_lie_elsewhere(hub: Hub, ada: str, folder: Path) -> None:
    done = push(folder, data_repo="ada/scans")
    assert not [path for path in hub.files(REPO) if ".zarr/" in path]
    assert not [path for path in hub.files("ada/scans") if path.endswith((".parquet", ".md"))]
    assert check_index(hub, WANTED) == 3
    assert done.url == "hf://datasets/ada/cells"
    assert done.commit == hub.repo("ada/scans").head().oid
    assert done.index_commit == hub.repo(REPO).head().oid
    hub.log.clear()
    assert push(folder, data_repo="ada/scans").files == 0
    assert not changes(hub)


# How much is asked, and kept


def test_commits_are_few(hub: Hub, ada: str, tmp_path: Path) -> None:
    for seed in range(6):
        write_chunks(tmp_path / "s" / f"{seed}.zarr", seed)
    push(tmp_path / "s", shard=None)
    assert len(rows(hub)) == 6
    assert len(commits(hub)) <= 3  # 390 files
    assert len(hub.log.find("/preupload/")) <= 2 + 390 // 200 + len(commits(hub))


def test_large_files_do_not_make_more_commits(
    hub: Hub, ada: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies outside of git takes no room in a commit."""
    monkeypatch.setattr("hfzarr.store.hub.outbox._COMMIT_INLINE", 2**14)
    for seed in range(4):
        write_small(tmp_path / "s" / f"{seed}.zarr", seed)
    push(tmp_path / "s", shard=None, max_disk="16 KiB")
    assert len(rows(hub)) == 4
    assert len(commits(hub)) <= 3


class Watched:
    """The most that a folder held at any moment, seen from a thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.most = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._over.wait(0.002):
            sizes = {}
            for place, _, names in os.walk(self.folder):
                for name in names:
                    with contextlib.suppress(OSError):
                        # By its number: a file may be moved while others are counted.
                        found = os.stat(f"{place}/{name}")
                        sizes[found.st_ino] = found.st_size
            self.most = max(self.most, sum(sizes.values()))

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """The folder of temporary files."""
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    with Watched(tmp_path / "temp") as watched:
        yield watched
    assert not list((tmp_path / "temp").iterdir())


def test_little_of_the_disk_is_used(hub: Hub, ada: str, tmp_path: Path, watched: Watched) -> None:
    data = np.random.default_rng(1).integers(0, 255, (1024, 2048)).astype("uint8")
    data[::64, ::64] = 0  # what looks like text, to the Hub, waits for its commit
    zarr.create_array(tmp_path / "a.zarr", data=data, chunks=(64, 64), compressors=None)
    hub.latency = 0.01
    push(tmp_path / "a.zarr", shard=[128, 128], max_disk="256 KiB", thumbnails=False)
    shard = 128 * 128 + 200
    threads = 8
    assert data.nbytes >= 8 * 2**18
    assert shard < watched.most <= 2**18 + threads * shard + 2**14
    np.testing.assert_array_equal(read_pushed(hub, rows(hub)[0]["zarr"]), data)


def test_a_copy_uses_next_to_none_of_the_disk(
    hub: Hub, ada: str, folder: Path, watched: Watched
) -> None:
    push(folder, shard=None, thumbnails=False)
    assert watched.most < 2**16


def test_progress_is_told(hub: Hub, ada: str, folder: Path) -> None:
    told: list[Any] = []
    hfzarr.push_to_hub(folder, REPO, progress=told.append)
    stages = list(dict.fromkeys(one.stage for one in told))
    assert stages == ["look", "push", "index"]
    assert told[-1].done == told[-1].total == 3


def test_what_was_done_is_told(hub: Hub, ada: str, folder: Path) -> None:
    began = time.monotonic()
    done = push(folder)
    sent = [data for path, data in hub.files(REPO).items() if ".zarr/" in path]
    assert done.files == len(sent) + 1  # the record of what was pushed
    assert done.nbytes - sum(map(len, sent)) == len(hub.files(REPO)[".hfzarr/pushed.jsonl"])
    assert 0 < done.seconds <= time.monotonic() - began
    assert "3 rows of 3 stores in hf://datasets/ada/cells" in str(done)


def test_a_file_that_the_hub_does_not_take_is_refused(
    hub: Hub, ada: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hfzarr.plan.push.LARGEST_FILE", 500)
    with pytest.raises(TargetError, match=r"a file of .*, and the Hub takes 500 B"):
        push(folder)
    assert ("datasets", REPO) not in hub.state.repos
