"""What importing and opening bring into a process, and what they leave alone."""

from __future__ import annotations

import subprocess
import sys

from zarr.storage import LocalStore

from stores import write_cf, write_image, write_plate

HEAVY = ["zarr", "dask", "distributed", "datasets", "huggingface_hub", "PIL", "numcodecs",
         "aiohttp", "s3fs", "rioxarray", "pyproj", "scipy"]  # fmt: skip


def run(code: str, *args: str) -> str:
    """Run Python code in a fresh process and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_is_light():
    """Only what comes after `import xarray` counts: xarray brings some of them itself."""
    code = f"""
import sys, xarray
before = set(sys.modules)
from hfzarr.faces.backend import HfzarrBackend
import hfzarr
assert HfzarrBackend().guess_can_open("a.ozx")
new = {{name.split(".")[0] for name in set(sys.modules) - before}}
print(sorted(new & set({[*HEAVY, "fsspec"]!r})))
"""
    assert run(code) == "[]"


def test_import_changes_no_configuration():
    code = """
import json, os, warnings, logging
import xarray, zarr, numpy
def state():
    return repr((zarr.config.config, dict(os.environ), warnings.filters, numpy.geterr(),
                 dict(xarray.get_options()), logging.getLoggerClass(), logging.root.handlers))
before = state()
import hfzarr
assert state() == before
print("same")
"""
    assert run(code) == "same"


def test_a_folder_needs_no_zarr(tmp_path):
    """Images and plates in a folder are opened and read without zarr-python and fsspec.

    CF groups need xarray's own Zarr engine, but no file system of fsspec either.
    """
    for zarr_format in (2, 3):
        write_image(LocalStore(tmp_path / f"a{zarr_format}"), zarr_format=zarr_format)
        write_plate(LocalStore(tmp_path / f"p{zarr_format}"), zarr_format=zarr_format)
    write_cf(LocalStore(tmp_path / "cf"))
    code = """
import sys, xarray as xr
xr.backends.list_engines()  # imports every engine that is installed
before = set(sys.modules)
*images, cf = sys.argv[1:]
for folder in images:
    tree = xr.open_datatree(folder, engine="hfzarr")
    xr.open_dataset(folder, engine="hfzarr").image[0].load()
new = set(sys.modules) - before
heavy = {"zarr", "dask", "aiohttp", "s3fs", "huggingface_hub", "datasets", "PIL"}
xr.open_dataset(cf, engine="hfzarr").load()
systems = {name for name in sys.modules if name.startswith("fsspec.implementations.")}
print(sorted((new & heavy) | systems))
"""
    folders = [str(tmp_path / name) for name in ("a2", "a3", "p2", "p3", "cf")]
    assert run(code, *folders) == "[]"
