"""The Hub of the tests, written to by the libraries that write to the real one."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("huggingface_hub", minversion="1.0")

from hub import Answer, Hub, hasten
from hub.faults import Break, Fault, Outage, dropped, status
from hubstores import hub as hub
from hubstores import log_in as log_in
from hubstores import servers as servers

LARGE = bytes(range(256)) * 4000
FILES = {
    "README.md": "---\nlicense: mit\ntags: [zarr]\n---\n# A dataset\n",
    "a.zarr/zarr.json": "{}",
    "a.zarr/c/0/0": LARGE,
    "a.zarr/c/0/1": b"\0\1\2",
    "b/é x.txt": "ten bytes\n",
}


@pytest.fixture
def data(hub: Hub) -> str:
    """A public dataset repo."""
    return hub.add_repo("user/data", FILES).id


def test_a_repo_is_made_once(hub: Hub, log_in: Callable[..., None]) -> None:
    from huggingface_hub import create_branch, create_repo, create_tag, delete_repo, repo_exists
    from huggingface_hub.errors import HfHubHTTPError

    log_in("ada", orgs=("lab",))
    made = create_repo("lab/new", repo_type="dataset", private=True)
    assert (made.repo_id, made.repo_type) == ("lab/new", "dataset")
    assert hub.repo("lab/new").private
    assert create_repo("lab/new", repo_type="dataset", exist_ok=True).repo_id == "lab/new"
    with pytest.raises(HfHubHTTPError, match="409"):
        create_repo("lab/new", repo_type="dataset")
    with pytest.raises(HfHubHTTPError, match="403"):
        create_repo("user/new", repo_type="dataset")
    create_branch("lab/new", branch="dev", repo_type="dataset")
    create_tag("lab/new", tag="v1", repo_type="dataset")
    assert set(hub.repo("lab/new").refs) == {"refs/heads/main", "refs/heads/dev", "refs/tags/v1"}
    delete_repo("lab/new", repo_type="dataset")
    assert not repo_exists("lab/new", repo_type="dataset")


def test_files_are_uploaded_small_and_large(
    hub: Hub, log_in: Callable[..., None], tmp_path: Path
) -> None:
    from huggingface_hub import upload_file, upload_folder

    log_in()
    hub.add_repo("user/new")
    folder = tmp_path / "up"
    for path, text in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(text.encode() if isinstance(text, str) else text)
    made = upload_folder(repo_id="user/new", folder_path=folder, repo_type="dataset")
    held = hub.repo("user/new").head()
    assert made.oid == held.oid
    assert {p: f.data for p, f in held.files.items()} == {
        p: t.encode() if isinstance(t, str) else t for p, t in FILES.items()
    }
    assert {p for p, f in held.files.items() if f.lfs} == {"a.zarr/c/0/0", "a.zarr/c/0/1"}
    assert len(hub.log.find(method="PUT", origin="cdn")) == 2
    hub.log.clear()
    upload_file(path_or_fileobj=LARGE, path_in_repo="x", repo_id="user/new", repo_type="dataset")
    assert hub.files("user/new")["x"] == LARGE
    assert not hub.log.find(origin="cdn")  # an object that is there is not sent again
    assert all(request.origin == "hub" for request in hub.log.holding("hf_secret_of_user"))


def test_a_commit_is_refused_whole(hub: Hub, data: str, log_in: Callable[..., None]) -> None:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, create_commit
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    log_in()
    old = hub.repo(data).head().oid
    add = [CommitOperationAdd("new.txt", b"new"), CommitOperationDelete("a.zarr/")]
    made = create_commit(data, add, commit_message="both", repo_type="dataset", parent_commit=old)
    assert set(hub.files(data)) == {"README.md", "b/é x.txt", "new.txt"}
    assert set(hub.files(data, revision=old)) == set(FILES)
    with pytest.raises(HfHubHTTPError, match="412"):
        create_commit(
            data,
            [CommitOperationAdd("late.txt", b"late")],
            commit_message="late",
            repo_type="dataset",
            parent_commit=old,
        )
    with pytest.raises(HfHubHTTPError, match="doesn't exist"):
        create_commit(
            data,
            [CommitOperationAdd("a", b"a"), CommitOperationDelete("nothing")],
            commit_message="no",
            repo_type="dataset",
        )
    log_in("stranger")
    with pytest.raises(HfHubHTTPError, match="403") as refused:
        create_commit(
            data, [CommitOperationAdd("b", b"b")], commit_message="no", repo_type="dataset"
        )
    assert not isinstance(refused.value, RepositoryNotFoundError)
    assert hub.repo(data).head().oid == made.oid


def test_a_pull_request_leaves_main_alone(hub: Hub, data: str, log_in: Callable[..., None]) -> None:
    from huggingface_hub import upload_file

    log_in()
    made = upload_file(
        path_or_fileobj=b"x",
        path_in_repo="x",
        repo_id=data,
        repo_type="dataset",
        create_pr=True,
    )
    assert made.pr_revision == "refs/pr/1"
    assert "x" not in hub.files(data)
    assert "x" in hub.files(data, revision="refs/pr/1")


def test_a_card_that_is_no_yaml_is_refused(
    hub: Hub, data: str, log_in: Callable[..., None]
) -> None:
    from huggingface_hub import upload_file

    log_in()
    with pytest.raises(ValueError, match=r"Invalid metadata in README\.md"):
        upload_file(
            path_or_fileobj=b"---\na: [\n---\n",
            path_in_repo="README.md",
            repo_id=data,
            repo_type="dataset",
        )


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that begin with a zero, so that the Hub takes them for binary."""
    return b"\0" + random.Random(seed).randbytes(size - 1)


def push(repo: str, files: dict[str, bytes], **options: Any) -> str:
    """Commit files; give the commit's oid."""
    from huggingface_hub import CommitOperationAdd, create_commit

    add = [CommitOperationAdd(path, held) for path, held in files.items()]
    options = {"repo_type": "dataset", "commit_message": "push", **options}
    return create_commit(repo, add, **options).oid


# What the real one does besides.


def test_a_new_repo_says_which_files_are_large(hub: Hub, log_in: Callable[..., str]) -> None:
    from huggingface_hub import create_repo

    log_in()
    create_repo("user/new", repo_type="dataset")
    assert set(hub.files("user/new")) == {".gitattributes"}
    push("user/new", {"x.npy": b"text", "y.txt": b"text"})
    assert {p for p, f in hub.repo("user/new").head().files.items() if f.lfs} == {"x.npy"}
    push("user/new", {".gitattributes": b"*.txt filter=lfs diff=lfs merge=lfs -text\n"})
    push("user/new", {"z.txt": b"text", "z.npy": b"text"})
    held = hub.repo("user/new").head().files
    assert {path for path, file in held.items() if file.lfs} == {"x.npy", "z.txt"}


@pytest.mark.parametrize("size", [99, 100, 101, 200, 350])
def test_a_large_object_goes_up_in_parts(
    hub: Hub, data: str, log_in: Callable[..., str], size: int
) -> None:
    log_in()
    hub.part_size = 100
    push(data, {"n.bin": noise(size)})
    assert hub.files(data)["n.bin"] == noise(size)
    parts = 1 if size <= 100 else -(-size // 100)
    assert len(hub.log.find(method="PUT", origin="cdn")) == parts
    assert len(hub.log.find("/complete-multipart/")) == (parts > 1)
    assert {request.origin for request in hub.log.holding("hf_secret")} == {"hub"}


def test_parts_that_were_swapped_make_no_object(
    hub: Hub, data: str, log_in: Callable[..., str]
) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    log_in()
    hub.part_size = 100

    def swapped(asked: Any) -> Answer | None:
        if asked.method == "PUT" and asked.parts[-1] == "1":
            with hub.state.lock:
                hub.repo(data).parts.setdefault(asked.parts[-2], {})[1] = b"else"
            return Answer(200, b"", {"ETag": '"tag"'})
        return None

    hub.faults.append(swapped)
    with pytest.raises((HfHubHTTPError, RuntimeError)):
        push(data, {"n.bin": noise(250)})
    assert set(hub.files(data)) == set(FILES)


def test_what_arrived_is_not_sent_again(hub: Hub, data: str, log_in: Callable[..., str]) -> None:
    from huggingface_hub import CommitOperationAdd, create_commit, preupload_lfs_files

    log_in()
    first = [CommitOperationAdd(f"c/{n}", noise(1000, n)) for n in range(5)]
    preupload_lfs_files(data, first, repo_type="dataset")
    assert len(hub.log.find(method="PUT")) == 5
    assert all(operation.path_or_fileobj == b"" for operation in first)  # memory is given back
    assert "c/0" not in hub.files(data)
    hub.log.clear()
    again = [CommitOperationAdd(f"c/{n}", noise(1000, n)) for n in range(7)]
    preupload_lfs_files(data, again, repo_type="dataset")
    assert len(hub.log.find(method="PUT")) == 2
    create_commit(data, again, commit_message="all", repo_type="dataset")
    assert {path for path in hub.files(data) if path.startswith("c/")} == {
        f"c/{n}" for n in range(7)
    }


def test_files_are_asked_for_in_batches(hub: Hub, data: str, log_in: Callable[..., str]) -> None:
    log_in()
    push(data, {f"{n}.txt": b"x" for n in range(300)})
    assert len(hub.log.find("/preupload/")) == 2
    assert len(hub.files(data)) == 300 + len(FILES)


@pytest.mark.parametrize(
    ("limit", "most", "said"),
    [
        ("most_files_in_folder", 4, r"too many files per directory.*up to 4 files: c \(5\)"),
        ("most_files_in_repo", 9, "At most 9 files a repo, not 10"),
        ("most_large_files", 4, "At most 4 LFS files a commit, not 5"),
        ("most_files_in_preupload", 4, "413"),
    ],
)
def test_limits(
    hub: Hub, data: str, log_in: Callable[..., str], limit: str, most: int, said: str
) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    log_in()
    setattr(hub, limit, most)
    with pytest.raises(HfHubHTTPError, match=said):
        push(data, {f"c/{n}": noise(10, n) for n in range(5)})
    assert set(hub.files(data)) == set(FILES)
    setattr(hub, limit, most + 1)
    push(data, {f"c/{n}": noise(10, n) for n in range(5)})
    assert len(hub.files(data)) == len(FILES) + 5


def test_a_name_is_a_file_or_a_folder(hub: Hub, data: str, log_in: Callable[..., str]) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    log_in()
    with pytest.raises(HfHubHTTPError, match="same name: b"):
        push(data, {"b": b"x"})


def test_a_branch_has_a_head_of_its_own(hub: Hub, data: str, log_in: Callable[..., str]) -> None:
    from huggingface_hub import create_branch
    from huggingface_hub.errors import RevisionNotFoundError

    log_in()
    with pytest.raises(RevisionNotFoundError):
        push(data, {"x.txt": b"x"}, revision="dev")
    create_branch(data, branch="dev", repo_type="dataset")
    push(data, {"x.txt": b"x"}, revision="dev")
    assert "x.txt" not in hub.files(data)
    assert hub.files(data, revision="dev")["x.txt"] == b"x"


def test_who_may_write(hub: Hub, data: str, log_in: Callable[..., str]) -> None:
    from huggingface_hub import create_repo
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    hub.add_repo("user/secret", FILES, private=True)
    log_in(write=False)
    with pytest.raises(HfHubHTTPError, match="403"):
        push(data, {"x.txt": b"x"})
    with pytest.raises(HfHubHTTPError, match="403"):
        create_repo("user/other", repo_type="dataset")
    log_in("stranger")
    for name in ("user/secret", "user/nothing"):
        with pytest.raises(RepositoryNotFoundError):
            push(name, {"x.txt": b"x"})
    log_in("user", repos=("user/secret",))
    push("user/secret", {"x.txt": b"x"})
    with pytest.raises(HfHubHTTPError, match="403"):
        push(data, {"x.txt": b"x"})


def test_a_gated_repo_is_seen_by_all_and_read_by_some(hub: Hub, log_in: Callable[..., str]) -> None:
    from huggingface_hub import dataset_info, hf_hub_download, list_repo_files
    from huggingface_hub.errors import GatedRepoError

    repo = hub.add_repo("user/gated", FILES, gated=True)
    assert dataset_info("user/gated").gated == "manual"
    assert "README.md" in list_repo_files("user/gated", repo_type="dataset")
    with pytest.raises(GatedRepoError, match="401"):
        hf_hub_download("user/gated", "a.zarr/zarr.json", repo_type="dataset")
    log_in("guest")
    with pytest.raises(GatedRepoError, match="403"):
        hf_hub_download("user/gated", "a.zarr/c/0/0", repo_type="dataset")
    repo.granted.add("guest")
    local = hf_hub_download("user/gated", "a.zarr/c/0/0", repo_type="dataset")
    assert Path(local).read_bytes() == LARGE


@pytest.mark.parametrize(
    ("front", "said"),
    [
        ("license: my-own", "license"),
        ("size_categories: [1M]", "size_categories"),
        ("tags: [1]", "tags"),
        ("configs: {config_name: a}", "configs"),
        ("configs: [{data_files: x}]", "config_name"),
        ("configs: [{config_name: a, data_files: [{split: train}]}]", "data_files"),
    ],
)
def test_a_card_that_the_hub_does_not_take(
    hub: Hub, data: str, log_in: Callable[..., str], front: str, said: str
) -> None:
    log_in()
    with pytest.raises(ValueError, match=said):
        push(data, {"README.md": f"---\n{front}\n---\n".encode()})
    assert hub.files(data)["README.md"] == FILES["README.md"].encode()


def test_a_card_that_says_nothing_is_warned_of(
    hub: Hub, data: str, log_in: Callable[..., str]
) -> None:
    log_in()
    with pytest.warns(UserWarning, match="empty or missing yaml"):
        push(data, {"README.md": b"# A dataset\n"})


# Faults in the middle of uploads.

PASSING: dict[str, Break] = {
    "500": status(500),
    "429": status(429, Retry_After="0"),
    "503": status(503),
    "dropped": dropped,
}


@pytest.mark.parametrize("name", sorted(PASSING))
@pytest.mark.parametrize("carried_out", [False, True])
@pytest.mark.parametrize("path", ["/preupload/", "/info/lfs/objects/batch", "/datasets/user/data/"])
def test_passing_faults_of_uploads(
    hub: Hub,
    data: str,
    log_in: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    carried_out: bool,
    path: str,
) -> None:
    from huggingface_hub import __version__

    if __version__.startswith("1."):
        pytest.skip("huggingface_hub 1 does not ask again")
    log_in()
    hasten(monkeypatch)
    origin = "cdn" if path.startswith("/datasets") else "hub"
    fault = Fault(hub, PASSING[name], path=path, origin=origin, carried_out=carried_out)
    hub.faults.append(fault)
    push(data, {f"c/{n}": noise(1000, n) for n in range(3)})
    assert fault.hits == 1
    assert hub.files(data)["c/2"] == noise(1000, 2)


@pytest.mark.parametrize("name", sorted(PASSING))
@pytest.mark.parametrize("carried_out", [False, True])
def test_a_commit_whose_answer_is_lost(
    hub: Hub, data: str, log_in: Callable[..., str], name: str, carried_out: bool
) -> None:
    log_in()
    hub.faults.append(Fault(hub, PASSING[name], path="/commit/", carried_out=carried_out))
    with pytest.raises(Exception, match=r"50\d|429|disconnected"):
        push(data, {"x.txt": b"x"})
    assert ("x.txt" in hub.files(data)) == carried_out
    push(data, {"x.txt": b"x"})
    assert hub.files(data)["x.txt"] == b"x"


def test_the_network_goes_away_and_comes_back(
    hub: Hub, data: str, log_in: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in()
    hasten(monkeypatch)
    outage = Outage(3, method="PUT", origin="cdn")
    hub.faults.append(outage)
    files = {f"c/{n}": noise(1000, n) for n in range(8)}
    with pytest.raises(Exception, match=r"disconnected|uploading"):
        push(data, files)
    assert outage.seen == 3
    assert outage.refused >= 1
    assert set(hub.files(data)) == set(FILES)
    there = len(hub.repo(data).objects)
    assert there == 2 + 3  # those of the repo, and those that arrived
    outage.over = True
    hub.log.clear()
    push(data, files)
    assert {path: hub.files(data)[path] for path in files} == files
    assert len(hub.log.find(method="PUT")) == 5
