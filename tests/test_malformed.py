"""What is malformed in the wild is repaired and said so; what cannot be read is refused by name."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
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
)

Y, X = 0.5 * np.arange(8), 0.25 * np.arange(16)
"""Positions in the image that `write_image` writes."""


@dataclass
class Malformed:
    """A malformation of the wild, and what is to become of it."""

    write: Callable[[Path], Any]
    """Writes the store."""
    says: str
    """What the warning and the finding say of the fault or its repair."""
    rule: str
    """A part of the rule."""
    severity: str = "must"
    dims: tuple[str, ...] = ("y", "x")
    units: str | None = "micrometer"
    zipped: bool = False
    positions: tuple[Any, Any] = (Y, X)
    """Positions along y and x."""
    findings: int = 1
    """How many of them are worth a warning."""


def changed(**keys: Any) -> Callable[[Path], Any]:
    """Return a writer of the sound 0.4 image with keys of its multiscale changed."""
    return lambda store: write_image(store, **keys)


def with_attrs(change: Callable[[dict[str, Any]], Any], zarr_format: int = 2) -> Any:
    """Return a writer of the sound image whose attributes ``change`` spoils."""

    def write(store: Path) -> None:
        write_image(store, zarr_format)
        attrs = image_attrs(zarr_format)
        change(attrs)
        write_group(store, attrs, zarr_format)

    return write


def v04_on_v3(store: Path) -> None:
    write_image(store, 3)
    write_group(store, image_attrs(2), 3)


def reversed_transforms(store: Path) -> None:
    """Write the translation before the scale; it still counts in units, not in pixels."""
    dataset = {
        "path": "0",
        "coordinateTransformations": [
            {"type": "translation", "translation": [10.0, 20.0]},
            {"type": "scale", "scale": [0.5, 0.25]},
        ],
    }
    write_image(store, datasets=[dataset])


def channel_image(store: Path, omero: Any) -> None:
    """Write an image with two channels and this ``omero``."""
    axes = [{"name": "c", "type": "channel"}, *space("y", "x")]
    attrs = image_attrs(axes=axes, datasets=[scaled("0", 1, 0.5, 0.25)]) | {"omero": omero}
    write_group(store, attrs)
    write_array(store / "0", (2, 8, 16))


def channel(label: str) -> dict[str, Any]:
    window = {"min": 0, "max": 255, "start": 0, "end": 200}
    return {"label": label, "color": "00FF00", "window": window}


def labels_without_ome(store: Path) -> None:
    """Write a 0.5 image whose labels group has its metadata outside of ``ome``."""
    write_image(store, 3)
    write_group(store / "labels", {"labels": ["cells"]}, 3)
    label = image_attrs(3)
    label["ome"]["image-label"] = {"colors": [{"label-value": 1, "rgba": [255, 0, 0, 255]}]}
    write_image(store / "labels" / "cells", 3)
    write_group(store / "labels" / "cells", label, 3)


def old_collection(store: Path) -> None:
    write_group(store, {"bioformats2raw.layout": 1})
    write_image(store / "0")


def folder_in_zip(store: Path) -> None:
    write_image(store / "cells.zarr")


def axes_without_type(store: Path) -> None:
    axes: list[dict[str, str]] = [{"name": n, "unit": "micrometer"} for n in "yx"]
    write_image(store, axes=axes)


def axes_with_unit(unit: str | None) -> Callable[[Path], Any]:
    return changed(axes=[{**axis, "unit": unit} for axis in space("y", "x")])


def drop_version(attrs: dict[str, Any]) -> None:
    attrs.get("ome", attrs["multiscales"][0] if "multiscales" in attrs else {}).pop("version")


SOUND = [scaled("0", 0.5, 0.25), scaled("1", 1.0, 0.5)]
CASES = {
    "no version, 0.4": Malformed(
        with_attrs(drop_version), "no version", "'version' names", severity="should"
    ),
    "no version, 0.5": Malformed(with_attrs(drop_version, 3), "no version", "'version' names"),
    "version 0.4-dev-spatialdata": Malformed(
        changed(version="0.4-dev-spatialdata"), "version '0.4-dev-spatialdata'", "'version' names"
    ),
    "version 0.5-dev-spatialdata": Malformed(
        with_attrs(lambda attrs: attrs["ome"].update(version="0.5-dev-spatialdata"), 3),
        "read as 0.5",
        "'version' names",
    ),
    "no transformations of the image": Malformed(
        changed(coordinateTransformations=[]), "coordinateTransformations []", "MUST NOT be empty"
    ),
    "0.4 on Zarr v3": Malformed(
        v04_on_v3, "directly in the attributes", "stands under 'ome'"
    ),
    "translation before scale": Malformed(
        reversed_transforms, "scale applied first, then translation", "exactly one scale",
        positions=(10 + Y, 20 + X),
    ),
    "axes as strings": Malformed(
        changed(axes=["y", "x"]), "the string 'y'", "each axis is an object", units=None, findings=2
    ),
    "axes without a type": Malformed(
        axes_without_type, "axis 'y' without a type", "'type' SHOULD be there",
        severity="should", findings=2,
    ),
    "no transformation of a level": Malformed(
        changed(datasets=[{"path": "0"}, scaled("1", 2.0, 2.0)]),
        "scale [1.0, 1.0], from the shapes",
        "MUST have 'coordinateTransformations'", positions=(np.arange(8.0), np.arange(16.0)),
    ),
    "a listed level is absent": Malformed(
        changed(datasets=[*SOUND, scaled("2", 2.0, 1.0)]), "level '2' is not there",
        "'path' MUST be the path of an array",
    ),
    "omero with labels only": Malformed(
        lambda store: channel_image(store, {"channels": [{"label": "DAPI"}, {"label": "GFP"}]}),
        "channel 0 without a color", "'color' is a string", dims=("c", "y", "x"), findings=4,
    ),
    "omero with too few channels": Malformed(
        lambda store: channel_image(store, {"channels": [channel("DAPI")]}),
        "1 channels for an axis of length 2", "one channel per index", dims=("c", "y", "x"),
    ),
    "omero with too many channels": Malformed(
        lambda store: channel_image(store, {"channels": [channel(n) for n in ("a", "b", "c")]}),
        "3 channels for an axis of length 2", "one channel per index", dims=("c", "y", "x"),
    ),
    "unit µm": Malformed(
        axes_with_unit("µm"), "unit 'µm'", "UDUNITS-2", severity="should", findings=2
    ),
    "unit null": Malformed(
        axes_with_unit(None), "unit None of axis 'y'", "MUST be a string", units=None, findings=2
    ),
    "labels group without ome": Malformed(
        labels_without_ome, "['labels'] directly in the attributes", "stands under 'ome'"
    ),
    "bioformats2raw.layout 1": Malformed(
        old_collection, "bioformats2raw.layout 1", "'bioformats2raw.layout' MUST be 3"
    ),
    "a folder around the store in a zip": Malformed(
        folder_in_zip, "the folder 'cells.zarr", "at the root of the zip", zipped=True
    ),
}  # fmt: skip
CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture
def store(case: Malformed, tmp_path: Path) -> Path:
    path = tmp_path / "wild.zarr"
    case.write(path)
    if not case.zipped:
        return path
    return Path(shutil.make_archive(str(path), "zip", path))


def repairs(caught: list[warnings.WarningMessage]) -> list[str]:
    """Return the messages, after a look that nothing else was warned of."""
    assert {item.category for item in caught} <= {hfzarr.RepairWarning}
    return [str(item.message) for item in caught]


def open_tree(store: Path, **options: Any) -> tuple[xr.DataTree, list[str]]:
    """Open a store as a tree; return it with the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tree = xr.open_datatree(store, engine="hfzarr", **options)
    return tree, repairs(caught)


@CASE
def test_it_opens_right(case: Malformed, store: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hfzarr.RepairWarning)
        opened = xr.open_dataset(store, engine="hfzarr")
    assert opened["image"].dims == case.dims
    assert opened["image"].dtype == np.uint8
    for dim, positions in zip("yx", case.positions, strict=True):
        np.testing.assert_allclose(opened[dim], positions)
        assert opened[dim].attrs.get("units") == case.units


@CASE
def test_one_warning_names_the_repair(case: Malformed, store: Path) -> None:
    tree, messages = open_tree(store)
    assert len(messages) == 1
    assert str(store) in messages[0]
    assert case.says in messages[0]
    assert "diagnose()" in messages[0]
    assert ("on_invalid='raise'" in messages[0]) == (case.severity == "must")
    assert any(node.data_vars for node in tree.subtree)


@CASE
def test_diagnose_lists_it(case: Malformed, store: Path) -> None:
    tree, _ = open_tree(store)
    diagnosis = tree.hfzarr.diagnose()
    worth = [finding for finding in diagnosis.findings if finding.severity != "note"]
    assert len(worth) == case.findings, str(diagnosis)
    assert {finding.severity for finding in worth} == {case.severity}
    found = [str(finding) for finding in worth]
    assert any(case.says in text and case.rule in text for text in found), found
    assert diagnosis.ok == (case.severity != "must")


@CASE
def test_warn_quotes_each_rule(case: Malformed, store: Path) -> None:
    _, messages = open_tree(store, on_invalid="warn")
    assert len(messages) == case.findings
    assert any(case.says in text and case.rule in text for text in messages), messages
    assert all(str(store) in text for text in messages)


@CASE
@pytest.mark.parametrize("opener", [xr.open_dataset, xr.open_datatree])
def test_raise_refuses_and_quotes_the_rule(
    case: Malformed, store: Path, opener: Callable[..., Any]
) -> None:
    if case.severity != "must":
        with pytest.warns(hfzarr.RepairWarning, match="does not follow|departs from"):
            opener(store, engine="hfzarr", on_invalid="raise")
        return
    if opener is xr.open_dataset and (store / "labels").exists():
        return  # A Dataset of the image does not look at its labels.
    with pytest.raises(hfzarr.InvalidMetadataError) as caught:
        opener(store, engine="hfzarr", on_invalid="raise")
    message = str(caught.value)
    assert str(store) in message
    assert case.rule in message
    assert "node '" in message
    assert "on_invalid='repair'" in message


def test_a_sound_store_has_no_findings(tmp_path: Path) -> None:
    """The stores above are sound but for their one fault."""
    for zarr_format in (2, 3):
        store = write_image(tmp_path / f"v{zarr_format}.zarr", zarr_format)
        for mode in ("repair", "warn", "raise"):
            tree, messages = open_tree(store, on_invalid=mode)
            assert messages == []
            assert tree.hfzarr.diagnose().findings == ()


def test_channels_of_a_malformed_omero(tmp_path: Path) -> None:
    def labels(name: str, channels: list[Any]) -> Any:
        channel_image(tmp_path / name, {"channels": channels})
        with pytest.warns(hfzarr.RepairWarning):
            opened = xr.open_dataset(tmp_path / name, engine="hfzarr")
        return opened["c"].values.tolist()

    assert labels("only", [{"label": "DAPI"}, {"label": "GFP"}]) == ["DAPI", "GFP"]
    assert labels("few", [channel("DAPI")]) == ["DAPI", "channel 1"]
    assert labels("many", [channel("a"), channel("b"), channel("c")]) == ["a", "b"]


def test_labels_group_without_ome_shows_its_labels(tmp_path: Path) -> None:
    labels_without_ome(tmp_path / "a.zarr")
    tree, _ = open_tree(tmp_path / "a.zarr")
    assert tree["labels/cells/0"].ds["labels"].dtype == np.uint8


def test_levels_that_are_absent_leave_the_others(tmp_path: Path) -> None:
    datasets = [scaled("full", 0.5, 0.25), *SOUND]
    store = write_image(tmp_path / "a.zarr", datasets=datasets)
    tree, messages = open_tree(store)
    assert [path for path in tree.children if path != "labels"] == ["0", "1"]
    assert "level 'full' is not there" in messages[0]


def test_many_repairs_are_one_warning_of_bounded_length(tmp_path: Path) -> None:
    """A plate with a fault in each of 60 fields warns once, and lists some."""
    store = tmp_path / "plate.zarr"
    columns = [str(i) for i in range(60)]
    wells = [{"path": f"A/{i}", "rowIndex": 0, "columnIndex": i} for i in range(60)]
    plate = {"version": "0.4", "name": "p", "rows": [{"name": "A"}], "wells": wells}
    write_group(store, {"plate": {**plate, "columns": [{"name": c} for c in columns]}})
    for column in columns:
        write_group(store / "A" / column, {"well": {"version": "0.4", "images": [{"path": "0"}]}})
        axes_with_unit(None)(store / "A" / column / "0")
    tree, messages = open_tree(store)
    assert len(messages) == 1
    assert len(messages[0].splitlines()) < 30
    assert "and 100 more" in messages[0]
    assert len(tree.hfzarr.diagnose().repairs) == 120
