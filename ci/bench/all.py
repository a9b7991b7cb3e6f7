"""All comparisons with what else does the same, by one command: numbers, a table, a picture.

``python ci/bench/all.py`` runs the benchmarks of this folder one after the other, and writes
``results.json``, ``results.md`` and pictures to ``build/bench``. ``--size small`` takes
minutes, ``--size full`` an hour or two. ``--goals`` measures only what README and the docs claim
(``claims.toml``), and fails where a claim is missed by a wide margin twice. README.md beside this
file says what is measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from report_claims import Claim, Verdict, judge, read_claims
from report_machine import load, machine, versions
from report_plot import picture
from report_rows import Comparison
from report_suites import SIZES, SUITES, Suite
from report_table import AREAS, pages, table

ROOT = Path(__file__).resolve().parents[2]
INTO = ROOT / "build" / "bench"
PAGE, IMAGES = ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "images"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
TITLE = "how many times as fast as others hfzarr is"
Found = dict[str, Comparison]


class CannotJoinError(Exception):
    """Results that were measured elsewhere, or of other versions."""


def run(name: str, options: argparse.Namespace, claims: Sequence[Claim] = ()) -> Found:
    """Run a suite, or only what some claims need of it, and return its comparisons by name."""
    suite: Suite = SUITES[name]
    jobs = tuple(dict.fromkeys(claim.job for claim in claims)) if suite.jobs else ()
    names = (claim.beside + (suite.ending if claim.only else "") for claim in claims)
    beside = tuple(dict.fromkeys(names))
    more: tuple[str, ...] = ()
    if name == "reshard" and options.rechunker_python:
        more = ("--rechunker-python", str(options.rechunker_python))
    with tempfile.TemporaryDirectory(prefix="hfzarr-bench-") as folder:
        into = Path(folder) / "found.json"
        command = suite.command(
            sys.executable, size=options.size, rounds=options.rounds, into=into, jobs=jobs,
            beside=beside, folder=options.folder, more=more,
        )  # fmt: skip
        began = time.perf_counter()
        print(f"\n=== {name}", flush=True)
        # Scripts have goals of their own, which are no claims.
        shown = subprocess.DEVNULL if options.goals else None
        status = subprocess.run(command, stdout=shown, check=False).returncode
        print(f"=== {name} took {time.perf_counter() - began:.0f} s", flush=True)
        if not into.exists():
            print(f"{name} wrote nothing and ended with {status}", file=sys.stderr)
            return {}
        found = json.loads(into.read_text("utf-8"))
    return {one.name: one for one in suite.told(name, found)}


def judged(claims: Sequence[Claim], found: Found, options: argparse.Namespace) -> list[Verdict]:
    """Judge claims; those that are missed are measured once more."""
    verdicts = [judge(claim, found.values(), size=options.size) for claim in claims]
    missed = [verdict.claim for verdict in verdicts if verdict.missed]
    if not options.goals or not missed:
        return verdicts
    for verdict in verdicts:
        if verdict.missed:
            print(f"{verdict}: once more")
    again: Found = {}
    for name in dict.fromkeys(claim.suite for claim in missed):
        again |= run(name, options, [claim for claim in missed if claim.suite == name])
    found |= again
    return [
        judge(verdict.claim, again.values(), size=options.size, repeated=True)
        if verdict.missed
        else verdict
        for verdict in verdicts
    ]


def joined(record: dict[str, Any], found: Found, earlier: Path) -> Found:
    """Return earlier comparisons of the same machine, versions and size, and those found now."""
    if not earlier.exists():
        return found
    told = json.loads(earlier.read_text("utf-8"))
    for key in ("machine", "versions", "size"):
        if told[key] != record[key]:
            raise CannotJoinError(
                f"{earlier.name} was measured with {key} {told[key]!r}, and this run with "
                f"{record[key]!r}: run without --join, or move it away"
            )
    before = [Comparison.from_json(one) for one in told["comparisons"]]
    every = {one.name: one for one in before} | found
    order = list(SUITES)
    return dict(
        sorted(every.items(), key=lambda item: order.index(item[0].partition("/")[0]))
    )  # stable: jobs keep their order


def write(record: dict[str, Any], into: Path) -> None:
    """Write the numbers, the tables, and the pictures."""
    found = [Comparison.from_json(one) for one in record["comparisons"]]
    into.mkdir(parents=True, exist_ok=True)
    (into / "results.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    told = [pages(record, found, ""), "### Every way", table(found, every=True)]
    (into / "results.md").write_text("\n\n".join(["# Results", *told]) + "\n", "utf-8")
    draw(record, found, into)


def draw(record: dict[str, Any], found: Sequence[Comparison], folder: Path) -> None:
    """Write the pictures; those of what was not measured go."""
    small = "" if record["size"] == "full" else ", small sizes"
    below = f"{record['machine']}, Python {record['versions']['Python']}{small}"
    for area in AREAS:
        path = folder / area.picture
        path.unlink(missing_ok=True)
        if mine := area.of(found):
            path.write_text(picture(mine, title=f"{area.title}: {TITLE}", below=below), "utf-8")


def publish(record: dict[str, Any], page: Path = PAGE, images: Path = IMAGES) -> None:
    """Put the results into the docs: between two marks of the page, and the pictures beside it."""
    text = page.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page.name} has no {BEGIN} … {END}")
    found = [Comparison.from_json(one) for one in record["comparisons"]]
    told = pages(record, found, f"{images.name}/")
    draw(record, found, images)
    page.write_text(f"{before}{BEGIN}\n\n{told}\n\n{END}{after}", "utf-8")


def suites(text: str) -> list[str]:
    """Return the suites of a list with commas."""
    found = text.split(",")
    unknown = [name for name in found if name not in SUITES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no suite {unknown[0]!r}: there are {', '.join(SUITES)}")
    return [name for name in SUITES if name in found]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default=SIZES[0])
    parser.add_argument("--only", type=suites, default=list(SUITES), help=f"of {','.join(SUITES)}")
    parser.add_argument(
        "--goals", action="store_true", help="only what is claimed; exit with 1 if that is missed"
    )
    parser.add_argument("--rounds", type=int, default=3, help="medians of so many")
    parser.add_argument("--into", type=Path, default=INTO, help="where results are written")
    parser.add_argument(
        "--join", action="store_true", help="keep what --into has of suites that are not run now"
    )
    parser.add_argument("--docs", action="store_true", help="put the results into the docs, too")
    parser.add_argument(
        "--measured", action="store_true", help="run nothing; take the results that --into has"
    )
    parser.add_argument("--folder", type=Path, help="keep stores here, or use those in it")
    parser.add_argument("--rechunker-python", type=Path, help="a Python that has rechunker")
    return parser.parse_args(argv)


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Verdict]]:
    """Run the suites; write what is there after each, as a long run may be cut short."""
    claims = [claim for claim in read_claims() if claim.suite in options.only]
    record: dict[str, Any] = {
        "machine": machine(), "versions": versions(), "size": options.size,
        "rounds": options.rounds, "load": f"{load()} at the beginning",
    }  # fmt: skip
    told = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    print(f"{record['machine']}\n{told}\nload {record['load']}, medians of {options.rounds}")
    found: Found = {}

    def keep() -> None:
        every = joined(record, found, options.into / "results.json") if options.join else found
        record["comparisons"] = [one.as_json() for one in every.values()]
        write(record, options.into)

    for name in options.only:
        wanted = [claim for claim in claims if claim.suite == name]
        if wanted or not options.goals:
            found |= run(name, options, wanted if options.goals else ())
            keep()
    verdicts = judged(claims, found, options)
    record["claims"] = [verdict.as_json() for verdict in verdicts]
    record["load"] += f", {load()} at the end"
    keep()
    return record, verdicts


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparisons, or show those that were run."""
    options = parse(argv)
    began = time.perf_counter()
    if options.measured:
        record = json.loads((options.into / "results.json").read_text("utf-8"))
        write(record, options.into)
        verdicts: list[Verdict] = []
    else:
        record, verdicts = measure(options)
    print(f"\n{table([Comparison.from_json(one) for one in record['comparisons']])}\n")
    for verdict in verdicts:
        print(verdict)
    if options.docs:
        publish(record)
    print(f"took {time.perf_counter() - began:.0f} s; written to {options.into}")
    return int(options.goals and any(verdict.missed for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
