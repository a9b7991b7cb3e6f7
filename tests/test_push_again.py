"""A second push to a loopback Hub: what is kept, what is sent anew, what stays of others."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("huggingface_hub", minversion="1.0")
pytest.importorskip("aiohttp")
pytest.importorskip("pyarrow")
pytest.importorskip("PIL")

import numpy as np
import zarr

import hfzarr
from hfzarr.store.hub import outbox
from hfzarr.store.hub.outbox import Outbox
from hub import Hub
from hubstores import hub as hub
from hubstores import log_in as log_in
from hubstores import servers as servers
from pushes import (
    REPO,
    WANTED,
    changes,
    check_index,
    held,
    image_pixels,
    objects_put,
    push,
    read_pushed,
    rows,
    write_chunks,
    write_small,
)
from pushes import ada as ada
from pushes import folder as folder


def test_a_second_push_sends_nothing(hub: Hub, ada: str, folder: Path) -> None:
    write_chunks(folder / "many.zarr", side=320)
    first = push(folder)
    hub.log.clear()
    again = push(folder)
    assert (again.commit, again.files) == (first.commit, 0)
    assert {one.route for one in again.plan.stores} == {"keep"}
    assert not changes(hub)


def test_changed_pixels_are_sent_and_the_old_ones_stay(hub: Hub, ada: str, folder: Path) -> None:
    first = push(folder)
    zarr.open_array(folder / "cat/2.zarr/0", mode="r+")[...] = image_pixels(9)
    again = push(folder)
    assert again.commit != first.commit
    assert [one.route for one in again.plan.stores] == ["keep", "copy", "keep"]
    assert check_index(hub, {**WANTED, "cat/2.zarr": image_pixels(9)}) == 3
    old = rows(hub, revision=first.index_commit)
    np.testing.assert_array_equal(read_pushed(hub, old[1]["zarr"]), image_pixels(1))
    manifest = hfzarr.open_manifest(f"{first.url}@{first.index_commit}")
    np.testing.assert_array_equal(manifest.handle(1)["0"].read(), image_pixels(1))


def test_changed_pixels_of_many_small_files(hub: Hub, ada: str, tmp_path: Path) -> None:
    write_chunks(tmp_path / "a.zarr", side=320)
    first = push(tmp_path / "a.zarr")
    with_nine = zarr.open_array(tmp_path / "a.zarr", mode="r+")
    with_nine[:8, :8] = 9
    again = push(tmp_path / "a.zarr")
    assert again.commit != first.commit
    np.testing.assert_array_equal(read_pushed(hub, rows(hub)[0]["zarr"]), with_nine[...])


def test_a_store_is_added(hub: Hub, ada: str, folder: Path) -> None:
    push(folder / "cat", "ada/cats")
    write_small(folder / "cat" / "3.zarr", 7)
    hub.log.clear()
    again = push(folder / "cat", "ada/cats")
    assert [one.route for one in again.plan.stores] == ["keep", "keep", "copy"]
    assert len(rows(hub, "ada/cats")) == 3
    # A class is added: what is there keeps its place.
    one = folder / "more"
    write_small(one / "cat/1.zarr", 1)
    push(one)
    write_small(one / "dog/1.zarr", 2)
    again = push(one)
    assert [each.route for each in again.plan.stores] == ["keep", "copy"]
    assert check_index(hub, {"cat/1.zarr": image_pixels(1), "dog/1.zarr": image_pixels(2)}) == 2


def test_a_store_that_is_gone_here_leaves_the_index(hub: Hub, ada: str, folder: Path) -> None:
    """Its files stay in the repo: other indexes, and who knows its URL, may use it."""
    import shutil

    push(folder)
    shutil.rmtree(folder / "cat/2.zarr")
    push(folder)
    left = {name: data for name, data in WANTED.items() if name != "cat/2.zarr"}
    assert check_index(hub, left) == 2
    assert [path for path in hub.files(REPO) if path.startswith("cat/2.zarr/")]


def test_fewer_files_of_an_index_replace_more(hub: Hub, ada: str, tmp_path: Path) -> None:
    for seed, name in enumerate(["train/1.zarr", "test/1.zarr"]):
        write_small(tmp_path / "s" / name, seed)
    push(tmp_path / "s")
    hub.add_commit(hub.repo(REPO), {"data/mine.parquet": b"PAR1", "data/notes.txt": "mine"})
    push(tmp_path / "s" / "train")
    found = sorted(path for path in hub.files(REPO) if path.startswith("data/"))
    assert found == ["data/mine.parquet", "data/notes.txt", "data/train-00000-of-00001.parquet"]


def test_other_shards_are_sent_anew(hub: Hub, ada: str, tmp_path: Path) -> None:
    data = write_chunks(tmp_path / "a.zarr")
    for shard, count in (([32, 32], 4), ([64, 32], 2), (None, 64), ([32, 32], 4)):
        push(tmp_path / "a.zarr", shard=shard)
        url = rows(hub)[0]["zarr"]
        assert len([key for key in held(hub, url) if key != "zarr.json"]) == count
        np.testing.assert_array_equal(read_pushed(hub, url), data)


def test_other_shards_and_all_anew(hub: Hub, ada: str, tmp_path: Path) -> None:
    data = write_chunks(tmp_path / "a.zarr")
    push(tmp_path / "a.zarr", shard=[32, 32])
    push(tmp_path / "a.zarr", shard=[64, 32], resume=False)
    url = rows(hub)[0]["zarr"]
    assert sorted(held(hub, url)) == ["c/0/0", "c/0/1", "zarr.json"]
    np.testing.assert_array_equal(read_pushed(hub, url), data)


def test_what_was_spoiled_there_is_sent_anew(hub: Hub, ada: str, tmp_path: Path) -> None:
    from hub import File

    data = write_chunks(tmp_path / "a.zarr")
    push(tmp_path / "a.zarr", shard=[32, 32])
    spoiled = hub.files(REPO)["a.zarr/c/1/1"][::-1]
    hub.repo(REPO).commit({"a.zarr/c/1/1": File(spoiled, lfs=True)})
    push(tmp_path / "a.zarr", shard=[32, 32], resume=False)
    np.testing.assert_array_equal(read_pushed(hub, rows(hub)[0]["zarr"]), data)


@pytest.mark.parametrize("shard", [None, [32, 32]])
def test_all_anew(hub: Hub, ada: str, tmp_path: Path, shard: Any) -> None:
    data = write_chunks(tmp_path / "a.zarr")
    first = push(tmp_path / "a.zarr", shard=shard)
    hub.log.clear()
    again = push(tmp_path / "a.zarr", shard=shard, resume=False)
    assert again.plan.stores[0].route in ("copy", "reshard")
    assert again.files == first.files
    large = {f.sha256 for p, f in hub.repo(REPO).head().files.items() if f.lfs and ".zarr" in p}
    assert not large & set(objects_put(hub))  # the Hub has them, by their checksums
    np.testing.assert_array_equal(read_pushed(hub, rows(hub)[0]["zarr"]), data)


def test_a_file_that_was_lost_there_is_sent_again(hub: Hub, ada: str, folder: Path) -> None:
    push(folder)
    repo = hub.repo(REPO)
    repo.commit({}, ["cat/1.zarr/0/c/0/0"])
    again = push(folder)
    assert [one.route for one in again.plan.stores] == ["copy", "keep", "keep"]
    assert check_index(hub, WANTED) == 3


def test_the_text_of_a_user_stays(hub: Hub, ada: str, folder: Path) -> None:
    from huggingface_hub import HfApi

    push(folder)
    text = hub.files(REPO)["README.md"].decode()
    mine = text.replace("---\n", "---\nlicense: mit\n", 1) + "\nWritten by hand.\n"
    HfApi().upload_file(
        path_or_fileobj=mine.encode(),
        path_in_repo="README.md",
        repo_id=REPO,
        repo_type="dataset",
    )
    write_small(folder / "dog/2.zarr", 5)
    push(folder)
    after = hub.files(REPO)["README.md"].decode()
    assert "Written by hand." in after
    assert "license: mit" in after
    assert "num_examples: 4" in after


def test_a_broken_card_is_refused_before_anything_is_sent(hub: Hub, ada: str, folder: Path) -> None:
    card = "---\nconfigs:\n- config_name: mine\n  default: true\n  data_files: x.csv\n---\nText"
    hub.add_repo(REPO, {"README.md": card})
    with pytest.raises(hfzarr.errors.HfzarrError, match="default"):
        push(folder)
    assert not changes(hub)


def test_a_push_that_ended_before_its_index_is_completed_by_the_next(
    hub: Hub, ada: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "s"
    write_small(source / "1.zarr", 1)
    first = push(source)
    zarr.open_array(source / "1.zarr/0", mode="r+")[...] = image_pixels(9)

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as now:
        now.setattr("hfzarr.faces.push.pushed_rows", interrupted)
        with pytest.raises(KeyboardInterrupt):
            push(source)
    # All files of the old commit have the sizes of the new ones.
    again = push(source)
    assert again.commit != first.commit
    np.testing.assert_array_equal(read_pushed(hub, rows(hub)[0]["zarr"]), image_pixels(9))


def test_nothing_vouches_for_a_mixture(
    hub: Hub, ada: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "s"
    write_small(source / "1.zarr", 1)
    shutil.copytree(source, tmp_path / "first")
    push(source)
    zarr.open_array(source / "1.zarr/0", mode="r+")[...] = image_pixels(9)
    commit = Outbox._commit

    def interrupted(outbox: Outbox) -> None:
        commit(outbox)
        raise KeyboardInterrupt

    with monkeypatch.context() as now:
        now.setattr(outbox, "_BATCH_FILES", 2)
        now.setattr(outbox, "_COMMIT_FILES", 2)
        now.setattr(Outbox, "_commit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            push(source)
    # Times and all are those of the first push.
    shutil.rmtree(source)
    shutil.copytree(tmp_path / "first", source)
    write_small(source / "2.zarr", 2)
    push(source)
    check_index(hub, {"1.zarr": image_pixels(1), "2.zarr": image_pixels(2)})
