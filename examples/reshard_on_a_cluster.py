"""Make few files of many on a cluster, of which a worker is killed on the way.

The cluster is two processes of this machine. For others see docs/reshard.md; the call is the
same::

    python examples/reshard_on_a_cluster.py hfzarr-demo/raw.ome.zarr sharded.ome.zarr
"""

import os
import sys

import psutil  # comes with distributed
import xarray as xr
from distributed import Client, LocalCluster

import hfzarr


class KillOne:
    """Shows how far the run is, and kills a worker after the first shards."""

    def __init__(self, client: Client) -> None:
        self.pids = list(client.run(os.getpid).values())
        self.killed = 0

    def __call__(self, now: hfzarr.Progress) -> None:
        if now.stage == "verify":
            return
        print(now)
        if not self.killed:
            self.killed = self.pids[0]
            psutil.Process(self.killed).kill()
            print(f"killed worker {self.killed} of {self.pids}")


def main(source: str = "hfzarr-demo/raw.ome.zarr", target: str = "sharded.ome.zarr") -> int:
    options = {"inner_chunk": {"z": 8, "y": 64, "x": 64}, "shard": {"z": 8, "y": 128, "x": 128}}
    print(hfzarr.plan_reshard(source, target, **options))
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        kill = KillOne(client)
        done = hfzarr.reshard(
            source, target, client=client, verify="full", progress=kill, **options
        )
    print(done)

    before = xr.open_dataset(source, engine="hfzarr")
    after = xr.open_dataset(target, engine="hfzarr")
    xr.testing.assert_equal(before, after)
    print("every pixel is the same")
    return kill.killed


if __name__ == "__main__":
    main(*sys.argv[1:])
