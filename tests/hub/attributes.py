"""Which files git leaves to the store of large objects."""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Mapping

from hub.state import File

SUFFIXES = (
    *("7z", "arrow", "avro", "bin", "bz2", "ckpt", "ftz", "gz", "h5", "joblib", "lz4", "mds"),
    *("model", "msgpack", "npy", "npz", "onnx", "ot", "parquet", "pb", "pickle", "pkl", "pt"),
    *("pth", "rar", "safetensors", "tar", "tflite", "tgz", "wasm", "xz", "zip", "zst"),
    *("pcm", "sam", "raw", "aac", "flac", "mp3", "ogg", "wav"),
    *("bmp", "gif", "png", "tif", "tiff", "jpg", "jpeg", "webp", "mp4", "webm"),
)
LARGE_SIZE = 10 * 1024**2

GITATTRIBUTES = File(
    "".join(f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in SUFFIXES).encode()
)
"""What a repo begins with."""


@functools.lru_cache
def _patterns(said: bytes) -> tuple[frozenset[str], tuple[str, ...]]:
    """Suffixes, and patterns that are more than a suffix."""
    found = [line.split()[0] for line in said.decode().splitlines() if "filter=lfs" in line]
    plain = {one for one in found if re.fullmatch(r"\*\.\w+", one)}
    others = tuple(one for one in found if one not in plain)
    return frozenset(one.removeprefix("*.") for one in plain), others


def is_large(files: Mapping[str, File], path: str, size: int, sample: bytes) -> bool:
    """Whether the Hub would keep a file outside of git: by name, by size, or for being binary.

    ``files`` are those of the repo, whose ``.gitattributes`` counts.
    """
    if size > LARGE_SIZE or b"\0" in sample:
        return True
    suffixes, others = _patterns(files.get(".gitattributes", GITATTRIBUTES).data)
    name = path.rpartition("/")[2]
    if "." in name and name.rpartition(".")[2] in suffixes:
        return True
    return any(fnmatch.fnmatchcase(n, one) for one in others for n in (path, name))
