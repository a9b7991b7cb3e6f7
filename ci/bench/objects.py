"""Reading from S3 and a web server: requests, bytes and seconds, beside fsspec and zarr-python.

``python ci/bench/objects.py`` starts moto's S3 and a web server in processes of their own, each
behind a relay that adds 50 ms to each request and counts, and reads the same stores with each
reader, each time in a process of its own, the readers taking turns. README.md beside this file
says what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from reshard_meter import start, stop

from hub import JOBS, ROOT, ome, write

COUNT = "/bench/count"
PLACES = ("s3", "http")
BUCKET = "lab"
KEYS = {"key": "none", "secret": "none"}


# --- servers --------------------------------------------------------------------------------------


class Relay:
    """Passes requests on to a server after a while, each on a connection of its own there."""

    def __init__(self, port: int, latency: float) -> None:
        self.port = port
        self.latency = latency
        self.requests = 0
        self.sent = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, one after the other."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(f"GET {COUNT}".encode()):
                    told = json.dumps([self.requests, self.sent]).encode()
                    self.requests = self.sent = 0
                    writer.write(
                        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(told) + told
                    )
                    continue
                self.requests += 1
                await asyncio.sleep(self.latency)
                await self._pass_on(head, writer)
        writer.close()

    async def _pass_on(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        back.write(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        told = await there.readuntil(b"\r\n\r\n")
        lines = [
            line for line in told.split(b"\r\n") if not line.lower().startswith(b"connection:")
        ]
        body = b"" if head.startswith(b"HEAD") else await there.read()
        answer = b"\r\n".join(lines) + body
        self.sent += len(answer)
        writer.write(answer)
        await writer.drain()
        back.close()


async def relay(port: int, latency: float) -> None:
    """Run a relay until standard input ends."""
    passing = Relay(port, latency)
    server = await asyncio.start_server(passing.serve, "127.0.0.1", 0, limit=2**24, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


@contextlib.contextmanager
def relayed(port: int, latency: float) -> Iterator[str]:
    """Start a relay in another process; give its URL."""
    command = [sys.executable, __file__, "--relay", str(port), "--latency", str(latency)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.stdin.close()
        process.wait(timeout=20)
        process.stdout.close()


@contextlib.contextmanager
def servers(folder: Path, latency: float) -> Iterator[dict[str, str]]:
    """Serve the folder as a bucket and as a web site; give the URLs."""
    sys.path.insert(0, str(ROOT / "tests"))
    import fsspec

    from servers import http_server, s3_server

    with s3_server() as options, http_server(folder) as (web, _):
        files = fsspec.filesystem("s3", **options)
        files.mkdir(BUCKET)
        files.put(f"{folder}/", f"{BUCKET}/", recursive=True)
        plain = options["client_kwargs"]["endpoint_url"]
        ports = [int(url.rpartition(":")[2]) for url in (plain, web)]
        with relayed(ports[0], latency) as s3, relayed(ports[1], latency) as http:
            yield {"s3": s3, "http": http}


# --- readers: each returns what opens a store, as something to be indexed -------------------------


def target(place: str, server: str, name: str) -> tuple[str, dict[str, Any]]:
    """Return the URL and the storage options of a store."""
    if place == "http":
        return f"{server}/{name}", {}
    return f"s3://{BUCKET}/{name}", {**KEYS, "client_kwargs": {"endpoint_url": server}}


def hfzarr(place: str, server: str) -> Callable[[str], Any]:
    """The engine, by obstore."""
    import xarray as xr
    import zarr

    from hfzarr.store.connect import connect
    from hfzarr.store.location import locate
    from hfzarr.store.objects.client import is_served_here

    # What is imported at the first opening is no part of reading.
    memory = zarr.create_group({}, attributes={"ome": ome()})
    memory.create_array("0", shape=(2, 2), dtype="uint16", dimension_names=("y", "x"))
    _ = xr.open_dataset(memory.store, engine="hfzarr")["image"].values
    connect(locate(*target(place, server, "none.zarr")))
    assert is_served_here()

    def opened(name: str) -> Any:
        url, options = target(place, server, name)
        image = xr.open_dataset(url, engine="hfzarr", storage_options=options)["image"]
        return lambda *where: image[where].values

    return opened


def hfzarr_fsspec(place: str, server: str) -> Callable[[str], Any]:
    """The engine, by fsspec."""
    from hfzarr.store.objects import source

    opened = hfzarr(place, server)
    source.object_source = lambda location: None
    _file_system(place, server)
    return opened


def _file_system(place: str, server: str) -> None:
    import fsspec

    url, options = target(place, server, "")
    fsspec.core.url_to_fs(url, **options)


def zarr_fsspec(place: str, server: str) -> Callable[[str], Any]:
    """zarr-python over fsspec."""
    import zarr
    from zarr.storage import FsspecStore

    _file_system(place, server)

    def opened(name: str) -> Any:
        url, options = target(place, server, name)
        store = FsspecStore.from_url(url, storage_options=options, read_only=True)
        array: Any = zarr.open_group(store, mode="r")["0"]
        return lambda *where: array[where]

    return opened


def zarr_obstore(place: str, server: str) -> Callable[[str], Any]:
    """zarr-python over obstore."""
    import zarr
    from obstore.store import HTTPStore, S3Store
    from zarr.storage import ObjectStore

    def opened(name: str) -> Any:
        plain: Any = {"client_options": {"allow_http": True}}
        if place == "http":
            there: Any = HTTPStore.from_url(f"{server}/{name}", **plain)
        else:
            there = S3Store(BUCKET, prefix=name, endpoint=server, region="us-east-1",
                            access_key_id="none", secret_access_key="none", **plain)  # fmt: skip
        array: Any = zarr.open_group(ObjectStore(there, read_only=True), mode="r")["0"]
        return lambda *where: array[where]

    return opened


READERS = {
    "hfzarr": hfzarr,
    "hfzarr, fsspec": hfzarr_fsspec,
    "zarr-python, fsspec": zarr_fsspec,
    "zarr-python, obstore": zarr_obstore,
}


# --- measuring ------------------------------------------------------------------------------------


def one(name: str, place: str, server: str) -> dict[str, list[float]]:
    """Do all jobs with one reader; return seconds, requests, bytes and the MiB it took."""
    opened, told = READERS[name](place, server), {}

    def timed(job: str, work: Callable[[], Any]) -> Any:
        counted(server)
        held, _ = start()
        begin = time.perf_counter()
        result = work()
        seconds, (most, _) = time.perf_counter() - begin, stop()
        told[job] = [seconds, *counted(server), most - held]
        return result

    array: Any = None

    def first() -> Any:
        nonlocal array
        array = opened("sharded.zarr")
        return array(slice(0, 128), slice(0, 256))

    timed(JOBS[0], first)
    timed(JOBS[1], lambda: [array(slice(256 * n, 256 * n + 128), slice(512, 768))
                            for n in range(4)])  # fmt: skip
    plain = opened("plain.zarr")
    timed(JOBS[2], lambda: plain(slice(0, 1024), slice(0, 2048)))
    sparse = opened("sparse.zarr")
    sparse(slice(0, 128), slice(0, 256))
    timed(JOBS[3], lambda: sparse(slice(128, None), slice(None)))
    return told


def counted(server: str) -> list[int]:
    """Return what the relay has counted since it was asked last."""
    with urllib.request.urlopen(server + COUNT) as answer:
        found: list[int] = json.loads(answer.read())
        return found


Found = dict[str, dict[str, dict[str, list[float]]]]


def measure(urls: dict[str, str], readers: list[str], repeats: int) -> Found:
    """Return medians for each place, reader and job; who goes first changes from round to round."""
    env = {**os.environ, "NO_PROXY": "*", "AWS_EC2_METADATA_DISABLED": "true"}
    found: Found = {}
    for place, url in urls.items():
        runs: dict[str, list[dict[str, list[float]]]] = {name: [] for name in readers}
        for turn in range(repeats):
            start = turn % len(readers)
            for name in readers[start:] + readers[:start]:
                command = [sys.executable, "-W", "ignore", __file__, "--one", name, place, url]
                done = subprocess.run(
                    command, env=env, capture_output=True, text=True, timeout=120, check=False
                )
                if done.returncode == 0:
                    runs[name].append(json.loads(done.stdout))
                elif turn == 0:
                    print(f"{place}, {name}: {done.stderr.strip()[-200:]}", file=sys.stderr)
        found[place] = {
            name: {
                job: [statistics.median(v) for v in zip(*(run[job] for run in made), strict=True)]
                for job in JOBS
            }
            for name, made in runs.items()
            if made
        }
    return found


def show(found: Found) -> None:
    """Print a table."""
    print("| place | job | reader | requests | MB | seconds | hfzarr ÷ it | peak MB |")
    print("|---|---|---|---|---|---|---|---|")
    for place, readers in found.items():
        for job in JOBS:
            ours = readers.get("hfzarr", {}).get(job, [float("nan")])[0]
            for name, told in readers.items():
                seconds, requests, size, peak = told[job]
                print(
                    f"| {place} | {job} | {name} | {requests:.0f} | {size / 1e6:.2f} "
                    f"| {seconds:.3f} | {ours / seconds:.2f} | {peak:.0f} |"
                )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latency", type=float, default=0.05, help="of each request, s")
    parser.add_argument("--repeats", type=int, default=5, help="rounds; medians are printed")
    parser.add_argument("--places", nargs="+", choices=PLACES, default=list(PLACES))
    parser.add_argument("--readers", nargs="+", choices=list(READERS), default=list(READERS))
    parser.add_argument("--json", type=Path, help="write every number here")
    parser.add_argument("--relay", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.relay:
        asyncio.run(relay(options.relay, options.latency))
        return
    if options.one:
        print(json.dumps(one(*options.one)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        with servers(Path(folder), options.latency) as urls:
            asked = {place: urls[place] for place in options.places}
            found = measure(asked, options.readers, options.repeats)
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
