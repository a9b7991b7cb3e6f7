"""The files of an index: a table of stores as the parquet files of a dataset on the Hub."""

from __future__ import annotations

import bisect
import io
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hfzarr.errors import TargetError, UnsupportedError
from hfzarr.faces.hub_features import features_of, holds_pictures, plain_type, with_features
from hfzarr.model.report import shorten
from hfzarr.rows.beside import splits_of
from hfzarr.rows.cells import SELECTION_FIELDS, selection_type
from hfzarr.rows.columns import find_column
from hfzarr.rows.facts import METADATA
from hfzarr.rows.places import is_remote
from hfzarr.store.location import hide_secrets

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SPLIT", "IndexFile", "check_index", "index_files", "index_schema"]

SPLIT = "split"
_TRAIN = "train"
# What `datasets` takes for every split.
_RESERVED = "all"
# Pages end where the content says so, so that a table of which little has changed is uploaded in
# little; these numbers are those of `datasets`, whose files the Hub stores beside ours.
_CHUNKING = {"min_chunk_size": 256 * 1024, "max_chunk_size": 1024 * 1024, "norm_level": 0}
# The viewer reads whole pages of 100 rows, 300 MB at most: a group of rows is well below.
_GROUP_ROWS, _GROUP_PICTURES, _GROUP_BYTES = 1000, 100, 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFile:
    """One parquet file of an index.

    Attributes
    ----------
    path
        Where it lies in its repository, such as ``"data/train-00000-of-00001.parquet"``.
    data
        Its bytes.
    split
        The split that its rows belong to.
    rows
        How many there are.
    arrow_bytes
        Size of the rows in memory, as Arrow, which a card calls ``num_bytes``.
    """

    path: str
    data: bytes = field(repr=False)
    split: str
    rows: int
    arrow_bytes: int


def index_files(
    table: pa.Table,
    column: str,
    *,
    rows_per_file: int | None = None,
    max_file_bytes: int = 500 * 2**20,
) -> list[IndexFile]:
    """Return the parquet files that a table of stores becomes on the Hub, split by split.

    Its column ``split`` says which rows belong together, and is left out of the files. Names such
    as ``val`` become ``validation``; rows without one are ``train``.

    Parameters
    ----------
    table
        An Arrow table.
    column
        Its column of stores: URLs, or the structs of selections.
    rows_per_file
        Most rows of a file; by default any number.
    max_file_bytes
        Most bytes of the rows of a file, in memory. A single row may be larger.

    Returns
    -------
    list of IndexFile
        The same schema in all of them, and the same bytes for the same table.

    Raises
    ------
    TargetError
        The table has no rows or no such column, a store lies on this machine or has a secret in
        its URL, or a split has a name that cannot be used.
    UnsupportedError
        A column has a type that `datasets` does not know.

    Examples
    --------
    >>> import pyarrow as pa
    >>> stores = ["hf://datasets/ada/cells/a.zarr", "hf://datasets/ada/cells/b.zarr"]
    >>> files = index_files(pa.table({"zarr": stores, "split": ["train", "val"]}), "zarr")
    >>> [(file.path, file.rows) for file in files]
    [('data/train-00000-of-00001.parquet', 1), ('data/validation-00000-of-00001.parquet', 1)]
    """
    for name, value in (("rows_per_file", rows_per_file), ("max_file_bytes", max_file_bytes)):
        if value is not None and value < 1:
            raise TargetError(f"{name}= is 1 or more, not {value}")
    check_index(table, column)
    _check_places(table.column(column))
    whole = _plain_table(table, column)
    files = []
    for split, rows in _by_split(table, whole, column):
        cuts = list(_cut(rows, rows_per_file or len(rows), max_file_bytes))
        for number, part in enumerate(cuts):
            path = f"data/{split}-{number:05d}-of-{len(cuts):05d}.parquet"
            data = _as_parquet(part)
            files.append(
                IndexFile(
                    path=path, data=data, split=split, rows=len(part), arrow_bytes=part.nbytes
                )
            )
    return files


def check_index(table: pa.Table, column: str) -> None:
    """Raise where a table could not become an index, wherever its stores lie as yet.

    Meant for the beginning of a push, which would otherwise fail at its end.

    Parameters
    ----------
    table
        An Arrow table.
    column
        Its column of stores.

    Raises
    ------
    TargetError, UnsupportedError
        As with `index_files`.
    """
    find_column(table, column)
    if not len(table):
        raise TargetError("the table has no rows, so there is no index to write")
    index_schema(table.schema, column)
    if _has_splits(table.schema, column):
        _split_names(_split_texts(table.column(SPLIT)))


def _has_splits(schema: pa.Schema, column: str) -> bool:
    return SPLIT in schema.names and column != SPLIT


def index_schema(schema: pa.Schema, column: str) -> pa.Schema:
    """Return the schema that the files of an index have, with its features in the metadata.

    Parameters
    ----------
    schema
        The schema of the table that is written, or of such files: theirs stays as it is.
    column
        The column of stores.

    Raises
    ------
    TargetError
        Two columns have one name.
    UnsupportedError
        A column has a type that `datasets` does not know.
    """
    import pyarrow as pa

    twins = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twins:
        raise TargetError(f"several columns are called {twins[0]!r}: rename them")
    kept = [each for each in schema if each.name != SPLIT or not _has_splits(schema, column)]
    plain = pa.schema([(each.name, plain_type(each.type, each.name)) for each in kept])
    at = plain.names.index(column)
    plain = plain.set(at, pa.field(column, _cell_type(plain.field(column).type)))
    told = plain.with_metadata(schema.metadata)
    return with_features(plain, features_of(told, column))


def _cell_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column of stores: of those that hfzarr's own reading makes."""
    import pyarrow as pa
    import pyarrow.types as pt

    if not pt.is_struct(kind):
        return pa.string()
    return selection_type() if [f.name for f in kind] == list(SELECTION_FIELDS) else kind


def _check_places(cells: Any) -> None:
    """Refuse to publish what nobody else can open, or nobody else may know."""
    import pyarrow.compute as pc
    import pyarrow.types as pt

    whole = cells.combine_chunks()
    paths = pc.struct_field(whole, "path") if pt.is_struct(whole.type) else whole
    for row, path in enumerate(paths.to_pylist()):
        if path is None:
            continue
        if not is_remote(path):
            raise TargetError(
                f"row {row}: the store {shorten(path)} lies on this machine, or has no absolute "
                "place. An index on the Hub names stores by URLs: upload them first."
            )
        # A fragment is no secret: it is the node in a zip, or a selection as text.
        url = path.partition("#")[0]
        if hide_secrets(url) != url:
            raise TargetError(
                f"row {row}: the URL of {shorten(hide_secrets(url))} holds a password or a "
                "query, which everybody could read in the index. Name the store without it."
            )


# -- rows


def _plain_table(table: pa.Table, column: str) -> pa.Table:
    """Return the table as it is published: plain types, its features told, without splits."""
    import pyarrow as pa

    schema = index_schema(table.schema, column)
    columns = [_cast(table.column(each.name), each) for each in schema]
    return pa.table(columns, schema=schema)


def _cast(cells: Any, field: pa.Field) -> Any:
    import pyarrow as pa

    if cells.type == field.type:
        return cells
    try:
        made = cells.cast(field.type)
        made.validate()
        return made
    except pa.ArrowException:
        pass
    try:
        # Arrow has no cast of some types, and breaks the offsets of list views.
        return pa.chunked_array([pa.array(cells.to_pylist(), field.type)])
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise UnsupportedError(
            f"column {field.name!r} cannot be made {field.type} of {cells.type}: {error}. Convert "
            "it, or drop the column."
        ) from error


def _by_split(table: pa.Table, whole: pa.Table, column: str) -> Iterator[tuple[str, pa.Table]]:
    """Yield each split and its rows: those for training first, then by their first row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not _has_splits(table.schema, column):
        yield _TRAIN, whole
        return
    texts = _split_texts(table.column(SPLIT))
    names = _split_names(texts)
    order = sorted(dict.fromkeys(names.values()), key=_rank)
    named = pa.array([names.get(text, _TRAIN) for text in texts.to_pylist()])
    if texts.null_count and _TRAIN not in order:
        order = sorted([*order, _TRAIN], key=_rank)
    for split in order:
        yield split, whole.filter(pc.equal(named, split))


def _rank(split: str) -> int:
    usual = (_TRAIN, "validation", "test")
    return usual.index(split) if split in usual else len(usual)


def _split_texts(cells: Any) -> Any:
    import pyarrow as pa
    import pyarrow.types as pt

    kind = plain_type(cells.type, SPLIT)
    if not (pt.is_string(kind) or pt.is_large_string(kind) or pt.is_integer(kind)):
        if pt.is_null(kind):
            return cells.cast(pa.string())
        raise TargetError(
            f"the column {SPLIT!r} holds {kind}, where each row names its split by a text, such as "
            "'train'. Rename the column if it means something else."
        )
    return cells.cast(kind).cast(pa.string())


def _split_names(texts: Any) -> dict[str, str]:
    """Return what each split is called that a table names."""
    told = [text for text in texts.unique().to_pylist() if text is not None]
    names = {text: _usual_name(text) or _sound_name(text) for text in told}
    first: dict[str, str] = {}
    for text, name in names.items():
        other = first.setdefault(name, text)
        # Two words for one split are one; two names that only come out alike are not.
        if other != text and not (_usual_name(text) and _usual_name(other)):
            raise TargetError(
                f"the splits {other!r} and {text!r} would both be called {name!r}, as a name has "
                "letters, digits, '_' and '.' only. Rename one of them."
            )
    return names


def _usual_name(text: str) -> str | None:
    """Return the split that a word such as ``val`` means."""
    found = splits_of([f"{text}/"], wanted=True) if "/" not in text else None
    return found[0] if found else None


def _sound_name(text: str) -> str:
    r"""Return a name that `datasets` takes, which wants ``\w+(\.\w+)*``; ASCII, as it is a URL."""
    letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    parts = [re.sub(r"\W+", "_", part).strip("_") for part in letters.split(".")]
    name = ".".join(part for part in parts if part)
    if not name or name == _RESERVED:
        raise TargetError(
            f"a split is called {text!r}, which is no name for one: letters from a to z and "
            "digits are wanted, and not 'all', which means every split. Rename it."
        )
    return name


def _cut(table: pa.Table, most_rows: int, most_bytes: int) -> Iterator[pa.Table]:
    """Yield runs of rows, as many in each as the two bounds allow, and one at least."""
    start = 0
    while start < len(table):
        longest = range(1, min(most_rows, len(table) - start) + 1)
        count = bisect.bisect_right(
            longest, most_bytes, key=lambda count: table.slice(start, count).nbytes
        )
        yield table.slice(start, max(count, 1))
        start += max(count, 1)


# -- parquet


def _as_parquet(table: pa.Table) -> bytes:
    import pyarrow.parquet as pq

    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    group = _GROUP_PICTURES if holds_pictures(features) else _GROUP_ROWS
    file = io.BytesIO()
    leaves = [leaf for each in table.schema for leaf in _leaves(each.name, each.type)]
    with pq.ParquetWriter(
        file,
        table.schema,
        # No two pictures are the same, and a dictionary of them would be read for any one.
        use_dictionary=leaves,
        # The footer would hold the least and the greatest text of metadata, whole.
        write_statistics=[leaf for leaf in leaves if leaf != METADATA],
        write_page_index=True,
        use_content_defined_chunking=_CHUNKING,
    ) as writer:
        for rows in _cut(table, group, _GROUP_BYTES):
            writer.write_table(rows, row_group_size=len(rows))
        writer.add_key_value_metadata({"content_defined_chunking": json.dumps(_CHUNKING)})
    return file.getvalue()


def _leaves(path: str, kind: Any) -> Iterator[str]:
    """Yield the columns that a column is in a parquet file, apart from those of bytes."""
    import pyarrow.types as pt

    if pt.is_struct(kind):
        for each in kind:
            yield from _leaves(f"{path}.{each.name}", each.type)
    elif pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    elif not (pt.is_binary(kind) or pt.is_large_binary(kind)):
        yield path
