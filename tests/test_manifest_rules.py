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

from hfzarr.errors import (
    AmbiguousTargetError,
    HfzarrError,
    ReadError,
    StoreNotFoundError,
    TargetError,
)
from hfzarr.rows.cells import parse_cell, selection_type
from hfzarr.rows.columns import find_column
from hfzarr.rows.opening import open_manifest
from hfzarr.rows.places import climbs, folder_of, join, scheme_of
from hfzarr.rows.rules import check_rows

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
    with pytest.raises(TargetError, match=r"'index.csv' is empty: it has \d columns and no rows"):
        open_manifest(write(tmp_path, text))
    for source in ([], pa.table({"zarr": pa.array([], pa.string())}), {"zarr": []}):
        with pytest.raises(TargetError, match="is empty"):
            open_manifest(source)


def test_rows_of_different_length(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"'index.csv' cannot be read as csv: .*Expected 2 col"):
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
    with pytest.raises(TargetError, match="no column of 'table' holds stores: it has 'a', 'b'"):
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
