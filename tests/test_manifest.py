"""Manifests as values: rows, handles, fewer rows, other things, files and back."""

from __future__ import annotations

import datetime
import json
import math
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.compute as pc

from hfzarr.errors import TargetError, WriteError
from hfzarr.rows.cells import parse_cell
from hfzarr.rows.columns import mark, marked_columns
from hfzarr.rows.handle import ZarrHandle
from hfzarr.rows.manifest import Manifest
from hfzarr.rows.opening import open_manifest
from hfzarr.rows.selection import ZarrSelection

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c6360000000020001e221bc330000000049454e44ae426082"
)
FORMATS = ("parquet", "csv", "tsv", "jsonl")


def rows(count: int = 5) -> list[dict[str, Any]]:
    return [
        {"zarr": f"images/{i}.zarr", "label": i % 2, "name": f"n{i}", "shape": [i, 4]}
        for i in range(count)
    ]


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    monkeypatch.chdir(tmp_path)
    return open_manifest(rows())


def selections(folder: str = "images") -> list[dict[str, Any]]:
    texts = [f"{folder}/a.zarr#@0[0, 3:7, 0:9:2]", f"{folder}/a.zarr#n/m[0:1]"]
    return [{"patch": parse_cell(text), "fold": i} for i, text in enumerate(texts)]


# -- rows


def test_a_row_is_a_dictionary_with_a_handle(manifest: Manifest, tmp_path: Path) -> None:
    row = manifest[3]
    assert row == {
        "zarr": ZarrHandle(str(tmp_path / "images" / "3.zarr")),
        "label": 1,
        "name": "n3",
        "shape": [3, 4],
    }
    assert manifest[-2] == row == manifest[np.int64(3)] == list(manifest)[3]
    assert len(manifest) == 5
    assert manifest.handle(-2) == manifest.handles()[3] == row["zarr"] == manifest["zarr"][3]
    assert manifest["name"] == ["n0", "n1", "n2", "n3", "n4"]
    assert manifest.stores[3] == str(tmp_path / "images" / "3.zarr")


@pytest.mark.parametrize("key", [5, -6, [0, 5], [-6]])
def test_no_such_row(manifest: Manifest, key: Any) -> None:
    with pytest.raises(IndexError, match="of a manifest of 5 rows"):
        manifest[key]


@pytest.mark.parametrize("key", [1.0, None, [0.5], [[1]], [True], ["label"]])
def test_a_key_of_no_kind_that_chooses(manifest: Manifest, key: Any) -> None:
    with pytest.raises(TargetError, match=r"rows are chosen|a mask has a value for each row"):
        manifest[key]


def test_a_column_that_is_not_there(manifest: Manifest) -> None:
    with pytest.raises(TargetError, match="no column 'lable'; it has 'zarr', 'label'"):
        manifest["lable"]
    with pytest.raises(TargetError, match="no column 'lable'"):
        manifest.filter(lable=1)
    with pytest.raises(TargetError, match="no column 'x'"):
        Manifest(pa.table({"zarr": ["a"]}), "x")


@given(st.data())
def test_slices_lists_and_masks_choose_as_numpy_does(data: st.DataObject) -> None:
    manifest = open_manifest(rows(7))
    numbers = np.arange(7)
    ends = st.none() | st.integers(-9, 9)
    key = data.draw(
        st.slices(7)
        | st.builds(slice, ends, ends, st.sampled_from([None, 1, 2, -1, -3]))
        | st.lists(st.integers(-7, 6))
        | st.lists(st.booleans(), min_size=7, max_size=7)
    )
    chosen = manifest[key]
    wanted = numbers[
        key
        if isinstance(key, slice)
        else np.array(key, bool if key and isinstance(key[0], bool) else int)
    ]
    assert chosen["name"] == [f"n{i}" for i in wanted]
    # A row is known by its number in what it came from, however often rows were chosen.
    again = chosen[::-1]
    assert [h.row for h in again.handles()] == [f"row {i} of 'list'" for i in wanted[::-1]]


def test_masks_of_arrow_and_numpy(manifest: Manifest) -> None:
    assert manifest[np.array(manifest["label"]) == 1]["name"] == ["n1", "n3"]
    assert manifest[pc.equal(manifest.table["label"].combine_chunks(), 1)]["name"] == ["n1", "n3"]
    assert len(manifest[[]]) == 0
    assert list(manifest[[]]) == []


def test_a_handle_brings_the_metadata_of_its_row(tmp_path: Path) -> None:
    manifest = open_manifest([{"zarr": "a.zarr", "zarr_metadata": "{}"}, {"zarr": "b.zarr"}])
    assert [h.metadata for h in manifest.handles()] == ["{}", None]
    assert manifest[0]["zarr"].metadata == manifest.handle(0).metadata == "{}"


def test_options_travel_to_the_handles_by_reference() -> None:
    manifest = open_manifest(
        ["s3://bucket/a.zarr"], storage_options={"secret": "wrpx", "anon": True}
    )
    assert manifest.handle(0).options.resolve() == {"secret": "wrpx", "anon": True}
    assert b"wrpx" not in pickle.dumps(manifest)
    assert "wrpx" not in repr(manifest) + manifest._repr_html_()


# -- fewer rows


def test_filter_by_value(manifest: Manifest) -> None:
    assert manifest.filter(label=1)["name"] == ["n1", "n3"]
    assert manifest.filter(label=1, name=["n0", "n3"])["name"] == ["n3"]
    assert manifest.filter(name=("n0", "n4", "n9"))["name"] == ["n0", "n4"]
    assert manifest.filter(name={"n2"})["name"] == ["n2"]
    assert manifest.filter(shape=[2, 4])["name"] == ["n2"]
    assert manifest.filter(shape=[[2, 4], (3, 4)])["name"] == ["n2", "n3"]
    assert manifest.filter(zarr="images/1.zarr")["name"] == ["n1"]
    assert manifest.filter(zarr=[manifest.handle(0), manifest.handle(4)])["name"] == ["n0", "n4"]
    assert len(manifest.filter(label=None)) == 0
    assert manifest.filter() == manifest


def test_filter_by_function_and_expression(manifest: Manifest) -> None:
    by_function = manifest.filter(lambda row: row["zarr"].name in ("1", "3"))
    by_expression = manifest.filter(pc.field("label") == 1)
    assert by_function == by_expression
    assert by_function.handle(1).row == "row 3 of 'list'"
    assert manifest.filter(pc.field("label") == 1, name="n3")["name"] == ["n3"]
    with pytest.raises(TargetError, match="does not fit 'list'"):
        manifest.filter(pc.field("lable") == 1)
    with pytest.raises(TargetError, match="a function of a row"):
        manifest.filter("label == 1")


# -- as other things


def test_to_pandas_and_to_arrow(manifest: Manifest, tmp_path: Path) -> None:
    frame = manifest.to_pandas()
    assert frame["zarr"].tolist() == [str(tmp_path / "images" / f"{i}.zarr") for i in range(5)]
    assert frame["label"].tolist() == [0, 1, 0, 1, 0]
    table = manifest.to_arrow()
    assert marked_columns(table.schema) == ["zarr"]
    assert open_manifest(table) == manifest
    assert open_manifest(frame) == manifest


def test_the_marker_keeps_what_was_said_of_other_columns() -> None:
    told = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "gone": {"_type": "Value"}}
    schema = pa.schema([("label", pa.int64()), ("zarr", pa.string()), ("path", pa.string())])
    text = json.dumps({"info": {"features": told}}).encode()
    table = pa.table([[0], ["a"], ["b"]], schema=schema.with_metadata({b"huggingface": text}))
    marked = mark(mark(table, "path"), "zarr")
    assert marked_columns(marked.schema) == ["path", "zarr"] or marked_columns(marked.schema) == [
        "zarr",
        "path",
    ]
    features = json.loads(marked.schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == ["label", "zarr", "path"]
    assert features["label"] == told["label"]
    assert features["zarr"] == {"dtype": "string", "id": "zarr", "_type": "Value"}


def test_pickle_of_a_part_is_small_and_equal(tmp_path: Path) -> None:
    whole = open_manifest(rows(10_000))
    part = whole[5_000:5_003]
    data = pickle.dumps(part)
    assert len(data) < 3_000
    again = pickle.loads(data)
    assert again == part
    assert again.handle(1).row == "row 5001 of 'list'"


def test_equality_is_of_places_and_values(manifest: Manifest, tmp_path: Path) -> None:
    absolute = [{**row, "zarr": str(tmp_path / row["zarr"])} for row in rows()]
    assert open_manifest(absolute) == manifest
    assert open_manifest([{**row, "label": 3} for row in rows()]) != manifest
    assert open_manifest(rows(4)) != manifest
    assert open_manifest([{**row, "more": 3} for row in rows()]) != manifest
    assert manifest != rows()
    nan = [{"zarr": "a", "x": math.nan}, {"zarr": "b", "x": None}]
    assert open_manifest(nan) == open_manifest(nan)
    assert open_manifest(nan) != open_manifest([nan[0], {"zarr": "b", "x": math.nan}])


def test_repr_is_a_short_table(manifest: Manifest) -> None:
    text = repr(open_manifest(rows(30)))
    assert text.splitlines()[0] == "Manifest 'list': 30 rows, stores in 'zarr'"
    assert "images/7.zarr  1      n7    [7, 4]" in text
    assert "and 22 more" in text
    assert "zarr_metadata" in repr(open_manifest([{"zarr": "a", "zarr_metadata": "{}" * 999}]))
    assert len(repr(open_manifest([{"zarr": "a" * 999}]))) < 200


def test_html_is_escaped_and_has_thumbnails() -> None:
    evil = "<script>alert(1)</script>"
    table = [
        {
            "zarr": f"{evil}.zarr",
            evil: evil,
            "thumbnail": {"bytes": PNG, "path": None},
            "other": {"bytes": b"<svg onload=alert(1)>", "path": "x"},
        }
    ]
    text = open_manifest(table, column="zarr")._repr_html_()
    assert "<script" not in text
    assert "<svg" not in text
    assert text.count("&lt;script&gt;") >= 3
    assert len(re.findall(r"<img src='data:image/png;base64,[A-Za-z0-9+/=]+'", text)) == 1
    assert "thumbnail" not in repr(open_manifest(table, column="zarr")).splitlines()[1]


def test_secrets_in_urls_are_not_shown() -> None:
    manifest = open_manifest(["https://user:word@host/a.zarr?sig=abc"])
    assert "word" not in repr(manifest) + manifest._repr_html_()
    assert "abc" not in repr(manifest) + manifest._repr_html_()


# -- files


@pytest.mark.parametrize("kind", FORMATS)
def test_saved_and_opened_again_it_is_the_same(manifest: Manifest, kind: str) -> None:
    manifest.save(f"index.{kind}")
    again = open_manifest(f"index.{kind}")
    assert again == manifest
    assert again[1]["zarr"].row == f"row 1 of 'index.{kind}'"
    assert [name for name in os.listdir() if "index" in name] == [f"index.{kind}"]


@pytest.mark.parametrize("kind", FORMATS)
def test_selections_survive_a_file(tmp_path: Path, kind: str) -> None:
    manifest = open_manifest(selections(str(tmp_path / "images")))
    path = tmp_path / f"plan.{kind}"
    manifest.save(path)
    again = open_manifest(path)
    assert again.column == "patch"
    assert again == manifest
    assert all(isinstance(cell, ZarrSelection) for cell in again["patch"])
    assert again["patch"] == manifest["patch"]
    assert again[0]["patch"].index == (0, slice(3, 7, 1), slice(0, 9, 2))
    assert "images/a.zarr" in path.read_bytes().decode("latin1")
    assert str(tmp_path) not in path.read_bytes().decode("latin1")


@pytest.mark.parametrize("kind", FORMATS)
def test_paths_mean_the_same_from_the_new_place(
    manifest: Manifest, tmp_path: Path, kind: str
) -> None:
    for place in (f"index.{kind}", f"images/index.{kind}", f"elsewhere/deep/index.{kind}"):
        manifest.save(place)
        assert open_manifest(place).stores == manifest.stores
    assert str(tmp_path) not in Path(f"index.{kind}").read_bytes().decode("latin1")
    assert str(tmp_path) not in Path(f"images/index.{kind}").read_bytes().decode("latin1")
    assert str(tmp_path) in Path(f"elsewhere/deep/index.{kind}").read_bytes().decode("latin1")


@pytest.mark.parametrize(
    "name", ["a:b.zarr", "s3:x/a.zarr", "~a.zarr", "c:/a.zarr", "x y#1/ä.zarr"]
)
def test_names_that_look_like_other_things_keep_their_place(tmp_path: Path, name: str) -> None:
    place = str(tmp_path / name)
    open_manifest([place]).save(tmp_path / "index.csv")
    assert open_manifest(tmp_path / "index.csv").stores == (place,)


def test_missing_cells_stay_missing(tmp_path: Path) -> None:
    manifest = open_manifest(
        [{"zarr": None, "x": "", "y": None}, {"zarr": str(tmp_path / "a"), "x": None, "y": 1}]
    )
    assert manifest[0]["zarr"] is None
    assert manifest.handles()[0] is None
    assert manifest.stores == (None, str(tmp_path / "a"))
    for kind in FORMATS:
        manifest.save(tmp_path / f"i.{kind}")
        assert open_manifest(tmp_path / f"i.{kind}") == manifest


def test_a_password_is_not_written(tmp_path: Path) -> None:
    manifest = open_manifest(["https://user:word@host/a.zarr", "abfs://container@account/b.zarr"])
    manifest.save(tmp_path / "i.csv")
    stores = open_manifest(tmp_path / "i.csv").stores
    assert stores == ("https://host/a.zarr", "abfs://container@account/b.zarr")


def test_who_has_only_datasets_loads_it(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    table = [{"zarr": str(tmp_path / "a.zarr"), "thumbnail": {"bytes": PNG, "path": None}, "x": 1}]
    open_manifest(table).save(tmp_path / "index.parquet")
    open_manifest(selections()).save(tmp_path / "plan.parquet")
    # In a process of its own: this one may know our feature.
    code = """
import sys, datasets
import pyarrow.parquet as pq
datasets.disable_progress_bars()
index, plan, cache = sys.argv[1:]
features = datasets.Features.from_arrow_schema(pq.read_schema(index))
assert features["zarr"] == datasets.Value("string", id="zarr"), features
assert features["zarr"].id == "zarr"
assert features["thumbnail"] == datasets.Image(), features
assert datasets.Features.from_arrow_schema(pq.read_schema(plan))["patch"]["path"].id == "zarr"
rows = datasets.load_dataset("parquet", data_files=index, split="train", cache_dir=cache)
print(rows[0]["zarr"], rows[0]["x"], "hfzarr" in sys.modules)
"""
    files = [str(tmp_path / name) for name in ("index.parquet", "plan.parquet", "cache")]
    done = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["a.zarr", "1", "False"]


@pytest.mark.parametrize("name", ["index.txt", "index", "index.json", "index.csv.gz"])
def test_a_name_of_no_format(manifest: Manifest, name: str) -> None:
    with pytest.raises(TargetError, match=r"saved to a \.parquet, \.csv"):
        manifest.save(name)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_that_cannot_be_put_in_its_place(
    manifest: Manifest, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out" / f"index.{kind}"
    manifest.save(path)
    before = path.read_bytes()

    def broken(*args: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(WriteError, match=r"no space left.* What was there before is as it was"):
        manifest[:2].save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path / "out") == [path.name]


def test_a_new_file_has_the_usual_permissions(manifest: Manifest, tmp_path: Path) -> None:
    manifest.save(tmp_path / "index.csv")
    (tmp_path / "plain").touch()
    assert (tmp_path / "index.csv").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_in_csv_and_json_facts_come_back_to_their_types(tmp_path: Path) -> None:
    row = {
        "zarr": str(tmp_path / "a.zarr"),
        "kind": "image",
        "ome_version": "0.5",
        "shape": [2, 3],
        "axes": ["y", "x"],
        "scale": [1.0, 0.5],
        "unit": [None, "micrometer"],
        "levels": 3,
        "bytes": 12,
        "thumbnail": {"bytes": PNG, "path": None},
        "zarr_metadata": '{"a": [1]}',
    }
    empty = dict.fromkeys(row) | {"zarr": str(tmp_path / "b.zarr")}
    manifest = open_manifest([row, empty])
    for kind in FORMATS:
        manifest.save(tmp_path / f"i.{kind}")
        assert open_manifest(tmp_path / f"i.{kind}") == manifest


def test_a_column_that_is_no_fact_in_spite_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "i.csv").write_text("zarr,shape,levels\na,round,many\nb,[1,few\n")
    manifest = open_manifest(tmp_path / "i.csv")
    assert manifest["shape"] == ["round", "[1"]
    assert manifest["levels"] == ["many", "few"]


# -- any table, as far as a format can

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.integers(-(2**63), 2**63 - 1)
TIMES = st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2200, 1, 1))
KINDS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "int": (pa.int64(), NUMBERS),
    "text": (pa.string(), TEXT),
    "float": (pa.float64(), st.floats()),
    "bool": (pa.bool_(), st.booleans()),
    "time": (pa.timestamp("us"), TIMES),
    "ints": (pa.list_(pa.int64()), st.lists(st.none() | NUMBERS, max_size=3)),
    "texts": (pa.list_(pa.string()), st.lists(st.none() | TEXT, max_size=3)),
    "struct": (
        pa.struct([("a", pa.int64()), ("b", pa.list_(pa.string()))]),
        st.fixed_dictionaries(
            {"a": st.none() | NUMBERS, "b": st.lists(st.none() | TEXT, max_size=2)}
        ),
    ),
}


@st.composite
def tables(draw: st.DrawFn) -> Any:
    count = draw(st.integers(1, 4))
    columns = {"zarr": pa.array([f"s3://bucket/{i}.zarr" for i in range(count)])}
    names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=4)
    for name in draw(st.lists(names, max_size=4, unique=True)):
        kind, values = KINDS[draw(st.sampled_from(sorted(KINDS)))]
        cells = draw(st.lists(st.none() | values, min_size=count, max_size=count))
        columns[f"{name}_"] = pa.array(cells, kind)
    return pa.table(columns)


def in_json(value: Any) -> Any:
    """What JSON can hold of a value."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return value


def in_csv(value: Any) -> Any:
    """What CSV can hold of a value: lists and structs as JSON."""
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False)
    return value if isinstance(value, float) else in_json(value)


def spelled(value: Any) -> str:
    """What a cell says, if it says a number or a truth value; 0.0 and -0.0 are two."""
    text = str(value).lower()
    return text if text == "none" else str(float({"true": 1, "false": 0}.get(text, text)))


@given(tables())
def test_any_table_survives_parquet(tmp_path_factory: pytest.TempPathFactory, table: Any) -> None:
    path = tmp_path_factory.mktemp("any") / "i.parquet"
    manifest = open_manifest(table)
    manifest.save(path)
    assert open_manifest(path) == manifest
    assert pickle.loads(pickle.dumps(manifest)) == manifest


@given(tables())
def test_any_table_survives_json(tmp_path_factory: pytest.TempPathFactory, table: Any) -> None:
    path = tmp_path_factory.mktemp("any") / "i.jsonl"
    open_manifest(table).save(path)
    again = open_manifest(path)
    for name in table.schema.names:
        assert again.table[name].to_pylist() == [in_json(v) for v in table[name].to_pylist()]


@given(tables())
def test_any_table_survives_csv(tmp_path_factory: pytest.TempPathFactory, table: Any) -> None:
    path = tmp_path_factory.mktemp("any") / "i.csv"
    open_manifest(table).save(path)
    again = open_manifest(path)
    for name in table.schema.names:
        wanted = [in_csv(v) for v in table[name].to_pylist()]
        found = again.table[name].to_pylist()
        if pa.types.is_string(table[name].type) and not pa.types.is_string(again.table[name].type):
            # Texts that are all numbers or truth values: only their spelling may differ.
            assert all((v is None) == (w is None) for v, w in zip(found, wanted, strict=True))
            assert [w and spelled(w) for w in wanted] == [
                v if v is None else spelled(str(v)) for v in found
            ]
        elif pa.types.is_floating(table[name].type):
            np.testing.assert_array_equal(*(np.array(v, float) for v in (found, wanted)))
        else:
            assert found == wanted


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["007", "12"], ["007", "12"]),
        (["1", "-2"], [1, -2]),
        (["1", "2.5"], [1.0, 2.5]),
        (["1", "x"], ["1", "x"]),
        (["9223372036854775807", "1"], [9223372036854775807, 1]),
        (["9223372036854775808", "1"], ["9223372036854775808", "1"]),
        (["12345678901234567890.5", "1"], [12345678901234567890.5, 1.0]),
        (["true", "False"], [True, False]),
        (["2020-01-01", "2020-01-02"], ["2020-01-01", "2020-01-02"]),
        (["+1", "2"], ["+1", "2"]),
        (["nan", "1e-3"], [pytest.approx(math.nan, nan_ok=True), 0.001]),
        (['""', "x"], ["", "x"]),
        (["", "5"], [None, 5]),
    ],
)
def test_what_the_cells_of_a_csv_are(tmp_path: Path, texts: list[str], found: list[Any]) -> None:
    lines = [f"{i}.zarr,{text}" for i, text in enumerate(texts)]
    (tmp_path / "i.csv").write_text("\n".join(["zarr,x", *lines]), encoding="utf-8")
    assert open_manifest(tmp_path / "i.csv")["x"] == found
