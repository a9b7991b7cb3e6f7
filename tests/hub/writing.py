"""Calls that write: repos, refs, large objects, commits."""

from __future__ import annotations

import base64
import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from hub.access import find_repo, find_writable, place, somebody
from hub.state import Commit, File, Repo
from hub.web import Answer, Asked, Refusal

if TYPE_CHECKING:
    from hub.server import Hub

# A part of what the default .gitattributes of a repo names.
LARGE_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("7z", "arrow", "bin", "bz2", "gz", "h5", "npy", "npz", "parquet", "pt", "tar", "tgz"),
        *("zip", "zst", "png", "jpg", "tif"),
    )
)
LARGE_SIZE = 10 * 1024**2
MOST_FILES_PREUPLOAD = 256
MOST_LARGE_FILES = 25_000
MOST_FILES_IN_FOLDER = 10_000


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
        hub.state.repos[kind, name] = Repo(kind, name, private=private)
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


def validate_yaml(hub: Hub, asked: Asked) -> Answer:
    import yaml

    content = asked.json()["content"]
    if not content.startswith("---\n"):
        return Answer.json({"errors": [], "warnings": []})
    try:
        yaml.safe_load(content.split("---\n", 2)[1])
    except yaml.YAMLError as error:
        return Answer.json({"errors": [{"message": str(error)}], "warnings": []}, 400)
    return Answer.json({"errors": [], "warnings": []})


def _is_large(path: str, size: int, sample: bytes) -> bool:
    """Whether the Hub would keep a file outside of git: by suffix, by size, or for being binary."""
    return PurePosixPath(path).suffix in LARGE_SUFFIXES or size > LARGE_SIZE or b"\0" in sample


def preupload(hub: Hub, asked: Asked, repo: Repo, rest: list[str]) -> Answer:
    there, said = place(repo, rest).commit.files, asked.json()["files"]
    if len(said) > MOST_FILES_PREUPLOAD:
        raise Refusal(413, f"At most {MOST_FILES_PREUPLOAD} files, not {len(said)}")
    found = []
    for file in said:
        path = file["path"]
        large = _is_large(path, file["size"], base64.b64decode(file["sample"]))
        old = there.get(path)
        oid = None if old is None else old.sha256 if old.lfs else old.oid
        mode = "lfs" if large else "regular"
        found.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return Answer.json({"files": found})


def lfs_batch(hub: Hub, asked: Asked, kind: str, name: str) -> Answer:
    """Say for each large object where it is to be put; nothing for one that is there."""
    repo = find_writable(hub.state, asked, kind, name)
    found: list[dict[str, Any]] = []
    for wanted in asked.json()["objects"]:
        entry: dict[str, Any] = {"oid": wanted["oid"], "size": wanted["size"]}
        if wanted["oid"] not in repo.objects:
            there = hub.signed("PUT", f"/{kind}/{name}/{wanted['oid']}")
            verify = f"{hub.url}/{repo.prefix}{name}.git/info/lfs/objects/verify"
            entry["authenticated"] = True
            entry["actions"] = {"upload": {"href": there}, "verify": {"href": verify}}
        found.append(entry)
    return Answer.json({"transfer": "basic", "objects": found})


def lfs_verify(hub: Hub, asked: Asked, kind: str, name: str) -> Answer:
    repo, said = find_repo(hub.state, asked, kind, name), asked.json()
    held = repo.objects.get(said["oid"])
    if held is None or len(held) != said["size"]:
        raise Refusal(404, f"Object {said['oid']} was not uploaded")
    return Answer.json({"message": "ok"})


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

    def check(self) -> None:
        large = sum(file.lfs for file in self.add.values())
        if large > MOST_LARGE_FILES:
            raise Refusal(400, f"At most {MOST_LARGE_FILES} LFS files a commit, not {large}")
        full: dict[PurePosixPath, int] = {}
        for path in {*self.before.files, *self.add} - (self.delete - set(self.add)):
            folder = PurePosixPath(path).parent
            full[folder] = full.get(folder, 0) + 1
        crowded = [f"{f} ({n})" for f, n in full.items() if n > MOST_FILES_IN_FOLDER]
        if crowded:
            raise Refusal(400, f"Over {MOST_FILES_IN_FOLDER} files per directory: {crowded}")


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
        changes.check()
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
