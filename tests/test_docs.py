"""README and docs keep what they promise: their examples run and their links lead somewhere.

The blocks fenced as ``python`` in one file run in order, as one program, in a folder that holds
``hfzarr-demo/`` as ``hfzarr demo`` writes it. A block fenced as ``python no-run`` is only compiled.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```python(?P<mark>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
ANY_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")


def blocks(text: str) -> list[tuple[int, bool, str]]:
    """Return each ``python`` block: its first line's number, whether it runs, its code."""
    return [
        (text.count("\n", 0, found.start()) + 2, found["mark"].strip() != "no-run", found["code"])
        for found in FENCE.finditer(text)
    ]


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ +(.+?) *$", ANY_FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page: Path) -> list[str]:
    """Return the relative links of a page that lead nowhere."""
    dead = []
    for found in LINK.finditer(ANY_FENCE.sub("", page.read_text("utf-8"))):
        target = found["target"]
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        goal = (page.parent / path) if path else page
        known = not anchor or (goal.suffix == ".md" and anchor in anchors(goal.read_text("utf-8")))
        if not goal.exists() or not known:
            dead.append(target)
    return dead


def with_blocks() -> list[Path]:
    return [page for page in PAGES if blocks(page.read_text("utf-8"))]


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from hfzarr.faces.demo import run_demo

    folder = tmp_path_factory.mktemp("docs") / "hfzarr-demo"
    run_demo(folder, size="small", quiet=True)
    return folder


@pytest.mark.parametrize("page", with_blocks(), ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_run(
    page: Path, demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hfzarr-demo").symlink_to(demo_folder)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": page.stem}
    for line, runs, code in blocks(page.read_text("utf-8")):
        # Empty lines in front, so that a traceback points at the line of the page.
        program = compile("\n" * (line - 1) + code, str(page), "exec")
        if runs:
            exec(program, names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert dead_links(page) == []


def test_blocks_are_found() -> None:
    text = "a\n```python\nx = 1\n```\n\n```python no-run\ny\n```\n```console\nz\n```\n"
    assert blocks(text) == [(3, True, "x = 1\n"), (7, False, "y\n")]


def test_a_dead_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One `word`\n[a](no.md) [b](#one-word) [c](#two) [d](https://e.org) [e](.)\n")
    assert dead_links(page) == ["no.md", "#two"]


def test_readme_has_examples_that_run() -> None:
    assert any(runs for _, runs, _ in blocks((ROOT / "README.md").read_text("utf-8")))
