"""Reshard on a cluster that grows with the work, and of which a worker is killed on the way.

The cluster is processes of this machine; for Slurm, Kubernetes and others see docs/reshard.md: the
call is the same. The store is a made-up volume of a thousand small files, or any other::

    python examples/cluster.py volume.zarr --out sharded.zarr --most 4

The dashboard shows workers and tasks in a browser (``pip install bokeh``).
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil  # comes with distributed
import xarray as xr
import zarr
from distributed import Client, LocalCluster

import hfzarr


def make_volume(path: str, planes: int) -> None:
    """Write a scan plane by plane, 16 small files each, as many instruments do."""
    rng = np.random.default_rng(0)
    volume = zarr.create_group(path).create_array(
        "volume",
        shape=(planes, 512, 512),
        chunks=(1, 128, 128),
        dtype="uint16",
        dimension_names=("z", "y", "x"),
    )
    y, x = np.mgrid[:512, :512] / 40
    for z in range(planes):
        volume[z] = rng.poisson(200 + 150 * np.sin(y + z / 9) * np.sin(x - z / 7))


class Watch:
    """Told after each task how far the run is; kills a worker at a third of the way."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self.seen: list[tuple[int, int]] = []  # workers there and wanted, whenever that changed
        self.killed = 0

    def __call__(self, now: hfzarr.Progress) -> None:
        workers = len(self.cluster.scheduler_info["workers"]), len(self.cluster.worker_spec)
        if workers not in self.seen[-1:]:
            self.seen.append(workers)
            print(f"{workers[0]} workers, {workers[1]} wanted; {now}")
        if not self.killed and now.stage == "reshard" and 3 * now.done >= now.total:
            # As the system does where memory runs out. The shards that it was at are made again by
            # another worker; those that it had made are there, each of them whole.
            self.killed = next(one.pid for one in self.cluster.workers.values() if one.pid)
            psutil.Process(self.killed).kill()
            print(f"killed worker {self.killed} after {now.done} of {now.total} shards")


def main(
    source: str = "volume.zarr", out: str = "sharded.zarr", most: int = 3, planes: int = 64
) -> Watch:
    if "://" not in source and not Path(source).exists():
        make_volume(source, planes)

    # Few large files of many small ones, packed more tightly: that is the work here. On a cluster,
    # source and target must have the same names for every worker: a shared disk, or URLs.
    options = {
        "inner_chunk": {"z": 8, "y": 64, "x": 64},
        "shard": {"z": 8, "y": 256, "x": 256},
        "codecs": "zstd:9",
    }
    print(hfzarr.plan_reshard(source, out, **options))

    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        shown = "" if find_spec("bokeh") else " (nothing to see there without bokeh)"
        print(f"dashboard: {client.dashboard_link}{shown}")
        # Workers come as long as there is more than a second of work for those that are there,
        # and leave when there is none. On Slurm, each is a job of its own.
        cluster.adapt(minimum=1, maximum=most, interval="200ms", target_duration="1s")
        watch = Watch(cluster)
        done = hfzarr.reshard(source, out, client=client, verify="full", progress=watch, **options)
    print(done)

    # `verify="full"` has compared every pixel already. This is by xarray alone.
    before = xr.open_dataset(source, engine="hfzarr", consolidated=False)
    after = xr.open_dataset(out, engine="hfzarr")
    xr.testing.assert_equal(before, after)
    print("every pixel is the same")
    return watch


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("source", nargs="?", default="volume.zarr")
    options.add_argument("--out", default="sharded.zarr")
    options.add_argument("--most", type=int, default=3, help="how many workers there may be")
    options.add_argument("--planes", type=int, default=64, help="of the volume that is made up")
    main(**vars(options.parse_args()))
