"""Resharding side by side in one run: hfzarr, xarray, tensorstore, rechunker, p2p, ``cp -r``.

``python ci/bench/reshard.py`` writes stores of 1 GiB to a temporary folder and reshards each in
every way, each in a process of its own, the order changing from round to round. It looks at what
came out, and prints medians, ratios to hfzarr, and whether the goals are met.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from patches import folder_of
from patches_tables import summary
from reshard_goals import judge
from reshard_one import COPY, RECHUNKER, WAYS, one
from reshard_stores import JOBS, SIZES, Job, WrongResultError, check, prepare
from reshard_tables import table
from volumes import warm_cache

PACKAGES = (
    *("hfzarr", "xarray", "dask", "distributed", "zarr", "numcodecs", "google-crc32c"),
    *("tensorstore", "numpy"),
)
Results = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One job, and where its stores lie."""

    name: str
    size: str
    folder: Path
    rechunker: Path | None

    @property
    def job(self) -> Job:
        """The job at the size that is measured."""
        return JOBS[self.name].at(self.size)

    @property
    def warm(self) -> Job:
        """The job that a process does first, for its imports."""
        return JOBS[self.name].at("tiny")

    @property
    def targets(self) -> Path:
        """Where the ways write."""
        return self.folder / "targets"

    def request(self, way: str) -> Results:
        """Return what a fresh process is told to do."""
        return {
            "way": way,
            "job": self.name,
            "size": self.size,
            "folder": str(self.targets),
            "warm source": str(prepare(self.folder, self.warm.source)),
            "task source": str(prepare(self.folder, self.job.source)),
        }

    def request_elsewhere(self) -> Results:
        """Return what rechunker is told to do: all of it, as it cannot import the jobs."""
        request: Results = {"max_memory": self.job.max_memory}
        for use, job in (("warm", self.warm), ("task", self.job)):
            request[use] = {
                "source": str(prepare(self.folder, job.source)),
                "target": str(self.targets / f"{use}.zarr"),
                "shard": job.shard,
            }
        return request

    def command(self, way: str) -> list[str]:
        """Return the command that has a way run."""
        here = Path(__file__).resolve()
        if way != RECHUNKER:
            return [sys.executable, str(here), "--one", json.dumps(self.request(way))]
        script = str(here.with_name("reshard_rechunker.py"))
        return [str(self.rechunker), script, json.dumps(self.request_elsewhere())]

    def run(self, way: str) -> Results:
        """Have one way run in a fresh process, look at what it wrote, and remove that."""
        command = self.command(way)
        shutil.rmtree(self.targets, ignore_errors=True)
        self.targets.mkdir()
        warm_cache(prepare(self.folder, self.job.source))
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(done.stderr, file=sys.stderr)
                return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}
            self.check(way)
        except WrongResultError as error:
            return {"failed": f"WRONG: {error}"}
        finally:
            shutil.rmtree(self.targets)
        answer: Results = json.loads(done.stdout.splitlines()[-1])
        return answer

    def check(self, way: str) -> None:
        """Compare what a way wrote with the source."""
        if layout := WAYS[way].layout:
            source = prepare(self.folder, self.job.source)
            check(self.job, source, self.targets / "task.zarr", layout=layout)


def compare(bench: Bench, ways: Sequence[str], repeats: int) -> dict[str, Results]:
    """Run every way in a number of rounds; one that fails is not tried again."""
    rounds: dict[str, list[Results]] = {way: [] for way in ways}
    for turn in range(repeats):
        for way in list(rounds)[:: -1 if turn % 2 else 1]:
            if not any("failed" in found for found in rounds[way]):
                rounds[way].append(bench.run(way))
    return {way: row(way, found) for way, found in rounds.items()}


def row(way: str, rounds: list[Results]) -> Results:
    """Return the medians of a way."""
    told = [found.pop("versions") for found in rounds if "versions" in found]
    found = summary(rounds, best=False)
    if way.startswith((COPY, "limit")):
        found.pop("peak", None)  # nothing of a command's, and what a limit was given to hold
    return {**found, **({"versions": told[0]} if told else {})}


def machine() -> str:
    """Return what it is measured on."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        processor = next(n for n in lines if n.startswith("model name")).partition(": ")[2]
    return f"{os.cpu_count()} cores of {processor}, {platform.system()} {platform.release()}"


def versions() -> str:
    """Return what is compared."""
    found = []
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{package} {importlib.metadata.version(package)}")
    return f"Python {platform.python_version()}, {', '.join(found)}"


def chosen(name: str, prefixes: Iterable[str], rechunker: Path | None) -> list[str]:
    """Return the ways that can run here, and say why others cannot."""
    kind = JOBS[name].kind
    # With an end, a name stands for itself alone.
    able = [w for w in WAYS if kind in WAYS[w].kinds and f"{w}$".startswith(tuple(prefixes))]
    reasons = {way: WAYS[way].missing for way in able}
    if rechunker is None and RECHUNKER in able:
        reasons[RECHUNKER] = "it wants a zarr below 3: name a Python with --rechunker-python"
    for way, reason in reasons.items():
        if reason:
            print(f"without {way}: {reason}")
    return [way for way in able if not reasons[way]]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="keep the stores here, or use those in it")
    sizes = parser.add_mutually_exclusive_group()
    for size, told in (("small", "stores of an eighth"), ("tiny", "only to see that it runs")):
        sizes.add_argument(f"--{size}", dest="size", action="store_const", const=size, help=told)
    parser.set_defaults(size=SIZES[0])
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument(
        "--ways", nargs="+", default=[""], help="ways whose names begin so; `xarray$`: that one"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rechunker-python", type=Path, help="a Python that has rechunker")
    parser.add_argument("--json", type=Path, help="write all medians and goals here")
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 when a goal is missed or a way fails"
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparisons."""
    warnings.simplefilter("ignore")
    options = parse(argv)
    if options.one:
        print(json.dumps(one(json.loads(options.one))))
        return 0
    print(f"{versions()}\n{machine()}, load {os.getloadavg()[0]:.1f}, medians of {options.repeats}")
    results, goals = [], []
    with folder_of(options.folder) as folder:
        for name in options.jobs:
            print(flush=True)
            ways = chosen(name, options.ways, options.rechunker_python)
            bench = Bench(
                name=name, size=options.size, folder=folder, rechunker=options.rechunker_python
            )
            found = compare(bench, ways, options.repeats)
            print(table(name, bench.job, found), flush=True)
            results.append({"job": name, "what": str(bench.job), "ways": found})
            goals += judge(name, bench.job.kind, found)
    print("\nGoals")
    for goal in goals:
        print(f"  {goal}")
    if options.json:
        record = {"versions": versions(), "machine": machine(), "results": results}
        record["goals"] = [{**asdict(g), "met": None if g.value is None else g.met} for g in goals]
        options.json.write_text(json.dumps(record, indent=1), "utf-8")
    failed = any("failed" in found for result in results for found in result["ways"].values())
    return int(options.strict and (failed or not all(goal.met for goal in goals)))


if __name__ == "__main__":
    sys.exit(main())
