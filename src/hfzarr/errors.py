"""What can go wrong, one class per kind of trouble.

Every error derives from :class:`HfzarrError` and says what was wanted, what came and what to do
next. Each also derives from the built-in error that fits, so that code written for another engine
(``except FileNotFoundError``) keeps working.
"""

from __future__ import annotations

__all__ = [
    "AmbiguousTargetError",
    "CacheWarning",
    "ChangedSourceError",
    "HfzarrError",
    "InvalidMetadataError",
    "LimitError",
    "MissingDependencyError",
    "NoPixelsError",
    "NodeNotFoundError",
    "ReadError",
    "RepairWarning",
    "StoreNotFoundError",
    "TargetError",
    "UnnamedDimensionsError",
    "UnsupportedError",
    "VerificationError",
    "WriteError",
]


class HfzarrError(Exception):
    """The base of every error that hfzarr raises on purpose."""


class TargetError(HfzarrError, TypeError, ValueError):
    """The target or an option is not of a kind that can be opened."""


class NoPixelsError(TargetError, AttributeError):
    """A group was asked for what only an array or an image has, such as a shape."""


class StoreNotFoundError(HfzarrError, FileNotFoundError):
    """There is no Zarr store at the place that was named."""


class NodeNotFoundError(HfzarrError, FileNotFoundError, KeyError):
    """The store is there, but the group, array, level or image that was asked for is not."""

    # KeyError would print the repr of the message, quotes and escapes included.
    __str__ = Exception.__str__


class AmbiguousTargetError(HfzarrError, ValueError):
    """Several things could be meant; the message lists them and the option that chooses."""


class InvalidMetadataError(HfzarrError, ValueError):
    """Metadata breaks a rule of its specification and was not, or could not be, repaired."""

    finding: object = None
    """The `Finding` that says which rule, where it is a single one."""


class UnsupportedError(HfzarrError, NotImplementedError, ValueError):
    """The store uses a feature that nobody here can read, such as an unknown codec."""


class LimitError(HfzarrError, ValueError):
    """The store asks for more than `hfzarr.set_limits` allows; the message says how to allow it."""


class ReadError(HfzarrError, OSError):
    """Bytes of a chunk could not be fetched or decoded."""


class WriteError(HfzarrError, OSError):
    """Bytes could not be written; the message names the file, and says how to go on."""


class ChangedSourceError(HfzarrError, RuntimeError):
    """The source is no longer what it was when the run began, so old and new would be mixed."""


class VerificationError(HfzarrError, ValueError):
    """What was written does not hold what the source holds."""


class UnnamedDimensionsError(HfzarrError, KeyError):
    """Arrays of a group have no dimension names, so nothing says which dimensions they share."""

    __str__ = Exception.__str__


class MissingDependencyError(HfzarrError, ImportError):
    """An optional library is needed; the message names the extra that installs it."""


class RepairWarning(UserWarning):
    """Metadata was malformed and was repaired; the message lists each repair."""


class CacheWarning(UserWarning):
    """Chunks are not kept, for a reason that the message tells; what is read is right."""
