"""Calls that read: who am I, repos, listings, files."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from hub import cards, xet
from hub.access import caller, check_gate, find_repo, place, somebody
from hub.state import Commit, File, Repo
from hub.web import Answer, Asked, Refusal, serve_bytes

if TYPE_CHECKING:
    from hub.server import Hub

EXPANDED_PAGE = 50


def whoami(hub: Hub, asked: Asked) -> Answer:
    token = somebody(hub.state, asked)
    role = "fineGrained" if token.repos is not None else "write" if token.write else "read"
    access = {"displayName": "test", "role": role}
    return Answer.json(
        {
            "type": "user",
            "id": f"id-of-{token.user}",
            "name": token.user,
            "fullname": token.user.title(),
            "isPro": False,
            "orgs": [{"type": "org", "name": org, "roleInOrg": "write"} for org in token.orgs],
            "auth": {"type": "access_token", "accessToken": access},
        }
    )


def _sibling(path: str, file: File, details: bool) -> dict[str, Any]:
    if not details:
        return {"rfilename": path}
    found = {"rfilename": path, "size": len(file.data), "blobId": file.oid}
    if file.lfs:
        size, pointer = len(file.data), len(file.pointer)
        found["lfs"] = {"size": size, "sha256": file.sha256, "pointerSize": pointer}
    return found


def repo_info(hub: Hub, asked: Asked, repo: Repo, rest: list[str]) -> Answer:
    commit = place(repo, rest).commit
    if asked.query.get("expand") == "sha":
        return Answer.json({"_id": f"id-of-{repo.id}", "id": repo.id, "sha": commit.oid})
    about = cards.front_matter(commit.files.get("README.md", File(b"")).data.decode())
    siblings = [_sibling(p, f, asked.flag("blobs")) for p, f in sorted(commit.files.items())]
    found = {
        "_id": f"id-of-{repo.id}",
        "id": repo.id,
        "author": repo.namespace,
        "sha": commit.oid,
        "createdAt": min(c.date for c in repo.commits.values()),
        "lastModified": commit.date,
        "private": repo.private,
        "gated": "manual" if repo.gated else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": about.get("tags") or [],
        "cardData": about,
        "usedStorage": sum(map(len, repo.objects.values())),
        "siblings": siblings,
    }
    return Answer.json(found, X_Repo_Commit=commit.oid)


def _entry(repo: Repo, commit: Commit, path: str, expand: bool) -> dict[str, Any]:
    """One file or folder (which ends with a slash) of a listing."""
    found: dict[str, Any]
    if path.endswith("/"):
        found = {"type": "directory", "path": path[:-1], "size": 0}
        found["oid"] = File(f"{commit.oid}/{path}".encode()).oid
    else:
        file = commit.files[path]
        found = {"type": "file", "path": path, "size": len(file.data), "oid": file.oid}
        if file.lfs:
            sizes = {"size": len(file.data), "pointerSize": len(file.pointer)}
            found["lfs"] = {"oid": file.sha256, **sizes}
            if file.sha256 in repo.xet:
                found["xetHash"] = repo.xet[file.sha256]
        if expand:
            scan = {"status": "safe", "avScan": None, "pickleImportScan": None}
            found["securityFileStatus"] = scan
    if expand:
        touched = {
            oid
            for p, oid in commit.changed.items()
            if p == path or (path.endswith("/") and p.startswith(path))
        }
        last = max((repo.commits[oid] for oid in touched), key=lambda made: made.date)
        found["lastCommit"] = {"id": last.oid, "title": last.title, "date": last.date}
    return found


def _walk(commit: Commit, folder: str, recursive: bool) -> Iterator[str]:
    for child in commit.folders[folder]:
        yield child
        if recursive and child.endswith("/"):
            yield from _walk(commit, child[:-1], True)


def tree(hub: Hub, asked: Asked, repo: Repo, rest: list[str]) -> Answer:
    where = place(repo, rest)
    commit, expand = where.commit, asked.flag("expand")
    if where.path not in commit.folders:
        raise where.missing()
    found = list(_walk(commit, where.path, asked.flag("recursive")))
    size = min(EXPANDED_PAGE, hub.page_size) if expand else hub.page_size
    size = min(size, int(asked.query.get("limit", size)))
    start = int(base64.urlsafe_b64decode(asked.query.get("cursor") or b"MA=="))
    entries = [_entry(repo, commit, path, expand) for path in found[start : start + size]]
    headers = {"X-Repo-Commit": commit.oid}
    if start + size < len(found):
        cursor = base64.urlsafe_b64encode(str(start + size).encode()).decode()
        query = urlencode({**asked.query, "cursor": cursor})
        headers["Link"] = f'<{hub.url}{asked.target.partition("?")[0]}?{query}>; rel="next"'
    answer = Answer.json(entries)
    return Answer(answer.status, answer.body, {**answer.headers, **headers})


def paths_info(hub: Hub, asked: Asked, repo: Repo, rest: list[str]) -> Answer:
    commit = place(repo, rest).commit
    if "json" in asked.headers.get("content-type", ""):
        sent = asked.json()
        paths, expand = sent.get("paths", []), bool(sent.get("expand"))
    else:
        form = asked.form()
        paths = form.get("paths", [])
        expand = form.get("expand", [""])[-1].lower() in ("1", "true")
    if len(paths) > 1000:
        raise Refusal(413, "too many parameters")
    found = []
    for path in paths:
        path = path.strip("/")
        if path in commit.files:
            found.append(_entry(repo, commit, path, expand))
        elif path and path in commit.folders:
            found.append(_entry(repo, commit, f"{path}/", expand))
    return Answer.json(found, X_Repo_Commit=commit.oid)


def refs(hub: Hub, asked: Asked, repo: Repo, rest: list[str]) -> Answer:
    found: dict[str, list[dict[str, str]]] = {"branches": [], "tags": [], "converts": []}
    if asked.flag("include_prs"):
        found["pullRequests"] = []
    kinds = {"heads": "branches", "tags": "tags", "convert": "converts", "pr": "pullRequests"}
    for ref, oid in repo.refs.items():
        _, kind, name = ref.split("/", 2)
        if kinds[kind] in found:
            found[kinds[kind]].append({"name": name, "ref": ref, "targetCommit": oid})
    return Answer.json(found)


def commits(hub: Hub, asked: Asked, repo: Repo, rest: list[str]) -> Answer:
    found: list[dict[str, Any]] = []
    commit: Commit | None = place(repo, rest).commit
    while commit is not None:
        said = {"id": commit.oid, "title": commit.title, "message": commit.message}
        found.append({**said, "date": commit.date, "authors": [{"user": repo.namespace}]})
        commit = repo.commits.get(commit.parent or "")
    return Answer.json(found)


def auth_check(hub: Hub, asked: Asked, repo: Repo, rest: list[str]) -> Answer:
    return Answer.json({"auth": caller(hub.state, asked) is not None})


def resolve(hub: Hub, asked: Asked, kind: str, name: str, rest: list[str]) -> Answer:
    """A file by its address: elsewhere on this host, or at the CDN if it is large."""
    repo = find_repo(hub.state, asked, kind, name)
    check_gate(hub.state, asked, repo)
    where = place(repo, rest)
    commit = where.commit
    if where.path not in commit.files:
        raise where.missing()
    file = commit.files[where.path]
    headers = {
        "X-Repo-Commit": commit.oid,
        "X-Linked-Size": str(len(file.data)),
        "X-Linked-ETag": file.etag,
        "Accept-Ranges": "bytes",
    }
    if file.lfs:
        there = hub.signed("GET", f"/{kind}/{name}/{file.sha256}")
        headers |= xet.told(hub, repo, file.sha256, commit.oid)
        return Answer(302, f"Found. Redirecting to {there}".encode(), headers | {"Location": there})
    path = quote(f"/api/resolve-cache/{kind}/{name}/{commit.oid}/{where.path}")
    here = f"{path}?{urlencode({'etag': file.etag})}"
    body = f"Temporary Redirect. Redirecting to {here}".encode()
    return Answer(307, body, headers | {"Location": here})


def resolve_cache(hub: Hub, asked: Asked, kind: str, name: str, rest: list[str]) -> Answer:
    repo = find_repo(hub.state, asked, kind, name)
    check_gate(hub.state, asked, repo)
    where = place(repo, rest)
    if where.path not in where.commit.files:
        raise where.missing()
    file = where.commit.files[where.path]
    headers = {"X-Repo-Commit": where.commit.oid, "ETag": file.etag}
    return serve_bytes(asked, file.data, headers)
