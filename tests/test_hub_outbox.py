"""Files on their way to the Hub: order, names, and how full folders are."""

from __future__ import annotations

import ast
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfzarr.errors import HfzarrError, WriteError
from hfzarr.plan.push import PushPlan, StorePush, fullest_folder, store_paths
from hfzarr.store.hub import outbox as hub_outbox
from hfzarr.store.hub.outbox import Outbox
from hfzarr.store.hub.paths import parse_hub_url
from hfzarr.store.hub.repo import Parcel, Stored, parse_repo


class Repo:
    """A repo of this process: what is committed, commit by commit."""

    def __init__(self, *, versioned: bool = True, inline: bool = False) -> None:
        root = "hf://datasets/ada/cells" if versioned else "hf://buckets/ada/cells"
        self.place = parse_hub_url(root)
        self.inline = inline
        self.files: dict[str, bytes] = {}
        self.commits: list[dict[str, bytes]] = []
        self.sent: dict[int, bytes] = {}
        self.fails = 0
        self.batches: list[int] = []

    def head(self) -> str | None:
        return "0" * 40 if self.place.versioned else None

    def listing(self, commit: str | None = None) -> dict[str, Stored]:
        return {path: Stored(size=len(data)) for path, data in self.files.items()}

    def has_all_of(self, parcel: Parcel) -> bool:
        return not self.inline or not self.place.versioned

    def _may_fail(self) -> None:
        if self.fails:
            self.fails -= 1
            raise WriteError("no")

    def upload(self, parcels: Sequence[Parcel]) -> None:
        self._may_fail()
        self.batches.append(len(parcels))
        for one in parcels:
            data = Path(one.file).read_bytes()
            if len(data) != one.size:
                raise AssertionError((one, len(data)))
            if self.place.versioned:
                self.sent[id(one)] = data
            else:
                self.files[one.path] = data
            if one.owned and self.has_all_of(one):
                Path(one.file).unlink()

    def commit(self, parcels: Sequence[Parcel], deleted: Iterable[str], message: str) -> str | None:
        self._may_fail()
        for path in deleted:
            del self.files[path]
        if self.place.versioned:
            for one in parcels:
                self.files[one.path] = self.sent.pop(id(one))
                if one.owned:
                    Path(one.file).unlink(missing_ok=True)
        self.commits.append(dict(self.files))
        return f"{len(self.commits):040x}" if self.place.versioned else None


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_outbox, "_BATCH_FILES", 3)
    monkeypatch.setattr(hub_outbox, "_COMMIT_FILES", 4)


def put(outbox: Outbox, path: str, data: bytes) -> None:
    file = Path(outbox.folder) / f"{len(list(Path(outbox.folder).iterdir()))}-{id(data)}-{path}"
    number = 0
    while file.exists():
        number += 1
        file = file.with_name(f"{number}-{file.name}")
    file.write_bytes(data)
    outbox.put(path, str(file), len(data), owned=True)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "extend", "delete", "flush", "send", "fail"]),
        st.sampled_from(["a", "b", "c", "d", "e", "f"]),
        st.binary(max_size=12),
    ),
    max_size=40,
)


@pytest.mark.usefixtures("small")
class TestOutbox:
    """Batches of three files and commits of four."""

    @pytest.mark.parametrize("versioned", [True, False])
    @pytest.mark.parametrize("inline", [True, False])
    @settings(max_examples=50)
    @given(steps=STEPS, size=st.integers(1, 40))
    def test_it_ends_as_a_dict_would(
        self, versioned: bool, inline: bool, steps: list[Any], size: int
    ) -> None:
        repo = Repo(versioned=versioned, inline=inline)
        repo.files = {"a": b"old", "f": b"old too"}
        wanted = dict(repo.files)
        states = [dict(wanted)]
        with tempfile.TemporaryDirectory() as folder:
            outbox = Outbox(repo, folder, batch_bytes=size)  # type: ignore[arg-type]
            outbox.load()
            for what, path, data in steps:
                try:
                    self._step(outbox, repo, wanted, what, path, data)
                except WriteError:
                    repo.fails = 0
                states.append(dict(wanted))
                assert outbox.paths("") == sorted(wanted)
                for name in "abcdef":
                    found = outbox.find(name)
                    assert (None if found is None else found.size) == (
                        len(wanted[name]) if name in wanted else None
                    )
            repo.fails = 0
            outbox.flush()
            left = list(Path(folder).iterdir())
        assert repo.files == wanted
        assert left == []
        if versioned:
            # Each commit is what there was at some moment, and none goes back.
            at = 0
            for commit in repo.commits:
                at = states.index(commit, at)

    def _step(
        self,
        outbox: Outbox,
        repo: Repo,
        wanted: dict[str, bytes],
        what: str,
        path: str,
        data: bytes,
    ) -> None:
        if what == "put":
            wanted[path] = data
            put(outbox, path, data)
        elif what == "extend":
            if outbox.extend(path, data):
                wanted[path] += data
        elif what == "delete":
            wanted.pop(path, None)
            outbox.delete(path)
        elif what == "fail":
            repo.fails = 1
        else:
            outbox.send(everything=what == "flush")
            if what == "flush":
                outbox.flush()

    def test_what_comes_later_never_arrives_earlier(self, tmp_path: Path) -> None:
        """Of each thread: the n-th of its files is there before the one after it."""
        repo = Repo()
        outbox = Outbox(repo, str(tmp_path), batch_bytes=200)  # type: ignore[arg-type]
        outbox.load()

        def work(name: str) -> None:
            for number in range(40):
                file = tmp_path / f"{name}-{number}.part"
                file.write_bytes(bytes(10))
                outbox.put(f"{name}/{number:02}", str(file), 10, owned=True)

        threads = [threading.Thread(target=work, args=[name]) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        outbox.flush()
        assert len(repo.files) == 160
        for commit in repo.commits:
            for name in "abcd":
                held = sorted(path for path in commit if path.startswith(name))
                assert held == [f"{name}/{number:02}" for number in range(len(held))]
        assert list(tmp_path.iterdir()) == []
        assert max(repo.batches) <= 3 + 4

    def test_files_of_others_are_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "mine").write_bytes(b"mine")
        repo = Repo()
        outbox = Outbox(repo, str(tmp_path), batch_bytes=1)  # type: ignore[arg-type]
        outbox.load()
        outbox.put("a", str(tmp_path / "mine"), 4, owned=False)
        outbox.delete("a")
        outbox.put("b", str(tmp_path / "mine"), 4, owned=False)
        outbox.flush()
        assert (tmp_path / "mine").read_bytes() == b"mine"
        assert repo.files == {"b": b"mine"}

    def test_copied_files_make_no_more_commits(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """They were sent, and wait for their names only, though they lie here still."""
        monkeypatch.setattr(hub_outbox, "_COMMIT_FILES", 1000)
        monkeypatch.setattr(hub_outbox, "_COMMIT_INLINE", 50)
        repo = Repo()
        outbox = Outbox(repo, str(tmp_path / "out"), batch_bytes=30)  # type: ignore[arg-type]
        outbox.load()
        for number in range(60):
            (tmp_path / f"{number}").write_bytes(bytes(10))
            outbox.put(f"c/{number}", str(tmp_path / f"{number}"), 10, owned=False)
        outbox.flush()
        assert len(repo.commits) <= 2

    def test_a_bucket_keeps_nothing_that_was_deleted(self, tmp_path: Path) -> None:
        """There, what was sent has its name at once."""
        repo = Repo(versioned=False)
        outbox = Outbox(repo, str(tmp_path), batch_bytes=1)  # type: ignore[arg-type]
        outbox.load()
        put(outbox, "plan.json", b"1")
        assert repo.files == {"plan.json": b"1"}
        outbox.delete("plan.json")
        assert outbox.find("plan.json") is None
        outbox.flush()
        assert repo.files == {}

    def test_a_file_is_deleted_twice(self, tmp_path: Path) -> None:
        repo = Repo()
        repo.files = {"a": b"1"}
        outbox = Outbox(repo, str(tmp_path), batch_bytes=1)  # type: ignore[arg-type]
        outbox.load()
        outbox.delete("a")
        outbox.delete("a")
        outbox.flush()
        assert repo.files == {}

    def test_paths_below_a_folder(self, tmp_path: Path) -> None:
        repo = Repo()
        repo.files = {"a/b/c": b"1", "a/b/d": b"1", "a/bc": b"1", "ab": b"1"}
        outbox = Outbox(repo, str(tmp_path), batch_bytes=1000)  # type: ignore[arg-type]
        outbox.load()
        put(outbox, "a/b/new".replace("/", "_"), b"")
        (tmp_path / "x").write_bytes(b"")
        outbox.put("a/b/e", str(tmp_path / "x"), 0, owned=True)
        outbox.delete("a/b/c")
        assert outbox.paths("a/b") == ["a/b/d", "a/b/e"]
        assert outbox.paths("a") == ["a/b/d", "a/b/e", "a/bc"]
        assert outbox.paths("a/bc") == ["a/bc"]
        assert outbox.paths("nothing") == []

    def test_what_is_missing_is_told(self, tmp_path: Path) -> None:
        repo = Repo()
        outbox = Outbox(repo, str(tmp_path), batch_bytes=1)  # type: ignore[arg-type]
        outbox.load()
        put(outbox, "a", b"12345")
        outbox.flush()
        outbox.check([""])
        repo.files["a"] = b"1"
        with pytest.raises(WriteError, match=r"'a' was sent with 5 bytes, and has 1 bytes"):
            outbox.check([""])
        del repo.files["a"]
        with pytest.raises(WriteError, match=r"'a'.* is not there.*Push again"):
            outbox.check([""])


# Where stores lie

NAMES = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.lists(
            st.sampled_from(
                ["a", "A", "b.zarr", "B.ZARR", "a-2", "a-2.zarr", ".git", "..", ".", "", "c d", "é"]
            ),
            min_size=1,
            max_size=4,
        ).map("/".join),
    ),
    max_size=12,
)


def test_a_store_in_another_ends() -> None:
    code = "from hfzarr.plan.push import store_paths; print(store_paths(['a', 'a/b', 'A/c/d']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=True)
    assert len(set(ast.literal_eval(done.stdout.decode().lower()))) == 3


@given(NAMES)
def test_paths_are_distinct_and_safe(names: list[str]) -> None:
    found = store_paths(names)
    assert len(found) == len(names)
    assert store_paths(names) == found
    lower = [path.lower() for path in found]
    assert len(set(lower)) == len(lower)
    for path in found:
        parts = path.split("/")
        assert all(part and part == part.strip() and part[0] != "." for part in parts)
        assert not set(path) & set('\\:*?"<>|#%\0\n')
        parse_hub_url(f"hf://datasets/ada/cells/{path}")
    for one in lower:
        assert not [other for other in lower if other.startswith(f"{one}/")]


@given(st.lists(st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3}){0,2}\.zarr", fullmatch=True), unique=True))
def test_sound_names_stay(names: list[str]) -> None:
    assert store_paths(names) == names


@given(NAMES)
def test_a_path_is_a_sound_name(names: list[str]) -> None:
    found = store_paths(names)
    assert store_paths(found) == found


@pytest.mark.parametrize("name", ["README.md", "readme.MD", ".gitattributes", ".hfzarr", "data"])
def test_no_store_lies_where_files_of_the_repo_do(name: str) -> None:
    ours = {"readme.md", ".gitattributes", ".hfzarr", ".git"}
    assert store_paths([name])[0].lower() not in ours


def test_very_many_stores_are_spread() -> None:
    names = [f"{number}.zarr" for number in range(12_000)]
    found = store_paths(names)
    assert fullest_folder(found) <= 5000
    assert len(set(found)) == len(names)
    assert store_paths([*names, "more.zarr"])[:-1] == found


KEYS = st.lists(st.from_regex(r"[ab]{1,2}(/[abc]{1,2}){0,3}", fullmatch=True), unique=True)


@given(KEYS)
def test_the_fullest_folder(keys: list[str]) -> None:
    below: dict[str, set[str]] = {}
    for key in keys:
        parts = key.split("/")
        for depth in range(len(parts)):
            below.setdefault("/".join(parts[:depth]), set()).add(parts[depth])
    assert fullest_folder(keys) == max((len(names) for names in below.values()), default=0)


# The plan


def store(path: str, **more: Any) -> StorePush:
    told = {"route": "copy", "files_before": 3, "files_after": 3, "nbytes": 9, "fullest": 2}
    return StorePush(**{"path": path, "source": path, **told, **more})


def test_a_plan_refuses_and_warns() -> None:
    repo = "hf://datasets/ada/cells"
    plan = PushPlan(repo=repo, data_repo=repo, stores=(store("a", fullest=10_001),), rows=1)
    assert "10,001 files in one folder" in plan.refusal()
    many = tuple(store(f"x/{number}.zarr") for number in range(10_001))
    plan = PushPlan(repo=repo, data_repo=repo, stores=many, rows=1)
    assert "10,001 stores would lie in the folder 'x'" in plan.refusal()
    assert "and 9,971 more stores" in str(plan)
    crowd = PushPlan(repo=repo, data_repo=repo, stores=many[:9000], rows=1, files_there=80_000)
    assert crowd.refusal() == ""
    assert "107,000 files" in crowd.warning()
    bucket = PushPlan(
        repo=repo, data_repo="hf://buckets/a/b", stores=many[:9000], rows=1, files_there=80_000
    )
    assert bucket.warning() == ""


def test_a_plan_shows_names_as_they_are() -> None:
    repo = "hf://datasets/ada/cells"
    plan = PushPlan(repo=repo, data_repo=repo, stores=(store("<b>&x.zarr", note="<i>"),), rows=1)
    assert "<b>&x.zarr" in str(plan)
    assert "<b>" not in plan._repr_html_()
    assert "<i>" not in plan._repr_html_()
    assert "&lt;b&gt;&amp;x.zarr" in plan._repr_html_()


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("ada/cells", "hf://datasets/ada/cells"),
        ("hf://datasets/ada/cells", "hf://datasets/ada/cells"),
        ("datasets/ada/cells/", "hf://datasets/ada/cells"),
        ("buckets/ada/cells", "hf://buckets/ada/cells"),
        ("hf://buckets/ada/cells", "hf://buckets/ada/cells"),
    ],
)
def test_names_of_repos(name: str, url: str) -> None:
    assert parse_repo(name).url == url
    if "buckets" not in name:
        assert parse_repo(name, "dev").url == f"{url}@dev"


@pytest.mark.parametrize(
    "name",
    ["", "cells", "a/b/c", "hf://ada", "https://host/ada/cells", "models/a/b", "a/b c", None, 3],
)
def test_names_of_no_repos(name: Any) -> None:
    with pytest.raises(HfzarrError, match="named"):
        parse_repo(name)
