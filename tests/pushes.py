"""Pushes to the loopback Hub, and what repos hold after them, for tests of `hfzarr.push_to_hub`."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from zarr.core.buffer import cpu
from zarr.storage import MemoryStore

import hfzarr
from hfzarr.errors import HfzarrError
from hub import Hub, Request, hasten
from hubstores import write_image

REPO = "ada/cells"
SMALL = {"chunks": (16, 16), "shards": (32, 32)}
_PINNED = re.compile(
    r"hf://(?P<kind>datasets|buckets)/(?P<repo>[^/@]+/[^/@]+)(@(?P<rev>[^/]+))?/(?P<path>[^#]+)"
)


@pytest.fixture
def ada(hub: Hub, log_in: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The token of who pushes; nothing waits for long before it is tried again."""
    monkeypatch.setattr("hfzarr.store.hub.trouble._DELAYS", (0.01, 0.02))
    hasten(monkeypatch)
    return log_in("ada")


def push(source: Any, repo: str = REPO, **options: Any) -> hfzarr.Pushed:
    """Push without a bar."""
    done = hfzarr.push_to_hub(source, repo, progress=False, **options)
    if not isinstance(done, hfzarr.Pushed):
        raise TypeError(done)
    return done


def dry(source: Any, repo: str = REPO, **options: Any) -> hfzarr.PushPlan:
    """Look at what a push would do."""
    plan = hfzarr.push_to_hub(source, repo, progress=False, dry_run=True, **options)
    if not isinstance(plan, hfzarr.PushPlan):
        raise TypeError(plan)
    return plan


def image_pixels(seed: int, side: int = 64) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Noise, which no codec makes small."""
    return np.random.default_rng(seed).integers(1, 60000, (side, side)).astype("uint16")


def write_small(folder: Path, seed: int, side: int = 64) -> np.ndarray[Any, Any]:
    """Write an image of a few small files; give its pixels."""
    data = image_pixels(seed, side)
    write_image(folder, data, **SMALL)
    return data


def write_chunks(folder: Path, seed: int = 3, side: int = 64, **more: Any) -> np.ndarray[Any, Any]:
    """Write an array of many small files; give its pixels."""
    data = np.random.default_rng(seed).integers(0, 255, (side, side)).astype("uint8")
    layout = {"chunks": (8, 8), "compressors": None, **more}
    zarr.create_array(folder, data=data, dimension_names=("y", "x"), **layout)
    return data


# What is there


def rows(hub: Hub, repo: str = REPO, revision: str = "main") -> list[dict[str, Any]]:
    """Rows of the index of a repo, as its parquet files have them; none where there is no index."""
    kind, name = (
        ("bucket", repo.removeprefix("buckets/"))
        if repo.startswith("buckets/")
        else (
            "dataset",
            repo,
        )
    )
    files = hub.files(name, kind, revision)
    found: list[dict[str, Any]] = []
    for path in sorted(files):
        if path.startswith("data/") and path.endswith(".parquet"):
            found += pq.read_table(io.BytesIO(files[path])).to_pylist()
    return found


def held(hub: Hub, url: str) -> dict[str, bytes]:
    """Files of the store that a URL names, by their keys, in the commit that it names."""
    match = _PINNED.fullmatch(url)
    if match is None:
        raise ValueError(url)
    repo = hub.state.repos[match["kind"], match["repo"]]
    commit = repo.head(match["rev"] or "main")
    if commit is None:
        raise ValueError(f"{url}: there is no such commit")
    start = f"{match['path']}/"
    return {
        path.removeprefix(start): file.data
        for path, file in commit.files.items()
        if path.startswith(start)
    }


def as_memory(files: Mapping[str, bytes]) -> MemoryStore:
    """Files as a store of zarr-python, which has no part in what pushed them."""
    return MemoryStore({key: cpu.Buffer.from_bytes(data) for key, data in files.items()})


def read_pushed(hub: Hub, url: str) -> np.ndarray[Any, Any]:
    """Pixels of a store that was pushed, by zarr-python: an array, or the first of an image."""
    node = zarr.open(as_memory(held(hub, url)), mode="r")
    array: Any = node if isinstance(node, zarr.Array) else node["0"]
    return np.asarray(array[...])


def check_index(hub: Hub, wanted: Mapping[str, Any], repo: str = REPO) -> int:
    """Raise unless each row of the index names a store that is there, with the right pixels.

    ``wanted`` has the pixels (or several that are as right) by the store's path in the repo.
    """
    if ("datasets", repo) not in hub.state.repos:
        return 0
    found = rows(hub, repo)
    for row in found:
        url = row["zarr"]
        match = _PINNED.fullmatch(url)
        if match is None or not re.fullmatch("[0-9a-f]{40}", match["rev"] or ""):
            raise AssertionError(f"{url} is not pinned")
        some = wanted[match["path"]]
        pixels = read_pushed(hub, url)
        if not any(
            np.array_equal(pixels, one) for one in (some if isinstance(some, list) else [some])
        ):
            raise AssertionError(f"{url} holds other pixels")
    return len(found)


# What was asked


def changes(hub: Hub) -> list[Request]:
    """Requests that change anything."""
    return [
        one
        for one in hub.log
        if one.method in ("PUT", "DELETE")
        or (one.method == "POST" and ("/commit/" in one.path or "/repos/create" in one.path))
        or (one.method == "POST" and "/batch" in one.path and "/branch" in one.path)
    ]


def commits(hub: Hub) -> list[Request]:
    """Commits that were asked for."""
    return hub.log.find("/commit/", method="POST")


def objects_put(hub: Hub) -> Counter[str]:
    """How often each large object was sent, by its SHA-256."""
    puts = hub.log.find(method="PUT", origin="cdn")
    return Counter(one.path.partition("?")[0].rpartition("/")[2] for one in puts)


def files_below(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Files of a folder here, by their paths in it."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            yield file.relative_to(folder).as_posix(), file.read_bytes()


# Pushes that break


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few files make a batch, and two batches a commit, so that a small push has several."""
    monkeypatch.setattr("hfzarr.store.hub.outbox._BATCH_FILES", 3)
    monkeypatch.setattr("hfzarr.store.hub.outbox._COMMIT_FILES", 5)


class Scene:
    """Stores that are pushed, and what they hold before and after a change."""

    def __init__(self, folder: Path, route: str) -> None:
        self.folder = folder
        self.options: dict[str, Any] = {"shard": None, "thumbnails": False}
        if route == "copy":
            self.before = {f"{n}.zarr": write_small(folder / f"{n}.zarr", n) for n in (1, 2)}
        else:
            self.options["shard"] = [32, 64]
            self.before = {"1.zarr": write_chunks(folder / "1.zarr", 1)}
        self.after = dict(self.before)

    def change(self) -> None:
        """Write other pixels to the first store."""
        first = self.after["1.zarr"] = self.before["1.zarr"][::-1].copy()
        node: Any = zarr.open(self.folder / "1.zarr", mode="r+")
        (node if isinstance(node, zarr.Array) else node["0"])[...] = first

    @property
    def either(self) -> Mapping[str, list[Any]]:
        return {name: [self.before[name], self.after[name]] for name in self.before}

    def push(self, repo: str = REPO) -> hfzarr.Pushed:
        return push(self.folder, repo, **self.options)


@pytest.fixture(params=["copy", "reshard"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    return Scene(tmp_path / "stores", request.param)


def sent_twice(hub: Hub, repo: str = REPO) -> list[str]:
    """Large objects that arrived more than once."""
    arrived = Counter(
        one.path.partition("?")[0]
        for one in hub.log.find(f"/datasets/{repo}/", method="PUT", origin="cdn")
        if one.status == 200
    )
    return [path for path, count in arrived.items() if count > 1]


def try_push(scene: Scene, repo: str = REPO) -> bool:
    """Push; return whether it was done. What it ends with otherwise is ours, and says something."""
    try:
        scene.push(repo)
    except HfzarrError as error:
        if not str(error):
            raise
        return False
    return True


NAMES = ("cat/1.zarr", "cat/2.zarr", "dog/1.zarr")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images in folders of classes."""
    for seed, name in enumerate(NAMES):
        write_small(tmp_path / "stores" / name, seed)
    return tmp_path / "stores"


WANTED = {name: image_pixels(seed) for seed, name in enumerate(NAMES)}
