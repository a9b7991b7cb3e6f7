"""Where bytes lie: one small read-only interface over folders, zips and zarr stores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

__all__ = ["ByteRange", "Source", "Usage", "copy_into"]

#: ``(start, stop)`` in bytes; ``(-n, None)`` means the last n; None means the whole object.
ByteRange = tuple[int, int | None] | None


class Usage(NamedTuple):
    """What lies below a prefix.

    Attributes
    ----------
    files
        Number of objects.
    nbytes
        Their bytes.
    mark
        A number that is another when an object is replaced by one of the same size.
    """

    files: int
    nbytes: int
    mark: int


@runtime_checkable
class Source(Protocol):
    """A read-only tree of keys.

    Implementations pickle to what is needed to open them again, and never to a handle or a
    cache. A key that is absent reads as None; any other fault raises ``ReadError``.
    """

    @property
    def url(self) -> str:
        """Name of the store in messages; never with a secret in it."""

    @property
    def local(self) -> bool:
        """Whether a read is a matter of microseconds, so that waiting for it costs nothing."""

    def get(self, key: str, byte_range: ByteRange = None) -> bytes | None:
        """Return the object at ``key``, or the part of it in ``byte_range``."""

    def get_many(self, requests: Sequence[tuple[str, ByteRange]]) -> list[bytes | None]:
        """Return the objects of many requests, all under way at once."""

    def probe(self, keys: Sequence[str]) -> list[bytes | PermissionError | None]:
        """Return many objects that may or may not be there, all requests under way at once.

        A store may refuse (403) what it would not say is absent; that is returned, not raised.
        """

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Return how many bytes `get` would return for each of many keys, without reading them.

        A key that is absent has None. A store that cannot tell raises ``UnsupportedError``.
        """

    def stamps(self, keys: Sequence[str]) -> list[str | None]:
        """Return for each of many keys a short text that changes when the object does.

        A key that is absent has None. A store that knows nothing of an object but that it is
        there has ``"?"``.
        """

    def read_into(self, key: str, buffer: memoryview, byte_range: ByteRange = None) -> int | None:
        """Read the object at ``key``, or a part of it, to the beginning of a buffer of bytes.

        Return how many bytes came, or None where the key is absent. An object that does not fit
        raises ``BufferError``.
        """

    async def get_async(self, key: str, byte_range: ByteRange = None) -> bytes | None:
        """Like `get`, without blocking the event loop."""

    def list_dir(self, prefix: str) -> list[str]:
        """Return the names directly under ``prefix``, files and folders, sorted."""

    def list_many(self, prefixes: Sequence[str]) -> list[list[str]]:
        """Return the names under each of many prefixes, all listings under way at once."""

    def list_files(self, prefix: str) -> list[str]:
        """Return the names directly under ``prefix`` that are objects, not folders; sorted.

        A store that cannot be listed raises ``UnsupportedError``.
        """

    def usage(self, prefix: str) -> Usage | None:
        """Return how many objects lie below ``prefix``, and their bytes.

        None where telling would take a request for each object.
        """

    def close(self) -> None:
        """Release what is open; the source can be used again afterwards."""


def copy_into(key: str, data: bytes | None, buffer: memoryview) -> int | None:
    """Copy what was read to the beginning of a buffer: `Source.read_into` by means of `get`."""
    if data is None:
        return None
    if len(data) > len(buffer):
        raise BufferError(f"{key!r} has {len(data)} bytes, and there is room for {len(buffer)}")
    buffer[: len(data)] = data
    return len(data)
