"""Every array of the real stores comes out of the engine with the bytes that others read there."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from packaging.version import Version

import hfzarr
from realstores import cases, expected, folder, quietly, root_of

# A tree shows of an OME image its levels and labels, not the AnnData tables that Fractal keeps
# beside them. Those open by themselves, with group=.
BESIDE_IMAGES = ("fractal_cardiomyocyte", "ngio_v04", "ngio_v05")


def by_root() -> dict[str, dict[str, Any]]:
    """Return ``{root: {path of an array in it: what is expected of it}}``."""
    stores: dict[str, dict[str, Any]] = defaultdict(dict)
    for path, facts in expected().items():
        root = root_of(path)
        stores[root][path.removeprefix(root).strip("/")] = facts
    return dict(stores)


def is_refused(root: str, path: str, facts: dict[str, Any]) -> bool:
    """Whether the zarr-python at hand cannot read an array, whoever can."""
    if "zarr_python" in facts:
        return True
    # numcodecs lends its codecs to v3 arrays from zarr-python 3.1.3 on.
    document = Path(str(folder())) / root / path / "zarr.json"
    old = Version(zarr.__version__) < Version("3.1.3")
    return old and document.is_file() and '"numcodecs.' in document.read_text("utf-8")


STORES = by_root()
REFUSED = [
    (root, path)
    for root, arrays in STORES.items()
    for path, facts in arrays.items()
    if is_refused(root, path, facts)
]
SHA = {
    root: readable
    for root, arrays in STORES.items()
    if (readable := {path: arrays[path] for path in arrays if (root, path) not in REFUSED})
}


def sha(values: Any) -> str:
    """Return the digest that ``expected.json`` holds.

    Of numbers and fixed-length bytes, it is that of the bytes, little-endian and in C order; of
    strings, that of the nested list as JSON.
    """
    array = np.asarray(values)
    if array.dtype.kind in "UTO":
        data = json.dumps(array.tolist()).encode()
    else:
        data = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return hashlib.sha256(data).hexdigest()[:16]


def dtype_name(dtype: str | np.dtype[Any]) -> str:
    """Return the name of a dtype, native as xarray's decoders make it; strings are all alike.

    (xarray takes the bytes of a big-endian string for its length: ``>U13`` becomes ``<U52``.)
    """
    if dtype == "StringDType()" or (kind := np.dtype(dtype)).kind in "UTO":
        return "string"
    return kind.newbyteorder("=").name


def name_of(path: str, root: str) -> str:
    """Return the name of an array; one at the root of its store is named after the file."""
    return path.rpartition("/")[2] or Path(root).name.removesuffix(".zarr")


def difference(variable: xr.Variable, facts: dict[str, Any]) -> str | None:
    """Return what is wrong with a variable, or None."""
    if list(variable.shape) != facts["shape"]:
        return f"shape {variable.shape}, not {facts['shape']}"
    if dtype_name(variable.dtype) != dtype_name(facts["dtype"]):
        return f"dtype {variable.dtype}, not {facts['dtype']}"
    if "sha" not in facts:
        return None  # Too large to read in a test; nobody has.
    found = sha(variable.values)
    return None if found == facts["sha"] else f"sha {found}, not {facts['sha']}"


@cases("root", sorted(SHA))
def test_each_array_by_its_path(root: str, realdata: Path) -> None:
    wrong = {}
    for path, facts in SHA[root].items():
        name = name_of(path, root)
        with (
            quietly(),
            xr.open_dataset(
                realdata / root, engine="hfzarr", group=path or None, decode_cf=False
            ) as opened,
        ):
            assert set(opened.data_vars) <= {name}, path
            wrong[path] = difference(opened.variables[name], facts)
    assert {path: said for path, said in wrong.items() if said} == {}


def variables_of(tree: xr.DataTree, root: str) -> dict[str, xr.Variable]:
    """Return the variables of a tree by the path of the array each is read from.

    A level of an image is a node, named as its array, with the variable ``image`` or ``labels``.
    An array that fits into no Dataset is a node with a variable of its own name.
    """
    found = {}
    for node in tree.subtree:
        where = node.path.strip("/")
        own = name_of(where, root)
        for name, variable in node.to_dataset(inherit=False).variables.items():
            pixels = name in ("image", "labels") and "level" in node.attrs
            lone = name == own and not node.children
            found[f"{where}/{name}".strip("/")] = variable
            if pixels or lone:
                found[where] = variable
    return found


def open_tree(stores: Path, root: str) -> xr.DataTree:
    """Open a store as a tree of undecoded arrays, without those that nobody reads."""
    unread = [path for store, path in REFUSED if store == root]
    return xr.open_datatree(
        stores / root, engine="hfzarr", decode_cf=False, drop_variables=unread or None
    )


@cases("root", sorted(SHA))
def test_each_array_in_the_tree(root: str, realdata: Path) -> None:
    with quietly(), open_tree(realdata, root) as tree:
        found = variables_of(tree, root)
        missing = [path for path in SHA[root] if path not in found]
        wrong = {
            path: difference(found[path], SHA[root][path]) for path in SHA[root].keys() & found
        }
    assert {path: said for path, said in wrong.items() if said} == {}
    beside = root.startswith(BESIDE_IMAGES)
    assert missing == [path for path in SHA[root] if beside and path.startswith("tables/")]


@cases("root,path", REFUSED)
def test_what_nobody_reads_is_refused_by_name(root: str, path: str, realdata: Path) -> None:
    store = realdata / root
    with pytest.raises(hfzarr.UnsupportedError) as caught:
        xr.open_dataset(store, engine="hfzarr", group=path or None)
    message = str(caught.value)
    assert str(store) in message
    assert repr(path or "/") in message


@cases("root", ["zarrita_v2"])
def test_one_array_that_nobody_reads_does_not_hide_the_others(root: str, realdata: Path) -> None:
    """What cannot be read is left out by name, and the rest of the group opens."""
    store = realdata / root
    dropped = "1d.contiguous.json2.O"
    with pytest.raises(hfzarr.UnsupportedError, match=r"1d\.contiguous\.json2\.O"):
        xr.open_datatree(store, engine="hfzarr", consolidated=False)
    tree = xr.open_datatree(store, engine="hfzarr", consolidated=False, drop_variables=dropped)
    assert len(tree.children) == 32  # 31 arrays that have no dimension names, and a group.
    assert dropped not in tree.children
