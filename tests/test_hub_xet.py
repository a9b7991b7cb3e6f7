"""Xet: the Hub of the tests takes what hf_xet sends, and gives the same bytes back."""

from __future__ import annotations

import hashlib
import json
import random
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("huggingface_hub", minversion="2.0")
pytest.importorskip("hf_xet")
pytest.importorskip("aiohttp")
pytest.importorskip("pyarrow")

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from hub import Hub, run_python
from hub.faults import Fault, Outage, dropped, status
from hub.xorbs import LARGEST_CHUNK, Xorb, pack, to_raw, to_text
from hubstores import hub as hub
from hubstores import log_in as log_in
from hubstores import servers as servers
from hubstores import source

SECRET = "hf_secret_of_user"
NOISE = random.Random(7).randbytes(300_000)
ZEROS = bytes(1_000_000)
FLOATS = b"".join((1_065_353_216 + n).to_bytes(4, "little") for n in range(50_000))
FILES = {"noise.bin": NOISE, "zeros.bin": ZEROS, "floats.bin": FLOATS, "tiny.bin": b"\0\1"}


@pytest.fixture
def say(hub: Hub, tmp_path: Path) -> Callable[..., Any]:
    """Runs code in a process of its own, by Xet; gives what it leaves in ``said``."""
    hub.add_token(SECRET, "user")
    for name, held in FILES.items():
        (tmp_path / name).write_bytes(held)

    def say(*code: str, home: str = "xet", **more: str) -> Any:
        (tmp_path / home).mkdir(exist_ok=True)
        whole = [
            "import hashlib, json, huggingface_hub as hf",
            f"root, names = {str(tmp_path)!r}, {sorted(FILES)}",
            *map(textwrap.dedent, code),
            "print(json.dumps(said))",
        ]
        settings = {"HF_HUB_DISABLE_XET": "0", "HF_XET_CLIENT_RETRY_BASE_DELAY": "10ms", **more}
        done = run_python(hub, "\n".join(whole), tmp_path / home, token=SECRET, more=settings)
        return json.loads(done.splitlines()[-1])

    return say


def digests(files: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(held).hexdigest() for name, held in files.items()}


def sent(hub: Hub) -> int:
    """Bytes of chunks that were uploaded since the log was cleared."""
    held = [*hub.log.find("/xorbs/", method="PUT"), *hub.log.find("/v1/xorbs/", method="POST")]
    return sum(len(request.body) for request in held)


COMMIT = """
add = [hf.CommitOperationAdd("a/" + name, root + "/" + name) for name in names]
made = hf.create_commit("user/data", add, commit_message="push", repo_type="dataset")
said = made.oid
"""
DOWNLOAD = """
said = {}
for name in names:
    local = hf.hf_hub_download("user/data", "a/" + name, repo_type="dataset")
    said[name] = hashlib.sha256(open(local, "rb").read()).hexdigest()
"""
BATCH = """
hf.create_bucket("user/scans", exist_ok=True)
add = [(root + "/" + name, "a/" + name) for name in names]
hf.batch_bucket_files("user/scans", add=add + [(b"", "empty")])
said = sorted(entry.path for entry in hf.list_bucket_tree("user/scans", recursive=True))
"""
FETCH = """
files = [("a/" + name, "got/" + name) for name in names]
hf.download_bucket_files("user/scans", files, raise_on_missing_files=True)
said = {name: hashlib.sha256(open("got/" + name, "rb").read()).hexdigest() for name in names}
"""


def test_a_repo_by_xet(hub: Hub, say: Callable[..., Any]) -> None:
    hub.add_repo("user/data")
    assert say(COMMIT) == hub.repo("user/data").head().oid
    assert hub.files("user/data") == {f"a/{name}": held for name, held in FILES.items()}
    assert all(file.lfs for file in hub.repo("user/data").head().files.values())
    assert not hub.log.find("/info/lfs/")
    assert len(NOISE) < sent(hub) < len(NOISE) + 150_000  # the rest is small, or there already
    assert say(DOWNLOAD, home="elsewhere") == digests(FILES)
    assert hub.log.find("/reconstructions/", origin="xet")
    found = source("hf://datasets/user/data/a")
    for name, held in FILES.items():
        assert found.get_many([(name, None), (name, (1, 2))]) == [held, held[1:2]]
    # Each secret stays where it belongs.
    assert {request.origin for request in hub.log.holding(SECRET)} == {"hub"}
    told = [request for request in hub.log if "xet_" in request.headers.get("authorization", "")]
    assert {request.origin for request in told} == {"xet"}


@pytest.mark.parametrize("time", ["first", "second"])
def test_this_process_may_use_xet_in_several_tests(
    hub: Hub, log_in: Callable[..., str], time: str
) -> None:
    from huggingface_hub import batch_bucket_files, create_bucket

    log_in()
    create_bucket("user/scans")
    batch_bucket_files("user/scans", add=[(NOISE, "noise.bin")])
    assert sent(hub) > len(NOISE)
    assert source("hf://buckets/user/scans").get_many([("noise.bin", None)]) == [NOISE]


def test_a_bucket_by_xet(hub: Hub, say: Callable[..., Any]) -> None:
    assert say(BATCH) == sorted([*(f"a/{name}" for name in FILES), "empty"])
    assert sent(hub) < len(NOISE) + 150_000
    assert say(FETCH, home="elsewhere") == digests(FILES)
    found = source("hf://buckets/user/scans/a")
    for name, held in FILES.items():
        assert found.get_many([(name, None), (name, (1, 2))]) == [held, held[1:2]]
    assert source("hf://buckets/user/scans").get_many([("empty", None)]) == [b""]


@pytest.mark.parametrize("again", ["xet", "elsewhere"])
def test_the_same_bytes_are_not_sent_twice(hub: Hub, say: Callable[..., Any], again: str) -> None:
    """Neither by the process's own memory on disk, nor by one that has none."""
    hub.add_repo("user/data")
    say(COMMIT)
    first = sent(hub)
    hub.log.clear()
    say(BATCH, COMMIT.replace("a/", "b/"), home=again)
    assert sent(hub) == 0
    assert len(hub.log.find("/v2/shards")) == 2
    assert set(hub.files("user/data")) == {f"{folder}/{name}" for folder in "ab" for name in FILES}
    assert first > len(NOISE)


def test_what_lies_beside_a_known_chunk_is_not_sent(hub: Hub, say: Callable[..., Any]) -> None:
    """The first chunk is asked for; the answer tells of those after it."""
    hub.add_repo("user/data")
    say(COMMIT)
    hub.log.clear()
    said = """
    more = open(root + "/noise.bin", "rb").read() + b"something new" * 100
    add = [hf.CommitOperationAdd("more.bin", more)]
    hf.create_commit("user/data", add, commit_message="push", repo_type="dataset")
    said = 0
    """
    say(said, home="elsewhere")
    assert hub.files("user/data")["more.bin"] == NOISE + b"something new" * 100
    assert 0 < sent(hub) < LARGEST_CHUNK + 2000  # the last chunk, which is another one now
    assert any(request.status == 200 for request in hub.log.find("/v1/chunks/"))


def test_changes_of_a_bucket(hub: Hub, say: Callable[..., Any]) -> None:
    hub.add_repo("user/data")
    found = say(
        COMMIT,
        """
        hf.create_bucket("user/scans", private=True)
        info = list(hf.list_repo_tree("user/data", "a", repo_type="dataset"))
        hashes = {entry.path: entry.xet_hash for entry in info}
        copy = [("dataset", "user/data", hashes["a/" + name], "c/" + name) for name in names]
        hf.batch_bucket_files("user/scans", add=[(b"plain text", "x.txt")], copy=copy)
        hf.batch_bucket_files("user/scans", delete=["c/tiny.bin"], add=[(b"newer", "x.txt")])
        said = [hf.bucket_info("user/scans").total_files, [one.id for one in hf.list_buckets()]]
        said.append(sorted(entry.path for entry in hf.list_bucket_tree("user/scans")))
        try:
            hf.batch_bucket_files("user/scans", copy=[("dataset", "user/data", "f" * 64, "gone")])
        except Exception as error:
            said.append(type(error).__name__)
        hf.create_bucket("user/passing")
        hf.delete_bucket("user/passing")
        """,
    )
    assert found == [4, ["user/scans"], ["c", "x.txt"], "BucketBatchError"]
    held = hub.files("user/scans", "bucket")
    assert held.pop("x.txt") == b"newer"
    assert held == {f"c/{name}": FILES[name] for name in FILES if name != "tiny.bin"}
    assert hub.state.repos["buckets", "user/scans"].private
    assert ("buckets", "user/passing") not in hub.state.repos


def test_folders_are_sent_whole(hub: Hub, say: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "store"
    files = {f"a.zarr/c/{n}": NOISE[n : n + 1000 * n] for n in range(1, 30)}
    files["a.zarr/zarr.json"] = b"{}"
    for path, held in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(held)
    hub.add_repo("user/data")
    twice = say(
        """
        folder = root + "/store"
        hf.create_bucket("user/scans")
        for n in range(2):
            hf.upload_folder(repo_id="user/data", folder_path=folder, repo_type="dataset")
            plan = hf.sync_bucket(folder, "hf://buckets/user/scans/b")
        said = plan.summary()
        """
    )
    assert (twice["uploads"], twice["skips"]) == (0, len(files))
    assert hub.files("user/data") == files
    assert hub.files("user/scans", "bucket") == {f"b/{path}": held for path, held in files.items()}
    assert len(hub.log.find("/commit/")) == len(hub.log.find("/batch", method="POST")) == 1


def test_who_may_write_to_a_bucket(hub: Hub, say: Callable[..., Any]) -> None:
    hub.add_repo("other/scans", {"x": b"\0"}, type="bucket")
    hub.add_repo("other/secret", {"x": b"\0"}, type="bucket", private=True)
    refused = say(
        """
        import re
        names = ["other/scans", "other/secret", "other/nothing"]
        add = [(b"x", "x")]
        calls = [lambda name=name: hf.batch_bucket_files(name, add=add) for name in names]
        calls += [lambda: hf.create_bucket("other/new"), lambda: hf.delete_bucket("other/scans")]
        said = []
        for call in calls:
            try:
                call()
            except Exception as error:
                said.append(sorted(set(re.findall(r"\\b40[0-9]\\b", str(error)))))
        """
    )
    assert refused == [["403"], ["404"], ["404"], ["403"], ["403"]]
    assert hub.files("other/scans", "bucket") == {"x": b"\0"}


def test_a_bucket_that_a_test_filled_is_read_by_xet(hub: Hub, say: Callable[..., Any]) -> None:
    files = {f"a/{name}": held for name, held in FILES.items()}
    hub.add_repo("user/scans", files, type="bucket")
    assert say(FETCH) == digests(FILES)
    assert hub.log.find("/reconstructions/", origin="xet")


def test_an_older_way_to_send_xorbs(hub: Hub, say: Callable[..., Any]) -> None:
    hub.add_repo("user/data")
    say(COMMIT, HF_XET_CLIENT_LEGACY_DIRECT_XORB_UPLOAD="true")
    assert not hub.log.find("/xorb-grants/")
    assert hub.log.find("/v1/xorbs/", method="POST", origin="xet")
    assert hub.files("user/data")["a/noise.bin"] == NOISE


# Faults.


def test_passing_faults(hub: Hub, say: Callable[..., Any]) -> None:
    hub.add_repo("user/data")
    faults = [
        fault
        for path in ("/xorb-grants/", "/xorbs/", "/xorb-commits/", "/v2/shards", "-token/")
        for fault in (
            Fault(hub, status(503), path=path, carried_out=False),
            Fault(hub, dropped, path=path),
        )
    ]
    hub.faults += faults
    say(COMMIT)
    assert [fault.hits for fault in faults] == [1] * len(faults)
    assert hub.files("user/data") == {f"a/{name}": held for name, held in FILES.items()}


def test_an_upload_that_was_cut_off_goes_on(hub: Hub, say: Callable[..., Any]) -> None:
    """Chunks that arrived before the network went away are not sent again.

    Of one file: the chunks of several may be packed in another order the next time.
    """
    hub.add_repo("user/data")
    outage = Outage(1, path="/xorb-commits/")
    hub.faults.append(outage)
    one = ("names = ['noise.bin']", COMMIT)
    with pytest.raises(RuntimeError, match="exit code"):
        say(*one, HF_XET_CLIENT_RETRY_MAX_ATTEMPTS="1")
    assert outage.refused
    assert hub.files("user/data") == {}
    outage.over = True
    hub.log.clear()
    say(*one, home="elsewhere")
    assert sent(hub) == 0
    assert hub.files("user/data") == {"a/noise.bin": NOISE}


# The parts.


@given(st.binary(max_size=2000), st.sampled_from([0, 1, 2]), st.integers(1, 700))
def test_xorbs_unpack(data: bytes, scheme: int, size: int) -> None:
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    packed = b""
    for one in pieces:
        plain = b"".join(one[first::4] for first in range(4)) if scheme == 2 else one
        held = pa.compress(plain, codec="lz4", asbytes=True) if scheme else plain
        packed += b"\0" + len(held).to_bytes(3, "little")
        packed += bytes([scheme]) + len(one).to_bytes(3, "little") + held
    for footer in (b"", b"XETBLOB and more"):
        if not pieces:
            break
        xorb = Xorb(packed + footer)
        assert xorb.count == len(pieces)
        assert xorb.unpack(0, xorb.count) == data
        last = xorb.count - 1
        assert xorb.unpack(last, xorb.count) == pieces[-1]
        start, stop = xorb.stretch(last, xorb.count)
        assert Xorb(packed[start:stop]).unpack(0, 1) == pieces[-1]
    if data:
        assert pack(data, size).unpack(0, len(pieces)) == data


@pytest.mark.parametrize("data", [b"", b"\1" * 20, b"\0\xff\0\0\0\xff\0\0abc", b"\0\0"])
def test_what_is_no_xorb(data: bytes) -> None:
    with pytest.raises(ValueError, match="chunk"):
        Xorb(data).unpack(0, 1)


@given(st.binary(min_size=32, max_size=32))
def test_hashes_as_text(raw: bytes) -> None:
    assert to_raw(to_text(raw)) == raw
    assert to_text(bytes(range(32))).startswith("07060504030201000f0e")
