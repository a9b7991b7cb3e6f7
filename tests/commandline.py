"""The ``hfzarr`` command in tests: run it, and take apart what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from hfzarr.faces.cli import TROUBLE, main
from rawstores import write_image

PYTHON = [sys.executable, "-m", "hfzarr"]


@pytest.fixture(name="image")
def an_image(tmp_path: Path) -> Path:
    return write_image(tmp_path / "cells.ome.zarr", 3)


@pytest.fixture(name="volume")
def a_volume(tmp_path: Path) -> Path:
    """Return an array of 4 × 64 × 64 pixels in chunks of 1 × 32 × 32."""
    data = np.random.default_rng(0).integers(1, 200, (4, 64, 64), "uint8")
    path = tmp_path / "volume.zarr"
    zarr.create_array(path, data=data, chunks=(1, 32, 32), dimension_names=["z", "y", "x"])
    return path


def ask(*arguments: object, code: int = 0) -> None:
    assert main([str(one) for one in arguments]) == code


def told(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    """Run a command and return what it prints; nothing is to go to standard error."""
    capsys.readouterr()
    ask(*arguments, code=code)
    said, errors = capsys.readouterr()
    assert errors == ""
    return said


def facts(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> Any:
    return json.loads(told(capsys, *arguments, "--json", code=code))


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that fails; return the one line that it says."""
    capsys.readouterr()
    ask(*arguments, code=TROUBLE)
    said, errors = capsys.readouterr()
    assert said == ""
    assert errors.startswith("hfzarr: ")
    assert len(errors.splitlines()) == 1
    return errors


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PYTHON, *map(str, arguments)], capture_output=True, text=True, timeout=60, **options
    )
