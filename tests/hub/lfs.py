"""Large objects by git's own protocol: where each is to be put, in one part or in several."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from hub import cdn
from hub.access import find_repo, find_writable
from hub.web import Answer, Asked, Refusal

if TYPE_CHECKING:
    from hub.server import Hub


def batch(hub: Hub, asked: Asked, kind: str, name: str) -> Answer:
    """Say for each large object where it is to be put; nothing for one that is there."""
    repo = find_writable(hub.state, asked, kind, name)
    found: list[dict[str, Any]] = []
    in_parts = False
    for wanted in asked.json()["objects"]:
        entry: dict[str, Any] = {"oid": wanted["oid"], "size": wanted["size"]}
        if wanted["oid"] not in repo.objects:
            path = f"/{kind}/{name}/{wanted['oid']}"
            part = hub.part_size
            if part is not None and wanted["size"] > part:
                in_parts, there = True, _parts(hub, path, wanted["size"], part)
            else:
                there = {"href": hub.signed("PUT", path)}
            verify = f"{hub.url}/{repo.prefix}{name}.git/info/lfs/objects/verify"
            entry["authenticated"] = True
            entry["actions"] = {"upload": there, "verify": {"href": verify}}
        found.append(entry)
    return Answer.json({"transfer": "multipart" if in_parts else "basic", "objects": found})


def _parts(hub: Hub, path: str, size: int, part: int) -> dict[str, Any]:
    """Where the parts go, and what is told when all of them are there."""
    count = -(-size // part)
    header = {"chunk_size": str(part)}
    header |= {f"{n:05}": hub.signed("PUT", f"{path}/{n}") for n in range(1, count + 1)}
    done = hub.url + cdn.sign("POST", f"/api/complete-multipart{path}", hub.until)
    return {"href": done, "header": header}


def complete(hub: Hub, asked: Asked) -> Answer:
    """Put the parts of an object together: ``/api/complete-multipart/{type}/{ns}/{name}/{oid}``.

    Whoever holds the signed address may; no token comes along.
    """
    refusal = cdn.check(hub, asked)
    if refusal is not None:
        return refusal
    kind, namespace, name, oid = asked.parts[2:]
    repo = hub.state.repos[kind, f"{namespace}/{name}"]
    said = asked.json()
    held = repo.parts.get(oid, {})
    told = {part["partNumber"]: part["etag"] for part in said["parts"]}
    if told != {number: cdn.etag(data) for number, data in held.items()}:
        raise Refusal(400, f"The parts of {oid} are not those that were uploaded")
    data = b"".join(held[number] for number in sorted(held))
    if hashlib.sha256(data).hexdigest() != oid or said["oid"] != oid:
        raise Refusal(400, f"The parts of {oid} make another object")
    with hub.state.lock:
        repo.objects[oid] = data
        del repo.parts[oid]
    return Answer.json({})


def verify(hub: Hub, asked: Asked, kind: str, name: str) -> Answer:
    repo, said = find_repo(hub.state, asked, kind, name), asked.json()
    held = repo.objects.get(said["oid"])
    if held is None or len(held) != said["size"]:
        raise Refusal(404, f"Object {said['oid']} was not uploaded")
    return Answer.json({"message": "ok"})
