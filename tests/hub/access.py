"""Who calls, which repo they mean, and whether they may."""

from __future__ import annotations

from dataclasses import dataclass

from hub.state import Commit, Repo, State, Token
from hub.web import Asked, Refusal

# Refs that contain slashes and are sent unquoted all the same.
_LONG_REFS = ("pr", "convert", "heads", "tags")


def caller(state: State, asked: Asked) -> Token | None:
    """The token of a request; None for nobody."""
    words = asked.headers.get("authorization", "").split()
    if not words:
        return None
    if words[0].lower() != "bearer" or words[-1] not in state.tokens:
        raise Refusal(401, "Invalid credentials in Authorization header")
    return state.tokens[words[-1]]


def somebody(state: State, asked: Asked) -> Token:
    """The token of a request that needs one."""
    token = caller(state, asked)
    if token is None:
        raise Refusal(401, "Invalid username or password.")
    return token


def find_repo(state: State, asked: Asked, kind: str, name: str) -> Repo:
    """A repo that the caller may read; what they may not see is not there."""
    token = caller(state, asked)
    repo = state.repos.get((kind, name))
    if repo is not None and (not repo.private or (token is not None and token.opens(repo))):
        return repo
    if token is None:
        raise Refusal(401, "Invalid username or password.", "RepoNotFound")
    raise Refusal(404, "Repository not found", "RepoNotFound")


def find_writable(state: State, asked: Asked, kind: str, name: str) -> Repo:
    """A repo that the caller may write to."""
    repo = find_repo(state, asked, kind, name)
    token = somebody(state, asked)
    if not (token.write and token.opens(repo)):
        raise Refusal(403, f"You don't have the rights to write to {repo.id}", None)
    return repo


def check_gate(state: State, asked: Asked, repo: Repo) -> None:
    """Refuse the files of a gated repo to those who were not let in; its listing is for all."""
    token = caller(state, asked)
    if not repo.gated or (token and (token.user in repo.granted or token.opens(repo))):
        return
    what = f"Access to {repo.type[:-1]} {repo.id} is restricted"
    if token is None:
        raise Refusal(401, f"{what}. You must be authenticated to access it.", "GatedRepo")
    raise Refusal(403, f"{what} and you are not in the authorized list.", "GatedRepo")


@dataclass(frozen=True)
class Place:
    """A revision of a repo, and a path in it."""

    repo: Repo
    revision: str
    path: str

    @property
    def commit(self) -> Commit:
        found = self.repo.head(self.revision)
        if found is None:
            raise Refusal(404, f"Invalid rev id: {self.revision}", "RevisionNotFound")
        return found

    def missing(self) -> Refusal:
        return Refusal(
            404, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": self.commit.oid}
        )


def place(repo: Repo, parts: list[str]) -> Place:
    """Take ``revision[/path]`` apart; a quoted part may hold slashes of its own."""
    size = 3 if len(parts) > 2 and parts[0] == "refs" and parts[1] in _LONG_REFS else 1
    return Place(repo, "/".join(parts[:size]) or "main", "/".join(p for p in parts[size:] if p))
