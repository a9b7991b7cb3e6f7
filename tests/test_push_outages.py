"""The network goes away while stores are pushed, after each of the requests."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub", minversion="1.0")
pytest.importorskip("aiohttp")
pytest.importorskip("pyarrow")

from hub import Hub
from hub.faults import Outage
from hubstores import hub as hub
from hubstores import log_in as log_in
from hubstores import servers as servers
from pushes import (
    REPO,
    Scene,
    check_index,
    push,
    rows,
    sent_twice,
    try_push,
    write_small,
)
from pushes import ada as ada
from pushes import batches as batches
from pushes import scene as scene


def clone(hub: Hub, name: str, repo: str = REPO) -> None:
    """A repo of another name with the same history."""
    twin = copy.copy(hub.repo(repo))
    twin.id = name
    for field in ("commits", "refs", "objects", "xet"):
        setattr(twin, field, dict(getattr(twin, field)))
    hub.state.repos["datasets", name] = twin


def test_the_network_goes_away_after_any_request(
    hub: Hub, ada: str, scene: Scene, batches: None
) -> None:
    counter = Outage(10**9)
    hub.faults.append(counter)
    scene.push("ada/count")
    hub.faults.clear()
    assert counter.seen > 8
    for count in range(counter.seen + 1):
        repo = f"ada/try-{count}"
        outage = Outage(count)
        hub.faults[:] = [outage]
        complete = try_push(scene, repo)
        check_index(hub, scene.before, repo)
        assert complete or outage.refused
        outage.over = True
        scene.push(repo)
        assert check_index(hub, scene.before, repo) == len(scene.before)
        assert not sent_twice(hub, repo)


def test_the_network_goes_away_while_stores_are_replaced(
    hub: Hub, ada: str, scene: Scene, batches: None
) -> None:
    """An index of what was there before stays right until the new one is."""
    scene.push()
    first = hub.repo(REPO).head().oid
    scene.change()
    clone(hub, "ada/count")
    counter = Outage(10**9)
    hub.faults.append(counter)
    scene.push("ada/count")
    assert check_index(hub, scene.after, "ada/count") == len(scene.before)
    for count in range(0, counter.seen + 3, 3):
        repo = f"ada/try-{count}"
        clone(hub, repo)
        outage = Outage(count)
        hub.faults[:] = [outage]
        try_push(scene, repo)
        assert check_index(hub, scene.either, repo) == len(scene.before)
        outage.over = True
        scene.push(repo)
        assert check_index(hub, scene.after, repo) == len(scene.before)
        assert not sent_twice(hub, repo)
        hub.repo(repo).refs["refs/heads/main"] = first
        assert check_index(hub, scene.before) == len(scene.before)


def test_each_commit_on_the_way_is_sound(hub: Hub, ada: str, scene: Scene, batches: None) -> None:
    """Whoever looks at the repo at any moment sees no index that names what is not there."""
    scene.push()
    scene.change()
    scene.push()
    repo = hub.repo(REPO)
    counts = []
    for oid in list(repo.commits):
        repo.refs["refs/heads/main"] = oid
        counts.append(check_index(hub, scene.either))
    assert set(counts) == {0, len(scene.before)}
    assert counts == sorted(counts)


def test_an_index_is_never_there_in_part(
    hub: Hub, ada: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where each of its files is larger than what is sent at once, and time has passed."""
    for seed, name in enumerate(["train/1.zarr", "test/1.zarr", "val/1.zarr"]):
        write_small(tmp_path / "s" / name, seed)
    push(tmp_path / "s", metadata=False, thumbnails=False)
    monkeypatch.setattr("hfzarr.store.hub.outbox._COMMIT_EVERY", -1.0)
    push(tmp_path / "s", max_disk=2, thumbnails=False)
    repo = hub.repo(REPO)
    for oid in list(repo.commits):
        repo.refs["refs/heads/main"] = oid
        found = rows(hub)
        assert len(found) in (0, 3)
        assert len({"zarr_metadata" in row for row in found}) < 2
        assert ("README.md" in hub.files(REPO)) == bool(found)
