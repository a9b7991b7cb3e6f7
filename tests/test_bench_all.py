"""One command for all benchmarks: what it reads, judges, writes and draws; and what is claimed."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

# At the end: ci/bench has a stores.py as the tests do.
sys.path.append(str(Path(__file__).resolve().parents[1] / "ci" / "bench"))

import all as command
import report_table
from report_claims import BadClaimError, Claim, judge, read_claims
from report_plot import Axis, picture
from report_rows import Comparison, Row, UnknownWayError
from report_suites import SUITES, Suite, measured, of_patches
from report_table import AREAS, Area, table, times

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / "ci" / "bench"
CLAIMS = read_claims()
# Words that compare by a number, as README and the docs may have them.
RATIO = re.compile(
    r"\d\s*(?:×|x|times|-fold)\s*(?:as\s|faster|fewer|less|more|quicker|smaller|slower)", re.I
)
SPEED = Claim(name="speed", case="fake/job", beside="xarray", ratio=4, says="4 times as fast")


def comparison(ours: float = 1.0, **others: float) -> Comparison:
    rows = tuple(Row(way=way.replace("_", ", "), seconds=taken) for way, taken in others.items())
    return Comparison(name="fake/job", what="a job", ours=Row(way="hfzarr", seconds=ours),
                      others=rows)  # fmt: skip


# --- comparisons ----------------------------------------------------------------------------------


def test_ratio_is_the_others_over_ours() -> None:
    one = comparison(2.0, xarray=7.0)
    assert one.ratio(one.others[0]) == 3.5
    assert one.ratio(one.others[0], "requests") is None
    free = replace(one, ours=Row(way="hfzarr", requests=0))
    assert free.ratio(Row(way="xarray", requests=90), "requests") == math.inf
    assert free.ratio(Row(way="xarray", requests=0), "requests") == 1.0


def test_each_peer_is_shown_by_its_fastest_way() -> None:
    one = comparison(xarray=5.0, xarray_fused=3.0, tensorstore=1.0, hfzarr_dask=0.1)
    broken = Row(way="xbatcher", failed="out of memory")
    limit = Row(way="limit: write", seconds=0.5)
    one = replace(one, others=(*one.others, broken, limit))
    assert [row.way for row in one.rivals] == ["tensorstore", "xarray, fused"]
    assert [row.way for row in one.family("xarray")] == ["xarray", "xarray, fused"]
    assert [row.way for row in one.family("xarray", only=True)] == ["xarray"]


def test_a_way_of_nobody_is_an_error() -> None:
    with pytest.raises(UnknownWayError, match="somebody"):
        _ = Row(way="somebody's").peer


numbers = st.one_of(st.none(), st.floats(0, 1e9))
rows = st.builds(
    Row, way=st.sampled_from(["hfzarr", "xarray", "cp -r"]), seconds=numbers, peak=numbers,
    requests=numbers, bytes=numbers, failed=st.text(max_size=5),
)  # fmt: skip


others = st.lists(rows, max_size=3).map(tuple)


@given(st.builds(Comparison, name=st.text(), what=st.text(), ours=rows, others=others))
def test_comparisons_come_back_from_json(one: Comparison) -> None:
    assert Comparison.from_json(json.loads(json.dumps(one.as_json()))) == one


def test_a_failure_names_no_place_of_this_machine() -> None:
    row = measured("xarray", {"failed": "OSError: no '/data/some-folder/a.zarr/0' here"})
    assert row.failed == "OSError: no '…' here"
    assert row.seconds is None


def test_patches_bring_their_limits() -> None:
    ways = {
        "limits": {"decode": 1.0, "copy": 0.5},
        "hfzarr planner": {"seconds": 2.0, "peak": 9.0},
        "xbatcher": {"failed": "no"},
    }
    told = {"results": [{"volume": "uint16: big", "work": {"kind": "strided"}, "ways": ways}]}
    (one,) = of_patches("patches", told)
    assert one.name == "patches/uint16/strided"
    assert one.what == "overlapping patches of 96³, all of a made-up uint16 volume"
    assert (one.ours.way, one.ours.seconds, one.ours.peak) == ("hfzarr planner", 2.0, 9.0)
    assert [(row.seconds, row.failed) for row in one.others] == [(None, "no"), (1.0, ""), (1.5, "")]


@pytest.mark.parametrize("name", SUITES)
@pytest.mark.parametrize("size", ["small", "full"])
def test_every_script_knows_what_it_is_told(name: str, size: str) -> None:
    suite = SUITES[name]
    told = suite.command("python", size=size, rounds=1, into=Path("x"), folder=Path("f"))
    source = (BENCH / suite.script).read_text("utf-8")
    options = [word for word in told[4:] if word.startswith("--")]
    for option in (*options, suite.jobs, suite.ways):
        assert option.removeprefix("--") in source.replace('f"--{size}"', "small")
    for job in suite.every:
        assert f'"{job}"' in source


# --- claims ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "missed", "value"),
    [
        ([comparison(xarray=5.0)], False, 5.0),
        ([comparison(xarray=2.0)], False, 2.0),
        ([comparison(xarray=1.9)], True, 1.9),
        ([comparison(xarray=5.0, xarray_fused=1.0)], True, 1.0),
        ([comparison(dask=5.0)], True, None),
        ([], True, None),
    ],
)
def test_claims_are_missed_below_half(found, missed, value) -> None:
    verdict = judge(SPEED, found, size="full")
    assert (verdict.missed, verdict.value) == (missed, value)
    assert str(verdict).startswith("MISSED" if missed else "kept")
    assert verdict.as_json()["measured"] == value


def test_a_claim_may_expect_less_of_a_small_run() -> None:
    claim = replace(SPEED, small=2, tolerated=0.75)
    assert (claim.floor("small"), claim.floor("full")) == (1.5, 3.0)
    assert SPEED.floor("small") == SPEED.floor("full") == 2.0


def test_who_failed_is_told() -> None:
    one = comparison(xarray=5.0)
    ours = replace(one, ours=Row(way="hfzarr", failed="disk full"))
    assert "hfzarr failed: disk full" in str(judge(SPEED, [ours], size="full"))
    theirs = replace(one, others=(Row(way="xarray", failed="no memory"),))
    assert "no memory" in str(judge(SPEED, [theirs], size="full"))


def test_a_bad_claim_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadClaimError, match="joy"):
        replace(SPEED, measure="joy")
    (tmp_path / "claims.toml").write_text('[speed]\ncase = "a/b"\nfaster = 3\n')
    with pytest.raises(BadClaimError, match="faster"):
        read_claims(tmp_path / "claims.toml")


def words(page: Path) -> str:
    """Return a page as words, without the results that the command writes."""
    text = page.read_text("utf-8")
    if command.BEGIN in text:
        text = text.partition(command.BEGIN)[0] + text.partition(command.END)[2]
    return " ".join(text.split())


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_ratio_of_the_docs_is_a_claim(page: Path) -> None:
    text = words(page)
    for claim in CLAIMS:
        text = text.replace(claim.says, "")
    assert [text[found.start() - 40 : found.end() + 20] for found in RATIO.finditer(text)] == []


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_claims_are_made_somewhere_and_can_be_measured(claim: Claim) -> None:
    assert any(claim.says in words(page) for page in PAGES), claim.says
    assert f"{claim.ratio:g} times" in claim.says
    assert RATIO.search(claim.says)
    suite = SUITES[claim.suite]
    assert claim.job in suite.every or f'"{claim.job}"' in "".join(
        path.read_text("utf-8") for path in BENCH.glob("*.py")
    )
    ways = "".join(path.read_text("utf-8") for path in BENCH.glob("*.py"))
    assert f'"{claim.beside}"' in ways or f'"{claim.beside}, ' in ways


def test_ratios_are_seen() -> None:
    seen = ["20 times as fast", "3 × faster", "4x fewer requests", "ten: 10 × as fast"]
    assert all(RATIO.search(text) for text in seen)
    assert not RATIO.search("an image of 64 × 64, 3 times, decoded 1.5 times")


# --- the command ----------------------------------------------------------------------------------

SCRIPT = """
import argparse, json, pathlib
parser = argparse.ArgumentParser()
for name in ("json", "repeats", "folder"):
    parser.add_argument(f"--{name}")
for name in ("jobs", "ways"):
    parser.add_argument(f"--{name}", nargs="+")
options = parser.parse_args()
log = pathlib.Path(__file__).with_name("log")
log.write_text((log.read_text() if log.exists() else "") + f"{options.jobs} {options.ways};")
taken = TAKEN[min(log.read_text().count(";"), len(TAKEN)) - 1]
ways = {"hfzarr": {"seconds": 1.0}, "xarray": {"seconds": taken, "peak": 3.0}}
told = [{"job": "job", "what": "a job", "ways": ways}]
pathlib.Path(options.json).write_text(json.dumps({"results": told}))
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Let the command run one script whose other way takes the given seconds, run by run."""

    def make(*taken: float) -> list[str]:
        script = tmp_path / "fake.py"
        script.write_text(f"TAKEN = {taken}\n{SCRIPT}")
        suite = Suite(script=str(script), told=SUITES["open"].told, jobs="--jobs")
        monkeypatch.setitem(SUITES, "fake", suite)
        areas = (Area(title="Fakes", suites=("fake",)), *AREAS)
        for module in (command, report_table):
            monkeypatch.setattr(module, "AREAS", areas)
        monkeypatch.setattr(command, "read_claims", lambda: (SPEED,))
        return ["--only", "fake", "--rounds", "1", "--into", str(tmp_path / "out")]

    return make


def result(folder: Path) -> dict:
    return json.loads((folder / "out" / "results.json").read_text("utf-8"))


def test_a_run_writes_numbers_a_table_and_a_picture(fake, tmp_path: Path, capfd) -> None:
    assert command.main(fake(5.0)) == 0
    record = result(tmp_path)
    assert record["claims"][0]["measured"] == 5.0
    assert record["versions"]["Python"].count(".") == 2
    assert "cores" in record["machine"]
    assert "xarray | 5.0 × | 1.00, 5.00 |" in (tmp_path / "out" / "results.md").read_text("utf-8")
    ElementTree.parse(tmp_path / "out" / "benchmarks-fake.svg")
    assert len(list((tmp_path / "out").glob("*.svg"))) == 1
    printed = capfd.readouterr().out
    assert "xarray | 5.0 ×" in printed
    assert "kept   speed: 5.00 ×" in printed
    assert str(tmp_path) not in (tmp_path / "out" / "results.json").read_text("utf-8")


@pytest.mark.parametrize(
    ("taken", "status", "runs"),
    [((5.0,), 0, 1), ((1.0, 5.0), 0, 2), ((1.0, 1.5), 1, 2)],
)
def test_a_missed_claim_is_measured_once_more(fake, tmp_path, capfd, taken, status, runs) -> None:
    assert command.main([*fake(*taken), "--goals"]) == status
    asked = (tmp_path / "log").read_text().split(";")[:-1]
    assert asked == ["['job'] ['hfzarr', 'xarray']"] * runs
    (verdict,) = result(tmp_path)["claims"]
    assert verdict["repeated"] == (runs == 2)
    assert verdict["measured"] == taken[-1]
    assert result(tmp_path)["comparisons"][0]["others"][0]["seconds"] == taken[-1]


def test_without_goals_a_miss_is_only_told(fake, tmp_path: Path, capfd) -> None:
    assert command.main(fake(1.0)) == 0
    assert "MISSED speed: 1.00 ×" in capfd.readouterr().out
    assert (tmp_path / "log").read_text() == "None None;"


def test_a_script_that_breaks_is_a_miss(fake, tmp_path: Path, capfd) -> None:
    options = fake(5.0)
    (tmp_path / "fake.py").write_text("raise SystemExit(3)")
    assert command.main([*options, "--goals"]) == 1
    printed = capfd.readouterr()
    assert "fake wrote nothing and ended with 3" in printed.err
    assert "MISSED speed: not measured (no run of fake/job" in printed.out


def test_earlier_results_are_kept_where_they_were_measured_alike(fake, tmp_path, capfd) -> None:
    options = fake(5.0)
    assert command.main(options) == 0
    path = tmp_path / "out" / "results.json"
    record = result(tmp_path)
    record["comparisons"].append({**record["comparisons"][0], "name": "hub/other"})
    path.write_text(json.dumps(record))
    assert command.main([*options, "--join"]) == 0
    names = [one["name"] for one in result(tmp_path)["comparisons"]]
    assert names == ["hub/other", "fake/job"]
    path.write_text(json.dumps({**record, "size": "full"}))
    with pytest.raises(command.CannotJoinError, match="size 'full'"):
        command.main([*options, "--join"])


def test_results_go_between_the_marks_of_the_docs(fake, tmp_path, monkeypatch, capfd) -> None:
    page, images = tmp_path / "page.md", tmp_path / "images"
    images.mkdir()
    page.write_text(f"before\n{command.BEGIN}\nold\n{command.END}\nafter\n")
    options = fake(5.0)
    assert command.main(options) == 0
    command.publish(result(tmp_path), page, images)
    first = page.read_text("utf-8")
    command.publish(result(tmp_path), page, images)
    assert page.read_text("utf-8") == first
    assert first.startswith(f"before\n{command.BEGIN}\n\nThe sizes are **small**")
    assert first.endswith(f"{command.END}\nafter\n")
    assert "old" not in first
    assert "### Fakes\n\n![Fakes: hfzarr beside others](images/benchmarks-fake.svg)" in first
    assert [path.name for path in images.iterdir()] == ["benchmarks-fake.svg"]
    page.write_text("no marks")
    with pytest.raises(SystemExit, match="has no <!-- results: begin"):
        command.publish(result(tmp_path), page, images)


def test_suites_are_named() -> None:
    assert command.suites("hub,open") == ["open", "hub"]
    with pytest.raises(SystemExit):
        command.parse(["--only", "patchs"])


def test_the_docs_have_the_marks_and_their_pictures() -> None:
    text = command.PAGE.read_text("utf-8")
    assert text.index(command.BEGIN) < text.index(command.END)
    shown = set(re.findall(r"\(images/(benchmarks-.*?\.svg)\)", text))
    assert shown == {path.name for path in command.IMAGES.glob("benchmarks*.svg")}
    for name in shown:
        ElementTree.parse(command.IMAGES / name)


def test_every_suite_is_shown_once() -> None:
    assert sorted(suite for area in AREAS for suite in area.suites) == sorted(SUITES)


# --- table and picture ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "told"),
    [(24.4, "24 ×"), (9.96, "10 ×"), (1.04, "1.0 ×"), (0.756, "0.76 ×"), (math.inf, "∞")],
)
def test_ratios_are_told_to_two_digits(ratio: float, told: str) -> None:
    assert times(ratio) == told


def test_a_table_shows_failures_and_limits() -> None:
    one = comparison(xarray=5.0, xarray_fused=4.0)
    broken = Row(way="tensorstore", failed="a | b")
    one = replace(one, others=(*one.others, broken, Row(way="limit: write", seconds=0.5)))
    short, long = table([one]).splitlines(), table([one], every=True).splitlines()
    assert [line.split(" | ")[1] for line in short[2:]] == ["xarray, fused"]
    assert len(long) == 6
    assert "failed: a / b" in long[4]
    assert {line.count("|") for line in (*short, *long)} == {8}
    only = replace(one, others=one.others[-1:])
    assert "limit: write | 0.50 ×" in table([only])


ratios = st.floats(1e-4, 1e5)


@given(st.lists(ratios, min_size=1, max_size=9))
def test_an_axis_keeps_the_order_and_its_bounds(found: list[float]) -> None:
    axis = Axis.over(found)
    assert 1.0 in axis.ticks
    places = [axis.at(ratio) for ratio in sorted(found)]
    assert places == sorted(places)
    assert axis.at(axis.least) <= places[0]
    assert places[-1] <= axis.at(axis.most)
    assert axis.at(axis.least) < axis.at(axis.most)


@given(st.floats(0.1, 10), st.floats(1.5, 9))
def test_equal_ratios_are_equally_long(start: float, factor: float) -> None:
    axis = Axis(least=0.01, most=1000)
    steps = [axis.at(factor * place) - axis.at(place) for place in (start, 2 * start)]
    assert steps[0] == pytest.approx(steps[1])


def test_a_picture_has_a_bar_for_each_peer() -> None:
    one = comparison(xarray=5.0, tensorstore=0.5)
    alone = replace(comparison(), what="<alone>")
    svg = picture([one, alone, replace(one, what="a & b")], title="Speed", below="here")
    root = ElementTree.fromstring(svg)
    kinds = [rect.get("class") for rect in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert kinds == ["ground", "less", "more", "less", "more"]
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"5.0 ×", "0.50 ×", "xarray", "tensorstore", "a job", "a & b"} <= set(texts)
    assert "<alone>" not in texts
    assert "prefers-color-scheme: dark" in svg


# --- opening and reading --------------------------------------------------------------------------


def test_opening_and_reading_alone(tmp_path: Path) -> None:
    script = [sys.executable, "-W", "ignore", str(BENCH / "alone.py"), "--repeats", "1"]
    options = ["--seconds", "0.01", "--planes", "64", "--json", str(tmp_path / "found")]
    jobs = ["--jobs", "cf", "whole sharded", "--ways", "hfzarr", "xarray", "zarr-python"]
    done = subprocess.run([*script, *options, *jobs], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "found").read_text("utf-8"))
    found = list(SUITES["read"].told("read", told))
    assert [one.name for one in found] == ["read/cf", "read/whole sharded"]
    assert [[row.way for row in one.others] for one in found] == [["xarray"], ["zarr-python"]]
    assert all(one.ours.seconds > 0 for one in found)
    assert found[1].ours.peak > 1  # the volume is 32 MiB
