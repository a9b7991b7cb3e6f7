"""A table of a thousand small images: scanned, saved, stacked, and one patch drawn from each.

Each image is an OME-Zarr store of its own, as a microscope or a screening robot leaves them: in
folders that tell the split and the label. They are made where they are missing::

    python examples/thousand_stores.py wells 1000

The patches that were drawn are a table too, of selections: it is a list of places that can be
saved, handed on and read later, by anyone who can open the stores.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import xarray as xr

import hfzarr

SIDE, CHUNK, CHANNELS = 96, 48, ("DNA", "Actin")
SIZE = {"y": 32, "x": 32}


def make_stores(folder: Path, count: int) -> None:
    """Write small images, half of them with many spots: the metadata as JSON, raw chunks beside."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    for number in range(count):
        label = ("sparse", "dense")[number % 2]
        split = "test" if number % 5 == 0 else "train"
        image = rng.poisson(40, (2, SIDE, SIDE)).astype(float)
        for cy, cx in rng.uniform(0, SIDE, (4 if label == "sparse" else 16, 2)):
            image += 400 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 18)
        write_store(folder / split / label / f"well_{number:04}.ome.zarr", image.astype("<u2"))


def write_store(store: Path, image: np.ndarray) -> None:
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    scale = [{"type": "scale", "scale": [1, 0.65, 0.65]}]
    ome = {
        "version": "0.5",
        "multiscales": [
            {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
        ],
        "omero": {"channels": [{"label": label} for label in CHANNELS]},
    }
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}
    array = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": image.shape,
        "data_type": "uint16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, CHUNK, CHUNK]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "fill_value": 0,
        "dimension_names": ["c", "y", "x"],
        "attributes": {},
    }
    (store / "0").mkdir(parents=True)
    (store / "zarr.json").write_text(json.dumps(group))
    (store / "0" / "zarr.json").write_text(json.dumps(array))
    for c, i, j in np.ndindex(len(image), SIDE // CHUNK, SIDE // CHUNK):
        chunk = store / "0" / "c" / str(c) / str(i) / str(j)
        chunk.parent.mkdir(parents=True, exist_ok=True)
        rows, columns = (slice(k * CHUNK, (k + 1) * CHUNK) for k in (i, j))
        chunk.write_bytes(image[c, rows, columns].tobytes())


def draw_one_each(manifest: hfzarr.Manifest, seed: int = 0) -> hfzarr.Manifest:
    """Return a table with one place drawn in each store; no pixel is read."""
    rng = np.random.default_rng(seed)
    rows = []
    for row in manifest:
        length = dict(zip(row["axes"], row["shape"], strict=True))
        start = {dim: int(rng.integers(0, length[dim] - n + 1)) for dim, n in SIZE.items()}
        region = {dim: slice(first, first + SIZE[dim]) for dim, first in start.items()}
        rows.append({"patch": row["zarr"].select(**region), "label": row["label"]})
    return hfzarr.open_manifest(rows, column="patch")


def main(folder: str, count: int = 1000) -> dict:
    root = Path(folder)
    if not root.exists():
        make_stores(root, count)

    # What is there: format, shape, axes, pixel sizes, channels, label and split of each store.
    # With metadata=True the table carries what opening needs, so that opening asks for nothing.
    found = hfzarr.scan(root, metadata=True)
    found.save(root / "index.parquet")
    manifest = hfzarr.open_manifest(root / "index.parquet")
    print(manifest)

    # All of them as one lazy Dataset, labels and splits as coordinates along `row`.
    ds = xr.open_dataset(manifest, engine="hfzarr")
    print(ds)
    train = ds.isel(row=(ds.split == "train").values)

    # One patch from each store: drawn, saved, opened again, read.
    draw_one_each(manifest).save(root / "patches.parquet")
    patches = xr.open_dataset(str(root / "patches.parquet"), engine="hfzarr")
    brightness = patches.image.sel(c="DNA").mean(["y", "x"]).groupby(patches.label).mean()
    for label in brightness.label.values:
        print(f"{label}: mean {float(brightness.sel(label=label)):.1f}")
    return {"manifest": manifest, "stacked": ds, "train": train, "patches": patches}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="folder of the stores; made if it is missing")
    parser.add_argument("count", nargs="?", type=int, default=1000, help="how many to make")
    options = parser.parse_args()
    main(options.folder, options.count)
