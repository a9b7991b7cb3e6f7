"""`Zarr`: the feature of `datasets` whose cells are Zarr stores."""

from __future__ import annotations

import re
import secrets
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hfzarr.errors import TargetError
from hfzarr.rows.places import is_absolute, is_remote, join, scheme_of
from hfzarr.store.location import hide_secrets
from hfzarr.store.options import StorageOptions

if TYPE_CHECKING:
    import pyarrow as pa

    from hfzarr.rows.handle import ZarrHandle
    from hfzarr.rows.selection import ZarrSelection

__all__ = ["MARK", "Zarr", "is_local", "local_warning", "reading_marks"]

MARK = "zarr"
"""The ``id`` by which a published column of text is known to hold stores."""

_PROCESS = secrets.token_hex(8)
_REPO = re.compile(r"hf://(?:(datasets|models|spaces)/)?([^/@]+/[^/@]+)(?=[/@]|$)")


@dataclass(init=False, eq=False, repr=False)
class Zarr:
    """A column of Zarr stores, for `datasets.Features` and `cast_column`.

    A cell is kept as text, the store's place, and decodes to a `ZarrHandle` or a
    `ZarrSelection`, which read nothing until they are asked for pixels. Wherever `datasets`
    writes the feature down (in a card, in Parquet metadata, in ``dataset_info.json``) it says
    ``Value("string", id="zarr")``: who has no hfzarr loads a column of text. Where hfzarr is
    imported, it is a column of stores again. hfzarr's own `load_dataset`, `load_from_disk` and
    `restore` also give it options, and see to it that rows from elsewhere name no place of this
    machine.

    Parameters
    ----------
    decode
        Whether cells decode to handles; otherwise they stay text.
    storage_options
        Options for fsspec, for every store of the column. They are written nowhere, and secrets
        among them stay in this process and those forked from it. What `datasets` finds in its
        cache, such as the rows of a `map` that it made before, has none: `restore` puts them back.
    base
        Folder or URL that relative cells count from; by default the current folder.
    trusted
        Whether cells may point anywhere. Otherwise a column whose `base` is on another machine
        may not name places of this one, as with `open_manifest`.
    dtype, id
        Not used: as what is written down says them.

    Raises
    ------
    TargetError
        `storage_options` is no mapping of names, or `base` no text.

    Examples
    --------
    >>> feature = Zarr(storage_options={"anon": True})
    >>> feature.encode_example({"path": "s3://bucket/cells.zarr"})
    's3://bucket/cells.zarr'
    >>> feature.decode_example("s3://bucket/cells.zarr").name
    'cells'
    """

    # `datasets` writes down the fields of a dataclass, so that these three are all that is
    # published; the options are attributes beside them.
    dtype: str = field(default="string", init=False)
    id: str = field(default=MARK, init=False)
    _type: str = field(default="Value", init=False)

    def __init__(
        self,
        decode: bool = True,
        storage_options: Mapping[str, Any] | StorageOptions | None = None,
        *,
        base: str = "",
        trusted: bool = False,
        dtype: str | None = None,
        id: str | None = None,
    ) -> None:
        if not isinstance(base, str):
            raise TargetError(f"base= is a folder or a URL, as text, not {base!r}")
        self.dtype, self.id, self._type = "string", MARK, "Value"
        self.decode = bool(decode)
        self.storage_options = StorageOptions.of(storage_options)
        self.base = base
        self.trusted = bool(trusted)

    @property
    def _options(self) -> tuple[bool, StorageOptions, str, bool]:
        return self.decode, self.storage_options, self.base, self.trusted

    # -- a value among values

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Zarr):
            return NotImplemented
        return self._options == other._options

    def __hash__(self) -> int:
        return hash((Zarr, *self._options))

    def __reduce__(self) -> tuple[Any, ...]:
        # Hashed, it makes the fingerprint by which `datasets` finds what it made before. That has
        # the mark alone, so where there is more to know, no other process's is to be found.
        plain = self._options == (True, StorageOptions(), "", False)
        return _made, (*self._options, "" if plain else _PROCESS)

    def __repr__(self) -> str:
        options = ", storage_options=..." if self.storage_options else ""
        base = f", base={hide_secrets(self.base)!r}" if self.base else ""
        return f"Zarr(decode={self.decode}{options}{base})"

    # -- as `datasets` asks of a feature

    @property
    def pa_type(self) -> pa.DataType:
        """The Arrow type of the column: text."""
        import pyarrow as pa

        return pa.string()

    def __call__(self) -> pa.DataType:
        """Return the Arrow type of the column."""
        return self.pa_type

    def flatten(self) -> Zarr:
        """Return the feature: there is nothing in it to flatten."""
        return self

    def encode_example(self, value: Any) -> str:
        """Return the text that a cell keeps.

        Parameters
        ----------
        value
            A path or URL, a mapping with a ``"path"``, a zarr array or group, a handle or a
            selection.

        Raises
        ------
        TargetError
            It is nothing of that kind.
        """
        import numpy as np

        from hfzarr.rows.cells import cell_text

        if isinstance(value, (np.ndarray, np.generic)):
            # `datasets` turns whatever has `__array__`, a zarr array too, into one beforehand.
            raise TargetError(
                "a cell of a Zarr column is a reference to a store, and here come pixels: "
                f"{value.dtype} of shape {value.shape}. Of a zarr array, `datasets` reads all "
                "pixels before a feature sees it; give its place instead, which "
                "hfzarr.Zarr().encode_example(array) returns. An array in memory is to be "
                "written to a store first."
            )
        return cell_text(value)

    def decode_example(
        self,
        value: Any,
        token_per_repo_id: Mapping[str, str | bool | None] | None = None,
    ) -> ZarrHandle | ZarrSelection | None:
        """Return the handle or the selection that a cell refers to, without reading anything.

        Parameters
        ----------
        value
            The text of the cell.
        token_per_repo_id
            Tokens by repository, as streaming passes them: a bare ``name/name`` is a dataset
            repository, others begin with ``models/`` or ``spaces/``. A token goes into handles of
            stores in that repository alone. Without one, the store is opened with the saved login
            or ``HF_TOKEN``.

        Raises
        ------
        TargetError
            The cell is not text of a place, or decoding is off.
        """
        from hfzarr.faces.registration import tell_torch
        from hfzarr.rows.cells import parse_cell
        from hfzarr.rows.handle import ZarrHandle
        from hfzarr.rows.selection import ZarrSelection

        tell_torch()
        if not self.decode:
            raise TargetError("this column keeps its text: its feature is Zarr(decode=False)")
        if value is None or isinstance(value, (ZarrHandle, ZarrSelection)):
            return value
        if isinstance(value, str):
            value = str(value)  # NumPy's formatter hands over its own kind of text
        place = str((value.get("path") if isinstance(value, Mapping) else value) or "")
        if self.base and not self.trusted and is_remote(self.base):
            _refuse_reaching(place, self.base)
        options = self.storage_options
        if token_per_repo_id:
            options = _with_token(options, join(self.base, place), token_per_repo_id)
        return parse_cell(value, base=self.base, options=options)

    def cast_storage(self, storage: pa.Array) -> pa.StringArray:
        """Return a column as text, from text of any Arrow type or a struct with a ``"path"``.

        Raises
        ------
        TargetError
            The column is of another type.
        """
        import pyarrow as pa

        kind = storage.type
        if pa.types.is_dictionary(kind):
            return self.cast_storage(storage.dictionary_decode())
        if _is_text(kind) or pa.types.is_null(kind):
            return storage.cast(pa.string())
        if pa.types.is_struct(kind) and kind.get_field_index("path") >= 0:
            return _texts_of_structs(storage)
        raise TargetError(
            "a Zarr column is made of text, or of structs with a field 'path' (such as "
            f"selections); this one is of Arrow type {kind}"
        )

    def embed_storage(
        self, storage: pa.Array, *_: Any, remote_files: bool = True, **__: Any
    ) -> pa.Array:
        """Return the column as it is: stores are referred to, never embedded.

        Parameters
        ----------
        storage
            The column.
        remote_files
            False where rows are kept on this machine rather than published.

        Warns
        -----
        UserWarning
            Cells that are published name places of this machine, which nobody else can open.
        """
        local = sum(is_local(text or "") for text in storage.to_pylist())
        if local and remote_files:
            warnings.warn(local_warning(local, "a Zarr column"), UserWarning, stacklevel=2)
        return storage


def _made(
    decode: bool, options: StorageOptions, base: str, trusted: bool, process: str = ""
) -> Zarr:
    del process
    return Zarr(decode, options, base=base, trusted=trusted)


def _refuse_reaching(place: str, base: str) -> None:
    """Refuse a cell from another machine that names a place of this one."""
    import pyarrow as pa

    from hfzarr.rows.rules import check_rows

    check_rows(
        pa.array([place]),
        base=base,
        row=lambda _: f"a row from {hide_secrets(base)!r}",
        duplicates="keep",
    )


def is_local(text: str) -> bool:
    """Whether a cell names an absolute place of this machine.

    Examples
    --------
    >>> is_local("/data/a.zarr"), is_local("a.zarr"), is_local("hf://datasets/org/name/a.zarr")
    (True, False, False)
    """
    last = text.rpartition("::")[2]
    return is_absolute(last) and scheme_of(last) in ("", "file", "local")


def reading_marks(value: type[Any]) -> type[Any]:
    """Return what stands for `datasets.Value` where features are read from what was written.

    Parameters
    ----------
    value
        `datasets.Value`. Marked text becomes a `Zarr`, all else the value that it was.
    """

    class MarkedValue(value):  # type: ignore[misc]
        def __new__(cls, dtype: str, id: str | None = None) -> Any:
            # Neither is a MarkedValue, so that nothing of this class is left behind.
            return Zarr() if (dtype, id) == ("string", MARK) else value(dtype, id=id)

    return MarkedValue


def local_warning(count: int, where: str) -> str:
    """Say that cells which are published name places of this machine."""
    return (
        f"{where} with {count} path{'s' if count > 1 else ''} of this machine is published: nobody "
        "else can open them. Upload the stores, and put their URLs into the column."
    )


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    is_view = getattr(pa.types, "is_string_view", lambda _: False)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or is_view(kind))


def _texts_of_structs(storage: pa.StructArray) -> pa.StringArray:
    """Return structs of handles or selections as text."""
    import pyarrow as pa

    from hfzarr.rows.cells import cell_text

    whole = {field.name for field in storage.type} <= {"path", "bytes"}
    texts: list[str | None] = []
    for cell in storage.to_pylist():
        if cell is None or cell["path"] is None:
            texts.append(None)
        else:
            texts.append(cell["path"] if whole else cell_text(cell))
    return pa.array(texts, pa.string())


def _with_token(
    options: StorageOptions, place: str, tokens: Mapping[str, str | bool | None]
) -> StorageOptions:
    """Return options with the token of the repository that a place lies in, if there is one."""
    last = place.rpartition("::")[2]
    found = _REPO.match(last)
    if found is None:
        return options
    kind, repo = found.group(1) or "models", found.group(2)
    token = tokens.get(f"{kind}/{repo}", tokens.get(repo) if kind == "datasets" else None)
    if token is None:
        return options
    if last != place:  # such as "zip://a.zarr::hf://…": fsspec takes options by protocol
        given = options.resolve()
        return StorageOptions.of({**given, "hf": {"token": token, **given.get("hf", {})}})
    return StorageOptions.of({"token": token, **options.resolve()})
