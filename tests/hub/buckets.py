"""Buckets: objects without commits, all of them at the CDN. Here they are read; their calls have
the form of those of repos, without a revision.

A bucket is a ``Repo`` of the type ``buckets``, whose head is what the bucket holds now.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from hub.access import find_repo
from hub.state import Commit, Repo
from hub.web import Answer, Asked, Refusal

if TYPE_CHECKING:
    from hub.server import Hub


def call(hub: Hub, asked: Asked, name: str, rest: list[str]) -> Answer:
    """Answer ``/api/buckets/{name}/…``."""
    repo = find_repo(hub.state, asked, "buckets", name)
    if not rest:
        return Answer.json(_about(repo))
    if rest[0] == "tree":
        return _tree(hub, asked, _held(repo), "/".join(rest[1:]))
    if rest[0] == "paths-info" and asked.method == "POST":
        held = _held(repo)
        paths = [path for path in asked.json()["paths"] if path in held.files]
        return Answer.json([_entry(held, path) for path in paths])
    raise Refusal(404, f"No such call: {asked.method} {asked.target}")


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
        "X-Xet-Hash": file.sha256,
        "Location": hub.signed("GET", f"/buckets/{name}/{file.sha256}"),
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


def _entry(held: Commit, path: str) -> dict[str, Any]:
    if path.endswith("/"):
        return {"type": "directory", "path": path[:-1], "uploadedAt": held.date}
    file = held.files[path]
    about = {"type": "file", "path": path, "size": len(file.data), "xetHash": file.sha256}
    return {**about, "mtime": held.date, "uploadedAt": held.date}


def _tree(hub: Hub, asked: Asked, held: Commit, prefix: str) -> Answer:
    """A page of what begins with a prefix; of a folder without ``recursive`` only what is in it."""
    if asked.flag("recursive"):
        found = [path for path in sorted(held.files) if path.startswith(prefix)]
    else:
        found = list(held.folders.get(prefix, []))
    start = int(base64.urlsafe_b64decode(asked.query.get("cursor") or b"MA=="))
    answer = Answer.json([_entry(held, path) for path in found[start : start + hub.page_size]])
    if start + hub.page_size >= len(found):
        return answer
    cursor = base64.urlsafe_b64encode(str(start + hub.page_size).encode()).decode()
    query = urlencode({**asked.query, "cursor": cursor})
    link = f'<{hub.url}{asked.target.partition("?")[0]}?{query}>; rel="next"'
    return Answer(answer.status, answer.body, {**answer.headers, "Link": link})
