"""The scripts in examples/ do on the small demo what they say."""

from __future__ import annotations

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

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return run_demo(tmp_path_factory.mktemp("demo"), size="small", quiet=True)


@pytest.fixture(scope="module")
def store(demo) -> str:
    return str(demo.store)


@pytest.fixture(scope="module")
def raw(demo) -> str:
    return str(demo.raw)


def run(name: str, *arguments, **options):
    return runpy.run_path(str(EXAMPLES / name))["main"](*arguments, **options)


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


def test_reshard_on_a_cluster(raw, tmp_path: Path, capsys):
    pytest.importorskip("distributed", reason="needs dask's distributed scheduler")
    out = tmp_path / "sharded.ome.zarr"
    killed = run("reshard_on_a_cluster.py", raw, str(out))
    said = capsys.readouterr().out
    assert f"killed worker {killed} " in said
    assert "36 tasks" in said
    assert "verified: all" in said
    assert said.endswith("every pixel is the same\n")
    before, after = (xr.open_dataset(place, engine="hfzarr")["image"] for place in (raw, out))
    np.testing.assert_array_equal(before.values, after.values)
    assert after.encoding["shards"] == (1, 8, 128, 128)
    assert after.encoding["chunks"] == (1, 8, 64, 64)


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
    model = runpy.run_path(str(EXAMPLES / "predict_by_patches.py"))["model"]
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
