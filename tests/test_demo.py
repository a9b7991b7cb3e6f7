"""The ``hfzarr`` command: what the demo writes, opens and draws, and how errors end."""

from __future__ import annotations

import colorsys
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

pytest.importorskip("PIL")

from PIL import Image

from hfzarr.errors import TargetError
from hfzarr.faces.cli import main
from hfzarr.faces.demo import _halve_majority, _halve_mean, run_demo
from hfzarr.faces.patch_figure import frame_color, patch_figure


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Run the small demo once, as a shell would; return its folder and what it printed."""
    out = tmp_path_factory.mktemp("demo") / "new" / "folder"
    command = [sys.executable, "-c", "import sys; from hfzarr.faces.cli import main; "
               "sys.exit(main())", "demo", "--size", "small", "--out", str(out)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return out, done.stdout


def hues(picture):
    """Return the hues, in twelfths of the circle, of the vivid pixels."""
    pixels = picture.reshape(-1, 3)[::97] / 255
    hsv = [colorsys.rgb_to_hsv(*pixel) for pixel in pixels]
    return {round(12 * h) % 12 for h, s, v in hsv if s > 0.6 and v > 0.4}


def test_each_step_is_announced_with_its_time(demo):
    out, said = demo
    steps = [line for line in said.splitlines() if line.startswith("[")]
    assert [line[:5] for line in steps] == [f"[{i}/8]" for i in range(1, 9)]
    assert all(line.endswith(" s)") for line in steps)
    assert "\r" not in said
    assert str(out / "cells.png") in said
    assert str(out / "patches.png") in said
    assert str(out / "raw.ome.zarr") in said
    assert "Dimensions:  (patch: 12, c: 3, z: 8, y: 48, x: 48)" in said.replace("   (", "  (")


def files_under(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


def test_files_and_bytes_before_and_after_resharding_are_printed(demo):
    out, said = demo
    raw, resharded = out / "raw.ome.zarr", out / "resharded.ome.zarr"
    assert (files_under(raw), files_under(resharded)) == (3 * 24 * 4 + 4, 3)
    assert re.search(
        r"resharded\.ome\.zarr: 292 files \([\d.]+ MiB\) became 3 \([\d.]+ MiB\)",
        " ".join(said.split()),
    )


def test_what_was_resharded_is_the_finest_level(demo):
    tree = xr.open_datatree(demo[0] / "cells.ome.zarr", engine="hfzarr")
    for name in ("raw.ome.zarr", "resharded.ome.zarr"):
        opened = xr.open_dataset(demo[0] / name, engine="hfzarr", on_invalid="raise")
        xr.testing.assert_equal(opened, tree["0"].to_dataset())
    assert zarr.open_group(demo[0] / "raw.ome.zarr", mode="r").attrs["omero"]["version"] == "0.4"
    array = zarr.open_array(demo[0] / "resharded.ome.zarr" / "0", mode="r")
    assert (array.chunks, array.shards) == ((1, 1, 128, 128), (3, 24, 256, 256))


def test_what_was_opened_is_printed(demo):
    _, said = demo
    assert "<xarray.Dataset>" in said
    assert "Mitochondria" in said
    tree = [line.split() for line in said.splitlines() if line.strip().startswith("/")]
    assert [line[0] for line in tree if "image" in line] == ["/0", "/1", "/2", "/3"]
    assert [line[0] for line in tree if "labels" in line] == [
        f"/labels/nuclei/{i}" for i in range(4)
    ]
    assert "y 0.25 µm" in said


def test_the_picture_is_vivid(demo):
    with Image.open(demo[0] / "cells.png") as png:
        assert png.format == "PNG"
        assert png.mode == "RGB"
        picture = np.asarray(png)
    assert picture.shape[0] > 1000
    assert picture.shape[1] > 1500
    assert (picture.max(axis=2) > 60).mean() > 0.3
    assert hues(picture) >= {7, 11, 2} or len(hues(picture)) >= 4
    # Outlines and text are near white, and thin.
    assert 0.003 < (picture.min(axis=2) > 190).mean() < 0.1


#: Where the sheet of patches has its first panel, and how large that is for a square image.
TOP, LEFT, EDGE = 92, 28, 880


def border(box):
    """Return the rows and columns of the pixels around a box: first and last row and column."""
    top, left, bottom, right = box
    rows, columns = np.arange(top, bottom), np.arange(left, right)
    around = [(np.full_like(columns, row), columns) for row in (top, bottom - 1)]
    around += [(rows, np.full_like(rows, column)) for column in (left, right - 1)]
    return tuple(np.concatenate(parts) for parts in zip(*around, strict=True))


def expected_boxes(patches, dims, lengths, place):
    """Return where frames belong by the indices of the windows; `place` is top, left and edges."""
    top, left, height, width = place
    boxes = []
    for k in range(patches.sizes["patch"]):
        ends = []
        for dim, length, pixels in zip(dims, lengths, (height, width), strict=True):
            start = int(patches[f"{dim}_start"][k])
            size = patches.sizes[dim]
            ends.append((start / length * pixels, (start + size) / length * pixels))
        (up, down), (first, last) = ends
        boxes.append((round(top + up), round(left + first), round(top + down), round(left + last)))
    return boxes


def test_frames_of_the_demo_lie_where_its_patches_do(demo):
    with Image.open(demo[0] / "patches.png") as png:
        assert (png.format, png.mode) == ("PNG", "RGB")
        picture = np.asarray(png)
    tree = xr.open_datatree(demo[0] / "cells.ome.zarr", engine="hfzarr")
    size = {"z": 8, "y": 48, "x": 48}
    patches = tree.hfzarr.random_patches(12, size, seed=1, where="nuclei", labels=["nuclei"])
    assert bool((patches.nuclei > 0).any(["z", "y", "x"]).all())
    above = expected_boxes(patches, "yx", (256, 256), (TOP, LEFT, EDGE, EDGE))
    # Voxels are four times as deep as wide, and a strip of text lies between.
    aside = expected_boxes(patches, "zx", (24, 256), (TOP + EDGE + 34, LEFT, 330, EDGE))
    for boxes in (above, aside):
        for k, box in enumerate(boxes):
            own = (picture[border(box)] == frame_color(k, 12)).all(axis=1)
            assert own.mean() > 0.4, k  # frames drawn later may cover a part
    # The tiles have the same colours, row by row, and end where the panels beside them do.
    edge, first = (EDGE + 34 + 330 - 30) // 4, LEFT + EDGE + 24
    for k in range(12):
        top, left = TOP + k // 3 * (edge + 10), first + k % 3 * (edge + 10)
        frame = picture[border((top, left, top + edge, left + edge))]
        assert (frame == frame_color(k, 12)).all()
    assert left + edge + LEFT == picture.shape[1]


def made_image(values, *, steps=(2.0, 0.5, 0.5), offset=7.0, down=1):
    coords = {
        dim: offset + step * np.arange(n)[:: down if dim == "y" else 1]
        for dim, step, n in zip("zyx", steps, values.shape, strict=True)
    }
    return xr.DataArray(values, dims=("z", "y", "x"), coords=coords, name="image")


@pytest.mark.parametrize("down", [1, -1])
def test_a_frame_is_drawn_by_coordinates(down):
    image = made_image(np.zeros((4, 20, 40)), down=down)
    patches = image.to_dataset().hfzarr.patches({"z": 3, "y": 6, "x": 10}, stride={"y": 9, "x": 25})
    assert patches.sizes["patch"] == 4
    picture = patch_figure(image, patches, title="frames")
    panel = picture[TOP : TOP + 440, LEFT : LEFT + EDGE]
    for k, (y, x) in enumerate([(0, 0), (0, 25), (9, 0), (9, 25)]):
        rows, columns = np.nonzero((panel == frame_color(k, 4)).all(axis=2))
        assert (rows.min(), rows.max() + 1) == (y * 22, (y + 6) * 22)
        assert (columns.min(), columns.max() + 1) == (x * 22, (x + 10) * 22)


def test_a_tile_shows_what_its_frame_encloses():
    plane = np.random.default_rng(0).random((22, 22))
    image = made_image(np.broadcast_to(plane, (4, 22, 22)).copy())
    patches = image.to_dataset().hfzarr.random_patches(6, {"z": 2, "y": 8, "x": 8}, seed=3)
    picture = patch_figure(image, patches, title="tiles").astype(int)
    edge = (EDGE + 34 + 640 - 10) // 2
    for k in range(6):
        y, x = int(patches.y_start[k]), int(patches.x_start[k])
        top, left = TOP + k // 3 * (edge + 10), LEFT + EDGE + 24 + k % 3 * (edge + 10)
        at = np.arange(8) + 0.5
        tile = picture[
            np.ix_((top + at * edge / 8).astype(int), (left + at * edge / 8).astype(int))
        ]
        off = {}
        for dy, dx in [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)]:
            rows = np.clip((TOP + (y + dy + at) * 40).astype(int), TOP, TOP + EDGE - 1)
            columns = np.clip((LEFT + (x + dx + at) * 40).astype(int), LEFT, LEFT + EDGE - 1)
            off[dy, dx] = np.median(np.abs(picture[np.ix_(rows, columns)] - tile))
        assert off.pop((0, 0)) < 12
        assert min(off.values()) > 30


def test_labels_are_traced_in_a_tile():
    image = made_image(np.zeros((1, 20, 20)))
    labels = image.copy(data=np.zeros((1, 20, 20), int)).rename("cells")
    labels[0, 5:15, 5:15] = 3
    patches = xr.merge([image, labels]).hfzarr.patches({"y": 20, "x": 20})
    picture = patch_figure(image, patches, labels="cells", title="labels")
    left = LEFT + EDGE + 24
    tile = picture[TOP : TOP + EDGE, left : left + EDGE]
    inside = (tile[30:-60, 30:-30].min(axis=2) > 190).nonzero()
    rows, columns = (axis + 30 for axis in inside)
    # Label pixels 5 to 14 of 20 are the middle half of the tile.
    assert (rows.min(), rows.max()) == (220, 659)
    assert (columns.min(), columns.max()) == (220, 659)
    assert not (tile[300:600, 300:600] > 190).any()


def test_the_store_is_what_the_specification_asks(demo):
    root = zarr.open_group(demo[0] / "cells.ome.zarr", mode="r")
    assert root.metadata.consolidated_metadata is not None
    ome = root.attrs["ome"]
    (multiscale,) = ome["multiscales"]
    assert ome["version"] == "0.5"
    assert [axis["name"] for axis in multiscale["axes"]] == ["c", "z", "y", "x"]
    assert {axis.get("unit") for axis in multiscale["axes"]} == {None, "micrometer"}
    for level, dataset in enumerate(multiscale["datasets"]):
        array = root[dataset["path"]]
        edge = 256 // 2**level
        assert array.shape == (3, 24, edge, edge)
        assert array.dtype == np.uint16
        assert array.shards[0] == 1
        assert array.shards[1] >= 24
        assert array.metadata.dimension_names == ("c", "z", "y", "x")
        scale, shift = dataset["coordinateTransformations"]
        pixel = 0.25 * 2**level
        assert scale == {"type": "scale", "scale": [1.0, 1.0, pixel, pixel]}
        # The first pixel's outer edge is the same on every level.
        assert shift["translation"] == [0, 0, pixel / 2 - 0.125, pixel / 2 - 0.125]


def test_the_omero_channels_have_windows_that_hold_the_signal(demo):
    root = zarr.open_group(demo[0] / "cells.ome.zarr", mode="r")
    channels = root.attrs["ome"]["omero"]["channels"]
    assert [c["label"] for c in channels] == ["Nuclei", "Actin", "Mitochondria"]
    for channel, values in zip(channels, root["0"][...], strict=True):
        assert values.min() < channel["window"]["start"] < channel["window"]["end"] < values.max()


def test_labels_have_levels_colours_and_properties(demo):
    root = zarr.open_group(demo[0] / "cells.ome.zarr", mode="r")
    assert root["labels"].attrs["ome"]["labels"] == ["nuclei"]
    nuclei = root["labels/nuclei"]
    ome = nuclei.attrs["ome"]
    datasets = ome["multiscales"][0]["datasets"]
    shapes = [nuclei[d["path"]].shape for d in datasets]
    assert shapes == [(24, n, n) for n in (256, 128, 64, 32)]
    finest = nuclei["0"][...]
    present = set(np.unique(finest).tolist()) - {0}
    assert {c["label-value"] for c in ome["image-label"]["colors"]} == present
    volumes = {p["label-value"]: p["volume_um3"] for p in ome["image-label"]["properties"]}
    assert volumes[1] == (finest == 1).sum() * 0.25 * 0.25
    assert set(np.unique(nuclei["3"][...]).tolist()) - {0} <= present


def test_halving_keeps_means_and_majorities():
    image = np.array([[[1, 2, 65535, 65535], [3, 4, 65535, 65534]]], np.uint16)
    assert _halve_mean(image).tolist() == [[[3, 65535]]]
    for block, winner in [([1, 2, 2, 2], 2), ([1, 1, 2, 2], 1), ([3, 2, 2, 1], 2),
                          ([0, 5, 7, 7], 7), ([9, 5, 7, 9], 9), ([4, 3, 2, 1], 4)]:  # fmt: skip
        assert _halve_majority(np.array(block).reshape(2, 2)).tolist() == [[winner]]


def test_a_second_demo_replaces_the_first_and_can_be_quiet(demo, tmp_path: Path, capsys):
    out = tmp_path / "out"
    assert main(["demo", "--size", "small", "--quiet", "--out", str(out)]) == 0
    first = (out / "cells.png").read_bytes()
    run_demo(out, size="small", quiet=True)
    assert (out / "cells.png").read_bytes() == first
    assert capsys.readouterr() == ("", "")


def test_a_demo_that_was_interrupted_is_replaced(tmp_path: Path):
    (tmp_path / "resharded.ome.zarr" / ".hfzarr-reshard").mkdir(parents=True)
    files = run_demo(tmp_path, size="small", quiet=True)
    assert files_under(files.resharded) == 3


@pytest.mark.parametrize("name", ["cells.ome.zarr", "raw.ome.zarr", "resharded.ome.zarr"])
def test_the_demo_does_not_overwrite_what_it_did_not_make(name, tmp_path: Path, capsys):
    foreign = tmp_path / name
    foreign.mkdir()
    (foreign / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group"}))
    with pytest.raises(TargetError, match="not made by the demo"):
        run_demo(tmp_path, size="small", quiet=True)
    assert main(["demo", "--size", "small", "--out", str(tmp_path)]) == 2
    assert "--out" in capsys.readouterr().err
    assert [p.name for p in foreign.iterdir()] == ["zarr.json"]


def test_info_prints_the_tree(demo, capsys):
    assert main(["info", str(demo[0] / "cells.ome.zarr")]) == 0
    said, errors = capsys.readouterr()
    assert "DataTree" in said
    assert "nuclei" in said
    assert "uint16" in said
    assert "findings" not in said
    assert errors == ""


def test_info_of_an_array_prints_a_dataset(demo, capsys):
    assert main(["info", str(demo[0] / "cells.ome.zarr" / "2")]) == 0
    assert "Dataset" in capsys.readouterr().out


def test_info_lists_findings(tmp_path: Path, capsys):
    path = tmp_path / "odd.ome.zarr"
    root = zarr.open_group(path, mode="w", zarr_format=3)
    root.create_array("0", shape=(4, 4), dtype="u1", dimension_names=("y", "x"))
    transform = [{"type": "scale", "scale": [1.0, 1.0]}]
    datasets = [{"path": "0", "coordinateTransformations": transform}]
    axes = [{"name": d, "type": "space", "unit": "µm"} for d in "yx"]
    root.attrs["ome"] = {"multiscales": [{"axes": axes, "datasets": datasets}]}
    assert main(["info", str(path)]) == 0
    said, errors = capsys.readouterr()
    assert "findings" in said
    assert "version" in said
    assert errors == ""


def test_a_missing_store_is_one_line_on_stderr(tmp_path: Path):
    command = [sys.executable, "-m", "hfzarr.faces.cli", "info", str(tmp_path / "none.zarr")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("hfzarr: ")
    assert "none.zarr" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["unknown"], ["demo", "--size", "huge"]])
def test_wrong_arguments_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert "usage: hfzarr" in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as error:
        main(["--version"])
    assert error.value.code == 0
    assert capsys.readouterr().out.startswith("hfzarr ")


def test_the_command_line_starts_without_heavy_libraries():
    code = (
        "import sys, hfzarr.faces.cli; "
        "print([m for m in ('zarr', 'fsspec', 'PIL', 'tqdm', 'dask') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
