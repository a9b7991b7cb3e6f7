"""Rows of a manifest as one lazy Dataset: its pixels are those that zarr-python reads of each."""

from __future__ import annotations

import asyncio
import json
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import assume, given
from hypothesis import strategies as st

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq

import hfzarr
from hfzarr.errors import (
    AmbiguousTargetError,
    ChangedSourceError,
    HfzarrError,
    InvalidMetadataError,
    ReadError,
    StoreNotFoundError,
    TargetError,
)
from hfzarr.run.pool import for_each_waiting
from servers import http_server, s3_server
from stores import climate, ome_attrs, write_cf, write_image, write_plate, zip_folder

SHAPE, CHUNKS, COUNT = (2, 7, 6), (1, 3, 4), 4
WAYS = ("bare", "facts", "carried", "mixed")


def stack(target: Any, **options: Any) -> xr.Dataset:
    return xr.open_dataset(target, engine="hfzarr", **options)


def write(
    folder: Path,
    number: int = 0,
    *,
    shape: tuple[int, ...] = SHAPE,
    dims: str = "cyx",
    dtype: str = "uint16",
    levels: int = 2,
) -> str:
    """Write an image whose every pixel tells its row and place."""
    scale = [{"type": "scale", "scale": [1.0 if d == "c" else 0.5 for d in dims]}]
    axes = [{"name": d, "type": "channel" if d == "c" else "space"} for d in dims]
    levels_of = [
        {"path": str(i), "coordinateTransformations": [
            {"type": "scale", "scale": [s * (2**i if d != "c" else 1)
                                        for s, d in zip(scale[0]["scale"], dims, strict=True)]}]}
        for i in range(levels)
    ]  # fmt: skip
    attrs = ome_attrs({"multiscales": [{"axes": axes, "datasets": levels_of}]}, 3)
    group = zarr.create_group(str(folder), attributes=attrs)
    for level in range(levels):
        small = tuple(
            n if d == "c" else -(-n // 2**level) for n, d in zip(shape, dims, strict=True)
        )
        array = group.create_array(
            str(level),
            shape=small,
            dtype=dtype,
            chunks=CHUNKS[-len(small) :],
            dimension_names=list(dims),
        )
        array[...] = (np.arange(np.prod(small)).reshape(small) + 1000 * number).astype(dtype)
    return str(folder)


def raw(path: str | Path, node: str = "0") -> np.ndarray:
    """Return what zarr-python reads."""
    return np.asarray(zarr.open_array(f"{path}/{node}", mode="r")[...])


def tables(folder: Path) -> dict[str, Any]:
    """Return manifests of a folder of stores, by how much they say of each."""
    carried = hfzarr.scan(folder, metadata=True).to_arrow()
    bare = carried.select(["zarr"])
    rows = carried.to_pylist()
    mixed = [
        row if i % 3 == 0 else {k: v for k, v in row.items() if i % 3 == 1 and k != "zarr_metadata"}
        for i, row in enumerate(rows)
    ]
    mixed = [{**said, "zarr": row["zarr"]} for said, row in zip(mixed, rows, strict=True)]
    return {
        "bare": bare,
        "facts": carried.drop_columns(["zarr_metadata"]),
        "carried": carried,
        "mixed": pa.Table.from_pylist(mixed, schema=carried.schema),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stack")
    for i in range(COUNT):
        write(folder / "images" / f"{i}.zarr", i)
    return folder


@pytest.fixture(scope="module")
def pixels(folder: Path) -> np.ndarray:
    return np.stack([raw(folder / "images" / f"{i}.zarr") for i in range(COUNT)])


@pytest.fixture(scope="module")
def tabled(folder: Path) -> dict[str, Any]:
    return tables(folder / "images")


@pytest.fixture(scope="module")
def stacked(tabled: dict[str, Any]) -> dict[str, xr.Dataset]:
    return {way: stack(table) for way, table in tabled.items()}


# -- pixels


def parts(n: int) -> st.SearchStrategy[Any]:
    """Return a strategy of what an axis of length ``n`` may be indexed by."""
    bounds = st.none() | st.integers(-n - 2, n + 2)
    steps = st.none() | st.integers(-4, 4).filter(bool)
    places = st.integers(-n, n - 1)
    # xarray itself trips over a slice backwards that holds nothing.
    slices = st.builds(slice, bounds, bounds, steps).filter(
        lambda some: (some.step or 1) > 0 or len(range(n)[some])
    )
    return st.one_of(
        places,
        slices,
        st.lists(places, max_size=n + 2).map(lambda some: np.array(some, dtype=int)),
        st.lists(st.booleans(), min_size=n, max_size=n).map(lambda some: np.array(some, bool)),
    )


def outer(values: np.ndarray, key: tuple[Any, ...]) -> np.ndarray:
    """Index each axis by itself."""
    for axis in reversed(range(len(key))):
        values = values[(slice(None),) * axis + (key[axis],)]
    return values


@given(
    way=st.sampled_from(WAYS),
    key=st.tuples(*(parts(n) for n in (COUNT, *SHAPE))),
    further=st.data(),
)
def test_any_outer_indexing_is_that_of_the_rows_stacked(stacked, pixels, way, key, further):
    found = stacked[way]["image"].isel(dict(zip(("row", *"cyx"), key, strict=True)))
    wanted = outer(pixels, key)
    if found.ndim and min(found.shape) and further.draw(st.booleans()):
        # Indexed again before anything is read.
        again = tuple(further.draw(parts(n)) for n in found.shape)
        backwards = any(isinstance(part, slice) and (part.step or 1) < 0 for part in key)
        old = xr.__version__.startswith("2025.")
        # xarray 2025 counts from the wrong end of a slice that goes backwards.
        assume(not (old and backwards and any(isinstance(part, np.ndarray) for part in again)))
        found, wanted = found[dict(zip(found.dims, again, strict=True))], outer(wanted, again)
    assert found.dtype == pixels.dtype
    np.testing.assert_array_equal(found.values, wanted)


@given(data=st.data())
def test_points_are_those_of_the_rows_stacked(stacked, pixels, data):
    count = data.draw(st.integers(1, 5))
    some = [
        data.draw(st.lists(st.integers(0, n - 1), min_size=count, max_size=count))
        for n in pixels.shape
    ]
    key = {dim: ("point", one) for dim, one in zip(("row", *"cyx"), some, strict=True)}
    found = stacked["facts"]["image"].isel(key)
    np.testing.assert_array_equal(found.values, pixels[tuple(np.array(one) for one in some)])


@pytest.mark.parametrize("way", WAYS)
def test_what_a_manifest_says_of_its_rows_changes_no_pixel_and_no_coordinate(tabled, pixels, way):
    found = stack(tabled[way])
    assert found["image"].dims == ("row", "c", "y", "x")
    np.testing.assert_array_equal(found["image"].values, pixels)
    np.testing.assert_array_equal(found["y"].values, np.arange(7) * 0.5)
    assert found["zarr"].dims == ("row",)
    assert [Path(text).name for text in found["zarr"].values] == [f"{i}.zarr" for i in range(COUNT)]


SOURCES = {
    "parquet": lambda m, f: (m.save(f / "i.parquet"), str(f / "i.parquet"))[1],
    "path": lambda m, f: (m.save(f / "j.parquet"), f / "j.parquet")[1],
    "csv": lambda m, f: (m.save(f / "i.csv"), str(f / "i.csv"))[1],
    "tsv": lambda m, f: (m.save(f / "i.tsv"), str(f / "i.tsv"))[1],
    "jsonl": lambda m, f: (m.save(f / "i.jsonl"), str(f / "i.jsonl"))[1],
    "manifest": lambda m, f: m,
    "table": lambda m, f: m.to_arrow(),
    "batch": lambda m, f: m.to_arrow().combine_chunks().to_batches()[0],
    "frame": lambda m, f: m.to_pandas(),
    "rows": lambda m, f: m.to_arrow().to_pylist(),
    "texts": lambda m, f: list(m.stores),
    "paths": lambda m, f: tuple(Path(text) for text in m.stores),
    "handles": lambda m, f: m.handles(),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_kind_of_manifest(folder, pixels, source):
    manifest = hfzarr.scan(folder / "images")
    found = stack(SOURCES[source](manifest, folder))
    np.testing.assert_array_equal(found["image"].values, pixels)
    np.testing.assert_array_equal(found["x"].values, np.arange(6) * 0.5)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_dataset_of_datasets(folder, pixels, streaming):
    datasets = pytest.importorskip("datasets")
    rows = hfzarr.scan(folder / "images").to_arrow().select(["zarr"]).to_pylist()
    whole = datasets.Dataset.from_list([{**row, "label": i} for i, row in enumerate(rows)])
    given = whole.to_iterable_dataset() if streaming else whole
    found = stack(given)
    np.testing.assert_array_equal(found["image"].values, pixels)
    assert found["label"].values.tolist() == list(range(COUNT))
    both = datasets.DatasetDict({"a": whole.select(range(1)), "b": whole.select(range(1, COUNT))})
    assert stack(both, split="b")["label"].values.tolist() == [1, 2, 3]
    assert stack(both)["split"].values.tolist() == ["a", "b", "b", "b"]


def test_column_split_and_options_of_manifests_are_refused_elsewhere(folder):
    store = str(folder / "images" / "0.zarr")
    rows = {"a": [store] * COUNT, "b": hfzarr.scan(folder / "images").stores, "split": list("uvuv")}
    found = stack(pa.table(rows), column="b", split="v")
    assert [Path(text).name for text in found["b"].values] == ["1.zarr", "3.zarr"]
    for option in ({"column": "b"}, {"split": "v"}, {"pad": True}, {"trusted": True}):
        with pytest.raises(TargetError, match=f"{next(iter(option))}= is for a manifest"):
            stack(store, **option)


@pytest.mark.parametrize("way", ["bare", "facts"])
@pytest.mark.parametrize("level", [0, 1, -1, -2, "1"])
def test_a_level_of_every_row(tabled, folder, way, level):
    found = stack(tabled[way], level=level)
    node = {0: "0", -2: "0"}.get(level, "1")
    wanted = [raw(folder / "images" / f"{i}.zarr", node) for i in range(COUNT)]
    np.testing.assert_array_equal(found["image"].values, np.stack(wanted))
    assert float(found["y"][1]) == 0.5 * 2 ** int(node)


def test_an_image_and_a_group_of_every_row(tmp_path, tabled, folder):
    assert stack(tabled["facts"], image=0)["image"].shape == (COUNT, *SHAPE)
    with pytest.raises(HfzarrError, match=r"row 0 of .*no image 9"):
        stack(tabled["facts"], image=9)
    for i in range(2):
        write_image(tmp_path / f"{i}.zarr")
    labels = stack(hfzarr.scan(tmp_path), group="labels/nuclei", level=-1)["labels"]
    assert (labels.dims, labels.shape) == (("row", "z", "y", "x"), (2, 4, 8, 12))
    np.testing.assert_array_equal(labels[1].values, raw(tmp_path / "1.zarr/labels/nuclei", "2"))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_groups_of_several_variables_are_decoded_each(tmp_path, zarr_format):
    for i in range(2):
        write_cf(tmp_path / f"{i}.zarr", zarr_format=zarr_format)
    found, alone = stack(hfzarr.scan(tmp_path)), stack(tmp_path / "1.zarr")
    assert set(found.data_vars) == set(alone.data_vars) == {"air", "code", "flags", "lag", "site"}
    for name in alone.data_vars:
        assert found[name].dims == ("row", *alone[name].dims)
        assert found[name].dtype == alone[name].dtype
        assert found[name].attrs == alone[name].attrs
        np.testing.assert_array_equal(found[name][1].values, alone[name].values)
    assert np.isnan(found["air"].values).sum() == 2
    np.testing.assert_array_equal(found["time"].values, climate()["time"].values)
    packed = stack(hfzarr.scan(tmp_path), mask_and_scale=False)["air"]
    assert packed.dtype == np.int16


def test_zips_stack(folder, pixels, tmp_path):
    for i in range(COUNT):
        zip_folder(folder / "images" / f"{i}.zarr", tmp_path / f"{i}.zarr.zip")
    for metadata in (False, True):
        found = stack(hfzarr.scan(tmp_path, metadata=metadata))
        np.testing.assert_array_equal(found["image"].values, pixels)


def test_plates_have_a_row_of_their_own(tmp_path):
    for i in range(2):
        write_plate(tmp_path / f"{i}.zarr")
    with pytest.raises(AmbiguousTargetError, match=r"have a 'row' of their own.*open_datatree"):
        stack(hfzarr.scan(tmp_path))
    assert stack(hfzarr.scan(tmp_path), group="A/1/0").sizes["row"] == 2
    tree = xr.open_datatree(hfzarr.scan(tmp_path), engine="hfzarr")
    assert list(tree.children) == ["0", "1"]


def test_selections_stack(folder, pixels):
    handles = hfzarr.scan(folder / "images").handles()
    rows = [{"patch": h.select(y=slice(i, i + 3), x=[0, 2, 4][i % 3]), "label": i}
            for i, h in enumerate(handles)]  # fmt: skip
    found = stack(rows)
    assert found["image"].dims == ("row", "c", "y")
    wanted = [pixels[i, :, i : i + 3, [0, 2, 4][i % 3]] for i in range(COUNT)]
    np.testing.assert_array_equal(found["image"].values, np.stack(wanted))
    # Where each lies is told, as they lie apart.
    np.testing.assert_array_equal(found["y_offset"].values, np.arange(COUNT) * 0.5)
    np.testing.assert_array_equal(found["y"].values, np.arange(3) * 0.5)
    uneven = [{"patch": h.select(y=slice(0, i + 1))} for i, h in enumerate(handles)]
    with pytest.raises(AmbiguousTargetError, match="pad=True"):
        stack(uneven)
    padded = stack(uneven, pad=True)
    assert padded["y_length"].values.tolist() == [1, 2, 3, 4]
    for i in range(COUNT):
        np.testing.assert_array_equal(padded["image"][i, :, : i + 1], pixels[i, :, : i + 1])
        assert not padded["image"][i, :, i + 1 :].any()


# -- rows that differ in length


PADDED = {
    "int": ("int16", lambda n: np.arange(1, n + 1), 0),
    "uint": ("uint64", lambda n: np.full(n, 2**64 - 1, "uint64"), 0),
    "bool": ("bool", lambda n: np.ones(n, bool), False),
    "float": ("float32", lambda n: np.arange(n) / 3, np.nan),
    "complex": ("complex64", lambda n: np.arange(n) + 1j, np.nan),
    "time": ("datetime64[ns]", lambda n: np.datetime64("2001-01-01", "ns") + np.arange(n), "NaT"),
    "span": ("timedelta64[ns]", lambda n: np.arange(n).astype("timedelta64[ns]"), "NaT"),
    "text": ("U3", lambda n: np.array([f"t{i}" for i in range(n)]), ""),
}
LENGTHS = ((3, 5), (1, 6), (4, 2))


def grids(kind: str) -> list[np.ndarray]:
    dtype, make, _ = PADDED[kind]
    return [np.asarray(make(a * b)).astype(dtype).reshape(a, b) for a, b in LENGTHS]


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """Return groups whose rows have arrays of differing lengths, of every kind."""
    folder = tmp_path_factory.mktemp("uneven")
    for i in range(len(LENGTHS)):
        cubes = {kind: (("y", "x"), grids(kind)[i]) for kind in PADDED}
        xr.Dataset(cubes).to_zarr(folder / f"{i}.zarr", zarr_format=2)
    return stack(hfzarr.scan(folder), pad=True)


@given(kind=st.sampled_from(sorted(PADDED)), key=st.tuples(parts(3), parts(4), parts(6)))
def test_padded_rows_are_those_of_numpy_pad(uneven, kind, key):
    fill = PADDED[kind][2]
    wanted = np.stack(
        [
            np.pad(one, [(0, 4 - one.shape[0]), (0, 6 - one.shape[1])], constant_values=fill)
            if kind != "text"
            else np.array([[one[i, j] if i < one.shape[0] and j < one.shape[1] else ""
                            for j in range(6)] for i in range(4)])
            for one in grids(kind)
        ]
    )  # fmt: skip
    found = uneven[kind].isel(row=key[0], y=key[1], x=key[2]).values
    np.testing.assert_array_equal(found, outer(wanted, key))
    assert found.dtype.kind == np.dtype(PADDED[kind][0]).kind


def test_lengths_of_padded_rows_are_told(uneven):
    assert uneven["y_length"].values.tolist() == [3, 1, 4]
    assert uneven["x_length"].values.tolist() == [5, 6, 2]
    assert uneven.sizes == {"row": 3, "y": 4, "x": 6}


# -- what is opened


_OPENS = """
import json, sys
import xarray as xr, hfzarr, hfzarr.faces.stacking, hfzarr.rows.opening, pyarrow.parquet
touched, on = [], False
def hook(event, arguments):
    if on and event in ("open", "os.scandir", "os.listdir", "os.stat", "socket.connect"):
        touched.append((event, str(arguments[0])))
sys.addaudithook(hook)
manifest = hfzarr.open_manifest(sys.argv[1])
xr.open_dataset(manifest, engine="hfzarr")
on = True
found = xr.open_dataset(manifest, engine="hfzarr", **json.loads(sys.argv[2]))
on = False
print(json.dumps([dict(found.sizes), [one for one in touched if ".zarr" in one[1]]]))
"""


def opened(index: Path, **options: Any) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return the sizes of a stacked manifest, and which stores' files were touched for it."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _OPENS, str(index), json.dumps(options)],
        capture_output=True,
        text=True,
        check=True,
    )
    sizes, touched = json.loads(run.stdout)
    return sizes, touched


@pytest.mark.parametrize("options", [{}, {"level": 1}])
def test_rows_that_carry_their_metadata_open_no_store(folder, tmp_path, options):
    one = hfzarr.scan(folder / "images", metadata=True).to_arrow().slice(0, 1)
    rows = one.to_pylist() * 300
    table = pa.Table.from_pylist(
        [{**row, "zarr": f"nowhere/{i}.zarr", "label": i} for i, row in enumerate(rows)],
        schema=one.schema.append(pa.field("label", pa.int64())),
    )
    # The stores are not there at all.
    pq.write_table(table, tmp_path / "index.parquet")
    found, touched = opened(tmp_path / "index.parquet", **options)
    assert found == {"row": 300, "c": 2, "y": 7 if not options else 4, "x": 6 if not options else 3}
    assert touched == []
    stacked = stack(tmp_path / "index.parquet", **options)
    with pytest.raises(StoreNotFoundError, match=r"row 217 of 'index.parquet'"):
        stacked["image"][217].load()


def test_the_hook_sees_what_is_opened(folder, tmp_path):
    hfzarr.scan(folder / "images").save(tmp_path / "index.parquet")
    _, touched = opened(tmp_path / "index.parquet")
    # Of rows with facts, the first is opened to see whether they are true.
    assert {Path(name).relative_to(folder / "images").parts[0] for _, name in touched} == {"0.zarr"}


def asked_of(asked: list[str]) -> Counter[str]:
    return Counter(path.split("/")[2] for path in asked if path.startswith("/images/"))


def test_requests_over_http(folder, pixels, tabled):
    for way in WAYS:
        pq.write_table(
            tabled[way].set_column(0, "zarr", pa.array([f"images/{i}.zarr" for i in range(COUNT)])),
            folder / f"{way}.parquet",
        )
    stacked = {"carried": [], "facts": ["0.zarr"], "mixed": ["2.zarr"],
               "bare": [f"{i}.zarr" for i in range(COUNT)]}  # fmt: skip
    with http_server(folder) as (url, asked):
        for way, wanted in stacked.items():
            asked.clear()
            found = stack(f"{url}/{way}.parquet")
            assert sorted(asked_of(asked)) == wanted, way
            asked.clear()
            # Two chunks of one row; metadata of this row alone, where it is not carried.
            np.testing.assert_array_equal(found["image"][3, :, 0, 0].values, pixels[3, :, 0, 0])
            chunks = [path for path in asked if "/c/" in path]
            assert sorted(chunks) == [f"/images/3.zarr/0/c/{c}/0/0" for c in range(2)]
            assert set(asked_of(asked)) == {"3.zarr"}
            assert way != "carried" or len(asked) == 2
            asked.clear()
            found["image"][3, :, 0, 0].load()
            assert len(asked) == 2


def test_a_remote_store_that_is_gone_gives_no_pixels(folder, tabled, tmp_path):
    shutil.copytree(folder / "images", tmp_path / "images")
    names = pa.array([f"images/{i}.zarr" for i in range(COUNT)])
    pq.write_table(tabled["carried"].set_column(0, "zarr", names), tmp_path / "index.parquet")
    shutil.rmtree(tmp_path / "images" / "2.zarr")
    with http_server(tmp_path) as (url, _):
        found = stack(f"{url}/index.parquet")["image"]
        assert found[1].values.any()
        with pytest.raises(StoreNotFoundError, match=r"^row 2 of 'index.parquet'"):
            found.load()


def test_a_manifest_from_elsewhere_opens_nothing_of_this_machine(folder, pixels, tmp_path):
    stores = pa.array([str(folder / "images" / f"{i}.zarr") for i in range(COUNT)])
    pq.write_table(pa.table({"zarr": stores}), tmp_path / "index.parquet")
    with http_server(tmp_path) as (url, _):
        for way in (stack, lambda target: xr.open_datatree(target, engine="hfzarr")):
            with pytest.raises(TargetError, match="row 0 of"):
                way(f"{url}/index.parquet")
        found = stack(f"{url}/index.parquet", trusted=True)
        np.testing.assert_array_equal(found["image"].values, pixels)


def test_a_manifest_that_is_not_there(tmp_path):
    for name in ("none.parquet", "none.csv", "none.jsonl"):
        with pytest.raises(StoreNotFoundError, match="none"):
            stack(tmp_path / name)


def test_each_chunk_is_asked_for_once_for_batches(folder, pixels):
    hfzarr.scan(folder / "images", metadata=True).save(folder / "index.parquet")
    with http_server(folder) as (url, asked):
        found = stack(f"{url}/index.parquet")
        seen = np.zeros_like(pixels)
        asked.clear()
        for batch in found.hfzarr.batches(3, {"row": 1, "y": 3, "x": 3}, shuffle=True, seed=0):
            for start, patch in zip(batch["start"], batch["image"], strict=True):
                row, y, x = (int(n) for n in start)
                seen[row : row + 1, :, y : y + 3, x : x + 3] = patch
        np.testing.assert_array_equal(seen[:, :, :6], pixels[:, :, :6])
        chunks = Counter(path for path in asked if "/c/" in path)
    assert set(chunks.values()) == {1}
    assert len(chunks) == COUNT * 2 * 2 * 2


def test_rows_on_s3(folder, pixels):
    fsspec = pytest.importorskip("fsspec")
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    with s3_server() as options:
        files = fsspec.filesystem("s3", **options)
        files.mkdir("rows-of-stores")
        files.put(f"{folder / 'images'}/", "rows-of-stores/images/", recursive=True)
        place = "s3://rows-of-stores/images"
        manifest = hfzarr.scan(place, metadata=True, storage_options=options)
        np.testing.assert_array_equal(stack(manifest)["image"].values, pixels)
        texts = [f"{place}/{i}.zarr" for i in range(COUNT)]
        found = stack(texts, storage_options=options)
        np.testing.assert_array_equal(found["image"][::-1].values, pixels[::-1])
        assert found["zarr"].values.tolist() == texts


# -- rows that are not what they were


@pytest.fixture
def changing(tmp_path):
    """Return a folder of three images that were scanned, and their manifest."""
    for i in range(3):
        write(tmp_path / f"{i}.zarr", i, shape=(2, 6, 6))
    return tmp_path, hfzarr.scan(tmp_path)


CHANGES = {
    "shape": {"shape": (2, 6, 5)},
    "dtype": {"dtype": "int16"},
    "rank": {"shape": (6, 6), "dims": "yx"},
    "axes": {"shape": (2, 6, 6), "dims": "cxy"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_store_that_changed_since_the_scan_gives_no_pixels(changing, change):
    folder, manifest = changing
    shutil.rmtree(folder / "1.zarr")
    write(folder / "1.zarr", 1, **{"shape": (2, 6, 6), **CHANGES[change]})
    found = stack(manifest)
    with pytest.raises(ChangedSourceError, match=r"row 1 of .*scan"):
        found["image"].load()
    with pytest.raises(ChangedSourceError, match=r"row 1 of"):
        found["image"][1, 0, 0, 0].load()
    # The other rows are what they were.
    np.testing.assert_array_equal(found["image"][2].values, raw(folder / "2.zarr"))


def test_pixel_sizes_that_changed_since_the_scan(changing):
    folder, manifest = changing
    document = json.loads((folder / "1.zarr/zarr.json").read_text())
    level = document["attributes"]["ome"]["multiscales"][0]["datasets"][0]
    level["coordinateTransformations"][0]["scale"] = [1.0, 0.7, 0.7]
    (folder / "1.zarr/zarr.json").write_text(json.dumps(document))
    with pytest.raises(ChangedSourceError, match="row 1 of"):
        stack(manifest)["image"].load()


def test_the_first_row_is_believed_rather_than_the_manifest(changing):
    folder, manifest = changing
    shutil.rmtree(folder / "0.zarr")
    write(folder / "0.zarr", 0, shape=(2, 6, 5))
    with pytest.raises(AmbiguousTargetError, match=r"'x': 5.*row 0[\s\S]*'x': 6.*2 rows"):
        stack(manifest)


BREAKS = {
    "gone": (shutil.rmtree, StoreNotFoundError),
    "root": (lambda store: (store / "zarr.json").write_text("{"), InvalidMetadataError),
    "array": (lambda store: (store / "0" / "zarr.json").write_text("{"), InvalidMetadataError),
    "chunk": (lambda store: (store / "0/c/0/0/0").write_bytes(b"abc"), ReadError),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_an_error_names_the_one_broken_row_among_many(tmp_path, broken):
    for i in range(50):
        write(tmp_path / f"{i:02}.zarr", i, shape=(1, 3, 4), levels=1)
    facts = hfzarr.scan(tmp_path)
    spoil, error = BREAKS[broken]
    spoil(tmp_path / "33.zarr")
    found = stack(facts)
    assert found["image"][:33].values.shape == (33, 1, 3, 4)
    with pytest.raises(error, match=r"^row 33 of"):
        found["image"].load()
    with pytest.raises(error, match=r"^row 33 of"):
        stack(facts.to_arrow().select(["zarr"]))["image"].load()
    if broken != "chunk":
        with pytest.raises(error, match=r"^row 33 of"):
            xr.open_datatree(facts, engine="hfzarr")


# -- who reads


def test_many_waiting_calls_at_once():
    done, most, now, lock = [], 0, 0, threading.Lock()

    def wait(item: int) -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        with lock:
            now -= 1
            done.append(item)

    for_each_waiting(wait, range(40), width=8)
    assert sorted(done) == list(range(40))
    assert 1 < most <= 8
    for_each_waiting(wait, [])


def test_after_an_error_no_further_call_is_begun():
    begun: list[int] = []

    def fail(item: int) -> None:
        begun.append(item)
        time.sleep(0.01)
        if item == 3:
            raise KeyError("three")

    with pytest.raises(KeyError, match="three"):
        for_each_waiting(fail, range(1000), width=4)
    assert len(begun) < 100


def test_dask_chunks_are_those_of_the_stores(tabled, pixels):
    pytest.importorskip("dask")
    found = stack(tabled["facts"], chunks={})["image"]
    assert found.chunks == ((1,) * COUNT, (1, 1), (3, 3, 1), (4, 2))
    np.testing.assert_array_equal(found.compute(scheduler="threads").values, pixels)


@pytest.mark.parametrize("way", ["bare", "facts"])
def test_graphs_of_other_rows_have_other_names(tabled, pixels, way):
    pytest.importorskip("dask")
    manifest = hfzarr.open_manifest(tabled[way])
    halves = [manifest[:2], manifest[2:]]
    halves += [hfzarr.open_manifest(half) for half in (tabled[way][:2], tabled[way][2:])]
    found = [stack(half, chunks={})["image"] for half in halves]
    both = xr.concat(found, "row").values
    np.testing.assert_array_equal(both, np.concatenate([pixels, pixels]))


def test_on_a_cluster(tabled, pixels):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True
        ) as cluster,
        distributed.Client(cluster),
    ):
        for way in ("bare", "carried"):
            found = stack(tabled[way], chunks={"row": 2})["image"]
            np.testing.assert_array_equal(found.mean(["y", "x"]).values, pixels.mean((2, 3)))


@pytest.mark.parametrize("way", WAYS)
def test_pickles(tabled, pixels, way):
    found = pickle.loads(pickle.dumps(stack(tabled[way])))
    np.testing.assert_array_equal(found["image"].values, pixels)


def test_a_pickle_of_many_rows_is_small(tabled):
    row = tabled["facts"].to_pylist()[0]
    rows = [{**row, "zarr": f"/nowhere/{i}.zarr"} for i in range(1, 1000)]
    found = stack([tabled["facts"].to_pylist()[0], *rows])
    assert len(pickle.dumps(found["image"].variable)) < 300_000


def test_many_threads_at_once(tabled, pixels):
    found = stack(tabled["facts"])["image"]
    rng = np.random.default_rng(0)
    places = [tuple(rng.integers(0, n) for n in pixels.shape) for _ in range(200)]
    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(lambda place: int(found[place]), places))
    assert values == [int(pixels[place]) for place in places]


def test_without_blocking_the_event_loop(tabled, pixels):
    async def load() -> np.ndarray:
        loaded = await stack(tabled["facts"]).isel(row=[3, 0]).load_async()
        return loaded["image"].values

    if not hasattr(xr.Dataset, "load_async"):
        pytest.skip("this xarray cannot load without blocking")
    np.testing.assert_array_equal(asyncio.run(load()), pixels[[3, 0]])


def test_columns_travel_with_patches(tabled, pixels):
    pytest.importorskip("dask")
    table = tabled["carried"].append_column("label", pa.array(list("abca")))
    found = stack(table)
    patches = found.hfzarr.patches({"row": 1, "y": 3, "x": 3})
    for i in (0, 5, patches.sizes["patch"] - 1):
        patch = patches.isel(patch=i)
        row, y, x = (int(patch[f"{dim}_start"]) for dim in ("row", "y", "x"))
        assert patch["label"].values.tolist() == ["abca"[row]]
        np.testing.assert_array_equal(
            patch["image"].values, pixels[row : row + 1, :, y : y + 3, x : x + 3]
        )
    for batch in found.hfzarr.batches(4, {"row": 1, "y": 3, "x": 3}):
        wanted = [["abca"[int(start[0])]] for start in batch["start"]]
        assert batch["label"].tolist() == wanted


def test_written_and_read_by_xarray(tabled, pixels, tmp_path):
    found = stack(tabled["facts"].append_column("label", pa.array(["a", None, "b", "ü"])))
    found.to_zarr(tmp_path / "out.zarr", consolidated=False)
    back = xr.open_zarr(tmp_path / "out.zarr", consolidated=False)
    np.testing.assert_array_equal(back["image"].values, pixels)
    assert back["label"].values.tolist() == ["a", "", "b", "ü"] or back["label"].isnull()[1]
    np.testing.assert_array_equal(back["bytes"].values, [168] * COUNT)
