"""Requirements of OME-Zarr that no JSON schema can express: they span arrays, groups or lists.

Each store breaks one MUST of the text of 0.4 or 0.5. It is refused with ``on_invalid="raise"``,
and otherwise opens with a finding. Those that the engine does not check yet are marked, and listed
in docs/conformance.md.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

import hfzarr
from rawstores import (
    image_attrs,
    scaled,
    space,
    write_array,
    write_group,
    write_image,
    write_json,
)

CHANNEL, TIME = {"name": "c", "type": "channel"}, {"name": "t", "type": "time"}


def changed(**keys: Any) -> Callable[[Path], Any]:
    return lambda store: write_image(store, **keys)


def space_before_time(store: Path) -> None:
    axes = [*space("y", "x"), TIME]
    write_group(store, image_attrs(axes=axes, datasets=[scaled("0", 1, 1, 1)]))
    write_array(store / "0", (8, 16, 2))


def more_dimensions_than_axes(store: Path) -> None:
    write_image(store, datasets=[scaled("0", 1, 1)])
    write_array(store / "0", (2, 8, 16))


def a_level_of_more_dimensions(store: Path) -> None:
    write_image(store)
    write_array(store / "1", (2, 4, 8))


def short_translation(store: Path) -> None:
    moved = scaled("0", 0.5, 0.25)
    moved["coordinateTransformations"].append({"type": "translation", "translation": [1.0]})
    write_image(store, datasets=[moved])


def dimension_names_of(level: str, names: list[str] | None) -> Callable[[Path], Any]:
    def write(store: Path) -> None:
        write_image(store, 3)
        shape = (8, 16) if level == "0" else (4, 8)
        write_array(store / level, shape, 3, dims=names)

    return write


def with_labels(spoil: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Return a writer of a sound image with sound labels, which ``spoil`` then changes."""

    def write(store: Path) -> None:
        write_image(store)
        write_group(store / "labels", {"labels": ["cells"]})
        write_image(store / "labels" / "cells")
        write_label_attrs(store)
        spoil(store)

    return write


def write_label_attrs(store: Path, **changes: Any) -> None:
    label = {"version": "0.4", "colors": [{"label-value": 1, "rgba": [255, 0, 0, 255]}]}
    attrs = image_attrs(**changes) | {"image-label": label}
    write_group(store / "labels" / "cells", attrs)


def float_labels(store: Path) -> None:
    for level, shape in (("0", (8, 16)), ("1", (4, 8))):
        write_array(store / "labels" / "cells" / level, shape, dtype="<f4")


def label_of_fewer_levels(store: Path) -> None:
    write_label_attrs(store, datasets=[scaled("0", 0.5, 0.25)])


def no_list_of_labels(store: Path) -> None:
    write_json(store / "labels" / ".zattrs", {})


def listed_label_is_absent(store: Path) -> None:
    write_json(store / "labels" / ".zattrs", {"labels": ["cells", "nuclei"]})


def plate(images: list[dict[str, Any]], *, version: str = "0.4", **changes: Any) -> Any:
    """Return a writer of a plate with one well of these images; ``changes`` replaces its keys."""
    doc = {
        "name": "p",
        "version": "0.4",
        "rows": [{"name": "A"}],
        "columns": [{"name": "1"}],
        "wells": [{"path": "A/1", "rowIndex": 0, "columnIndex": 0}],
    } | changes
    numbered = [{"id": i, "name": str(i), "maximumfieldcount": 1} for i in (0, 1)]

    def write(store: Path) -> None:
        write_group(store, {"plate": {"acquisitions": numbered} | doc})
        write_group(store / "A" / "1", {"well": {"version": version, "images": images}})
        write_image(store / "A" / "1" / "0")

    return write


FIRST = {"path": "0", "acquisition": 0}
TWICE = [{"id": 0, "name": "a", "maximumfieldcount": 1}] * 2
CASES = [
    pytest.param(space_before_time, "ordered time, channel or custom, space", id="order of axes"),
    pytest.param(more_dimensions_than_axes, "the number of axes MUST equal", id="number of axes"),
    pytest.param(changed(datasets=[scaled("0", 1.0)]), "one number per axis", id="length of scale"),
    pytest.param(short_translation, "one number per axis", id="length of translation"),
    pytest.param(a_level_of_more_dimensions, "MUST", id="dimensions of a level"),
    pytest.param(dimension_names_of("0", ["a", "b"]), "MUST match the axes", id="dimension_names"),
    pytest.param(dimension_names_of("0", None), "MUST match the axes", id="no dimension_names"),
    pytest.param(
        with_labels(listed_label_is_absent), "each listed path MUST be", id="listed label is absent"
    ),
    pytest.param(
        plate([FIRST, {"path": "1", "acquisition": 1}]),
        "'path' MUST be that of an image",
        id="no field",
    ),
    pytest.param(dimension_names_of("1", ["a", "b"]), "MUST match the axes", id="names of a level"),
    pytest.param(
        changed(datasets=[scaled("1", 1, 0.5), scaled("0", 0.5, 0.25)]),
        "from largest",
        id="order of levels",
    ),
    pytest.param(with_labels(float_labels), "integer", id="dtype of labels"),
    pytest.param(with_labels(label_of_fewer_levels), "same number", id="levels of labels"),
    pytest.param(with_labels(no_list_of_labels), "'labels' MUST", id="list of labels"),
    pytest.param(plate([FIRST], acquisitions=TWICE), "unique", id="id of acquisitions"),
    pytest.param(plate([{"path": "0"}]), "'acquisition' MUST", id="no acquisition of a field"),
    pytest.param(
        plate([{"path": "0", "acquisition": 7}]), "MUST match", id="acquisition of a field"
    ),
]


@pytest.mark.parametrize(("write", "rule"), CASES)
def test_it_is_refused(write: Callable[[Path], Any], rule: str, tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    write(store)
    with pytest.raises(hfzarr.InvalidMetadataError) as caught:
        xr.open_datatree(store, engine="hfzarr", on_invalid="raise")
    assert str(store) in str(caught.value)
    assert rule in str(caught.value)


@pytest.mark.parametrize(("write", "rule"), CASES)
def test_it_opens_with_a_finding(write: Callable[[Path], Any], rule: str, tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    write(store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hfzarr.RepairWarning)
        tree = xr.open_datatree(store, engine="hfzarr")
    assert any(node.data_vars for node in tree.subtree)
    assert any(rule in finding.rule for finding in tree.hfzarr.diagnose().repairs)


@pytest.mark.parametrize(
    "write",
    [with_labels(lambda store: None), plate([FIRST]), plate([{"path": "0", "acquisition": 1}])],
    ids=["labels", "plate", "second acquisition"],
)
def test_the_stores_are_sound_but_for_that(write: Callable[[Path], Any], tmp_path: Path) -> None:
    write(tmp_path / "a.zarr")
    tree = xr.open_datatree(tmp_path / "a.zarr", engine="hfzarr", on_invalid="raise")
    assert tree.hfzarr.diagnose().findings == ()


def findings_of(store: Path) -> str:
    with pytest.warns(hfzarr.RepairWarning):
        tree = xr.open_datatree(store, engine="hfzarr")
    return str(tree.hfzarr.diagnose())


def test_a_scale_of_zero_is_said(tmp_path: Path) -> None:
    write_image(tmp_path / "a.zarr", datasets=[scaled("0", 0, 0.25)])
    assert "axes ['y'] depend on no dimension" in findings_of(tmp_path / "a.zarr")


def test_levels_of_several_multiscales_are_the_first_ones(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    write_image(store)
    attrs = image_attrs()
    attrs["multiscales"] += image_attrs(datasets=[scaled("0", 7, 7)])["multiscales"]
    write_group(store, attrs)
    assert "share the levels ['0']" in findings_of(store)
    with pytest.warns(hfzarr.RepairWarning):
        tree = xr.open_datatree(store, engine="hfzarr")
    assert float(tree["0"].x[1]) == 0.25
    chosen = xr.open_datatree(store, engine="hfzarr", image=1)
    assert float(chosen["0"].x[1]) == 7
