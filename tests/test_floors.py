"""The house keeps its own rules: who imports whom, and what no source file may hold.

The rules are read from the table in docs/architecture.md, so the page and the test cannot differ.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "hfzarr"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
ROOF = "hfzarr"
"""The package's own ``__init__``: it gathers the public names, so it stands above every room."""

MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 450
NAMES_THAT_SAY_NOTHING = {"utils", "helpers", "common", "misc"}
MACHINE_PATH = re.compile(r"[\"'` ]/(?:tmp|work|root|home|Users)/")
TESTED = ("datasets", "demo", "http", "hub", "geo", "s3", "test")
"""Extras that `make lowest` installs."""
HEAVY = {
    "PIL", "aiohttp", "datasets", "distributed", "gcsfs", "huggingface_hub", "obstore", "pyarrow",
    "pyproj", "rasterio", "rioxarray", "s3fs", "tqdm",
}  # fmt: skip


@dataclass(frozen=True)
class Room:
    """One row of the table."""

    floor: int
    rooms: frozenset[str]
    """Rooms that the row names."""
    libraries: frozenset[str] | None
    """Libraries that the row names; None where any may be imported."""


def read_table(text: str) -> dict[str, Room]:
    """Return the rooms of the table in docs/architecture.md, by name."""
    house = {}
    rows = re.findall(r"^\| *(\d+) *\| *`(\w+)(?:/|\.py)` *\|[^|]*\|([^|]*)\|", text, re.MULTILINE)
    for floor, name, allowed in rows:
        words = {word.strip() for word in allowed.split(",")} - {"nothing"}
        rooms = {word.strip("`/") for word in words if word.startswith("`")}
        libraries = frozenset(word for word in words if not word.startswith("`"))
        anything = "everything below" in words
        house[name] = Room(int(floor), frozenset(rooms), None if anything else libraries)
    return house


HOUSE = read_table(ARCHITECTURE.read_text("utf-8"))


def imported(source: str, package: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the dotted name of every import, wherever it stands.

    An import inside a function or under ``TYPE_CHECKING`` counts: it is a dependency too.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1]
            module = ".".join([*(base if node.level else []), *filter(None, [node.module])])
            if module == ROOF:  # `from hfzarr import model`: the room is among the names.
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, module


def room_of(dotted: str, house: dict[str, Room]) -> str:
    """Return the room in which a module of the package lies; the roof if in none."""
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in house else ROOF


def faults(source: str, module: str, house: dict[str, Room] = HOUSE) -> list[str]:
    """Return the imports of a module that its floor does not allow."""
    here = room_of(module, house)
    if here == ROOF:
        return []
    room = house[here]
    below = {name for name, other in house.items() if other.floor < room.floor}
    libraries = allowed_libraries(here, house)
    found = []
    for line, name in imported(source, package=module.rpartition(".")[0]):
        top = name.split(".")[0]
        if top == ROOF:
            target = room_of(name, house)
            if target != here and target not in below:
                found.append(f"{module}:{line}: {here} (floor {room.floor}) imports {name}")
        elif top not in sys.stdlib_module_names and libraries is not None and top not in libraries:
            found.append(f"{module}:{line}: {here} imports the library {top}")
    return found


def allowed_libraries(name: str, house: dict[str, Room]) -> frozenset[str] | None:
    """Return the libraries that a room's row names, and those of the rooms that it names."""
    own = house[name].libraries
    if own is None:
        return None
    below = [allowed_libraries(room, house) or frozenset() for room in house[name].rooms]
    return own.union(*below)


def module_name(path: Path) -> str:
    """Return the dotted name of a file, with ``__init__`` kept so that its package is right."""
    return ".".join([ROOF, *path.relative_to(PACKAGE).with_suffix("").parts])


def each_module() -> pytest.MarkDecorator:
    ids = [str(path.relative_to(PACKAGE)) for path in MODULES]
    return pytest.mark.parametrize("path", MODULES, ids=ids)


# The rules on the real source


def test_the_table_names_every_room() -> None:
    rooms = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if is_room(path)}
    assert rooms == set(HOUSE), "docs/architecture.md and src/hfzarr differ"


def is_room(path: Path) -> bool:
    if path.is_dir():
        return (path / "__init__.py").is_file()
    return path.suffix == ".py" and path.stem not in {"__init__", "__main__"}


@each_module()
def test_no_import_goes_up(path: Path) -> None:
    assert faults(path.read_text("utf-8"), module_name(path)) == []


@each_module()
def test_no_assert_in_the_source(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    lines = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    assert lines == [], "`python -O` drops an assert: raise an error of hfzarr.errors"


@each_module()
def test_file_is_short_and_its_name_says_something(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= MAX_LINES
    assert path.stem not in NAMES_THAT_SAY_NOTHING
    assert path.parent.name not in NAMES_THAT_SAY_NOTHING


def test_no_path_of_a_machine() -> None:
    folders = [ROOT / name for name in (".ci", "ci", "docs", "examples", "src", "tests")]
    files = [path for folder in folders for path in folder.rglob("*") if is_text(path)]
    files += [path for path in ROOT.iterdir() if is_text(path)]
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted(files)
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


def is_text(path: Path) -> bool:
    named = path.name in {"run", "Makefile"} or path.suffix in {".py", ".md", ".toml", ".txt"}
    return named and path.is_file()


def test_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_the_lowest_versions_are_those_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for name in TESTED for line in extras[name])]
    floor = re.compile(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)")
    floors = {found[1]: Version(found[2]) for line in wanted if (found := floor.match(line))}
    lowest: dict[str, Version] = {}
    for line in (ROOT / "ci" / "constraints" / "lowest.txt").read_text("utf-8").splitlines():
        if found := re.match(r"([\w-]+)==([\d.]+)", line):
            lowest.setdefault(found[1], Version(found[2]))  # The oldest Python comes first.
    assert floors.items() <= lowest.items()


def test_import_loads_nothing_heavy() -> None:
    code = (
        "import sys, xarray; before = set(sys.modules); import hfzarr; "
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & HEAVY == set()


# The rules on small texts that break them


def test_the_table_is_read_right() -> None:
    house = read_table("| 2 | `store/` | where bytes lie | `model`, zarr, fsspec |\n")
    assert house == {"store": Room(2, frozenset({"model"}), frozenset({"zarr", "fsspec"}))}
    assert HOUSE["errors"] == Room(0, frozenset(), frozenset())
    assert HOUSE["faces"].libraries is None
    assert {name: room.floor for name, room in HOUSE.items()}.items() >= {
        ("errors", 0), ("model", 1), ("plan", 2), ("store", 2), ("run", 3), ("rows", 4),
            ("faces", 5),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("module", "source", "word"),
    [
        ("hfzarr.errors", "import numpy", "numpy"),
        ("hfzarr.errors", "from hfzarr.model import report", "hfzarr.model"),
        ("hfzarr.model.array", "import hfzarr.store.location", "hfzarr.store.location"),
        ("hfzarr.model.array", "from ..plan import grid", "hfzarr.plan"),
        ("hfzarr.model.array", "from .. import plan", "hfzarr.plan"),
        ("hfzarr.model.ome.axes", "from ...run.read import read", "hfzarr.run.read"),
        ("hfzarr.model.ome.__init__", "from ...run import read", "hfzarr.run"),
        ("hfzarr.model.array", "import zarr.codecs", "zarr"),
        ("hfzarr.model.array", "from hfzarr import open_dataset", "hfzarr.open_dataset"),
        ("hfzarr.plan.grid", "from hfzarr.store import node", "hfzarr.store"),
        ("hfzarr.plan.grid", "import zarr", "zarr"),
        ("hfzarr.plan.grid", "def f():\n    import xarray", "xarray"),
        ("hfzarr.store.node", "from hfzarr.plan.grid import Grid", "hfzarr.plan.grid"),
        ("hfzarr.store.node", "import xarray as xr", "xarray"),
        ("hfzarr.store.node", "if TYPE_CHECKING:\n    import hfzarr.faces", "hfzarr.faces"),
        ("hfzarr.run.read", "def f():\n    from hfzarr.faces import picture", "hfzarr.faces"),
        ("hfzarr.run.read", "import PIL.Image", "PIL"),
        ("hfzarr.faces.backend", "from hfzarr import open_dataset", "hfzarr.open_dataset"),
    ],
)
def test_each_rule_catches_what_breaks_it(module: str, source: str, word: str) -> None:
    (fault,) = faults(source, module)
    assert fault.endswith(f" {word}")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("hfzarr.errors", "import json"),
        ("hfzarr.model.array", "import numpy as np\nfrom hfzarr.errors import HfzarrError"),
        ("hfzarr.model.array", "from hfzarr import errors\nfrom . import report"),
        ("hfzarr.model.ome.__init__", "from . import axes\nfrom ..coords import Coordinate"),
        ("hfzarr.plan.grid", "import numpy\nfrom hfzarr.model.array import ArrayMeta"),
        ("hfzarr.store.node", "import zarr, fsspec.asyn\nfrom ..model import array"),
        ("hfzarr.run.read", "from hfzarr.plan import grid\nfrom hfzarr.store import source"),
        ("hfzarr.faces.backend", "import xarray, dask\nfrom hfzarr.run.read import read"),
        ("hfzarr.__init__", "def __getattr__(name):\n    from hfzarr.faces import backend"),
    ],
)
def test_what_the_rules_allow(module: str, source: str) -> None:
    assert faults(source, module) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('x = "' + "/tmp" + '/a.zarr"', True),
        ('x = "memory://tmp/a"', False),
        ("# a /home page", False),
    ],
)
def test_a_path_of_a_machine_is_seen(line: str, found: bool) -> None:
    assert bool(MACHINE_PATH.search(line)) is found
