"""Every OME-Zarr image of the real stores opens with the dims and positions of the specification.

They are compared with ``ome_reference.py``, which reads the raw JSON by itself; what is unusual
(0.6 transformations, plates, collections, a scene) has expectations written by hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import hfzarr
import ome_reference as reference
from realstores import cases, folder, quietly, root_of

IMAGES = [
    group.relative_to(here).as_posix()
    for here in [folder()]
    if here is not None
    for group in reference.image_groups(here)
]


def compare(dataset: xr.Dataset, level: reference.Expected, variable: str) -> None:
    """Fail where a Dataset is not what the reference says of its level."""
    assert list(dataset.data_vars) == [variable]
    pixels = dataset[variable]
    assert pixels.dims == level.dims
    assert pixels.shape == level.shape
    assert pixels.dtype.newbyteorder("=").name == level.dtype
    assert dataset.attrs["level"] == level.path
    labeled = {level.channels[0]} if level.channels else set()
    assert set(dataset.coords) == set(level.positions) | labeled
    for name, (dims, values) in level.positions.items():
        assert dataset[name].dims == dims, name
        np.testing.assert_allclose(dataset[name].values, values, rtol=1e-12, err_msg=name)
        assert dataset[name].attrs.get("units") == level.units.get(name), name
    if level.channels:
        dim, labels = level.channels
        assert dataset[dim].values.tolist() == labels


def variable_name(group: Path) -> str:
    return "labels" if reference.is_label(group) else "image"


@cases("image", IMAGES)
def test_a_level_as_a_dataset(image: str, realdata: Path) -> None:
    group = realdata / image
    wanted = reference.levels(group)
    name = variable_name(group)
    asked: list[tuple[dict[str, Any], reference.Expected]]
    asked = [({}, wanted[0]), ({"level": -1}, wanted[-1])]
    asked += [({"level": i}, level) for i, level in enumerate(wanted)]
    asked += [({"level": level.path}, level) for level in wanted]
    root = root_of(image)
    inside = image.removeprefix(root).strip("/")
    for options, level in asked:
        with (
            quietly(),
            xr.open_dataset(
                realdata / root, engine="hfzarr", group=inside or None, **options
            ) as opened,
        ):
            compare(opened, level, name)


@cases("image", IMAGES)
def test_an_image_as_a_store_of_its_own(image: str, realdata: Path) -> None:
    """Opened by its own path, an image is the same, wherever it lies in a larger store."""
    group = realdata / image
    # Without the labels group around it, only image-label says what it is.
    name = "labels" if "image-label" in reference.attributes(group) else "image"
    with quietly(), xr.open_dataset(group, engine="hfzarr") as opened:
        compare(opened, reference.levels(group)[0], name)


@cases("image", IMAGES)
def test_the_levels_in_the_tree(image: str, realdata: Path) -> None:
    """The image lies in the tree of its whole store, at its own path, one node for each level."""
    root = root_of(image)
    inside = image.removeprefix(root).strip("/")
    wanted = reference.levels(realdata / image)
    with quietly(), xr.open_datatree(realdata / root, engine="hfzarr") as tree:
        node: Any = tree[inside] if inside else tree
        for level in wanted:
            compare(node[level.path].to_dataset(), level, variable_name(realdata / image))
        assert node.attrs["levels"] == [level.path for level in wanted]


@cases("image", IMAGES)
def test_the_levels_cover_one_field_of_view(image: str, realdata: Path) -> None:
    """Aligned by coordinates: a coarser level lies inside the finest, give or take a pixel."""
    wanted = reference.levels(realdata / image)
    for level in wanted:
        for name, (dims, values) in level.positions.items():
            if len(dims) > 1 or not values.size:
                continue
            fine = wanted[0].positions[name][1]
            step = abs(values[1] - values[0]) if values.size > 1 else np.inf
            assert values.min() >= fine.min() - step
            assert values.max() <= fine.max() + step


@cases("image", [image for image in IMAGES if "/labels/" in image])
def test_labels_are_whole_numbers(image: str, realdata: Path) -> None:
    with quietly(), xr.open_dataset(realdata / image, engine="hfzarr") as opened:
        pixels = next(iter(opened.data_vars.values()))
        assert pixels.dtype.kind in "iu"
        assert pixels.load().dtype.kind in "iu"


@cases("image", IMAGES)
def test_pixels_keep_their_dtype(image: str, realdata: Path) -> None:
    """Zarr v2's ``fill_value: 0`` is the background, not missing data."""
    stored = reference.levels(realdata / image)[-1].dtype
    with quietly(), xr.open_dataset(realdata / image, engine="hfzarr", level=-1) as opened:
        pixels = next(iter(opened.data_vars.values()))
        assert pixels.load().dtype.newbyteorder("=").name == stored
        assert "_FillValue" not in pixels.attrs
        assert "_FillValue" not in pixels.encoding


def test_there_are_as_many_images_as_there_should_be(realdata: Path) -> None:
    """The walk above finds them all: one is forgotten sooner than one is wrong."""
    kinds = {image: variable_name(realdata / image) for image in IMAGES}
    found = [reference.version(reference.attributes(realdata / image)) for image in IMAGES]
    assert {v: found.count(v) for v in sorted(set(found))} == {
        "0.1": 2, "0.2": 1, "0.4": 40, "0.5": 24, "0.6": 10,
    }  # fmt: skip
    assert list(kinds.values()).count("labels") == 24


# --- the transformations of 0.6, by hand ---------------------------------------------------------

N = {"first": 27, "second": 226, "third": 186}
FIRST, SECOND, THIRD = (np.arange(n, dtype=float) for n in N.values())
SIXES = {
    "basic/identity": {"z": FIRST, "y": SECOND, "x": THIRD},
    "basic/scale": {"z": 4 * FIRST, "y": 3 * SECOND, "x": 2 * THIRD},
    "basic/translation": {"z": 30 + FIRST, "y": 20 + SECOND, "x": 10 + THIRD},
    "basic/sequenceScaleTranslation": {
        "z": 32 + 4 * FIRST, "y": 21 + 3 * SECOND, "x": 10 + 2 * THIRD,
    },
    "simple/affine": {"z": 32 + 4 * FIRST, "y": 21 + 3 * SECOND, "x": 10 + 2 * THIRD},
    # mapAxis [1, 2, 0]: z is the array's second axis, y its third, x its first.
    "axis_dependent/mapAxis": {"x": FIRST, "z": SECOND, "y": THIRD},
    # Rows of the rotation: z is the array's third axis, y its first, x its second.
    "simple/rotation": {"y": FIRST, "x": SECOND, "z": THIRD},
    # The world is turned against the intrinsic z and y, so these stay, and zc and yc say where
    # they lie in the world; x is the same in both.
    "simple/anisotropic_rotation": {"z": 2 * FIRST, "y": 0.5 * SECOND, "x": 0.25 * THIRD},
}  # fmt: skip


@cases("name", list(SIXES))
def test_transformations_of_0_6(name: str, realdata: Path) -> None:
    store = realdata / "neuroglancer_ome" / "all_0.6" / f"{name}.zarr"
    with quietly(), xr.open_dataset(store, engine="hfzarr") as opened:
        assert opened["image"].dims == tuple(SIXES[name])
        assert opened["image"].shape == (27, 226, 186)
        for dim, values in SIXES[name].items():
            np.testing.assert_allclose(opened[dim], values)
            assert opened[dim].attrs["units"] == "micrometer"
        assert opened.attrs["ome_version"] == "0.6"


@cases("store", ["neuroglancer_ome/all_0.6/simple/anisotropic_rotation.zarr"])
def test_a_rotation_that_no_1d_coordinate_can_hold(store: str, realdata: Path) -> None:
    with quietly(), xr.open_dataset(realdata / store, engine="hfzarr") as opened:
        z, y = np.meshgrid(2 * FIRST, 0.5 * SECOND, indexing="ij")
        assert opened["zc"].dims == opened["yc"].dims == ("z", "y")
        np.testing.assert_allclose(opened["zc"], -0.7071 * z - 0.7071 * y)
        np.testing.assert_allclose(opened["yc"], 0.7071 * z - 0.7071 * y)
        assert opened["zc"].attrs["units"] == "micrometer"
        # Rows of the world's axes; columns for the array's three indices and the offset.
        np.testing.assert_allclose(
            opened["image"].attrs["affine"],
            [
                [-0.7071 * 2, -0.7071 * 0.5, 0, 0],
                [0.7071 * 2, -0.7071 * 0.5, 0, 0],
                [0, 0, 0.25, 0],
            ],
        )
        # Selecting by the intrinsic coordinates takes the world's along.
        part = opened.sel(z=4.0, y=slice(1.0, 2.0))
        np.testing.assert_allclose(part["zc"], -0.7071 * 4 - 0.7071 * np.array([1.0, 1.5, 2.0]))


# --- plates --------------------------------------------------------------------------------------

PLATE = "ngff-challenge/hcs.zarr"
SPARSE = "ome-zarr-models_examples/v04/hcs_example.ome.zarr"


@cases("store", [PLATE])
def test_plate_as_a_tree(store: str, realdata: Path) -> None:
    with quietly(), xr.open_datatree(realdata / store, engine="hfzarr") as tree:
        paths = {f"/{row}/{column}/{fov}/0" for row in "AB" for column in "12" for fov in "01"}
        assert {node.path for node in tree.leaves} == paths
        assert tree.attrs["rows"] == ["A", "B"]
        assert tree.attrs["columns"] == ["1", "2"]
        level = tree["A/1/0/0"].to_dataset()
        assert level["image"].dims == ("t", "c", "z", "y", "x")


@cases("store", [PLATE])
def test_plate_as_a_dataset(store: str, realdata: Path) -> None:
    with (
        quietly(),
        xr.open_dataset(realdata / store, engine="hfzarr") as plate,
        xr.open_datatree(realdata / store, engine="hfzarr") as tree,
    ):
        assert plate["image"].dims == ("well", "field", "t", "c", "z", "y", "x")
        assert plate["well"].values.tolist() == ["A/1", "A/2", "B/1", "B/2"]
        assert plate["row"].values.tolist() == ["A", "A", "B", "B"]
        assert plate["column"].values.tolist() == ["1", "2", "1", "2"]
        assert plate["field"].values.tolist() == ["0", "1"]
        assert plate["c"].values.tolist() == ["Name", "Channel 1", "Channel 2"]
        assert plate["image"].dtype == tree["A/1/0/0/image"].dtype
        for well in ("A/1", "B/2"):
            for fov in ("0", "1"):
                xr.testing.assert_equal(
                    plate["image"].sel(well=well, field=fov).variable,
                    tree[f"{well}/{fov}/0/image"].variable,
                )


@cases("store", [SPARSE])
def test_plate_with_one_well(store: str, realdata: Path) -> None:
    with quietly(), xr.open_dataset(realdata / store, engine="hfzarr", level=-1) as plate:
        assert plate["well"].values.tolist() == ["B/03"]
        assert plate["image"].dims[:2] == ("well", "field")
        assert plate["c"].values.tolist() == ["DAPI"]
        assert plate.attrs["levels"] == ["0", "1", "2", "3", "4"]
    with quietly(), xr.open_datatree(realdata / store, engine="hfzarr") as tree:
        assert {node.path for node in tree.leaves} == {f"/B/03/0/{i}" for i in range(5)}


@cases("store", [PLATE])
def test_one_well_and_one_field(store: str, realdata: Path) -> None:
    with quietly(), xr.open_dataset(realdata / store, engine="hfzarr", group="A/1") as well:
        assert well["image"].dims == ("field", "t", "c", "z", "y", "x")
    with quietly(), xr.open_dataset(realdata / store, engine="hfzarr", image="A/1/1") as fov:
        assert fov["image"].dims == ("t", "c", "z", "y", "x")


# --- collections ---------------------------------------------------------------------------------

SERIES = "ngff-challenge/bf2raw.zarr"


@cases("store", [SERIES])
def test_collection_says_which_images_there_are(store: str, realdata: Path) -> None:
    with quietly(), pytest.raises(hfzarr.AmbiguousTargetError) as caught:
        xr.open_dataset(realdata / store, engine="hfzarr")
    message = str(caught.value)
    assert str(realdata / store) in message
    names = [reference.attributes(realdata / store / n)["multiscales"][0].get("name") for n in "01"]
    for i, name in enumerate(names):
        assert f"image={i} or image='{i}'" in message
        assert name is None or repr(name) in message
    assert "image=" in message
    assert "open_datatree" in message


@cases("store", [SERIES])
def test_collection_opens_the_image_that_is_chosen(store: str, realdata: Path) -> None:
    for number in (0, 1):
        wanted = reference.levels(realdata / store / str(number))[0]
        for choice in (number, number - 2, str(number)):
            with quietly(), xr.open_dataset(realdata / store, engine="hfzarr", image=choice) as one:
                compare(one, wanted, "image")
    with quietly(), pytest.raises(hfzarr.NodeNotFoundError, match=r"'7'.*\n- image=0"):
        xr.open_dataset(realdata / store, engine="hfzarr", image="7")


@cases("store", [SERIES])
def test_collection_opens_an_image_by_its_name(store: str, realdata: Path) -> None:
    name = reference.attributes(realdata / store / "1")["multiscales"][0]["name"]
    with quietly(), xr.open_dataset(realdata / store, engine="hfzarr", image=name) as one:
        assert one.attrs["name"] == name


@cases("store", [SERIES])
def test_collection_as_a_tree(store: str, realdata: Path) -> None:
    with quietly(), xr.open_datatree(realdata / store, engine="hfzarr") as tree:
        assert list(tree.children) == ["0", "1"]
        assert tree.attrs["images"] == ["0", "1"]


@cases("store", ["viv_bioformats/data.zarr"])
def test_collection_with_the_old_layout(store: str, realdata: Path) -> None:
    """``bioformats2raw.layout: 1``: repaired, said so, and its only image is opened."""
    with pytest.warns(hfzarr.RepairWarning, match=r"bioformats2raw\.layout 1"):
        opened = xr.open_dataset(realdata / store, engine="hfzarr", level=-1)
    assert dict(opened.sizes) == {"t": 1, "c": 3, "z": 1, "y": 83, "x": 219}
    with pytest.raises(hfzarr.InvalidMetadataError, match="MUST be 3"):
        xr.open_dataset(realdata / store, engine="hfzarr", on_invalid="raise")


@cases("store", ["ome-zarr-models_examples/v06/stitched_tiles_2d.zarr"])
def test_scene(store: str, realdata: Path) -> None:
    with quietly(), xr.open_datatree(realdata / store, engine="hfzarr") as tree:
        assert tree.attrs["images"] == ["tile_0", "tile_1"]
        assert [node.path for node in tree.leaves] == ["/tile_0/0", "/tile_1/0"]
        # Where the tiles lie in the world stays with the scene.
        moves = tree.attrs["scene"]["coordinateTransformations"]
        assert [move["translation"] for move in moves] == [[0, 0], [0, 348]]
        assert tree["tile_1/0"].ds["x"].attrs["units"] == "micrometer"
    with quietly(), pytest.raises(hfzarr.AmbiguousTargetError, match="image=1 or image='tile_1'"):
        xr.open_dataset(realdata / store, engine="hfzarr")
    with quietly(), xr.open_dataset(realdata / store, engine="hfzarr", image="tile_1") as tile:
        assert tile["image"].dims == ("y", "x")


# --- the same image in other wrappings ------------------------------------------------------------


@cases("store", ["neuroglancer_ome/simple_0.5"])
def test_zip_holds_the_same_image(store: str, realdata: Path) -> None:
    with (
        quietly(),
        xr.open_datatree(realdata / store, engine="hfzarr") as folder_tree,
        xr.open_datatree(realdata / f"{store}.zip", engine="hfzarr") as zip_tree,
    ):
        xr.testing.assert_identical(zip_tree, folder_tree)


@cases("store", ["neuroglancer_ome/simple_0.5.ocdbt"])
def test_database_that_is_no_zarr_store_is_refused(store: str, realdata: Path) -> None:
    with pytest.raises(hfzarr.StoreNotFoundError, match="OCDBT"):
        xr.open_dataset(realdata / store, engine="hfzarr")
