"""Buckets and web servers on the loopback interface, and stores read from there."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from hfzarr.store.connect import connect
from hfzarr.store.location import locate
from hfzarr.store.objects import client as object_client
from hfzarr.store.objects.options import ObjectPlace
from hfzarr.store.objects.source import ObjectSource
from hfzarr.store.wrapped import ZarrSource
from servers import s3_server

SECRET = "sEcReT31415926"
DATA = bytes(range(256)) * 4
AWS = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_REGION",
       "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
       "AWS_DEFAULT_REGION")  # fmt: skip


def missing(*names: str) -> list[str]:
    return [name for name in names if importlib.util.find_spec(name) is None]


needs_obstore = pytest.mark.skipif(bool(missing("obstore", "aiohttp")), reason="needs obstore")
needs_s3 = pytest.mark.skipif(
    bool(missing("s3fs", "moto", "flask")), reason="s3:// needs s3fs, and moto's server"
)
needs_botocore = pytest.mark.skipif(bool(missing("botocore")), reason="profiles need botocore")


@pytest.fixture(autouse=True)
def no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither this machine's keys, nor its proxies, nor clients of earlier tests."""
    object_client._clients.clear()
    for name in [*AWS, *(n for n in os.environ if n.lower().endswith("_proxy"))]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


# --- a server that misbehaves ---------------------------------------------------------------------


class Answer:
    """What a fault makes of an answer."""

    def __init__(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.status = status
        self.body = body
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


Fault = Callable[["Handler", Answer], Answer | None]


class Handler(BaseHTTPRequestHandler):
    """Serves objects as a web server does, and as S3 does in a bucket's path."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path, dict(self.headers)))
        answer = self.served()
        for fault in self.server.faults:
            answer = fault(self, answer) or answer
        self.send_response(answer.status)
        told = {"Content-Length": str(len(answer.body)), **answer.headers}
        for name, value in told.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        self.close_connection = told["Content-Length"] != str(len(answer.body))

    def served(self) -> Answer:
        found = self.server.content(unquote(urlsplit(self.path).path).lstrip("/"))
        if found is None:
            return Answer(404, b"nothing there")
        told = {"Last_Modified": formatdate(1e9, usegmt=True), "ETag": f'"{len(found)}"'}
        span = self.headers.get("Range", "").removeprefix("bytes=")
        if not span:
            return Answer(200, found, **told)
        first, _, last = span.partition("-")
        start = int(first) if first else max(0, len(found) - int(last))
        stop = min(int(last) + 1, len(found)) if first and last else len(found)
        if start >= len(found):
            return Answer(416, Content_Range=f"bytes */{len(found)}")
        told["Content_Range"] = f"bytes {start}-{stop - 1}/{len(found)}"
        return Answer(206, found[start:stop], **told)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, content: Callable[[str], bytes | None]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.faults: list[Fault] = []
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@contextlib.contextmanager
def serving(content: Callable[[str], bytes | None]) -> Iterator[Server]:
    server = Server(content)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    """One object, whatever its folder is called."""
    with serving(lambda path: DATA if path.endswith("/x") else None) as running:
        yield running


def of_folder(folder: Path, strip: int = 0) -> Callable[[str], bytes | None]:
    def content(path: str) -> bytes | None:
        file = folder.joinpath(*path.split("/")[strip:])
        return file.read_bytes() if file.is_file() else None

    return content


def open_source(url: str, options: dict[str, Any] | None = None) -> ObjectSource:
    source = connect(locate(url, options))
    assert type(source) is ObjectSource
    return source


def redirected(monkeypatch: pytest.MonkeyPatch, **config: str) -> None:
    """Tell obstore, and nobody else, of a server that stands for Google's or Amazon's."""
    made = object_client._store_of

    def here(place: ObjectPlace, region: str | None) -> Any:
        assert not set(config) & set(place.config)
        there = replace(place, config={**place.config, **config}, client={"allow_http": True})
        return made(there, region)

    monkeypatch.setattr(object_client, "_store_of", here)


@pytest.fixture(params=["http", "s3", "gs"])
def source(request: Any, server: Server, monkeypatch: pytest.MonkeyPatch) -> ObjectSource:
    if request.param == "http":
        return open_source(f"{server.url}/lab/a.zarr")
    if request.param == "s3":
        return open_source("s3://lab/a.zarr", {"anon": True, "endpoint_url": server.url})
    redirected(monkeypatch, base_url=server.url)
    found = open_source("gs://lab/a.zarr", {"token": "anon"})
    # gcsfs was not told of the server, and speaks another protocol.
    monkeypatch.setattr(ObjectSource, "_by_fsspec", property(lambda self: pytest.fail("fsspec")))
    return found


def failing(status: int) -> Fault:
    return lambda handler, answer: Answer(status, f"<Code>Oops</Code>{SECRET}".encode())


def whole(handler: Handler, answer: Answer) -> Answer:
    return Answer(200, DATA, Last_Modified=formatdate(0, usegmt=True), ETag='"1"')


def fsspec_source(url: str, options: dict[str, Any] | None = None) -> ZarrSource:
    from zarr.storage import FsspecStore

    return ZarrSource(FsspecStore.from_url(url, storage_options=options, read_only=True), url)


# --- s3 -------------------------------------------------------------------------------------------


ODD = ["a/x", "a/y/z", "a/a%20b", "a/ü b", "a/b#c", "a/..x", "a/50%", "a/q?r", "a/.zarray", "a/x:y",
       "a/~t", "a/{b}", "a/tab\t", "a/e+f=g&h"]  # fmt: skip


@pytest.fixture(scope="module")
def moto() -> Iterator[dict[str, Any]]:
    if missing("s3fs", "moto", "flask"):
        pytest.skip("s3:// needs s3fs, and moto's server")
    import fsspec

    with s3_server() as options:
        files = fsspec.filesystem("s3", **options)
        files.mkdir("lab")
        for key in ODD:
            files.pipe(f"lab/s.zarr/{key}", key.encode() * 20)
        files.pipe("lab/s.zarr/empty", b"")
        yield options
