"""Who may push, and where tokens and other secrets go: to the Hub, and nowhere else."""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import socket
import tempfile
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

pytest.importorskip("huggingface_hub", minversion="1.0")
pytest.importorskip("aiohttp")
pytest.importorskip("pyarrow")

import numpy as np
import xarray as xr

import hfzarr
from hfzarr.errors import HfzarrError, WriteError
from hub import Hub, run_python
from hub.faults import Fault, Outage, status
from hubstores import hub as hub
from hubstores import log_in as log_in
from hubstores import servers as servers
from pushes import (
    REPO,
    Scene,
    changes,
    check_index,
    dry,
    files_below,
    image_pixels,
    push,
    read_pushed,
    rows,
    write_chunks,
    write_small,
)
from pushes import ada as ada
from pushes import batches as batches
from pushes import scene as scene
from servers import s3_server

LOGIN = r"hf auth login.*HF_TOKEN.*token="


@pytest.fixture
def one(tmp_path: Path) -> Path:
    write_small(tmp_path / "1.zarr", 1)
    return tmp_path / "1.zarr"


@pytest.fixture
def quick(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hfzarr.store.hub.trouble._DELAYS", (0.01,))


# Rights


@pytest.mark.parametrize("there", [False, True])
def test_nobody_is_logged_in(hub: Hub, quick: None, one: Path, there: bool) -> None:
    if there:
        hub.add_repo(REPO)
    with pytest.raises(WriteError, match=LOGIN):
        push(one)
    assert not [request for request in changes(hub) if request.status < 400]


def test_a_dry_run_needs_no_login(hub: Hub, quick: None, one: Path) -> None:
    assert dry(one).files_after == 7 - 1


@pytest.mark.parametrize("there", [False, True])
def test_a_token_that_may_not_write(
    hub: Hub, quick: None, log_in: Callable[..., str], one: Path, there: bool
) -> None:
    log_in("ada", write=False)
    if there:
        hub.add_repo(REPO)
    with pytest.raises(WriteError, match=f"{LOGIN}.*right to write") as error:
        push(one)
    assert REPO in str(error.value)


@pytest.mark.parametrize("private", [False, True])
def test_the_repo_of_somebody_else(hub: Hub, ada: str, one: Path, private: bool) -> None:
    hub.add_repo("bob/cells", private=private)
    with pytest.raises(WriteError, match=LOGIN) as error:
        push(one, "bob/cells")
    assert "bob/cells" in str(error.value)
    assert set(hub.files("bob/cells")) == set()


def test_a_token_that_nobody_knows(hub: Hub, quick: None, one: Path) -> None:
    with pytest.raises(WriteError, match=LOGIN) as error:
        push(one, token="hf_unknown_token")
    assert "hf_unknown_token" not in told_by(error.value)


def test_a_gated_repo(hub: Hub, ada: str, one: Path) -> None:
    hub.add_repo("bob/cells", {"x": "y"}, gated=True)
    with pytest.raises(WriteError):
        push(one, "bob/cells")
    hub.add_repo(REPO, {"x": "y"}, gated=True)
    push(one)
    assert check_index(hub, {"1.zarr": image_pixels(1)}) == 1


@pytest.mark.parametrize("private", [True, False, None])
def test_private(hub: Hub, ada: str, one: Path, private: bool | None) -> None:
    done = push(one, private=private, data_repo="ada/scans")
    assert hub.repo(REPO).private is bool(private)
    assert hub.repo("ada/scans").private is bool(private)
    opened = xr.open_dataset(done.url, engine="hfzarr")
    np.testing.assert_array_equal(opened["image"][0], image_pixels(1))
    assert rows(hub)[0]["thumbnail"]


def test_a_private_repo_by_a_token_that_is_given(hub: Hub, quick: None, one: Path) -> None:
    hub.add_token("hf_given_token", "ada")
    done = push(one, private=True, token="hf_given_token")
    assert rows(hub)[0]["thumbnail"]
    assert push(one, private=True, token="hf_given_token").files == 0
    with pytest.raises(HfzarrError):
        hfzarr.open_manifest(done.url)
    options = {"token": "hf_given_token"}
    assert len(hfzarr.open_manifest(done.url, storage_options=options)) == 1


def test_a_token_that_is_given_is_the_only_one(
    hub: Hub, quick: None, log_in: Callable[..., str], scene: Scene, batches: None
) -> None:
    mine = log_in("bob")
    hub.add_token("hf_given_token", "ada")
    push(scene.folder, private=True, token="hf_given_token", **scene.options)
    assert hub.log.holding("hf_given_token")
    assert not hub.log.holding(mine)


def test_two_repos_with_two_tokens(hub: Hub, quick: None, one: Path, tmp_path: Path) -> None:
    tokens = {name: hub.add_token(f"hf_secret_of_{name}", name).secret for name in ("ada", "bob")}
    write_chunks(tmp_path / "2.zarr", 2)
    failed: list[BaseException] = []

    def work(name: str) -> None:
        try:
            push([one, tmp_path / "2.zarr"], f"{name}/cells", private=True, token=tokens[name])
        except BaseException as error:  # told by the test
            failed.append(error)

    threads = [threading.Thread(target=work, args=[name]) for name in tokens]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    for name, other in (("ada", "bob"), ("bob", "ada")):
        asked = [request for request in hub.log if f"/{name}/cells" in request.path]
        assert asked
        assert not [request for request in asked if request.holds(tokens[other])]
        assert len(rows(hub, f"{name}/cells")) == 2


# Secrets


def told_by(error: BaseException) -> str:
    """All that an error says, with what lies in the frames of the package and of what it calls."""
    trace = error.__traceback__
    while trace is not None and "/hfzarr/" not in trace.tb_frame.f_code.co_filename:
        trace = trace.tb_next
    kind = type(error)
    told = traceback.TracebackException(kind, error, trace, capture_locals=True)
    return "".join([*told.format(), str(error), repr(error), repr(error.args)])


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], str]]:
    """All that anybody logs."""
    names = ("", "huggingface_hub", "httpx", "httpx2", "httpcore", "urllib3", "asyncio", "fsspec")
    names += ("botocore", "aiobotocore", "s3fs", "aiohttp", "datasets", "hfzarr")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    logging.getLogger().addHandler(handler)
    loud = logging.getLogger("huggingface_hub")
    loud.addHandler(handler)
    yield lambda: stream.getvalue() + caplog.text
    loud.removeHandler(handler)
    logging.getLogger().removeHandler(handler)
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


class Kept:
    """What lies in a folder whenever somebody asks the Hub."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: list[bytes] = []

    def __call__(self, asked: Any) -> None:
        for path, _ in _files(self.folder):
            try:
                self.seen.append(path.encode() + Path(path).read_bytes())
            except OSError:
                continue


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    for place, _, names in os.walk(folder):
        for name in names:
            yield f"{place}/{name}", name


@pytest.mark.parametrize("given", [True, False])
def test_a_token_is_kept_and_shown_nowhere(
    hub: Hub,
    quick: None,
    log_in: Callable[..., str],
    logged: Callable[[], str],
    scene: Scene,
    batches: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    given: bool,
) -> None:
    secret = "hf_secret_of_ada"
    if given:
        hub.add_token(secret, "ada")
    else:
        log_in("ada")
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    kept = Kept(tmp_path / "temp")
    hub.faults.append(kept)
    options = {**scene.options, "private": True, "token": secret if given else None}
    plan = dry(scene.folder, **options)
    done = push(scene.folder, **options)
    shown = [str(plan), repr(plan), plan._repr_html_(), str(done), repr(done)]
    shown += [repr(pickle.dumps(plan)), repr(pickle.dumps(done)), logged(), *capfd.readouterr()]
    assert not [text for text in shown if secret in text]
    assert hub.files_holding(secret) == []
    assert kept.seen
    assert not [data for data in kept.seen if secret.encode() in data]
    assert {request.origin for request in hub.log.holding(secret)} == {"hub"}
    assert not [r for r in hub.log.holding(secret) if secret in r.path or secret.encode() in r.body]


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("call", ["/preupload/", "/commit/", "/repos/create", "PUT", "/tree/"])
def test_an_error_holds_no_token(
    hub: Hub,
    quick: None,
    log_in: Callable[..., str],
    logged: Callable[[], str],
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    given: bool,
) -> None:
    from hub import hasten

    hasten(monkeypatch)
    secret = "hf_secret_of_ada"
    if given:
        hub.add_token(secret, "ada")
    else:
        log_in("ada")
    where = {"method": "PUT"} if call == "PUT" else {"path": call}
    hub.faults.append(Fault(hub, status(400), carried_out=False, times=10**6, **where))
    with pytest.raises(HfzarrError) as error:
        push(scene.folder, token=secret if given else None, **scene.options)
    told = told_by(error.value)
    assert "push_to_hub" in told
    assert secret not in told
    assert secret not in logged()
    assert "Signature=" not in told


def test_nothing_of_this_machine_is_published(
    hub: Hub, ada: str, scene: Scene, batches: None, tmp_path: Path
) -> None:
    """In no commit, of an interrupted push neither: no path, no name of the machine or its user."""
    outage = Outage(6, method="PUT")
    hub.faults.append(outage)
    try:
        push(scene.folder, **scene.options)
    except HfzarrError:
        outage.over = True
        push(scene.folder, **scene.options)
    for secret in (str(tmp_path), tempfile.gettempdir(), str(Path.home()), "127.0.0.1", hub.url):
        assert hub.files_holding(secret) == []
    host, process = socket.gethostname(), str(os.getpid())
    for repo in hub.state.repos.values():
        for commit in repo.commits.values():
            names = [part for path in commit.files for part in path.replace("-", "/").split("/")]
            assert host not in names
            assert process not in names


def test_options_of_the_source_are_not_published(
    hub: Hub, ada: str, logged: Callable[[], str], tmp_path: Path
) -> None:
    pytest.importorskip("moto")
    s3fs = pytest.importorskip("s3fs")
    write_small(tmp_path / "s" / "1.zarr", 1)
    with s3_server() as plain:
        options = {**plain, "key": "AKIAOPENSESAME", "secret": "secret-of-the-bucket"}
        fs = s3fs.S3FileSystem(**options, skip_instance_cache=True)
        fs.mkdir("scans")
        for path, data in files_below(tmp_path / "s"):
            fs.pipe_file(f"scans/s/{path}", data)
        done = push("s3://scans/s", storage_options=options)
        again = push("s3://scans/s", "ada/few", storage_options=options, shard="1 MiB")
    for secret in ("secret-of-the-bucket", "AKIAOPENSESAME", "s3://scans"):
        assert hub.files_holding(secret) == []
    shown = [str(done), repr(again), str(done.plan), repr(pickle.dumps(done)), logged()]
    assert not [text for text in shown if "secret-of-the-bucket" in text]
    assert not hub.log.holding("secret-of-the-bucket")


def test_a_url_with_a_password_is_not_published(hub: Hub, ada: str, one: Path) -> None:
    from servers import http_server

    with http_server(one.parent) as (url, _):
        secret = url.replace("http://", "http://ada:openSesame@") + "/1.zarr"
        try:
            done = push(secret, shard="1 MiB")
        except HfzarrError as error:
            assert "openSesame" not in str(error)  # noqa: PT017
        else:
            assert "openSesame" not in str(done.plan) + repr(pickle.dumps(done))
    assert hub.files_holding("openSesame") == []


# Buckets, by Xet

BUCKET = """
import hfzarr, json, os
first = hfzarr.push_to_hub({source!r}, {repo!r}, data_repo={data!r}, shard=[32, 32], progress=False)
again = hfzarr.push_to_hub({source!r}, {repo!r}, data_repo={data!r}, shard=[32, 32], progress=False)
m = hfzarr.open_manifest(first.url)
print(json.dumps([first.url, first.commit, again.files, int(m.handle(0).read().sum()),
    str(first), m.to_arrow()["zarr"].to_pylist()]))
"""


@pytest.mark.skipif(
    not hasattr(huggingface_hub.HfApi, "batch_bucket_files"),
    reason="this huggingface_hub knows no buckets",
)
@pytest.mark.parametrize("repo", ["ada/cells", "buckets/ada/index"])
def test_stores_in_a_bucket(hub: Hub, tmp_path: Path, repo: str) -> None:
    pytest.importorskip("hf_xet")
    hub.add_token("hf_secret_of_ada", "ada")
    data = write_chunks(tmp_path / "s" / "1.zarr", 1)
    (tmp_path / "xet").mkdir()
    code = BUCKET.format(source=str(tmp_path / "s"), repo=repo, data="buckets/ada/scans")
    settings = {"HF_HUB_DISABLE_XET": "0", "HF_XET_CLIENT_RETRY_BASE_DELAY": "10ms"}
    out = run_python(
        hub, textwrap.dedent(code), tmp_path / "xet", token="hf_secret_of_ada", more=settings
    )
    url, commit, files, total, text, cells = json.loads(out.splitlines()[-1])
    assert (commit, files, total) == (None, 0, int(data.sum()))
    assert cells == ["hf://buckets/ada/scans/1.zarr"]
    assert "buckets/ada/scans" in text
    there = hub.files("ada/scans", "bucket")
    assert len([path for path in there if path.startswith("1.zarr/")]) == 5
    assert not [path for path in there if "reshard" in path]
    np.testing.assert_array_equal(read_pushed(hub, cells[0]), data)
    assert [row["zarr"] for row in rows(hub, repo)] == cells
    assert hub.files_holding("hf_secret_of_ada") == []
    assert url == f"hf://{repo if 'bucket' in repo else f'datasets/{repo}'}"
