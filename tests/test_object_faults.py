"""Servers of objects that lie or fail, and secrets: right bytes or an error that tells none."""

from __future__ import annotations

import gzip
import itertools
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pytest

from hfzarr.errors import HfzarrError, ReadError
from hfzarr.store.objects import client as object_client
from hfzarr.store.objects.source import ObjectSource
from hfzarr.store.objects.trouble import Unfit, trouble_of
from objectservers import (
    DATA,
    SECRET,
    Answer,
    Fault,
    Handler,
    Server,
    failing,
    fsspec_source,
    needs_botocore,
    needs_obstore,
    open_source,
    serving,
    whole,
)
from objectservers import no_login as no_login
from objectservers import server as server
from objectservers import source as source

pytestmark = needs_obstore

# --- servers that lie -----------------------------------------------------------------------------


def once(fault: Fault) -> Fault:
    left = itertools.count()
    return lambda handler, answer: fault(handler, answer) if next(left) == 0 else None


def other_range(handler: Handler, answer: Answer) -> Answer:
    answer.headers["Content-Range"] = f"bytes 100-109/{len(DATA)}"
    answer.body = DATA[100:110]
    return answer


def no_range(handler: Handler, answer: Answer) -> Answer:
    del answer.headers["Content-Range"]
    return answer


def fewer(handler: Handler, answer: Answer) -> Answer:
    answer.body = answer.body[:-3]
    return answer


def more(handler: Handler, answer: Answer) -> Answer:
    answer.body += b"more"
    return answer


def cut_short(handler: Handler, answer: Answer) -> Answer:
    answer.headers["Content-Length"] = str(len(answer.body))
    answer.body = answer.body[:-3]
    return answer


LIES = {f.__name__: f for f in (other_range, no_range, fewer, more, cut_short)}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_an_error(
    source: ObjectSource, server: Server, lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_client, "_RETRIES", 1)
    monkeypatch.setattr(object_client, "_DELAYS", (0.0, 0.0))
    server.faults = [LIES[lie]]
    with pytest.raises(ReadError, match=r"cannot read 'x'.*Try again later"):
        source.get("x", (10, 20))


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_told_once_is_asked_for_again(source: ObjectSource, server: Server, lie: str) -> None:
    server.faults = [once(LIES[lie])]
    assert source.get("x", (10, 20)) == DATA[10:20]
    assert len(server.asked) == 2


def test_an_object_cut_short_is_asked_for_again(source: ObjectSource, server: Server) -> None:
    server.faults = [once(cut_short)]
    assert source.get("x") == DATA


@pytest.mark.parametrize("wanted", [(10, 20), (-8, None), (1000, None)], ids=str)
def test_a_server_that_sends_all(source: ObjectSource, server: Server, wanted: Any) -> None:
    server.faults = [whole]
    assert source.get("x", wanted) == DATA[wanted[0] : wanted[1]]


def test_a_server_that_sends_all_of_much(
    source: ObjectSource, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_client, "_MOST_IN_VAIN", 1000)
    server.faults = [whole]
    with pytest.raises(ReadError, match=r"all 1024 bytes\. Copy the store to a server that knows"):
        source.get("x", (10, 20))


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_that_fails_once(source: ObjectSource, server: Server, status: int) -> None:
    server.faults = [once(failing(status))]
    assert source.get("x", (10, 20)) == DATA[10:20]


@pytest.mark.parametrize("status", [400, 401, 403, 410])
def test_a_refusal_is_told_without_its_body(
    source: ObjectSource, server: Server, status: int
) -> None:
    server.faults = [failing(status)]
    with pytest.raises(ReadError, match=rf"lab/a\.zarr'.* cannot read 'x'.*{status}.*Oops") as info:
        source.get("x")
    assert SECRET not in "".join(traceback.format_exception(info.value))
    assert ("storage_options" in str(info.value)) == (status in (401, 403))
    assert len(server.asked) == 1


def test_what_is_refused_may_be_absent(source: ObjectSource, server: Server) -> None:
    server.faults = [
        lambda handler, answer: None if "zarr.json" not in unquote(handler.path) else Answer(403)
    ]
    found = source.probe(["zarr.json", "x"])
    assert isinstance(found[0], PermissionError)
    assert found[1] == DATA


def test_a_server_that_never_recovers(
    source: ObjectSource, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_client, "_RETRIES", 1)
    server.faults = [failing(500)]
    with pytest.raises(ReadError, match=r"500.*to each of 2 attempts"):
        source.get("x")


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_client, "_RETRIES", 1)
    with serving(lambda path: None) as gone:
        url = gone.url
    with pytest.raises(ReadError, match=r"onnection refused .2 attempts"):
        open_source(f"{url}/a.zarr").get("zarr.json")


def test_content_that_is_encoded(server: Server) -> None:
    """A web client undoes it, whoever asks."""
    server.faults = [
        lambda handler, answer: Answer(200, gzip.compress(DATA), Content_Encoding="gzip")
    ]
    source = open_source(f"{server.url}/lab/a.zarr")
    assert source.get("x") == DATA


def test_a_server_that_does_not_say_how_much_comes(server: Server) -> None:
    def unsized(handler: Handler, answer: Answer) -> Answer:
        handler.close_connection = True
        return Answer(200, answer.body, Content_Length="", Connection="close")

    server.faults = [unsized]
    assert open_source(f"{server.url}/lab/a.zarr").get("x") == DATA


@pytest.mark.parametrize(
    "name", ["a b", "ü", "a+b&c", "a:b", "[x]*~!'(),;@$=", "50%", "a%20b", "a#b"]
)
def test_names_are_spelled_as_fsspec_spells_them(server: Server, name: str) -> None:
    for base in ("/lab/a.zarr", "/lab/a%20b.zarr", "/lab/%C3%BC+(1).zarr"):
        source, plain = open_source(server.url + base), fsspec_source(server.url + base)
        del server.asked[:]
        assert source.get(f"{name}/x") == plain.get(f"{name}/x")
        ours, theirs = [unquote(path, errors="strict") for _, path, _ in server.asked]
        assert ours == theirs


# --- secrets --------------------------------------------------------------------------------------


def secret_sources(server: Server) -> Iterator[ObjectSource]:
    with_user = server.url.replace("//", f"//ada:{SECRET}@")
    yield open_source(f"{with_user}/lab/a.zarr")
    yield open_source(
        f"{server.url}/lab/a.zarr", {"headers": {"Authorization": f"Bearer {SECRET}"}}
    )
    keys = {"key": "MINE", "secret": SECRET, "token": SECRET, "endpoint_url": server.url}
    yield open_source("s3://lab/a.zarr", keys)


def test_secrets_stay_here(server: Server) -> None:
    for reader in secret_sources(server):
        assert reader.get("x") == DATA
        shown = [repr(reader), str(reader.url), repr(vars(reader)), repr(reader._client())]
        shown.append(pickle.dumps(reader).decode("latin1"))
        server.faults = [failing(403)]
        for ask in (reader.get, lambda key, it=reader: it.sizes([key])):
            with pytest.raises(HfzarrError) as info:
                ask("x")
            shown.append("".join(traceback.format_exception(info.value)))
        server.faults = []
        assert all(SECRET not in text for text in shown), shown
        again = pickle.loads(pickle.dumps(reader))
        assert again == reader
        assert hash(again) == hash(reader)
        # In this process the register still knows them.
        assert again.get("x") == DATA
        assert len(pickle.dumps(reader)) < 600


def test_a_redirect_takes_no_secret_elsewhere(server: Server) -> None:
    with serving(lambda path: DATA) as other:
        target = other.url.replace("127.0.0.1", "localhost") + "/x"
        server.faults = [lambda handler, answer: Answer(302, Location=target)]
        for reader in itertools.islice(secret_sources(server), 2):
            assert reader.get("x", (10, 20)) == DATA[10:20]
            assert SECRET in server.asked[-1][2]["authorization"] or "Basic" in str(
                server.asked[-1]
            )
        assert "uthorization" not in str(other.asked)
        assert len(other.asked) == 2


def test_what_a_provider_of_keys_says_is_not_repeated() -> None:
    text = f"External AWS credential provider: ValueError: {SECRET}\n\nDebug source: {SECRET}"
    assert str(trouble_of(Exception(text))) == "nobody could say who asks (ValueError)"
    with pytest.raises(Unfit):
        trouble_of(ValueError(f"Could not parse path {SECRET}"))


LOST = """
import pickle, sys
source = pickle.loads(bytes.fromhex(sys.argv[1]))
try:
    print(source.get("x"))
except Exception as error:
    print(type(error).__name__, error)
"""


@needs_botocore
def test_another_process_has_its_own_keys(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"key": "MINE", "secret": SECRET, "endpoint_url": server.url}
    source = open_source("s3://lab/a.zarr", keys)
    told = run(LOST, source)
    assert "ReadError" in told
    assert "do not travel: configure a login here" in told
    told = run(LOST, source, AWS_ACCESS_KEY_ID="WORKER", AWS_SECRET_ACCESS_KEY="w")
    assert told == str(DATA)
    assert "Credential=WORKER/" in str(server.asked[-1])
    named = {"key": "env:LAB_KEY", "secret": "env:LAB_SECRET", "endpoint_url": server.url}
    monkeypatch.setenv("LAB_KEY", "NAMED")
    monkeypatch.setenv("LAB_SECRET", SECRET)
    source = open_source("s3://lab/a.zarr", named)
    assert source.get("x") == DATA
    assert SECRET not in pickle.dumps(source).decode("latin1")
    assert run(LOST, source) == str(DATA)
    assert "Credential=NAMED/" in str(server.asked[-1])


def run(code: str, source: ObjectSource, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, pickle.dumps(source).hex()],
        capture_output=True, text=True, timeout=60, env={**os.environ, **env},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
