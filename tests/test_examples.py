"""The scripts in examples/ do on the small demo what they say."""

from __future__ import annotations

import hashlib
import runpy
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

pytest.importorskip("PIL")

from PIL import Image

import hfzarr
from hfzarr.faces.demo import run_demo
from hubstores import hub, log_in, servers  # noqa: F401 (fixtures)

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return run_demo(tmp_path_factory.mktemp("demo"), size="small", quiet=True)


@pytest.fixture(scope="module")
def store(demo) -> str:
    return str(demo.store)


def names_of(script: str) -> dict:
    return runpy.run_path(str(EXAMPLES / script))


def run(script: str, *arguments, **options):
    return names_of(script)["main"](*arguments, **options)


def test_each_script_has_a_test():
    here = Path(__file__).read_text("utf-8")
    scripts = [script.name for script in EXAMPLES.glob("*.py")]
    assert scripts
    assert [name for name in scripts if f'run("{name}"' not in here] == []


def test_open_ome_zarr(store, tmp_path: Path, capsys):
    run("open_ome_zarr.py", store, str(tmp_path / "region.png"))
    assert "'c': 3, 'z': 24, 'y': 64, 'x': 64" in capsys.readouterr().out
    with Image.open(tmp_path / "region.png") as png:
        assert png.size == (256, 256)


@pytest.fixture(params=["numpy", "torch"])
def model(request) -> str:
    if request.param == "torch":
        pytest.importorskip("torch", reason="torch is not installed")
    return request.param


def test_train_segmentation_learns(model, store, tmp_path: Path, capsys):
    out = tmp_path / "nuclei.zarr"
    score = run("train_segmentation.py", store, str(out), epochs=6, model=model)
    assert f"{model}: Dice {score:.3f}" in capsys.readouterr().out
    assert score > 0.85
    # The score is of what was written, on the half that was not trained on.
    probability = xr.open_dataset(out, engine="hfzarr", consolidated=False)["probability"]
    labels = xr.open_datatree(store, engine="hfzarr")["labels/nuclei/1"]["labels"]
    found, wanted = probability.values[..., 64:] > 0.5, labels.values[..., 64:] > 0
    assert score == pytest.approx(2 * (found & wanted).sum() / (found.sum() + wanted.sum()))
    with Image.open(tmp_path / "nuclei.png") as png:
        plain, traced, predicted = np.split(np.asarray(png), 3, axis=1)
    # Outlines are white, and lie over the same picture.
    for panel in (traced, predicted):
        drawn = (panel == 255).all(axis=2)
        assert 0.01 < drawn.mean() < 0.1
        np.testing.assert_array_equal(panel[~drawn], plain[~drawn])


def test_a_model_that_was_not_trained_does_not_find_nuclei(model, store, tmp_path: Path):
    out = tmp_path / "nuclei.zarr"
    assert run("train_segmentation.py", store, str(out), epochs=0, model=model) < 0.5


def test_train_segmentation_makes_the_demo_where_there_is_none(tmp_path: Path):
    made, other = tmp_path / "new" / "cells.ome.zarr", tmp_path / "other.ome.zarr"
    out = str(tmp_path / "nuclei.zarr")
    assert run("train_segmentation.py", str(made), out, epochs=1, model="numpy") > 0.5
    assert made.is_dir()
    with pytest.raises(FileNotFoundError, match="other"):
        run("train_segmentation.py", str(other), out, epochs=1, model="numpy")
    assert not other.exists()


def test_predict_by_patches(store, tmp_path: Path):
    out = tmp_path / "flat.zarr"
    run("predict_by_patches.py", store, str(out))
    image = xr.open_dataset(store, engine="hfzarr")["image"]
    flat = xr.open_dataset(out, engine="hfzarr", consolidated=False)["image"]
    assert flat.encoding["shards"] == image.encoding["shards"]
    assert flat.encoding["chunks"] == image.encoding["chunks"]
    xr.testing.assert_equal(flat.drop_vars("c").coords.to_dataset(),
                            image.drop_vars("c").coords.to_dataset())  # fmt: skip
    # Away from the ends of windows, the model sees what it would see of the whole plane.
    model = names_of("predict_by_patches.py")["model"]
    whole = model(image.values[np.newaxis])[0]
    differing = np.abs(flat.values - whole)
    assert np.median(differing) < 10 < whole.std()
    # What is smooth goes, what is fine stays.
    assert abs(float(flat.mean())) < 0.05 * float(image.mean())
    assert np.corrcoef(flat.values.ravel(), whole.ravel())[0, 1] > 0.97


def test_thousand_stores(tmp_path: Path, capsys):
    pytest.importorskip("pyarrow", reason="manifests need pyarrow")
    folder = tmp_path / "wells"
    made = run("thousand_stores.py", str(folder), 1000)
    manifest, stacked, patches = made["manifest"], made["stacked"], made["patches"]
    assert len(manifest) == 1000
    assert stacked["image"].shape == (1000, 2, 96, 96)
    assert stacked["c"].values.tolist() == ["DNA", "Actin"]
    assert stacked["y"].attrs["units"] == "micrometer"
    # Labels and splits are those of the folders, and of the numbers that the stores were made by.
    for row in range(len(manifest)):
        store = Path(str(stacked["zarr"].values[row]))
        number = int(store.name[5:9])
        label, split = ("sparse", "dense")[number % 2], "train" if number % 5 else "test"
        assert store.parts[-3:-1] == (split, label)
        assert (stacked["label"].values[row], stacked["split"].values[row]) == (label, split)
    assert len(np.unique(stacked["zarr"].values)) == 1000
    assert made["train"].sizes["row"] == 800
    assert set(made["train"]["split"].values) == {"train"}
    # One patch of each store, where its selection says, with the pixels that zarr-python reads.
    assert patches["image"].shape == (1000, 2, 32, 32)
    assert patches["label"].values.tolist() == stacked["label"].values.tolist()
    drawn = hfzarr.open_manifest(folder / "patches.parquet")
    starts = [tuple(span.start for span in one.spans) for one in drawn["patch"]]
    assert len(set(starts)) > 800
    for row in (0, 1, 499, 998, 999):
        pixels = zarr.open_array(f"{manifest.stores[row]}/0", mode="r")
        np.testing.assert_array_equal(stacked["image"][row].values, pixels[...])
        _, y, x = starts[row]
        np.testing.assert_array_equal(
            patches["image"][row].values, pixels[:, y : y + 32, x : x + 32]
        )
    said = capsys.readouterr().out
    means = [float(line.rpartition(" ")[2]) for line in said.splitlines()[-2:]]
    assert said.splitlines()[-2].startswith("dense: mean ")
    # There are four times as many spots in those.
    assert means[0] > means[1] > 40


def test_thousand_stores_draws_the_same_places_again(tmp_path: Path, capsys):
    pytest.importorskip("pyarrow", reason="manifests need pyarrow")
    folder = tmp_path / "wells"
    once, again = (run("thousand_stores.py", str(folder), 20)["patches"].load() for _ in range(2))
    xr.testing.assert_identical(once, again)


# --- one for each field --------------------------------------------------------------------------


def test_microscopy_finds_the_nuclei(store, tmp_path: Path, capsys):
    pytest.importorskip("scipy", reason="the example needs scipy")
    overlaps = run("microscopy.py", store, str(tmp_path / "nuclei.png"))
    said = capsys.readouterr().out
    labels = xr.open_datatree(store, engine="hfzarr")["labels/nuclei/1"]["labels"].values
    assert set(overlaps) == set(np.unique(labels).tolist()) - {0}
    good = sum(overlap > 0.5 for overlap in overlaps.values())
    assert good >= len(overlaps) - 2
    assert f"{len(overlaps)} are labelled, and {good} match" in said
    assert float(said.partition("Dice of their voxels: ")[2].split()[0]) > 0.85
    # Two panels of the same plane, in which only the outlines differ.
    with Image.open(tmp_path / "nuclei.png") as png:
        wanted, found = np.split(np.asarray(png), 2, axis=1)
    assert wanted.shape == (384 + 16, 384 + 16, 3)
    white, orange = ((panel == color).all(axis=2) for panel, color in
                     ((wanted, (255, 255, 255)), (found, (255, 160, 0))))  # fmt: skip
    assert 0.01 < white.mean() < 0.1
    assert 0.01 < orange.mean() < 0.1
    np.testing.assert_array_equal(wanted[~(white | orange)], found[~(white | orange)])


def test_microscopy_by_patches_is_that_of_the_whole_image(store):
    pytest.importorskip("scipy", reason="the example needs scipy")
    names = names_of("microscopy.py")
    image = xr.open_dataset(store, engine="hfzarr", level=1)["image"].sel(c="Nuclei")
    cut = names["contrast_by_patches"](image)
    whole = names["contrast"](image.values[np.newaxis], names["pixel_sizes"](image))[0]
    assert cut.chunks is not None
    np.testing.assert_allclose(cut.values, whole, rtol=1e-4)


def test_microscopy_compares_labels():
    pytest.importorskip("scipy", reason="the example needs scipy")
    wanted, found = np.zeros((2, 1, 4, 6), int)
    wanted[0, :2, :2], wanted[0, 2:, 3:] = 5, 7
    found[0, :2, :3] = 1
    assert names_of("microscopy.py")["matches"](found, wanted) == {5: 4 / 6, 7: 0.0}


def test_climate(tmp_path: Path, capsys):
    pytest.importorskip("cftime", reason="the calendar needs cftime")
    out = tmp_path / "climate"
    found = run("climate.py", str(out), years=2)
    said = capsys.readouterr().out
    assert "2001-01-01 to 2002-12-31, calendar noleap" in said
    assert "['lat_bnds', 'lon_bnds']" in said
    # Requests for a place and for a day, before and after.
    (before, slow), (after, fast) = found["cost"]["one place"]
    assert (before, after) == (730, 2)
    assert fast < slow
    assert found["cost"]["one day"][0][0] == 1 < found["cost"]["one day"][1][0] < 20
    # The same numbers, from what zarr-python reads.
    packed = zarr.open_array(out / "daily.zarr" / "tas", mode="r")
    assert (packed.dtype, packed.chunks) == (np.int16, (1, 36, 72))
    tas = packed[...] * 0.01 + 273.15
    months = np.tile(np.repeat(np.arange(12), [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]), 2)
    means = [tas[months == month].mean(axis=0) for month in range(12)]
    np.testing.assert_allclose(found["monthly"].values, means)
    lat = np.arange(-87.5, 90, 5)
    europe = (lat > 35) & (lat < 70)
    weights = np.cos(np.deg2rad(lat[europe]))
    mean = np.average(tas[:, europe, :8].mean(axis=2), axis=1, weights=weights)
    np.testing.assert_allclose(found["mean"].values, mean)
    np.testing.assert_allclose(found["exact"].values, mean, rtol=1e-5)
    # Summers are warm: north is above, and the July there.
    with Image.open(out / "swing.png") as png:
        light = np.asarray(png.convert("L"), float)
    assert light.shape == (8 * 36, 8 * 72)
    assert light[:96].mean() > light[-96:].mean()


def test_climate_goes_on_with_what_is_there(tmp_path: Path, capsys):
    pytest.importorskip("cftime", reason="the calendar needs cftime")
    once = run("climate.py", str(tmp_path), years=1)
    assert "files became" in capsys.readouterr().out
    again = run("climate.py", str(tmp_path), years=1)
    assert "files became" not in capsys.readouterr().out
    xr.testing.assert_identical(once["monthly"], again["monthly"])


# rioxarray multiplies transforms in the way that affine means to give up.
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
@pytest.mark.parametrize(("resolution", "level"), [(25, 20), (10, 10), (5, 10), (200, 80)])
def test_geospatial(resolution, level, tmp_path: Path, capsys):
    pytest.importorskip("rioxarray", reason="needs the extra geo")
    import rasterio

    store, out = tmp_path / "scene.zarr", tmp_path / "ndvi.tif"
    run("geospatial.py", str(store), str(out), resolution=resolution)
    said = capsys.readouterr().out
    assert f"{level}m: {{'y': {5120 // level}, 'x': {5120 // level}}}" in said
    assert "EPSG:32633" in said
    # The file says where it lies, and holds what the bands give, read by zarr-python alone.
    west, north = 1000 // level, 1500 // level
    with rasterio.open(out) as tif:
        assert tif.crs.to_epsg() == 32633
        assert (tif.transform.a, tif.transform.e) == (level, -level)
        assert (tif.transform.c, tif.transform.f) == (500_000 + west * level,
                                                      5_000_000 - north * level)  # fmt: skip
        assert tif.bounds.right >= 503_000
        assert tif.bounds.bottom <= 4_996_500
        ndvi = tif.read(1)
    red, nir = (
        zarr.open_array(store / f"{level}m" / band, mode="r")[...].astype(float)
        for band in ("red", "nir")
    )
    box = np.s_[north : north + ndvi.shape[0], west : west + ndvi.shape[1]]
    wanted = (nir - red)[box] / (nir + red)[box]
    np.testing.assert_allclose(ndvi, wanted, atol=1e-6)
    assert wanted.min() < 0 < 0.7 < wanted.max()
    with Image.open(tmp_path / "ndvi.png") as png:
        scene, part = np.split(np.asarray(png), 2, axis=1)
    assert scene.shape == part.shape
    # The box, in white, from 1 to 3 km of 5.12.
    top, left, right = (round(scene.shape[0] * n / 5.12) for n in (1.5, 1, 3))
    assert (scene[top - 1 : top + 2, left + 2 : right - 2] == 255).all(axis=2).any(axis=0).all()


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_geospatial_takes_a_box_in_degrees(tmp_path: Path):
    pytest.importorskip("rioxarray", reason="needs the extra geo")
    store, out = str(tmp_path / "scene.zarr"), str(tmp_path / "ndvi.tif")
    metres = run("geospatial.py", store, out)
    box = metres.rio.transform_bounds("EPSG:4326")
    degrees = run("geospatial.py", store, out, box=box, crs="EPSG:4326")
    for mine, other in zip(metres.rio.bounds(), degrees.rio.bounds(), strict=True):
        assert abs(mine - other) <= 60


def test_hub(model, request, tmp_path: Path, capsys):
    pytest.importorskip("huggingface_hub", reason="needs the extra hub")
    pytest.importorskip("datasets", reason="needs the extra datasets")
    pytest.importorskip("aiohttp", reason="needs the extra hub")
    if zarr.__version__ == "3.1.0":
        pytest.skip("zarr 3.1.0 now and then writes shards that cannot be read")
    request.getfixturevalue("log_in")("me")
    server = request.getfixturevalue("hub")
    score = run("hub.py", "me/cells", str(tmp_path / "cells"), model=model, count=48)
    said = capsys.readouterr().out
    assert "48 stores of 144 files to hf://datasets/me/cells" in said
    assert f"{model}: {score:.0%} of the test images" in said
    assert score > 0.85
    losses = [float(line.rpartition(" ")[2]) for line in said.splitlines() if "loss" in line]
    assert len(losses) == 6
    assert losses[-1] < 0.8 * losses[0]
    # The repo has an index of two splits, and every image was fetched from there, as ranges.
    files = server.files("me/cells")
    splits = {path.partition("-")[0] for path in files if path.startswith("data/")}
    assert splits == {"data/train", "data/test"}
    images = {hashlib.sha256(files[path]).hexdigest() for path in files if path.endswith("/c/0/0")}
    fetched = server.log.find(method="GET", origin="cdn")
    assert len(images) == 48
    assert images <= {one.path.partition("?")[0].rpartition("/")[2] for one in fetched}


def test_cluster(tmp_path: Path, capsys):
    pytest.importorskip("distributed", reason="needs dask's distributed scheduler")
    source, out = tmp_path / "volume.zarr", tmp_path / "sharded.zarr"
    watch = run("cluster.py", str(source), str(out), most=2, planes=32)
    said = capsys.readouterr().out
    assert "dashboard: http://127.0.0.1:" in said
    assert f"killed worker {watch.killed} after " in said
    # It begins with one worker, and more are wanted while there is much to do; never too many.
    assert max(wanted for _, wanted in watch.seen) == 2
    assert "verified: all" in said
    assert said.endswith("every pixel is the same\n")
    before, after = (zarr.open_array(place / "volume", mode="r") for place in (source, out))
    assert (after.chunks, after.shards) == ((8, 64, 64), (8, 256, 256))
    np.testing.assert_array_equal(before[...], after[...])
    assert len(list((out / "volume" / "c").rglob("*"))) < 50
