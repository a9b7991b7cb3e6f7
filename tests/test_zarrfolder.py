"""Folders of stores as datasets: by the fast walk, and by load_dataset("zarrfolder")."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import zarr

from hfzarr.errors import HfzarrError, StoreNotFoundError, TargetError
from servers import http_server
from stores import zip_folder

pa = pytest.importorskip("pyarrow")
datasets = pytest.importorskip("datasets")

from datasets import ClassLabel, Value  # noqa: E402

import hfzarr  # noqa: E402
from datasetcache import alone as alone  # noqa: E402
from datasetcache import processes as processes  # noqa: E402
from hfzarr.faces.feature import Zarr  # noqa: E402
from hfzarr.faces.store_tables import listed_stores, store_of  # noqa: E402
from hfzarr.rows.handle import ZarrHandle  # noqa: E402
from hfzarr.store.options import StorageOptions  # noqa: E402

SECRET = "hf_very-secret"
LABELED = [
    f"{split}/{label}/{n}.zarr"
    for split in ("train", "test")
    for label in ("cat", "dog")
    for n in (0, 1)
]

# Of Python 3.12 and later: processes are forked beside threads.
pytestmark = [
    pytest.mark.usefixtures("alone"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]


def write(folder: Path, names) -> Path:
    for number, name in enumerate(names):
        zarr.create_array(
            folder / name,
            data=np.full((4, 4), number, "uint16"),
            chunks=(4, 4),
        )
    return folder


@pytest.fixture
def labeled(tmp_path):
    """Two splits of two labels; the pixels of each store are its number in `LABELED`."""
    return write(tmp_path / "data", LABELED)


def folder_dataset(**options):
    return datasets.load_dataset("zarrfolder", **options)


def names(dataset, folder, column="zarr"):
    rows = [row[column] for row in dataset]
    assert all(isinstance(cell, ZarrHandle) for cell in rows)
    return [os.path.relpath(cell.url, folder).replace(os.sep, "/") for cell in rows]


def check_labeled(made, folder, order=("train", "test")):
    assert set(made) == {"train", "test"}
    for split in order:
        rows = made[split]
        assert rows.features["zarr"] == Zarr()
        assert rows.features["label"] == ClassLabel(names=["cat", "dog"])
        assert list(rows.features) == ["zarr", "label"]
        wanted = [name for name in LABELED if name.startswith(split)]
        assert names(rows, folder) == wanted
        assert [row["label"] for row in rows] == [0, 0, 1, 1]
        assert [int(row["zarr"][0, 0]) for row in rows] == [LABELED.index(name) for name in wanted]


# --- every way to the same rows ------------------------------------------------------------------


def test_a_folder_by_every_way(labeled):
    check_labeled(hfzarr.load_zarr_dataset(labeled), labeled)
    check_labeled(folder_dataset(data_dir=str(labeled)), labeled)
    check_labeled(folder_dataset(data_dir=str(labeled)), labeled)  # from the cache
    check_labeled(folder_dataset(data_dir=str(labeled), streaming=True), labeled)
    check_labeled(hfzarr.load_dataset("zarrfolder", data_dir=str(labeled)), labeled)
    files = {split: f"{labeled}/{split}/**" for split in ("train", "test")}
    check_labeled(folder_dataset(data_files=files), labeled)
    check_labeled(folder_dataset(data_files=files, streaming=True), labeled)
    files = {split: f"{labeled}/{split}/*/*/zarr.json" for split in ("train", "test")}
    check_labeled(folder_dataset(data_files=files), labeled)


def test_options_by_every_way(labeled):
    wanted = Zarr(storage_options={"anon": True})
    for made in (
        hfzarr.load_zarr_dataset(labeled, storage_options={"anon": True})["test"],
        folder_dataset(data_dir=str(labeled), storage_options={"anon": True}, split="test"),
        folder_dataset(data_dir=str(labeled), storage_options={"anon": True}, split="test"),
        folder_dataset(
            data_dir=str(labeled), storage_options={"anon": True}, split="test", streaming=True
        ),
    ):
        assert made.features["zarr"] == wanted
        assert next(iter(made))["zarr"].options.resolve() == {"anon": True}


@pytest.mark.parametrize("streaming", [False, True])
def test_no_secret_is_written_or_pickled(labeled, tmp_path, streaming):
    made = folder_dataset(
        data_dir=str(labeled),
        storage_options={"token": SECRET},
        streaming=streaming,
        split="train",
    )
    assert next(iter(made))["zarr"].options.resolve() == {"token": SECRET}
    for file in (tmp_path / "cache").rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes()
    assert SECRET.encode() not in pickle.dumps(made)
    assert SECRET not in repr(made) + repr(made.features) + repr(made.info)


def test_splits_are_chosen(labeled):
    assert len(hfzarr.load_zarr_dataset(labeled, split="train")) == 4
    both = hfzarr.load_zarr_dataset(labeled, split="train+test")
    assert names(both, labeled) == [*LABELED]
    assert len(hfzarr.load_zarr_dataset(labeled, split="all")) == 8
    assert hfzarr.load_zarr_dataset(labeled, split="test").split == "test"
    with pytest.raises(TargetError, match=r"no split 'dev'.*'train', 'test'"):
        hfzarr.load_zarr_dataset(labeled, split="dev")
    assert len(folder_dataset(data_dir=str(labeled), split="train[:3]")) == 3
    assert len(folder_dataset(data_dir=str(labeled), split="train+test")) == 8


def test_without_splits_everything_is_for_training(tmp_path):
    folder = write(tmp_path / "d", ["a.zarr", "b.zarr"])
    made = hfzarr.load_zarr_dataset(folder)
    assert isinstance(made, datasets.Dataset)
    assert (len(made), made.split, list(made.features)) == (2, "train", ["zarr"])
    assert names(folder_dataset(data_dir=str(folder), split="train"), folder) == [
        "a.zarr",
        "b.zarr",
    ]


def test_labels_may_be_dropped_or_asked_for(tmp_path):
    folder = write(tmp_path / "d", ["cat/a.zarr", "dog/b.zarr"])
    one = write(tmp_path / "one", ["cat/a.zarr", "cat/b.zarr"])
    for load in (
        lambda place, **more: {"train": hfzarr.load_zarr_dataset(place, **more)},
        lambda place, **more: folder_dataset(data_dir=str(place), **more),
        lambda place, **more: folder_dataset(data_files=f"{place}/**", **more),
    ):
        assert "label" in load(folder)["train"].features
        assert "label" not in load(folder, drop_labels=True)["train"].features
        assert "label" not in load(one)["train"].features
        assert load(one, drop_labels=False)["train"].features["label"].names == ["cat"]


def test_metadata_files(tmp_path):
    folder = write(tmp_path / "d", ["cat/a.zarr", "dog/b.zarr", "dog/c.zarr"])
    (folder / "metadata.csv").write_text("file_name,age,name\ncat/a,3,Ann\ndog/c.zarr,5,Cy\n")
    for load in (
        lambda **more: {"train": hfzarr.load_zarr_dataset(folder, **more)},
        lambda **more: folder_dataset(data_dir=str(folder), **more),
        lambda **more: folder_dataset(data_files=f"{folder}/**", **more),
        lambda **more: folder_dataset(data_files=f"{folder}/**", streaming=True, **more),
    ):
        rows = list(load()["train"])
        assert [row["age"] for row in rows] == [3, None, 5]
        assert [row["name"] for row in rows] == ["Ann", None, "Cy"]
        assert [row["label"] for row in rows] == [0, 1, 1]
        assert "age" not in load(drop_metadata=True)["train"].features


def test_a_label_of_the_metadata_stays_as_it_is(tmp_path):
    folder = write(tmp_path / "d", ["cat/a.zarr", "dog/b.zarr"])
    (folder / "metadata.jsonl").write_text(
        '{"file_name": "cat/a.zarr", "label": "sick"}\n'
        '{"file_name": "dog/b.zarr", "label": "well"}\n'
    )
    for rows in (
        hfzarr.load_zarr_dataset(folder),
        folder_dataset(data_dir=str(folder), split="train"),
        folder_dataset(data_files=f"{folder}/**", split="train"),
    ):
        assert rows.features["label"] == Value("string")
        assert [row["label"] for row in rows] == ["sick", "well"]


@pytest.mark.parametrize("told", ["../x.zarr", "/etc/x.zarr", "file:///x.zarr", "none.zarr"])
def test_metadata_that_leads_elsewhere_is_refused(tmp_path, told):
    folder = write(tmp_path / "d", ["a.zarr"])
    write(tmp_path, ["x.zarr"])
    (folder / "metadata.csv").write_text(f"file_name,age\n{told},3\n")
    with pytest.raises(HfzarrError, match=r"row 0 of .*metadata\.csv"):
        hfzarr.load_zarr_dataset(folder)
    with pytest.raises(HfzarrError, match=r"row 0 of .*metadata\.csv"):
        folder_dataset(data_dir=str(folder))
    assert len(folder_dataset(data_dir=str(folder), drop_metadata=True)["train"]) == 1


def test_the_column_may_have_another_name_and_features(labeled):
    made = hfzarr.load_zarr_dataset(labeled, column="image", split="test")
    assert names(made, labeled, "image") == LABELED[4:]
    made = folder_dataset(data_dir=str(labeled), column="image", split="test")
    assert names(made, labeled, "image") == LABELED[4:]
    features = datasets.Features({"zarr": Zarr(decode=False), "label": Value("string")})
    made = folder_dataset(data_dir=str(labeled), features=features, split="test", streaming=True)
    assert [row["label"] for row in made] == ["cat", "cat", "dog", "dog"]
    assert next(iter(made))["zarr"] == str(labeled / LABELED[4])


# --- what a store is -----------------------------------------------------------------------------


def test_stores_of_every_kind_in_one_folder(tmp_path):
    folder = write(tmp_path / "d", ["v3.zarr", "plain", "deep/er/x.zarr"])
    # Not of zeros: `datasets` passes by hidden files, and there would be no others.
    zarr.create_array(folder / "v2.zarr", data=np.ones((4, 4), "u1"), zarr_format=2)
    zip_folder(folder / "v3.zarr", tmp_path / "d" / "z.zarr.zip")
    group = zarr.open_group(folder / "group.zarr", mode="w")
    group.create_array("train/inner.zarr", data=np.zeros((2, 2), "u1"))
    (folder / "notes.txt").write_text("no store")
    kept = ["deep/er/x.zarr", "group.zarr", "plain", "v2.zarr", "v3.zarr", "z.zarr.zip"]
    assert names(hfzarr.load_zarr_dataset(folder, split="train"), folder) == kept
    made = folder_dataset(data_files=f"{folder}/**", split="train")
    assert names(made, folder) == kept


def test_names_inside_stores_make_no_splits_of_a_folder(tmp_path):
    """`datasets` looks for words such as "test" in every path, and takes those files alone."""
    folder = write(tmp_path / "d", ["a.zarr", "b.zarr"])
    group = zarr.open_group(folder / "c.zarr", mode="w")
    group.create_array("test/x", data=np.zeros((2, 2), "u1"))
    with pytest.warns(UserWarning, match="data_files name 1 of the 3 stores in data_dir"):
        made = folder_dataset(data_dir=str(folder))
    assert {split: names(rows, folder) for split, rows in made.items()} == {
        "train": ["a.zarr", "b.zarr", "c.zarr"]
    }


def test_stores_that_come_and_go_are_seen(tmp_path):
    folder = write(tmp_path / "d", ["a.zarr", "b.zarr"])
    assert len(folder_dataset(data_dir=str(folder), split="train")) == 2
    write(folder, ["c.zarr"])
    assert names(folder_dataset(data_dir=str(folder), split="train"), folder)[2] == "c.zarr"
    (folder / "metadata.csv").write_text("file_name,age\na,3\n")
    assert folder_dataset(data_dir=str(folder), split="train")[0]["age"] == 3
    (folder / "metadata.csv").write_text("file_name,age\na,4444\n")
    assert folder_dataset(data_dir=str(folder), split="train")[0]["age"] == 4444


def test_a_folder_without_stores(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "notes.txt").write_text("no store")
    with pytest.raises(StoreNotFoundError):
        hfzarr.load_zarr_dataset(tmp_path / "d")
    with pytest.raises(StoreNotFoundError):
        hfzarr.load_zarr_dataset(tmp_path / "nowhere")
    with pytest.raises(StoreNotFoundError, match=r"notes\.txt"):
        folder_dataset(data_files=f"{tmp_path}/d/**")
    with pytest.raises(StoreNotFoundError):
        folder_dataset(data_dir=str(tmp_path / "d"))


@pytest.mark.parametrize(
    ("file", "store"),
    [
        ("hf://datasets/u/n@abc/cat/1.ome.zarr/0/c/0/0", "hf://datasets/u/n@abc/cat/1.ome.zarr"),
        ("/data/a.zarr/b.zarr/zarr.json", "/data/a.zarr"),
        ("/data/A.ZARR/0/0", "/data/A.ZARR"),
        ("/data/plain/zarr.json", "/data/plain"),
        ("/data/plain/.zarray", "/data/plain"),
        ("/data/plain/c/0", None),
        ("/data/a.zarr.zip", "/data/a.zarr.zip"),
        ("https://host/a.ozx", "https://host/a.ozx"),
        ("zip://x/a.zarr/zarr.json::https://host/b.zip", "zip://x/a.zarr::https://host/b.zip"),
        ("simplecache::s3://b/a.zarr/0", "simplecache::s3://b/a.zarr"),
        ("/data/my.zarrs/a.tif", None),
        ("zarr.json", None),
    ],
)
def test_which_store_a_file_belongs_to(file, store):
    assert store_of(file) == store


def test_listed_files_lie_in_the_outermost_store():
    files = [
        "/d/a/zarr.json",
        "/d/a/b/zarr.json",
        "/d/a/c/0",
        "/d/a-b/zarr.json",
        "/d/ab/zarr.json",
    ]
    made = listed_stores(
        {"train": files}, column="zarr", labels=None, merge=True, options=StorageOptions()
    )
    assert made.tables["train"].column("zarr").to_pylist() == ["/d/a", "/d/a-b", "/d/ab"]


# --- what it costs -------------------------------------------------------------------------------


@pytest.fixture
def listings(monkeypatch):
    """Count folders that are listed."""
    seen = []
    real_scan, real_list = os.scandir, os.listdir

    def scandir(place="."):
        seen.append(os.fspath(place))
        return real_scan(place)

    def listdir(place="."):
        seen.append(os.fspath(place))
        return real_list(place)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "listdir", listdir)
    return seen


def test_chunk_files_cost_nothing(tmp_path, listings):
    folder = write(tmp_path / "d", [f"{label}/{n}.zarr" for label in "ab" for n in range(3)])
    for n in range(2):
        chunks = folder / "a" / f"{n}.zarr" / "c" / "9"
        chunks.mkdir(parents=True)
        for number in range(10_000):
            (chunks / str(number)).touch()
    listings.clear()
    made = hfzarr.load_zarr_dataset(folder, split="train")
    assert len(made) == 6
    # The folder and its two labels: no store is listed.
    assert len([place for place in listings if str(folder) in place]) <= 3
    assert not [place for place in listings if ".zarr" in place]


def test_rows_are_made_without_opening_a_store(labeled, monkeypatch):
    from hfzarr.rows.opened import OpenedStore

    def look(self, *args, **kwargs):
        raise AssertionError("a store was looked into")

    monkeypatch.setattr(OpenedStore, "look", look)
    for made in (
        hfzarr.load_zarr_dataset(labeled),
        folder_dataset(data_dir=str(labeled)),
        folder_dataset(data_dir=str(labeled), streaming=True),
    ):
        assert len(list(made["train"])) == 4


def test_the_builder_lists_no_store_of_a_folder(labeled, listings):
    """What `datasets` lists on the way there is its own affair."""
    from hfzarr.faces.builders import ZarrFolder

    builder = ZarrFolder(dataset_name="zarrfolder", data_dir=str(labeled))
    listings.clear()
    generators = builder._split_generators(None)
    assert [generator.name for generator in generators] == ["train", "test"]
    assert not [place for place in listings if ".zarr" in place]


# --- streams and workers -------------------------------------------------------------------------


def test_streams_have_shards_to_share(tmp_path):
    folder = write(tmp_path / "d", [f"{n:02}.zarr" for n in range(12)])
    stream = folder_dataset(data_dir=str(folder), streaming=True, split="train")
    assert stream.num_shards == 12
    assert len(pickle.dumps(stream)) < 12 * 4000
    parts = [list(stream.shard(3, index)) for index in range(3)]
    assert sorted(int(row["zarr"][0, 0]) for part in parts for row in part) == list(range(12))
    shuffled = [int(row["zarr"][0, 0]) for row in stream.shuffle(seed=4)]
    assert sorted(shuffled) == list(range(12)) != shuffled
    state = iter(stream)
    next(state)
    assert len(list(state)) == 11


def test_parts_are_as_many_as_are_useful():
    from hfzarr.faces.builders import _parts

    table = pa.table({"zarr": [str(n) for n in range(5000)]})
    parts = _parts(table)
    assert len(parts) == 1024
    assert pa.concat_tables(parts).equals(table)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    # A slice would take the whole table along.
    assert sum(len(pickle.dumps(part)) for part in parts) < 5_000_000
    assert [len(part) for part in _parts(table[:0])] == [0]


def _pixel(row):
    return {"m": int(row["zarr"][0, 0])}


# On Python 3.13, a pipe of `multiprocess` lets go of its buffers in the wrong order.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("processes")
def test_several_processes(labeled):
    made = folder_dataset(data_dir=str(labeled), num_proc=2, split="train")
    assert names(made, labeled) == LABELED[:4]
    assert made.map(_pixel, num_proc=2)["m"][:] == [0, 1, 2, 3]


# --- elsewhere -----------------------------------------------------------------------------------


def test_files_of_a_web_server(tmp_path):
    folder = write(tmp_path / "d", ["cat/a.zarr", "dog/b.zarr"])
    with http_server(folder) as (url, _):
        files = [f"{url}/{name}/zarr.json" for name in ("cat/a.zarr", "dog/b.zarr")]
        for streaming in (False, True):
            made = folder_dataset(data_files=files, streaming=streaming, split="train")
            cells = [row["zarr"] for row in made]
            assert [cell.url for cell in cells] == [f.removesuffix("/zarr.json") for f in files]
            assert [row["label"] for row in made] == [0, 1]
            assert [int(cell[0, 0]) for cell in cells] == [0, 1]


def test_a_folder_in_memory():
    import fsspec

    fs = fsspec.filesystem("memory")
    for label in ("cat", "dog"):
        fs.pipe(f"/zarrfolder/{label}/1.zarr/zarr.json", b"{}")
    try:
        made = hfzarr.load_zarr_dataset("memory://zarrfolder", split="train")
        assert [row["zarr"].url for row in made] == [
            f"memory://zarrfolder/{label}/1.zarr" for label in ("cat", "dog")
        ]
        assert made.features["label"].names == ["cat", "dog"]
    finally:
        fs.rm("/zarrfolder", recursive=True)


def test_real_stores(realdata):
    made = hfzarr.load_zarr_dataset(realdata, split="all", drop_labels=True)
    assert len(made) >= 5
    kinds = {row["zarr"].kind for row in made.select(range(5))}
    assert kinds <= {"array", "group", "image", "plate", "well", "collection"}
