"""OME-Zarr metadata of any version, rewritten as 0.5, is sound and says what it said before.

Stores are written anew as v3, without pixels: `write` is what resharding does with metadata. The
result is held against hfzarr's own reading, the JSON schemas of 0.5 and ome-zarr-models.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

import hfzarr
import ome_reference as reference
from hfzarr.model.array import ArrayMeta, parse_array
from hfzarr.model.ome.image import Image, level_paths, parse_image
from hfzarr.model.ome.plate import Field, Plate, parse_plate, parse_well
from hfzarr.model.ome.upgrade import labels_attrs, level_dims, upgrade_attrs
from hfzarr.model.ome.version import OmeAttrs, ome_attrs
from hfzarr.model.report import Report
from hfzarr.store.folder import FolderSource
from hfzarr.store.hierarchy import Hierarchy, NodeDoc
from hfzarr.store.node import classify, read_images
from rawstores import image_attrs, scaled, space, write_array, write_group, write_image
from realstores import DOCUMENTS, cases, folder, root_of
from test_malformed import CASES as MALFORMED
from test_ngff_suites import DIFFERENCES, build, suite_cases

ROOTS = sorted(
    {
        root_of(group.relative_to(here).as_posix())
        for here in [folder()]
        if here is not None
        for group in reference.image_groups(here)
    }
)


# --- a store's metadata, before and after --------------------------------------------------------


@dataclass
class Group:
    """A group with OME metadata, as hfzarr reads it."""

    node: NodeDoc
    ome: OmeAttrs
    report: Report
    images: tuple[Image, ...] = ()
    plate: Plate | None = None
    fields: tuple[Field, ...] = ()
    said: Report = field(default_factory=Report)
    """What was said when its attributes were upgraded."""

    def upgraded(self) -> dict[str, Any]:
        stored = copy.deepcopy(dict(self.node.attrs))
        attrs = upgrade_attrs(self.node.attrs, self.ome, images=self.images, report=self.said)
        assert self.node.attrs == stored, "the attributes of the source were changed"
        return attrs


def hierarchy(store: Path) -> Hierarchy:
    found = Hierarchy(FolderSource(str(store)), consolidated=False)
    found.open()
    found.load(paths(store))
    return found


def paths(store: Path) -> list[str]:
    folders = {file.parent for name in DOCUMENTS for file in store.rglob(name)}
    return sorted(one.relative_to(store).as_posix().removeprefix(".") for one in folders)


def read(store: Path) -> dict[str, Group]:
    """Return the groups of a store that have OME metadata, by path."""
    nodes = hierarchy(store)
    found = {}
    for path in paths(store):
        node = nodes.node(path)
        if node is not None and node.kind == "group":
            report = Report()
            _, ome = classify(node, report)
            if ome is not None:
                found[path] = read_group(nodes, Group(node, ome, report))
    return found


def read_group(nodes: Hierarchy, group: Group) -> Group:
    ome, report = group.ome, group.report
    if "multiscales" in ome:
        read = read_images(nodes, [ome], report, labels=False, lenient=True)
        group.images = read[ome.where].images if read else ()
    # What has no wells or images is refused; what is refused is not to be changed.
    for key, parse in (("plate", parse_plate), ("well", parse_well)):
        if key in ome:
            try:
                setattr(group, {"well": "fields"}.get(key, key), parse(ome, report))
            except hfzarr.InvalidMetadataError as error:
                report.must(ome.where, "it MUST be readable", str(error), "left out")
    return group


def write(source: Path, target: Path) -> dict[str, Group]:
    """Write the groups and arrays of a store as v3; return its OME groups, as they were."""
    nodes = hierarchy(source)
    groups = read(source)
    dims = level_dims(image for group in groups.values() for image in group.images)
    for path in paths(source):
        node = nodes.node(path)
        if node is None:
            continue
        if node.kind == "group":
            write_group(target / path, groups[path].upgraded() if path in groups else node.attrs, 3)
        elif path in dims and (array := nodes.array(path)) is not None:
            codecs = [{"name": "bytes", "configuration": {"endian": "little"}}]
            kind = {"data_type": array.dtype.newbyteorder("=").name, "codecs": codecs}
            write_array(target / path, array.shape, 3, dims=dims[path], **kind)
    return groups


def positions(image: Image) -> list[Any]:
    return [(level.path, level.dims, level.coords, level.affine) for level in image.levels]


def channels(image: Image) -> list[Any]:
    """Return the channels of an image; a number as a label is a string in 0.5."""
    return [
        (None if one.label is None else str(one.label), one.color, one.window)
        for one in image.channels
    ]


def assert_same(before: Group, after: Group) -> None:
    """Fail where a group means another thing than it did."""
    assert len(before.images) == len(after.images)
    for old, new in zip(before.images, after.images, strict=True):
        assert (new.name, new.axes, new.label) == (old.name, old.axes, old.label)
        assert positions(new) == positions(old)
        assert channels(new) == channels(old)
        assert new.channel_dim == old.channel_dim
    assert after.plate == before.plate
    assert after.fields == before.fields


def assert_sound(group: Group) -> None:
    assert group.ome.version == group.ome.spelled == "0.5"
    assert group.node.attrs["ome"]["version"] == "0.5"
    assert group.report.repairs == ()


# --- real stores ---------------------------------------------------------------------------------


@cases("root", ROOTS)
def test_a_real_store_means_the_same(root: str, realdata: Path, tmp_path: Path) -> None:
    before = write(realdata / root, tmp_path)
    after = read(tmp_path)
    assert before.keys() == after.keys()
    for path, group in after.items():
        assert_same(before[path], group)
        if before[path].ome.version == "0.6":
            assert group.node.attrs == before[path].node.attrs
        else:
            assert_sound(group)


@cases("root", ROOTS)
def test_nothing_of_a_real_store_is_lost(root: str, realdata: Path, tmp_path: Path) -> None:
    """What is in the new attributes, with the old ones beside it, is all that there was."""
    before = write(realdata / root, tmp_path)
    after = read(tmp_path)
    for path, group in before.items():
        new, old = after[path].node.attrs, group.node.attrs
        inside = new["ome"] if group.ome.version != "0.6" else {}
        for key, value in old.items():
            if key != "ome":
                assert new.get(key) == value or holds(inside[key], value, key), key
        for key, value in old.get("ome", {}).items():
            assert new.get(key) == value or holds(new["ome"][key], value, key), key


def holds(new: Any, old: Any, key: str = "") -> bool:
    """Whether a value says all that another said, but for versions and the label of a channel."""
    if key in ("version", "label", "bioformats2raw.layout"):
        return True
    if isinstance(old, Mapping):
        return all(name == "version" or holds(new.get(name), old[name], name) for name in old)
    if isinstance(old, list):
        return len(old) == len(new) and all(map(holds, new, old))
    return bool(new == old)


@cases("root", [root for root in ROOTS if "0.6" not in root and "v06" not in root])
def test_a_second_time_changes_nothing(root: str, realdata: Path, tmp_path: Path) -> None:
    write(realdata / root, tmp_path / "a")
    for group in write(tmp_path / "a", tmp_path / "b").values():
        assert group.upgraded() == group.node.attrs
        assert not len(group.said)


@cases("root", ROOTS)
def test_a_real_store_opens_without_repair(root: str, realdata: Path, tmp_path: Path) -> None:
    write(realdata / root, tmp_path)
    with xr.open_datatree(
        tmp_path, engine="hfzarr", on_invalid="raise", consolidated=False
    ) as tree:
        assert tree.hfzarr.diagnose().repairs == ()


def test_versions_of_the_real_stores(realdata: Path) -> None:
    """There are stores of every version, so that the tests above mean something."""
    found = {g.ome.version for root in ROOTS for g in read(realdata / root).values()}
    assert found == {"0.1", "0.2", "0.4", "0.5", "0.6"}


# --- strangers: the schemas of 0.5, and ome-zarr-models ------------------------------------------

SCHEMAS = {
    "multiscales": "image",
    "image-label": "label",
    "plate": "plate",
    "well": "well",
    "bioformats2raw.layout": "bf2raw",
    "series": "ome",
}
OLD = [root for root in ROOTS if "0.6" not in root and "v06" not in root]


@cache
def checkers(realdata: Path) -> dict[str, Any]:
    """Return a checker for each key that a schema of 0.5 speaks of."""
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema comes with moto's server")
    referencing = pytest.importorskip("referencing")
    here = realdata / "ngff-spec_0.5_suites" / "schemas"
    names = {*SCHEMAS.values(), "_version"}
    docs = {name: json.loads((here / f"{name}.schema").read_text("utf-8")) for name in names}
    registry = referencing.Registry().with_contents([(doc["$id"], doc) for doc in docs.values()])
    return {
        key: jsonschema.Draft202012Validator(docs[name], registry=registry)
        for key, name in SCHEMAS.items()
    }


def schema_faults(attrs: Mapping[str, Any], realdata: Path) -> list[str]:
    known = {key: one for key, one in checkers(realdata).items() if key in attrs["ome"]}
    return [error.message for one in known.values() for error in one.iter_errors(attrs)]


@cases("root", OLD)
def test_schemas_hold(root: str, realdata: Path, tmp_path: Path) -> None:
    for group in write(realdata / root, tmp_path).values():
        assert schema_faults(group.upgraded(), realdata) == []


@cases("root", OLD)
def test_ome_zarr_models_reads_it(root: str, realdata: Path, tmp_path: Path) -> None:
    """It reads every group with its arrays, and compares axes, dimension names and scales."""
    pytest.importorskip("ome_zarr_models", reason="ome-zarr-models needs a later zarr")
    write(realdata / root, tmp_path)
    for path, group in read(tmp_path).items():
        model = model_of(group, path)
        if model is not None:
            with warnings.catch_warnings():
                # It wants a plate to state the version once more.
                warnings.filterwarnings("ignore", "'version' field not specified in plate")
                model.from_zarr(zarr.open_group(tmp_path / path, mode="r"))


def model_of(group: Group, path: str) -> Any:
    from ome_zarr_models import v05
    from ome_zarr_models.v05.bioformats2raw import BioFormats2Raw
    from ome_zarr_models.v05.hcs import HCS
    from ome_zarr_models.v05.image_label import ImageLabel
    from ome_zarr_models.v05.labels import Labels

    ome = group.ome
    if "multiscales" in ome:
        return ImageLabel if "image-label" in ome else v05.image.Image
    models = {
        "plate": HCS,
        "well": v05.well.Well,
        "labels": Labels,
        "bioformats2raw.layout": BioFormats2Raw,
    }
    return next((model for key, model in models.items() if key in ome), None)


# --- malformed stores ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, case in MALFORMED.items() if not case.zipped])
def test_what_is_malformed_is_sound_afterwards(name: str, tmp_path: Path) -> None:
    MALFORMED[name].write(tmp_path / "a")
    before = write(tmp_path / "a", tmp_path / "b")
    after = read(tmp_path / "b")
    assert before.keys() == after.keys()
    for path, group in after.items():
        assert_same(before[path], group)
        assert_sound(group)


@cases("name,version,kind,data,valid", [*suite_cases(strict=False), *suite_cases(strict=True)])
def test_suites(
    name: str, version: str, kind: str, data: dict[str, Any], valid: bool, realdata: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    """What is valid is carried over whole; what is not becomes valid, or stays and is said."""
    build(tmp_path, version, kind, data)
    for group in read(tmp_path).values():
        attrs = group.upgraded()
        if valid and name not in DIFFERENCES:
            assert not len(group.said)
        if valid and version == "0.5":
            assert json.dumps(attrs) == json.dumps(group.node.attrs)
        if attrs == group.node.attrs and not len(group.said):
            assert group.ome.version == "0.5"
        if attrs != group.node.attrs or not len(group.said):
            assert schema_faults(attrs, realdata) == []


CHANNEL = {"name": "c", "type": "channel"}
TIME = {"name": "t", "type": "time"}


def upgraded(store: Path, attrs: Mapping[str, Any], *shape: int, zarr_format: int = 2) -> Group:
    """Return the group of an image with these attributes and one level, ``"0"``."""
    write_group(store, attrs, zarr_format)
    write_array(store / "0", shape or (8, 16), zarr_format)
    return read(store)[""]


@pytest.mark.parametrize(
    ("axes", "shape", "why"),
    [
        ([*space("y", "x"), TIME], (8, 16, 2), "axes ['y', 'x', 't'] of type"),
        ([TIME, CHANNEL, *space("x")], (2, 2, 8), "axes of type ['time', 'channel', 'space']"),
        ([{"name": "q"}, {"name": "r"}, *space("y", "x")], (1, 1, 8, 8), "axes of type"),
        (space("x"), (8,), "axes of type ['space']"),
    ],
    ids=["order", "one of space", "two custom", "one"],
)
def test_axes_that_0_5_does_not_know_stay(
    axes: list[Any], shape: tuple[int, ...], why: str, tmp_path: Path
) -> None:
    attrs = image_attrs(axes=axes, datasets=[scaled("0", *[0.5] * len(axes))]) | {"more": 1}
    group = upgraded(tmp_path / "a", attrs, *shape)
    assert group.upgraded() == attrs
    (finding,) = group.said.findings
    assert finding.found.startswith(f"OME-Zarr 0.4 with {why}")
    assert finding.action == "all of it kept as it is"
    assert level_dims(group.images) == {"0": tuple(axis["name"] for axis in axes)}


@pytest.mark.parametrize("place", ["level", "world"])
def test_a_rotation_stays(place: str, tmp_path: Path) -> None:
    """0.4 does not allow it, hfzarr applies it all the same, and 0.5 cannot say it."""
    turn = [{"type": "rotation", "rotation": [[0.6, -0.8], [0.8, 0.6]]}]
    attrs = image_attrs(datasets=[scaled("0", 1, 1)])
    image = attrs["multiscales"][0]
    (image if place == "world" else image["datasets"][0])["coordinateTransformations"] = turn
    group = upgraded(tmp_path / "a", attrs)
    assert group.upgraded() == attrs
    assert "more than a scale and a translation" in str(group.said.findings)


def test_what_0_5_does_not_know_stays_under_ome_where_it_was(tmp_path: Path) -> None:
    attrs = image_attrs(3, axes=space("x"), datasets=[scaled("0", 1)])
    group = upgraded(tmp_path / "a", attrs, 8, zarr_format=3)
    assert group.upgraded() == attrs


WORLD = [{"type": "scale", "scale": [10, 10]}, {"type": "translation", "translation": [1, 2]}]


def test_a_sound_map_of_the_multiscale_stays_one(tmp_path: Path) -> None:
    attrs = image_attrs(coordinateTransformations=WORLD)
    write_image(tmp_path / "a", coordinateTransformations=WORLD)
    image = read(tmp_path / "a")[""].upgraded()["ome"]["multiscales"][0]
    assert image["coordinateTransformations"] == WORLD
    assert image["datasets"] == attrs["multiscales"][0]["datasets"]


def test_a_reversed_map_of_the_multiscale_is_set_right(tmp_path: Path) -> None:
    write_image(tmp_path / "a", coordinateTransformations=WORLD[::-1])
    group = read(tmp_path / "a")[""]
    attrs = group.upgraded()
    assert attrs["ome"]["multiscales"][0]["coordinateTransformations"] == WORLD
    assert set(attrs) == {"ome"}
    assert not len(group.said)


def test_a_map_is_put_into_the_levels_once(tmp_path: Path) -> None:
    """A level without transformations is known by its coordinates, which have the map in them."""
    datasets = [scaled("0", 0.5, 0.25), {"path": "1"}]
    changed = {"datasets": datasets, "coordinateTransformations": WORLD}
    write_image(tmp_path / "a", **changed)
    before = write(tmp_path / "a", tmp_path / "b")[""]
    after = read(tmp_path / "b")[""]
    assert_same(before, after)
    image = after.node.attrs["ome"]["multiscales"][0]
    assert "coordinateTransformations" not in image
    assert [item["coordinateTransformations"] for item in image["datasets"]] == [
        [
            {"type": "scale", "scale": [5.0, 2.5]},
            {"type": "translation", "translation": [1.0, 2.0]},
        ],
        [
            {"type": "scale", "scale": [20.0, 20.0]},
            {"type": "translation", "translation": [1.0, 2.0]},
        ],
    ]
    assert after.node.attrs["multiscales"] == before.node.attrs["multiscales"]


def test_an_identity_says_nothing_in_0_5(tmp_path: Path) -> None:
    """SpatialData names its coordinate systems with one: 0.5 knows none, so it is kept beside."""
    world = [{"type": "identity", "input": {"name": "yx"}, "output": {"name": "global"}}]
    write_image(tmp_path, coordinateTransformations=world)
    group = read(tmp_path)[""]
    attrs = group.upgraded()
    assert "coordinateTransformations" not in attrs["ome"]["multiscales"][0]
    assert attrs["multiscales"] == group.node.attrs["multiscales"]
    (finding,) = group.said.findings
    assert finding.found == "'multiscales' of OME-Zarr 0.4 holds what 0.5 does not allow"
    assert finding.action == "the rest of it carried over, and all of it kept beside 'ome'"


@pytest.mark.parametrize(("unit", "whole"), [(None, True), ("pixel", True), (3, False)])
def test_a_unit_is_a_string_or_none(unit: Any, whole: bool, tmp_path: Path) -> None:
    attrs = image_attrs(axes=[{**axis, "unit": unit} for axis in space("y", "x")])
    new = upgraded(tmp_path, attrs).upgraded()
    units = [axis.get("unit") for axis in new["ome"]["multiscales"][0]["axes"]]
    assert units == ["pixel" if unit == "pixel" else None] * 2
    assert ("multiscales" in new) != whole


@pytest.mark.parametrize(("name", "wanted"), [(None, None), (7, "7"), ("a", "a")])
def test_a_name_is_a_string(name: Any, wanted: str | None, tmp_path: Path) -> None:
    attrs = image_attrs()
    attrs["multiscales"][0]["name"] = name
    new = upgraded(tmp_path, attrs).upgraded()
    assert new["ome"]["multiscales"][0].get("name") == wanted


def test_levels_are_put_in_order(tmp_path: Path) -> None:
    write_image(tmp_path / "a", datasets=[scaled("1", 1, 0.5), scaled("0", 0.5, 0.25)])
    attrs = read(tmp_path / "a")[""].upgraded()
    assert [d["path"] for d in attrs["ome"]["multiscales"][0]["datasets"]] == ["0", "1"]


def test_an_absent_level_is_left_out(tmp_path: Path) -> None:
    datasets = [scaled("gone", 0.1, 0.1), scaled("0", 0.5, 0.25), scaled("1", 1, 0.5)]
    write_image(tmp_path / "a", datasets=datasets)
    attrs = read(tmp_path / "a")[""].upgraded()
    assert attrs["ome"]["multiscales"][0]["datasets"] == datasets[1:]
    assert set(attrs) == {"ome"}


def test_only_what_must_change_does(tmp_path: Path) -> None:
    """Keys that no specification knows stay where they are, in the multiscale and beside it."""
    axes = [{**axis, "long_name": "of " + axis["name"]} for axis in space("y", "x")]
    axes[0]["unit"] = "µm"
    datasets = [{**scaled("0", 1, 2), "sha": "abc"}]
    attrs = image_attrs(axes=axes, datasets=datasets, **{"@type": "ngff:Image"})
    attrs |= {"omero": {"id": 7, "version": "0.4", "channels": [{"label": "a", "x": 1}]}}
    attrs |= {"_creator": {"name": "me"}, "version": "0.4"}
    new = upgraded(tmp_path, attrs).upgraded()
    assert set(new) == {"_creator", "ome"}
    (image,) = new["ome"]["multiscales"]
    assert image["@type"] == "ngff:Image"
    assert image["axes"] == [{**axes[0], "unit": "micrometer"}, axes[1]]
    assert image["datasets"] == datasets
    assert new["ome"]["omero"] == {"id": 7, "channels": [{"label": "a", "x": 1}]}
    assert "version" not in image


def test_common_words_are_left_to_others(tmp_path: Path) -> None:
    """Of an image, ``labels`` and ``series`` are not OME's, nor is a version that is not."""
    attrs = image_attrs() | {"labels": ["mine"], "series": ["a"], "version": "7"}
    write_group(tmp_path, {})
    write_group(tmp_path / "cells", attrs)
    write_array(tmp_path / "cells" / "0", (8, 16))
    new = read(tmp_path)["cells"].upgraded()
    assert {key: new[key] for key in new if key != "ome"} == {
        "labels": ["mine"], "series": ["a"], "version": "7",
    }  # fmt: skip


def omero_of(tmp_path: Path, omero: Any) -> tuple[Any, Any]:
    """Return what becomes of the ``omero`` of an image of two channels, and what lies beside."""
    axes = [CHANNEL, *space("y", "x")]
    attrs = image_attrs(axes=axes, datasets=[scaled("0", 1, 0.5, 0.25)]) | {"omero": omero}
    new = upgraded(tmp_path, attrs, 2, 8, 16).upgraded()
    return new["ome"].get("omero"), new.get("omero")


WINDOW = {"min": 0, "max": 255, "start": 0, "end": 200}
GREEN = {"label": "a", "color": "00FF00", "window": WINDOW}


@pytest.mark.parametrize(
    ("first", "wanted", "whole"),
    [
        (GREEN, GREEN, True),
        ({"label": "a"}, {"label": "a"}, True),
        ({"label": 3, "color": None}, {"label": "3"}, True),
        ({**GREEN, "window": {"start": 0, "end": 1}}, {"label": "a", "color": "00FF00"}, False),
        ({**GREEN, "color": "green"}, {"label": "a", "window": WINDOW}, False),
        ({**GREEN, "color": 255}, {"label": "a", "window": WINDOW}, False),
        ({**GREEN, "active": 1}, GREEN, False),
        ("a", {}, False),
    ],
)
def test_channels(first: Any, wanted: Any, whole: bool, tmp_path: Path) -> None:
    """What is sound of a channel is carried over; what is not is kept with all the rest."""
    omero = {"channels": [first, GREEN]}
    new, beside = omero_of(tmp_path, omero)
    assert new == {"channels": [wanted, GREEN]}
    assert beside == (None if whole else omero)


@pytest.mark.parametrize("omero", ["none", {"name": "a"}, {"channels": {"a": 1}}, 5])
def test_omero_without_channels_is_kept_beside(omero: Any, tmp_path: Path) -> None:
    assert omero_of(tmp_path, omero) == (None, omero)


def test_channels_are_as_many_as_the_axis_is_long(tmp_path: Path) -> None:
    new, beside = omero_of(tmp_path / "a", {"channels": [GREEN]})
    assert (new, beside) == ({"channels": [GREEN, {}]}, None)
    many = {"channels": [GREEN] * 3}
    new, beside = omero_of(tmp_path / "b", many)
    assert (new, beside) == ({"channels": [GREEN] * 2}, many)


RED = [255, 0, 0, 255]
LABELS = [
    ({"version": "0.4", "source": {"image": "../../"}}, {"source": {"image": "../../"}}, True),
    ({"colors": [], "properties": None}, {}, True),
    ({"colors": [{"label-value": 1.0, "rgba": RED}]}, None, True),
    ({"colors": [{"label-value": 1, "rgba": RED}] * 2}, None, True),
    (
        {"colors": [{"label-value": 1, "rgba": [0] * 4}, {"label-value": 1, "rgba": RED}]},
        None, False,
    ),
    ({"colors": [{"label-value": 1, "rgba": RED}, {"rgba": RED}]}, None, False),
    ({"colors": [{"label-value": 1, "rgba": RED}, {"label-value": 1.5}]}, None, False),
    ({"colors": {"1": RED}}, {}, False),
    ({"colors": [{"label-value": 1, "rgba": "red"}]}, {"colors": [{"label-value": 1}]}, False),
    ({"source": "../../"}, {}, False),
    ({"properties": [{"label-value": 1, "a": 1}, {"label-value": 1, "a": 2}]},) * 2 + (True,),
    (None, {}, True),
    ("cells", {}, False),
]  # fmt: skip


@pytest.mark.parametrize(("label", "wanted", "whole"), LABELS)
def test_image_label(label: Any, wanted: Any, whole: bool, tmp_path: Path) -> None:
    attrs = image_attrs() | {"image-label": label}
    new = upgraded(tmp_path, attrs).upgraded()
    red = {"colors": [{"label-value": 1, "rgba": RED}]}
    assert new["ome"]["image-label"] == (red if wanted is None else wanted)
    assert new.get("image-label") == (None if whole else label)


def plate_of(tmp_path: Path, **changed: Any) -> tuple[Any, Any, Report]:
    """Return what becomes of the plate of wells A/1 and B/2, what lies beside and what is said."""
    plate = {
        "name": "p",
        "version": "0.4",
        "rows": [{"name": "A"}, {"name": "B"}],
        "columns": [{"name": "1"}, {"name": "2"}],
        "wells": [
            {"path": "A/1", "rowIndex": 0, "columnIndex": 0},
            {"path": "B/2", "rowIndex": 1, "columnIndex": 1},
        ],
        "acquisitions": [{"id": 0, "name": "a", "starttime": 5}],
    } | changed
    write_group(tmp_path, {"plate": {k: v for k, v in plate.items() if v is not None}})
    group = read(tmp_path)[""]
    new = group.upgraded()
    return new.get("ome", {}).get("plate"), new.get("plate"), group.said


def test_a_sound_plate_loses_its_version_only(tmp_path: Path) -> None:
    plate, beside, _ = plate_of(tmp_path)
    stored = json.loads((tmp_path / ".zattrs").read_text("utf-8"))["plate"]
    assert plate == {key: value for key, value in stored.items() if key != "version"}
    assert beside is None


ROWS = [{"name": "A"}, {"name": "B"}]
PATHS = [{"path": "A/1"}, {"path": "B/2"}]


@pytest.mark.parametrize(
    ("changed", "key", "wanted", "whole"),
    [
        ({"rows": None}, "rows", ROWS, True),
        ({"rows": [{"name": "B"}, {"name": "A"}]}, "wells", [(1, 0), (0, 1)], True),
        ({"rows": [{"name": "A", "x": 1}] * 2}, "rows", [{"name": "A", "x": 1}, ROWS[1]], True),
        (
            {"columns": [{"name": 1, "x": 5}, {"name": 2}]},
            "columns",
            [{"name": "1", "x": 5}, {"name": "2"}],
            True,
        ),
        ({"wells": PATHS}, "wells", [(0, 0), (1, 1)], True),
        ({"wells": [*PATHS, *PATHS]}, "wells", [(0, 0), (1, 1)], True),
        ({"wells": [*PATHS, "C/3"]}, "wells", [(0, 0), (1, 1)], False),
        ({"wells": [{"path": "/A/1/"}]}, "wells", [(0, 0)], True),
        ({"acquisitions": [{"id": 1, "endtime": 1.5}]}, "acquisitions", [{"id": 1}], False),
        ({"acquisitions": [{"id": -1}, {"id": 2}]}, "acquisitions", [{"id": 2}], False),
        ({"acquisitions": [{"id": 2, "name": "x"}, {"id": 2}]}, "acquisitions", [{"id": 2}], False),
        ({"acquisitions": "many"}, "acquisitions", None, False),
        ({"field_count": 0}, "field_count", None, False),
        ({"name": 5}, "name", None, False),
    ],
)
def test_plate(changed: dict[str, Any], key: str, wanted: Any, whole: bool, tmp_path: Path) -> None:
    plate, beside, _ = plate_of(tmp_path, **changed)
    found = plate.get(key)
    if key == "wells":
        found = [(well["rowIndex"], well["columnIndex"]) for well in found]
        assert [well["path"] for well in plate["wells"]] == ["A/1", "B/2"][: len(found)]
    assert found == wanted
    assert (beside is None) == whole


@pytest.mark.parametrize(
    "changed", [{"wells": [{"path": "A/1/x"}]}, {"wells": []}, {"rows": [{"name": "A_"}]}]
)
def test_a_plate_that_0_5_does_not_know_stays(changed: dict[str, Any], tmp_path: Path) -> None:
    plate, beside, said = plate_of(tmp_path, **changed)
    assert plate is None
    assert beside["version"] == "0.4"
    assert len(said) == 1


@pytest.mark.parametrize(
    ("images", "wanted", "whole"),
    [
        ([{"path": "0", "acquisition": 1, "x": 2}], None, True),
        ([{"path": "0", "acquisition": None}], [{"path": "0"}], True),
        ([{"path": "0", "acquisition": "a"}], [{"path": "0"}], False),
        ([{"path": "0/"}, {"path": "0/"}], [{"path": "0"}], True),
        ([{"path": "0"}, {"path": 1}], [{"path": "0"}], False),
    ],
)
def test_well(images: list[Any], wanted: Any, whole: bool, tmp_path: Path) -> None:
    well = {"version": "0.4", "images": images}
    write_group(tmp_path, {"well": well})
    new = read(tmp_path)[""].upgraded()
    assert new["ome"] == {"version": "0.5", "well": {"images": wanted or images}}
    assert new.get("well") == (None if whole else well)


@pytest.mark.parametrize("well", [{"images": [{"path": "a_b"}]}, {"images": []}, {}])
def test_a_well_that_0_5_does_not_know_stays(well: Any, tmp_path: Path) -> None:
    write_group(tmp_path, {"well": well})
    group = read(tmp_path)[""]
    assert group.upgraded() == {"well": well}
    assert len(group.said) == 1


def test_collections(tmp_path: Path) -> None:
    write_group(tmp_path, {"bioformats2raw.layout": 1, "made": "by hand"})
    write_group(tmp_path / "OME", {"series": ["0", "1"]})
    write_group(tmp_path / "labels", {"labels": ["cells", 5]})
    found = {path: group.upgraded() for path, group in read(tmp_path).items()}
    assert found == {
        "": {"made": "by hand", "ome": {"version": "0.5", "bioformats2raw.layout": 3}},
        "OME": {"ome": {"version": "0.5", "series": ["0", "1"]}},
        "labels": {"labels": ["cells", 5], "ome": {"version": "0.5", "labels": ["cells"]}},
    }


def test_a_group_of_labels_lists_those_that_were_found() -> None:
    assert labels_attrs({}, ["a"]) == {"ome": {"version": "0.5", "labels": ["a"]}}
    stored = {"ome": {"labels": ["a", "b"], "x": 1}, "y": 2}
    assert labels_attrs(stored, ["b"]) == {
        "ome": {"version": "0.5", "labels": ["b"], "x": 1}, "y": 2,
    }  # fmt: skip
    six = {"ome": {"version": "0.6.dev4", "labels": ["a"]}}
    assert labels_attrs(six, ["a"]) == six
    assert labels_attrs({}, [], version="0.6rc0")["ome"]["version"] == "0.6rc0"


def test_other_groups_stay_as_they_are() -> None:
    attrs = {"title": "no OME", "multiscales": {"layout": []}}
    assert upgrade_attrs(attrs, None) == attrs
    assert upgrade_attrs(attrs, None) is not attrs


def test_0_6_keeps_the_names_that_its_arrays_have(tmp_path: Path) -> None:
    """Its coordinate systems may name other axes than the array has dimensions."""
    axes = {"name": "world", "axes": space("y", "x")}
    swap = {"type": "mapAxis", "mapAxis": [1, 0], "input": "0", "output": "world"}
    image = {
        "coordinateSystems": [axes],
        "datasets": [{"path": name, "coordinateTransformations": [swap]} for name in "01"],
    }
    attrs = {"ome": {"version": "0.6", "multiscales": [image]}}
    write_group(tmp_path, attrs, 3)
    write_array(tmp_path / "0", (8, 16), 3, dims=["a", "b"])
    write_array(tmp_path / "1", (4, 8), 3)
    group = read(tmp_path)[""]
    assert group.upgraded() == attrs
    assert level_dims(group.images) == {"0": ("a", "b"), "1": ("x", "y")}


# --- any image -----------------------------------------------------------------------------------

NAMED = {
    "t": {"name": "t", "type": "time", "unit": "second"},
    "c": CHANNEL,
    "q": {"name": "q"},
    "z": {"name": "z", "type": "space"},
    "y": {"name": "y", "type": "space", "unit": "µm"},
    "x": {"name": "x", "type": "space", "unit": "micrometer"},
}
DIMS = ["yx", "zyx", "cyx", "tyx", "qyx", "czyx", "tcyx", "tzyx", "tczyx", "tqzyx", "cqyx"]
OLDEST = ["yx", "zyx", "czyx", "tczyx"]
numbers = st.one_of(st.integers(1, 50), st.floats(0.01, 100.0))


@st.composite
def steps(draw: st.DrawFn, n: int) -> list[dict[str, Any]]:
    """A scale, perhaps a translation, perhaps the wrong way round, or too short, or none."""
    made = [{"type": "scale", "scale": draw(st.lists(numbers, min_size=n, max_size=n))}]
    if draw(st.booleans()):
        shift = draw(st.lists(numbers, min_size=n, max_size=n))
        made.append({"type": "translation", "translation": shift})
    flaw = draw(st.sampled_from(["none", "none", "none", "reversed", "short", "empty", "identity"]))
    if flaw == "reversed":
        made.reverse()
    elif flaw == "short":
        made[0] = {"type": "scale", "scale": [2.0]}
    elif flaw == "identity":
        made = [{"type": "identity"}]
    return [] if flaw == "empty" else made


@st.composite
def stored_images(draw: st.DrawFn) -> tuple[dict[str, Any], str, dict[str, tuple[int, ...]]]:
    """Attributes of an image, its version, and the shapes of the arrays that are there."""
    version = draw(st.sampled_from(["0.1", "0.2", "0.3", "0.4", "0.5"]))
    dims = draw(st.sampled_from(OLDEST if version in ("0.1", "0.2") else DIMS))
    shape = draw(st.tuples(*[st.integers(1, 30) for _ in dims]))
    image: dict[str, Any] = {"datasets": []}
    shapes = {}
    for level in range(draw(st.integers(1, 3))):
        shapes[str(level)] = tuple(-(-size // 2**level) for size in shape)
        item: dict[str, Any] = {"path": str(level)}
        if version in ("0.4", "0.5"):
            item["coordinateTransformations"] = draw(steps(len(dims)))
        image["datasets"].append(item)
    if version in ("0.4", "0.5") and draw(st.booleans()):
        image["coordinateTransformations"] = draw(steps(len(dims)))
    if version not in ("0.1", "0.2"):
        image["axes"] = [dim if version == "0.3" else NAMED[dim] for dim in dims]
    if draw(st.booleans()):
        image["datasets"].insert(0, {"path": "gone"})
    data = {"multiscales": [image]}
    if version == "0.5":
        return {"ome": {"version": "0.5", **data}}, version, shapes
    image["version"] = version
    return data, version, shapes


def array_meta(path: str, shape: Sequence[int], dims: Sequence[str] | None) -> ArrayMeta:
    doc: dict[str, Any] = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(shape)}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": 0,
        "codecs": [{"name": "bytes"}],
    }
    named = {"dimension_names": list(dims)} if dims else {}
    return parse_array(path, doc | named, {}, resolve=lambda doc: (np.dtype("uint8"), 0))


def parse(
    attrs: Mapping[str, Any], arrays: Mapping[str, ArrayMeta], zarr_format: int
) -> tuple[OmeAttrs, Image, Report]:
    report = Report()
    ome = ome_attrs("", attrs, zarr_format, report)
    assert ome is not None
    listed = {path: arrays.get(path) for path in level_paths(ome)}
    return ome, parse_image(ome, 0, listed, report), report


@given(stored_images())
def test_any_image_lies_where_it_lay(
    stored: tuple[dict[str, Any], str, dict[str, tuple[int, ...]]],
) -> None:
    attrs, version, shapes = stored
    arrays = {path: array_meta(path, shape, None) for path, shape in shapes.items()}
    ome, image, report = parse(attrs, arrays, 3 if version == "0.5" else 2)
    assert image.version == version
    untouched = copy.deepcopy(attrs)
    new = json.loads(json.dumps(upgrade_attrs(attrs, ome, images=[image])))
    assert attrs == untouched
    dims = level_dims([image])
    renamed = {path: dataclasses.replace(array, dims=dims[path]) for path, array in arrays.items()}
    again, upgraded, faults = parse(new, renamed, 3)
    assert again.spelled == "0.5"
    assert faults.repairs == ()
    assert upgraded.axes == image.axes
    assert positions(upgraded) == positions(image)
    said = Report()
    assert upgrade_attrs(new, again, images=[upgraded], report=said) == new
    assert not len(said)
    # The arrays here have no dimension names, which is no affair of the group's.
    if version == "0.5" and not [
        one for one in report.repairs if "dimension_names" not in one.rule
    ]:
        assert new == attrs
