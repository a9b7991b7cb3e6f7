"""Patches of a private repo in other processes: a login of their own serves, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("huggingface_hub", minversion="1.0")
pytest.importorskip("datasets")
pytest.importorskip("aiohttp")

from hub import Hub, run_python
from hubstores import URL, pixels, write_image
from hubstores import hub as hub
from hubstores import servers as servers

SECRET = "hf_AAAAsecretAAAA"
SUMS = 64
# In the depth of the code that it is put into.
CUT = """
        import json, os, warnings
        import numpy as np
        import xarray as xr

        def opened(**options):
            ds = xr.open_dataset(URL, engine="hfzarr", storage_options=options or None)
            return ds.hfzarr.patches({"y": 64, "x": 64})["image"]
"""


@pytest.fixture
def private(hub: Hub, tmp_path: Path) -> list[int]:
    """A private image at ``URL``; the sums of its patches."""
    hub.add_token(SECRET, "ada", write=False)
    data = pixels()
    write_image(tmp_path / "stores" / "a.zarr", data)
    hub.add_repo("ada/cells", tmp_path / "stores", private=True)
    cut = data.reshape(8, 64, 8, 64).swapaxes(1, 2).reshape(SUMS, -1)
    return [int(one) for one in cut.sum(1, dtype=np.int64)]


def test_workers_of_a_cluster_log_in_by_themselves(
    hub: Hub, private: list[int], tmp_path: Path
) -> None:
    pytest.importorskip("distributed")
    said = run_python(
        hub,
        f"""
        URL, SECRET = {URL!r}, {SECRET!r}
{CUT}        import pickle
        import distributed

        def told(lazy):
            try:
                return lazy.sum(("y", "x"), dtype="int64").values.tolist()
            except Exception as error:
                return repr(error)

        def know(name):
            os.environ[name] = SECRET

        def main():
            found = {{}}
            with (
                distributed.LocalCluster(
                    processes=True, n_workers=2, threads_per_worker=2, memory_limit=0,
                    dashboard_address="127.0.0.1:0",
                ) as cluster,
                distributed.Client(cluster) as client,
            ):
                lazy = opened(token=SECRET)
                found["leaked"] = SECRET.encode() in pickle.dumps(lazy)
                found["lost"] = told(lazy)
                know("LAB_TOKEN")
                found["unnamed"] = told(opened(token="env:LAB_TOKEN"))
                client.run(know, "LAB_TOKEN")
                found["named"] = told(opened(token="env:LAB_TOKEN"))
                client.run(know, "HF_TOKEN")
                found["own"] = told(opened(token=SECRET))
                found["logs"] = SECRET in str(client.get_worker_logs())
                found["workers"] = len(client.scheduler_info()["workers"])
            print(json.dumps(found))

        if __name__ == "__main__":
            main()
        """,
        tmp_path,
    )
    found = json.loads(said.splitlines()[-1])
    assert found["own"] == found["named"] == private
    assert "the token that was given is not known in this process" in found["lost"]
    assert "HF_TOKEN" in found["lost"]
    assert "'LAB_TOKEN', which is not set here" in found["unnamed"]
    assert SECRET not in found["lost"]
    assert (found["leaked"], found["logs"], found["workers"]) == (False, False, 2)
    assert {request.origin for request in hub.log.holding(SECRET)} == {"hub"}


def test_forked_loaders_of_torch_read(hub: Hub, private: list[int], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    said = run_python(
        hub,
        f"""
        URL, SECRET = {URL!r}, {SECRET!r}
{CUT}
        import torch
        from torch.utils.data import DataLoader

        def read(token):
            ds = xr.open_dataset(URL, engine="hfzarr", storage_options={{"token": token}})
            # Read here first, so that the processes have a loop and connections to inherit.
            assert ds["image"][:9, :9].values.shape == (9, 9)
            batches = ds.hfzarr.batches(8, {{"y": 64, "x": 64}}, seed=3, to="torch")
            loader = DataLoader(batches, batch_size=None, num_workers=2,
                                multiprocessing_context="fork")
            sums = [int(one) for batch in loader for one in batch["image"].sum((-2, -1))]
            print(json.dumps(sorted(sums)))

        read(SECRET)
        os.environ["HF_TOKEN"] = SECRET
        read(None)
        """,
        tmp_path,
    )
    assert [json.loads(line) for line in said.splitlines()[-2:]] == [sorted(private)] * 2
    assert {request.origin for request in hub.log.holding(SECRET)} == {"hub"}
