"""The benchmarks that one command runs, and what the files that they write say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from report_rows import OURS, Comparison, Row

SIZES = ("small", "full")
# Names of files say nothing to others.
PLACE = re.compile(r"(?:/[\w.+-]+){2,}/?")
Told = dict[str, Any]

WORKS = {
    "strided": "overlapping patches of 96³, all of {}",
    "random": "patches of 64³ at drawn places of {}",
    "epoch": "an epoch of shuffled batches of {}",
}
VOLUMES = {"fibsem": "a real uint8 volume", "uint16": "a made-up uint16 volume"}
JOBS = {
    "repack-a": "v2 files of 256² into shards, chunks as they are",
    "repack-b": "v3 files of 64³ into shards, chunks as they are",
    "transcode-a": "v2 files of 256² into shards of zstd chunks of 64 × 128²",
    "transcode-b": "v3 files of 64³ into shards of chunks of 64 × 128²",
    "slabs": "v2 files of 256² into shards of chunks of 64³",
    "misaligned": "v2 files that straddle shards into shards of chunks of 64³",
}
HUB = {
    "open + 1 inner chunk": "open a store and read an inner chunk",
    "+ 4 inner chunks": "read 4 inner chunks more, of one shard",
    "64 chunks": "read 64 chunks, each a file",
    "absent chunks": "read 90 chunks that are not stored",
}
TABLES = {
    "few carried": "images as one Dataset, from a table that carries their metadata",
    "few bare": "images as one Dataset, from a table of paths",
}


def measured(way: str, told: Told) -> Row:
    """Return the row of a way that was told by name."""
    if "failed" in told:
        return Row(way=way, failed=PLACE.sub("…", told["failed"]))
    return Row(way=way, seconds=told["seconds"], peak=told.get("peak"))


def compared(name: str, what: str, rows: dict[str, Row]) -> Comparison:
    """Return a comparison with the first of hfzarr's ways; its others are left among the rest."""
    ours = next((row for row in rows.values() if row.way.startswith(OURS)), None)
    others = tuple(row for row in rows.values() if row is not ours)
    missing = Row(way=OURS, failed="nothing was measured")
    return Comparison(name=name, what=what, ours=ours or missing, others=others)


def of_alone(suite: str, found: Told) -> Iterator[Comparison]:
    """Read what ``alone.py`` wrote."""
    for table in found["results"]:
        rows = {way: measured(way, told) for way, told in table["ways"].items()}
        yield compared(f"{suite}/{table['job']}", table["what"], rows)


def of_patches(suite: str, found: Told) -> Iterator[Comparison]:
    """Read what ``patches.py`` wrote."""
    for table in found["results"]:
        volume, kind = table["volume"].partition(":")[0], table["work"]["kind"]
        rows = {way: measured(way, told) for way, told in table["ways"].items() if way != "limits"}
        limits = table["ways"].get("limits", {"failed": ""})
        if "failed" not in limits:
            once, copied = limits["decode"], limits["decode"] + limits["copy"]
            rows["limit: decode once"] = Row(way="limit: decode once", seconds=once)
            rows["limit: + copy"] = Row(way="limit: decode once + copy", seconds=copied)
        what = WORKS[kind].format(VOLUMES.get(volume, volume))
        yield compared(f"{suite}/{volume}/{kind}", what, rows)


def of_reshard(suite: str, found: Told) -> Iterator[Comparison]:
    """Read what ``reshard.py`` wrote."""
    for table in found["results"]:
        rows = {way: measured(way, told) for way, told in table["ways"].items()}
        yield compared(f"{suite}/{table['job']}", JOBS[table["job"]], rows)


def of_tables(suite: str, found: Told) -> Iterator[Comparison]:
    """Read what ``manifests.py`` wrote."""
    rows = {
        way: Row(way=way, seconds=median(taken), peak=median(found["peaks"][way]))
        for way, taken in found["seconds"].items()
    }
    others = {way: row for way, row in rows.items() if row.way in ("open_mfdataset", "concat")}
    count = max(2, found["stores"] // 50)
    for job in TABLES:
        if job in rows:
            ours = {"hfzarr": Row(way="hfzarr", seconds=rows[job].seconds, peak=rows[job].peak)}
            yield compared(f"{suite}/{job}", f"{count} {TABLES[job]}", {**ours, **others})


def _asked(way: str, told: list[float]) -> Row:
    seconds, requests, *_, size, peak = told
    return Row(way=way, seconds=seconds, requests=requests, bytes=size, peak=peak)


def of_hub(suite: str, found: Told) -> Iterator[Comparison]:
    """Read what ``hub.py`` wrote."""
    for job, what in HUB.items():
        rows = {way: _asked(way, told[job]) for way, told in found.items()}
        yield compared(f"{suite}/{job}", f"Hub: {what}", rows)


def of_objects(suite: str, found: Told) -> Iterator[Comparison]:
    """Read what ``objects.py`` wrote."""
    for place, ways in found.items():
        for job, what in HUB.items():
            rows = {way: _asked(way, told[job]) for way, told in ways.items()}
            where = {"s3": "S3", "http": "a web server"}[place]
            yield compared(f"{suite}/{place}/{job}", f"{where}: {what}", rows)


def of_hub_patches(suite: str, found: Told) -> Iterator[Comparison]:
    """Read what ``hub_patches.py`` wrote."""
    for way, (seconds, requests, size) in found["ways"].items():
        ours = Row(way="hfzarr", seconds=seconds, requests=requests, bytes=size)
        limit = Row(way="limit: the line", seconds=found["the line allows"][way])
        rows = {"hfzarr": ours, "limit": limit}
        yield compared(f"{suite}/{way}", f"Hub, a line of 50 MB/s: {way}", rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One script, which measures and writes what it found."""

    script: str
    told: Callable[[str, Told], Iterator[Comparison]]
    """Reads what it wrote."""
    own: tuple[str, ...] = ("hfzarr",)
    """hfzarr's ways, as the script has them."""
    jobs: str = ""
    """The option that takes jobs; without one, all of them are done."""
    every: tuple[str, ...] = ()
    """The jobs that belong to this suite; all of the script's, if none are named."""
    ways: str = "--ways"
    """The option that takes ways."""
    ending: str = ""
    """What makes a name stand for itself alone."""
    small: tuple[str, ...] = ()
    """What a small run is told besides."""
    folder: bool = False
    """Whether it can keep its stores."""

    def command(
        self,
        python: str,
        *,
        size: str,
        rounds: int,
        into: Path,
        jobs: tuple[str, ...] = (),
        beside: tuple[str, ...] = (),
        folder: Path | None = None,
        more: tuple[str, ...] = (),
    ) -> list[str]:
        """Return the command of a run; no jobs means all of them, no peers all of those."""
        command = [python, "-W", "ignore", str(Path(__file__).parent / self.script), *more]
        command += self.small if size == "small" else ()
        chosen = jobs or self.every
        command += [self.jobs, *chosen] if self.jobs and chosen else []
        command += [self.ways, *self.own, *beside] if beside and self.ways else []
        command += ["--folder", str(folder / self.script)] if folder and self.folder else []
        return [*command, "--repeats", str(rounds), "--json", str(into)]


QUICK = ("--planes", "64", "--seconds", "0.3")
SUITES = {
    "open": Suite(
        script="alone.py", told=of_alone, jobs="--jobs", every=("image", "cf", "tree"),
        small=QUICK, folder=True,
    ),
    "read": Suite(
        script="alone.py", told=of_alone, jobs="--jobs", small=QUICK, folder=True,
        every=("whole sharded", "whole files", "whole v2", "windows sharded", "windows files"),
    ),
    "patches": Suite(
        script="patches.py", told=of_patches, jobs="--works", folder=True,
        own=("hfzarr planner", "hfzarr batches"), small=("--small", "--volumes", "uint16"),
    ),
    "reshard": Suite(
        script="reshard.py", told=of_reshard, jobs="--jobs", folder=True,
        own=("hfzarr threads$",), small=("--small",), ending="$",
    ),
    "tables": Suite(
        script="manifests.py", told=of_tables, own=("few carried", "few bare"), ways="--only",
        small=("--small",),
    ),
    "hub": Suite(script="hub.py", told=of_hub, ways="--readers"),
    "hub-patches": Suite(script="hub_patches.py", told=of_hub_patches, ways=""),
    "objects": Suite(script="objects.py", told=of_objects, ways="--readers"),
}  # fmt: skip
