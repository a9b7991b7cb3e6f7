"""Calls that write: repos, refs, commits."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from hub import cards
from hub.access import find_writable, place, somebody
from hub.attributes import GITATTRIBUTES, is_large
from hub.state import Commit, File, Repo
from hub.web import Answer, Asked, Refusal

if TYPE_CHECKING:
    from hub.server import Hub


def create_repo(hub: Hub, asked: Asked) -> Answer:
    token, said = somebody(hub.state, asked), asked.json()
    kind = f"{said.get('type') or 'model'}s"
    owner = said.get("organization") or token.user
    if not token.write or owner not in (token.user, *token.orgs):
        raise Refusal(403, f"You don't have the rights to create a {kind[:-1]} under {owner}")
    name = f"{owner}/{said['name']}"
    url = f"{hub.url}/{'' if kind == 'models' else f'{kind}/'}{name}"
    with hub.state.lock:
        if (kind, name) in hub.state.repos:
            body = {"error": f"You already created this {kind[:-1]} repo: {name}", "url": url}
            return Answer.json(body, 409)
        private = said.get("visibility") == "private" or bool(said.get("private"))
        hub.state.repos[kind, name] = made = Repo(kind, name, private=private)
        made.commit({".gitattributes": GITATTRIBUTES}, title="initial commit")
    return Answer.json({"url": url, "name": name, "id": f"id-of-{name}"})


def delete_repo(hub: Hub, asked: Asked) -> Answer:
    token, said = somebody(hub.state, asked), asked.json()
    kind = f"{said.get('type') or 'model'}s"
    repo = find_writable(
        hub.state, asked, kind, f"{said.get('organization') or token.user}/{said['name']}"
    )
    with hub.state.lock:
        del hub.state.repos[kind, repo.id]
    return Answer.json({})


def change_settings(hub: Hub, asked: Asked, repo: Repo, rest: list[str]) -> Answer:
    said = asked.json()
    with hub.state.lock:
        if "private" in said or "visibility" in said:
            repo.private = said.get("visibility") == "private" or bool(said.get("private"))
        repo.gated = bool(said.get("gated", repo.gated))
    return Answer.json({"private": repo.private, "gated": repo.gated})


def change_ref(hub: Hub, asked: Asked, repo: Repo, kind: str, rest: list[str]) -> Answer:
    """Make or drop a branch or a tag (``kind``)."""
    name, said = "/".join(rest), asked.json() if asked.method == "POST" else {}
    start = said.get("startingPoint", "main") if kind == "branch" else name
    folder = "refs/heads" if kind == "branch" else "refs/tags"
    ref = f"{folder}/{said.get('tag', name)}"
    with hub.state.lock:
        if asked.method == "DELETE":
            if repo.refs.pop(ref, None) is None:
                raise Refusal(404, f"No such {kind}: {name}", "RevisionNotFound")
            return Answer.json({})
        if ref in repo.refs:
            raise Refusal(409, f"Reference already exists: {ref}")
        repo.refs[ref] = place(repo, [start]).commit.oid
    return Answer.json({})


def preupload(hub: Hub, asked: Asked, repo: Repo, rest: list[str]) -> Answer:
    there, said = place(repo, rest).commit.files, asked.json()["files"]
    if len(said) > hub.most_files_in_preupload:
        raise Refusal(413, f"At most {hub.most_files_in_preupload} files, not {len(said)}")
    found = []
    for file in said:
        path = file["path"]
        large = is_large(there, path, file["size"], base64.b64decode(file["sample"]))
        old = there.get(path)
        oid = None if old is None else old.sha256 if old.lfs else old.oid
        mode = "lfs" if large else "regular"
        found.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return Answer.json({"files": found})


class _Changes:
    """What the lines of a commit ask for, checked against the commit that it lies over."""

    def __init__(self, repo: Repo, before: Commit) -> None:
        self.repo = repo
        self.before = before
        self.header: dict[str, Any] = {}
        self.add: dict[str, File] = {}
        self.delete: set[str] = set()

    def take(self, line: bytes) -> None:
        said = json.loads(line)
        value = said["value"]
        if said["key"] == "header":
            self.header = value
            return
        path = value["path"].rstrip("/")
        if not path or any(part in ("", ".", "..", ".git") for part in path.split("/")):
            raise Refusal(400, f"Invalid path: {value['path']}")
        if said["key"] == "file":
            self.add[path] = File(base64.b64decode(value["content"]))
        elif said["key"] == "lfsFile":
            if value["oid"] not in self.repo.objects:
                raise Refusal(400, f"LFS object {value['oid']} of {path} was not uploaded")
            self.add[path] = File(self.repo.objects[value["oid"]], lfs=True)
        elif said["key"] in ("deletedFile", "deletedFolder"):
            gone = {p for p in self.before.files if p == path or p.startswith(f"{path}/")}
            if (path not in gone and said["key"] == "deletedFile") or not gone:
                raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
            self.delete |= gone
        else:
            raise Refusal(400, f"Unknown operation: {said['key']}")

    def check(self, hub: Hub) -> None:
        large = sum(file.lfs for file in self.add.values())
        if large > hub.most_large_files:
            raise Refusal(400, f"At most {hub.most_large_files} LFS files a commit, not {large}")
        paths = {*self.before.files, *self.add} - (self.delete - set(self.add))
        if hub.most_files_in_repo is not None and len(paths) > hub.most_files_in_repo:
            raise Refusal(400, f"At most {hub.most_files_in_repo} files a repo, not {len(paths)}")
        self._check_folders(hub, paths)
        found = cards.errors(self.add["README.md"].data.decode()) if "README.md" in self.add else []
        if found:
            raise Refusal(400, f"Invalid metadata in README.md: {'; '.join(found)}")

    def _check_folders(self, hub: Hub, paths: set[str]) -> None:
        full: dict[str, int] = {}
        for path in paths:
            folder = path.rpartition("/")[0]
            full[folder] = full.get(folder, 0) + 1
        most = hub.most_files_in_folder
        crowded = [f"{folder or '/'} ({count})" for folder, count in full.items() if count > most]
        if crowded:
            raise Refusal(
                400,
                "Your push was rejected because it contains too many files per directory. "
                f"Each directory may hold up to {most} files: {', '.join(sorted(crowded))}",
            )
        parents = {path[:i] for path in paths for i, mark in enumerate(path) if mark == "/"}
        both = sorted(paths & parents)
        if both:
            raise Refusal(400, f"A file and a folder of the same name: {', '.join(both)}")


def commit(hub: Hub, asked: Asked, repo: Repo, rest: list[str]) -> Answer:
    revision = "/".join(rest)
    ref = revision if revision in repo.refs else f"refs/heads/{revision}"
    with hub.state.lock:
        if ref not in repo.refs:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        before = repo.commits[repo.refs[ref]]
        changes = _Changes(repo, before)
        for line in asked.body.splitlines():
            changes.take(line)
        changes.check(hub)
        parent = changes.header.get("parentCommit")
        if parent and not before.oid.startswith(parent) and not asked.flag("create_pr"):
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        number = sum(name.startswith("refs/pr/") for name in repo.refs) + 1
        made = repo.commit(
            changes.add,
            changes.delete,
            ref=f"refs/pr/{number}" if asked.flag("create_pr") else ref,
            parent=before.oid,
            title=changes.header.get("summary", ""),
            message=changes.header.get("description", ""),
        )
    where = f"{hub.url}/{repo.prefix}{repo.id}"
    answer = {"success": True, "commitOid": made.oid, "commitUrl": f"{where}/commit/{made.oid}"}
    if asked.flag("create_pr"):
        answer["pullRequestUrl"] = f"{where}/discussions/{number}"
    return Answer.json(answer)
