"""Where bytes lie: one small read-only interface over folders, zips and zarr stores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

__all__ = ["ByteRange", "Source"]

#: ``(start, stop)`` in bytes; ``(-n, None)`` means the last n; None means the whole object.
ByteRange = tuple[int, int | None] | None


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

    async def get_async(self, key: str, byte_range: ByteRange = None) -> bytes | None:
        """Like `get`, without blocking the event loop."""

    def list_dir(self, prefix: str) -> list[str]:
        """Return the names directly under ``prefix``, files and folders, sorted."""

    def list_many(self, prefixes: Sequence[str]) -> list[list[str]]:
        """Return the names under each of many prefixes, all listings under way at once."""

    def close(self) -> None:
        """Release what is open; the source can be used again afterwards."""
