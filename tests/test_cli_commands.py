"""``hfzarr info``, ``tree``, ``diagnose``, ``explain``, ``thumbnail``, ``scan`` and ``push``."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore

import hfzarr
from commandline import PYTHON, a_volume, an_image, ask, facts, fails, run, told  # noqa: F401 (fixtures)
from hfzarr.faces.cli import STOPPED
from rawstores import write_array, write_group, write_image
from stores import write_cf

# --- info, tree, diagnose, explain ----------------------------------------------------------------


def test_info_as_json(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "info", image)
    assert (found["kind"], found["ome_version"], found["format"]) == ("image", "0.5", "zarr-v3")
    assert (found["shape"], found["dtype"], found["axes"]) == ([8, 16], "uint8", ["y", "x"])
    assert (found["scale"], found["levels"]) == ([0.5, 0.25], 2)
    assert [one["path"] for one in found["arrays"]] == ["0", "1"]
    assert found["arrays"][0]["chunks"] == [8, 16]
    assert (found["ok"], found["findings"]) == (True, [])


def test_info_of_a_node(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert facts(capsys, "info", image, "--group", "1")["shape"] == [4, 8]
    assert "(y: 4, x: 8)" in told(capsys, "info", image, "--group", "1")


def test_info_of_a_table(
    image: Path, volume: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask("scan", tmp_path, "-o", tmp_path / "index.parquet")
    capsys.readouterr()
    assert "2 rows" in told(capsys, "info", tmp_path / "index.parquet")
    found = facts(capsys, "info", tmp_path / "index.parquet")
    assert (found["rows"], found["column"], found["columns"]["dtype"]) == (2, "zarr", "string")


def test_info_of_cf(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cf(LocalStore(tmp_path / "cf.zarr"))
    assert "<xarray.Dataset>" in told(capsys, "info", tmp_path / "cf.zarr")
    assert facts(capsys, "info", tmp_path / "cf.zarr")["kind"] == "group"


def test_tree(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_group(image / "labels", {"ome": {"version": "0.5", "labels": ["a"]}}, 3)
    write_image(image / "labels" / "a", 3)
    assert told(capsys, "tree", image).splitlines() == [
        f"{image}  image, OME-Zarr 0.5",
        "├── 0  y 8 × x 16 uint8, chunks 8 × 16",
        "├── 1  y 4 × x 8 uint8, chunks 4 × 8",
        "└── labels  collection, OME-Zarr 0.5",
        "    └── a  image, OME-Zarr 0.5",
        "        ├── 0  y 8 × x 16 uint8, chunks 8 × 16",
        "        └── 1  y 4 × x 8 uint8, chunks 4 × 8",
    ]
    assert told(capsys, "tree", image, "--depth", "1").splitlines()[-2:] == [
        "└── labels  collection, OME-Zarr 0.5",
        "    └── …",
    ]
    assert told(capsys, "tree", image, "--group", "labels").startswith(f"{image}/labels  coll")


def test_tree_as_json(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "tree", image)
    assert (found["store"], found["kind"], found["left_out"]) == (str(image), "image", 0)
    assert [one["path"] for one in found["children"]] == ["0", "1"]
    assert found["children"][1]["shape"] == [4, 8]


@pytest.mark.parametrize("limit", [1, 2, 5, 7, 12, 13])
def test_tree_shows_no_more_than_it_may(
    limit: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = write_group(tmp_path / "a.zarr", {}, 3)
    for group in "abc":
        write_group(store / group, {}, 3)
        for array in "xyz":
            write_array(store / group / array, (4,), 3)
    found = facts(capsys, "tree", store, "--limit", limit)

    def nodes(one: dict[str, Any]) -> int:
        return 1 + sum(map(nodes, one.get("children", [])))

    def left_out(one: dict[str, Any]) -> int:
        return (one.get("left_out") or 0) + sum(map(left_out, one.get("children", [])))

    assert nodes(found) == limit
    if limit >= 7:
        assert left_out(found) == 13 - limit


def test_tree_says_what_it_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = write_group(tmp_path / "a.zarr", {}, 3)
    write_array(store / "good", (4,), 3)
    write_array(store / "bad", (4,), 3, codecs=[{"name": "codec-of-a-lab"}])
    said = told(capsys, "tree", store)
    assert "bad  unreadable: " in said
    assert "good  4 uint8" in said


def test_diagnose(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "diagnose", image) == f"{image}: image, OME-Zarr 0.5; 0 findings\n"
    bad = write_image(image.parent / "b.zarr", coordinateTransformations=[])
    assert "[must] /: " in told(capsys, "diagnose", bad)
    found = facts(capsys, "diagnose", bad)
    assert found["ok"] is False
    assert found["findings"][0]["severity"] == "must"
    assert "MUST NOT be empty" in found["findings"][0]["rule"]


def test_explain(volume: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = facts(capsys, "explain", volume)
    assert (whole["total"]["chunks"], whole["total"]["bytes_delivered"]) == (16, 4 * 64 * 64)
    some = facts(capsys, "explain", volume, "--size", "y=32,x=32", "--stride", "16")
    assert some["what"].startswith("9 patches of y 32 × x 32")
    assert some["total"]["naive_amplification"] > 1
    assert "9 patches" in told(capsys, "explain", volume, "--size", "y=32,x=32", "--stride", "16")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--n", "5", "--seed", "1"], "5 patches"),
        (["--batch-size", "2", "--no-shuffle", "--max-memory", "1GiB"], "2 batches of 2 patches"),
        (["--overlap", "y=16,x=16", "--edge", "shift"], "9 patches"),
    ],
)
def test_explain_passes_options_on(
    options: list[str], said: str, volume: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in told(capsys, "explain", volume, "--size", "y=32,x=32", *options)


def test_explain_of_a_level(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert facts(capsys, "explain", image, "--level", "1")["total"]["bytes_delivered"] == 32
    assert "no level" in fails(capsys, "explain", image, "--level", "7")
    assert "'q'" in fails(capsys, "explain", image, "--size", "q=4")


# --- thumbnail, scan ------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_thumbnail(suffix: str, volume: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pillow = pytest.importorskip("PIL.Image", reason="needs Pillow")
    file = volume.parent / f"a.{suffix}"
    said = told(capsys, "thumbnail", volume, "-o", file, "--size", "40", "--projection", "mean")
    assert said.startswith(f"{file}: 40 × 40 pixels, ")
    with pillow.open(file) as opened:
        assert opened.size == (40, 40)
    found = facts(capsys, "thumbnail", volume, "-o", file)
    assert (found["width"], found["height"], found["file"]) == (64, 64, str(file))
    assert told(capsys, "thumbnail", volume, "-o", file, "--quiet") == ""


def test_a_thumbnail_in_a_pipe(volume: Path) -> None:
    pytest.importorskip("PIL.Image", reason="needs Pillow")
    done = subprocess.run(
        [*PYTHON, "thumbnail", str(volume), "-o", "-"], capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"\x89PNG")


def test_a_thumbnail_is_that_of_the_accessor(volume: Path) -> None:
    pillow = pytest.importorskip("PIL.Image", reason="needs Pillow")
    import xarray as xr

    options = ["--projection", "slice", "--size", "64"]
    ask("thumbnail", volume, "-o", volume.parent / "a.png", *options, "--quiet")
    wanted = xr.open_dataset(volume, engine="hfzarr").hfzarr.thumbnail(64, project="slice")
    with pillow.open(volume.parent / "a.png") as opened:
        np.testing.assert_array_equal(np.asarray(opened), wanted)


def test_a_picture_in_a_store_is_refused(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("PIL.Image", reason="needs Pillow")
    assert "in the Zarr store" in fails(capsys, "thumbnail", image, "-o", image / "a.png")
    assert not (image / "a.png").exists()


def test_labels_that_nobody_asked_for_are_not_looked_at(image: Path) -> None:
    pytest.importorskip("PIL.Image", reason="needs Pillow")
    labels = image / "labels"
    for folder in (labels, labels / "n"):
        folder.mkdir(exist_ok=True)
        for name in ("zarr.json", ".zgroup", ".zattrs"):
            (folder / name).write_text("{broken")
    for name in ("zarr.json", ".zmetadata"):
        path = image / name
        document = json.loads(path.read_text()) if path.exists() else {}
        if document.pop("consolidated_metadata", None) is not None:
            path.write_text(json.dumps(document))
        elif name == ".zmetadata":
            path.unlink(missing_ok=True)
    ask("thumbnail", image, "-o", image.parent / "a.png", "--quiet")


def test_thumbnails_that_cannot_be(volume: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("PIL.Image", reason="needs Pillow")
    folder = volume.parent
    assert "max_bytes" in fails(
        capsys, "thumbnail", volume, "-o", folder / "a.png", "--max-bytes", "10"
    )
    assert "names no format" in fails(capsys, "thumbnail", volume, "-o", folder / "a")
    assert "'xyz'" in fails(capsys, "thumbnail", volume, "-o", folder / "a.xyz")
    assert not list(folder.glob("a*"))


def test_scan(image: Path, volume: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = image.parent
    said = told(capsys, "scan", folder)
    assert "2 rows" in said
    assert "cells.ome.zarr" in said
    found = facts(capsys, "scan", folder)
    assert [row["zarr"] for row in found["rows"]] == ["cells.ome.zarr", "volume.zarr"]
    assert found["rows"][1]["shape"] == [4, 64, 64]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_a_scan_is_written(
    suffix: str, image: Path, volume: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("PIL.Image", reason="needs Pillow")
    file = image.parent / f"index.{suffix}"
    extra = ["--metadata", "--column", "store"]
    said = told(capsys, "scan", image.parent, "-o", file, *extra)
    assert said.startswith(f"{file}: 2 stores, ")
    manifest = hfzarr.open_manifest(file)
    assert manifest["shape"] == [[8, 16], [4, 64, 64]]
    assert "zarr_metadata" in manifest.columns
    assert manifest.column == "store"


def test_a_scan_skips_what_cannot_be_read(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (image.parent / "bad.zarr").mkdir()
    (image.parent / "bad.zarr" / "zarr.json").write_text("{")
    assert "bad.zarr" in fails(capsys, "scan", image.parent)
    done = run("scan", image.parent, "--on-error", "skip")
    assert done.returncode == 0
    assert done.stderr.startswith("hfzarr: warning: left out 1 of 2 stores")
    assert "1 row" in done.stdout


def test_pictures_are_drawn_in_a_fresh_process(tmp_path: Path) -> None:
    """Where several threads are the first to need a codec."""
    pytest.importorskip("PIL.Image", reason="needs Pillow")
    for i in range(6):
        path = tmp_path / f"{i}.zarr"
        made = zarr.create_array(
            path, shape=(256, 256), chunks=(32, 32), dtype="u1", zarr_format=2 + i % 2
        )
        made[...] = np.random.default_rng(i).integers(0, 255, (256, 256))
    done = run("scan", tmp_path, "--thumbnails", "-o", tmp_path / "index.parquet")
    assert (done.returncode, done.stderr) == (0, "")
    page = run("gallery", tmp_path, "-o", tmp_path / "page.html")
    assert "6 rows, 6 with a picture" in page.stdout, page.stderr


def test_several_folders(image: Path, volume: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "scan", image, volume, "--no-facts")
    assert [row["zarr"] for row in found["rows"]] == [str(image), str(volume)]


def test_a_bar_on_a_terminal_only(image: Path) -> None:
    assert run("scan", image.parent).stderr == ""
    assert "read: 100%" in run("scan", image.parent, "--progress").stderr


# --- push and reshard -----------------------------------------------------------------------------


def test_push_passes_everything_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import inspect

    from hfzarr.faces import push as face

    seen: dict[str, Any] = {}
    named = inspect.signature(face.push_to_hub).parameters

    def record(source: str, repo_id: str, **options: Any) -> str:
        seen.update(options, source=source, repo_id=repo_id)
        return "done"

    monkeypatch.setattr(face, "push_to_hub", record)
    assert told(capsys, "push", "data", "lab/cells") == "done\n"
    assert (seen.pop("source"), seen.pop("repo_id")) == ("data", "lab/cells")
    defaults = {name: named[name].default for name in seen}
    assert seen == defaults | {"max_memory": "512MiB", "max_disk": "4GiB"}
    assert set(named) - {"source", "repo_id", "token"} == set(seen)
    options = "--shard none --private --data-repo buckets/lab/cells --revision dev --no-thumbnails"
    told(capsys, "push", "data", "lab/cells", *options.split(), "--no-resume", "--quiet")
    assert seen["shard"] is None
    assert (seen["private"], seen["resume"], seen["thumbnails"]) == (True, False, False)
    assert (seen["data_repo"], seen["revision"]) == ("buckets/lab/cells", "dev")
    assert seen["progress"] is False


def test_a_stopped_push_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hfzarr.faces.push.push_to_hub", stop)
    ask("push", "data", "lab/cells", code=STOPPED)
    assert capsys.readouterr().err == "hfzarr: stopped; the same command goes on where it was\n"


def test_reshard_as_json(volume: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = volume.parent / "b.zarr"
    plan = facts(capsys, "reshard", volume, target, "--dry-run")
    assert (plan["files_before"], plan["files_after"]) == (17, 2)
    assert plan["arrays"][0]["shard"] == [4, 64, 64]
    assert not target.exists()
    done = facts(capsys, "reshard", volume, target, "--quiet")
    assert (done["files"], done["plan"]["target"]) == (2, str(target))
