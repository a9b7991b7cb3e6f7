"""Every row of ``docs/migration.md``: our call is run as it stands there, and theirs beside it.

The expression that begins the second cell of a row is evaluated in a folder of small stores, and a
check of that row looks at what comes out. A row without a check fails, and so does a check without
a row. Where the library that the first cell speaks of is installed, that is evaluated too.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import zarr

import hfzarr
from hubstores import hub, log_in, servers  # noqa: F401 (fixtures)
from stores import DIMS, STEP, pixels

pytest.importorskip("pyarrow")
datasets = pytest.importorskip("datasets")
Image = pytest.importorskip("PIL.Image")

from migration_rows import (  # noqa: E402
    CHECKS,
    FRAMES,
    HEIGHTS,
    STORES,
    Row,
    check,
    equal,
    places,
    rows,
    zarr_arrays,
)


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    with places(tmp_path_factory.mktemp("migration")) as found:
        yield found


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[1].replace("…", "..."))
def test_a_row_does_what_it_says(
    row: Row, at: SimpleNamespace, request: pytest.FixtureRequest
) -> None:
    section, before, now = row
    if "push_to_hub" in now:
        request.getfixturevalue("log_in")("user")
    assert (section, before) in CHECKS, "this row has no check"
    names = at.theirs.get(section)
    theirs = None
    if names is not None and "…" not in before and not before.startswith("for "):
        theirs = eval(before, dict(names))
    CHECKS[section, before](eval(now, dict(at.ours)), theirs, at)


def test_every_check_has_its_row() -> None:
    assert set(CHECKS) == {(section, before) for section, before, _ in rows()}


# --- datasets ------------------------------------------------------------------------------------

feature = partial(check, "From the proposed `Zarr` feature of `datasets`")


@feature("Zarr()", "Zarr(storage_options=…)")
def _is_a_feature(now, theirs, at):
    made = datasets.Dataset.from_dict({"c": ["heights.zarr"]}, datasets.Features({"c": now}))
    assert made[0]["c"][2, 3] == HEIGHTS[2, 3]
    assert made[0]["c"].options == now.storage_options


@feature("Zarr(decode=False)")
def _stays_text(now, theirs, at):
    made = datasets.Dataset.from_dict({"c": ["heights.zarr"]}, datasets.Features({"c": now}))
    assert made[0]["c"] == "heights.zarr"


@feature('ds.cast_column("zarr", Zarr())')
def _is_cast(now, theirs, at):
    assert [row["zarr"][0, 0] for row in now] == [2, 3]


@feature("decode_example(…, token_per_repo_id=…)")
def _has_its_token(now, theirs, at):
    assert now.options.resolve() == {"token": "hf_…"}


@feature('load_dataset("zarrfolder", data_dir=…)', "load_zarr_dataset(data_dir)")
def _is_a_row_for_each_store(now, theirs, at):
    assert {split: len(one) for split, one in now.items()} == {"train": 2, "test": 1}
    assert now["test"][0]["zarr"][0, 0] == 1
    assert set(now["train"].features) == {"zarr", "label", "age"}


@feature('load_dataset("zarrfolder", data_files=…)')
def _is_made_of_files(now, theirs, at):
    assert sorted(row["zarr"][0, 0] for one in now.values() for row in one) == [1, 2, 3]


def _has_columns(columns, now, theirs, at):
    assert set(now["train"].features) == columns


for _call, _columns in {
    "drop_labels=": {"zarr", "age"},
    "drop_metadata=": {"zarr", "label"},
    "load_zarr_dataset(…, drop_labels=, drop_metadata=)": {"zarr"},
}.items():
    feature(_call)(partial(_has_columns, _columns))


@feature("streaming=True")
def _streams(now, theirs, at):
    assert type(now["train"]) is datasets.IterableDataset
    assert [row["zarr"][0, 0] for row in now["train"]] == [2, 3]


@feature('load_dataset("zarr", data_files=…)')
def _is_a_table(now, theirs, at):
    table = hfzarr.load_table("table.zarr", cache_dir=str(at.folder / "cache"))
    assert now["train"][3] == table[3] == {"x": [6.0, 7.0], "y": 3}
    assert len(now["train"]) == len(table) == 10


@feature("push_to_hub_zarr(…)")
def _is_on_the_hub(now, theirs, at):
    pushed = hfzarr.open_manifest(now.url)
    assert sorted(handle[0, 0] for handle in pushed.handles()) == [1, 2, 3]
    assert set(pushed["label"]) == {"sick", "well"}


@feature(
    "ZarrCollator(patch_size, level, …)",
    "ZarrCollator(…, label_column=, column_name=)",
    "ZarrCollator(…, rng=)",
)
def _collates(now, theirs, at):
    batch = now([at.ours["ds"][0], at.ours["ds"][1]])
    _is_a_batch(batch, theirs, at)


@feature("collator(rows)")
def _is_a_batch(now, theirs, at):
    assert set(now) == {"pixel_values", "labels"}
    assert now["pixel_values"].shape == (2, 8, 8)
    assert np.asarray(now["pixel_values"])[:, 0, 0].tolist() == [2, 3]
    assert np.asarray(now["labels"]).tolist() == [0, 1]


# --- handles, as proxies were --------------------------------------------------------------------


for _call, _expected in {
    "array.path": lambda at: f"{at.folder}/heights.zarr",
    "array.shape": (12, 16),
    "array.dtype": np.dtype("int32"),
    "array.ndim": 2,
    "array.chunks": (4, 8),
    "array.attrs": {"unit": "m"},
    "array[2, :4]": HEIGHTS[2, :4],
    "len(array)": len(HEIGHTS),
    "for part in array": list(HEIGHTS),
    "array.asarray()": HEIGHTS,
    "group.keys()": ["a", "c"],
    "group.attrs": {"site": "A"},
    '"a" in group': True,
    "for name in group": ["a", "c"],
    "image.num_levels": 3,
    "image.axis_names": DIMS,
    "image.axis_types": ("channel", "space", "space", "space"),
    "image.scale": STEP,
    "image.channel_names": ("DAPI", "GFP"),
    "image.asarray(level)": pixels(1),
}.items():
    feature(_call)(equal(_expected))


@feature("array.iter_patches(patch_size, stride)")
def _goes_through_patches(now, theirs, at):
    found = list(now)
    assert len(found) == 5 * 7
    for (y, x), patch in found:
        np.testing.assert_array_equal(patch, HEIGHTS[y : y + 4, x : x + 4])
    assert len({start for start, _ in found}) == len(found)


@feature("array.random_patch(patch_size, rng)")
def _is_a_patch(now, theirs, at):
    y, x = np.argwhere(now[0, 0] == HEIGHTS)[0]
    np.testing.assert_array_equal(now, HEIGHTS[y : y + 4, x : x + 4])


@feature("array._repr_html_()")
def _is_html(now, theirs, at):
    assert "heights" in now


@feature('group["a/b"]')
def _is_an_array_in_a_group(now, theirs, at):
    np.testing.assert_array_equal(now[:], HEIGHTS)


@feature("image.multiscales")
def _is_the_metadata(now, theirs, at):
    assert [level["path"] for level in now[0]["datasets"]] == ["0", "1", "2"]


@feature("image.levels")
def _are_levels(now, theirs, at):
    for level, array in enumerate(now):
        np.testing.assert_array_equal(array[:], pixels(level))


@feature("image.get_level(-1)")
def _is_the_coarsest(now, theirs, at):
    np.testing.assert_array_equal(now.read(), pixels(2))


@feature("image.axes")
def _are_axes(now, theirs, at):
    assert [axis["name"] for axis in now] == list(DIMS)
    assert now[1]["unit"] == "micrometer"


@feature("image.roi(start, stop, level)")
def _is_a_region_in_units(now, theirs, at):
    level = at.ours["image"].to_xarray(level=1).image
    wanted = level.sel(y=slice(2.0, 6.0), x=slice(2.0, 6.0)).values
    assert wanted.shape[-2:] == (5, 5)
    np.testing.assert_array_equal(now, wanted)


@feature("image.iter_patches(…, level=)")
def _goes_through_patches_of_a_level(now, theirs, at):
    found = list(now)
    assert len(found) == 2 * 3
    for (y, x), patch in found:
        np.testing.assert_array_equal(patch, pixels(1)[..., y : y + 8, x : x + 8])


@feature("image.random_patch(…, level=)")
def _is_a_patch_of_a_level(now, theirs, at):
    level = pixels(1)
    y, x = np.argwhere(now[0, 0, 0, 0] == level[0, 0])[0]
    np.testing.assert_array_equal(now, level[..., y : y + 8, x : x + 8])


@feature("image.thumbnail(level=-1)")
def _is_a_picture(now, theirs, at):
    assert (now.shape, now.dtype) == ((8, 12, 3), np.uint8)


# --- DataChain -----------------------------------------------------------------------------------

chain = partial(check, "From DataChain")

for _call, _expected in {
    "info.zarr_format": 3,
    "info.arrays": lambda at: tuple(sorted(zarr_arrays(at.folder / "cells.ome.zarr"))),
    "info.attrs": lambda at: dict(zarr.open_group(at.folder / "cells.ome.zarr", mode="r").attrs),
    "array.path": "",
    "array.shape": (12, 16),
    "array.chunks": (4, 8),
    "array.dtype": "int32",
    "array.attrs": {"unit": "m"},
    "array.read()": HEIGHTS,
    "array.read((0, slice(2, 5)))": HEIGHTS[0, 2:5],
    "selection.index": (2, 5),
    "selection.read()": HEIGHTS[2, 5],
}.items():
    chain(_call)(equal(_expected))


def _ends(stores: list[Any]) -> list[str]:
    """Return the last three parts of the place of each store, ours or theirs."""
    places = [f"{s.source}/{s.path}" if hasattr(s, "source") else s.path for s in stores]
    return sorted("/".join(place.split("/")[-3:]) for place in places)


@chain(
    'read_zarr("stores")',
    'read_zarr(["stores/train", "stores/test"])',
    'read_zarr("stores/train/*/*.zarr/zarr.json")',
)
def _has_a_row_for_each_store(now, theirs, at):
    assert _ends(now["zarr"]) == [name for name in STORES if len(now) == 3 or "train" in name]
    if theirs is not None:
        assert _ends(now["zarr"]) == _ends(theirs.to_values("zarr"))


@chain('read_zarr(…, column="store")')
def _has_another_column(now, theirs, at):
    assert _ends(now["store"]) == STORES
    if names := at.theirs.get("From DataChain"):
        theirs = names["read_zarr"]("stores", column="store")
        assert _ends(theirs.to_values("store")) == STORES


@chain("read_zarr(…, client_config=…)")
def _has_options(now, theirs, at):
    assert now[0]["zarr"].options.resolve() == {"anon": True}


@chain('chain.to_values("zarr")')
def _are_stores(now, theirs, at):
    assert _ends(now) == STORES
    assert theirs is None or _ends(theirs) == STORES


@chain("store.source")
def _is_where_the_scan_began(now, theirs, at):
    assert now == f"{at.folder}/stores"
    if names := at.theirs.get("From DataChain"):
        assert {store.source for store in names["chain"].to_values("zarr")} == {f"file://{now}"}


@chain("store.path")
def _is_the_path_below_it(now, theirs, at):
    assert now == STORES[0]
    assert at.ours["manifest"][0]["zarr"].path == f"{at.folder}/stores/{now}"
    if names := at.theirs.get("From DataChain"):
        assert now in [store.path for store in names["chain"].to_values("zarr")]


@chain("store.get_info()")
def _tells_of_the_store(now, theirs, at):
    assert (now.zarr_format, now.kind) == (3, "image")
    if theirs is not None:
        assert (now.zarr_format, now.attrs) == (theirs.zarr_format, theirs.attrs)
        assert sorted(now.arrays) == sorted(theirs.arrays)


@chain("store.get_arrays()")
def _are_all_arrays(now, theirs, at):
    wanted = sorted(zarr_arrays(at.folder / "cells.ome.zarr"))
    assert sorted(array.node for array in now) == wanted
    assert theirs is None or sorted(array.path for array in theirs) == wanted


@chain('store.get_array("0")')
def _is_the_array(now, theirs, at):
    np.testing.assert_array_equal(now.read(), pixels(0))
    if theirs is not None:
        np.testing.assert_array_equal(now.read(), theirs.read())


@chain("array.store")
def _is_its_store(now, theirs, at):
    assert now == at.ours["array"]
    assert theirs is None or theirs.path == "heights.zarr"


@chain("array.select(2)", "array.select([2, 5])")
def _is_a_region(now, theirs, at):
    index = tuple(part for part in now.index if part != slice(0, 16, 1))
    np.testing.assert_array_equal(now.read(), HEIGHTS[index])
    if theirs is not None:
        np.testing.assert_array_equal(now.read(), theirs.read())
        assert list(index) == theirs.index


@chain('frames.select(2, media="image")')
def _is_a_frame(now, theirs, at):
    np.testing.assert_array_equal(now.read(), FRAMES[2])
    if theirs is not None:
        np.testing.assert_array_equal(now.read(), theirs.read())


@chain("selection.array")
def _is_what_it_was_selected_from(now, theirs, at):
    assert now == at.ours["array"]
    assert theirs is None or theirs.shape == list(now.shape)


@chain('frames.select(2).read_bytes("PNG")')
def _is_an_image_file(now, theirs, at):
    opened = np.asarray(Image.open(io.BytesIO(now)))
    np.testing.assert_array_equal(opened, FRAMES[2])
    if theirs is not None:
        np.testing.assert_array_equal(opened, np.asarray(Image.open(io.BytesIO(theirs))))


# --- the others ----------------------------------------------------------------------------------


@check(
    "From xbatcher",
    'BatchGenerator(data, input_dims={"y": 8, "x": 8})',
    'BatchGenerator(…, input_overlap={"y": 4})',
)
def _cuts_the_same_windows(now, theirs, at):
    if names := at.theirs.get("From xbatcher"):
        more = {"input_overlap": {"y": 4}} if len(now.patch) > 12 else {}
        sizes = {"y": 8, "x": 8}
        theirs = names["BatchGenerator"](at.ours["data"], input_dims=sizes, **more)
        assert len(theirs) == len(now.patch)
        for number, batch in enumerate(theirs):
            np.testing.assert_array_equal(now.v[number], batch.v)


@check("From xbatcher", "generator[5]")
def _is_one_window(now, theirs, at):
    np.testing.assert_array_equal(now.v, at.ours["data"].v[8:16, 8:16])
    if theirs is not None:
        np.testing.assert_array_equal(now.v, theirs.v)


@check("From xbatcher", "for batch in generator")
def _goes_through_windows(now, theirs, at):
    found = np.concatenate([group.v.values for group in now])
    assert found.shape == (12, 8, 8)
    if names := at.theirs.get("From xbatcher"):
        np.testing.assert_array_equal(found, np.stack([batch.v for batch in names["generator"]]))


@check("From rechunker", "rechunk(source, target_chunks, max_mem, target_store, temp_store)")
def _only_plans(now, theirs, at):
    assert "heights.zarr" in str(now)
    assert not (at.folder / "rechunked.zarr").exists()


@check("From rechunker", "plan.execute()")
def _is_written(now, theirs, at):
    written = zarr.open_array("rechunked.zarr", mode="r")
    assert written.chunks == (4, 4)
    np.testing.assert_array_equal(written[:], HEIGHTS)


ome_zarr = partial(check, "From ome-zarr-py")


@ome_zarr('list(Reader(parse_url("cells.ome.zarr"))())')
def _is_a_tree(now, theirs, at):
    for level in range(3):
        np.testing.assert_array_equal(now[f"{level}/image"].data.compute(), pixels(level))


@ome_zarr("node.data[1]")
def _is_a_dask_array(now, theirs, at):
    assert hasattr(now, "dask")
    np.testing.assert_array_equal(now.compute(), pixels(1))


ome_zarr('node.metadata["axes"]')(_are_axes)


@ome_zarr('node.metadata["coordinateTransformations"]')
def _is_the_scale(now, theirs, at):
    assert now == STEP
