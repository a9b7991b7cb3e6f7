"""Xet: the third origin, which takes files as chunks and says how to put them together again.

A client asks the Hub for a token and learns from it where this origin is. It sends xorbs, each to a
signed address of the CDN (or here, if it is an older one), and then a shard that makes files of
their chunks; from then on commits and buckets may name those files.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hub import cdn, mdb
from hub.access import check_gate, find_repo, find_writable
from hub.mdb import Term
from hub.state import Repo
from hub.web import Answer, Asked, Refusal, serve_bytes
from hub.xorbs import LARGEST, Xorb, pack

if TYPE_CHECKING:
    from hub.server import Hub

EMPTY = "0" * 64
"""The hash of a file without bytes, of which no shard tells."""


@dataclass(frozen=True)
class Pass:
    """What a token of this origin is good for, and until when (epoch, s)."""

    kind: str
    name: str
    write: bool
    until: int


@dataclass
class Store:
    """What this origin holds."""

    xorbs: dict[str, Xorb] = field(default_factory=dict)
    files: dict[str, tuple[Term, ...]] = field(default_factory=dict)
    blocks: dict[str, bytes] = field(default_factory=dict)
    """What shards said of a xorb."""
    chunks: dict[str, str] = field(default_factory=dict)
    """Chunk to a xorb that holds it."""
    passes: dict[str, Pass] = field(default_factory=dict)
    grants: dict[str, str] = field(default_factory=dict)
    """Number of a permission to upload, to the xorb."""
    arrived: dict[str, Xorb] = field(default_factory=dict)
    """Uploaded by such a permission, and not yet taken over."""
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    def clear(self) -> None:
        self.__init__()  # type: ignore[misc]

    def data(self, file: str) -> bytes | None:
        """The bytes of a file."""
        if file == EMPTY:
            return b""
        if file not in self.files:
            return None
        return b"".join(self.xorbs[t.xorb].unpack(t.first, t.last) for t in self.files[file])


# Calls of the Hub.


def token(hub: Hub, asked: Asked, kind: str, name: str, verb: str) -> Answer:
    """Answer ``…/xet-read-token/…`` and ``…/xet-write-token/…``."""
    write = verb == "xet-write-token"
    find = find_writable if write else find_repo
    repo = find(hub.state, asked, kind, name)
    check_gate(hub.state, asked, repo)
    secret = f"xet_{'write' if write else 'read'}_{next(hub.xet.numbers)}"
    until = int(hub.until)
    hub.xet.passes[secret] = Pass(kind, name, write, until)
    headers = {
        "X-Xet-Cas-Url": hub.xet_url,
        "X-Xet-Access-Token": secret,
        "X-Xet-Token-Expiration": str(until),
    }
    answer = Answer.json({"casUrl": hub.xet_url, "accessToken": secret, "exp": until})
    return replace(answer, headers={**answer.headers, **headers})


def told(hub: Hub, repo: Repo, sha256: str, revision: str | None) -> Mapping[str, str]:
    """What the answer to a file's address says of it, for those who can read Xet."""
    xet = repo.xet.get(sha256, sha256 if repo.type == "buckets" else None)
    if xet is None:
        return {}
    route = f"{hub.url}/api/{repo.type}/{repo.id}/xet-read-token"
    route += f"/{revision}" if revision else ""
    return {
        "X-Xet-Hash": xet,
        "X-Xet-Refresh-Route": route,
        "Link": f'<{route}>; rel="xet-auth"',
    }


# Calls of this origin.


def answer(hub: Hub, asked: Asked) -> Answer:
    parts = asked.parts
    call = "/".join(parts[:2])
    if call == "v1/telemetry":
        return Answer(204)
    if call == "v1/chunks" and len(parts) == 4:
        _holder(hub, asked)
        return _known(hub, parts[3])
    if call == "v1/reconstructions" and len(parts) == 3:
        return _reconstruction(hub, asked, parts[2])
    if asked.method == "POST" and parts[0] in ("v1", "v2") and len(parts) > 1:
        holder = _holder(hub, asked, write=True)
        if parts[1] == "xorb-grants" and len(parts) == 4:
            return _grant(hub, parts[3])
        if parts[1] == "xorb-commits" and len(parts) == 6:
            return _take_over(hub, parts[3], parts[5])
        if parts[1] == "xorbs" and len(parts) == 4:
            new = _keep(hub, parts[3], _xorb(asked.body))
            return Answer.json({"was_inserted": new})
        if parts[1] == "shards" and len(parts) == 2:
            _take_shard(hub, holder, asked.body)
            said = {"type": "result"} if parts[0] == "v2" else {"result": 1}
            return Answer(200, json.dumps(said).encode() + b"\n")
    raise Refusal(404, f"No such call: {asked.method} {asked.target}")


def _holder(hub: Hub, asked: Asked, *, write: bool = False) -> Pass:
    held = hub.xet.passes.get(asked.headers.get("authorization", "").removeprefix("Bearer "))
    if held is None or held.until <= hub.clock():
        raise Refusal(401, "No token of Xet, or one that is over")
    if write and not held.write:
        raise Refusal(403, "This token of Xet is for reading")
    return held


def _known(hub: Hub, chunk: str) -> Answer:
    """Tell what lies beside a chunk that is here, so that none of it is sent again."""
    xorb = hub.xet.chunks.get(chunk)
    if xorb is None:
        raise Refusal(404, "No such chunk")
    shard = mdb.of_xorbs([hub.xet.blocks[xorb]], int(hub.until))
    return Answer(200, shard, {"Content-Type": "application/octet-stream"})


def _xorb(data: bytes) -> Xorb:
    try:
        xorb = Xorb(data)
        xorb.unpack(0, xorb.count)
    except ValueError as error:
        raise Refusal(400, f"Not a xorb: {error}") from None
    if len(data) > LARGEST:
        raise Refusal(400, f"A xorb of {len(data)} bytes; at most {LARGEST} are taken")
    return xorb


def _keep(hub: Hub, name: str, xorb: Xorb) -> bool:
    with hub.state.lock:
        new = name not in hub.xet.xorbs
        hub.xet.xorbs.setdefault(name, xorb)
    return new


def _grant(hub: Hub, name: str) -> Answer:
    if name in hub.xet.xorbs:
        return Answer.json({}, 200)
    number = f"grant-{next(hub.xet.numbers)}"
    hub.xet.grants[number] = name
    there = hub.signed("PUT", f"/xorbs/{name}/{number}")
    return Answer.json({"id": number, "method": "PUT", "url": there, "headers": {}}, 201)


def _take_over(hub: Hub, name: str, number: str) -> Answer:
    arrived = hub.xet.arrived.get(number)
    if arrived is None or hub.xet.grants.get(number) != name:
        raise Refusal(404, "Nothing was uploaded by this grant")
    return Answer.json({"was_inserted": _keep(hub, name, arrived)})


def cdn_answer(hub: Hub, asked: Asked) -> Answer:
    """Serve a part of a xorb, or take one: ``/xorbs/{hash}[/{grant}]`` at the CDN."""
    refusal = cdn.check(hub, asked)
    if refusal is not None:
        return refusal
    _, name, *grant = asked.parts
    if grant:
        hub.xet.arrived[grant[0]] = _xorb(asked.body)
        return Answer(200, b"", {"ETag": cdn.etag(asked.body)})
    if name not in hub.xet.xorbs:
        return Answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
    return serve_bytes(asked, hub.xet.xorbs[name].data, {})


def _take_shard(hub: Hub, holder: Pass, body: bytes) -> None:
    """Make files of chunks that are here; all of a shard, or nothing."""
    try:
        shard = mdb.parse(body)
        made = {file.hash: _file_of(hub, file) for file in shard.files}
    except (ValueError, KeyError) as error:
        raise Refusal(400, f"This shard does not stand: {error}") from None
    repo = hub.state.repos[holder.kind, holder.name]
    with hub.state.lock:
        for entry in shard.xorbs:
            hub.xet.blocks[entry.hash] = entry.block
            hub.xet.chunks |= dict.fromkeys(entry.chunks, entry.hash)
        for file in shard.files:
            hub.xet.files[file.hash] = file.terms
            sha256 = hashlib.sha256(made[file.hash]).hexdigest()
            repo.objects[sha256] = made[file.hash]
            repo.xet[sha256] = file.hash


def _file_of(hub: Hub, file: mdb.XetFile) -> bytes:
    if not file.verified:
        raise ValueError(f"file {file.hash} comes without hashes of its terms")
    parts = []
    for term in file.terms:
        if term.xorb not in hub.xet.xorbs:
            raise ValueError(f"xorb {term.xorb} was not uploaded")
        parts.append(hub.xet.xorbs[term.xorb].unpack(term.first, term.last))
        if len(parts[-1]) != term.size:
            raise ValueError(f"a term of file {file.hash} is not as long as it says")
    data = b"".join(parts)
    if file.sha256 not in (None, hashlib.sha256(data).hexdigest()):
        raise ValueError(f"file {file.hash} has another SHA-256")
    return data


def _adopt(hub: Hub, holder: Pass, name: str) -> None:
    """Take in a file that a test put into a bucket: there its name is its SHA-256."""
    repo = hub.state.repos[holder.kind, holder.name]
    commit = repo.head()
    held = commit.files.values() if commit is not None and repo.type == "buckets" else ()
    for file in held:
        if file.sha256 == name and name not in hub.xet.files and file.data:
            hub.xet.xorbs[name] = xorb = pack(file.data)
            hub.xet.files[name] = (Term(name, 0, xorb.count, len(file.data)),)


def _reconstruction(hub: Hub, asked: Asked, name: str) -> Answer:
    """Say of which chunks a file is made, and where they are."""
    _adopt(hub, _holder(hub, asked), name)
    if name not in hub.xet.files:
        raise Refusal(404, "No such file")
    terms = hub.xet.files[name]
    total = sum(term.size for term in terms)
    wanted = asked.headers.get("range", "bytes=0-").removeprefix("bytes=")
    start = int(wanted.partition("-")[0])
    stop = min(int(wanted.partition("-")[2] or total) + 1, total)
    if start >= stop:
        raise Refusal(416, f"The file has {total} bytes")
    ends = list(itertools.accumulate(term.size for term in terms))
    parts = [t for t, end in zip(terms, ends, strict=True) if end > start and end - t.size < stop]
    skipped = start - (ends[terms.index(parts[0])] - parts[0].size)
    fetch = {xorb: _places(hub, xorb, parts) for xorb in {term.xorb for term in parts}}
    told = [
        {
            "hash": term.xorb,
            "unpacked_length": term.size,
            "range": {"start": term.first, "end": term.last},
        }
        for term in parts
    ]
    return Answer.json({"offset_into_first_range": skipped, "terms": told, "fetch_info": fetch})


def _places(hub: Hub, xorb: str, terms: list[Term]) -> list[dict[str, Any]]:
    """Where the chunks of terms are to be had: no chunk twice, neighbours together."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted((t.first, t.last) for t in terms if t.xorb == xorb):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    found = []
    for first, last in joined:
        start, stop = hub.xet.xorbs[xorb].stretch(first, last)
        place = {"range": {"start": first, "end": last}}
        place["url_range"] = {"start": start, "end": stop - 1}
        found.append({**place, "url": hub.signed("GET", f"/xorbs/{xorb}")})
    return found
