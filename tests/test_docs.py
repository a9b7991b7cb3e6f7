"""README and docs keep what they promise: their blocks run, their links lead somewhere.

The ``python`` blocks of a page run in order, as one program, in a folder that holds
``hfzarr-demo/`` as ``hfzarr demo`` writes it.

| block | what is done with it |
|---|---|
| ``python`` | runs |
| ``<!-- setup`` … ``-->`` | the same, unseen by readers |
| ``python torch`` | runs where torch is installed, else is compiled |
| ``python no-run`` | is compiled |
| ``console run`` | its ``hfzarr`` commands are run, and end with 0 |
| ``text output`` | is what the block before printed; ``...`` stands for anything |
| ``console``, ``bash`` | ``hfzarr`` commands are parsed; ``make``, extras and scripts exist |
| ``yaml``, ``json`` | are parsed |

A page with ``<!-- docs: hub -->`` talks to the loopback Hub as ``user``; one with
``<!-- docs: fresh -->`` begins in an empty folder.
"""

from __future__ import annotations

import doctest
import io
import json
import re
import subprocess
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
import zarr

import hfzarr
from docblocks import ROOT, Block, blocks, commands, extras, goals, needs, without_blocks
from hfzarr.faces.cli import main
from hfzarr.faces.cli.program import PROGRAM
from hubstores import hub, log_in, servers  # noqa: F401 (fixtures)

PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "ci" / "bench" / "README.md",
]
TEXTS = {page: page.read_text("utf-8") for page in PAGES}
LANGUAGES = {"python", "console", "bash", "yaml", "json", "text"}
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
CHECKER = doctest.OutputChecker()


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def runs(block: Block) -> bool:
    """Whether a block is run rather than only compiled or parsed."""
    if block.language == "console":
        return "run" in block.marks
    unable = "no-run" in block.marks or ("torch" in block.marks and find_spec("torch") is None)
    return block.language == "python" and not unable


def every_page(condition: Any = lambda text: True) -> Any:
    chosen = [page for page in PAGES if condition(TEXTS[page])]
    return pytest.mark.parametrize("page", chosen, ids=named)


# --- blocks --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from hfzarr.faces.demo import run_demo

    folder = tmp_path_factory.mktemp("docs") / "hfzarr-demo"
    run_demo(folder, size="small", quiet=True)
    return folder


def execute(page: Path, block: Block, names: dict[str, object]) -> str:
    """Run a block of Python or of commands; return what it printed."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        if block.language == "python":
            exec(compiled(page, block), names)
        else:
            for command in commands(block.code):
                if command[0] == "hfzarr":
                    assert main(command[1:]) == 0, f"{named(page)}:{block.line}: {command}"
    return printed.getvalue()


def compiled(page: Path, block: Block) -> Any:
    # Empty lines in front, so that a traceback points at the line of the page.
    return compile("\n" * (block.line - 1) + block.code, str(page), "exec")


def check_output(page: Path, block: Block, printed: str) -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    if not CHECKER.check_output(block.code, printed, flags):
        pytest.fail(f"{named(page)}:{block.line}: it printed\n{printed}\nrather than\n{block.code}")


# rioxarray multiplies transforms in the way that affine means to give up.
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
@every_page(lambda text: any(map(runs, blocks(text))))
def test_blocks_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if "hfzarr validate" in TEXTS[page] and zarr.__version__ == "3.1.0":
        pytest.skip("zarr 3.1.0 writes a null into groups, where the specification wants an object")
    wanted = needs(TEXTS[page])
    # Hidden blocks may use fixtures.
    names: dict[str, object] = {"__name__": page.stem, "monkeypatch": monkeypatch}
    if "hub" in wanted:
        request.getfixturevalue("log_in")("user")
        names["hub"] = request.getfixturevalue("hub")
    work = tmp_path / "work"
    work.mkdir()
    if "fresh" not in wanted:
        (work / "hfzarr-demo").symlink_to(request.getfixturevalue("demo_folder"))
    monkeypatch.chdir(work)
    printed = ""
    for block in blocks(TEXTS[page]):
        if runs(block):
            printed = execute(page, block, names)
        elif block.language == "text" and "output" in block.marks:
            check_output(page, block, printed)


@every_page(lambda text: bool(blocks(text)))
def test_blocks_make_sense(page: Path) -> None:
    for block in blocks(TEXTS[page]):
        where = f"{named(page)}:{block.line}"
        if block.language == "python":
            compiled(page, block)
        elif block.language in ("console", "bash"):
            for command in commands(block.code):
                check_command(command, where)
            if block.language == "bash":
                subprocess.run(["bash", "-n"], input=block.code, text=True, check=True, timeout=30)
        elif block.language == "yaml":
            assert all(list(yaml.safe_load_all(block.code))), where
        elif block.language == "json":
            json.loads(block.code)


def check_command(command: list[str], where: str) -> None:
    """Fail for a command that is none: of hfzarr, of make, of pip, or a script of ours."""
    program, *arguments = command
    if program == "hfzarr":
        check_hfzarr(arguments, where)
    elif program == "make":
        unknown = {word for word in arguments if "=" not in word} - goals()
        assert not unknown, f"{where}: make knows no {unknown}"
    elif program == "pip":
        said = re.findall(r"(?:hfzarr|\.)\[([\w,-]+)\]", " ".join(arguments))
        unknown = {name for names in said for name in names.split(",")} - extras()
        assert not unknown, f"{where}: there is no extra {unknown}"
    elif program == "python" and arguments and re.match(r"(ci|examples)/", arguments[0]):
        assert (ROOT / arguments[0]).is_file(), f"{where}: there is no {arguments[0]}"


def check_hfzarr(arguments: list[str], where: str) -> None:
    """Parse a command without carrying it out."""
    try:
        with redirect_stdout(io.StringIO()), PROGRAM.make_context("hfzarr", arguments) as context:
            name, rest = arguments[0], arguments[1:]
            chosen = PROGRAM.get_command(context, name)
            assert chosen is not None, f"{where}: there is no command {name!r}"
            chosen.make_context(name, rest, parent=context)
    except click.exceptions.Exit:  # after --help and --version
        pass
    except click.ClickException as error:
        pytest.fail(f"{where}: hfzarr {' '.join(arguments)}: {error.format_message()}")


@every_page()
def test_blocks_have_languages(page: Path) -> None:
    text = TEXTS[page]
    for block in blocks(text):
        known = block.language in LANGUAGES or re.fullmatch(r"\{[a-z-]+\}", block.language)
        assert known, f"{named(page)}:{block.line}: a block in {block.language!r}"
    assert not re.search(r"^\s*```", without_blocks(text), re.MULTILINE), "a block is not seen"


def test_blocks_are_found() -> None:
    text = (
        "a\n```python\nx = 1\n```\n\n```python no-run\ny\n```\n<!-- setup\nw = 2\n-->\n"
        "```console\n$ z\n```\n<!-- docs: hub fresh -->\n"
    )
    found = [(one.line, one.language, set(one.marks), one.code) for one in blocks(text)]
    assert found == [
        (3, "python", set(), "x = 1\n"),
        (7, "python", {"no-run"}, "y\n"),
        (10, "python", set(), "w = 2\n"),
        (13, "console", set(), "$ z\n"),
    ]
    assert needs(text) == {"hub", "fresh"}
    assert [runs(one) for one in blocks(text)] == [True, False, True, False]


def test_commands_are_found() -> None:
    code = "X=1 hfzarr info a.zarr | head -n 3  # why\nmake demo && \\\n  pip install '.[s3]'\n"
    assert list(commands(code)) == [
        ["hfzarr", "info", "a.zarr"],
        ["head", "-n", "3"],
        ["make", "demo"],
        ["pip", "install", ".[s3]"],
    ]
    assert list(commands("$ hfzarr tree b.zarr\nan answer\n")) == [["hfzarr", "tree", "b.zarr"]]


@pytest.mark.parametrize(
    "command",
    ["hfzarr info a --no-such-option", "hfzarr nothing a", "make nothing", "pip install .[nothing]",
     "python ci/nothing.py"],
)  # fmt: skip
def test_a_wrong_command_is_seen(command: str) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_command(command.split(), "here")


def test_readme_has_examples_that_run() -> None:
    assert any(map(runs, blocks(TEXTS[ROOT / "README.md"])))


# --- links ---------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ +(.+?) *$", without_blocks(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page: Path) -> list[str]:
    """Return the relative links of a page that lead nowhere."""
    dead = []
    for found in LINK.finditer(without_blocks(page.read_text("utf-8"))):
        target = found["target"]
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        goal = (page.parent / path) if path else page
        known = not anchor or (goal.suffix == ".md" and anchor in anchors(goal.read_text("utf-8")))
        if not goal.exists() or not known:
            dead.append(target)
    return dead


@every_page()
def test_links_lead_somewhere(page: Path) -> None:
    assert dead_links(page) == []


def test_a_dead_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One `word`\n[a](no.md) [b](#one-word) [c](#two) [d](https://e.org) [e](.)\n")
    assert dead_links(page) == ["no.md", "#two"]


# --- the site ------------------------------------------------------------------------------------


def test_reference_has_every_public_name() -> None:
    pages = (ROOT / "docs" / "reference").glob("*.md")
    told = {
        name
        for page in pages
        for name in re.findall(r"^\.\. auto\w+:: (\w+)", TEXTS[page], re.MULTILINE)
    }
    assert set(hfzarr.__all__) - {"__version__"} - told == set()


def test_index_names_every_page() -> None:
    folder = ROOT / "docs"
    linked = {found["target"] for found in LINK.finditer(TEXTS[folder / "index.md"])}
    assert {page.name for page in folder.glob("*.md")} - {"index.md"} - linked == set()


def test_limits_names_every_page_that_has_some() -> None:
    folder = ROOT / "docs"
    having = {
        f"{page.name}#limits" for page in folder.glob("*.md") if "limits" in anchors(TEXTS[page])
    }
    linked = {found["target"] for found in LINK.finditer(TEXTS[folder / "limits.md"])}
    assert having
    assert having - linked == set()


def test_every_example_is_told() -> None:
    told = TEXTS[ROOT / "docs" / "examples.md"]
    scripts = {script.name for script in (ROOT / "examples").glob("*.py")}
    assert scripts
    assert {name for name in scripts if f"../examples/{name})" not in told} == set()
