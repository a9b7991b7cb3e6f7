"""CF and GeoZarr groups as xarray: decoded as by xarray's own engine, with a georeference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from xarray import Coordinates, Dataset, Variable
from xarray.backends.common import AbstractDataStore
from xarray.backends.store import StoreBackendEntrypoint
from xarray.backends.zarr import FillValueCoder

from hfzarr.errors import (
    AmbiguousTargetError,
    HfzarrError,
    InvalidMetadataError,
    UnnamedDimensionsError,
    UnsupportedError,
)
from hfzarr.faces.opening import Opening
from hfzarr.faces.variables import coord_variable, stored_variable
from hfzarr.model.array import ArrayMeta
from hfzarr.model.geo import (
    GeoReference,
    combine,
    coord_attrs,
    coords,
    dims_for,
    georeference,
    grid_mapping_attrs,
    legacy_georeference,
    spatial_dims,
)
from hfzarr.model.limits import check_coordinate_size

__all__ = [
    "array_dataset",
    "clash_error",
    "clashing",
    "group_arrays",
    "group_dataset",
    "kept",
    "unnamed",
    "unnamed_error",
]


class _Members(AbstractDataStore):
    """The arrays of a group as xarray's decoders want them."""

    def __init__(self, variables: Mapping[str, Variable], attrs: Mapping[str, Any]) -> None:
        self._variables = variables
        self._attrs = attrs

    def get_variables(self) -> Mapping[str, Variable]:
        return self._variables

    def get_attrs(self) -> Mapping[str, Any]:
        return self._attrs

    def get_dimensions(self) -> dict[str, int]:
        return {dim: n for var in self._variables.values() for dim, n in var.sizes.items()}  # type: ignore[misc]

    def get_encoding(self) -> dict[str, Any]:
        return {}


def array_dataset(opening: Opening, meta: ArrayMeta, name: str) -> Dataset:
    """Return an array as a Dataset with one variable named after it.

    Its fill value is not taken for missing data unless the array says so itself: an image or a
    mask is the likelier thing to be opened like this.
    """
    masked = bool(opening.options.mask_fill_value)
    return group_dataset(opening, {name: meta}, {}, where=meta.path, masked=masked)


def group_dataset(
    opening: Opening,
    arrays: Mapping[str, ArrayMeta],
    attrs: Mapping[str, Any],
    *,
    where: str,
    masked: bool | None = None,
    inherited: GeoReference | None = None,
) -> Dataset:
    """Return the arrays of one group as a Dataset.

    Parameters
    ----------
    opening
        What was asked for.
    arrays
        The arrays by name, those to be dropped among them: others may refer to them.
    attrs
        Attributes of the group.
    where
        Path of the group, or of the array, in the store.
    masked
        Whether Zarr's fill value marks missing data; None for what the options say.
    inherited
        What the layout of a pyramid says of this level.
    """
    own = georeference(attrs, inherited=inherited, where=where, report=opening.report)
    if masked is None:
        masked = opening.options.mask_fill_value
    variables = {name: _variable(opening, meta, own, masked) for name, meta in arrays.items()}
    shown = {key: value for key, value in attrs.items() if not key.lower().startswith("_nc")}
    store = _Members(variables, shown)
    try:
        dataset: Dataset = StoreBackendEntrypoint().open_dataset(
            store,
            drop_variables=sorted(opening.options.drop_variables),
            **opening.options.decoders,
        )
    except HfzarrError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise InvalidMetadataError(
            f"the CF attributes of group {where or '/'!r} cannot be decoded "
            f"({type(error).__name__}: {error}). Open it with decode_cf=False to see them, or "
            "leave the variable out with drop_variables=."
        ) from error
    legacy = legacy_georeference(attrs, where=where, report=opening.report)
    return _with_georeference(opening, dataset, arrays, own, legacy)


def clashing(arrays: Iterable[ArrayMeta]) -> dict[str, dict[int, list[str]]]:
    """Return the dims that arrays disagree on: ``{dim: {length: names of arrays}}``."""
    lengths: dict[str, dict[int, list[str]]] = {}
    for meta in arrays:
        for dim, n in zip(meta.dim_names, meta.shape, strict=True):
            lengths.setdefault(dim, {}).setdefault(n, []).append(meta.name)
    return {dim: by_length for dim, by_length in lengths.items() if len(by_length) > 1}


def unnamed(
    opening: Opening, arrays: Mapping[str, ArrayMeta], attrs: Mapping[str, Any], where: str
) -> list[str]:
    """Return the arrays whose dimensions have no names, neither of their own nor by GeoZarr."""
    own = georeference(attrs, where=where, report=opening.report)
    return [
        name
        for name, meta in arrays.items()
        if meta.ndim and meta.dims is None and not (own and dims_for(own, meta.shape))
    ]


def unnamed_error(opening: Opening, names: Sequence[str]) -> Exception:
    """Return the error for a group whose arrays have no dimension names."""
    return UnnamedDimensionsError(
        f"store {opening.source.url!r}: arrays {list(names)[:8]} of group {opening.path or '/'!r} "
        "have neither dimension_names (Zarr v3) nor _ARRAY_DIMENSIONS, one of which is required "
        "for xarray to determine variable dimensions that arrays share. Open one of them with "
        "group=, each as a node with xr.open_datatree, or the others with drop_variables=."
    )


def clash_error(opening: Opening, clashes: Mapping[str, Mapping[int, list[str]]]) -> Exception:
    """Return the error for a group whose arrays do not fit into one Dataset."""
    table = "\n".join(
        f"- {dim!r} is "
        + ", ".join(f"{n} in {names[:4]}" for n, names in sorted(by_length.items()))
        for dim, by_length in clashes.items()
    )
    return AmbiguousTargetError(
        f"store {opening.source.url!r}: the arrays of group {opening.path or '/'!r} have "
        f"conflicting sizes for their dims and do not fit into one Dataset:\n{table}\n"
        "Open one array with group=, some with drop_variables=, or all with xr.open_datatree."
    )


def _variable(
    opening: Opening, meta: ArrayMeta, geo: GeoReference | None, masked: bool | None
) -> Variable:
    dims = meta.dims or (geo and dims_for(geo, meta.shape)) or meta.dim_names
    if dims == (meta.name,) and meta.name not in opening.options.drop_variables:
        # xarray makes an index of it, and so reads all of it.
        check_coordinate_size(meta.size * meta.dtype.itemsize, meta.name)
    attrs = dict(meta.attrs)
    attrs.pop("_ARRAY_DIMENSIONS", None)
    if meta.zarr_format == 2:
        attrs = {key: value for key, value in attrs.items() if not key.lower().startswith("_nc")}
        # What no netCDF-like writer has touched is an image or a table rather than CF data.
        masked = meta.dims is not None if masked is None else masked
        # Where nothing is decoded, the fill value is shown and does nothing, as in xarray.
        masked = masked or opening.options.decoders.get("mask_and_scale") is False
    variable = stored_variable(opening.source, meta, dims, {})
    variable.encoding.update(_codec_encoding(opening, meta))
    if variable.dtype.kind == "T":
        variable.encoding["dtype"] = variable.dtype
    if meta.zarr_format == 3 and not masked:
        variable.encoding["fill_value"] = meta.fill_value
    if "_FillValue" in attrs and (meta.zarr_format == 3 or not masked):
        # What the CF attribute says comes before what Zarr fills with.
        attrs["_FillValue"] = _decoded_fill(attrs["_FillValue"], meta)
    elif masked and meta.fill_value is not None and meta.dtype.kind != "V":
        attrs["_FillValue"] = meta.fill_value
    variable.attrs = attrs
    return variable


def _codec_encoding(opening: Opening, meta: ArrayMeta) -> dict[str, Any]:
    from hfzarr.store.bridge import codec_encoding, uneven_chunks

    if meta.inner_chunk is not None:
        return codec_encoding(meta)
    chunks, shards = uneven_chunks(opening.source, meta)
    preferred = dict(zip(meta.dim_names, chunks, strict=True))
    codecs = codec_encoding(meta)
    return {"chunks": chunks, "preferred_chunks": preferred, "shards": shards, **codecs}


def _decoded_fill(value: Any, meta: ArrayMeta) -> Any:
    """Decode a ``_FillValue`` as xarray writes it to v3 (base64), or as others do (plain)."""
    if isinstance(value, (int, float)) and meta.dtype.kind in "iufc":
        return value
    try:
        kind: Any = meta.dtype
        if meta.dtype.kind in "TO":
            kind = "string"
        return FillValueCoder.decode(value, kind)
    except (ValueError, TypeError):
        if isinstance(value, str) and meta.dtype.kind == "f":
            return np.float64(value)
        raise


def _with_georeference(
    opening: Opening,
    dataset: Dataset,
    arrays: Mapping[str, ArrayMeta],
    own: GeoReference | None,
    legacy: GeoReference | None,
) -> Dataset:
    """Add x, y and ``spatial_ref`` where the metadata gives them and the arrays do not."""
    added: dict[str, Variable] = {}
    for geo, names in _placed(opening, dataset, arrays, own, legacy):
        sizes = {str(dim): n for name in names for dim, n in dataset[name].sizes.items()}
        specs = coords(geo, sizes, where=arrays[names[0]].path, report=opening.report)
        known = set(dataset.variables) | set(added)
        if not any(spec.name in known for spec in specs):
            said = coord_attrs(geo, specs)
            added |= {spec.name: coord_variable(spec, said.get(spec.name)) for spec in specs}
        mapping = grid_mapping_attrs(geo)
        if "spatial_ref" in mapping and "spatial_ref" not in known:
            added["spatial_ref"] = Variable((), np.int64(0), mapping)
        if "spatial_ref" in added:
            for name in names:
                if "grid_mapping" not in dataset[name].attrs:
                    dataset[name].variable.encoding.setdefault("grid_mapping", "spatial_ref")
    return dataset.assign_coords(Coordinates(added, indexes={})) if added else dataset


def _placed(
    opening: Opening,
    dataset: Dataset,
    arrays: Mapping[str, ArrayMeta],
    own: GeoReference | None,
    legacy: GeoReference | None,
) -> list[tuple[GeoReference, list[str]]]:
    """Return the georeferences of the data variables, with the variables each is for."""
    placed: dict[GeoReference, list[str]] = {}
    for name in dataset.data_vars:
        meta = arrays.get(str(name))
        if meta is None or dataset[name].ndim < 2:
            continue
        mapping = _grid_mapping(dataset, str(name))
        geo = combine(
            georeference(meta.attrs, inherited=own, where=meta.path, report=opening.report),
            legacy_georeference(
                meta.attrs, grid_mapping=mapping, where=meta.path, report=opening.report
            ),
            legacy,
        )
        if geo is None or spatial_dims(geo, [str(dim) for dim in dataset[name].dims]) is None:
            continue
        if mapping and geo.transform is None:
            continue
        placed.setdefault(geo, []).append(str(name))
    return list(placed.items())


def _grid_mapping(dataset: Dataset, name: str) -> Mapping[str, Any] | None:
    """Return the attributes of the grid mapping variable that a variable names (CF 5.6)."""
    variable = dataset[name].variable
    said = variable.encoding.get("grid_mapping", variable.attrs.get("grid_mapping"))
    first = str(said).split()[0].rstrip(":") if said else "spatial_ref"
    return dataset[first].attrs if first in dataset.variables else None


def group_arrays(opening: Opening, paths: Sequence[str]) -> dict[str, ArrayMeta]:
    """Return those of ``paths`` that are arrays, by name.

    Those to be dropped are among them, unless they are what cannot be read.
    """
    found: dict[str, ArrayMeta] = {}
    for path in paths:
        name = path.rpartition("/")[2]
        try:
            meta = opening.hierarchy.array(path)
        except (InvalidMetadataError, UnsupportedError):
            if name not in opening.options.drop_variables:
                raise
            continue
        if meta is not None:
            found[name] = meta
    return found


def kept(opening: Opening, arrays: Mapping[str, ArrayMeta]) -> dict[str, ArrayMeta]:
    """Return the arrays that are not to be dropped."""
    dropped = opening.options.drop_variables
    return {name: meta for name, meta in arrays.items() if name not in dropped}
