"""Buckets: objects without commits, all of them at the CDN. Their calls have the form of those of
repos, without a revision; objects come by Xet alone.

A bucket is a ``Repo`` of the type ``buckets``, whose head is what the bucket holds now.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from hub import xet
from hub.access import caller, find_repo, find_writable, somebody
from hub.state import Commit, File, Repo
from hub.web import Answer, Asked, Refusal

if TYPE_CHECKING:
    from hub.server import Hub


def call(hub: Hub, asked: Asked, name: str, rest: list[str]) -> Answer:
    """Answer ``/api/buckets/{name}/…``."""
    verb = rest[0] if rest else ""
    if verb in ("xet-read-token", "xet-write-token"):
        return xet.token(hub, asked, "buckets", name, verb)
    if not rest and asked.method == "POST":
        return _create(hub, asked, name)
    if asked.method in ("DELETE", "PUT") or verb == "batch":
        return _change(hub, asked, find_writable(hub.state, asked, "buckets", name), verb)
    repo = find_repo(hub.state, asked, "buckets", name)
    if not rest:
        return Answer.json(_about(repo))
    if verb == "tree":
        return _tree(hub, asked, repo, "/".join(rest[1:]))
    if verb == "paths-info" and asked.method == "POST":
        paths = [path for path in asked.json()["paths"] if path in _held(repo).files]
        return Answer.json([_entry(repo, path) for path in paths])
    raise Refusal(404, f"No such call: {asked.method} {asked.target}")


def list_all(hub: Hub, asked: Asked, owner: str) -> Answer:
    """The buckets of a user or an organization that the caller may see."""
    token = caller(hub.state, asked)
    owner = somebody(hub.state, asked).user if owner == "me" else owner
    found = [
        repo
        for (kind, _), repo in sorted(hub.state.repos.items())
        if kind == "buckets" and repo.namespace == owner
    ]
    seen = [repo for repo in found if not repo.private or (token and token.opens(repo))]
    return Answer.json([_about(repo) for repo in seen])


def _create(hub: Hub, asked: Asked, name: str) -> Answer:
    token = somebody(hub.state, asked)
    owner, _, rest = name.partition("/")
    owner = token.user if owner == "me" else owner
    if not token.write or owner not in (token.user, *token.orgs):
        raise Refusal(403, f"You don't have the rights to create a bucket under {owner}")
    name = f"{owner}/{rest}"
    url = f"{hub.url}/buckets/{name}"
    with hub.state.lock:
        if ("buckets", name) in hub.state.repos:
            return Answer.json({"error": f"Bucket {name} already exists", "url": url}, 409)
        private = asked.json().get("visibility") == "private"
        hub.state.repos["buckets", name] = Repo("buckets", name, private=private)
    return Answer.json({"url": url})


def _change(hub: Hub, asked: Asked, repo: Repo, verb: str) -> Answer:
    if verb == "" and asked.method == "DELETE":
        del hub.state.repos["buckets", repo.id]
        return Answer.json({})
    if verb == "settings" and asked.method == "PUT":
        repo.private = bool(asked.json().get("private", repo.private))
        return Answer.json({"private": repo.private})
    if verb == "batch" and asked.method == "POST":
        return _batch(hub, asked, repo)
    raise Refusal(404, f"No such call: {asked.method} {asked.target}")


def _batch(hub: Hub, asked: Asked, repo: Repo) -> Answer:
    """Add, copy and delete objects, each by itself: what fails is told, the rest is done."""
    lines = [json.loads(line) for line in asked.body.splitlines() if line]
    if len(lines) > hub.most_in_bucket_batch:
        raise Refusal(413, f"At most {hub.most_in_bucket_batch} operations, not {len(lines)}")
    failed = []
    with hub.state.lock:
        add, gone = dict[str, File](), set[str]()
        for line in lines:
            path = line["path"]
            if any(part in ("", ".", "..") for part in path.split("/")):
                failed.append({"path": path, "error": "Invalid path"})
            elif line["type"] == "deleteFile":
                add.pop(path, None)
                gone.add(path)
            else:
                data = _data(hub, line)
                if data is None:
                    failed.append({"path": path, "error": f"No such file: {line['xetHash']}"})
                    continue
                add[path] = File(data, lfs=True)
                repo.xet[add[path].sha256] = line["xetHash"]
                moment = datetime.fromtimestamp(line["mtime"] / 1000, UTC)
                repo.mtimes[path] = moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        repo.commit(add, gone)
    done = len(lines) - len(failed)
    said = {"success": not failed, "processed": len(lines), "succeeded": done, "failed": failed}
    return Answer.json(said, 422 if failed and not done else 200)


def _data(hub: Hub, line: dict[str, Any]) -> bytes | None:
    """The bytes that a line names: sent by Xet, or in the repo that they are copied from."""
    found = hub.xet.data(line["xetHash"])
    if found is not None or line["type"] == "addFile":
        return found
    source = hub.state.repos.get((f"{line['sourceRepoType']}s", line["sourceRepoId"]))
    return None if source is None else source.objects.get(line["xetHash"])


def resolve(hub: Hub, asked: Asked, name: str, path: str) -> Answer:
    """An object by its address."""
    repo = find_repo(hub.state, asked, "buckets", name)
    file = _held(repo).files.get(path)
    if file is None:
        raise Refusal(404, "Entry not found", "EntryNotFound")
    with hub.state.lock:
        repo.objects[file.sha256] = file.data
    headers = {
        "X-Linked-Size": str(len(file.data)),
        "X-Linked-ETag": f'"{file.sha256}"',
        "Location": hub.signed("GET", f"/buckets/{name}/{file.sha256}"),
        **xet.told(hub, repo, file.sha256, None),
    }
    return Answer(302, b"", headers)


def _held(repo: Repo) -> Commit:
    commit = repo.head()
    if commit is None:
        raise Refusal(404, "Entry not found", "EntryNotFound")
    return commit


def _about(repo: Repo) -> dict[str, Any]:
    held = _held(repo)
    return {
        "id": repo.id,
        "private": repo.private,
        "createdAt": held.date,
        "size": sum(len(file.data) for file in held.files.values()),
        "totalFiles": len(held.files),
    }


def _entry(repo: Repo, path: str) -> dict[str, Any]:
    held = _held(repo)
    if path.endswith("/"):
        return {"type": "directory", "path": path[:-1], "uploadedAt": held.date}
    file = held.files[path]
    told = repo.xet.get(file.sha256, file.sha256)
    about = {"type": "file", "path": path, "size": len(file.data), "xetHash": told}
    return {**about, "mtime": repo.mtimes.get(path, held.date), "uploadedAt": held.date}


def _tree(hub: Hub, asked: Asked, repo: Repo, prefix: str) -> Answer:
    """A page of what begins with a prefix; of a folder without ``recursive`` only what is in it."""
    held = _held(repo)
    if asked.flag("recursive"):
        found = [path for path in sorted(held.files) if path.startswith(prefix)]
    else:
        found = list(held.folders.get(prefix, []))
    start = int(base64.urlsafe_b64decode(asked.query.get("cursor") or b"MA=="))
    answer = Answer.json([_entry(repo, path) for path in found[start : start + hub.page_size]])
    if start + hub.page_size >= len(found):
        return answer
    cursor = base64.urlsafe_b64encode(str(start + hub.page_size).encode()).decode()
    query = urlencode({**asked.query, "cursor": cursor})
    link = f'<{hub.url}{asked.target.partition("?")[0]}?{query}>; rel="next"'
    return Answer(answer.status, answer.body, {**answer.headers, "Link": link})
