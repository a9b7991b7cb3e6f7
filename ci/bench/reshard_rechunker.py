"""rechunker, in an environment of its own: it has not been ported to zarr 3.

``python ci/bench/reshard.py --rechunker-python PATH`` runs this file with that Python, which needs
rechunker, dask and a zarr below 3, and nothing of hfzarr.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import sys
import warnings
from typing import Any

import dask
import rechunker
import zarr
from reshard_meter import measure

VARIABLE = "a"


def copy(request: dict[str, Any], source: str, target: str, shard: list[int]) -> None:
    """Rechunk to chunk files of a shard's size: it cannot write shards."""
    array = zarr.open_group(source, mode="r")[VARIABLE]
    between = target + ".between"
    # It takes the memory for each of dask's threads.
    plan = rechunker.rechunk(
        array,
        target_chunks=tuple(shard),
        max_mem=request["max_memory"],
        target_store=f"{target}/{VARIABLE}",
        target_options={"compressor": array.compressor},
        temp_store=between,
        temp_options={"compressor": array.compressor},
    )
    with dask.config.set(scheduler="threads"):
        plan.execute()
    shutil.rmtree(between, ignore_errors=True)


def main() -> None:
    """Answer one request."""
    warnings.simplefilter("ignore")
    request = json.loads(sys.argv[1])
    warm, task = request["warm"], request["task"]
    copy(request, warm["source"], warm["target"], warm["shard"])
    found: dict[str, Any] = measure(
        lambda: copy(request, task["source"], task["target"], task["shard"])
    )
    packages = ("rechunker", "zarr", "dask", "numcodecs")
    found["versions"] = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
