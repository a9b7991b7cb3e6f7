"""Every source of a manifest gives the same rows, and paths that mean the same."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

pytest.importorskip("pyarrow")
pytest.importorskip("datasets")

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

import hfzarr
from hfzarr.errors import HfzarrError, ReadError, StoreNotFoundError, TargetError
from hfzarr.rows import tables
from hfzarr.rows.dataset_tables import dataset_origin
from hfzarr.rows.handle import ZarrHandle
from hfzarr.rows.manifest import Manifest
from hfzarr.rows.opening import open_manifest
from hfzarr.store.options import StorageOptions
from servers import http_server, s3_server

ROWS = [
    {"zarr": "s/a.zarr", "label": 0, "note": "x"},
    {"zarr": "s/b.zarr", "label": 1, "note": None},
    {"zarr": "s/c.zarr", "label": 0, "note": "7 z"},
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets.disable_progress_bars()
    return tmp_path


@pytest.fixture
def stores(here: Path) -> Path:
    for name in "abc":
        array = zarr.create_array(here / "s" / f"{name}.zarr", shape=(4, 6), dtype="uint8")
        array[...] = ord(name)
    return here


def in_parquet() -> str:
    pq.write_table(pa.Table.from_pylist(ROWS), "i.parquet")
    return "i.parquet"


def in_csv() -> Path:
    Path("i.csv").write_text("zarr,label,note\ns/a.zarr,0,x\ns/b.zarr,1,\ns/c.zarr,0,7 z\n")
    return Path("i.csv")


def in_odd_csv() -> str:
    text = '\ufeffzarr,label,note\r\n"s/a.zarr",0,"x"\r\ns/b.zarr,1,\r\ns/c.zarr,0,7 z'
    Path("i.csv").write_bytes(text.encode())
    return f"file://{os.getcwd()}/i.csv"


def in_packed_csv() -> str:
    frame = pd.DataFrame(ROWS)
    frame.to_csv("i.csv.gz", index=False)
    return "i.csv.gz"


def in_lines() -> str:
    Path("i.jsonl").write_text("\n\n".join(json.dumps(row) for row in ROWS))
    return "./i.jsonl"


def in_ragged_lines() -> str:
    kept = [{key: value for key, value in row.items() if value is not None} for row in ROWS]
    Path("i.ndjson").write_text("\n".join(json.dumps(row) for row in kept))
    return "i.ndjson"


def in_json() -> str:
    Path("i.json").write_text(json.dumps(ROWS, indent=1))
    return "i.json"


def in_memory_files() -> str:
    import fsspec

    place = f"memory://{os.getcwd()}/i.parquet"
    with fsspec.open(place, "wb") as file:
        rows = [{**row, "zarr": f"{os.getcwd()}/{row['zarr']}"} for row in ROWS]
        pq.write_table(pa.Table.from_pylist(rows), file)
    return place


def in_a_frame() -> Any:
    frame = pd.DataFrame(ROWS)
    return frame.assign(zarr=[Path(path) for path in frame["zarr"]])


def in_an_indexed_frame() -> Any:
    return pd.DataFrame(ROWS).set_index("zarr")


def in_a_dataset_of_arrow() -> Any:
    return pads.dataset(in_parquet())


def in_a_list_of_other_things() -> Any:
    here = ZarrHandle(os.path.abspath(ROWS[2]["zarr"]))
    return [{**ROWS[0], "zarr": Path(ROWS[0]["zarr"])}, ROWS[1], {**ROWS[2], "zarr": here}]


def in_columns() -> Any:
    return {key: [row[key] for row in ROWS] for key in ROWS[0]}


SOURCES: list[Callable[[], Any]] = [
    in_parquet, in_csv, in_odd_csv, in_packed_csv, in_lines, in_ragged_lines, in_json,
    in_memory_files, in_a_frame, in_an_indexed_frame, in_a_dataset_of_arrow, in_columns,
    in_a_list_of_other_things,
    lambda: ROWS, lambda: (row for row in ROWS), lambda: tuple(ROWS),
    lambda: pa.Table.from_pylist(ROWS),
    lambda: pa.Table.from_pylist(ROWS).to_batches()[0],
    lambda: pa.Table.from_pylist(ROWS).to_reader(),
    lambda: datasets.Dataset.from_list(ROWS),
    lambda: datasets.Dataset.from_list([*ROWS, *ROWS]).select([3, 4, 5]),
    lambda: datasets.Dataset.from_list(ROWS[::-1]).select([2, 1, 0]).with_format("numpy"),
    lambda: datasets.Dataset.from_list(ROWS).to_iterable_dataset(),
    lambda: datasets.Dataset.from_list(ROWS).to_iterable_dataset(num_shards=2).map(lambda row: row),
    lambda: datasets.IterableDataset.from_generator(lambda: iter(ROWS)),
    lambda: open_manifest(ROWS),
]  # fmt: skip


@pytest.mark.parametrize("make", SOURCES, ids=range(len(SOURCES)))
def test_every_source_gives_the_same_rows(here: Path, make: Callable[[], Any]) -> None:
    manifest = open_manifest(make())
    assert manifest.column == "zarr"
    assert manifest.stores == tuple(str(here / row["zarr"]) for row in ROWS)
    assert manifest["label"] == [0, 1, 0]
    assert manifest["note"] == ["x", None, "7 z"]
    assert isinstance(manifest[1]["zarr"], ZarrHandle)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ["s/a.zarr", "s/b.zarr", "s/c.zarr"],
        lambda: [Path("s/a.zarr"), "s/b.zarr", ZarrHandle(os.path.abspath("s/c.zarr"))],
        lambda: [{"path": "s/a.zarr"}, {"path": Path("s/b.zarr")}, {"path": "s/c.zarr"}],
        lambda: [ZarrHandle(os.path.abspath(f"s/{name}.zarr")) for name in "abc"],
        lambda: [zarr.open(f"s/{name}.zarr", mode="r") for name in "abc"],
        lambda: pa.array(["s/a.zarr", "s/b.zarr", "s/c.zarr"]),
        lambda: sorted(Path("s").glob("*.zarr")),
    ],
)
def test_a_list_of_stores(stores: Path, make: Callable[[], Any]) -> None:
    manifest = open_manifest(make())
    assert manifest.columns == [manifest.column]
    assert manifest.stores == tuple(str(stores / "s" / f"{name}.zarr") for name in "abc")
    assert [handle[0, 0] for handle in manifest.handles()] == [ord(name) for name in "abc"]


def test_a_folder_of_stores_is_scanned(stores: Path) -> None:
    for source in ("s", stores / "s", f"file://{stores}/s"):
        manifest = open_manifest(source)
        assert [Path(place).name for place in manifest.stores] == ["a.zarr", "b.zarr", "c.zarr"]
        assert manifest[1]["zarr"].shape == (4, 6)
    assert open_manifest("s", column="image").column == "image"


def test_relative_paths_count_from_the_file(stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("deep").mkdir()
    Path("deep/i.csv").write_text("zarr\nx/a.zarr\n")
    for source in ("deep/i.csv", stores / "deep" / "i.csv", f"file://{stores}/deep/i.csv"):
        assert open_manifest(source).stores == (str(stores / "deep/x/a.zarr"),)
    manifest = open_manifest(["s/a.zarr"])
    monkeypatch.chdir("/")
    assert manifest[0]["zarr"].shape == (4, 6)


def test_options_of_handles_are_kept_if_they_agree() -> None:
    told = StorageOptions.of({"anon": True})
    anon = [ZarrHandle(f"s3://b/{i}", "", told) for i in range(2)]
    assert open_manifest(anon).handle(0).options.resolve() == {"anon": True}
    assert open_manifest(anon, storage_options={"anon": False}).handle(0).options.resolve() == {
        "anon": False
    }
    other = ZarrHandle("s3://b/c", "", StorageOptions.of({"anon": False}))
    with pytest.raises(TargetError, match="different storage_options"):
        open_manifest([*anon, other])


def test_what_exists_here_goes_before_the_hub(here: Path, stores: Path) -> None:
    Path("user").mkdir()
    os.rename("s", "user/name")
    assert len(open_manifest("user/name")) == 3


def test_a_manifest_itself() -> None:
    more = [{"split": f"s{row['label']}", "other": f"x{i}.zarr"} for i, row in enumerate(ROWS)]
    rows = [{**row, **extra} for row, extra in zip(ROWS, more, strict=True)]
    manifest = open_manifest(rows, column="zarr")
    assert open_manifest(manifest) is manifest
    assert open_manifest(manifest, split="s0")["label"] == [0, 0]
    assert open_manifest(manifest, column="other").stores[2].endswith("x2.zarr")
    assert open_manifest(manifest, storage_options={"anon": True}).handle(0).options.resolve() == {
        "anon": True
    }
    with pytest.raises(TargetError, match="no column 'x'"):
        open_manifest(manifest, column="x")


# -- splits


def write_parts(folder: str = "data", column: bool = False) -> None:
    os.makedirs(folder, exist_ok=True)
    for name, rows in {
        "train-00000-of-00002": ROWS[:1],
        "train-00001-of-00002": ROWS[1:2],
        "test-00000-of-00001": ROWS[2:],
    }.items():
        pq.write_table(pa.Table.from_pylist(rows), f"{folder}/{name}.parquet")


@pytest.mark.parametrize("source", ["data", ".", "data/*.parquet", "./data/t*-0*.parquet"])
def test_files_of_splits(here: Path, source: str) -> None:
    write_parts()
    manifest = open_manifest(source)
    # A folder that is named is what rows count from, as the root of a dataset on the Hub is.
    base = here if source == "." else here / "data"
    assert manifest.filter(split="train").stores == tuple(
        str(base / row["zarr"]) for row in ROWS[:2]
    )
    assert sorted(manifest["split"]) == ["test", "train", "train"]
    train = open_manifest(source, split="train")
    assert train["label"] == [0, 1]
    # A row is known by its number in its own file.
    assert [h.row for h in train["zarr"]] == [
        f"row 0 of 'train-0000{i}-of-00002.parquet'" for i in (0, 1)
    ]
    assert [h.row for h in manifest.filter(split="test")["zarr"]] == [
        "row 0 of 'test-00000-of-00001.parquet'"
    ]
    with pytest.raises(TargetError, match="no split 'dev'; it has 'test', 'train'"):
        open_manifest(source, split="dev")


def test_files_in_several_folders(here: Path) -> None:
    for name, row in zip("xy", ROWS, strict=False):
        os.makedirs(name)
        pq.write_table(pa.Table.from_pylist([row]), f"{name}/part-{name}.parquet")
    manifest = open_manifest("*/part-*.parquet")
    assert manifest.stores == (str(here / "x/s/a.zarr"), str(here / "y/s/b.zarr"))
    assert "split" not in manifest.columns
    pq.write_table(pa.table({"zarr": ["../x/s/a.zarr"]}), "y/part-y.parquet")
    with pytest.raises(TargetError, match=r"^row 0 of 'part-y.parquet': .* climbs out"):
        open_manifest("*/part-*.parquet")
    with pytest.raises(TargetError, match=r"row 0 of 'part-y.parquet' and row 0 of 'part-x"):
        open_manifest("*/part-*.parquet", trusted=True)
    assert len(open_manifest("*/part-*.parquet", trusted=True, duplicates="keep")) == 2


def test_files_whose_columns_differ(here: Path) -> None:
    os.makedirs("data")
    pq.write_table(pa.table({"zarr": ["a"], "x": [1]}), "data/0.parquet")
    pq.write_table(pa.table({"zarr": ["b"], "y": [1]}), "data/1.parquet")
    assert open_manifest("data")["x"] == [1, None]
    pq.write_table(pa.table({"zarr": ["b"], "x": [{"a": 1}]}), "data/1.parquet")
    with pytest.raises(TargetError, match="parts of 'data' have different columns"):
        open_manifest("data")


def test_a_split_column() -> None:
    rows = [{**row, "split": "train" if row["label"] else "test"} for row in ROWS]
    manifest = open_manifest(rows, split="train")
    assert manifest["zarr"][0].row == "row 1 of 'list'"
    with pytest.raises(TargetError, match=r"'list' has no split 'dev'; it has 'test', 'train'"):
        open_manifest(rows, split="dev")
    with pytest.raises(TargetError, match="'list' has none; it has 'zarr', 'label', 'note'"):
        open_manifest(ROWS, split="train")
    write_parts()
    assert len(open_manifest("data/train-00000-of-00002.parquet", split="train")) == 1
    with pytest.raises(TargetError, match="has none"):
        open_manifest("data/train-00000-of-00002.parquet", split="test")


def splits(streaming: bool) -> Any:
    parts = {"train": ROWS[:2], "test": ROWS[2:]}
    found = {name: datasets.Dataset.from_list(rows) for name, rows in parts.items()}
    if streaming:
        return datasets.IterableDatasetDict({n: d.to_iterable_dataset() for n, d in found.items()})
    return datasets.DatasetDict(found)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_dictionary_of_datasets(streaming: bool) -> None:
    manifest = open_manifest(splits(streaming))
    assert manifest["split"] == ["train", "train", "test"]
    assert manifest["zarr"][2].row == "row 0 of 'test'"
    assert open_manifest(splits(streaming), split="test")["label"] == [0]
    with pytest.raises(TargetError, match="no split 'dev'; it has 'test', 'train'"):
        open_manifest(splits(streaming), split="dev")


def test_what_datasets_saved_to_disk(here: Path) -> None:
    splits(False).save_to_disk("all")
    splits(False)["train"].save_to_disk("one")
    assert open_manifest("all", split="train")["label"] == [0, 1]
    assert open_manifest("all")["split"] == ["train", "train", "test"]
    assert open_manifest("one")["label"] == [0, 1]


# -- `datasets`


@pytest.mark.parametrize("streaming", [False, True])
def test_a_marked_column_is_found_and_not_decoded(streaming: bool) -> None:
    features = datasets.Features(
        {
            "path": datasets.Value("string"),
            "volume": datasets.Value("string", id="zarr"),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
            "picture": datasets.Image(),
        }
    )
    row = {
        "path": "a.zarr",
        "volume": "b",
        "label": 1,
        "picture": {"bytes": b"no image", "path": None},
    }
    dataset = datasets.Dataset.from_list([row], features=features)
    manifest = open_manifest(dataset.to_iterable_dataset() if streaming else dataset)
    assert manifest.column == "volume"
    assert manifest["picture"] == [row["picture"]]
    manifest.save("i.parquet")
    told = json.loads(pq.read_schema("i.parquet").metadata[b"huggingface"])["info"]["features"]
    assert told["volume"] == {"dtype": "string", "id": "zarr", "_type": "Value"}
    assert told["label"] == {"names": ["cat", "dog"], "_type": "ClassLabel"}
    assert told["picture"] == {"_type": "Image"}


@pytest.mark.parametrize("streaming", [False, True])
def test_a_column_of_the_feature(stores: Path, streaming: bool) -> None:
    feature = getattr(hfzarr, "Zarr", None)
    if feature is None:
        pytest.skip("the feature is not here yet")
    dataset = datasets.Dataset.from_list(ROWS).rename_column("zarr", "volume")
    dataset = dataset.cast_column("volume", feature())
    dataset = dataset.add_column("zarr", ["x", "y", "z"])
    manifest = open_manifest(dataset.to_iterable_dataset() if streaming else dataset)
    assert manifest.column == "volume"
    assert manifest[2]["volume"][0, 0] == ord("c")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Stands in for `load_dataset`, which another file tests with a server."""
    asked: dict[str, Any] = {}

    def load_dataset(name: str, **options: Any) -> Any:
        asked.update(options, name=name)
        if isinstance(asked.get("answer"), Exception):
            raise asked["answer"]
        found = splits(False)
        return found[options["split"]] if options["split"] else found

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


@pytest.mark.parametrize(
    "source", ["user/name", "hf://datasets/user/name", "hf://datasets/user/name/"]
)
def test_a_dataset_of_the_hub(hub: dict[str, Any], source: str) -> None:
    manifest = open_manifest(source)
    assert manifest.stores == tuple(f"hf://datasets/user/name/{row['zarr']}" for row in ROWS)
    assert manifest["split"] == ["train", "train", "test"]
    assert hub == {"name": "user/name", "split": None, "revision": None, "token": None}


@pytest.mark.parametrize("source", ["user/name@v1", "hf://datasets/user/name@v1"])
def test_a_revision_of_a_dataset_of_the_hub(hub: dict[str, Any], source: str) -> None:
    manifest = open_manifest(source, split="test", storage_options={"token": "wrpx"})
    assert manifest.stores == ("hf://datasets/user/name@v1/s/c.zarr",)
    assert hub == {"name": "user/name", "split": "test", "revision": "v1", "token": "wrpx"}
    assert "wrpx" not in repr(manifest)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (FileNotFoundError("no such dataset"), StoreNotFoundError),
        (ConnectionError("no network"), StoreNotFoundError),
        (ValueError("unknown split"), TargetError),
        (RuntimeError("odd"), ReadError),
    ],
)
def test_a_dataset_that_cannot_be_loaded(hub: dict[str, Any], answer: Any, error: Any) -> None:
    hub["answer"] = answer
    with pytest.raises(error, match=f"user/name.*{answer}"):
        open_manifest("user/name")


def test_a_name_that_is_neither(hub: dict[str, Any]) -> None:
    with pytest.raises(StoreNotFoundError, match=r"no file or folder 'name'.* as 'user/name'"):
        open_manifest("name")
    with pytest.raises(StoreNotFoundError, match=r"no file or folder 'data/index.csv'"):
        open_manifest("data/index.csv")
    assert hub == {}


def evil(monkeypatch: pytest.MonkeyPatch, here: Path) -> Any:
    return datasets.Dataset.from_list([{"zarr": "a.zarr"}, {"zarr": str(here / "secret.zarr")}])


def test_a_dataset_of_the_hub_may_not_open_this_machine(
    hub: dict[str, Any], monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: evil(monkeypatch, here))
    with pytest.raises(
        TargetError, match=r"row 1 of 'user/name': .* is on this machine.*from hf://"
    ):
        open_manifest("user/name")
    assert len(open_manifest("user/name", trusted=True)) == 2


def test_where_a_dataset_came_from_is_told_by_its_cache(here: Path) -> None:
    sha = "0123456789abcdef0123456789abcdef01234567"
    builder = f"hf/user___name/default/0.0.0/{sha}"
    os.makedirs(builder)
    datasets.Dataset.from_list(ROWS).save_to_disk("saved")
    arrow = next(Path("saved").glob("*.arrow"))
    os.rename(arrow, f"{builder}/name-train.arrow")
    dataset = datasets.Dataset.from_file(f"{builder}/name-train.arrow")
    assert dataset_origin(dataset) == f"hf://datasets/user/name@{sha}"
    manifest = open_manifest(dataset)
    assert manifest.stores[0] == f"hf://datasets/user/name@{sha}/s/a.zarr"
    assert (
        open_manifest(dataset.to_iterable_dataset().map(lambda row: row)).stores == manifest.stores
    )


def test_a_folder_of_ones_own_is_no_cache_of_the_hub(here: Path) -> None:
    rows = datasets.Dataset.from_list([{"zarr": str(here / "a.zarr")}])
    rows.save_to_disk("my___own/rows")
    saved = datasets.load_from_disk("my___own/rows")
    assert dataset_origin(saved) == ""
    assert open_manifest(saved).stores == (str(here / "a.zarr"),)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_streaming_from_a_url_tells_its_origin(here: Path) -> None:
    Path("i.csv").write_text(f"zarr\na.zarr\n{here}/secret.zarr\n")
    Path("hf").mkdir()
    with http_server(here) as (url, _):
        dataset = datasets.load_dataset(
            "csv", data_files=f"{url}/i.csv", split="train", streaming=True, cache_dir="hf"
        )
        assert dataset_origin(dataset.map(lambda row: row).shuffle(seed=1)) == url
        with pytest.raises(TargetError, match=r"row 1 of 'dataset': .* is on this machine"):
            open_manifest(dataset)
        assert open_manifest(dataset, trusted=True).stores[0] == f"{url}/a.zarr"
    local = datasets.load_dataset(
        "csv", data_files="i.csv", split="train", streaming=True, cache_dir="hf"
    )
    assert dataset_origin(local) == ""
    assert len(open_manifest(local)) == 2


# -- from elsewhere


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_csv_on_a_web_server(stores: Path) -> None:
    in_csv()
    Path("evil.csv").write_text(f"zarr\na.zarr\nfile://{stores}/s/a.zarr\n")
    with http_server(stores) as (url, _):
        manifest = open_manifest(f"{url}/i.csv?download=true")
        assert manifest.stores[1] == f"{url}/s/b.zarr"
        assert manifest[1]["zarr"][0, 0] == ord("b")
        assert manifest[1]["zarr"].row == "row 1 of 'i.csv'"
        manifest.save("copy.csv")
        assert open_manifest("copy.csv").stores == manifest.stores
        with pytest.raises(TargetError, match=r"row 1 of 'evil.csv': .*by a table from http"):
            open_manifest(f"{url}/evil.csv")
        assert len(open_manifest(f"{url}/evil.csv", trusted=True)) == 2
        with pytest.raises(StoreNotFoundError, match="no file"):
            open_manifest(f"{url}/no.csv")


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, Any]]:
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    with s3_server() as options:
        yield options


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_a_bucket(stores: Path, s3: dict[str, Any]) -> None:
    import s3fs

    fs = s3fs.S3FileSystem(**s3)
    fs.mkdir("bucket")
    fs.put("s", "bucket/project/s", recursive=True)
    rows = [{**row, "zarr": f"s3://bucket/project/{row['zarr']}"} for row in ROWS]
    manifest = open_manifest(rows, storage_options=s3)
    for kind in ("parquet", "csv", "jsonl"):
        place = f"s3://bucket/project/i.{kind}"
        manifest.save(place)
        assert b"s3://bucket" not in fs.cat(place)
        again = open_manifest(place, storage_options=s3)
        assert again == manifest
        assert again[2]["zarr"][0, 0] == ord("c")
    write_parts()
    fs.put("data", "bucket/project/data", recursive=True)
    for place in ("s3://bucket/project/data", "s3://bucket/project/data/*.parquet"):
        again = open_manifest(place, split="train", storage_options=s3)
        assert again.stores == tuple(f"s3://bucket/project/data/{row['zarr']}" for row in ROWS[:2])
    assert len(open_manifest("s3://bucket/project/s", storage_options=s3)) == 3
    fs.pipe_file("bucket/evil.csv", b"zarr\nmemory://a\n")
    with pytest.raises(TargetError, match=r"row 0 of 'evil.csv': .*opened by a table from s3://"):
        open_manifest("s3://bucket/evil.csv", storage_options=s3)
    with pytest.raises(StoreNotFoundError, match=r"no file 's3://bucket/no.csv'"):
        open_manifest("s3://bucket/no.csv", storage_options=s3)
    with pytest.raises(StoreNotFoundError, match="no files match"):
        open_manifest("s3://bucket/no-*.csv", storage_options=s3)


def test_a_protocol_that_nobody_knows() -> None:
    with pytest.raises(HfzarrError, match=r"cannot open 'nosuch://a/i.csv'"):
        open_manifest("nosuch://a/i.csv")


def test_files_beside_stores_are_no_manifest(stores: Path) -> None:
    pq.write_table(pa.table({"file_name": ["a.zarr"], "x": [1]}), "s/metadata.parquet")
    manifest = open_manifest("s")
    assert len(manifest) == 3
    assert isinstance(manifest, Manifest)
    assert tables.read_source("s", None, StorageOptions()) == tables.FolderOfStores(
        str(stores / "s")
    )


def test_numpy_values_in_rows() -> None:
    rows = [
        {
            "zarr": "a",
            "n": np.int16(3),
            "x": np.arange(2),
            "y": np.ones((2, 2)),
            "t": pd.Timestamp(2020, 1, 1),
        }
    ]
    manifest = open_manifest(rows)
    assert manifest["n"] == [3]
    assert manifest["x"] == [[0, 1]]
    assert manifest["y"] == [[[1, 1], [1, 1]]]
    assert manifest["t"] == [pd.Timestamp(2020, 1, 1)]
