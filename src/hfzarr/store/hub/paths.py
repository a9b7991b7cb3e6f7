"""What an ``hf://`` URL names, and where the Hub keeps it: text in, text out."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import quote, unquote

from hfzarr.errors import TargetError

__all__ = ["HubPlace", "Kind", "parse_hub_url"]

Kind = Literal["models", "datasets", "spaces", "buckets"]

_SCHEME = "hf://"
_KINDS: tuple[Kind, ...] = ("models", "datasets", "spaces", "buckets")
# Revisions that contain a slash and are written unquoted all the same.
_LONG_REVISION = re.compile(r"refs/(?:convert/[\w.-]+|pr/\d+)(?=/|$)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FORM = "hf://datasets/namespace/name[@revision]/path/to/store.zarr"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubPlace:
    """A folder of a repo or a bucket.

    Attributes
    ----------
    kind
        ``"models"``, ``"datasets"``, ``"spaces"`` or ``"buckets"``.
    repo
        ``namespace/name``.
    revision
        A branch, a tag, a ref or a commit; None for the default branch, and for buckets.
    path
        The folder, without slashes at its ends; ``""`` for the root.

    Examples
    --------
    >>> place = parse_hub_url("hf://datasets/ada/cells@v1/a.zarr")
    >>> place.repo, place.revision, place.path
    ('ada/cells', 'v1', 'a.zarr')
    """

    kind: Kind
    repo: str
    revision: str | None = None
    path: str = ""

    @property
    def url(self) -> str:
        """The place as an ``hf://`` URL."""
        kind = "" if self.kind == "models" else f"{self.kind}/"
        path = f"/{self.path}" if self.path else ""
        return f"{_SCHEME}{kind}{self.repo}{self._at}{path}"

    @property
    def _at(self) -> str:
        if self.revision is None:
            return ""
        unquoted = _LONG_REVISION.fullmatch(self.revision) is not None
        return "@" + (self.revision if unquoted else quote(self.revision, safe=""))

    @property
    def noun(self) -> str:
        """What it is a folder of, in messages."""
        return "bucket" if self.kind == "buckets" else f"{self.kind.removesuffix('s')} repo"

    @property
    def pinned(self) -> bool:
        """Whether what lies here cannot change: the revision is a commit."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None

    @property
    def versioned(self) -> bool:
        """Whether there are commits to pin to."""
        return self.kind != "buckets"

    def at(self, commit: str) -> HubPlace:
        """Return the same folder in a commit."""
        return replace(self, revision=commit)

    def inner(self, key: str) -> str:
        """Return the path in the repo of a key of the store that begins here."""
        return f"{self.path}/{key}" if self.path and key else self.path or key

    # Paths on the Hub's host, quoted

    @property
    def page(self) -> str:
        """Path of the page about the repo, which people open."""
        return f"/{'' if self.kind == 'models' else f'{self.kind}/'}{self.repo}"

    @property
    def _api(self) -> str:
        return f"/api/{self.kind}/{quote(self.repo)}"

    @property
    def _revision(self) -> str:
        return f"/{quote(self.revision or 'main', safe='')}" if self.versioned else ""

    def file(self, key: str) -> str:
        """Path of an object of the store."""
        return f"{quote(self.page)}/resolve{self._revision}/{quote(self.inner(key))}"

    def listing(self, folder: str = "") -> str:
        """Path of the listing of a folder of the store."""
        inner = self.inner(folder)
        return f"{self._api}/tree{self._revision}" + (f"/{quote(inner, safe='')}" if inner else "")

    @property
    def details(self) -> str:
        """Path of the call that tells of many paths at once."""
        return f"{self._api}/paths-info{self._revision}"

    @property
    def batch(self) -> str:
        """Path of the call of git's own protocol that locates many large objects at once."""
        return f"{quote(self.page)}.git/info/lfs/objects/batch"

    @property
    def head(self) -> str:
        """Path of the call that tells which commit the revision is."""
        return f"{self._api}/revision{self._revision}" if self.versioned else self._api


def parse_hub_url(url: str, revision: str | None = None) -> HubPlace:
    """Take an ``hf://`` URL apart.

    Parameters
    ----------
    url
        ``hf://datasets/…``, ``hf://spaces/…``, ``hf://buckets/…``, or ``hf://…`` for a model, each
        followed by ``namespace/name[@revision][/path]``. Slashes of a revision are written ``%2F``,
        except those of ``refs/pr/1`` and ``refs/convert/parquet``.
    revision
        The revision, where the URL names none.

    Raises
    ------
    TargetError
        The URL is of another form, or two revisions are named.

    Examples
    --------
    >>> parse_hub_url("hf://ada/net@refs/pr/1/weights.zarr").revision
    'refs/pr/1'
    >>> parse_hub_url("hf://buckets/ada/scans/a.zarr").kind
    'buckets'
    """
    if not url.startswith(_SCHEME):
        raise TargetError(f"a URL of the Hub looks like {_FORM}; this is {url!r}")
    body = url.removeprefix(_SCHEME)
    kind: Kind = "models"
    for one in _KINDS:
        if body.startswith(f"{one}/"):
            kind, body = one, body.removeprefix(f"{one}/")
            break
    namespace, _, rest = body.partition("/")
    name, at, after = _cut(rest)
    if not namespace or not name or "@" in namespace:
        raise TargetError(f"a URL of the Hub looks like {_FORM}; {url!r} names no namespace/name")
    found, path = _split_revision(after) if at else (None, after)
    if at and not found:
        raise TargetError(f"{url!r} names no revision after its '@'. Name one, or leave '@' out.")
    if found and revision and found != revision:
        raise TargetError(
            f"{url!r} names the revision {found!r}, and revision={revision!r} was given. Leave one "
            "of them out."
        )
    if kind == "buckets" and (found or revision):
        raise TargetError(f"{url!r}: buckets have no revisions. Leave {found or revision!r} out.")
    clean = _clean(path, url)
    return HubPlace(kind=kind, repo=f"{namespace}/{name}", revision=found or revision, path=clean)


def _cut(rest: str) -> tuple[str, bool, str]:
    """Return the name of a repo, whether a revision follows, and what follows."""
    for position, letter in enumerate(rest):
        if letter in "@/":
            return rest[:position], letter == "@", rest[position + 1 :]
    return rest, False, ""


def _split_revision(after: str) -> tuple[str, str]:
    if long := _LONG_REVISION.match(after):
        return long[0], after[long.end() :]
    revision, _, path = after.partition("/")
    return unquote(revision), path


def _clean(path: str, url: str) -> str:
    parts = [part for part in path.split("/") if part]
    if {".", ".."} & set(parts):
        raise TargetError(f"{url!r} has a '.' or '..' in its path. Name the folder itself.")
    return "/".join(parts)
