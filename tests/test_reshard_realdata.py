"""Every real store that opens is written anew, and nothing of it is lost.

What the target must hold is taken from ``expected.json`` and from the files of the source, not from
hfzarr. OME-Zarr metadata, which changes, has `test_reshard_ome.py`.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

import hfzarr
import ome_reference as reference
from realstores import DOCUMENTS, cases, folder, quietly
from test_realdata import REFUSED, SHA, dtype_name, sha

# Nothing of these can be read: there is nothing to write.
ROOTS = sorted(SHA)
# Its chunks are all absent: 3.9 GiB of fill value, which take seconds to compare.
LARGE = "eopf_S2A_L2A_metadata"
SMALL = [root for root in ROOTS if root != LARGE]


@dataclass
class Run:
    """A store and what it became."""

    source: Path
    target: Path
    done: hfzarr.Resharded


def unread(root: str) -> list[str] | None:
    """Return the arrays of a store that nobody reads, to be left out."""
    return [path for store, path in REFUSED if store == root] or None


def reshard(root: str, source: Path, target: Path, **options: Any) -> Run:
    verify: Any = False if root == LARGE else "full"
    with quietly():
        done = hfzarr.reshard(
            source, target, verify=verify, progress=False, drop_variables=unread(root), **options
        )
    return Run(source, target, done)


@pytest.fixture(scope="module")
def resharded(realdata: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """Return a function that gives each store written anew, once for all tests."""

    @cache
    def run(root: str) -> Run:
        parent = tmp_path_factory.mktemp("resharded")
        return reshard(root, realdata / root, parent / Path(root).name)

    return run


# --- what lies in a folder -----------------------------------------------------------------------


def node_kinds(store: Path) -> dict[str, str]:
    """Return ``{path: "group" or "array"}`` of a folder, by its files."""
    found = {}
    for file in sorted(store.rglob("*")):
        path = file.parent.relative_to(store).as_posix().removeprefix(".")
        if file.name == ".zgroup":
            found[path] = "group"
        elif file.name == ".zarray":
            found[path] = "array"
        elif file.name == "zarr.json":
            # One real store has a document that is no JSON, of a group.
            said = file.read_text("utf-8")
            found[path] = "array" if '"chunk_grid"' in said.partition('"consol')[0] else "group"
    return found


def other_files(store: Path) -> list[str]:
    """Return the keys of files that are neither metadata nor chunks."""
    arrays = [path for path, kind in node_kinds(store).items() if kind == "array"]
    keys = [file.relative_to(store).as_posix() for file in store.rglob("*") if file.is_file()]
    return sorted(
        key
        for key in keys
        if key.rpartition("/")[2] not in DOCUMENTS
        and not any(path == "" or key.startswith(f"{path}/") for path in arrays)
    )


def contents(store: Path) -> dict[str, bytes]:
    return {
        file.relative_to(store).as_posix(): file.read_bytes()
        for file in store.rglob("*")
        if file.is_file()
    }


def document(store: Path, path: str) -> dict[str, Any]:
    doc: dict[str, Any] = json.loads((store / path / "zarr.json").read_text("utf-8"))
    return doc


def open_array(store: Path, path: str) -> zarr.Array[Any]:
    return zarr.open_array(store / path, mode="r")


# --- contents ------------------------------------------------------------------------------------


def differences(root: str, target: Path) -> dict[str, str]:
    """Return which arrays of a target are not what others read in the source."""
    return differences_of(SHA[root], target)


def differences_of(arrays: dict[str, Any], target: Path) -> dict[str, str]:
    wrong = {}
    for path, facts in arrays.items():
        array = open_array(target, path)
        if list(array.shape) != facts["shape"]:
            wrong[path] = f"shape {array.shape}"
        elif dtype_name(array.dtype) != dtype_name(facts["dtype"]):
            wrong[path] = f"dtype {array.dtype}, not {facts['dtype']}"
        elif "sha" in facts and sha(array[...]) != facts["sha"]:
            wrong[path] = f"values {array[...]!r}"
    return wrong


@cases("root", SMALL)
def test_each_array_is_what_others_read(root: str, resharded: Callable[[str], Run]) -> None:
    run = resharded(root)
    assert differences(root, run.target) == {}
    assert {one.spec.path for one in run.done.plan.arrays} == set(SHA[root])


@cases("root", [LARGE])
def test_absent_chunks_stay_absent(root: str, resharded: Callable[[str], Run]) -> None:
    run = resharded(root)
    assert {file.name for file in run.target.rglob("*") if file.is_file()} == {"zarr.json"}
    for path, facts in SHA[root].items():
        assert list(open_array(run.target, path).shape) == facts["shape"]
    assert run.done.chunks == 0


@cases("root", SMALL)
def test_tensorstore_reads_it(root: str, resharded: Callable[[str], Run]) -> None:
    """As far as it knows data types and codecs, and dims that are not twice the same."""
    tensorstore = pytest.importorskip("tensorstore")
    run = resharded(root)
    for path, facts in SHA[root].items():
        doc = document(run.target, path)
        dims = [dim for dim in doc.get("dimension_names", []) if dim]
        if is_foreign(doc) or len(set(dims)) < len(dims):
            continue
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(run.target / path)}}
        values = tensorstore.open(spec, read=True, open=True).result().read().result()
        assert sha(values) == facts["sha"], path


def is_foreign(doc: dict[str, Any]) -> bool:
    """Whether a document has a data type or a codec that is not in the v3 specification."""
    if "numcodecs." in json.dumps(doc["codecs"]) or not isinstance(doc["data_type"], str):
        return True
    return doc["data_type"] in ("string", "variable_length_bytes")


# --- metadata ------------------------------------------------------------------------------------


@cases("root", ROOTS)
def test_arrays_stay_what_they_are(root: str, resharded: Callable[[str], Run]) -> None:
    """Byte order, data type, fill value, names of dimensions and attributes."""
    run = resharded(root)
    levels = level_dims(run.source)
    for path in SHA[root]:
        with ignoring_v3():
            new = open_array(run.target, path)
            try:
                old = open_array(run.source, path)
            except TypeError as error:
                pytest.skip(f"this zarr-python cannot open the source: {error}")
        assert new.metadata.zarr_format == 3
        assert new.dtype.kind == old.dtype.kind or {new.dtype.kind, old.dtype.kind} <= {"O", "T"}
        assert same_fill(new, old), path
        attrs = dict(old.attrs)
        dims = getattr(old.metadata, "dimension_names", None)
        if old.metadata.zarr_format == 2:
            dims = attrs.pop("_ARRAY_DIMENSIONS", None)
            attrs = {key: value for key, value in attrs.items() if not key.startswith("_nc")}
        if path in levels:
            dims = levels[path]
        assert new.metadata.dimension_names == (None if dims is None else tuple(dims)), path
        assert without_fill(new, attrs) == without_fill(new, dict(new.attrs)), path


def same_fill(new: zarr.Array[Any], old: zarr.Array[Any]) -> bool:
    """Whether absent chunks read as the same; v2 may say nothing, and v3 must say something."""
    if old.fill_value is None:
        return bool(new.fill_value in (0, "", b"") or not np.any(new.fill_value))
    one, other = np.asarray(new.fill_value), np.asarray(old.fill_value)
    if one.dtype.kind in "fc":
        return bool(np.array_equal(one, other, equal_nan=True))
    return bool(one.tolist() == other.tolist())


def without_fill(array: zarr.Array[Any], attrs: dict[str, Any]) -> dict[str, Any]:
    """Leave out ``_FillValue``, which in v3 stands for the mask that v2's fill value is."""
    return {key: value for key, value in attrs.items() if key != "_FillValue"}


def level_dims(store: Path) -> dict[str, tuple[str, ...]]:
    """Return the dims of the levels of OME images, by path."""
    return {
        f"{group.relative_to(store).as_posix()}/{level.path}".removeprefix("./"): level.dims
        for group in reference.image_groups(store)
        for level in reference.levels(group)
    }


@contextlib.contextmanager
def ignoring_v3() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@cases("root", ROOTS)
def test_metadata_is_consolidated(root: str, resharded: Callable[[str], Run]) -> None:
    """The root lists every node with the document that lies there, and no other."""
    run = resharded(root)
    kinds = node_kinds(run.target)
    if kinds[""] == "array":
        assert kinds == {"": "array"}
        return
    listed = document(run.target, "")["consolidated_metadata"]
    assert listed["kind"] == "inline"
    assert listed["must_understand"] is False
    assert listed["metadata"] == {path: document(run.target, path) for path in kinds if path}
    opened = zarr.open_consolidated(run.target, zarr_format=3)
    assert {name for name, _ in opened.members(max_depth=None)} == set(kinds) - {""}


@cases("root", ROOTS)
def test_every_node_is_carried_over(root: str, resharded: Callable[[str], Run]) -> None:
    run = resharded(root)
    wanted = node_kinds(run.source)
    for path in unread(root) or []:
        del wanted[path]
    assert node_kinds(run.target) == wanted


@cases("root", ROOTS)
def test_groups_keep_their_attributes(root: str, resharded: Callable[[str], Run]) -> None:
    run = resharded(root)
    for path, kind in node_kinds(run.target).items():
        if kind == "array" or (found := stored_attrs(run.source / path)) is None:
            continue
        attrs = document(run.target, path)["attributes"]
        if "ome" not in attrs:
            assert attrs == found, path
        else:
            others = found.keys() - {"ome", "multiscales", "omero", "plate", "well", "labels"}
            for key in others - {"image-label", "bioformats2raw.layout", "series", "scene"}:
                assert attrs[key] == found[key] or key == "version"


def stored_attrs(group: Path) -> dict[str, Any] | None:
    """Return the attributes of a group as its files have them; None where they are no JSON."""
    for name in ("zarr.json", ".zattrs"):
        if (group / name).is_file():
            try:
                doc = json.loads((group / name).read_text("utf-8"))
            except ValueError:
                return None
            return dict(doc.get("attributes", {}) if name == "zarr.json" else doc)
    return {}


# --- files ---------------------------------------------------------------------------------------


@cases("root", ROOTS)
def test_files_beside_arrays_are_copied(root: str, resharded: Callable[[str], Run]) -> None:
    run = resharded(root)
    keys = other_files(run.source)
    assert other_files(run.target) == keys
    for key in keys:
        assert (run.target / key).read_bytes() == (run.source / key).read_bytes()


def test_there_are_files_to_copy(realdata: Path) -> None:
    found = {key.rpartition(".")[2] for root in ROOTS for key in other_files(realdata / root)}
    assert {"parquet", "xml"} <= found


@cases("root", ROOTS)
def test_files_are_those_of_the_plan(root: str, resharded: Callable[[str], Run]) -> None:
    """What was promised is what is there, and nothing of the run is left behind."""
    run = resharded(root)
    files = contents(run.target)
    assert not [key for key in files if "reshard" in key or ".tmp" in key]
    assert run.done.files == len(files) <= run.done.plan.files_after
    assert run.done.bytes_stored == sum(map(len, files.values()))
    before = contents(run.source)
    assert run.done.plan.found_files == len(before)
    assert run.done.plan.found_bytes == sum(map(len, before.values()))


@cases("root", SMALL)
def test_a_second_time_changes_nothing(
    root: str, resharded: Callable[[str], Run], tmp_path: Path
) -> None:
    """What is resharded is repacked into the same shards, byte for byte."""
    first = resharded(root)
    second = reshard(root, first.target, tmp_path / Path(root).name)
    assert {one.route for one in second.done.plan.arrays} == {"repack"}
    before, after = contents(first.target), contents(second.target)
    assert after.keys() == before.keys()
    for key, data in before.items():
        if key.endswith("zarr.json"):
            assert json.loads(after[key]) == json.loads(data), key
        else:
            assert after[key] == data, key


# --- as xarray sees it ---------------------------------------------------------------------------


@cases("root", SMALL)
def test_the_tree_is_identical(root: str, resharded: Callable[[str], Run]) -> None:
    """Values, coordinates, indexes and attributes; of OME-Zarr, all but what 0.5 changes."""
    run = resharded(root)
    options: dict[str, Any] = {"engine": "hfzarr", "drop_variables": unread(root)}
    with (
        as_stored(),
        xr.open_datatree(run.source, **options) as old,
        xr.open_datatree(run.target, **options) as new,
    ):
        xr.testing.assert_identical(as_in_0_5(new), as_in_0_5(old))
        assert dtypes(new) == dtypes(as_in_0_5(old))


def as_in_0_5(tree: xr.DataTree) -> xr.DataTree:
    """Return a tree without the version; a label of a channel is a string in 0.5."""
    found = {}
    for node in tree.subtree:
        dataset = node.to_dataset(inherit=False)
        version = dataset.attrs.pop("ome_version", None)
        numbered = version and "c" in dataset.coords and dataset["c"].dtype.kind in "iu"
        found[node.path] = (
            dataset.assign_coords(c=dataset["c"].astype(str)) if numbered else dataset
        )
    return xr.DataTree.from_dict(found)


def dtypes(tree: xr.DataTree) -> dict[str, str]:
    return {
        f"{node.path}/{name}": dtype_name(variable.dtype)
        for node in tree.subtree
        for name, variable in node.to_dataset(inherit=False).variables.items()
    }


@contextlib.contextmanager
def as_stored() -> Iterator[None]:
    """Let repairs pass, and what xarray says of these stores, before and after."""
    with quietly(), warnings.catch_warnings():
        # ROMS names variables of other groups.
        warnings.filterwarnings("ignore", "Variable.s. referenced in formula_terms")
        yield


# Those that xarray's engine opens: other v2 stores lack _ARRAY_DIMENSIONS, OME-Zarr before 0.5 has
# other attributes, and where dimension_names are added it opens the target alone.
GROUPS = [
    root
    for root in SMALL
    if root.startswith(("R-CF_zarr/roms", "eopf", "esmvalcore", "intake", "titiler"))
]


@cases("root", GROUPS)
def test_xarrays_engine_sees_the_same(root: str, resharded: Callable[[str], Run]) -> None:
    """A v2 array is masked by its fill value, a v3 array by an attribute."""
    run = resharded(root)
    options: dict[str, Any] = {"engine": "zarr", "decode_coords": "all"}
    with (
        as_stored(),
        xr.open_datatree(run.source, **options) as old,
        xr.open_datatree(run.target, **options) as new,
    ):
        xr.testing.assert_identical(new, old)
        assert dtypes(new) == dtypes(old)
        assert packing(new) == packing(old)


PACKING = ("scale_factor", "add_offset", "units", "calendar", "_FillValue", "coordinates")


def packing(tree: xr.DataTree) -> dict[str, dict[str, str]]:
    """Return how variables are packed: what xarray would write them back with."""
    return {
        f"{node.path}/{name}": {
            # A number is Python's or NumPy's.
            key: str(np.asarray(variable.encoding[key]).tolist())
            for key in PACKING
            if key in variable.encoding
        }
        for node in tree.subtree
        for name, variable in node.to_dataset(inherit=False).variables.items()
    }


@cases("root", GROUPS)
def test_diagnosis_stays(root: str, resharded: Callable[[str], Run]) -> None:
    run = resharded(root)
    with as_stored():
        old, new = (
            xr.open_datatree(store, engine="hfzarr").hfzarr.diagnose()
            for store in (run.source, run.target)
        )
    assert [(f.where, f.found) for f in new.repairs] == [(f.where, f.found) for f in old.repairs]


# --- other chunks, other codecs, little memory ---------------------------------------------------


@cases("root", SMALL)
def test_other_codecs(root: str, realdata: Path, tmp_path: Path) -> None:
    run = reshard(root, realdata / root, tmp_path / "target", codecs="zstd:1")
    assert differences(root, run.target) == {}
    for path in SHA[root]:
        codecs = inner_codecs(document(run.target, path))
        assert codecs[-1] == {
            "name": "zstd",
            "configuration": {"level": 1, "checksum": False},
        }, path


def inner_codecs(doc: dict[str, Any]) -> list[dict[str, Any]]:
    codecs: list[dict[str, Any]] = doc["codecs"]
    sharded = codecs[0]["name"] == "sharding_indexed"
    return list(codecs[0]["configuration"]["codecs"]) if sharded else codecs


def has_plane(root: str) -> bool:
    """Whether a store has arrays over y and x."""
    here = folder()
    assert here is not None
    return root.startswith(("titiler_xarray/dataset", "titiler_multidim/py", "eopf_S2C")) or any(
        {"y", "x"} <= set(dims) for dims in level_dims(here / root).values()
    )


PLANES = [root for root in SMALL if has_plane(root)]


@cases("root", PLANES)
def test_other_chunks(root: str, realdata: Path, tmp_path: Path) -> None:
    sides = {"y": 64, "x": 64}
    with quietly():
        before = hfzarr.plan_reshard(realdata / root, drop_variables=unread(root))
    run = reshard(root, realdata / root, tmp_path / "target", inner_chunk=sides)
    assert differences(root, run.target) == {}
    for old, one in zip(before.arrays, run.done.plan.arrays, strict=True):
        array = open_array(run.target, one.spec.path)
        dims = array.metadata.dimension_names or [None] * array.ndim
        for n, length, dim, own in zip(
            array.chunks, array.shape, dims, old.spec.chunk, strict=True
        ):
            assert n in ((64, length, own) if dim in sides else (own, 1)), one.spec.path


def narrow(root: str, memory: str, *inner: Any, **named: int) -> Any:
    """Return a case: chunks, and so little memory that an intermediate is needed."""
    return pytest.param(root, memory, inner or named, id=f"{root}-{memory}")


@cases(
    "root,memory,inner",
    [
        narrow("R-CF_zarr/sharded_test.zarr", "256 KiB", 1, 120, 120),
        narrow("R-CF_zarr/sharded_test.zarr", "600 KiB", 1, 120, 120),
        narrow("titiler_multidim/zarr_store_v3.zarr", "80 KiB", time=1, lat=-1, lon=-1),
        narrow("titiler_multidim/zarr_store_v2.zarr", "128 KiB", time=1, lat=-1, lon=-1),
        narrow("eopf_S2C_L2A_geozarr", "600 KiB", y=-1, x=10),
    ],
)
def test_little_memory(root: str, memory: str, inner: Any, realdata: Path, tmp_path: Path) -> None:
    run = reshard(root, realdata / root, tmp_path / "target", inner_chunk=inner, max_memory=memory)
    assert "rechunk" in {one.route for one in run.done.plan.arrays}
    assert differences(root, run.target) == {}
    # The intermediate is gone.
    assert set(node_kinds(run.target)) == set(node_kinds(run.source)) - set(unread(root) or [])


# --- a part of a store ---------------------------------------------------------------------------

PARTS = [
    ("titiler_xarray/pyramid.zarr", "1"),
    ("eopf_S2C_L2A_geozarr", "measurements/reflectance/r360m"),
    (
        "fractal_cardiomyocyte/20200812-CardiomyocyteDifferentiation14-Cycle1_B_03_mip.zarr",
        "tables",
    ),
    ("vitessce_sdata_0.7/blobs.sdata.zarr", "tables"),
    ("zarrita_v3", "1d.chunked.i2"),
]


@cases("root,group", PARTS)
def test_a_node_becomes_a_store(root: str, group: str, realdata: Path, tmp_path: Path) -> None:
    with quietly():
        hfzarr.reshard(realdata / root, tmp_path / "t", group=group, verify="full", progress=False)
    below = {
        path.removeprefix(group).strip("/"): facts
        for path, facts in SHA[root].items()
        if path == group or path.startswith(f"{group}/")
    }
    assert below
    assert differences_of(below, tmp_path / "t") == {}
    found = node_kinds(tmp_path / "t")
    assert {path for path, kind in found.items() if kind == "array"} == set(below)


@cases("root", ["vitessce_sdata_0.7/blobs.sdata.zarr"])
def test_what_is_dropped_is_not_there(root: str, realdata: Path, tmp_path: Path) -> None:
    with quietly():
        hfzarr.reshard(
            realdata / root, tmp_path / "t", progress=False, drop_variables=["tables", "points"]
        )
    assert not {"tables", "points"} & {path.name for path in (tmp_path / "t").iterdir()}
    found = set(node_kinds(tmp_path / "t"))
    assert found == {
        path for path in node_kinds(realdata / root) if not path.startswith(("tables", "points"))
    }
    assert not [key for key in contents(tmp_path / "t") if "parquet" in key and "points" in key]
