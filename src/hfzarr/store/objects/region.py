"""In which region of AWS a bucket is."""

from __future__ import annotations

import urllib.error
import urllib.request

__all__ = ["region_of"]

_ADDRESS = "https://s3.{region}.amazonaws.com/{bucket}"
_HEADER = "x-amz-bucket-region"
_PATIENCE = 20.0


def region_of(bucket: str, *, asked: str) -> str | None:
    """Ask S3, as nobody, in which region a bucket is; None where it does not say.

    The answer names the region whether or not the bucket may be read (S3, HeadBucket).

    Parameters
    ----------
    bucket
        Its name.
    asked
        A region whose address is asked.
    """
    url = _ADDRESS.format(region=asked, bucket=bucket)
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
            found = answer.headers.get(_HEADER)
    except urllib.error.HTTPError as error:
        with error:
            found = error.headers.get(_HEADER)
    except OSError:
        return None
    return None if found is None else str(found)
