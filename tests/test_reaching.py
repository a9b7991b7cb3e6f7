"""Nothing outside of a store is opened, and nothing in one is run."""

from __future__ import annotations

import base64
import contextlib
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

import hfzarr
from hfzarr.errors import HfzarrError
from rawstores import image_attrs, scaled, write_array, write_group, write_image
from strangers import Watched, open_dataset, outside, put

REACHING = ("..", "../..", "../secret.zarr", "/etc", "/etc/passwd", "file:///etc/passwd", "~",
            "http://127.0.0.1:9/x.zarr", "s3://bucket/x", "hf://datasets/u/x", "zip://x::/etc/x",
            "\\\\host\\share", "0/../../secret.zarr")  # fmt: skip


def everything(store: Path) -> None:
    path = str(store)
    asked: list[Callable[[], Any]] = [
        lambda: repr(open_dataset(store).load()),
        lambda: repr(xr.open_datatree(store, engine="hfzarr").load()),
        lambda: hfzarr.ZarrHandle(path).info(),
        lambda: hfzarr.ZarrHandle(path)._repr_html_(),
        lambda: hfzarr.scan(path),
        lambda: hfzarr.validate(path),
        lambda: hfzarr.plan_reshard(path, str(store.parent / "target.zarr")),
        lambda: open_dataset(store).hfzarr.thumbnail(),
    ]
    for ask in asked:
        with warnings.catch_warnings(), contextlib.suppress(HfzarrError):
            warnings.simplefilter("ignore")
            ask()


def reaching_image(store: Path, where: str) -> None:
    write_image(store, 3, datasets=[scaled("0", 1, 1), scaled(where, 2, 2)])
    write_group(store / "labels", {"ome": {"version": "0.5", "labels": ["a", where]}}, 3)
    label = image_attrs(3)
    label["ome"]["image-label"] = {"source": {"image": where}}
    write_image(store / "labels/a", 3)
    write_group(store / "labels/a", label, 3)


def reaching_plate(store: Path, where: str) -> None:
    wells = [{"path": p, "rowIndex": 0, "columnIndex": i} for i, p in enumerate(("A/1", where))]
    plate = {"rows": [{"name": "A"}], "columns": [{"name": "1"}, {"name": where}], "wells": wells}
    write_group(store, {"ome": {"version": "0.5", "plate": plate}}, 3)
    images = [{"path": where}, {"path": "../.."}, {"path": "."}, {"path": "0"}]
    write_group(store / "A/1", {"ome": {"version": "0.5", "well": {"images": images}}}, 3)
    write_image(store / "A/1/0", 3)


def reaching_collection(store: Path, where: str) -> None:
    write_group(store, {"ome": {"version": "0.5", "bioformats2raw.layout": 3}}, 3)
    write_group(store / "OME", {"ome": {"version": "0.5", "series": [where, "OME", ".", "0"]}}, 3)
    write_image(store / "0", 3)


def reaching_scene(store: Path, where: str) -> None:
    ends = {"input": {"path": where, "name": "a"}, "output": {"path": "0", "name": "a"}}
    scene = {"coordinateTransformations": [{"type": "identity", **ends}]}
    write_group(store, {"ome": {"version": "0.6", "scene": scene}}, 3)
    write_image(store / "0", 3)


def reaching_system(store: Path, where: str) -> None:
    axes = [{"name": name, "type": "space"} for name in "yx"]
    level = {"type": "affine", "path": where, "input": {"path": "0"}, "output": {"name": "a"}}
    loop = [
        {"type": "scale", "scale": [2, 2], "input": {"name": one}, "output": {"name": other}}
        for one, other in ("ab", "ba", "aa")
    ]
    image = {
        "coordinateSystems": [{"name": name, "axes": axes} for name in "ab"],
        "datasets": [{"path": "0", "coordinateTransformations": [level]}],
        "coordinateTransformations": [*loop, {**loop[0], "type": "displacements", "path": where}],
    }
    write_group(store, {"ome": {"version": "0.6", "multiscales": [image]}}, 3)
    write_array(store / "0", (8, 8), 3, dims=["y", "x"])


def reaching_pyramid(store: Path, where: str) -> None:
    layout = [
        {"asset": "0", "derived_from": "1", "transform": {"scale": [2, 2]}},
        {"asset": "1", "derived_from": "0", "transform": {"scale": [2, 2]}},
        {"asset": where, "derived_from": where},
    ]
    write_group(store, {"multiscales": {"layout": layout}, "proj:code": where}, 3)
    for name in "01":
        write_array(store / name, (8, 8), 3, dims=["y", "x"])


def reaching_cf(store: Path, where: str) -> None:
    write_group(store, {"coordinates": where, "history": where}, 3)
    attributes = {
        "coordinates": f"t {where}", "grid_mapping": where, "cell_measures": f"area: {where}",
        "bounds": where, "external_variables": where, "ancillary_variables": where,
    }  # fmt: skip
    write_array(store / "v", (4,), 3, dims=["t"], attributes=attributes)
    write_array(store / "t", (4,), 3, dims=["t"], attributes=attributes)


STORES = (
    reaching_image, reaching_plate, reaching_collection, reaching_scene, reaching_system,
    reaching_pyramid, reaching_cf,
)  # fmt: skip


@pytest.mark.parametrize("make", STORES, ids=lambda make: make.__name__)
def test_nothing_outside_of_a_store_is_opened(
    tmp_path: Path, make: Callable[[Path, str], None]
) -> None:
    everything(write_image(tmp_path / "sound.zarr", 3))  # what is imported at first use
    write_image(tmp_path / "secret.zarr", 3)
    for number, where in enumerate(REACHING):
        store = tmp_path / f"s{number}.zarr"
        make(store, where)
        with Watched() as opened:
            everything(store)
        # A second path, into the store's own folder's neighbour, is outside too.
        assert outside(opened, store, tmp_path / "target.zarr") == [], where


def test_the_hook_sees_what_is_opened(tmp_path: Path) -> None:
    put(tmp_path / "file", b"")
    with Watched() as opened:
        (tmp_path / "file").read_bytes()
    assert outside(opened, tmp_path / "other") == [f"open {tmp_path / 'file'}"]


class Evil:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("import sys; sys.audit('exec.evil', 'run')",)


PICKLE = pickle.dumps(Evil())
OBJECTS: dict[str, dict[str, Any]] = {
    "pickle": {"filters": [{"id": "pickle"}]},
    "pickle as compressor": {"compressor": {"id": "pickle"}},
    "pickle behind json": {"filters": [{"id": "json2"}, {"id": "pickle"}]},
    "pickle as fill": {
        "filters": [{"id": "json2"}],
        "fill_value": base64.b64encode(PICKLE).decode(),
    },
    "Pickle": {"compressor": {"id": "Pickle"}},
    "numcodecs.pickle": {"compressor": {"id": "numcodecs.pickle"}},
    "none": {"filters": None},
    "json2": {"filters": [{"id": "json2"}]},
    "msgpack2": {"filters": [{"id": "msgpack2"}]},
    "vlen-array": {"filters": [{"id": "vlen-array", "dtype": "|O"}]},
    "vlen-utf8": {"filters": [{"id": "vlen-utf8"}]},
    "fields": {"dtype": [["a", "|O"]]},
    "astype": {"filters": [{"id": "astype", "encode_dtype": "|O", "decode_dtype": "|O"}]},
    "categorize": {
        "filters": [{"id": "categorize", "labels": ["a"], "dtype": "|O", "astype": "|u1"}]
    },
    "delta": {"filters": [{"id": "delta", "dtype": "|O"}], "dtype": "|u1"},
}


@pytest.mark.parametrize("name", OBJECTS)
def test_no_pickle_is_ever_run(tmp_path: Path, name: str) -> None:
    fields = {"dtype": "|O", "fill_value": None, **OBJECTS[name]}
    store = write_group(tmp_path / "s.zarr", {})
    write_array(store / "v", (4,), **fields)
    put(store / "v/0", PICKLE)
    with Watched() as opened:
        everything(store)
    assert [e for e in opened if e.startswith(("pickle", "exec.evil", "os.system"))] == []


def test_the_hook_sees_a_pickle_run() -> None:
    with Watched() as opened:
        pickle.loads(PICKLE)
    assert "exec.evil run" in opened


def test_options_in_a_table_of_strangers_are_not_obeyed(tmp_path: Path) -> None:
    import pyarrow as pa

    cell = {
        "path": "http://127.0.0.1:9/x.zarr",
        "storage_options": {"client_kwargs": {"base_url": "http://127.0.0.1:9"}},
    }
    with Watched() as opened:
        try:
            manifest = hfzarr.open_manifest(pa.table({"zarr": [cell], "storage_options": ["{}"]}))
        except HfzarrError:
            return
        assert manifest[0]["zarr"].location.storage_options == {}
    assert outside(opened, tmp_path) == []
