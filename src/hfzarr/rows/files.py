"""Files of rows: parquet, CSV and JSON lines, here or at any URL, become Arrow tables."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hfzarr.errors import HfzarrError, LimitError, ReadError, StoreNotFoundError, TargetError
from hfzarr.model.document import check_nesting
from hfzarr.model.report import shorten
from hfzarr.rows.columns import names_a_store
from hfzarr.rows.records import column_of, record_columns
from hfzarr.store.cache.place import split_cache
from hfzarr.store.location import hide_secrets
from hfzarr.store.remote import reaching

__all__ = ["file_format", "file_name", "from_records", "local_path", "read_file", "read_text_table"]

_FORMATS = {
    ".parquet": "parquet", ".parq": "parquet", ".pq": "parquet",
    ".csv": "csv", ".tsv": "tsv",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
}  # fmt: skip
_SEPARATORS = {"csv": ",;\t", "tsv": "\t"}
_PACKED = (".gz", ".bz2", ".xz", ".zst")
# Texts that are numbers or truth values, and would be written the same again: "007" is a name.
_FLOAT = r"-?(0|[1-9][0-9]*)(\.[0-9]+([eE][+-]?[0-9]+)?|[eE][+-]?[0-9]+)"
_CANONICAL = (
    ("int64", r"^(0|-?[1-9][0-9]{0,18})$"),
    ("float64", rf"^(-?(0|[1-9][0-9]{{0,14}})|{_FLOAT}|-?inf|nan|NaN)$"),
    ("bool_", r"^(true|false|True|False)$"),
)


def file_name(place: str) -> str:
    """Return the last part of a path or URL, as errors call it.

    Examples
    --------
    >>> file_name("https://user:word@host/data/index.csv?token=x")
    'index.csv'
    """
    return re.split(r"[/\\]", hide_secrets(place.partition("::")[0]).rstrip("/\\"))[-1]


def file_format(place: str) -> str:
    """Return ``"parquet"``, ``"csv"``, ``"tsv"`` or ``"jsonl"`` by a file's suffix, or ``""``."""
    name = file_name(place).lower()
    for packed in _PACKED:
        name = name.removesuffix(packed)
    return _FORMATS.get(os.path.splitext(name)[1], "")


def local_path(place: str) -> str | None:
    """Return the path of a place on this machine; None for a URL elsewhere."""
    from hfzarr.store.location import locate

    url = locate(place).url
    return url if os.path.isabs(url) else None


def read_file(place: str, options: Mapping[str, Any] | None = None) -> Any:
    """Return the rows of one file as an Arrow table.

    Parameters
    ----------
    place
        A path, or a URL that fsspec opens.
    options
        Options for fsspec.

    Raises
    ------
    StoreNotFoundError
        There is no such file.
    ReadError
        It cannot be fetched.
    TargetError
        It is not of the kind that its name says.
    """
    kind = file_format(place)
    if not kind:
        raise TargetError(
            f"{file_name(place)!r} is no table that can be read: a manifest is a .parquet, .csv, "
            ".tsv, .jsonl or .json file"
        )
    data = _fetched(place, options or {})
    try:
        if kind == "parquet":
            import pyarrow.parquet as pq

            return pq.ParquetFile(io.BytesIO(data)).read()
        return read_text_table(data, kind, file_name(place))
    except HfzarrError:
        raise
    except (ValueError, OSError) as error:
        raise TargetError(
            f"{file_name(place)!r} cannot be read as {kind}: {error}. Is it of another kind than "
            "its name says, or cut short?"
        ) from error


def _fetched(place: str, options: Mapping[str, Any]) -> bytes:
    import fsspec

    shown = hide_secrets(place)
    target = local_path(place) or place
    packed = "infer" if file_name(place).lower().endswith(_PACKED) else None
    plain = split_cache(options)[0]
    try:
        with reaching(place, shown):
            opened = fsspec.open(target, "rb", compression=packed, **plain)
        with opened as file:
            data: bytes = file.read()
    except FileNotFoundError as error:
        raise StoreNotFoundError(
            f"there is no file {shown!r}, so there is no manifest. Check the path; a relative one "
            "counts from the current folder."
        ) from error
    except (TargetError, ImportError):
        raise
    except Exception as error:
        raise ReadError(f"{shown!r} could not be read: {error}") from error
    return data


def read_text_table(data: bytes, kind: str, name: str) -> Any:
    """Return the rows of a CSV, TSV or JSON text as an Arrow table.

    Numbers and truth values get their types where their text would be written the same again, so
    that ``007`` stays a name. Times stay text. A CSV whose header has semicolons or tabs, and no
    commas, is read by these.

    Parameters
    ----------
    data
        The bytes of the file.
    kind
        As of `file_format`.
    name
        What the file is called in errors.

    Raises
    ------
    TargetError
        The text is not in UTF-8, a row is broken, or a CSV does not begin with names of columns.
    """
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        head = data[:1024]
        # Every other byte, as UTF-16 has them; one by itself may be a value.
        if 3 * head.count(0) > len(head):
            raise TargetError(f"{name!r} holds NULs, and text in UTF-8 is wanted: save it as that")
        return _read_json(data, name) if kind == "jsonl" else _read_csv(data, kind, name)
    except UnicodeDecodeError as error:
        raise TargetError(
            f"{name!r} is no text in UTF-8 ({error.reason}, byte {error.start}): save it as that"
        ) from error


def _read_csv(data: bytes, kind: str, name: str) -> Any:
    import pyarrow as pa

    header, separator = _header(data, kind, name)
    try:
        table = _parsed_csv(data, header, separator)
    except pa.ArrowInvalid as error:
        data.decode()  # whatever is no text is told as that
        if told := _broken_row(data, header, separator, name):
            raise TargetError(told) from error
        raise
    _check_header(table, name)
    last = table.columns[-1][-1].as_py() if len(table) else None
    if last and "\n" in last and not data.rstrip().endswith(b'"'):
        raise TargetError(
            f"row {len(table) - 1} of {name!r} opens a quote that is never closed, so that all "
            f"behind it is one cell: {shorten(last)}"
        )
    return pa.table([_with_type(column) for column in table.columns], names=table.schema.names)


def _header(data: bytes, kind: str, name: str) -> tuple[list[str], str]:
    """Return the names of the columns, and what stands between cells."""
    header: list[str] = []
    for separator in _SEPARATORS[kind]:
        text = io.TextIOWrapper(io.BytesIO(data), "utf-8", newline="")
        found = next(csv.reader(text, delimiter=separator), [])
        if len(found) > 1:
            return found, separator
        header = header or found
    if not header:
        raise TargetError(f"{name!r} is empty: a CSV begins with the names of its columns")
    return header, _SEPARATORS[kind][0]


def _check_header(table: Any, name: str) -> None:
    """Refuse a table whose first row, which is to name the columns, is one of stores."""
    for column, values in zip(table.schema.names, table.columns, strict=True):
        # A file of one line has no value; one that is null says nothing of what its column holds.
        missing = None if table.num_rows else column
        first = next((value.as_py() for value in values if value.is_valid), missing)
        if names_a_store(column) and first is not None and names_a_store(first):
            raise TargetError(
                f"{name!r} begins with {shorten(column)}, a store where the name of its column is "
                "wanted: put a line with the names of the columns, such as 'zarr', before it"
            )


def _broken_row(data: bytes, header: list[str], separator: str, name: str) -> str:
    """Return which row has too many or too few cells; empty where none has."""
    import pyarrow as pa

    broken: list[str] = []

    def note(row: Any) -> str:
        # The header is row 1 of what is counted there.
        broken.append(
            f"row {row.number - 2} of {name!r}: {row.expected_columns} cells are wanted, "
            f"{row.actual_columns} found: {shorten(row.text)}. A text with {separator!r} or a line "
            "break in it stands in quotes, opened and closed."
        )
        return "error"

    with contextlib.suppress(pa.ArrowInvalid):
        _parsed_csv(data, header, separator, note)
    return broken[0] if broken else ""


def _parsed_csv(
    data: bytes,
    header: list[str],
    separator: str,
    on_broken: Callable[[Any], str] | None = None,
) -> Any:
    """Return the rows as text; with a function for broken ones, these are counted."""
    import pyarrow as pa
    import pyarrow.csv

    return pyarrow.csv.read_csv(
        io.BytesIO(data),
        read_options=pyarrow.csv.ReadOptions(
            block_size=_one_block(data), use_threads=on_broken is None
        ),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=separator,
            newlines_in_values=True,
            invalid_row_handler=on_broken,
            # In a single column an empty line is a cell that is missing.
            ignore_empty_lines=len(header) > 1,
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(header, pa.string()),
            strings_can_be_null=True,
            null_values=[""],
            quoted_strings_can_be_null=False,
        ),
    )


def _one_block(data: bytes) -> int:
    """Return a block that holds all: a row with a store's metadata may be longer than any guess."""
    return int(min(max(len(data) + 1, 1 << 20), (1 << 31) - 1))


def _with_type(column: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    there = column.drop_null()
    if not len(there):
        return column
    for kind, pattern in _CANONICAL:
        # The first tells of most columns that they are text.
        if not re.match(pattern, there[0].as_py()):
            continue
        if pc.all(pc.match_substring_regex(there, pattern)).as_py():
            # A number that is too large stays text.
            with contextlib.suppress(pa.ArrowInvalid):
                return column.cast(getattr(pa, kind)())
    return column


def _read_json(data: bytes, name: str) -> Any:
    import pyarrow as pa
    import pyarrow.json

    data.decode()  # Arrow does not look whether it is text
    if data.lstrip()[:1] == b"[":
        return from_records(_loaded(data, name), name)
    if not data.strip():
        raise TargetError(f"{name!r} is empty: it has no rows")
    for number, line in enumerate(data.split(b"\n")):
        check_nesting(line, f"line {number} of {name!r}")
    try:
        # Arrow's parser goes on over the end of a line.
        check_nesting(data, name)
    except LimitError:
        return from_records(_lines(data, name), name)
    read = pyarrow.json.ReadOptions(block_size=_one_block(data))
    try:
        schema = _sound_schema(pyarrow.json.read_json(io.BytesIO(data), read).schema)
        # Where Arrow finds out types by itself, [null, 7] becomes [7, null]: with the types that
        # it found, it reads again.
        parse = pyarrow.json.ParseOptions(explicit_schema=schema)
        table = pyarrow.json.read_json(io.BytesIO(data), read, parse)
    except pa.ArrowInvalid:
        # What Arrow cannot take in one go is read line by line, which tells the line.
        return from_records(_lines(data, name), name)
    return table


def _sound_schema(schema: Any) -> Any:
    """Return a schema in which what looks like a time is text, as the file has it.

    Lists of nothing but nulls are lists of text: with no type, Arrow reads them as broken arrays.
    """
    import pyarrow as pa
    import pyarrow.types as pt

    def plain(kind: Any, depth: int = 0) -> Any:
        if pt.is_temporal(kind) or (depth and pt.is_null(kind)):
            return pa.string()
        if pt.is_struct(kind):
            return pa.struct([(field.name, plain(field.type, depth + 1)) for field in kind])
        return pa.list_(plain(kind.value_type, depth + 1)) if pt.is_list(kind) else kind

    return pa.schema([(field.name, plain(field.type)) for field in schema])


def _lines(data: bytes, name: str) -> list[Any]:
    lines = (line for line in data.splitlines() if line.strip())
    return [_loaded(line, f"row {number} of {name!r}") for number, line in enumerate(lines)]


def _loaded(data: bytes, name: str) -> Any:
    check_nesting(data, name)
    try:
        return json.loads(data)
    except ValueError as error:
        raise TargetError(f"{name} is not JSON ({error}): {shorten(data[:60])}") from error


def from_records(records: Iterable[Any], name: str) -> Any:
    """Return an Arrow table of mappings; a key that a mapping lacks is a missing cell.

    Raises
    ------
    TargetError
        A record is no mapping, or values of a column have no type in common.
    """
    import pyarrow as pa

    columns = record_columns(records, name)
    return pa.table({key: column_of(values, key, name) for key, values in columns.items()})
