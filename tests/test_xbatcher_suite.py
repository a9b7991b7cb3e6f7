"""xbatcher's own tests of its generator, run against patches.

They are run in a process of their own, where `xbatcher_adapter` takes the generator's place.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xbatcher_adapter import BatchGenerator

xbatcher = pytest.importorskip("xbatcher", reason="xbatcher is not installed")

SUITES = ["xbatcher.tests.test_generators", "xbatcher.tests.test_accessors"]
if importlib.util.find_spec("torch") is not None:
    SUITES.append("xbatcher.tests.test_torch_loaders")

#: What xbatcher does and patches do not, by the tests that show it; none of them may pass.
DIFFERENCES = {
    "test_batcher_cached_getitem[True]": "no cache of batches: patches are not written to a store",
    "test_batcher_cached_getitem[False]": "no cache of batches: patches are not written to a store",
}
#: What is a known bug of xbatcher, too, and expected to fail by its own suite.
THEIR_BUGS = {"test_batch_3d_1d_input_batch_dims[False]": "xbatcher issue 126"}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, str]:
    """The outcome of each of xbatcher's tests that makes a generator."""
    folder = tmp_path_factory.mktemp("xbatcher")
    (folder / "pytest.ini").write_text("[pytest]\n")
    environment = {
        **os.environ,
        "XBATCHER_OUTCOMES": str(folder / "outcomes.json"),
        "PYTHONPATH": str(Path(__file__).parent),
    }
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "xbatcher_adapter"]
    run = subprocess.run(
        [sys.executable, *command, "--pyargs", *SUITES],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    # 1: some failed, as the table says.
    assert run.returncode in (0, 1), run.stdout[-3000:] + run.stderr[-3000:]
    print(run.stdout[-5000:])
    found: dict[str, str] = json.loads((folder / "outcomes.json").read_text())
    return found


def test_their_suite_passes_but_for_the_listed_differences(outcomes):
    listed = {**DIFFERENCES, **THEIR_BUGS}
    not_passed = {name: how for name, how in outcomes.items() if how != "passed"}
    assert {name: how for name, how in not_passed.items() if name not in listed} == {}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_listed_difference_is_one(outcomes, name):
    assert outcomes[name] == "failed"


@pytest.mark.parametrize("name", THEIR_BUGS)
def test_a_bug_of_theirs_is_one_here_too(outcomes, name):
    assert outcomes[name] == "xfailed"


def test_their_suite_was_run_against_patches(outcomes):
    """All their kinds of batches were made by the adapter."""
    kinds = {name.partition("[")[0] for name in outcomes}
    assert kinds >= {
        "test_batch_1d",
        "test_batch_1d_overlap",
        "test_batch_1d_concat_duplicate_dim",
        "test_batch_3d_1d_input",
        "test_batch_3d_2d_input_concat",
        "test_batch_accessor_da",
        "test_preload_batch_false",
    }
    assert sum(how == "passed" for how in outcomes.values()) >= 25


@pytest.mark.parametrize(
    "options",
    [
        {"input_dims": {"x": 4}},
        {"input_dims": {"x": 4, "y": 3}, "input_overlap": {"x": 2, "y": 1}},
        {"input_dims": {"y": 3}, "batch_dims": {"time": 2}},
        {"input_dims": {"y": 3, "x": 5}, "batch_dims": {"time": 2}, "concat_input_dims": True},
        {"input_dims": {"y": 2, "x": 3}, "batch_dims": {"x": 6}, "concat_input_dims": True},
        {"input_dims": {"x": 3, "y": 2, "time": 1}, "concat_input_dims": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("chunks", [None, {"time": 1, "y": 4, "x": 5}])
def test_batches_are_identical_to_theirs(options, chunks):
    """The same batches in the same order, coordinates and all."""
    data = np.random.default_rng(0).random((3, 9, 13))
    dataset = xr.Dataset(
        {"foo": (("time", "y", "x"), data), "bar": (("y", "x"), data[0] * 2)},
        coords={"x": np.arange(13) / 4, "time": np.array(["a", "b", "c"])},
        attrs={"title": "a test"},
    )
    dataset = dataset if chunks is None else dataset.chunk(chunks)
    ours, theirs = (
        generator(dataset, **options) for generator in (BatchGenerator, xbatcher.BatchGenerator)
    )
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        xr.testing.assert_identical(one, other)
