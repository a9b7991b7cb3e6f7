"""The xarray engine: ``xr.open_dataset(target, engine="hfzarr")`` and ``xr.open_datatree``."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, SupportsIndex

from xarray.backends.common import BackendEntrypoint

from hfzarr.errors import AmbiguousTargetError, TargetError
from hfzarr.model.report import OnInvalid

if TYPE_CHECKING:
    from xarray import Dataset, DataTree

    from hfzarr.faces.opening import Options

__all__ = ["HfzarrBackend"]

_OURS = re.compile(r"(\.ozx|\.zarr\.zip|\.ome\.zarr)/?$", re.IGNORECASE)
_DECODERS = (
    "mask_and_scale",
    "decode_times",
    "concat_characters",
    "decode_coords",
    "use_cftime",
    "decode_timedelta",
)


class HfzarrBackend(BackendEntrypoint):
    """Opens Zarr, OME-Zarr and GeoZarr stores as labeled arrays.

    Used through xarray, as ``engine="hfzarr"``. See `open_dataset` for what may be opened, and
    what becomes of it.
    """

    description = "Open Zarr, OME-Zarr and GeoZarr stores as labeled arrays with hfzarr"
    url = "https://github.com/hfzarr/hfzarr"
    supports_groups = True
    # Given by hand: xarray cannot find them when the engine is passed as a class.
    open_dataset_parameters = (
        "filename_or_obj",
        *_DECODERS,
        "drop_variables",
        "group",
        "level",
        "image",
        "storage_options",
        "consolidated",
        "zarr_format",
        "use_zarr_fill_value_as_mask",
        "on_invalid",
        "column",
        "split",
        "pad",
        "trusted",
        "mode",
        "store",
        "engine",
        "cache_members",
    )

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Whether to open a target without being named: only what no other engine opens."""
        if not isinstance(filename_or_obj, (str, os.PathLike)):
            return False
        text = os.fspath(filename_or_obj)
        return isinstance(text, str) and (text.startswith("hf://") or bool(_OURS.search(text)))

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        mask_and_scale: bool | Mapping[str, bool] = True,
        decode_times: Any = True,
        concat_characters: bool | Mapping[str, bool] = True,
        decode_coords: bool | str = "all",
        drop_variables: str | Iterable[str] | None = None,
        use_cftime: bool | Mapping[str, bool] | None = None,
        decode_timedelta: Any = None,
        group: str | None = None,
        level: int | str | None = None,
        image: int | str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        consolidated: bool | None = None,
        zarr_format: int | None = None,
        use_zarr_fill_value_as_mask: bool | None = None,
        on_invalid: OnInvalid = "repair",
        column: str | None = None,
        split: str | None = None,
        pad: bool = False,
        trusted: bool = False,
        mode: str = "r",
        store: Any = None,
        engine: Any = None,
        cache_members: bool = True,
    ) -> Dataset:
        """Open one node of a store as a Dataset.

        Parameters
        ----------
        filename_or_obj
            A path, an fsspec URL, a zip (``.zarr.zip``, ``.ozx``), a zarr store, group or array,
            a mapping with a ``"path"`` or a handle; or a manifest, a table of stores
            (a parquet, CSV or JSONL file, a pyarrow Table, …), whose rows are stacked along
            ``row`` with its other columns as coordinates.
        mask_and_scale, decode_times, concat_characters, use_cftime, decode_timedelta
            The CF decoders, as for every engine of xarray. They do not touch OME-Zarr pixels.
        decode_coords
            As in xarray; ``"all"`` by default, so that grid mappings and bounds are coordinates.
        drop_variables
            Names of arrays to leave out, unread.
        group
            Path of the group or array in the store.
        level
            Which resolution of a pyramid: 0 is the finest, -1 the coarsest, or the store's name.
        image
            Which image of several: an index, a path or a name.
        storage_options
            Passed to fsspec, but for ``cache`` and ``cache_size``: a folder that chunks of remote
            stores are kept in between runs, and how much it may hold, such as ``"50 GiB"``.
        consolidated
            True to demand consolidated metadata, False to ignore it, None to use it if there.
        zarr_format
            2, 3, or None to find out.
        use_zarr_fill_value_as_mask
            Whether Zarr's fill value marks missing data in CF groups; by default in v2 only.
        on_invalid
            Malformed metadata is repaired with one warning (``"repair"``), repaired with a
            warning for each rule (``"warn"``), or refused (``"raise"``).
        column, split, trusted
            For a manifest, as for `hfzarr.open_manifest`.
        pad
            Whether rows of a manifest may differ in shape, and shorter ones are filled up with
            NaN, or 0 where the data type has none.
        mode, store, engine, cache_members
            Accepted for code written for xarray's own engine; the store is only read.

        Raises
        ------
        HfzarrError
            What cannot be opened, with the store, the node, what was found and what to do.

        Examples
        --------
        >>> import xarray as xr, zarr
        >>> memory = zarr.storage.MemoryStore()
        >>> _ = zarr.create_array(
        ...     memory, name="height", shape=(2, 3), dtype="i4", dimension_names=["y", "x"]
        ... )
        >>> dict(xr.open_dataset(memory, engine="hfzarr", group="height").sizes)
        {'y': 2, 'x': 3}
        """
        _import_dask()
        from hfzarr.faces import manifests, read

        target, options, place = (
            _target(filename_or_obj, store),
            _options(locals()),
            _place(locals()),
        )
        if manifests.names_a_table(target, storage_options):
            return manifests.dataset(target, options, place, **_table(locals()), pad=pad)
        manifests.refuse_options(locals())
        return read.dataset(target, options, **place)

    def open_datatree(
        self,
        filename_or_obj: Any,
        *,
        mask_and_scale: bool | Mapping[str, bool] = True,
        decode_times: Any = True,
        concat_characters: bool | Mapping[str, bool] = True,
        decode_coords: bool | str = "all",
        drop_variables: str | Iterable[str] | None = None,
        use_cftime: bool | Mapping[str, bool] | None = None,
        decode_timedelta: Any = None,
        group: str | None = None,
        level: int | str | None = None,
        image: int | str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        consolidated: bool | None = None,
        zarr_format: int | None = None,
        use_zarr_fill_value_as_mask: bool | None = None,
        on_invalid: OnInvalid = "repair",
        column: str | None = None,
        split: str | None = None,
        pad: bool = False,
        trusted: bool = False,
        mode: str = "r",
    ) -> DataTree:
        """Open a node of a store, and all below it, as a DataTree.

        Parameters are those of `open_dataset`; ``level`` and ``image`` narrow the tree down. Of a
        manifest, each row is a child, with its columns in ``attrs["row"]``.
        """
        from xarray.backends.common import datatree_from_dict_with_io_cleanup

        groups = _groups(filename_or_obj, locals())
        try:
            return datatree_from_dict_with_io_cleanup(groups)
        except ValueError as error:
            raise AmbiguousTargetError(
                f"{error}\nA tree hands coordinates down, so dims of one name must agree along a "
                "branch, and here they do not. Open the groups by xr.open_groups, or one of them "
                "by xr.open_dataset with group=."
            ) from error

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        mask_and_scale: bool | Mapping[str, bool] = True,
        decode_times: Any = True,
        concat_characters: bool | Mapping[str, bool] = True,
        decode_coords: bool | str = "all",
        drop_variables: str | Iterable[str] | None = None,
        use_cftime: bool | Mapping[str, bool] | None = None,
        decode_timedelta: Any = None,
        group: str | None = None,
        level: int | str | None = None,
        image: int | str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        consolidated: bool | None = None,
        zarr_format: int | None = None,
        use_zarr_fill_value_as_mask: bool | None = None,
        on_invalid: OnInvalid = "repair",
        column: str | None = None,
        split: str | None = None,
        pad: bool = False,
        trusted: bool = False,
        mode: str = "r",
    ) -> dict[str, Dataset]:
        """Open a node of a store, and all below it, as ``{path: Dataset}``.

        Parameters are those of `open_dataset`; ``level`` and ``image`` narrow the groups down.
        """
        return _groups(filename_or_obj, locals())


def _target(filename_or_obj: Any, store: Any) -> Any:
    """Return what to open: ``store=`` is how xarray's own engine takes a ready `ZarrStore`."""
    if store is None:
        return filename_or_obj
    group = getattr(store, "zarr_group", None)
    if group is None:
        raise TargetError(
            f"store= is an xarray ZarrStore, not a {type(store).__name__}; give any other target "
            "as the first argument"
        )
    return group


def _import_dask() -> None:
    """Import dask whole, before xarray imports one of its modules, as it does with any Dataset.

    Where threads begin with different modules of a package, which import each other in circles, one
    would find half of a module.
    """
    import_module("dask")


def _groups(target: Any, given: Mapping[str, Any]) -> dict[str, Dataset]:
    _import_dask()
    from hfzarr.faces import manifests, read

    options, place = _options(given), _place(given)
    if manifests.names_a_table(target, place["storage_options"]):
        return manifests.groups(target, options, place, **_table(given))
    manifests.refuse_options(given)
    return read.groups(target, options, **place)


def _table(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in ("column", "split", "trusted")}


def _options(given: Mapping[str, Any]) -> Options:
    from hfzarr.faces.opening import Options

    if given["mode"] != "r":
        raise TargetError(f"hfzarr only reads: mode is 'r', not {given['mode']!r}")
    _check("group", given["group"], (str, os.PathLike), "the path of a group")
    _check("storage_options", given["storage_options"], Mapping, "a mapping")
    _check("drop_variables", given["drop_variables"], Iterable, "a name or several")
    drop = given["drop_variables"]
    return Options(
        level=_choice("level", given["level"]),
        image=_choice("image", given["image"]),
        drop_variables=frozenset([drop] if isinstance(drop, str) else drop or ()),
        decoders={name: given[name] for name in _DECODERS},
        mask_fill_value=given["use_zarr_fill_value_as_mask"],
    )


def _check(name: str, value: Any, kind: Any, wanted: str) -> None:
    if value is not None and not isinstance(value, kind):
        raise TargetError(f"{name}= takes {wanted}, not {value!r}")


def _choice(name: str, value: Any) -> int | str | None:
    """Return an index as an int, whatever integer it is; a name or None as it is."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, SupportsIndex) and not isinstance(value, bool):
        return operator.index(value)
    raise TargetError(f"{name}= takes an index or a name, not {value!r}")


def _place(given: Mapping[str, Any]) -> dict[str, Any]:
    names = ("storage_options", "consolidated", "zarr_format", "on_invalid")
    group = given["group"]
    return {"group": group and os.fspath(group), **{name: given[name] for name in names}}
