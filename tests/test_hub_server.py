"""The Hub of the tests, judged by the libraries that talk to the real one."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("huggingface_hub", minversion="1.0")
pytest.importorskip("datasets")

from hub import Answer, Asked, Hub, in_process, run_python
from hubstores import hub as hub
from hubstores import log_in as log_in
from hubstores import servers as servers

LARGE = bytes(range(256)) * 4000
CARD = "---\nlicense: mit\ntags: [zarr]\n---\n# A dataset\n"
FILES = {
    "README.md": CARD,
    "a.zarr/zarr.json": "{}",
    "a.zarr/c/0/0": LARGE,
    "a.zarr/c/0/1": b"\0\1\2",
    "b/é x.txt": "ten bytes\n",
}


@pytest.fixture
def data(hub: Hub) -> str:
    """A public dataset repo."""
    return hub.add_repo("user/data", FILES).id


def parquet(values: list[int]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table({"x": values}), buffer)
    return buffer.getvalue()


# Reading with huggingface_hub.


def test_whoami_needs_a_known_token(hub: Hub, log_in: Callable[..., None]) -> None:
    from huggingface_hub import whoami
    from huggingface_hub.errors import HfHubHTTPError

    log_in("ada", orgs=("lab",))
    assert (whoami()["name"], whoami()["orgs"][0]["name"]) == ("ada", "lab")
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        whoami(token="hf_unknown")


def test_info_tells_sha_siblings_and_card(data: str, hub: Hub) -> None:
    from huggingface_hub import dataset_info

    info = dataset_info(data, files_metadata=True)
    assert info.sha == hub.repo(data).head().oid
    assert {s.rfilename for s in info.siblings} == set(FILES)
    sizes = {s.rfilename: (s.size, s.lfs is not None) for s in info.siblings}
    assert sizes["a.zarr/c/0/0"] == (len(LARGE), True)
    assert sizes["a.zarr/zarr.json"] == (2, False)
    assert info.card_data.license == "mit"
    assert info.private is False


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize("expand", [False, True])
def test_a_tree_is_listed_page_by_page(data: str, hub: Hub, size: int, expand: bool) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFolder

    hub.page_size = size
    found = list(
        HfApi(hub.url).list_repo_tree(data, repo_type="dataset", recursive=True, expand=expand)
    )
    folders = {entry.path for entry in found if isinstance(entry, RepoFolder)}
    files = {entry.path: entry.size for entry in found if not isinstance(entry, RepoFolder)}
    assert folders == {"a.zarr", "a.zarr/c", "a.zarr/c/0", "b"}
    assert files == {path: len(bytes(held)) for path, held in hub.files(data).items()}
    assert all((entry.last_commit is not None) == expand for entry in found)
    assert len(hub.log.find("/tree/")) == -(-len(found) // size)


def test_a_folder_is_listed_one_level_deep(data: str) -> None:
    from huggingface_hub import list_repo_tree
    from huggingface_hub.errors import EntryNotFoundError

    found = list_repo_tree(data, "a.zarr/c", repo_type="dataset")
    assert [entry.path for entry in found] == ["a.zarr/c/0"]
    with pytest.raises(EntryNotFoundError):
        list(list_repo_tree(data, "a.zarr/nothing", repo_type="dataset"))


def test_paths_info_leaves_out_what_is_not_there(data: str) -> None:
    from huggingface_hub import HfApi

    found = HfApi().get_paths_info(
        data, ["b", "b/é x.txt", "nothing", "a.zarr/c/0/0"], repo_type="dataset", expand=True
    )
    assert [entry.path for entry in found] == ["b", "b/é x.txt", "a.zarr/c/0/0"]
    assert found[2].lfs.sha256 == found[2].lfs.sha256.lower()
    assert found[2].last_commit.title == "add files"


@pytest.mark.parametrize("path", sorted(FILES))
def test_every_file_is_downloaded_whole(data: str, hub: Hub, path: str) -> None:
    from huggingface_hub import hf_hub_download

    local = hf_hub_download(data, path, repo_type="dataset")
    assert Path(local).read_bytes() == hub.files(data)[path]
    large = path.startswith("a.zarr/c")
    assert bool(hub.log.find(origin="cdn")) == large
    assert bool(hub.log.find("/api/resolve-cache/")) == (not large)


def test_models_and_spaces_have_their_own_addresses(hub: Hub) -> None:
    from huggingface_hub import hf_hub_download

    for kind in ("model", "space"):
        hub.add_repo("user/thing", {"x.txt": kind}, type=kind)
        assert Path(hf_hub_download("user/thing", "x.txt", repo_type=kind)).read_text() == kind


def test_what_is_missing_is_told_apart(data: str, log_in: Callable[..., None]) -> None:
    from huggingface_hub import dataset_info, hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    for token in (False, None):
        log_in()
        with pytest.raises(RepositoryNotFoundError):
            dataset_info("user/nothing", token=token)
        with pytest.raises(RevisionNotFoundError):
            dataset_info(data, revision="nothing", token=token)
        with pytest.raises(EntryNotFoundError):
            hf_hub_download(data, "nothing", repo_type="dataset", token=token)


def test_a_revision_is_a_branch_a_tag_or_a_commit(data: str, hub: Hub) -> None:
    from huggingface_hub import HfFileSystem, hf_hub_download, list_repo_refs

    repo = hub.repo(data)
    old = repo.head().oid
    repo.refs["refs/tags/v1"] = repo.refs["refs/pr/1"] = old
    hub.add_commit(repo, {"b/é x.txt": "new"})
    for revision, text in [(old, "ten bytes\n"), ("v1", "ten bytes\n"), ("main", "new")]:
        local = hf_hub_download(data, "b/é x.txt", repo_type="dataset", revision=revision)
        assert Path(local).read_text() == text
    refs = list_repo_refs(data, repo_type="dataset", include_pull_requests=True)
    assert [(tag.name, tag.target_commit) for tag in refs.tags] == [("v1", old)]
    assert [ref.ref for ref in refs.pull_requests] == ["refs/pr/1"]
    fs = HfFileSystem()
    assert fs.cat(f"datasets/{data}@{old}/b/é x.txt") == b"ten bytes\n"
    assert fs.cat(f"datasets/{data}@refs/pr/1/b/é x.txt") == b"ten bytes\n"
    assert fs.ls(f"datasets/{data}@refs/pr/1/b", detail=False)


def test_the_file_system_lists_and_reads_ranges(data: str, hub: Hub) -> None:
    import fsspec

    fs = fsspec.filesystem("hf")
    root = f"datasets/{data}"
    assert fs.ls(f"{root}/a.zarr", detail=False) == [f"{root}/a.zarr/c", f"{root}/a.zarr/zarr.json"]
    assert fs.cat(f"{root}/a.zarr/c/0/0") == LARGE
    assert fs.cat_file(f"{root}/a.zarr/c/0/0", start=1000, end=1010) == LARGE[1000:1010]
    assert fs.cat_file(f"{root}/a.zarr/c/0/0", start=-10) == LARGE[-10:]
    assert len(fs.find(root)) == len(FILES)
    with pytest.raises(FileNotFoundError):
        fs.cat(f"{root}/a.zarr/c/9/9")


def fetch(url: str, **headers: str) -> Any:
    from huggingface_hub import get_session

    return get_session().get(url, headers={n.replace("_", "-"): t for n, t in headers.items()})


@pytest.mark.parametrize(
    ("wanted", "status", "stretch"),
    [
        ("bytes=0-3", 206, slice(0, 4)),
        ("bytes=10-", 206, slice(10, None)),
        ("bytes=-5", 206, slice(-5, None)),
        ("bytes=5-99999999", 206, slice(5, None)),
        ("bytes=99999999-", 416, slice(0, 0)),
        ("parsecs=1-2", 200, slice(None)),
    ],
)
@pytest.mark.parametrize("path", ["a.zarr/c/0/0", "b/é x.txt"])
def test_ranges(data: str, hub: Hub, path: str, wanted: str, status: int, stretch: slice) -> None:
    held = hub.files(data)[path]
    if wanted == "bytes=10-" and len(held) == 10:
        status, stretch = 416, slice(0, 0)
    got = fetch(f"{hub.url}/datasets/{data}/resolve/main/{path}", Range=wanted)
    assert (got.status_code, got.content) == (status, held[stretch])
    start, stop, _ = stretch.indices(len(held))
    said = f"bytes {start}-{stop - 1}/{len(held)}" if status == 206 else f"bytes */{len(held)}"
    assert got.headers.get("Content-Range") == (None if status == 200 else said)


def test_a_redirect_to_the_cdn_tells_what_lies_there(data: str, hub: Hub) -> None:
    from huggingface_hub import get_hf_file_metadata, get_session, hf_hub_url

    url = hf_hub_url(data, "a.zarr/c/0/0", repo_type="dataset")
    about = get_hf_file_metadata(url)
    assert about.size == len(LARGE)
    assert about.commit_hash == hub.repo(data).head().oid
    assert about.location.startswith(hub.cdn_url)
    assert get_session().get(about.location).content == LARGE


def test_a_signed_address_expires_and_is_good_for_nothing_else(data: str, hub: Hub) -> None:
    from huggingface_hub import get_hf_file_metadata, get_session, hf_hub_url

    there = get_hf_file_metadata(hf_hub_url(data, "a.zarr/c/0/0", repo_type="dataset")).location
    assert get_session().put(there, content=b"evil").status_code == 403
    assert get_session().get(there.replace("Signature=", "Signature=0")).status_code == 403
    now = hub.clock()
    hub.clock = lambda: now + hub.lifetime + 1
    late = get_session().get(there)
    assert (late.status_code, b"expired" in late.content) == (403, True)


def test_the_token_goes_to_the_hub_and_not_to_the_cdn(
    data: str, hub: Hub, log_in: Callable[..., None]
) -> None:
    from huggingface_hub import hf_hub_download

    log_in()
    hf_hub_download(data, "a.zarr/c/0/0", repo_type="dataset")
    assert {request.origin for request in hub.log} == {"hub", "cdn"}
    told = hub.log.holding("hf_secret_of_user")
    assert told
    assert {request.origin for request in told} == {"hub"}


def test_a_private_repo_is_there_for_its_readers_alone(
    hub: Hub, log_in: Callable[..., None], tmp_path: Path
) -> None:
    from huggingface_hub import HfFileSystem, hf_hub_download
    from huggingface_hub.errors import RepositoryNotFoundError

    hub.add_repo("user/secret", FILES, private=True)
    hub.add_repo("user/other", FILES, private=True)
    fine = hub.add_token("hf_fine", "guest", repos=("user/secret",)).secret
    stranger = hub.add_token("hf_stranger", "stranger").secret
    for token in (False, stranger):
        with pytest.raises(RepositoryNotFoundError):
            hf_hub_download("user/secret", "README.md", repo_type="dataset", token=token)
    local = hf_hub_download("user/secret", "a.zarr/c/0/0", repo_type="dataset", token=fine)
    assert Path(local).read_bytes() == LARGE
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("user/other", "README.md", repo_type="dataset", token=fine)
    assert HfFileSystem(token=fine).exists("datasets/user/secret/README.md")
    with pytest.raises(FileNotFoundError, match="repository not found"):
        HfFileSystem(token=False).ls("datasets/user/secret")
    statuses = {request.headers.get("authorization"): request.status for request in hub.log}
    assert statuses[None] == 401


def test_a_fault_is_sent_in_place_of_an_answer(data: str, hub: Hub) -> None:
    from huggingface_hub import __version__, list_repo_tree

    if __version__.startswith("1."):
        pytest.skip("huggingface_hub 1 does not ask again")

    left = [Answer(503)]

    def fault(asked: Asked) -> Answer | None:
        return left.pop() if "/tree/" in asked.target and left else None

    hub.faults.append(fault)
    assert list(list_repo_tree(data, repo_type="dataset"))
    assert [request.status for request in hub.log.find("/tree/")] == [503, 200]


# datasets, and processes of their own.


def test_datasets_loads_what_a_card_names(hub: Hub) -> None:
    import datasets

    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n"
    card += "    path: data/train-*.parquet\n  - split: test\n    path: data/test-*.parquet\n---\n"
    files = {"train-0": parquet([1, 2, 3]), "test-0": parquet([4])}
    hub.add_repo(
        "user/index", {"README.md": card, **{f"data/{n}.parquet": b for n, b in files.items()}}
    )
    loaded = datasets.load_dataset("user/index")
    assert {name: split["x"][:] for name, split in loaded.items()} == {
        "train": [1, 2, 3],
        "test": [4],
    }
    streamed = datasets.load_dataset("user/index", split="train", streaming=True)
    assert [row["x"] for row in streamed] == [1, 2, 3]


def test_datasets_pushes_and_loads(
    hub: Hub, log_in: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    log_in()
    made = datasets.Dataset.from_dict({"x": [1, 2], "name": ["a", "b"]})
    made.push_to_hub("user/pushed", private=True)
    made.push_to_hub("user/pushed", split="test")
    assert set(hub.files("user/pushed")) == {
        ".gitattributes",
        "README.md",
        "data/train-00000-of-00001.parquet",
        "data/test-00000-of-00001.parquet",
    }
    assert hub.repo("user/pushed").private
    loaded = datasets.load_dataset("user/pushed")
    assert loaded["train"][:] == loaded["test"][:] == {"x": [1, 2], "name": ["a", "b"]}
    in_process(hub, monkeypatch, tmp_path / "of nobody")
    with pytest.raises(datasets.exceptions.DatasetNotFoundError):
        datasets.load_dataset("user/pushed")


def test_a_process_of_its_own_sees_this_hub_alone(hub: Hub, data: str, tmp_path: Path) -> None:
    secret = hub.add_token("hf_of_process", "ada").secret
    said = run_python(
        hub,
        f"""
        import json
        from huggingface_hub import HfFileSystem, constants, get_token, whoami
        found = HfFileSystem().cat("datasets/{data}/a.zarr/zarr.json").decode()
        print(json.dumps([constants.ENDPOINT, constants.HF_HOME, whoami()["name"], found]))
        """,
        tmp_path,
        token=secret,
    )
    assert json.loads(said) == [hub.url, str(tmp_path), "ada", "{}"]
    with pytest.raises(RuntimeError, match="RepositoryNotFoundError"):
        run_python(
            hub, "from huggingface_hub import dataset_info; dataset_info('user/no')", tmp_path
        )
    assert "HF_TOKEN" not in os.environ
