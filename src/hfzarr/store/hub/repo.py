"""A dataset repo or a bucket of the Hub, as a place to upload to."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from hfzarr.errors import HfzarrError, MissingDependencyError, TargetError
from hfzarr.store.hub.answers import shown
from hfzarr.store.hub.paths import HubPlace, parse_hub_url
from hfzarr.store.hub.trouble import as_write_error, next_delay
from hfzarr.store.options import StorageOptions

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["HubRepo", "Parcel", "Stored", "parse_repo"]

T = TypeVar("T")

_FORMS = "'user/name', 'hf://datasets/user/name' or 'buckets/user/name'"
_PATHS_A_CALL = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A file of a repo or a bucket.

    Attributes
    ----------
    size
        In bytes.
    sums
        Its checksums, as far as the Hub tells them: the SHA-1 of git, and SHA-256 where the file
        lies outside of git.
    """

    size: int
    sums: frozenset[str] = frozenset()


@dataclass(slots=True, kw_only=True)
class Parcel:
    """A file on its way to the Hub.

    Attributes
    ----------
    path
        Where it will lie.
    file
        Where it lies here.
    size
        In bytes.
    owned
        Whether the file was made to be sent, and is deleted once it was.
    operation
        What huggingface_hub knows of it.
    """

    path: str
    file: str
    size: int
    owned: bool
    operation: Any = None


def parse_repo(name: object, revision: str | None = None) -> HubPlace:
    """Return the dataset repo or the bucket that a user names.

    Raises
    ------
    TargetError
        It is neither.

    Examples
    --------
    >>> parse_repo("ada/cells").url, parse_repo("buckets/ada/scans").kind
    ('hf://datasets/ada/cells', 'buckets')
    """
    if not isinstance(name, str):
        raise TargetError(f"a repo is named by text, {_FORMS}, not by {name!r}")
    text = name.removeprefix("hf://").strip("/")
    if text.count("/") == 1 and not text.startswith(("datasets/", "buckets/")):
        text = f"datasets/{text}"
    if not text.startswith(("datasets/", "buckets/")):
        raise TargetError(f"a dataset repo or a bucket is named {_FORMS}, not {name!r}")
    place = parse_hub_url(f"hf://{text}", revision)
    if place.path or not re.fullmatch(r"[\w.-]+/[\w.-]+", place.repo):
        raise TargetError(f"a dataset repo or a bucket is named {_FORMS}, not {name!r}")
    if place.pinned:
        raise TargetError(f"{name!r} names a commit, which cannot be added to. Name a branch.")
    return place


class HubRepo:
    """Sends files to a repo or a bucket, and tries again what may pass.

    Parameters
    ----------
    place
        Its root.
    token
        Whose right it is, hidden; None for the login of this machine.
    endpoint
        Which Hub; None for that of huggingface_hub.

    Raises
    ------
    MissingDependencyError
        huggingface_hub is not installed, or too old for buckets.
    """

    def __init__(
        self,
        place: HubPlace,
        *,
        token: Callable[[], str | None] = lambda: None,
        endpoint: str | None = None,
    ) -> None:
        self.place = place
        self._token = token
        try:
            from huggingface_hub import HfApi
        except ImportError as error:
            raise MissingDependencyError(
                f"the Hub needs a package that is not installed ({error}): "
                'pip install "hfzarr[hub]"'
            ) from error
        self._api: HfApi = HfApi(endpoint=endpoint, token=token())
        if not place.versioned and not hasattr(self._api, "batch_bucket_files"):
            raise MissingDependencyError(
                "this huggingface_hub cannot write to buckets: pip install -U huggingface_hub"
            )

    def __repr__(self) -> str:
        return f"HubRepo({self.place.url!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} may hold a token, and is not sent to other processes")

    @property
    def options(self) -> StorageOptions:
        """Storage options that read the same place with the same right."""
        token = {} if self._token() is None else {"token": self._token()}
        return StorageOptions.of({"endpoint": self._api.endpoint, **token})

    @property
    def _repo(self) -> dict[str, Any]:
        revision = {"revision": self.place.revision} if self.place.revision else {}
        return {"repo_id": self.place.repo, "repo_type": "dataset", **revision}

    def create(self, private: bool | None) -> None:
        """Make the repo or bucket, and the branch, if they are not there.

        Raises
        ------
        WriteError
            Nobody is logged in, or without the right to write there.
        """
        name = self.place.repo
        if not self.place.versioned:
            self._try("create", lambda: self._create_bucket(name, private))
            return
        if not self._exists(None):
            self._try(
                "create",
                lambda: self._api.create_repo(
                    name, repo_type="dataset", private=private, exist_ok=True
                ),
            )
        branch = self.place.revision
        if branch is not None and not self._exists(branch):
            self._try(
                "create a branch of",
                lambda: self._api.create_branch(
                    name, repo_type="dataset", branch=branch, exist_ok=True
                ),
            )

    def _create_bucket(self, name: str, private: bool | None) -> object:
        if private is None:
            return self._api.create_bucket(name, exist_ok=True)
        return self._api.create_bucket(name, private=private, exist_ok=True)

    def exists(self) -> bool:
        """Return whether there is such a repo or bucket, and such a branch.

        Raises
        ------
        WriteError
            The Hub refuses to say, as for a gated repo.
        """
        return self._exists(self.place.revision)

    def _exists(self, revision: str | None) -> bool:
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

        def look() -> bool:
            try:
                if self.place.versioned:
                    self._api.repo_info(self.place.repo, repo_type="dataset", revision=revision)
                else:
                    self._api.bucket_info(self.place.repo)
            except GatedRepoError:
                raise
            except HfHubHTTPError as error:
                # The Hub says 401 to nobody of what is not there, too.
                if error.response is not None and error.response.status_code in (401, 404):
                    return False
                raise
            return True

        return self._try("look at", look)

    def head(self) -> str | None:
        """Return the commit of the branch; None for a bucket."""
        if not self.place.versioned:
            return None
        return str(self._try("look at", lambda: self._api.repo_info(**self._repo)).sha)

    def listing(self, commit: str | None = None) -> dict[str, Stored]:
        """Return every file, by path.

        Parameters
        ----------
        commit
            Of which commit; None for the branch as it is now.
        """
        return dict(self._try("list", lambda: list(self._listed(commit))))

    def _listed(self, commit: str | None) -> Iterator[tuple[str, Stored]]:
        from huggingface_hub.hf_api import RepoFile

        if self.place.versioned:
            repo = {**self._repo, **({"revision": commit} if commit else {})}
            for entry in self._api.list_repo_tree(recursive=True, **repo):
                if isinstance(entry, RepoFile):
                    sums = {entry.blob_id, *([entry.lfs.sha256] if entry.lfs else [])}
                    yield entry.path, Stored(size=entry.size, sums=frozenset(sums))
            return
        for thing in self._api.list_bucket_tree(self.place.repo, recursive=True):
            if thing.type == "file":
                yield thing.path, Stored(size=thing.size)

    def read(self, path: str) -> bytes | None:
        """Return a small file; None where there is none."""
        from zarr.core.sync import sync

        from hfzarr.store.hub.store import HubStore

        return sync(HubStore(self.place.url, self.options).reader.get(path))

    # Sending

    def upload(self, parcels: Sequence[Parcel]) -> None:
        """Send what lies outside of git: to a bucket everything, to a repo what is large.

        A file that was sent and is `owned` is deleted here. What the Hub has already, by its
        checksum, is not sent again.

        Raises
        ------
        WriteError
            The Hub refused, or could not be reached.
        """
        if not parcels:
            return
        with _quietly():
            if not self.place.versioned:
                self._try(
                    "write to",
                    lambda: self._api.batch_bucket_files(
                        self.place.repo, add=[(one.file, one.path) for one in parcels]
                    ),
                )
            else:
                self._preupload(parcels)
        for one in parcels:
            if one.owned and self.has_all_of(one):
                with contextlib.suppress(OSError):
                    os.unlink(one.file)

    def _preupload(self, parcels: Sequence[Parcel]) -> None:
        from huggingface_hub import CommitOperationAdd

        for one in parcels:
            if one.operation is None:
                try:
                    one.operation = CommitOperationAdd(one.path, one.file)
                except (OSError, ValueError) as error:
                    raise as_write_error(error, f"send {one.path!r} to {self._where}") from None
        operations = [one.operation for one in parcels]
        self._try(
            "send files to",
            lambda: self._api.preupload_lfs_files(additions=operations, **self._repo),
        )

    def has_all_of(self, parcel: Parcel) -> bool:
        """Return whether a file was sent by itself; others go with the commit."""
        # huggingface_hub lets go of the content of what it has sent.
        sent = parcel.operation is not None and parcel.operation.path_or_fileobj == b""
        return sent or not self.place.versioned

    def commit(self, parcels: Sequence[Parcel], deleted: Iterable[str], message: str) -> str | None:
        """Give files that were sent their names, and take away others, all at once.

        Returns
        -------
        str or None
            The commit; None for a bucket, whose files have their names when they are sent.

        Raises
        ------
        WriteError
            The Hub refused, or could not be reached.
        """
        gone = sorted(deleted)
        with _quietly():
            if not self.place.versioned:
                if gone:
                    self._try(
                        "delete files of",
                        lambda: self._api.batch_bucket_files(self.place.repo, delete=gone),
                    )
                return None
            tried: list[bool] = []
            found = self._try("commit to", lambda: self._commit(parcels, gone, message, tried))
        for one in parcels:
            if one.owned:
                with contextlib.suppress(OSError):
                    os.unlink(one.file)
        return str(found.oid)

    def _commit(
        self, parcels: Sequence[Parcel], gone: Sequence[str], message: str, tried: list[bool]
    ) -> Any:
        from huggingface_hub import CommitOperationDelete

        if tried:
            # The answer was lost, but the commit may have been made.
            gone = self._present(gone)
        tried.append(True)
        deletions = [CommitOperationDelete(path, is_folder=False) for path in gone]
        return self._api.create_commit(
            operations=[*deletions, *[one.operation for one in parcels]],
            commit_message=message,
            **self._repo,
        )

    def _present(self, paths: Sequence[str]) -> list[str]:
        found: list[str] = []
        for start in range(0, len(paths), _PATHS_A_CALL):
            some = list(paths[start : start + _PATHS_A_CALL])
            found.extend(one.path for one in self._api.get_paths_info(paths=some, **self._repo))
        return found

    @property
    def _where(self) -> str:
        return f"the {self.place.noun} {self.place.repo!r} at {shown(self._api.endpoint)}"

    def _try(self, doing: str, call: Callable[[], T]) -> T:
        """Call a function of huggingface_hub until it is answered."""
        attempt = 0
        while True:
            try:
                return call()
            except HfzarrError:
                raise
            except Exception as error:
                delay = next_delay(error, attempt)
                if delay is None:
                    # Its request may hold the token.
                    raise as_write_error(error, f"{doing} {self._where}") from None
                time.sleep(delay)
                attempt += 1


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep huggingface_hub from bars of its own."""
    import huggingface_hub.utils as hub

    if hub.are_progress_bars_disabled():  # type: ignore[attr-defined]
        yield
        return
    hub.disable_progress_bars()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        hub.enable_progress_bars()  # type: ignore[attr-defined]
