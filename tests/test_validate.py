"""`hfzarr validate`: verdicts on the official suites, on real stores, on one fault at a time."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

import hfzarr
import test_ngff_suites as suites
from hfzarr.faces.cli import NO, TROUBLE, main
from hfzarr.faces.validate import validate
from rawstores import write_array, write_group, write_image, write_json
from realstores import DOCUMENTS, cases

# --- the official suites --------------------------------------------------------------------------


@cases("name,version,kind,data,valid", suites.suite_cases(strict=False))
def test_the_official_suite(
    name: str, version: str, kind: str, data: dict[str, Any], valid: bool, tmp_path: Path
) -> None:
    store = tmp_path / "case.zarr"
    suites.build(store, version, kind, data)
    verdict = validate(store)
    assert (verdict.valid == valid) != (name in suites.DIFFERENCES), str(verdict)
    assert verdict.claim.startswith("OME-Zarr") or not valid
    if not valid:
        assert any(suites.fault(name) in one.rule + one.found for one in verdict.problems)


@cases("name,version,kind,data,valid", suites.suite_cases(strict=True))
def test_the_strict_suite(
    name: str, version: str, kind: str, data: dict[str, Any], valid: bool, tmp_path: Path
) -> None:
    store = tmp_path / "case.zarr"
    suites.build(store, version, kind, data)
    verdict = validate(store, strict=True)
    assert (verdict.valid == valid) != (name in suites.DIFFERENCES), str(verdict)


# --- real stores ----------------------------------------------------------------------------------

# What others wrote and published, and which rule it breaks: a word of the rule.
BROKEN = {
    "eopf_S2C_L2A_geozarr": "MUST be sound JSON",
    # zarr-python 3.0 wrote "consolidated_metadata": null.
    "matlab/grp_v3": "a field beyond the core",
    "neuroglancer_ome/*": "a field beyond the core",
    "ngff-validator/invalid/invalid_version.zarr": "'path' MUST be the path of an array",
    "ngff-validator/invalid/missing_min.zarr": "'window' MUST hold",
    "ngff-validator/invalid/no_version_v0.4.zarr": "'path' MUST be the path of an array",
    "ngff-validator/invalid/no_version_v0.5.zarr": "MUST have a '.zgroup'",
    "ngio_v05/images/*": "stands under 'ome'",
    "titiler_multidim/zarr_store_v3.zarr": "a field beyond the core",
    "vitessce_sdata_0.3/blobs.sdata.zarr": "exactly one scale",
    "vitessce_sdata_0.7/blobs.sdata.zarr": "'version' names the specification",
    "viv_bioformats/data.zarr": "'bioformats2raw.layout' MUST be 3",
    "viv_ome/blobs_image_v04.ome.zarr": "'version' names the specification",
    "viv_ome/blobs_image_v05.ome.zarr": "'version' names the specification",
    "zarrita_v3": "dimension_names",
}


def test_real_stores_that_others_wrote(realdata: Path) -> None:
    verdicts = {root.relative_to(realdata).as_posix(): validate(root) for root in roots(realdata)}
    broken = {name: one for name, one in verdicts.items() if not one.valid}
    assert len(verdicts) > 90
    for name, one in broken.items():
        word = BROKEN.get(name) or BROKEN[f"{name.rpartition('/')[0]}/*"]
        assert any(word in problem.rule for problem in one.problems), str(one)
    named = {name.rpartition("/")[0] + "/*" for name in broken} | set(broken)
    assert set(BROKEN) <= named, "valid, and listed as broken"


def roots(folder: Path) -> list[Path]:
    """Return the stores below a folder; none is looked into for more of them."""
    if any((folder / name).is_file() for name in DOCUMENTS):
        return [folder]
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            found += roots(path)
        elif path.suffix in (".zip", ".ozx"):
            found.append(path)
    return found


# --- whole stores ---------------------------------------------------------------------------------


def test_all_faults_are_listed(tmp_path: Path) -> None:
    """Of the array, of the image, and of the labels, which the engine would meet one by one."""
    store = write_image(tmp_path / "a.zarr", 3, coordinateTransformations=[])
    write_array(store / "1", (4, 8), 3, dims=["y", "x"], fill_value=1.0)
    write_group(store / "labels", {"ome": {"version": "0.5", "labels": ["gone"]}}, 3)
    verdict = validate(store)
    said = str(verdict)
    assert not verdict.valid
    assert "MUST NOT be empty" in said
    assert "an integer from 0 to 255" in said
    assert "'gone' is not there" in said
    assert {one.where for one in verdict.problems} == {"/", "1", "labels"}


def test_a_node_that_is_refused_hides_no_other(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    write_group(store, {"ome": {"version": "0.5", "multiscales": []}}, 3)
    write_image(store / "below", 3, coordinateTransformations=[])
    verdict = validate(store)
    assert {one.where for one in verdict.problems} == {"/", "below"}


def test_damaged_json_is_a_broken_rule(tmp_path: Path) -> None:
    store = write_image(tmp_path / "a.zarr", 3)
    (store / "zarr.json").write_text('{"zarr_format": 3, ')
    verdict = validate(store)
    assert not verdict.valid
    assert "sound JSON" in verdict.message


def test_nan_is_no_json_but_may_stand_in_attributes(tmp_path: Path) -> None:
    store = write_image(tmp_path / "a.zarr", 3)
    path = store / "0" / "zarr.json"
    doc = json.loads(path.read_text())
    write_json(path, doc | {"attributes": {"missing": math.nan}})
    verdict = validate(store)
    assert verdict.valid
    assert [one.rule[:4] for one in verdict.advice] == ["JSON"]
    assert not validate(store, strict=True).valid
    write_json(path, doc | {"data_type": "float32", "fill_value": math.nan})
    assert "RFC 8259" in str(validate(store).problems[0])


def test_a_group_of_v2_needs_its_document(tmp_path: Path) -> None:
    store = write_image(tmp_path / "a.zarr")
    (store / ".zgroup").unlink()
    (problem,) = validate(store).problems
    assert "MUST have a '.zgroup'" in problem.rule


def test_consolidated_metadata_does_not_hide_a_fault(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    root = zarr.create_group(store, zarr_format=2)
    root.create_array("a", shape=(4,), chunks=(2,), dtype="u1")
    zarr.consolidate_metadata(store)
    assert validate(store).valid
    doc = json.loads((store / "a" / ".zarray").read_text())
    write_json(store / "a" / ".zarray", doc | {"order": "X"})
    (problem,) = validate(store).problems
    assert (problem.where, problem.found) == ("a", "order 'X'")


def test_what_zarr_and_xarray_write_is_valid(tmp_path: Path) -> None:
    made = xr.Dataset(
        {"t": (("time", "y"), np.zeros((3, 4))), "flag": (("y",), np.zeros(4, bool))},
        coords={"time": np.array(["2000-01-01", "2000-01-02", "2000-01-03"], "M8[ns]")},
        attrs={"Conventions": "CF-1.8"},
    )
    for zarr_format in (2, 3):
        made.to_zarr(tmp_path / f"{zarr_format}.zarr", zarr_format=zarr_format)
        verdict = validate(tmp_path / f"{zarr_format}.zarr", strict=True)
        assert verdict.message == f"valid Zarr v{zarr_format} group"


def test_a_store_that_says_too_much_is_unchecked_there(tmp_path: Path) -> None:
    store = write_array(
        tmp_path / "a.zarr", (4,), 3, codecs=[{"name": "bytes"}, {"name": "codec-of-a-lab"}]
    )
    verdict = validate(store)
    assert verdict.valid
    assert "codec-of-a-lab" in verdict.unchecked[0]
    assert "as far as it was looked at" in verdict.message


def test_a_zip_and_a_part_of_a_store(tmp_path: Path) -> None:
    store = write_image(tmp_path / "a.zarr", 3)
    write_image(store / "labels" / "bad", 3, coordinateTransformations=[])
    write_group(store / "labels", {"ome": {"version": "0.5", "labels": ["bad"]}}, 3)
    packed = shutil.make_archive(str(tmp_path / "b.zarr"), "zip", store)
    assert not validate(packed).valid
    assert not validate(store, group="labels/bad").valid
    assert validate(store, group="0").claim == "Zarr v3 array"
    assert validate(store, group="0").valid


def test_only_who_claims_cf_is_judged_by_it(tmp_path: Path) -> None:
    for claim, judged in (("CF-1.10", True), ("none", False)):
        root = zarr.create_group(tmp_path / f"{claim}.zarr", attributes={"Conventions": claim})
        below = root.create_group("below")
        array = below.create_array("t", shape=(2,), dtype="f4", dimension_names=["y"])
        array.attrs["coordinates"] = "lat"
        assert ("'lat'" in str(validate(tmp_path / f"{claim}.zarr"))) == judged


# --- the command ----------------------------------------------------------------------------------


def test_the_command_says_yes_and_no(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound = write_image(tmp_path / "a.zarr", 3)
    assert main(["validate", str(sound)]) == 0
    assert capsys.readouterr() == (f"{sound}: valid OME-Zarr 0.5 image\n", "")
    bad = write_image(tmp_path / "b.zarr", 3, coordinateTransformations=[])
    assert main(["validate", str(bad)]) == NO
    said, errors = capsys.readouterr()
    assert errors == ""
    assert said.startswith(f"{bad}: not valid OME-Zarr 0.5 image\nbroken rules: 1\n- /: ")
    assert main(["validate", str(tmp_path / "none.zarr")]) == TROUBLE


@pytest.mark.parametrize("made", [True, False])
def test_the_command_speaks_json_of_what_is_no_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], made: bool
) -> None:
    place = tmp_path / "empty"
    if made:
        place.mkdir()
    assert main(["validate", str(place), "--json"]) == TROUBLE
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["valid"] is False
    assert "no Zarr store" in found["message"]
    assert said.err.startswith("hfzarr: ")


def test_the_command_speaks_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = write_image(tmp_path / "b.zarr", 3, coordinateTransformations=[])
    assert main(["validate", str(bad), "--json"]) == NO
    found = json.loads(capsys.readouterr().out)
    assert found["valid"] is False
    assert isinstance(found["message"], str)
    assert [one["node"] for one in found["problems"]] == ["/"]
    assert set(found["problems"][0]) == {"node", "rule", "found", "severity"}


def test_strict_counts_recommendations(tmp_path: Path) -> None:
    store = write_image(tmp_path / "a.zarr", 3, name=None)
    assert main(["validate", str(store)]) == 0
    assert main(["validate", str(store), "--strict"]) == NO


def test_it_is_public() -> None:
    assert hfzarr.validate is validate
