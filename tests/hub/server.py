"""The Hub that tests start: its three origins, its state, and which function answers what."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from hub import attributes, buckets, cards, cdn, lfs, reading, web, writing, xet
from hub.access import find_repo, find_writable
from hub.log import RequestLog
from hub.state import TYPES, Commit, File, Repo, State, Token
from hub.web import Answer, Asked, Refusal

_READ = {
    "tree": reading.tree,
    "paths-info": reading.paths_info,
    "refs": reading.refs,
    "commits": reading.commits,
    "revision": reading.repo_info,
    "auth-check": reading.auth_check,
}
_WRITE = {"preupload": writing.preupload, "commit": writing.commit}
# Knobs of a Hub, which a test may turn.
KNOBS = (
    *("clock", "latency", "lifetime", "page_size", "part_size"),
    *("most_files_in_folder", "most_files_in_preupload", "most_files_in_repo", "most_large_files"),
    "most_in_bucket_batch",
)
_ALONE = {
    ("GET", "whoami-v2"): reading.whoami,
    ("POST", "repos/create"): writing.create_repo,
    ("DELETE", "repos/delete"): writing.delete_repo,
    ("POST", "validate-yaml"): cards.validate_yaml,
}


class Hub:
    """A Hub under test."""

    def __init__(self) -> None:
        self.state = State()
        self.log = RequestLog()
        self.url = ""
        self.cdn_url = ""
        self.xet_url = ""
        self.xet = xet.Store()
        self.page_size = 1000
        self.lifetime = 3600.0
        """How long signed addresses are good, s."""
        self.clock: Callable[[], float] = time.time
        self.latency = 0.0
        """How long each request waits before it is answered, s."""
        self.part_size: int | None = None
        """Large objects of more bytes are uploaded in parts of so many; None for all in one."""
        self.most_files_in_folder = 10_000
        self.most_files_in_repo: int | None = None
        """The real Hub only advises against more than 100,000."""
        self.most_files_in_preupload = 256
        self.most_large_files = 25_000
        """In one commit."""
        self.most_in_bucket_batch = 1000
        self.faults: list[Callable[[Asked], Answer | None]] = []
        """Each is asked first; the first answer that is not None is sent."""

    # What a test sets up.

    def add_token(
        self,
        secret: str,
        user: str = "user",
        *,
        orgs: tuple[str, ...] = (),
        repos: tuple[str, ...] | None = None,
        write: bool = True,
    ) -> Token:
        allowed = None if repos is None else frozenset(repos)
        token = Token(secret, user, orgs, allowed, write)
        self.state.tokens[secret] = token
        return token

    def add_repo(
        self,
        name: str,
        files: Mapping[str, bytes | str] | Path | None = None,
        *,
        type: str = "dataset",
        private: bool = False,
        gated: bool = False,
    ) -> Repo:
        """Make a repo of files, or of everything in a folder."""
        repo = Repo(f"{type}s", name, private=private, gated=gated)
        self.state.repos[f"{type}s", name] = repo
        if files is not None:
            self.add_commit(repo, files)
        return repo

    def add_commit(
        self, repo: Repo, files: Mapping[str, bytes | str] | Path, title: str = "add files"
    ) -> Commit:
        """Commit files to main; the large ones (as the Hub judges) lie at the CDN."""
        if isinstance(files, Path):
            found = {p.relative_to(files).as_posix(): p for p in files.rglob("*") if p.is_file()}
            files = {path: file.read_bytes() for path, file in sorted(found.items())}
        made = {}
        head = repo.head()
        there = {} if head is None else head.files
        for path, data in files.items():
            data = data.encode() if isinstance(data, str) else data
            large = attributes.is_large(there, path, len(data), data[:512])
            made[path] = File(data, lfs=large and bool(data))
        return repo.commit(made, title=title)

    def repo(self, name: str, type: str = "dataset") -> Repo:
        return self.state.repos[f"{type}s", name]

    def files(self, name: str, type: str = "dataset", revision: str = "main") -> dict[str, bytes]:
        """What a repo holds."""
        commit = self.repo(name, type).head(revision)
        if commit is None:
            raise KeyError(revision)
        return {path: file.data for path, file in commit.files.items()}

    def files_holding(self, secret: str) -> list[str]:
        """Files of any repo, in any commit, that hold a text."""
        return [
            f"{repo.type}/{repo.id}@{commit.oid}/{path}"
            for repo in self.state.repos.values()
            for commit in repo.commits.values()
            for path, file in commit.files.items()
            if secret.encode() in file.data
        ]

    # What requests ask for.

    @property
    def until(self) -> float:
        """When an address that is signed now expires (epoch, s)."""
        return self.clock() + self.lifetime

    def signed(self, method: str, path: str) -> str:
        """A signed address at the CDN."""
        return self.cdn_url + cdn.sign(method, path, self.until)

    def answer(self, asked: Asked) -> Answer:
        if self.latency:
            time.sleep(self.latency)
        for fault in tuple(self.faults):
            answer = fault(asked)
            if answer is not None:
                return answer
        return self.truth(asked)

    def truth(self, asked: Asked) -> Answer:
        """The answer at once, and without a fault."""
        if asked.origin == "xet":
            return xet.answer(self, asked)
        if asked.origin == "cdn" and asked.parts[0] == "xorbs":
            return xet.cdn_answer(self, asked)
        if asked.origin == "cdn":
            return cdn.answer(self, asked)
        return self._api(asked) if asked.parts[0] == "api" else self._site(asked)

    def _api(self, asked: Asked) -> Answer:
        parts = asked.parts[1:]
        alone = _ALONE.get((asked.method, "/".join(parts)))
        if alone is not None:
            return alone(self, asked)
        if parts[0] == "complete-multipart":
            return lfs.complete(self, asked)
        if parts[0] == "resolve-cache" and len(parts) > 4:
            return reading.resolve_cache(self, asked, parts[1], "/".join(parts[2:4]), parts[4:])
        if parts[0] == "buckets" and len(parts) == 2:
            return buckets.list_all(self, asked, parts[1])
        if parts[0] == "buckets" and len(parts) >= 3:
            return buckets.call(self, asked, "/".join(parts[1:3]), parts[3:])
        if parts[0] in TYPES and len(parts) >= 3:
            return self._of_repo(asked, parts[0], "/".join(parts[1:3]), parts[3:])
        if parts[0] in TYPES and len(parts) == 2:
            # A name without an owner, as older clients try what lies in front of a path.
            find_repo(self.state, asked, parts[0], parts[1])
        raise Refusal(404, f"No such call: {asked.method} {asked.target}")

    def _of_repo(self, asked: Asked, kind: str, name: str, rest: list[str]) -> Answer:
        verb = rest[0] if rest else "revision"
        if verb in ("xet-read-token", "xet-write-token"):
            return xet.token(self, asked, kind, name, verb)
        if verb in _READ:
            repo = find_repo(self.state, asked, kind, name)
            return _READ[verb](self, asked, repo, rest[1:])
        if verb in _WRITE and asked.method == "POST":
            repo = find_writable(self.state, asked, kind, name)
            return _WRITE[verb](self, asked, repo, rest[1:])
        if verb == "settings" and asked.method == "PUT":
            repo = find_writable(self.state, asked, kind, name)
            return writing.change_settings(self, asked, repo, rest[1:])
        if verb in ("branch", "tag"):
            repo = find_writable(self.state, asked, kind, name)
            return writing.change_ref(self, asked, repo, verb, rest[1:])
        raise Refusal(404, f"No such call: {asked.method} {asked.target}")

    def _site(self, asked: Asked) -> Answer:
        """Addresses without ``/api``: files, and git's own protocol for large ones."""
        parts = asked.parts
        if parts[0] == "buckets" and len(parts) > 4 and parts[3] == "resolve":
            return buckets.resolve(self, asked, "/".join(parts[1:3]), "/".join(parts[4:]))
        kind = parts.pop(0) if parts[0] in TYPES else "models"
        if len(parts) > 3 and parts[2] == "resolve":
            return reading.resolve(self, asked, kind, "/".join(parts[:2]), parts[3:])
        name, call = "/".join(parts[:2]).removesuffix(".git"), "/".join(parts[2:])
        if call == "info/lfs/objects/batch":
            return lfs.batch(self, asked, kind, name)
        if call == "info/lfs/objects/verify":
            return lfs.verify(self, asked, kind, name)
        raise Refusal(404, f"No such page: {asked.method} {asked.target}")


@contextlib.contextmanager
def running_hub() -> Iterator[Hub]:
    """Start a Hub, its CDN and its Xet; stop them at the end."""
    hub = Hub()
    with contextlib.ExitStack() as stack:
        hub.url, stop = web.start("hub", hub)
        stack.callback(stop)
        hub.cdn_url, stop = web.start("cdn", hub)
        stack.callback(stop)
        hub.xet_url, stop = web.start("xet", hub)
        stack.callback(stop)
        yield hub
