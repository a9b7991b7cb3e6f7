"""What those who come from elsewhere call things, and what these are called here."""

from __future__ import annotations

__all__ = ["advice", "no_attribute"]

_HANDLE = {
    "asarray": "read()",
    "roi": "select(world={'y': (low, high)}).read(), in units, or select(y=slice(0, 64)) in pixels",
    "get_info": "info()",
    "get_array": "array(path)",
    "get_arrays": "arrays()",
    "source": "url; and base, of a manifest",
    "values": "read() for pixels, keys() for the members of a group",
    "to_numpy": "read()",
    "numpy": "read()",
    "compute": "read(), or to_xarray() for a lazy Dataset",
    "data": "read(), or to_xarray(), whose arrays have .data",
    "sel": "select(world={'y': (low, high)}), or to_xarray() for all that xarray does",
    "isel": "select(y=slice(0, 64)), or to_xarray() for all that xarray does",
    "coords": "to_xarray().coords",
    "groups": "keys(), and kind of each member",
    "array_keys": "info().arrays",
    "open": "to_xarray(), open_dataset() or open_datatree()",
    "load": "read()",
}
_MANIFEST = {
    "to_values": "manifest['column']",
    "to_list": "list(manifest)",
    "to_parquet": "save('index.parquet')",
    "to_csv": "save('index.csv')",
    "show": "print(manifest)",
    "rows": "list(manifest)",
    "num_rows": "len(manifest)",
    "column_names": "columns",
    "select": "filter(), or a slice",
    "map": "to_pandas(), to_arrow(), or datasets.Dataset",
    "source": "base",
}
_MODULE = {
    "read_zarr": "scan() or open_manifest()",
    "push_to_hub_zarr": "push_to_hub()",
    "open": "ZarrHandle(place), or xarray.open_dataset(place, engine='hfzarr')",
    "load_manifest": "open_manifest()",
    "read_manifest": "open_manifest()",
}
_WORDS = {"Manifest": _MANIFEST, "module": _MODULE}


def advice(kind: str, name: str) -> str:
    """Return what to use in place of a name from elsewhere; empty where nothing is known of it.

    Parameters
    ----------
    kind
        ``"Manifest"`` or ``"module"``; of anything else it is what a handle has.
    name
        The name that was asked for.

    Examples
    --------
    >>> advice("ZarrArray", "asarray"), advice("ZarrArray", "shape")
    ('; here it is read()', '')
    """
    use = _WORDS.get(kind, _HANDLE).get(name)
    return f"; here it is {use}" if use else ""


def no_attribute(thing: object, name: str) -> AttributeError:
    """Return the error for an attribute that a thing has not."""
    kind = type(thing).__name__
    return AttributeError(f"{kind!r} object has no attribute {name!r}{advice(kind, name)}")
