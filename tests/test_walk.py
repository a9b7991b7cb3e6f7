"""Stores are found where they lie, and what is in them costs nothing."""

from __future__ import annotations

import importlib.util
import os
import time
import zipfile
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfzarr.errors import ReadError, StoreNotFoundError, TargetError
from hfzarr.store.glob import Glob
from hfzarr.store.walk import FoundStores, find_stores
from realstores import cases, folder, is_node
from servers import http_server

needs_http = pytest.mark.skipif(
    importlib.util.find_spec("aiohttp") is None, reason="http:// needs aiohttp"
)
NODE = '{"zarr_format": 3, "node_type": "group"}'


def make(root: Path, *paths: str) -> Path:
    """Make files; a path with a slash at its end is a store of that name, or a folder."""
    for path in paths:
        file = root / path / "zarr.json" if path.endswith("/") else root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(NODE)
    return root


def zipped(file: Path, *names: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, NODE)
    return file


def stores(place: Path | str, **options) -> tuple[str, ...]:
    return find_stores(str(place), **options).stores


# --- folders --------------------------------------------------------------------------------------


def test_stores_are_known_by_name_or_by_what_lies_in_them(tmp_path) -> None:
    make(tmp_path, "a.zarr/", "b/C.OME.ZARR/", "b/plain/", "b/c/d/e.zarr/", "empty/note.txt")
    make(tmp_path, "v2/group/.zgroup", "v2/array/.zarray", "v2/known/.zmetadata")
    (tmp_path / "nothing.zarr").mkdir()
    assert stores(tmp_path) == (
        "a.zarr", "b/C.OME.ZARR", "b/c/d/e.zarr", "b/plain", "nothing.zarr",
        "v2/array", "v2/group", "v2/known",
    )  # fmt: skip


def test_no_store_is_looked_into(tmp_path) -> None:
    make(tmp_path, "a.zarr/", "a.zarr/inner.zarr/", "plain/", "plain/0/", "plain/labels/x.zarr/")
    make(tmp_path, "a.zarr/metadata.csv", "plain/metadata.csv")
    assert find_stores(str(tmp_path)) == FoundStores(stores=("a.zarr", "plain"))


def test_a_named_store_is_not_even_listed(tmp_path, monkeypatch) -> None:
    make(tmp_path, "a.zarr/", "b/c.zarr/")
    listed, scandir = [], os.scandir

    def noting(path):
        listed.append(Path(path).relative_to(tmp_path).as_posix())
        return scandir(path)

    monkeypatch.setattr(os, "scandir", noting)
    stores(tmp_path)
    assert sorted(listed) == [".", "b"]


def test_twenty_thousand_chunks_cost_nothing(tmp_path) -> None:
    for name in ("a.zarr", "b/c.zarr"):
        for i in range(10):
            (tmp_path / name / "c" / str(i)).mkdir(parents=True)
            for j in range(1000):
                (tmp_path / name / "c" / str(i) / str(j)).touch()
    start = time.perf_counter()
    assert stores(tmp_path) == ("a.zarr", "b/c.zarr")
    assert time.perf_counter() - start < 0.05


def test_hidden_folders_and_files_are_passed_by(tmp_path) -> None:
    make(tmp_path, ".cache/a.zarr/", "__MACOSX/b.zarr/", ".c.zarr/", "__d.zarr/", "_e.zarr/")
    zipped(tmp_path / "._f.zarr.zip", "zarr.json")
    assert stores(tmp_path) == ("_e.zarr",)


def test_a_store_by_itself(tmp_path) -> None:
    make(tmp_path, "a.zarr/", "plain/")
    assert stores(tmp_path / "a.zarr") == ("",)
    assert stores(tmp_path / "plain") == ("",)
    assert stores(f"file://{tmp_path}/a.zarr") == ("",)


def test_a_folder_that_is_only_named_like_a_store_is_looked_into(tmp_path) -> None:
    make(tmp_path, "all.zarr/one.zarr/", "all.zarr/two/")
    assert stores(tmp_path / "all.zarr") == ("one.zarr", "two")


def test_tables_of_metadata_are_noted(tmp_path) -> None:
    make(tmp_path, "metadata.csv", "a/metadata.jsonl", "a/b/metadata.parquet", "a/b/c.zarr/")
    make(tmp_path, "index.csv", "a/Metadata.csv", "a/x_metadata.csv")
    assert find_stores(str(tmp_path)) == FoundStores(
        stores=("a/b/c.zarr",), files=("a/b/metadata.parquet", "a/metadata.jsonl", "metadata.csv")
    )


def test_zips_by_name_and_by_what_they_hold(tmp_path) -> None:
    zipped(tmp_path / "a.zarr.zip", "zarr.json")
    zipped(tmp_path / "b.OZX", "zarr.json")
    zipped(tmp_path / "c/plain.zip", "zarr.json", "0/zarr.json")
    zipped(tmp_path / "c/wrapped.zip", "inner.zarr/.zgroup", "inner.zarr/0/.zarray")
    zipped(tmp_path / "other.zip", "photos/1.png")
    zipped(tmp_path / "renamed.zarr", ".zgroup")
    (tmp_path / "damaged.zip").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "note.zarr").write_text("a file, and no store")
    (tmp_path / "damaged.zarr.zip").write_bytes(b"")
    assert stores(tmp_path) == (
        "a.zarr.zip", "b.OZX", "c/plain.zip", "c/wrapped.zip", "damaged.zarr.zip", "renamed.zarr",
    )  # fmt: skip
    assert stores(tmp_path / "c" / "plain.zip") == ("",)


def test_how_many_were_found_is_told(tmp_path) -> None:
    make(tmp_path, "a.zarr/", "b/c.zarr/", "b/d/")
    told: list[int] = []
    stores(tmp_path, on_found=told.append)
    assert told == [1, 2, 3]


# --- links ----------------------------------------------------------------------------------------


def test_links_are_followed_but_not_back(tmp_path) -> None:
    make(tmp_path, "data/a/x.zarr/", "elsewhere/b/y.zarr/")
    root = tmp_path / "data"
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "here").symlink_to(".")
    (root / "a" / "z.zarr").symlink_to(tmp_path / "elsewhere/b/y.zarr")
    (tmp_path / "elsewhere" / "back").symlink_to(root)
    assert stores(root) == ("a/x.zarr", "a/z.zarr", "linked/b/y.zarr")


def test_two_folders_that_link_to_each_other(tmp_path) -> None:
    make(tmp_path, "a/x.zarr/", "b/y.zarr/")
    (tmp_path / "a" / "b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "a").symlink_to(tmp_path / "a")
    assert stores(tmp_path) == ("a/b/y.zarr", "a/x.zarr", "b/a/x.zarr", "b/y.zarr")


def test_links_that_lead_to_themselves_are_passed_by(tmp_path) -> None:
    make(tmp_path, "a/x.zarr/")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "a" / "one").symlink_to("two")
    (tmp_path / "a" / "two").symlink_to("one")
    (tmp_path / "a" / "self.zip").symlink_to("self.zip")
    assert stores(tmp_path) == ("a/x.zarr",)


def test_folders_that_cannot_be_listed_are_passed_by_on_request(tmp_path, monkeypatch) -> None:
    make(tmp_path, "a/x.zarr/", "b/y.zarr/")
    scandir = os.scandir

    def refusing(place):
        if str(place) in refused:
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refusing)
    refused = [str(tmp_path / "b")]
    with pytest.raises(ReadError, match="cannot list the folder"):
        stores(tmp_path)
    faults = []
    found = stores(tmp_path, on_fault=lambda path, error: faults.append((path, type(error))))
    assert found == ("a/x.zarr",)
    assert faults == [("b", ReadError)]
    refused = [str(tmp_path)]
    with pytest.raises(ReadError):
        stores(tmp_path, on_fault=lambda path, error: None)


def test_a_store_whose_link_leads_nowhere_is_still_one(tmp_path) -> None:
    make(tmp_path, "a.zarr/")
    (tmp_path / "gone.zarr").symlink_to(tmp_path / "nowhere")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert stores(tmp_path) == ("a.zarr", "gone.zarr")


# --- what is wrong --------------------------------------------------------------------------------


def test_no_such_folder(tmp_path) -> None:
    with pytest.raises(StoreNotFoundError, match=r"no such folder.*nothing"):
        find_stores(str(tmp_path / "nothing"))


def test_a_file_that_is_no_store(tmp_path) -> None:
    make(tmp_path, "table.csv")
    with pytest.raises(TargetError, match=r"table\.csv.*open_manifest"):
        find_stores(str(tmp_path / "table.csv"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_folder_that_may_not_be_read(tmp_path) -> None:
    make(tmp_path, "shut/a.zarr/")
    (tmp_path / "shut").chmod(0)
    try:
        with pytest.raises(ReadError, match="shut"):
            find_stores(str(tmp_path))
    finally:
        (tmp_path / "shut").chmod(0o700)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch) -> None:
    make(tmp_path, "shut/a.zarr/", "b.zarr/")
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(ReadError, match=r"cannot list the folder .*shut.*Permission denied"):
        find_stores(str(tmp_path))


# --- URLs -----------------------------------------------------------------------------------------


@pytest.fixture
def memory():
    """Write empty files into fsspec's memory, below a URL that is returned."""
    fs = fsspec.filesystem("memory")

    def write(*paths: str) -> str:
        for path in paths:
            fs.pipe(f"/walked/{path}", NODE.encode())
        return "memory://walked"

    yield write
    fs.rm("/walked", recursive=True)


def test_a_url_is_walked_a_level_at_a_time(memory, monkeypatch) -> None:
    url = memory(
        "a.zarr/zarr.json", "b/plain/.zarray", "b/c.zarr.zip", "b/d/e.zarr/0/zarr.json",
        "b/metadata.csv", ".hidden/f.zarr/zarr.json", "b/other.zip",
    )  # fmt: skip
    fs = type(fsspec.filesystem("memory"))
    listed, ls = [], fs.ls

    def noting(self, path, *args, **kwargs):
        listed.append(path.removeprefix("/walked"))
        return ls(self, path, *args, **kwargs)

    monkeypatch.setattr(fs, "ls", noting)
    found = find_stores(url)
    assert found.stores == ("a.zarr", "b/c.zarr.zip", "b/d/e.zarr", "b/plain")
    assert found.files == ("b/metadata.csv",)
    assert listed[:2] == ["", "/b"]
    assert sorted(listed[2:]) == ["/b/d", "/b/plain"]


def test_a_url_that_is_a_store(memory) -> None:
    url = memory("a.zarr/zarr.json", "plain/zarr.json", "c.zarr.zip")
    assert stores(f"{url}/a.zarr") == ("",)
    assert stores(f"{url}/plain/") == ("",)
    assert stores(f"{url}/c.zarr.zip") == ("",)


def test_a_url_that_is_not_there(memory) -> None:
    with pytest.raises(StoreNotFoundError, match=r"memory://.*nothing"):
        find_stores(memory("x") + "/nothing")


def test_folders_of_a_url_that_cannot_be_listed_are_passed_by_on_request(
    memory, monkeypatch
) -> None:
    kind = type(fsspec.filesystem("memory"))
    ls = kind.ls

    def refusing(self, path, **options):
        if path.rstrip("/").endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return ls(self, path, **options)

    place = memory("open/x.zarr/zarr.json", "locked/y.zarr/zarr.json")
    monkeypatch.setattr(kind, "ls", refusing)
    with pytest.raises(ReadError, match="Permission denied"):
        stores(place)
    faults = []
    found = stores(place, on_fault=lambda path, error: faults.append(path))
    assert (found, faults) == (("open/x.zarr",), ["locked"])


def test_a_listing_that_fails_is_told_with_its_url(memory, monkeypatch) -> None:
    url = memory("a/b.zarr/zarr.json")

    def refuse(self, path, *args, **kwargs):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "ls", refuse)
    with pytest.raises(ReadError, match=r"memory://.*Access Denied.*storage_options"):
        find_stores(url)


@needs_http
def test_a_web_server_that_lists(tmp_path) -> None:
    make(tmp_path, "a.zarr/", "b c/d e.zarr/", "b c/plain/", "metadata.csv")
    zipped(tmp_path / "b c" / "f.zarr.zip", "zarr.json")
    with http_server(tmp_path) as (url, asked):
        found = find_stores(url)
        assert found.stores == ("a.zarr", "b%20c/d%20e.zarr", "b%20c/f.zarr.zip", "b%20c/plain")
        assert found.files == ("metadata.csv",)
        assert not [path for path in asked if "a.zarr" in path]


@needs_http
def test_a_web_server_that_does_not_list(tmp_path) -> None:
    make(tmp_path, "a.zarr/", "plain/")
    (tmp_path / "index.html").write_text("<html>Welcome. <a href='mailto:a@b.c'>Write</a></html>")
    (tmp_path / "plain" / "index.html").write_text("<html>nothing to see</html>")
    with http_server(tmp_path) as (url, _):
        assert stores(f"{url}/a.zarr") == ("",), "what is named like a store needs no listing"
        assert stores(f"{url}/plain") == ("",), "a store without the suffix is asked for its files"
        assert stores(url) == ()
        with pytest.raises(StoreNotFoundError, match=r"nothing.*web servers do not list"):
            find_stores(f"{url}/nothing")


# --- patterns -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("*.zarr", {"a.zarr"}),
        ("**/*.zarr", {"a.zarr", "b/c.zarr", "b/d/e.zarr", "f/d/g.zarr"}),
        ("b/**", {"b/c.zarr", "b/d/e.zarr", "b/plain"}),
        ("?/d/*", {"b/d/e.zarr", "f/d/g.zarr"}),
        ("[bf]/d", {"b/d/e.zarr", "f/d/g.zarr"}),
        ("*/d", {"b/d/e.zarr", "f/d/g.zarr"}),
        ("*/*.zarr", {"b/c.zarr"}),
        ("**/d/**/*.zarr", {"b/d/e.zarr", "f/d/g.zarr"}),
        ("*", {"a.zarr", "b/c.zarr", "b/d/e.zarr", "b/plain", "f/d/g.zarr"}),
        ("b/*/nothing", set()),
    ],
)
def test_patterns(tmp_path, pattern, wanted) -> None:
    make(tmp_path, "a.zarr/", "b/c.zarr/", "b/d/e.zarr/", "b/plain/", "f/d/g.zarr/")
    glob = Glob.of(f"{tmp_path}/{pattern}")
    assert glob is not None
    found = {
        os.path.relpath(f"{glob.base}/{path}", tmp_path) for path in stores(glob.base, glob=glob)
    }
    assert found == wanted


def test_a_pattern_keeps_the_walk_out_of_folders_that_cannot_match(tmp_path, monkeypatch) -> None:
    make(tmp_path, "a/x/1.zarr/", "b/x/2.zarr/", "a/y/3.zarr/")
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    glob = Glob.of(f"{tmp_path}/?/x/*.zarr")
    assert stores(glob.base, glob=glob) == ("a/x/1.zarr", "b/x/2.zarr")
    assert not [path for path in listed if path.endswith("y")]


def test_what_is_no_pattern(tmp_path) -> None:
    make(tmp_path, "odd[1]/a.zarr/")
    assert Glob.of(str(tmp_path / "odd[1]")) is None, "a folder that is there"
    assert Glob.of("https://host/a.zarr?token=1") is None
    assert Glob.of("plain/a.zarr") is None
    with pytest.raises(TargetError, match="bucket"):
        Glob.of("s3://*/a.zarr")


SEGMENTS = st.sampled_from(["a", "b", "ab", "c.zarr"])
PARTS = st.sampled_from(["a", "*", "**", "?", "a*", "*.zarr", "[ab]"])


@given(
    path=st.lists(SEGMENTS, min_size=1, max_size=4), parts=st.lists(PARTS, min_size=1, max_size=4)
)
def test_a_pattern_matches_as_pathlib_does(path, parts) -> None:
    glob = Glob(base=".", parts=tuple(parts))
    heads = ["/".join(path[:i]) for i in range(1, len(path) + 1)]
    assert glob.matches("/".join(path)) == any(
        _reference(h.split("/"), parts) for h in ["", *heads]
    )
    if glob.matches("/".join(path)):
        assert all(glob.may_hold(head) for head in heads)


def _reference(path: list[str], parts: list[str]) -> bool:
    """Match by trying every way, which is slow and plain."""
    import fnmatch

    path = [name for name in path if name]
    if not parts:
        return not path
    if parts[0] == "**":
        return _reference(path, parts[1:]) or (bool(path) and _reference(path[1:], parts))
    return bool(path) and fnmatch.fnmatchcase(path[0], parts[0]) and _reference(path[1:], parts[1:])


# --- whole trees ----------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c.zarr", "d.ome.zarr", ".e", "__f", "g.zarr.zip", "h.zip"])
TREES = st.recursive(
    st.sampled_from(["file", "store", "empty"]),
    lambda inner: st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


def plant(tree, place: Path, path: str, wanted: set[str], hidden: bool) -> None:
    """Make a tree on disk, and note which stores there are in it by its own rules."""
    name = place.name
    here = name.startswith((".", "__")) or hidden if path else False
    if isinstance(tree, dict) or tree in ("store", "empty"):
        place.mkdir()
        is_store = tree == "store" or (bool(path) and name.endswith(".zarr"))
        if tree == "store":
            make(place, "0/c/0", ".zgroup")
        if is_store and not here:
            wanted.add(path)
        for below, inner in tree.items() if isinstance(tree, dict) else ():
            where = f"{path}/{below}" if path else below
            plant(inner, place / below, where, wanted, here or is_store)
    elif name.endswith(".zip"):
        zipped(place, "zarr.json" if name == "h.zip" else "x")
        if not here:
            wanted.add(path)
    else:
        place.write_text("a file")


@given(tree=st.dictionaries(NAMES, TREES, max_size=5))
def test_a_tree_is_found_exactly(tree, tmp_path_factory) -> None:
    root = tmp_path_factory.mktemp("tree") / "root"
    wanted: set[str] = set()
    plant(tree, root, "", wanted, False)
    assert stores(root) == tuple(sorted(wanted))
    # The same rules hold for what fsspec lists, save that no zip is opened.
    remote = find_stores(f"memory://tree{_copy(root)}") if any(root.rglob("*")) else None
    if remote is not None:
        plain = {
            path for path in wanted if (root / path).name == "h.zip" and (root / path).is_file()
        }
        assert set(remote.stores) == wanted - plain


def _copy(root: Path) -> str:
    fs = fsspec.filesystem("memory")
    if fs.exists("/tree"):
        fs.rm("/tree", recursive=True)
    fs.mkdir("/tree/x")
    for path in root.rglob("*"):
        below = path.relative_to(root).as_posix()
        if path.is_dir():
            fs.makedirs(f"/tree/x/{below}", exist_ok=True)
        else:
            fs.pipe(f"/tree/x/{below}", path.read_bytes())
    return "/x"


@cases("name", [""])
def test_every_real_store_is_found(name) -> None:
    here = folder()
    found = set(stores(here))
    tops = {
        path.relative_to(here).as_posix()
        for path in here.rglob("*")
        if path.is_dir() and is_node(path) and not _is_below_a_node(path, here)
    }
    # Named like a store, its root has no metadata of its own.
    assert found - tops <= {path for path in found if path.endswith((".zarr", ".zip"))}
    assert {path for path in tops if not any(_is_in(path, one) for one in found)} == set()


def _is_below_a_node(path: Path, root: Path) -> bool:
    return any(is_node(above) for above in path.parents if root in above.parents)


def _is_in(path: str, store: str) -> bool:
    return f"{path}/".startswith(f"{store}/")
