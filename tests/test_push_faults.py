"""Whatever breaks while stores are pushed: done or an error of ours, and never a false index."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("huggingface_hub", minversion="1.0")
pytest.importorskip("aiohttp")
pytest.importorskip("pyarrow")

import numpy as np
import zarr

import hfzarr
from hfzarr.errors import HfzarrError, WriteError
from hfzarr.run.journal import Done, Journal
from hub import Answer, Asked, Hub, environment
from hub.faults import Break, Fault, Outage, cut_short, dropped, shifted, status, unlabeled
from hubstores import hub as hub
from hubstores import log_in as log_in
from hubstores import servers as servers
from pushes import (
    REPO,
    Scene,
    check_index,
    held,
    image_pixels,
    push,
    read_pushed,
    rows,
    sent_twice,
    try_push,
    write_chunks,
    write_small,
)
from pushes import ada as ada
from pushes import batches as batches
from pushes import scene as scene
from smalldisks import small_disk

# Faults that pass, and faults that last

CALLS: dict[str, dict[str, Any]] = {
    "put": {"method": "PUT", "origin": "cdn"},
    "preupload": {"path": "/preupload/"},
    "batch": {"path": "/info/lfs/objects/batch"},
    "verify": {"path": "/info/lfs/objects/verify"},
    "commit": {"path": "/commit/"},
    "list": {"path": "/tree/"},
    "look": {"path": "/api/datasets/ada/cells", "method": "GET"},
    "create": {"path": "/repos/create"},
}
PASSING: dict[str, tuple[Break, bool]] = {
    "500": (status(500), False),
    "503, but done": (status(503), True),
    "429": (status(429, Retry_After="0"), False),
    "dropped": (dropped, False),
    "dropped, but done": (dropped, True),
    "cut short": (cut_short, True),
}


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("broken", list(PASSING))
def test_a_fault_that_passes(
    hub: Hub, ada: str, scene: Scene, batches: None, broken: str, skip: int
) -> None:
    """One of each call, in one push."""
    kind, done = PASSING[broken]
    hub.faults += [Fault(hub, kind, carried_out=done, skip=skip, **call) for call in CALLS.values()]
    complete = try_push(scene)
    check_index(hub, scene.before)
    hub.faults.clear()
    if not complete:
        scene.push()
    assert check_index(hub, scene.before) == len(scene.before)


@pytest.mark.parametrize("name", list(CALLS))
def test_a_fault_of_one_call_that_passes_is_not_seen(
    hub: Hub, ada: str, scene: Scene, batches: None, name: str
) -> None:
    fault = Fault(hub, status(503), carried_out=False, **CALLS[name])
    hub.faults.append(fault)
    scene.push()
    assert fault.hits or name == "verify"
    assert check_index(hub, scene.before) == len(scene.before)


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("name", [name for name in CALLS if name != "verify"])
def test_a_fault_that_lasts(
    hub: Hub, ada: str, scene: Scene, batches: None, name: str, skip: int
) -> None:
    fault = Fault(hub, status(500), carried_out=False, times=10**6, skip=skip, **CALLS[name])
    hub.faults.append(fault)
    complete = try_push(scene)
    assert complete == (not fault.hits)
    check_index(hub, scene.before)
    hub.faults.clear()
    scene.push()
    assert check_index(hub, scene.before) == len(scene.before)
    assert not sent_twice(hub)


@pytest.mark.parametrize("code", [400, 403, 409, 412, 413, 422])
def test_a_commit_that_is_refused(
    hub: Hub, ada: str, scene: Scene, batches: None, code: int
) -> None:
    hub.faults.append(Fault(hub, status(code), path="/commit/", carried_out=False, skip=1))
    complete = try_push(scene)
    check_index(hub, scene.before)
    if not complete:
        scene.push()
    assert check_index(hub, scene.before) == len(scene.before)
    assert not sent_twice(hub)


# The process is killed

PUSH = """
import hfzarr, hfzarr.store.hub.outbox as outbox
outbox._BATCH_FILES, outbox._COMMIT_FILES = 3, 5
hfzarr.push_to_hub({source!r}, "ada/cells", shard=[32, 32], progress=False, thumbnails=False)
"""


def killed_push(hub: Hub, source: Path, home: Path, token: str, fault: Any) -> int:
    """Push in a process of its own; ``fault`` is told its number, and may kill it."""
    process = subprocess.Popen(
        [sys.executable, "-c", PUSH.format(source=str(source))],
        env=environment(hub, home, token),
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    fault.pid = process.pid
    hub.faults.append(fault)
    try:
        return process.wait(timeout=120)
    finally:
        process.kill()
        hub.faults.remove(fault)


class Kill:
    """Ends the process that asks, at the n-th request that fits."""

    def __init__(self, after: int, path: str, method: str) -> None:
        self.after, self.path, self.method = after, path, method
        self.pid = 0
        self._lock = threading.Lock()

    def __call__(self, asked: Asked) -> Answer | None:
        with self._lock:
            if self.path not in asked.target or asked.method != self.method:
                return None
            self.after -= 1
            if self.after >= 0 or not self.pid:
                return None
        os.kill(self.pid, signal.SIGKILL)
        return Answer(503, cut=-1)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Shards that this process writes."""
    made: set[str] = set()
    real = Journal.add

    def add(self: Journal, done: Done) -> None:
        made.update(done.files)
        real(self, done)

    monkeypatch.setattr(Journal, "add", add)
    return made


@pytest.mark.parametrize(
    ("after", "path", "method"),
    [(3, "/datasets/", "PUT"), (8, "/datasets/", "PUT"), (2, "/commit/", "POST")],
)
def test_killed_and_gone_on_with_elsewhere(
    hub: Hub,
    ada: str,
    tmp_path: Path,
    batches: None,
    made: set[str],
    after: int,
    path: str,
    method: str,
) -> None:
    data = write_chunks(tmp_path / "1.zarr", 1, 128)
    assert killed_push(hub, tmp_path / "1.zarr", tmp_path / "home", ada, Kill(after, path, method))
    assert check_index(hub, {}) == 0
    there = hub.files(REPO)
    recorded: set[str] = set()
    for name, text in there.items():
        if "/journal-" in name:
            lines = [json.loads(line) for line in text.splitlines() if line]
            recorded |= {key for line in lines for key in line["files"]}
    assert all(f"1.zarr/{key}" in there for key in recorded)
    push(tmp_path / "1.zarr", shard=[32, 32])
    assert check_index(hub, {"1.zarr": data}) == 1
    assert len(made | recorded) == 16
    assert not made & recorded
    assert not sent_twice(hub)
    if after > 3:
        assert recorded
    assert not [name for name in hub.files(REPO) if "reshard" in name]


# The disk


def test_a_full_disk(hub: Hub, ada: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_chunks(tmp_path / "1.zarr", 1, 1024, chunks=(64, 64))
    data[::64, ::64] = 0  # what looks like text, to the Hub, waits here for its commit
    zarr.open_array(tmp_path / "1.zarr", mode="r+")[...] = data
    with small_disk(tmp_path / "disk", 2**18) as folder:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        with pytest.raises(HfzarrError, match=r"(?i)space|disk"):
            push(tmp_path / "1.zarr", shard=[256, 256], max_disk="1 GiB")
        assert check_index(hub, {}) == 0
        assert list(folder.iterdir()) == []
        push(tmp_path / "1.zarr", shard=[128, 128], max_disk="64 KiB", resume=False)
    assert check_index(hub, {"1.zarr": data}) == 1


# The source


class Once:
    """Does something when the n-th request that fits comes in."""

    def __init__(self, action: Callable[[], object], path: str = "", after: int = 0) -> None:
        self.action, self.path, self.after = action, path, after
        self.happened = False
        self._lock = threading.Lock()

    def __call__(self, asked: Asked) -> Answer | None:
        with self._lock:
            if self.path in asked.target and not self.happened:
                self.after -= 1
                if self.after < 0:
                    self.happened = True
                    self.action()
        return None


@pytest.mark.parametrize("after", [0, 1, 2])
def test_the_source_is_deleted_meanwhile(
    hub: Hub, ada: str, scene: Scene, batches: None, after: int
) -> None:
    once = Once(lambda: shutil.rmtree(scene.folder / "1.zarr"), "/preupload/", after)
    hub.faults.append(once)
    complete = try_push(scene)
    assert once.happened
    assert bool(check_index(hub, scene.before)) == complete


@pytest.mark.parametrize("path", ["/preupload/", "/info/lfs/", "/commit/", "/tree/"])
@pytest.mark.parametrize("after", [0, 1])
def test_the_source_changes_meanwhile(
    hub: Hub, ada: str, scene: Scene, batches: None, path: str, after: int
) -> None:
    """What arrives may be a part of each; the next push makes it right."""
    hub.faults.append(Once(scene.change, path, after))
    complete = try_push(scene)
    for row in rows(hub) if complete else []:
        read_pushed(hub, row["zarr"])
    hub.faults.clear()
    scene.push()
    assert check_index(hub, scene.after) == len(scene.after)


def test_a_store_grows_meanwhile(hub: Hub, ada: str, tmp_path: Path) -> None:
    """A file that is longer than it was when all was looked at is told."""
    write_small(tmp_path / "1.zarr", 1)
    file = tmp_path / "1.zarr" / "0" / "c" / "0" / "0"
    longer = file.read_bytes() + b"\0"
    hub.faults.append(Once(lambda: file.write_bytes(longer), "/info/lfs/"))
    with pytest.raises(HfzarrError):
        push(tmp_path / "1.zarr", shard=None)
    assert check_index(hub, {}) == 0


# Others


def test_two_pushes_of_the_same_at_once(hub: Hub, ada: str, scene: Scene, batches: None) -> None:
    threads = [threading.Thread(target=try_push, args=[scene]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_index(hub, scene.before)
    scene.push()
    assert check_index(hub, scene.before) == len(scene.before)
    assert not [name for name in hub.files(REPO) if ".hfzarr-reshard" in name]


def test_two_pushes_of_different_stores_at_once(
    hub: Hub, ada: str, tmp_path: Path, batches: None
) -> None:
    """Each index is sound, whoever comes last."""
    wanted = {}
    for seed, name in enumerate("ab"):
        wanted[f"{name}1.zarr"] = write_small(tmp_path / name / f"{name}1.zarr", seed)
        wanted[f"{name}2.zarr"] = write_small(tmp_path / name / f"{name}2.zarr", seed + 5)
    failed: list[Exception] = []

    def work(name: str) -> None:
        try:
            push(tmp_path / name, thumbnails=False)
        except HfzarrError as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=[name]) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert check_index(hub, wanted) in (0, 2)
    assert len(failed) < 2
    for name in "ab":
        push(tmp_path / name, thumbnails=False)
        assert check_index(hub, wanted) == 2


def test_somebody_deletes_what_was_sent(hub: Hub, ada: str, scene: Scene, batches: None) -> None:
    def spoil() -> None:
        repo = hub.repo(REPO)
        gone = [path for path in repo.head().files if "/c/" in path][:1]
        repo.commit({}, gone)

    hub.faults.append(Once(spoil, "/preupload/", 2))
    complete = try_push(scene)
    assert bool(check_index(hub, scene.before)) == complete
    scene.push()
    assert check_index(hub, scene.before) == len(scene.before)


def ignoring(hub: Hub, word: str) -> Callable[[Asked], Answer | None]:
    """What a ``.gitignore`` in the repo does: files of it are left out."""

    def answer(asked: Asked) -> Answer | None:
        if "/preupload/" not in asked.target:
            return None
        truth = hub.truth(asked)
        said = json.loads(truth.body)
        for file in said["files"]:
            file["shouldIgnore"] = word in file["path"]
        return replace(truth, body=json.dumps(said).encode())

    return answer


@pytest.mark.parametrize("word", ["/c/", "zarr.json", ".zarr/", ".parquet", "README", "data/"])
def test_a_gitignore_leaves_files_out(hub: Hub, ada: str, scene: Scene, word: str) -> None:
    hub.faults.append(ignoring(hub, word))
    with pytest.raises(WriteError, match=r"gitignore"):
        scene.push()
    check_index(hub, scene.before)
    hub.faults.clear()
    scene.push()
    assert check_index(hub, scene.before) == len(scene.before)


def test_branches(hub: Hub, ada: str, scene: Scene) -> None:
    scene.push()
    main = hub.repo(REPO).head().oid
    scene.change()
    scene.options["revision"] = "next"
    done = scene.push()
    assert hub.repo(REPO).head().oid == main
    assert check_index(hub, scene.before) == len(scene.before)
    found = rows(hub, revision="next")
    np.testing.assert_array_equal(read_pushed(hub, found[0]["zarr"]), scene.after["1.zarr"])
    manifest = hfzarr.open_manifest(done.url)
    assert manifest.to_arrow()["zarr"].to_pylist() == [row["zarr"] for row in found]
    hub.log.clear()
    assert scene.push().files == 0
    assert not hub.log.find("/commit/", method="POST")


def test_a_branch_of_a_repo_that_is_not_there(hub: Hub, ada: str, scene: Scene) -> None:
    scene.options["revision"] = "next"
    scene.push()
    assert set(hub.repo(REPO).refs) == {"refs/heads/main", "refs/heads/next"}
    assert not rows(hub)
    assert len(rows(hub, revision="next")) == len(scene.before)


@pytest.mark.parametrize(
    "broken",
    [dropped, cut_short, shifted, unlabeled, status(403), status(503)],
    ids=lambda b: b.__qualname__,
)
@pytest.mark.parametrize("shard", [None, [32, 32]])
def test_reading_from_the_hub_breaks(
    hub: Hub, ada: str, tmp_path: Path, broken: Break, shard: Any
) -> None:
    data = write_chunks(tmp_path / "s" / "1.zarr", 1)
    hub.add_repo("bob/cells", tmp_path / "s")
    hub.faults += [
        Fault(hub, broken, path="/bob/cells/", method="GET", origin="cdn", times=2, skip=skip)
        for skip in (0, 3)
    ]
    push("hf://datasets/bob/cells/1.zarr", shard=shard, thumbnails=False)
    assert check_index(hub, {"1.zarr": data}) == 1
    hub.faults[:] = [Fault(hub, broken, path="/bob/", method="GET", origin="cdn", times=10**6)]
    if broken in (shifted, unlabeled):
        return  # whole objects are read, which these leave alone
    with pytest.raises(HfzarrError):
        push("hf://datasets/bob/cells/1.zarr", "ada/no", shard=shard, thumbnails=False)
    if ("datasets", "ada/no") in hub.state.repos:
        assert not rows(hub, "ada/no")


def test_what_an_interrupted_run_left_is_no_store(
    hub: Hub, ada: str, tmp_path: Path, batches: None
) -> None:
    write_chunks(tmp_path / "1.zarr", 1, 128)
    outage = Outage(4, method="PUT")
    hub.faults.append(outage)
    with pytest.raises(WriteError, match="Push again"):
        push(tmp_path / "1.zarr", shard=[32, 32])
    outage.over = True
    assert "1.zarr/zarr.json" not in hub.files(REPO)
    with pytest.raises(HfzarrError):
        hfzarr.open_manifest(f"hf://datasets/{REPO}")
    # Another wish, and nothing is left of the first.
    data = zarr.open_array(tmp_path / "1.zarr", mode="r")[...]
    push(tmp_path / "1.zarr", shard=[64, 128])
    assert check_index(hub, {"1.zarr": data}) == 1
    assert sorted(held(hub, rows(hub)[0]["zarr"])) == ["c/0/0", "c/1/0", "zarr.json"]


def test_interrupted_and_copied_then(hub: Hub, ada: str, tmp_path: Path, batches: None) -> None:
    data = write_chunks(tmp_path / "1.zarr", 1, 128)
    outage = Outage(10, method="PUT")
    hub.faults.append(outage)
    with pytest.raises(WriteError):
        push(tmp_path / "1.zarr", shard=[32, 32])
    outage.over = True
    push(tmp_path / "1.zarr", shard=None)
    assert check_index(hub, {"1.zarr": data}) == 1
    assert len([name for name in hub.files(REPO) if name.startswith("1.zarr/")]) == 257


def test_the_pixels_that_were_sent_are_compared(
    hub: Hub, ada: str, tmp_path: Path, batches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard that is not what it was made from is found before there is an index."""
    from hfzarr.store.hub.repo import HubRepo

    write_chunks(tmp_path / "1.zarr", 1)
    real = HubRepo.upload

    def upload(self: HubRepo, parcels: Any) -> None:
        for one in parcels:
            if "/c/" in one.path:
                with open(one.file, "r+b") as file:
                    file.write(b"wrong")
        real(self, parcels)

    monkeypatch.setattr(HubRepo, "upload", upload)
    with pytest.raises(HfzarrError):
        push(tmp_path / "1.zarr", shard=[32, 32])
    assert check_index(hub, {}) == 0


def test_image_pixels_differ() -> None:
    """What tests compare with is not all the same."""
    assert not np.array_equal(image_pixels(1), image_pixels(2))
