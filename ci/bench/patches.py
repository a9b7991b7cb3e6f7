"""Patches side by side in one run: hfzarr, xbatcher, zarr-python, xarray with dask, tensorstore.

``python ci/bench/patches.py`` writes two volumes to a temporary folder and takes strided, random
and shuffled patches from them in every way, each in a process of its own, the order changing from
round to round. It prints medians, ratios to hfzarr, and whether the goals are met.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from patches_goals import judge
from patches_one import LIMITS, REFERENCE, WAYS, one
from patches_tables import summary, table
from patches_work import Work, subset
from volumes import FULL, SMALL, Volume, prepare, warm_cache

WORKS = (
    Work(kind="strided", size=96, stride=48),
    Work(kind="random", size=64, count=2000),
    Work(kind="epoch", size=64, stride=64, batch=16),
)
PACKAGES = ("hfzarr", "xarray", "dask", "zarr", "numcodecs", "tensorstore", "xbatcher", "numpy")
Results = dict[str, Any]


class WrongPatchesError(Exception):
    """A way delivered other pixels than plain slices of the array."""


def ask(volume: Volume, warm: Volume, work: Work, way: str, *, part: float = 1.0) -> Results:
    """Have one way run in a fresh process."""
    request = {
        "path": str(volume.path),
        "warm": str(warm.path),
        "work": asdict(work),
        "way": way,
        "part": part,
    }
    command = [sys.executable, str(Path(__file__).resolve()), "--one", json.dumps(request)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"failed": reason, "traceback": done.stderr}
    answer: Results = json.loads(done.stdout.splitlines()[-1])
    return answer


def check(
    volume: Volume, work: Work, way: str, part: float, found: Results, sums: list[int]
) -> None:
    """Compare the checksum of what was delivered with that of the reference."""
    wanted = sum(sums[number] for number in subset(volume.shape, work, part).tolist())
    if found["checksum"] != wanted:
        raise WrongPatchesError(f"{way} delivers wrong pixels of {volume.name}, {work}")


def compare(
    volume: Volume, warm: Volume, work: Work, ways: Sequence[str], options: argparse.Namespace
) -> dict[str, Results]:
    """Run every way, and the limits, in a number of rounds."""
    warm_cache(volume.path)
    sums = ask(volume, warm, work, REFERENCE)["checksums"]
    parts = {way: min(1.0, WAYS[way].part * (4 if options.small else 1)) for way in ways}
    rounds: dict[str, list[Results]] = {LIMITS: [], **{way: [] for way in ways}}
    for turn in range(options.repeats):
        for way in list(rounds)[:: -1 if turn % 2 else 1]:
            part = parts.get(way, 1.0)
            found = ask(volume, warm, work, way, part=part)
            if "checksum" in found:
                check(volume, work, way, part, found, sums)
            if "failed" in found:
                print(found["traceback"], file=sys.stderr)
            rounds[way].append(found)
    return {way: summary(found, best=options.best) for way, found in rounds.items()}


def versions() -> str:
    """Return what is compared."""
    found = []
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{package} {importlib.metadata.version(package)}")
    return f"Python {platform.python_version()}, {', '.join(found)}; {os.cpu_count()} cores"


@contextlib.contextmanager
def folder_of(named: Path | None) -> Iterator[Path]:
    """Yield the folder for the volumes; one that was not named is removed."""
    if named is not None:
        yield named
        return
    with tempfile.TemporaryDirectory(prefix="hfzarr-bench-") as made:
        yield Path(made)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="keep the volumes here, or use those in it")
    parser.add_argument("--small", action="store_true", help="volumes of about a tenth")
    parser.add_argument("--volumes", nargs="+", choices=list(FULL), default=list(FULL))
    kinds = [work.kind for work in WORKS]
    parser.add_argument("--works", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--ways", nargs="+", default=[""], help="ways whose names begin so")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--best", action="store_true", help="the fastest round instead of the median"
    )
    parser.add_argument("--json", type=Path, help="write all medians and goals here")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a goal is missed")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def chosen(work: Work, prefixes: Sequence[str]) -> list[str]:
    """Return the ways that can run here, and say why others cannot."""
    able = [w for w in WAYS if work.kind in WAYS[w].kinds and w.startswith(tuple(prefixes))]
    for way in able:
        if WAYS[way].missing:
            print(f"\nwithout {way}: {WAYS[way].missing}")
    return [way for way in able if not WAYS[way].missing]


def works(options: argparse.Namespace) -> list[Work]:
    """Return what is asked of every way."""
    wanted = [work for work in WORKS if work.kind in options.works]
    return [replace(w, count=w.count // 8) if options.small else w for w in wanted]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparisons."""
    warnings.simplefilter("ignore")
    options = parse(argv)
    if options.one:
        print(json.dumps(one(json.loads(options.one))))
        return 0
    kind = "fastest" if options.best else "medians"
    print(f"{versions()}, load {os.getloadavg()[0]:.1f}, {kind} of {options.repeats}")
    results, goals = [], []
    with folder_of(options.folder) as folder:
        warm = prepare(folder, "uint16", (128, 128, 128))
        for name in options.volumes:
            volume = prepare(folder, name, (SMALL if options.small else FULL)[name])
            print(f"\n{volume}", flush=True)
            for work in works(options):
                ways = chosen(work, options.ways)
                found = compare(volume, warm, work, ways, options)
                print(f"\n{table(volume, work, found)}", flush=True)
                results.append({"volume": str(volume), "work": asdict(work), "ways": found})
                goals += judge(volume.name, work.kind, found)
    print("\nGoals")
    for goal in goals:
        print(f"  {goal}")
    if options.json:
        record = {"versions": versions(), "results": results}
        record["goals"] = [{**asdict(g), "met": None if g.value is None else g.met} for g in goals]
        options.json.write_text(json.dumps(record, indent=1), "utf-8")
    return int(options.strict and not all(goal.met for goal in goals))


if __name__ == "__main__":
    sys.exit(main())
