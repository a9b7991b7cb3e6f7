"""The official JSON suites of OME-Zarr 0.4 and 0.5: the engine's verdict on each case.

Each case becomes a real store, with the arrays, wells and fields that its metadata names, and is
opened with ``on_invalid="raise"``. Where the verdict differs from the suite's, the difference is
listed in `DIFFERENCES` and in docs/conformance.md.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

import hfzarr
import ome_reference as reference
from rawstores import image_attrs, write_array, write_group, write_image
from realstores import ROOT, cases, folder

# case -> why the engine's verdict is not the suite's
DIFFERENCES = {
    "0.4/image: valid/mismatch_axes_units.json": (
        "A scale of 2 numbers for 3 axes: 'the length of the array MUST be the same as the number "
        "of axes' (0.4, multiscales) is beyond JSON schema. Refused."
    ),
    "0.4/strict_plate: plate/strict_no_acquisitions": (
        "The path A/1 with the row 1 and the column A: 'path' MUST be row/column (0.4, plate), "
        "which JSON schema cannot compare. Warned of, not refused, as plate_suite has the same."
    ),
    "0.4/strict_plate: plate/strict_acquisitions": "The same plate.",
}
# What each invalid case gets wrong -> a word of the rule that it is refused for.
FAULTS = {
    "image: duplicate_axes": "MUST be unique",
    "image: missing_space_axes": "2 or 3 of type space",
    "image: one_space_axes": "2 or 3 of type space",
    "image: too_many_space_axes": "2 or 3 of type space",
    "image: too_many_axes": "axes MUST be 2 to 5",
    "image: invalid_axes_count": "axes MUST be 2 to 5",
    "image: invalid_axis_type": "2 or 3 of type space",
    "image: missing_axes": "'axes' MUST list",
    "image: no_axes": "'axes' MUST list",
    "image: missing_axes_name": "'name' MUST be there",
    "image: invalid_transformation_type": "exactly one scale",
    "image: missing_scale": "exactly one scale",
    "image: duplicate_scale": "exactly one scale",
    "image: missing_transformations": "each dataset MUST have 'coordinateTransformations'",
    "image: empty_transformations": "each dataset MUST have 'coordinateTransformations'",
    "image: invalid_multiscales_transformations": "parameters MUST fit",
    "image: invalid_channels_color": "'color' is a string",
    "image: invalid_channels_window": "'window' MUST hold the numbers",
    "image: invalid_path": "MUST have a 'path', a string",
    "image: missing_path": "MUST list objects with a 'path'",
    "image: no_datasets": "'datasets' MUST list",
    "image: missing_datasets": "'datasets' MUST list",
    "image: no_multiscales": "'multiscales' MUST list",
    "image: invalid_version": "0.3",
    "label: empty_colors": "not empty",
    "label: empty_properties": "not empty",
    "label: colors_no_label_value": "'label-value'",
    "label: properties_no_label_value": "'label-value'",
    "label: colors_rgba_length": "four integers from 0 to 255",
    "label: colors_rgba_type": "four integers from 0 to 255",
    "label: colors_duplicate": "MUST be unique",
    "plate: missing_rows": "'rows' MUST list",
    "plate: empty_rows": "'rows' MUST list",
    "plate: duplicate_rows": "unique",
    "plate: missing_row_name": "'rows' MUST list",
    "plate: missing_columns": "'columns' MUST list",
    "plate: empty_columns": "'columns' MUST list",
    "plate: duplicate_columns": "'columns' MUST list",
    "plate: missing_column_name": "'columns' MUST list",
    "plate: non_alphanumeric_column": "alphanumeric",
    "plate: missing_wells": "'wells' MUST list",
    "plate: empty_wells": "'wells' MUST list",
    "plate: duplicate_wells": "'rowIndex' MUST be the place",
    "plate: missing_well_path": "'path' (row/column)",
    "plate: missing_well_rowIndex": "'rowIndex'",
    "plate: missing_well_columnIndex": "'columnIndex'",
    "plate: well_1group": "a row name, a slash and a column name",
    "plate: well_3groups": "a row name, a slash and a column name",
    "plate: well_path_has_column_before_row": "'rowIndex' MUST be the place",
    "plate: invalid_version": "'version' names the specification",
    "plate: missing_acquisition_id": "the id of an acquisition MUST be an integer",
    "plate: non_integer_acquisition_id": "the id of an acquisition MUST be an integer",
    "plate: negative_acquisition_id": "at least 0",
    "plate: non_integer_acquisition_maximumfieldcount": "maximumfieldcount MUST be an integer",
    "plate: acquisition_zero_maximumfieldcount": "at least 1",
    "plate: acquisition_noninteger_starttime": "starttime MUST be an integer",
    "plate: acquisition_negative_starttime": "at least 0",
    "plate: acquisition_noninteger_endtime": "endtime MUST be an integer",
    "plate: negative_endtime": "at least 0",
    "plate: zero_field_count": "field_count MUST be an integer of at least 1",
    "well: empty_images": "'images' MUST list",
    "well: duplicate_images": "unique 'path'",
    "well: invalid_version": "'version' names the specification",
    "well: non_integer_acquisition_id": "'acquisition' MUST be an integer",
}
KINDS = ("image", "label", "plate", "well")
FORMATS = {"0.4": 2, "0.5": 3}


def suite_cases(*, strict: bool) -> list[Any]:
    """Return ``(name, version, kind, data, valid)`` of each case."""
    here = folder()
    found: list[Any] = []
    names: dict[str, int] = {}
    for version in FORMATS if here is not None else ():
        for kind in KINDS:
            stem = f"strict_{kind}_suite" if strict else f"{kind}_suite"
            path = Path(str(here)) / f"ngff-spec_{version}_suites" / "tests" / f"{stem}.json"
            for case in json.loads(path.read_text("utf-8"))["tests"]:
                name = f"{version}/{'strict_' * strict}{kind}: {case['formerly']}"
                names[name] = names.get(name, 0) + 1
                if names[name] > 1:  # 0.4 has two plate/duplicate_rows.
                    name += f" ({names[name]})"
                data = housed(case["data"], version)
                found.append(pytest.param(name, version, kind, data, case["valid"], id=name))
    return found


def housed(data: dict[str, Any], version: str) -> dict[str, Any]:
    """Put metadata of 0.5 under ``ome``, where three invalid wells of its suite do not have it.

    They would be refused for that alone, and their own fault would go untested.
    """
    return data if version == "0.4" or "ome" in data else {"ome": {"version": "0.5", **data}}


def fault(name: str) -> str:
    """Return a word of the rule that a case breaks."""
    kind, _, case = name.partition("/")[2].partition(": ")
    case = case.partition("/")[2].removesuffix(".json").removesuffix(" (2)")
    return FAULTS[f"{kind}: {case}"]


# --- a store for a case --------------------------------------------------------------------------


def build(store: Path, version: str, kind: str, data: dict[str, Any]) -> None:
    """Write the store that the metadata of a case speaks of."""
    zarr_format = FORMATS[version]
    ome = data.get("ome", data)
    if kind == "label":
        valid = image_attrs(zarr_format)
        write_image(store, zarr_format)
        merged = {"ome": {**valid["ome"], **ome}} if zarr_format == 3 else {**valid, **ome}
        write_group(store, merged, zarr_format)
        return
    write_group(store, data, zarr_format)
    if kind == "image":
        for multiscale in ome.get("multiscales", []):
            build_levels(store, multiscale, ome, zarr_format)
    elif kind == "well":
        build_fields(store, ome["well"], zarr_format)
    else:
        build_wells(store, ome["plate"], version)


def build_levels(
    store: Path, multiscale: dict[str, Any], ome: dict[str, Any], zarr_format: int
) -> None:
    """Write an array for each level, with one dim for each axis."""
    axes = multiscale.get("axes") or [{"name": "y"}, {"name": "x"}]
    channels = len(ome.get("omero", {}).get("channels", [])) or 2
    for number, dataset in enumerate(multiscale.get("datasets", [])):
        n = max(8 >> number, 1)
        shape = [channels if axis.get("type") == "channel" else n for axis in axes]
        names = [axis.get("name") for axis in axes]
        dims = names if all(names) else None
        path = str(dataset.get("path", number))
        write_array(store / path, shape, zarr_format, dims=dims)


def build_fields(store: Path, well: dict[str, Any], zarr_format: int) -> None:
    for image in well["images"]:
        if isinstance(image.get("path"), str):
            write_image(store / image["path"], zarr_format)


def build_wells(store: Path, plate: dict[str, Any], version: str) -> None:
    """Write a well with one field for each well of a plate, by the path that names it."""
    acquisition = {"acquisition": 0} if plate.get("acquisitions") else {}
    well: dict[str, Any] = {"images": [{"path": "0", **acquisition}]}
    wells = plate.get("wells", [])
    for path in [one["path"] for one in wells if "path" in one] or ["A/1"]:
        if version == "0.4":
            write_group(store / path, {"well": {**well, "version": "0.4"}})
        else:
            write_group(store / path, {"ome": {"version": "0.5", "well": well}}, 3)
        build_fields(store / path, well, FORMATS[version])


# --- the verdicts --------------------------------------------------------------------------------


def refusal(store: Path, opener: Any) -> str | None:
    """Return why the engine refuses a store, or None where it opens it."""
    try:
        opened = opener(store, engine="hfzarr", on_invalid="raise")
    except hfzarr.InvalidMetadataError as error:
        return str(error)
    opened.close()
    return None


def test_every_difference_is_one_of_a_case(realdata: Path) -> None:
    names = {case.id for strict in (False, True) for case in suite_cases(strict=strict)}
    assert names.issuperset(DIFFERENCES)
    assert len(names) == 178


def test_the_differences_are_in_the_docs() -> None:
    page = (ROOT / "docs" / "conformance.md").read_text("utf-8")
    assert [name for name in DIFFERENCES if f"`{name}`" not in page] == []


@pytest.mark.filterwarnings("ignore::hfzarr.RepairWarning")
@cases("name,version,kind,data,valid", suite_cases(strict=False))
def test_suite(
    name: str, version: str, kind: str, data: dict[str, Any], valid: bool, tmp_path: Path
) -> None:
    store = tmp_path / "case.zarr"
    build(store, version, kind, data)
    for opener in (xr.open_dataset, xr.open_datatree):
        refused = refusal(store, opener)
        agrees = (refused is None) == valid
        assert agrees != (name in DIFFERENCES), f"{opener.__name__}: {refused or 'opened'}"
        if refused is not None and not valid:
            assert str(store) in refused
            assert fault(name) in refused, "refused for another reason than the fault"


@pytest.mark.filterwarnings("ignore::hfzarr.RepairWarning")
@cases("name,version,kind,data,valid", suite_cases(strict=True))
def test_strict_suite(
    name: str, version: str, kind: str, data: dict[str, Any], valid: bool, tmp_path: Path
) -> None:
    """The strict schemas demand what the text recommends: no finding of any severity."""
    store = tmp_path / "case.zarr"
    build(store, version, kind, data)
    with xr.open_datatree(store, engine="hfzarr", on_invalid="raise") as opened:
        findings = opened.hfzarr.diagnose().findings
    agrees = (not findings) == valid
    assert agrees != (name in DIFFERENCES), "\n".join(map(str, findings)) or "no findings"


# --- the specification's own examples ------------------------------------------------------------

EXAMPLES = [
    f"ngff-spec_{name}/{kind}/{path}.json"
    for name, kind in (
        ("0.4_suites/examples", "multiscales_strict"),
        ("0.5_suites/examples", "multiscales_strict"),
        ("0.6rc0_examples", "multiscales_strict"),
    )
    for path in ("multiscales_example", "multiscales_transformations")
] + [
    "ngff-spec_0.6rc0_examples/multiscales_strict/multiscales_example_relative.json",
    "ngff-spec_0.6rc0_examples/multiscales_strict/multiscales_reference_to_label.json",
    "ngff-spec_0.6rc0_examples/subspace/subspacePermute.json",
]


@cases("example", EXAMPLES)
def test_example_of_the_specification(example: str, realdata: Path, tmp_path: Path) -> None:
    """It opens, breaks no rule, and has the positions that the reference gives."""
    text = (realdata / example).read_text("utf-8")
    doc = json.loads(re.sub(r"//.*$", "", text, flags=re.MULTILINE))
    attrs = doc.get("attributes", doc)
    ome, zarr_format = (attrs["ome"], 3) if "ome" in attrs else (attrs, 2)
    (image,) = ome["multiscales"]
    axes = image.get("axes") or image["coordinateSystems"][0]["axes"]
    store = write_group(tmp_path / "a.zarr", attrs, zarr_format)
    build_levels(store, {**image, "axes": axes}, ome, zarr_format)
    for number, level in enumerate(reference.levels(store)):
        with xr.open_dataset(store, engine="hfzarr", level=number, on_invalid="raise") as opened:
            assert opened["image"].dims == level.dims
            positions = {name: opened[name].values.tolist() for name in level.positions}
            assert positions == {
                name: pytest.approx(values) for name, (_, values) in level.positions.items()
            }
