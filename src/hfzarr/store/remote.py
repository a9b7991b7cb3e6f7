"""What goes wrong on the way to a URL, as errors of our own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from hfzarr.errors import MissingDependencyError, TargetError

__all__ = ["reaching"]

# Which extra brings the fsspec implementation of a protocol.
_EXTRAS = {
    "s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "http": "http", "https": "http",
    "hf": "hub",
}  # fmt: skip


@contextlib.contextmanager
def reaching(url: str, shown: str) -> Iterator[None]:
    """Say which extra to install, or that the protocol is unknown, where fsspec gives up.

    Parameters
    ----------
    url
        The URL.
    shown
        The same without secrets, for the message.

    Raises
    ------
    MissingDependencyError
        The protocol needs a package that is not installed.
    TargetError
        fsspec does not know the protocol.
    """
    try:
        yield
    except ImportError as error:
        extra = _EXTRAS.get(url.partition(":")[0])
        remedy = f'pip install "hfzarr[{extra}]"' if extra else "install the package it names"
        raise MissingDependencyError(
            f"opening {shown!r} needs a package that is not installed ({error}): {remedy}"
        ) from error
    except ValueError as error:
        raise TargetError(f"cannot open {shown!r}: {error}") from error
