"""OME-Zarr stores are written anew as 0.5: valid, with everything where it was.

The targets are held against the raw JSON and the specification (`ome_reference`), the schemas of
0.5, ome-zarr-models and ome-zarr-py.
"""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.storage import MemoryStore

import hfzarr
import ome_reference as reference
from realstores import cases, quietly
from servers import http_server
from stores import pixels, write_image, write_plate, zip_folder
from test_malformed import CASES as MALFORMED
from test_ome_upgrade import ROOTS, assert_same, assert_sound, model_of, read, schema_faults

V6 = [root for root in ROOTS if "0.6" in root or "v06" in root]
OLD = [root for root in ROOTS if root not in V6]


def reshard(source: Any, target: Path, **options: Any) -> Path:
    """Write a store anew, all of it compared; return the target."""
    with quietly():
        hfzarr.reshard(source, target, **{"verify": "full", "progress": False, **options})
    return target


@pytest.fixture(scope="module")
def resharded(realdata: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives each store written anew, once for all tests."""

    @cache
    def run(root: str) -> Path:
        return reshard(realdata / root, tmp_path_factory.mktemp("ome") / Path(root).name)

    return run


def contents(store: Path) -> dict[str, bytes]:
    """Return the files of a store by key; Zarr's documents in one spelling."""
    files = {
        file.relative_to(store).as_posix(): file.read_bytes()
        for file in store.rglob("*")
        if file.is_file()
    }
    return {
        key: json.dumps(json.loads(data), sort_keys=True).encode() if "zarr.json" in key else data
        for key, data in files.items()
    }


# --- what the specification says -----------------------------------------------------------------


@cases("root", ROOTS)
def test_each_group_means_the_same(
    root: str, resharded: Callable[[str], Path], realdata: Path
) -> None:
    before, after = read(realdata / root), read(resharded(root))
    for path, group in before.items():
        assert_same(group, after[path])
    # A labels group may not have said so before.
    assert {path.rpartition("/")[2] for path in after.keys() - before.keys()} <= {"labels"}
    for group in after.values():
        if root in OLD:
            assert_sound(group)


@cases("root", OLD)
def test_schemas_hold(root: str, resharded: Callable[[str], Path], realdata: Path) -> None:
    for path, group in read(resharded(root)).items():
        assert schema_faults(group.node.attrs, realdata) == [], path


def image_groups(store: Path) -> dict[str, Path]:
    found = reference.image_groups(store)
    return {group.relative_to(store).as_posix().removeprefix("."): group for group in found}


@cases("root", ROOTS)
def test_levels_are_where_they_were(
    root: str, resharded: Callable[[str], Path], realdata: Path
) -> None:
    before, after = image_groups(realdata / root), image_groups(resharded(root))
    assert before.keys() == after.keys()
    assert before
    for path, group in before.items():
        old, new = reference.levels(group), reference.levels(after[path])
        assert len(old) == len(new)
        for one, other in zip(old, new, strict=True):
            assert (other.path, other.shape, other.dtype) == (one.path, one.shape, one.dtype)
            assert (other.dims, other.units) == (one.dims, one.units)
            assert other.positions.keys() == one.positions.keys()
            for name, (dims, values) in one.positions.items():
                assert other.positions[name][0] == dims
                np.testing.assert_allclose(other.positions[name][1], values, rtol=1e-12)
            assert named(other.channels) == named(one.channels)


def named(channels: tuple[str, list[Any]] | None) -> tuple[str, list[str]] | None:
    """Return channels whose labels are strings, as 0.5 wants them."""
    return channels and (channels[0], [str(label) for label in channels[1]])


@cases("root", OLD)
def test_arrays_name_their_dimensions_after_the_axes(
    root: str, resharded: Callable[[str], Path]
) -> None:
    """0.5, multiscales: "dimension_names" MUST match the names in "axes"."""
    for group in image_groups(resharded(root)).values():
        for image in reference.attributes(group)["multiscales"]:
            axes = [axis["name"] for axis in image["axes"]]
            for item in image["datasets"]:
                doc = json.loads((group / item["path"] / "zarr.json").read_text("utf-8"))
                assert doc["dimension_names"] == axes


@cases("root", ROOTS)
def test_nothing_is_left_to_repair(root: str, resharded: Callable[[str], Path]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = xr.open_datatree(resharded(root), engine="hfzarr", on_invalid="raise")
    assert tree.hfzarr.diagnose().ok


@cases("root", ROOTS)
def test_labels_groups_list_what_is_in_them(root: str, resharded: Callable[[str], Path]) -> None:
    target = resharded(root)
    labels = [path for path in image_groups(target) if "/labels/" in f"/{path}"]
    for path in labels:
        above, _, name = path.rpartition("/")
        assert name in reference.attributes(target / above)["labels"]


# --- strangers -----------------------------------------------------------------------------------


@cases("root", OLD)
def test_ome_zarr_models_reads_it(root: str, resharded: Callable[[str], Path]) -> None:
    """It reads every group with its arrays, and compares axes, dimension names and scales."""
    models = pytest.importorskip("ome_zarr_models", reason="ome-zarr-models needs a later zarr")
    target = resharded(root)
    for path, group in read(target).items():
        model = model_of(group, path)
        if model is not None:
            with models_quietly():
                model.from_zarr(zarr.open_group(target / path, mode="r"))
        # It does not look for a collection of 0.5 when it is not told that it is one.
        if model is not None and model.__name__ != "BioFormats2Raw":
            with models_quietly():
                found = models.open_ome_zarr(zarr.open_group(target / path, mode="r"))
            assert found.ome_zarr_version == "0.5"


@contextmanager
def models_quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        # It wants a plate to state the version once more.
        warnings.filterwarnings("ignore", "'version' field not specified in plate")
        yield


@cases("root", OLD)
def test_ome_zarr_py_reads_it(root: str, resharded: Callable[[str], Path], realdata: Path) -> None:
    """Its levels are the source's, pixel by pixel."""
    reader = pytest.importorskip("ome_zarr.reader")
    from ome_zarr.io import parse_url

    target = resharded(root)
    for path, group in image_groups(target).items():
        if reference.is_label(group):
            continue  # It goes from labels to their image.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (node, *_) = list(reader.Reader(parse_url(target / path))())
            wanted = [
                zarr.open_array(realdata / root / path / level.path, mode="r")[...]
                for level in reference.levels(group)
            ]
        assert len(node.data) == len(wanted)
        for found, values in zip(node.data, wanted, strict=True):
            np.testing.assert_array_equal(found.compute(), values)


# --- as hfzarr opens it --------------------------------------------------------------------------


@cases("root", [root for root in ROOTS if "hcs" in root])
def test_a_plate_as_one_dataset(
    root: str, resharded: Callable[[str], Path], realdata: Path
) -> None:
    with (
        quietly(),
        xr.open_dataset(realdata / root, engine="hfzarr", level=-1) as old,
        xr.open_dataset(resharded(root), engine="hfzarr", level=-1) as new,
    ):
        assert (old.attrs.pop("ome_version"), new.attrs.pop("ome_version")) == ("0.4", "0.5")
        xr.testing.assert_identical(new.load(), old.load())


SERIES = "ngff-challenge/bf2raw.zarr"


@cases("root", [SERIES, "ngff-challenge/hcs.zarr"])
def test_a_collection_keeps_its_xml(
    root: str, resharded: Callable[[str], Path], realdata: Path
) -> None:
    xml = "OME/METADATA.ome.xml"
    assert (resharded(root) / xml).read_bytes() == (realdata / root / xml).read_bytes()
    assert reference.attributes(resharded(root))["bioformats2raw.layout"] == 3


@cases("root", V6)
def test_0_6_stays_as_it_is(root: str, resharded: Callable[[str], Path], realdata: Path) -> None:
    for document in sorted((realdata / root).rglob("zarr.json")):
        old = json.loads(document.read_text("utf-8"))
        path = document.relative_to(realdata / root)
        new = json.loads((resharded(root) / path).read_text("utf-8"))
        assert new["attributes"] == old.get("attributes", {})


# --- parts of a store ----------------------------------------------------------------------------


@cases(
    "root,group",
    [
        ("ngff-challenge/hcs.zarr", "A/1"),
        ("ngff-challenge/hcs.zarr", "A/1/0"),
        (SERIES, "1"),
        ("ngio_v04/images/test_image_czyx.zarr", "labels/label"),
        ("ngio_v05/images/test_image_czyx.zarr", "labels"),
        ("ngio_v05/images/test_image_czyx.zarr", "0"),
    ],
)
def test_a_part_is_a_store(root: str, group: str, realdata: Path, tmp_path: Path) -> None:
    target = reshard(realdata / root, tmp_path / "t", group=group)
    whole = reshard(realdata / root, tmp_path / "whole")
    found, wanted = contents(target), contents(whole / group)
    # The root alone has consolidated metadata.
    assert found.keys() == wanted.keys()
    assert {key for key in found if found[key] != wanted[key]} <= {"zarr.json"}
    if group != "0":
        assert reference.attributes(target) == reference.attributes(whole / group)


def test_a_level_that_is_dropped_is_not_listed(tmp_path: Path) -> None:
    source = write_image(tmp_path / "a", zarr_format=2)
    target = reshard(source, tmp_path / "b", drop_variables=["0"])
    for path in ("", "labels/nuclei"):
        (image,) = reference.attributes(target / path)["multiscales"]
        assert [item["path"] for item in image["datasets"]] == ["1", "2"]
    with xr.open_datatree(target, engine="hfzarr", on_invalid="raise") as tree:
        assert set(tree.children) == {"1", "2", "labels"}
        np.testing.assert_array_equal(tree["1/image"].values, pixels(1))


def test_labels_that_are_dropped_are_not_listed(tmp_path: Path) -> None:
    source = write_image(tmp_path / "a", labels=["nuclei", "cells"])
    target = reshard(source, tmp_path / "b", drop_variables=["nuclei"])
    assert reference.attributes(target / "labels")["labels"] == ["cells"]
    with xr.open_datatree(target, engine="hfzarr", on_invalid="raise") as tree:
        assert list(tree["labels"].children) == ["cells"]
    bare = reshard(source, tmp_path / "c", drop_variables="labels")
    assert not (bare / "labels").exists()
    with xr.open_datatree(bare, engine="hfzarr", on_invalid="raise") as tree:
        assert "labels" not in tree.children


# --- other chunks --------------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"inner_chunk": {"y": 10, "x": 10}},
        {"inner_chunk": {"z": -1, "y": 16}, "shard": {"c": 2, "y": 32}},
        {"codecs": "zstd:1", "shard": None},
        {"inner_chunk": {"z": 4, "y": 1, "x": 48}, "max_memory": 10_000},
    ],
    ids=str,
)
def test_a_made_image(zarr_format: int, options: dict[str, Any], tmp_path: Path) -> None:
    """Copied, encoded anew, and by way of an intermediate."""
    source = write_image(MemoryStore(), zarr_format=zarr_format)
    target = reshard(source, tmp_path / "t", **options)
    with (
        quietly(),
        xr.open_datatree(source, engine="hfzarr") as old,
        xr.open_datatree(target, engine="hfzarr", on_invalid="raise") as new,
    ):
        for tree in (old, new):
            for node in tree.subtree:
                node.attrs.pop("ome_version", None)
        xr.testing.assert_identical(new, old)
    for level in range(3):
        np.testing.assert_array_equal(zarr.open_array(target / str(level))[...], pixels(level))


@pytest.mark.parametrize("consolidated", [True, False])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_made_plate(zarr_format: int, consolidated: bool, tmp_path: Path) -> None:
    source = write_plate(
        tmp_path / "a", zarr_format=zarr_format, labels=["cells"], consolidated=consolidated
    )
    target = reshard(source, tmp_path / "b")
    with (
        quietly(),
        xr.open_datatree(source, engine="hfzarr") as old,
        xr.open_datatree(target, engine="hfzarr", on_invalid="raise") as new,
    ):
        for tree in (old, new):
            for node in tree.subtree:
                node.attrs.pop("ome_version", None)
        xr.testing.assert_identical(new, old)


# --- malformed stores ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_is_sound_afterwards(name: str, tmp_path: Path) -> None:
    case = MALFORMED[name]
    source = tmp_path / "a"
    case.write(source)
    if case.zipped:
        source = zip_folder(source, tmp_path / "a.zip")
    target = reshard(source, tmp_path / "b")
    for group in read(target).values():
        assert_sound(group)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        xr.open_datatree(target, engine="hfzarr", on_invalid="raise").close()


# --- zips and servers ----------------------------------------------------------------------------

WRAPPED = [
    "neuroglancer_ome/simple_0.4",
    "neuroglancer_ome/simple_0.5",
    SERIES,
    "ngff-challenge/hcs.zarr",
    "ngio_v04/images/test_image_czyx.zarr",
    "ngio_v05/images/test_image_czyx.zarr",
    "ome-zarr-models_examples/v06/stitched_tiles_2d.zarr",
]


@pytest.mark.parametrize("suffix", [".ozx", ".zip", "-deflated.zip", "-inside.zip"])
@cases("root", WRAPPED)
def test_a_zip_is_written_as_its_folder_is(
    root: str, suffix: str, resharded: Callable[[str], Path], realdata: Path, tmp_path: Path
) -> None:
    method = zipfile.ZIP_DEFLATED if "deflated" in suffix else zipfile.ZIP_STORED
    inside = "a/folder.zarr/" if "inside" in suffix else ""
    source = zip_folder(
        realdata / root, tmp_path / f"store{suffix}", compression=method, root=inside
    )
    if inside.count("/") > 1:
        target = reshard(source, tmp_path / "t", group="a/folder.zarr")
    else:
        target = reshard(source, tmp_path / "t")
    assert contents(target) == contents(resharded(root))


@cases("name", ["neuroglancer_ome/simple_0.5"])
def test_a_real_zip(
    name: str, resharded: Callable[[str], Path], realdata: Path, tmp_path: Path
) -> None:
    target = reshard(realdata / f"{name}.zip", tmp_path / "t")
    assert contents(target) == contents(resharded(name))


def no_listing(status: int) -> Callable[[SimpleHTTPRequestHandler, Any], None]:
    """Return what a server does that keeps to itself which files there are."""

    def answer(handler: SimpleHTTPRequestHandler, path: Any) -> None:
        if status != 200:
            handler.send_error(status)
            return
        handler.send_response(200)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


@cases("root", WRAPPED)
def test_a_server_that_lists(
    root: str, resharded: Callable[[str], Path], realdata: Path, tmp_path: Path
) -> None:
    pytest.importorskip("aiohttp", reason="http:// needs aiohttp")
    with http_server(realdata) as (url, _):
        target = reshard(f"{url}/{root}", tmp_path / "t")
    assert contents(target) == contents(resharded(root))


# What metadata does not name, and no consolidated metadata lists: AnnData tables, and notes in XML.
UNNAMED = ("tables", "OME/METADATA.ome.xml")


@pytest.mark.parametrize("status", [403, 404, 200])
@cases("root", WRAPPED)
def test_a_server_that_cannot_list(
    root: str,
    status: int,
    resharded: Callable[[str], Path],
    realdata: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All that metadata names is written, and the plan says that there may be more."""
    pytest.importorskip("aiohttp", reason="http:// needs aiohttp")
    monkeypatch.setattr(SimpleHTTPRequestHandler, "list_directory", no_listing(status))
    with http_server(realdata) as (url, _), quietly():
        plan = hfzarr.plan_reshard(f"{url}/{root}")
        target = reshard(f"{url}/{root}", tmp_path / "t")
    assert any("could not be listed" in note for note in plan.notes)
    found, wanted = contents(target), contents(resharded(root))
    assert wanted.keys() - found.keys() <= {key for key in wanted if key.startswith(UNNAMED)}
    assert {key for key in found if found[key] != wanted[key]} <= {"zarr.json"}
    assert reference.attributes(target) == reference.attributes(resharded(root))


@pytest.mark.parametrize("status", [403, 404, 200])
@cases("root", ["titiler_multidim/unconsolidated.zarr"])
def test_arrays_that_nothing_names_are_not_lost_in_silence(
    root: str, status: int, realdata: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp", reason="http:// needs aiohttp")
    monkeypatch.setattr(SimpleHTTPRequestHandler, "list_directory", no_listing(status))
    with (
        http_server(realdata) as (url, _),
        pytest.raises(hfzarr.UnsupportedError, match="cannot be listed"),
    ):
        hfzarr.reshard(f"{url}/{root}", tmp_path / "t", progress=False)
    assert not (tmp_path / "t" / "zarr.json").exists()
