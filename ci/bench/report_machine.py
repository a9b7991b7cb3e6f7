"""What the numbers were measured on, and with which versions."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from pathlib import Path

PACKAGES = (
    "hfzarr", "xarray", "zarr", "numcodecs", "numpy", "dask", "distributed", "tensorstore",
    "xbatcher", "fsspec", "s3fs", "obstore", "huggingface_hub",
)  # fmt: skip


def machine() -> str:
    """Return processor, memory and system."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        processor = next(n for n in lines if n.startswith("model name")).partition(": ")[2]
    memory = ""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        memory = f", {found / 2**30:.0f} GiB of memory"
    cores = os.cpu_count()
    return f"{cores} cores of {processor}{memory}, {platform.system()} {platform.release()}"


def versions() -> dict[str, str]:
    """Return the version of Python and of every package that is compared and installed."""
    found = {"Python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def load() -> float:
    """Return how many processes wanted a processor during the last minute."""
    return round(os.getloadavg()[0], 1)
