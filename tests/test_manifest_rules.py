"""What a manifest must not hold, and who is told of which row."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from hfzarr.errors import (
    AmbiguousTargetError,
    HfzarrError,
    ReadError,
    StoreNotFoundError,
    TargetError,
)
from hfzarr.rows.cells import parse_cell, selection_type
from hfzarr.rows.columns import find_column
from hfzarr.rows.manifest import Manifest
from hfzarr.rows.opening import open_manifest
from hfzarr.rows.places import climbs, folder_of, join, scheme_of
from hfzarr.rows.rules import check_rows
from hfzarr.rows.scan import scan

HUB = "hf://datasets/user/name@main"


def check(cells: Any, base: str = "/data", **options: Any) -> None:
    array = cells if isinstance(cells, pa.Array) else pa.array(cells, pa.string())
    check_rows(array, base=base, row=lambda i: f"row {i} of 'x'", **options)


def write(folder: Path, text: str, name: str = "index.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# -- files


def test_a_missing_file(tmp_path: Path) -> None:
    for name in ("index.csv", "no/such.parquet", "a.txt"):
        with pytest.raises(StoreNotFoundError, match="there is no file"):
            open_manifest(tmp_path / name)
    with pytest.raises(StoreNotFoundError, match=r"no file or folder 'file:///.*/index.csv'"):
        open_manifest(f"file://{tmp_path}/index.csv")


@pytest.mark.parametrize("name", ["i.parquet", "i.csv", "i.jsonl", "i.tsv", "i.json", "i.txt"])
@pytest.mark.parametrize(
    "data", [b"", b"PAR1\x00\x01", b"\xff\xfe\x00a\xd8", b"{", b"[1, 2]", b"a"]
)
def test_a_file_of_another_kind(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(TargetError, match=f"{name}'"):
        open_manifest(tmp_path / name)


def test_a_parquet_file_cut_short(tmp_path: Path) -> None:
    pq.write_table(pa.table({"zarr": ["a.zarr"]}), tmp_path / "i.parquet")
    data = (tmp_path / "i.parquet").read_bytes()
    (tmp_path / "i.parquet").write_bytes(data[:-20])
    with pytest.raises(TargetError, match=r"'i.parquet' cannot be read as parquet: .*cut short"):
        open_manifest(tmp_path / "i.parquet")


def test_json_names_the_line(tmp_path: Path) -> None:
    path = write(tmp_path, '{"zarr": "a"}\n{"zarr": "b"}\n{"zarr": \n', "i.jsonl")
    with pytest.raises(TargetError, match=r"row 2 of 'i.jsonl' is not JSON"):
        open_manifest(path)
    path = write(tmp_path, '{"zarr": "a"}\n["zarr"]\n', "i.jsonl")
    with pytest.raises(TargetError, match=r"row 1 of 'i.jsonl' is \['zarr'\]"):
        open_manifest(path)
    path = write(tmp_path, '{"zarr": "a", "x": 1}\n{"zarr": "b", "x": "y"}\n', "i.jsonl")
    with pytest.raises(TargetError, match=r"column 'x' of 'i.jsonl' mixes kinds"):
        open_manifest(path)


@pytest.mark.parametrize("text", ["zarr,label\n", "zarr\n"])
def test_an_empty_table(tmp_path: Path, text: str) -> None:
    with pytest.raises(TargetError, match=r"'index.csv' is empty: its columns are .*no rows"):
        open_manifest(write(tmp_path, text))
    for source in ([], pa.table({"zarr": pa.array([], pa.string())}), {"zarr": []}):
        with pytest.raises(TargetError, match="is empty"):
            open_manifest(source)


def test_rows_of_different_length(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"row 1 of 'index.csv': 2 cells are wanted, 3 found"):
        open_manifest(write(tmp_path, "zarr,x\na,1\nb,2,3\n"))
    with pytest.raises(TargetError, match=r"differ in length: {'zarr': 2, 'x': 1}"):
        open_manifest({"zarr": ["a", "b"], "x": [1]})


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="several columns of the name 'x'"):
        open_manifest(write(tmp_path, "zarr,x,x\na,1,2\n"))


@pytest.mark.parametrize(
    "source", [3, None, b"index.csv", {"a": 1}, {}, object(), np.float64(1), ""]
)
def test_a_source_that_holds_no_rows(source: Any) -> None:
    with pytest.raises(TargetError):
        open_manifest(source)


def test_options_of_the_wrong_kind() -> None:
    with pytest.raises(TargetError, match="duplicates is 'raise' or 'keep', not 'drop'"):
        open_manifest(["a"], duplicates="drop")  # type: ignore[arg-type]
    with pytest.raises(TargetError, match="storage_options is a mapping"):
        open_manifest(["a"], storage_options=3)  # type: ignore[arg-type]


def test_cells_of_the_wrong_kind() -> None:
    with pytest.raises(TargetError, match=r"row 1 of 'list'.*this is a int"):
        open_manifest(["a.zarr", 3])
    with pytest.raises(TargetError, match=r"column 'x' of 'list' mixes kinds of values"):
        open_manifest([{"zarr": "a", "x": 1}, {"zarr": "b", "x": "y"}])
    with pytest.raises(TargetError, match=r"row 1 of 'list' is 'b.zarr', and a row is a mapping"):
        open_manifest([{"zarr": "a.zarr"}, "b.zarr"])


# -- the column


def test_the_column_is_found_by_mark_name_and_values() -> None:
    def found(**columns: Any) -> str:
        return open_manifest(columns).column

    assert found(label=["x"], zarr=["a"]) == "zarr"
    assert found(label=["x"], store=["a"]) == "store"
    assert found(label=["x"], Path=["a"]) == "Path"
    assert found(file_name=["a"], n=[1]) == "file_name"
    assert found(path=["a.png"], scan=["b.zarr"]) == "scan"
    assert found(path=["a.png"], url=["s3://b/b.ome.zarr"]) == "url"
    assert found(notes=["x"], volume=["b.zarr.zip"]) == "volume"
    assert found(notes=["x"], volume=["b.ozx"], image=["b.zarr/0"]) == "image"
    assert found(image=["a.zarr"], zarr=["b"]) == "zarr"
    assert found(n=[1, 2], patch=["a#n@0[1, 2:3]", "b#[0:1]"]) == "patch"
    assert found(notes=[None, "x"], volume=[None, "b.zarr"]) == "volume"


def test_several_columns_that_may_hold_stores() -> None:
    for names in (("left", "right"), ("zarr", "store"), ("path", "url")):
        columns = {name: [f"{name}.zarr"] for name in names}
        with pytest.raises(
            AmbiguousTargetError, match=r"'{}', '{}'. Choose with column=".format(*names)
        ):
            open_manifest(columns)
        assert open_manifest(columns, names[1]).column == names[1]


def test_no_column_that_holds_stores() -> None:
    with pytest.raises(
        TargetError, match=r"no column of 'table' holds stores: it has 'a' \(int64\), 'b'"
    ):
        open_manifest({"a": [1], "b": ["x"]})
    with pytest.raises(TargetError, match="'table' has no column 'zarr'; it has 'a'"):
        open_manifest({"a": ["x.zarr"]}, column="zarr")
    with pytest.raises(TargetError, match=r"column 'a' of 'table' holds int64"):
        open_manifest({"a": [1], "b": ["x.zarr"]}, column="a")
    with pytest.raises(TargetError, match="no column"):
        find_column(pa.table({"zarr": pa.array([{"bytes": b"", "path": ""}])}))


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_any_kind_of_text(kind: Any) -> None:
    table = pa.table({"zarr": pa.array(["/a.zarr", None, "/b.zarr"]).cast(kind)})
    manifest = open_manifest(table)
    assert manifest.stores == ("/a.zarr", None, "/b.zarr")
    assert manifest.table.schema.field("zarr").type == pa.string()


# -- rows


@pytest.mark.parametrize("bad", ["", " ", "\t"])
def test_an_empty_cell(bad: str) -> None:
    with pytest.raises(TargetError, match=r"^row 2 of 'list': the path .* is empty"):
        open_manifest(["a.zarr", None, bad])


@pytest.mark.parametrize("bad", ["a\x00b.zarr", "a\nb.zarr", "a\rb.zarr", "b.zarr\n"])
def test_an_unseen_mark(bad: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"zarr": ["a.zarr", bad]}), tmp_path / "i.parquet")
    with pytest.raises(
        TargetError, match=r"^row 1 of 'i.parquet': the path '.*' holds a line break"
    ):
        open_manifest(tmp_path / "i.parquet", trusted=True)


@pytest.mark.parametrize(
    "bad",
    ["../b.zarr", "a/../../b.zarr", "..", "..\\b", "%2e%2E/b", "./../b", "../b.zarr#n@0[0:1]"],
)
def test_a_path_that_climbs_out(tmp_path: Path, bad: str) -> None:
    path = write(tmp_path, f"zarr\na/../b\n{bad}\n")
    with pytest.raises(TargetError, match=r"^row 1 of 'index.csv': the path .* climbs out"):
        open_manifest(path)
    assert len(open_manifest(path, trusted=True)) == 2


def test_a_path_that_stays_inside(tmp_path: Path) -> None:
    path = write(tmp_path, "zarr\na/../b.zarr\nc/..d/e..zarr\n...\n")
    assert open_manifest(path).stores == tuple(
        str(tmp_path / name) for name in ("b.zarr", "c/..d/e..zarr", "...")
    )
    absolute = "/data/a/../../b.zarr"
    assert open_manifest([absolute]).stores == (absolute,)


def test_twins_name_both_rows(tmp_path: Path) -> None:
    path = write(tmp_path, "zarr\na\nb.zarr\nc\nb.zarr\na\n")
    both = r"^row 3 of 'index.csv' and row 1 of 'index.csv' both name 'b.zarr'.* duplicates='keep"
    with pytest.raises(TargetError, match=both):
        open_manifest(path)
    assert len(open_manifest(path, duplicates="keep")) == 5


@pytest.mark.parametrize(
    "other", ["./a.zarr", "a.zarr/", "x/../a.zarr", "/data/a.zarr", "x//../a.zarr"]
)
def test_twins_under_other_names(other: str) -> None:
    with pytest.raises(TargetError, match=r"row 2 of 'x' and row 1 of 'x'"):
        check(["b.zarr", "a.zarr", other, None, None])
    check(["b.zarr", "a.zarr", other], duplicates="keep")


def test_selections_are_twins_only_if_wholly_equal() -> None:
    first = {
        "path": "a",
        "node": "n",
        "level": "0",
        "start": [0, 1],
        "stop": [None, 7],
        "step": [1, 1],
    }
    others = [
        {**first, "path": "b"}, {**first, "node": "m"}, {**first, "level": "1"},
        {**first, "start": [0, 2]}, {**first, "stop": [7, None]}, {**first, "step": [1, 2]},
        {**first, "start": [0], "stop": [1], "step": [1]}, {**first, "stop": [17, None]},
    ]  # fmt: skip
    cells = pa.array([None, first, *others], selection_type())
    check(cells)
    check(cells[1:])
    with pytest.raises(TargetError, match=r"row 9 of 'x' and row 0 of 'x' both name 'a'"):
        check(pa.array([None, first, *others, first], selection_type())[1:])
    texts = ["a#[0:1]", "a#[0:2]", "a", "b#@0[1]"]
    check(texts)
    with pytest.raises(TargetError, match=r"row 4 of 'x' and row 1 of 'x'"):
        check([*texts, "./a#[0:2]"])


LOCAL = [
    "/etc/passwd",
    "~/a.zarr",
    "~user/a",
    "C:\\a.zarr",
    "c:/a",
    "C:a",
    "\\\\host\\a",
    "//host/a",
]
SCHEMES = [
    "file:///etc", "FILE:///etc", "local:///etc", "memory://a", "ftp://h/a", "sftp://h/a",
    "ssh://h/a", "smb://h/a", "github://o:r@/a", "zip://a.zip", "dir://a", "data://a", "ws://h/a",
    "reference://a",
]  # fmt: skip
CHAINS = [
    "simplecache::file:///etc", "zip://a::https://h/b", "s3://b::file:///a", "a::b", "::file:///a",
    "filecache::https://h/a", "blockcache::hf://datasets/a/b/c", "https://h/a::file:///etc",
]  # fmt: skip


@pytest.mark.parametrize("bad", [*LOCAL, *SCHEMES, *CHAINS])
@pytest.mark.parametrize("base", [HUB, "s3://bucket/data", "https://host/data"])
def test_what_a_table_from_elsewhere_may_not_open(bad: str, base: str) -> None:
    with pytest.raises(
        TargetError,
        match=rf"^row 1 of 'x': .*may not be opened by a table from {scheme_of(base)}://",
    ):
        check(["a.zarr", bad], base)
    with pytest.raises(TargetError, match="may not be opened"):
        check(["a.zarr", bad], "/data", origin=base)
    check(["a.zarr", bad], base, trusted=True)
    cell = {"path": bad, "node": "", "level": "", "start": [0], "stop": [1], "step": [1]}
    with pytest.raises(TargetError, match="may not be opened"):
        check(pa.array([cell], selection_type()), base)


@pytest.mark.parametrize("base", [HUB, "s3://bucket/data", "http://host/data"])
def test_what_a_table_from_elsewhere_may_open(base: str) -> None:
    schemes = [
        "hf",
        "https",
        "s3",
        "gs",
        "gcs",
        "az",
        "abfs",
        "abfss",
        "r2",
        "HTTPS",
        scheme_of(base),
    ]
    places = [f"{scheme}://place/{i}.zarr" for i, scheme in enumerate(schemes)]
    check([*places, "a.zarr", "b/c.zarr", "ab:c.zarr", "b/~c", "d/e:f", "x#n@0[1:2]", None], base)


@pytest.mark.parametrize("base", ["/data", "memory://data"])
def test_a_table_of_this_machine_may_open_anything(base: str) -> None:
    check([*LOCAL, *SCHEMES, *CHAINS], base)


@given(
    st.text(st.sampled_from("aC:/\\~.#@[]% 2eé"), max_size=8),
    st.sampled_from([HUB, "s3://b/d", "https://h/d"]),
)
def test_whatever_passes_stays_where_it_may(text: str, base: str) -> None:
    """What passes the rules opens below its base, or by a protocol that is allowed."""
    try:
        check([text], base)
    except TargetError:
        return
    place = parse_cell(text, base=base)
    url = getattr(place, "url", None) or place.handle.url
    assert url.startswith(f"{base}/") or url == base, (text, url)


@given(st.text(st.sampled_from("ab./\\"), max_size=8))
def test_what_does_not_climb_stays_below_its_folder(text: str) -> None:
    if not climbs(text) and not text.startswith(("/", "\\")):
        assert join("/data/x", text) == "/data/x" or join("/data/x", text).startswith("/data/x/")
        assert join("s3://d/x", text) == "s3://d/x" or join("s3://d/x", text).startswith(
            "s3://d/x/"
        )


def test_places() -> None:
    assert scheme_of("zip://a::s3://b/c.zip") == "s3"
    assert scheme_of("simplecache::HTTPS://h/a") == "https"
    assert scheme_of("C:\\a") == scheme_of("a/b") == ""
    assert folder_of("zip://d/index.csv::s3://b/c.zip") == "zip://d::s3://b/c.zip"
    assert join("zip://d::s3://b/c.zip", "a.zarr") == "zip://d/a.zarr::s3://b/c.zip"
    assert folder_of("memory://index.csv") == "memory://"
    assert folder_of("s3://b/d/i.csv") == "s3://b/d"
    assert folder_of("https://h/d/i.csv?a=b/c#d/e") == "https://h/d"


# -- many rows


def test_many_rows_are_checked_at_once() -> None:
    """Row by row in Python this would take half a minute."""
    count = 300_000
    rng = np.random.default_rng(0)
    names = pa.array([f"images/{i}.zarr" for i in rng.permutation(count)])
    table = pa.table({"zarr": names, "label": np.arange(count)})
    start = time.process_time()
    manifest = open_manifest(table)
    assert len(manifest.stores) == count
    assert len(manifest[::2]) == count // 2
    assert time.process_time() - start < 20
    bad = pa.concat_arrays([names, pa.array(["../x.zarr"])])
    with pytest.raises(HfzarrError, match=f"row {count} of 'table'"):
        open_manifest(pa.table({"zarr": bad}))


def test_errors_are_of_a_kind_that_others_catch(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_manifest(tmp_path / "no.csv")
    with pytest.raises(ValueError, match="empty"):
        open_manifest([])
    assert issubclass(ReadError, OSError)


# -- another column than the one that was checked


def test_a_column_that_is_chosen_later_is_checked_too() -> None:
    table = pa.table({"zarr": ["a.zarr"], "mask": ["file:///etc/b.zarr"]})
    manifest = Manifest(table, "zarr", base=HUB)
    with pytest.raises(TargetError, match=r"row 0 of .*file:///etc"):
        open_manifest(manifest, column="mask")
    assert open_manifest(manifest, column="mask", trusted=True).column == "mask"


def test_metadata_of_one_column_is_not_taken_for_other_stores(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "images" / "a.zarr", data=np.full((2, 2), 7, "int16"))
    zarr.create_array(tmp_path / "mask.zarr", data=np.full((2, 2), 40000, "uint16"))
    scanned = scan(tmp_path / "images", metadata=True)
    table = scanned.to_arrow().append_column("mask", pa.array([str(tmp_path / "mask.zarr")]))
    saved = tmp_path / "masks.parquet"
    masks = open_manifest(open_manifest(table), column="mask")
    masks.save(saved)
    for source in (table, table.to_pandas(), open_manifest(table, column="zarr"), saved):
        row = open_manifest(source, column="mask")[0]
        assert row["mask"].dtype == np.uint16
        assert row["mask"][0, 0] == 40000
        assert row["other_metadata"] == scanned["zarr_metadata"][0]
    assert open_manifest(table, column="zarr")[0]["zarr"].metadata == scanned["zarr_metadata"][0]


# -- texts that are nearly a table


def test_a_csv_without_a_header(tmp_path: Path) -> None:
    for text in ("a.zarr,x\nb c.zarr,y\n", "s3://bucket/a,x\ns3://bucket/b,y\n", "a.zarr\n"):
        with pytest.raises(TargetError, match=r"'index.csv' begins with '.*a line with the names"):
            open_manifest(write(tmp_path, text))
    assert len(open_manifest(write(tmp_path, "zarr,b.zarr\na.zarr,3\n"))) == 1


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_csv_with_another_separator(tmp_path: Path, separator: str) -> None:
    text = f"zarr{separator}label\na,b.zarr{separator}1\n"
    manifest = open_manifest(write(tmp_path, text))
    assert (manifest.table["zarr"].to_pylist(), manifest["label"]) == (["a,b.zarr"], [1])


@pytest.mark.parametrize("name", ["i.csv", "i.tsv", "i.jsonl"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le"])
def test_other_encodings_are_named(tmp_path: Path, name: str, encoding: str) -> None:
    text = '{"zarr": "ü.zarr"}\n' if name == "i.jsonl" else "zarr\nü.zarr\n"
    (tmp_path / name).write_bytes(text.encode(encoding))
    with pytest.raises(TargetError, match=rf"'{name}' .*UTF-8"):
        open_manifest(tmp_path / name)


def test_a_quote_that_is_not_closed(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"row 1 of 'index.csv' opens a quote .* never closed"):
        open_manifest(write(tmp_path, 'zarr,x\na.zarr,"1\n2"\nb.zarr,"3\nc.zarr,4\n'))
    with pytest.raises(TargetError, match=r"row 0 of 'index.csv': 2 cells are wanted, 1 found"):
        open_manifest(write(tmp_path, 'zarr,x\n"a.zarr,1\nb.zarr,3\n'))
    manifest = open_manifest(write(tmp_path, 'zarr,x\na.zarr,"1\n2"\n'))
    assert manifest["x"] == ["1\n2"]


# -- options and keys of another kind


@pytest.mark.parametrize("options", [{"split": ""}, {"split": 3}, {"column": 3}, {"trusted": "no"}])
def test_options_of_another_kind(options: dict[str, Any]) -> None:
    with pytest.raises(TargetError, match=f"{next(iter(options))}= is"):
        open_manifest(["a.zarr"], **options)


def test_a_truth_value_is_no_row() -> None:
    manifest = open_manifest(["a.zarr", "b.zarr"])
    for key in (True, np.bool_(True)):
        with pytest.raises(TargetError, match="rows are chosen by an integer"):
            manifest[key]
    assert len(manifest[[True, False]]) == 1


def test_a_pattern_of_stores_is_sent_to_scan(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "a.zarr"), shape=(2,), dtype="uint8")
    with pytest.raises(StoreNotFoundError, match=r"hfzarr\.scan\(\)"):
        open_manifest(str(tmp_path / "*.zarr"))


# -- saving


@pytest.mark.parametrize("path", [None, 3, b"index.csv", ["index.csv"]])
def test_a_path_of_another_kind(path: Any) -> None:
    with pytest.raises(TargetError, match="a manifest is saved to a"):
        open_manifest(["a.zarr"]).save(path)


def test_no_file_is_put_into_a_store(tmp_path: Path) -> None:
    zarr.create_group(str(tmp_path / "a.zarr")).create_array("x", shape=(2,), dtype="uint8")
    for place in ("a.zarr/index.csv", "a.zarr/x/new/index.csv"):
        with pytest.raises(TargetError, match=r"would lie in the Zarr store"):
            open_manifest(["b.zarr"]).save(tmp_path / place)
    open_manifest(["b.zarr"]).save(tmp_path / "new" / "index.csv")
    assert (tmp_path / "new" / "index.csv").exists()


@pytest.mark.parametrize("name", ["i.csv", "i.jsonl", "i.parquet"])
def test_what_no_manifest_opens_is_not_saved(tmp_path: Path, name: str) -> None:
    manifest = Manifest(pa.table({"zarr": ["a.zarr", "new\nline.zarr"]}), "zarr")
    with pytest.raises(TargetError, match=r"row 1 of what is saved: .*line break"):
        manifest.save(tmp_path / name)
    assert not (tmp_path / name).exists()


def test_a_column_of_maps(tmp_path: Path) -> None:
    maps = pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64()))
    manifest = open_manifest(pa.table({"zarr": ["a.zarr", "b.zarr"], "more": maps}))
    manifest.save(tmp_path / "i.jsonl")
    assert open_manifest(tmp_path / "i.jsonl")["more"] == [[{"key": "k", "value": 1}], None]


# -- words from elsewhere


def test_words_from_elsewhere_are_answered() -> None:
    manifest = open_manifest(["a.zarr"])
    with pytest.raises(AttributeError, match=r"'to_values'; here it is manifest\['column'\]"):
        manifest.to_values("zarr")
    with pytest.raises(AttributeError, match=r"no attribute 'xyz'$"):
        manifest.xyz  # noqa: B018
    assert not hasattr(manifest, "to_values")
