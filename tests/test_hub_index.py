"""The files of an index: splits, cuts, types, and what `datasets` itself makes of them."""

from __future__ import annotations

import io
import json
import re
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("huggingface_hub", minversion="1.0")
pytest.importorskip("datasets")
pytest.importorskip("PIL")

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

import hfzarr
from hfzarr.errors import TargetError, UnsupportedError
from hfzarr.faces.hub_card import dataset_card
from hfzarr.faces.hub_features import features_of, features_yaml, plain_type
from hfzarr.faces.hub_index import IndexFile, check_index, index_files, index_schema
from hub import Hub, run_python
from hubstores import hub as hub
from hubstores import servers as servers
from hubstores import write_image

PLACE = "hf://datasets/ada/cells"


def urls(count: int) -> list[str]:
    return [f"{PLACE}@{'0' * 40}/{number}.zarr" for number in range(count)]


def read(file: IndexFile) -> pa.Table:
    return pq.read_table(io.BytesIO(file.data))


def rows_of(files: Sequence[IndexFile], column: str = "zarr") -> list[Any]:
    return [cell for file in files for cell in read(file).column(column).to_pylist()]


def named(splits: list[Any], kind: pa.DataType | None = None) -> pa.Table:
    return pa.table({"zarr": urls(len(splits)), "split": pa.array(splits, kind)})


# Splits.


def test_rows_without_splits_are_for_training() -> None:
    (file,) = index_files(pa.table({"zarr": urls(3)}), "zarr")
    assert (file.path, file.split, file.rows) == ("data/train-00000-of-00001.parquet", "train", 3)
    assert read(file).column("zarr").to_pylist() == urls(3)


def test_a_column_of_splits_is_told_by_the_files_alone() -> None:
    files = index_files(named(["test", "train", None, "val", "train", "mine"]), "zarr")
    order = [("train", 3), ("validation", 1), ("test", 1), ("mine", 1)]
    assert [(file.split, file.rows) for file in files] == order
    assert all(read(file).column_names == ["zarr"] for file in files)
    assert rows_of(files) == [urls(6)[number] for number in (1, 2, 4, 3, 0, 5)]


def test_no_split_is_empty() -> None:
    assert [file.split for file in index_files(named([None, None], pa.null()), "zarr")] == ["train"]
    files = index_files(named(["test"]), "zarr")
    assert [file.split for file in files] == ["test"]


@pytest.mark.parametrize(
    ("said", "split"),
    [
        ("val", "validation"),
        ("Valid", "validation"),
        ("training", "train"),
        ("fold-1", "fold_1"),
        ("a b//c", "a_b_c"),
        ("v1.0", "v1.0"),
        (".hidden..twice.", "hidden.twice"),
        ("données", "donnees"),
        (3, "3"),
    ],
)
def test_names_of_splits_are_what_datasets_takes(said: Any, split: str) -> None:
    (file,) = index_files(named([said]), "zarr")
    assert file.split == split
    datasets.NamedSplit(split)
    assert re.match(datasets.naming._split_re, split)


def test_two_words_for_one_split_are_one() -> None:
    (file,) = index_files(named(["val", "valid", "dev"]), "zarr")
    assert (file.split, file.rows) == ("validation", 3)


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        (["fold-1", "fold_1"], "'fold-1' and 'fold_1'"),
        (["train!", "train"], "'train!' and 'train'"),
        (["train", "train!"], "'train' and 'train!'"),
        (["all"], "'all'"),
        (["训练"], "'训练'"),
        ([""], "''"),
        ([0.5], "double"),
    ],
)
def test_splits_that_cannot_be_named_are_refused(splits: list[Any], said: str) -> None:
    with pytest.raises(TargetError, match=said):
        index_files(named(splits), "zarr")


def test_a_dictionary_of_splits() -> None:
    table = named(["train", "test"])
    table = table.set_column(1, "split", table.column("split").dictionary_encode())
    assert [file.split for file in index_files(table, "zarr")] == ["train", "test"]


@given(st.lists(st.none() | st.text(max_size=6), min_size=1, max_size=8))
def test_every_row_is_in_one_split(splits: list[str | None]) -> None:
    try:
        files = index_files(named(splits, pa.string()), "zarr")
    except TargetError:
        return
    assert sorted(rows_of(files)) == sorted(urls(len(splits)))
    for file in files:
        assert file.rows == len(read(file)) > 0
        assert re.fullmatch(r"\w+(\.\w+)*", file.split, re.ASCII)
        assert file.path.isascii()


# Cuts.


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=40),
    st.none() | st.integers(1, 12),
    st.integers(1, 3000),
)
@example([3000, 0, 3000], None, 1)
def test_files_hold_what_they_may(sizes: list[int], most: int | None, room: int) -> None:
    table = pa.table({"zarr": urls(len(sizes)), "note": ["x" * size for size in sizes]})
    files = index_files(table, "zarr", rows_per_file=most, max_file_bytes=room)
    assert rows_of(files) == urls(len(sizes))
    numbered = [f"data/train-{i:05d}-of-{len(files):05d}.parquet" for i in range(len(files))]
    assert [file.path for file in files] == numbered
    start = 0
    for number, file in enumerate(files):
        assert file.arrow_bytes == table.slice(start, file.rows).nbytes
        assert file.rows <= (most or len(sizes))
        assert file.rows == 1 or file.arrow_bytes <= room
        full = file.rows == most or table.slice(start, file.rows + 1).nbytes > room
        assert full or number == len(files) - 1
        start += file.rows


def picture(size: int = 8, seed: int = 0) -> dict[str, Any]:
    file = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 255, (size, size, 3)).astype("uint8")
    Image.fromarray(noise).save(file, format="PNG")
    return {"bytes": file.getvalue(), "path": None}


def with_pictures(count: int) -> pa.Table:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = pa.array([picture(seed=number) for number in range(count)], kind)
    return pa.table({"zarr": urls(count), "thumbnail": cells})


def test_groups_of_rows_suit_the_viewer() -> None:
    (file,) = index_files(with_pictures(250), "zarr")
    told = pq.ParquetFile(io.BytesIO(file.data)).metadata
    sizes = [told.row_group(number).num_rows for number in range(told.num_row_groups)]
    assert sizes == [100, 100, 50]
    group = told.row_group(0)
    columns = [group.column(number) for number in range(told.num_columns)]
    assert all(column.has_offset_index for column in columns)
    pixels = next(c for c in columns if c.path_in_schema == "thumbnail.bytes")
    assert "RLE_DICTIONARY" not in pixels.encodings
    # No picture stands in the footer for the least or the greatest of its column.
    assert not pixels.is_stats_set
    (file,) = index_files(pa.table({"zarr": urls(2500)}), "zarr")
    told = pq.ParquetFile(io.BytesIO(file.data)).metadata
    assert told.row_group(0).num_rows == 1000
    assert b"content_defined_chunking" in told.metadata


def test_large_rows_make_small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hfzarr.faces.hub_index._GROUP_BYTES", 5000)
    (file,) = index_files(with_pictures(90), "zarr")
    told = pq.ParquetFile(io.BytesIO(file.data)).metadata
    assert told.num_row_groups > 4
    assert sum(told.row_group(n).num_rows for n in range(told.num_row_groups)) == 90


def test_the_same_table_makes_the_same_bytes() -> None:
    one, other = (index_files(with_pictures(5), "zarr") for _ in range(2))
    assert one == other
    assert hash(one[0]) == hash(other[0])
    assert len(repr(one)) < 300


# Types.

LEAVES = [
    *(pa.bool_(), pa.int8(), pa.uint16(), pa.int32(), pa.int64(), pa.uint64()),
    *(pa.float16(), pa.float32(), pa.float64(), pa.string(), pa.large_string(), pa.binary()),
    *(pa.date32(), pa.date64(), pa.time32("s"), pa.time64("us"), pa.duration("ms"), pa.null()),
    *(pa.timestamp("us"), pa.timestamp("ns", "UTC"), pa.timestamp("s", "+05:30")),
    *(pa.decimal128(7, 2), pa.decimal256(50, 3), pa.large_binary()),
]


def nested(inner: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
    names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=3)
    fields = st.dictionaries(names, inner, min_size=1, max_size=3)
    return st.one_of(
        inner.map(pa.list_),
        inner.map(pa.large_list),
        st.builds(pa.list_, inner, st.integers(1, 3)),
        fields.map(lambda named: pa.struct(list(named.items()))),
    )


@settings(max_examples=60)
@given(st.lists(st.recursive(st.sampled_from(LEAVES), nested, max_leaves=4), max_size=5))
def test_features_are_those_of_datasets(kinds: list[pa.DataType]) -> None:
    schema = pa.schema([(f"c{number}", kind) for number, kind in enumerate(kinds)])
    schema = schema.append(pa.field("zarr", pa.string()))
    assert [plain_type(kind, "c") for kind in kinds] == kinds
    theirs = datasets.Features.from_arrow_schema(schema)
    theirs["zarr"] = datasets.Value("string", id="zarr")
    ours = features_of(schema, "zarr")
    assert json.dumps(ours) == json.dumps(theirs.to_dict())
    assert features_yaml(ours) == theirs._to_yaml_list()
    made = index_schema(schema, "zarr")
    assert made.metadata == theirs.arrow_schema.metadata
    assert made.types == theirs.arrow_schema.types


def test_what_is_told_of_other_columns_is_kept_where_it_fits() -> None:
    theirs = datasets.Features(
        {
            "zarr": datasets.Value("string", id="zarr"),
            "class": datasets.ClassLabel(names=["sick", "well"]),
            "classes": datasets.List(datasets.ClassLabel(names=["a"])),
            "photo": datasets.Image(decode=False),
            "deep": {"photo": datasets.Image(), "n": datasets.Value("int64")},
        }
    )
    ours = features_of(theirs.arrow_schema, "zarr")
    assert ours == theirs.to_dict()
    assert features_yaml(ours) == theirs._to_yaml_list()
    other = pa.schema([(name, pa.string()) for name in theirs], theirs.arrow_schema.metadata)
    told = features_of(other, "zarr")
    assert {feature["_type"] for feature in told.values()} == {"Value"}


def test_no_feature_of_hfzarr_is_published() -> None:
    told = {"info": {"features": {"zarr": {"_type": "Zarr"}, "mask": {"_type": "Zarr"}}}}
    table = pa.table({"zarr": urls(1), "mask": urls(1)})
    table = table.replace_schema_metadata({"huggingface": json.dumps(told), "pandas": "{}"})
    (file,) = index_files(table, "zarr")
    metadata = read(file).schema.metadata
    marked = {"dtype": "string", "id": "zarr", "_type": "Value"}
    assert json.loads(metadata[b"huggingface"])["info"]["features"] == dict.fromkeys(
        ["zarr", "mask"], marked
    )
    assert b"pandas" not in metadata


ODD = {
    "dictionary": pa.array(["a"]).dictionary_encode(),
    "view": pa.array(["a"], pa.string_view()),
    "bytes": pa.array([b"a"], pa.binary_view()),
    "bytes of one size": pa.array([b"a"], pa.binary(1)),
    "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    "list view": pa.array([["a"]], pa.list_view(pa.string_view())),
    "runs": pa.RunEndEncodedArray.from_arrays(pa.array([1], pa.int32()), pa.array([5])),
    "uuid": pa.array([uuid.UUID(int=1).bytes], pa.uuid()),
    "json": pa.array(['{"a": 1}'], pa.json_()),
    "required": pa.array([{"a": 1}], pa.struct([pa.field("a", pa.int8(), nullable=False)])),
    "photo": pa.array(
        [picture()], pa.struct([("bytes", pa.large_binary()), ("path", pa.large_string())])
    ),
}


@pytest.mark.parametrize("name", list(ODD))
def test_columns_of_odd_types_become_plain(name: str) -> None:
    values = ODD[name]
    (file,) = index_files(pa.table({"zarr": urls(1), "odd": values}), "zarr")
    table = read(file)
    features = datasets.Features.from_arrow_schema(table.schema)
    said = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features.to_dict() == said
    first = table.column("odd")[0].as_py()
    wanted = {
        "map": [{"key": "a", "value": 1}],
        "uuid": uuid.UUID(int=1).bytes,
    }.get(name, values[0].as_py())
    assert first == wanted


@pytest.mark.parametrize(
    "values",
    [
        pa.nulls(1, pa.month_day_nano_interval()),
        pa.nulls(1, pa.struct([])),
        pa.nulls(1, pa.list_(pa.month_day_nano_interval())),
    ],
    ids=["interval", "empty struct", "list"],
)
def test_what_datasets_has_no_type_for_is_refused(values: Any) -> None:
    with pytest.raises(UnsupportedError, match="column 'odd'"):
        index_files(pa.table({"zarr": urls(1), "odd": values}), "zarr")


def test_all_files_have_one_schema() -> None:
    table = pa.table(
        {
            "zarr": urls(3),
            "split": ["train", "test", "test"],
            "channels": pa.array([None, ["DAPI"], None], pa.list_(pa.string())),
            "age": [None, None, 3.5],
        }
    )
    files = index_files(table, "zarr", rows_per_file=1)
    schemas = [read(file).schema for file in files]
    assert len(files) == 3
    assert all(one.equals(schemas[0], check_metadata=True) for one in schemas)
    made = index_schema(table.schema, "zarr")
    assert (schemas[0].types, schemas[0].metadata) == (made.types, made.metadata)
    assert index_schema(schemas[0], "zarr").equals(made, check_metadata=True)


def test_a_column_of_stores_called_split() -> None:
    (file,) = index_files(pa.table({"split": urls(2)}), "split")
    assert (file.split, rows_of([file], "split")) == ("train", urls(2))


# What may not be published.


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/data/a.zarr", "lies on this machine"),
        ("a.zarr", "lies on this machine"),
        ("file:///data/a.zarr", "lies on this machine"),
        ("memory://a.zarr", "lies on this machine"),
        ("simplecache::file:///data/a.zarr", "lies on this machine"),
        ("https://ada:hunter2@host/a.zarr", "password"),
        ("https://host/a.zarr?sig=hunter2", "query"),
        ("https://host/a.zarr?sig=hunter2#@0[0:2]", "query"),
    ],
)
@pytest.mark.parametrize("struct", [False, True])
def test_places_nobody_else_opens_are_refused(path: str, said: str, struct: bool) -> None:
    cells: list[Any] = [*urls(1), path, None]
    if struct:
        cells = [cell and selection(cell) for cell in cells]
    with pytest.raises(TargetError, match=f"row 1: .*{said}") as caught:
        index_files(pa.table({"zarr": cells}), "zarr")
    assert "hunter2" not in str(caught.value)


def selection(path: str) -> dict[str, Any]:
    return {"path": path, "node": "", "level": "0", "start": [0, 8], "stop": [None, 16],
            "step": [1, 1]}  # fmt: skip


def test_fragments_are_no_secrets() -> None:
    cells = [f"{PLACE}/a.zip#nuclei", f"{PLACE}/a.zarr#@0[0:8, :]", "s3://bucket/a.zarr"]
    assert rows_of(index_files(pa.table({"zarr": cells}), "zarr")) == cells


@pytest.mark.parametrize(
    ("table", "options", "said"),
    [
        (pa.table({"zarr": pa.array([], pa.string())}), {}, "no rows"),
        (pa.table({"other": urls(1)}), {}, "no column 'zarr'"),
        (pa.table({"zarr": [1]}), {}, "int64"),
        (pa.table([urls(1), [1], [2]], names=["zarr", "a", "a"]), {}, "'a'"),
        (pa.table({"zarr": urls(1)}), {"rows_per_file": 0}, "rows_per_file= is 1 or more, not 0"),
        (pa.table({"zarr": urls(1)}), {"max_file_bytes": 0}, "max_file_bytes= is 1 or more"),
    ],
)
def test_tables_that_are_no_index(table: pa.Table, options: dict[str, int], said: str) -> None:
    with pytest.raises(TargetError, match=said):
        index_files(table, "zarr", **options)


def test_what_is_no_index_is_known_before_stores_have_their_places() -> None:
    local = [f"/data/{number}.zarr" for number in range(2)]
    check_index(pa.table({"zarr": local, "split": ["train", "val"]}), "zarr")
    with pytest.raises(TargetError, match="'a-b' and 'a_b'"):
        check_index(pa.table({"zarr": local, "split": ["a-b", "a_b"]}), "zarr")
    spans = pa.nulls(2, pa.month_day_nano_interval())
    with pytest.raises(UnsupportedError, match="'odd'"):
        check_index(pa.table({"zarr": local, "odd": spans}), "zarr")


# Published, and loaded by others.


@pytest.fixture
def index(hub: Hub, tmp_path: Path) -> pa.Table:
    """An index of three images on the Hub, pushed by hand; its table."""
    data = np.random.default_rng(0).integers(0, 999, (64, 64)).astype("uint16")
    for name in ("train/sick/a", "train/well/b", "val/sick/c"):
        write_image(tmp_path / "stores" / f"{name}.zarr", data, shards=None)
    commit = hub.add_repo("ada/cells", tmp_path / "stores").head("main")
    assert commit is not None
    table = hfzarr.scan(tmp_path / "stores", metadata=True, thumbnails=True).to_arrow()
    here = str(tmp_path / "stores")
    places = [cell.replace(here, f"{PLACE}@{commit.oid}") for cell in table["zarr"].to_pylist()]
    table = table.set_column(table.column_names.index("zarr"), "zarr", pa.array(places))
    publish(hub, table, "ada/index")
    hub.log.clear()
    return table


def publish(hub: Hub, table: pa.Table, name: str) -> list[IndexFile]:
    files = index_files(table, "zarr")
    cells = [str(cell) for cell in table["zarr"].to_pylist()]
    card = dataset_card(
        repo_id=name, column="zarr", files=files, schema=table.schema, stores=cells, data_bytes=0
    )
    hub.add_repo(name, {"README.md": card, **{file.path: file.data for file in files}})
    return files


def test_who_has_no_hfzarr_loads_texts_and_pictures(
    hub: Hub, index: pa.Table, tmp_path: Path
) -> None:
    said = run_python(
        hub,
        """
        import json, sys
        sys.modules["hfzarr"] = None  # as if it were not installed
        import datasets
        loaded = datasets.load_dataset("ada/index")
        streamed = datasets.load_dataset("ada/index", streaming=True)
        told = {}
        for name, split in loaded.items():
            rows, stream = list(split), list(streamed[name])
            same = all({**a, "thumbnail": 0} == {**b, "thumbnail": 0} for a, b in zip(rows, stream))
            told[name] = {
                "same": same and split.features == streamed[name].features,
                "zarr": [row["zarr"] for row in rows],
                "picture": [type(row["thumbnail"]).__mro__[1].__name__ for row in rows + stream],
                "size": rows[0]["thumbnail"].size,
                "features": split.features.to_dict(),
            }
        print(json.dumps(told))
        """,
        tmp_path,
    )
    told = json.loads(said.splitlines()[-1])
    plain = index_schema(index.schema, "zarr")
    features = features_of(plain, "zarr")
    assert list(told) == ["train", "validation"]
    assert told["train"]["zarr"] + told["validation"]["zarr"] == index["zarr"].to_pylist()
    for split in told.values():
        assert split["same"]
        assert split["features"] == features
        assert set(split["picture"]) == {"ImageFile"}
        assert split["size"] == [64, 64]


@pytest.mark.parametrize("streaming", [False, True])
def test_where_hfzarr_is_imported_cells_are_handles(index: pa.Table, streaming: bool) -> None:
    loaded = datasets.load_dataset("ada/index", split="train", streaming=streaming)
    assert isinstance(loaded.features["zarr"], hfzarr.Zarr)
    rows = list(loaded)
    assert [row["label"] for row in rows] == ["sick", "well"]
    assert [row["zarr"].path for row in rows] == index["zarr"].to_pylist()[:2]
    assert isinstance(rows[0]["thumbnail"], Image.Image)
    assert rows[0]["zarr"].read().shape == (64, 64)


def test_an_index_is_a_manifest(hub: Hub, index: pa.Table) -> None:
    manifest = hfzarr.open_manifest("hf://datasets/ada/index")
    assert (len(manifest), manifest.column) == (3, "zarr")
    assert manifest["split"] == ["train", "train", "validation"]
    assert hub.log.find("ada/cells") == []
    opened = xr.open_dataset(manifest, engine="hfzarr")
    assert opened["image"].dims == ("row", "y", "x")
    for place in ("hf://datasets/ada/index", "hf://datasets/ada/index/data/*.parquet"):
        again = xr.open_dataset(place, engine="hfzarr")
        np.testing.assert_array_equal(again["image"].values, opened["image"].values)
        assert again["split"].values.tolist() == manifest["split"]


def test_an_index_of_selections(hub: Hub, index: pa.Table) -> None:
    place = index["zarr"].to_pylist()[0]
    cells = [{**selection(place), "start": [at, 0], "stop": [at + 8, None]} for at in (0, 8)]
    table = pa.table({"zarr": cells, "split": ["train", "train"]})
    (file,) = publish(hub, table, "ada/patches")
    assert read(file).column("zarr").to_pylist() == cells
    manifest = hfzarr.open_manifest("hf://datasets/ada/patches")
    assert [row["zarr"].read().shape for row in manifest] == [(8,), (8,)]
    loaded = datasets.load_dataset("ada/patches", split="train", streaming=True)
    features = datasets.Features.from_arrow_schema(read(file).schema)
    assert list(features["zarr"]) == list(loaded.features["zarr"])
    restored = hfzarr.restore(loaded, columns=["zarr"])
    assert [row["zarr"].read().shape for row in restored] == [(8,), (8,)]


def test_several_files_of_several_splits_load(hub: Hub) -> None:
    splits = ["train"] * 7 + ["test"] * 2 + ["extra.1"]
    table = named(splits)
    files = index_files(table, "zarr", rows_per_file=3)
    assert [file.rows for file in files] == [3, 3, 1, 2, 1]
    card = dataset_card(
        repo_id="ada/many", column="zarr", files=files, schema=table.schema, stores=[], data_bytes=0
    )
    hub.add_repo("ada/many", {"README.md": card, **{file.path: file.data for file in files}})
    loaded = datasets.load_dataset("ada/many")
    assert {name: len(split) for name, split in loaded.items()} == {
        "train": 7, "test": 2, "extra.1": 1,
    }  # fmt: skip
    assert [row["zarr"].path for row in loaded["train"]] == urls(7)
