"""Tables of stores written to files, whole or not at all."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from hfzarr.errors import HfzarrError, TargetError, WriteError
from hfzarr.rows.cells import cell_text
from hfzarr.rows.files import file_format, file_name, local_path
from hfzarr.rows.folders import STORE_FILES
from hfzarr.rows.places import folder_of, texts_seen_from
from hfzarr.rows.rules import check_rows
from hfzarr.store.cache.place import split_cache
from hfzarr.store.location import hide_secrets
from hfzarr.store.remote import reaching

__all__ = ["refuse_store", "save_table"]

_BATCH = 1024
_NOWHERE = "memory://"
_PASSWORD = r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/@]*:[^/@]*@"


def save_table(table: Any, column: str, path: Any, options: Mapping[str, Any]) -> None:
    """Write a table whose stores are named by absolute paths.

    Parameters
    ----------
    table
        An Arrow table, marked.
    column
        Its column of stores.
    path
        A ``.parquet``, ``.csv``, ``.tsv`` or ``.jsonl`` file, here or at a URL.
    options
        Options for fsspec.

    Raises
    ------
    TargetError
        The file's name says none of these, it would lie in a store, or no manifest could name a
        store of the table.
    WriteError
        It could not be written.
    """
    place = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    kind = file_format(place) if isinstance(place, str) else ""
    if not kind or place.lower().endswith((".gz", ".bz2", ".xz", ".zst", ".json")):
        raise TargetError(
            f"a manifest is saved to a .parquet, .csv, .tsv or .jsonl file, not to {place!r}"
        )
    check_rows(
        table.column(column),
        base="",
        row=lambda index: f"row {index} of what is saved",
        trusted=True,
        duplicates="keep",
    )
    here = local_path(place)
    if here is not None:
        refuse_store(here)
    moved = _seen_from(table, column, folder_of(here or place))
    data = _ENCODERS[kind](moved, column)
    if here is None:
        _send(place, data, options)
    else:
        _put(here, data)


def refuse_store(path: str) -> None:
    """Refuse a file in a store: whoever writes the store anew deletes it."""
    folder = os.path.dirname(path)
    while folder != os.path.dirname(folder):
        if any(os.path.isfile(os.path.join(folder, name)) for name in STORE_FILES):
            raise TargetError(
                f"{path!r} would lie in the Zarr store {folder!r}: write it beside the store"
            )
        folder = os.path.dirname(folder)


def _seen_from(table: Any, column: str, folder: str) -> Any:
    """Return the table with paths as they are written into a file of a folder."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as pt

    def moved(paths: Any) -> Any:
        return texts_seen_from(folder, pc.replace_substring_regex(paths, _PASSWORD, r"\1"))

    old = table.column(column)
    if pt.is_struct(old.type):
        whole = old.combine_chunks()
        fields = dict(zip([f.name for f in whole.type], whole.flatten(), strict=True))
        fields["path"] = moved(fields["path"])
        new = pa.StructArray.from_arrays(
            list(fields.values()), fields=list(whole.type), mask=whole.is_null()
        )
    else:
        new = moved(old)
    return table.set_column(table.schema.names.index(column), table.schema.field(column), new)


# -- formats


def _as_parquet(table: Any, column: str) -> bytes:
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def _as_csv(table: Any, column: str, separator: str = ",") -> bytes:
    import pyarrow as pa
    import pyarrow.csv

    texts = {
        name: _csv_texts(table.column(name), selections=name == column)
        for name in table.schema.names
    }
    file = io.BytesIO()
    options = pyarrow.csv.WriteOptions(delimiter=separator)
    pyarrow.csv.write_csv(pa.table(texts), file, options)
    return file.getvalue()


def _as_tsv(table: Any, column: str) -> bytes:
    return _as_csv(table, column, "\t")


def _csv_texts(values: Any, *, selections: bool) -> Any:
    import pyarrow as pa
    import pyarrow.types as pt

    kind = values.type
    if pt.is_integer(kind) or pt.is_boolean(kind) or pt.is_string(kind):
        return values
    if selections and pt.is_struct(kind):
        return pa.array([v and _selection_text(v) for v in values.to_pylist()], pa.string())
    return pa.array([_csv_text(value) for value in values.to_pylist()], pa.string())


def _selection_text(cell: Mapping[str, Any]) -> str:
    """Return the text form of a selection, its path as it stands: it may be relative."""
    return str(cell["path"]) + cell_text({**cell, "path": _NOWHERE}).removeprefix(_NOWHERE)


def _csv_text(value: Any) -> str | None:
    plain = _plain(value)
    if plain is None and isinstance(value, float):
        return repr(value)
    if plain is None or isinstance(plain, str):
        return plain
    return json.dumps(plain, ensure_ascii=False)


def _as_lines(table: Any, column: str) -> bytes:
    import pyarrow.types as pt

    lines = []
    if pt.is_struct(table.schema.field(column).type):
        # As text: readers that guess types turn the lists [null, 7] into [7, null].
        texts = _csv_texts(table.column(column), selections=True)
        table = table.set_column(table.schema.names.index(column), column, texts)
    for start in range(0, len(table), _BATCH):
        for row in table.slice(start, _BATCH).to_pylist():
            lines.append(json.dumps(_plain(row), ensure_ascii=False, allow_nan=False) + "\n")
    return "".join(lines).encode()


def _plain(value: Any) -> Any:
    """Return a value in JSON's words."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, tuple):
        # What Arrow makes of an entry of a map.
        return {"key": _plain(value[0]), "value": _plain(value[1])}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


_ENCODERS = {"parquet": _as_parquet, "csv": _as_csv, "tsv": _as_tsv, "jsonl": _as_lines}


# -- places


def _put(path: str, data: bytes) -> None:
    """Put a file in its place in one step, so that nobody ever sees a part of it."""
    folder = os.path.dirname(path)
    with _writing(path):
        os.makedirs(folder, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(part, _mode(path))
            os.replace(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.remove(part)
            raise


def _mode(path: str) -> int:
    """Return the permissions of the file that is replaced, or those that a new one gets."""
    with contextlib.suppress(OSError):
        return os.stat(path).st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _send(url: str, data: bytes, options: Mapping[str, Any]) -> None:
    import fsspec

    shown = hide_secrets(url)
    with reaching(url, shown), _writing(shown):
        fs, path = fsspec.core.url_to_fs(url, **split_cache(options)[0])
        # One request, or one upload that is completed at its end: an object is there whole.
        fs.pipe_file(path, data)


@contextlib.contextmanager
def _writing(place: str) -> Iterator[None]:
    try:
        yield
    except (HfzarrError, ImportError, ValueError):
        raise
    except Exception as error:
        raise WriteError(
            f"{file_name(place)!r} could not be written to {place!r}: {error}. What was there "
            "before is as it was."
        ) from error
