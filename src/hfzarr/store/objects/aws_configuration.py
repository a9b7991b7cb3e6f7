"""What the environment and the files of AWS on this machine say of S3."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["AwsConfiguration", "configured"]

#: What botocore asks when nothing names a region; it sends one elsewhere where that is wrong.
_REGION = "us-east-1"
# Set, they ask for what obstore does not do.
_SPECIAL = (
    "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_S3_USE_ARN_REGION", "AWS_SIGV4A_SIGNING_REGION_SET",
)  # fmt: skip
# Lines of a profile that do the same.
_SPECIAL_LINES = frozenset(
    ["ignore_configured_endpoint_urls", "services", "use_dualstack_endpoint",
     "use_fips_endpoint"]
)  # fmt: skip
# Lines of a profile's section `s3` that are for the command line's transfers.
_TRANSFERS = frozenset(
    ["max_bandwidth", "max_concurrent_requests", "max_queue_size", "multipart_chunksize",
     "multipart_threshold", "preferred_transfer_client", "target_bandwidth"]
)  # fmt: skip
# Other partitions (cn-, us-iso…) have hosts of their own.
_COMMON = re.compile(r"(?!us-iso)(?:af|ap|ca|eu|il|me|mx|sa|us)-[a-z]+-[0-9]+|us-gov-[a-z]+-[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsConfiguration:
    """Where S3 is to be asked.

    Attributes
    ----------
    region
        A region's name.
    endpoint
        An address that stands for AWS, if any.
    style
        ``"path"``, ``"virtual"``, or ``"auto"`` for botocore's own choice.
    authorities
        A file of certificates to trust, if any.
    """

    region: str
    endpoint: str | None = None
    style: str = "auto"
    authorities: str | None = None


def configured(
    profile: str | None, *, region: str | None = None, endpoint: str | None = None
) -> AwsConfiguration | None:
    """Return what a profile says of S3, completed as botocore completes it.

    None where it says what obstore cannot do, or cannot be read: fsspec says what is wrong.

    Parameters
    ----------
    profile
        Its name; by default that of ``AWS_PROFILE``, or ``default``.
    region, endpoint
        What was given, and goes before what is configured.
    """
    if any(os.environ.get(name) for name in _SPECIAL):
        return None
    lines = _profile(profile)
    if lines is None or not _SPECIAL_LINES.isdisjoint(lines):
        return None
    section = lines.get("s3") or {}
    if not isinstance(section, Mapping) or set(section) - _TRANSFERS - {"addressing_style"}:
        return None
    if endpoint is None:
        endpoint = (
            os.environ.get("AWS_ENDPOINT_URL_S3")
            or os.environ.get("AWS_ENDPOINT_URL")
            or lines.get("endpoint_url")
        )
    region = region or os.environ.get("AWS_DEFAULT_REGION") or lines.get("region") or _REGION
    if endpoint is not None:
        endpoint = str(endpoint).rstrip("/")
        if not re.match(r"https?://[^/@?#]+", endpoint):
            return None
    elif not _COMMON.fullmatch(region):
        return None
    style = str(section.get("addressing_style", "auto"))
    # In botocore's order.
    authorities = (
        os.environ.get("AWS_CA_BUNDLE")
        or lines.get("ca_bundle")
        or os.environ.get("REQUESTS_CA_BUNDLE")
    )
    return AwsConfiguration(
        region=str(region), endpoint=endpoint, style=style, authorities=authorities
    )


def _profile(name: str | None) -> Mapping[str, Any] | None:
    """Return the lines of a profile; None where it cannot be read."""
    return _read(name, *[(os.environ.get(one, ""), _changed(one, file)) for one, file in _FILES])


_FILES = (
    ("AWS_CONFIG_FILE", "~/.aws/config"),
    ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
    ("AWS_PROFILE", ""),
    ("AWS_DEFAULT_PROFILE", ""),
)


def _changed(variable: str, file: str) -> int:
    """Return when the file that a variable names was written last."""
    try:
        return os.stat(os.path.expanduser(os.environ.get(variable) or file)).st_mtime_ns
    except OSError:
        return 0


@functools.lru_cache(maxsize=32)
def _read(name: str | None, *state: tuple[str, int]) -> Mapping[str, Any] | None:
    """Return the lines of a profile as they are while the files do not change."""
    try:
        import botocore.session
    except ImportError:
        # What reads these files is not installed.
        return {} if name is None and not os.environ.get("AWS_PROFILE") else None
    try:
        return dict(botocore.session.Session(profile=name).get_scoped_config())
    except Exception:
        # A profile that is missing or a file that is broken: fsspec says so where it is read.
        return None
