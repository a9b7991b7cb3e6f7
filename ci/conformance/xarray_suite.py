"""Run xarray's own Zarr tests with its engine and with ours, and compare.

Every test that fails with ``hfzarr`` in place of ``zarr`` and does not fail with xarray's own
engine is listed with its reason, and the exit status is 1. Tests that fail with both are xarray's
business. The two runs go side by side, each in a process of its own. In place of ``zarr`` means
under that name, with the guess and the default of ``decode_coords`` that the name stands for
(see engine_swap.py; ``--bare`` does without); nothing else is changed, no test is left out.

The tests need pytest, zarr and dask; those that need more (fsspec, cftime, scipy, h5netcdf) skip
themselves, with both engines alike. A test that hfzarr alone skips counts as a difference too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENGINE = "hfzarr.faces.backend:HfzarrBackend"
MODULES = ("xarray.tests.test_backends", "xarray.tests.test_backends_datatree")
FAILURES = ("failed", "error")
# xarray's own settings are not installed with it; only these markers are needed to collect.
INI = """[pytest]
addopts =
asyncio_mode = strict
markers =
    asyncio: a coroutine, which engine_swap runs
    flaky: may fail
    network: needs a network
    slow: takes long
filterwarnings = ignore
"""

Outcomes = dict[str, tuple[str, str]]


def main(argv: list[str] | None = None) -> int:
    """Run both, print what differs, return the exit status."""
    options = _options(argv)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="xarray-suite-") as folder:
        runs = {
            "stock": _Run(Path(folder) / "stock", None, options.select),
            "hfzarr": _Run(Path(folder) / "hfzarr", options.engine, options.select, options.bare),
        }
        results = {name: run.outcomes() for name, run in runs.items()}
    if any(result is None for result in results.values()):
        return 2
    if not options.bare:
        print("ours: with the name zarr it takes its guess of .zarr and decode_coords=True")
    stock, ours = results["stock"] or {}, results["hfzarr"] or {}
    worse = differences(stock, ours)
    _print(stock, ours, worse)
    print(f"took {time.perf_counter() - started:.0f} s")
    return 1 if worse else 0


def _options(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--engine", default=ENGINE, metavar="MODULE:CLASS")
    parser.add_argument("--bare", action="store_true", help="without the habits of the name zarr")
    parser.add_argument("-k", dest="select", default="zarr", help="pytest's -k (zarr)")
    return parser.parse_args(argv)


class _Run:
    """One run of xarray's tests, in a process of its own and an empty folder."""

    def __init__(self, folder: Path, engine: str | None, select: str, bare: bool = False) -> None:
        folder.mkdir()
        self.folder = folder
        self.engine = ["--zarr-engine", engine] if engine is not None else []
        self.engine += ["--bare"] if bare else []
        (folder / "pytest.ini").write_text(INI)
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                self._command(select),
                cwd=folder,
                env=_environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _command(self, select: str) -> list[str]:
        """Return pytest's command line.

        The ini file, the root and the end of the search for conftest files are all given, or
        pytest would take those of the project around the virtual environment.
        """
        package = _package_folder("xarray")
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "--no-header"]
        command += ["-c", str(self.folder / "pytest.ini"), "--rootdir", str(package.parent)]
        command += ["--confcutdir", str(package), "--basetemp", str(self.folder / "tmp")]
        command += ["-p", "no:cacheprovider", "-p", "no:asyncio", "-p", "no:xdist"]
        command += ["-p", "engine_swap", "--outcomes", str(self.folder / "outcomes.json")]
        return [*command, *self.engine, "--pyargs", *MODULES, "-k", select]

    def outcomes(self) -> Outcomes | None:
        """Wait for the end and return each test's outcome; None where pytest itself broke."""
        status = self.process.wait()
        found = self.folder / "outcomes.json"
        # 0 and 1 say how the tests fared; anything else is pytest's own trouble.
        if status in (0, 1) and found.exists():
            outcomes: Outcomes = json.loads(found.read_text())
            return outcomes
        print(f"pytest ended with status {status}; its last lines were:")
        print("\n".join((self.folder / "log").read_text().splitlines()[-30:]))
        return None


def _environment() -> dict[str, str]:
    """Return an environment in which pytest finds the plugin beside this file."""
    paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTEST_ADDOPTS": ""}


def _package_folder(name: str) -> Path:
    """Return where a package is installed."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{name} is not installed")
    return Path(spec.origin).parent


def differences(stock: Outcomes, ours: Outcomes) -> Outcomes:
    """Return the tests that fail, skip or are missing with ours alone.

    Parameters
    ----------
    stock, ours
        Each test's outcome and reason, with xarray's engine and with ours.

    Returns
    -------
    dict
        Test id to our outcome and reason.
    """
    worse = {}
    for test, (before, _) in stock.items():
        after, reason = ours.get(test, ("missing", "not collected"))
        fails = before not in FAILURES and after in (*FAILURES, "missing")
        unrun = before in ("passed", "xpassed") and after in ("skipped", "xfailed")
        if fails or unrun:
            worse[test] = (after, reason)
    for test in ours.keys() - stock.keys():
        if ours[test][0] in FAILURES:
            worse[test] = ours[test]
    return worse


def _print(stock: Outcomes, ours: Outcomes, worse: Outcomes) -> None:
    """Print the totals, then each difference with its reason."""
    for name, result in (("stock", stock), ("ours", ours)):
        print(f"{name}: {_totals(result)}")
    mended = [test for test in stock if _fails(stock, test) and not _fails(ours, test)]
    if mended:
        print(f"fail with stock alone: {len(mended)}")
    print(f"new failures: {len(worse) or 'none'}")
    for test, (outcome, reason) in sorted(worse.items()):
        print(f"  {outcome.upper()} {test}\n      {reason}")


def _totals(result: Outcomes) -> str:
    """Return a run's totals: failures among the tests that ran, and the other outcomes."""
    counts = Counter(outcome for outcome, _ in result.values())
    failed = sum(counts.pop(outcome, 0) for outcome in FAILURES)
    ran = failed + counts.pop("passed", 0)
    rest = ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items()))
    return f"failed {failed} of {ran:,}" + (f" ({rest})" if rest else "")


def _fails(result: Outcomes, test: str) -> bool:
    """Say whether a test fails."""
    return result.get(test, ("missing", ""))[0] in FAILURES


if __name__ == "__main__":
    sys.exit(main())
