"""Whatever a store says: it is read, or refused by an error of this package, in bounded time."""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

import hfzarr
from fuzz_documents import NAMES, broken, documents_of, junk, mutated, rounds, write
from hfzarr.errors import HfzarrError
from hfzarr.model.document import parse_document
from test_mangled import STORES

# Of this process alone, so that a busy machine does not count.
SECONDS = 10.0
#: Real stores that are small, of every kind that is read in a way of its own.
REAL = (
    "ngio_v04", "ngio_v05", "ngff-challenge", "titiler_xarray", "zarrita_v3", "zarrita_v2",
    "viv_bioformats", "esmvalcore", "ome-zarr-models_examples",
)  # fmt: skip


@contextmanager
def answered(what: str) -> Iterator[None]:
    """Take an error of ours for an answer, and no other; nor one that takes long, or is long."""
    begun = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except HfzarrError as error:
        length = len(str(error))
    else:
        length = 0
    assert length < 20_000, what
    assert time.process_time() - begun < SECONDS, what


def pixel(dataset: xr.Dataset) -> None:
    for variable in dataset.data_vars.values():
        variable.isel(dict.fromkeys(variable.dims, slice(0, 1))).load()


def shown(dataset: xr.Dataset) -> None:
    repr(dataset)
    str(dataset.hfzarr.diagnose())


def look(store: Path, target: Path) -> None:
    """Ask everything that can be asked of a store before its pixels are."""
    path = str(store)
    for strictness in ("repair", "raise"):
        with answered("open_dataset"):
            shown(xr.open_dataset(path, engine="hfzarr", on_invalid=strictness))
    with answered("a pixel"):
        pixel(xr.open_dataset(path, engine="hfzarr"))
    with answered("open_datatree"):
        repr(xr.open_datatree(path, engine="hfzarr"))
    with answered("info"):
        handle = hfzarr.ZarrHandle(path)
        handle._repr_html_()
        repr(handle.info())
    with answered("scan"):
        repr(hfzarr.scan(path))
    with answered("validate"):
        str(hfzarr.validate(path))
    with answered("plan_reshard"):
        str(hfzarr.plan_reshard(path, str(target)))


def check(documents: Mapping[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = write(Path(folder) / "s.zarr", documents)
        look(store, Path(folder) / "t.zarr")


def templates(kind: str) -> dict[str, bytes]:
    return {
        f"{path}/zarr.json".lstrip("/"): json.dumps(document).encode()
        for path, document in STORES[kind]().items()
    }


@pytest.mark.parametrize("kind", STORES)
def test_metadata_that_says_something_else(kind: str) -> None:
    @rounds(12)
    @given(mutated(templates(kind)))
    def run(documents: dict[str, bytes]) -> None:
        check(documents)

    run()


def test_metadata_of_real_stores_that_says_something_else(realdata: Path) -> None:
    roots = [root for name in REAL for root in _roots(realdata / name)]
    stores = [found for root in roots if 0 < len(found := documents_of(root)) < 40]
    assert len(stores) > len(REAL)

    @rounds(25)
    @given(st.sampled_from(stores).flatmap(mutated))
    def run(documents: dict[str, bytes]) -> None:
        check(documents)

    run()


def _roots(folder: Path) -> list[Path]:
    keys = (".zgroup", ".zarray", ".zattrs", "zarr.json")
    found: list[Path] = []
    for path in sorted(path for path in [folder, *folder.rglob("*")] if path.is_dir()):
        inside = any(root in path.parents for root in found)
        if not inside and any((path / key).is_file() for key in keys):
            found.append(path)
    return found


@rounds(60)
@given(st.recursive(junk(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_what_is_parsed_is_what_json_parses(value: Any) -> None:
    text = json.dumps(value)
    try:
        found = parse_document(text)
    except hfzarr.LimitError:
        assert "[" in text or "{" in text
        return
    assert json.dumps(found) == text


@rounds(200)
@given(st.lists(st.sampled_from(['"', "\\", "[", "]", "{", "}", "a", "\n", "é", "9" * 299])))
def test_any_text_is_parsed_or_refused(parts: list[str]) -> None:
    text = "".join(parts)
    try:
        expected = json.loads(text)
    except ValueError:
        expected = ValueError
    try:
        found = parse_document(text.encode())
    except ValueError:
        # A number so long is none that an array holds.
        assert expected is ValueError or "9" * 300 in text
    else:
        assert found == expected


# Chunks and shards

CODECS: dict[str, list[dict[str, Any]]] = {
    "bytes": [{"name": "bytes"}],
    "zstd": [{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 1}}],
    "gzip": [{"name": "bytes"}, {"name": "gzip", "configuration": {"level": 1}}],
    "crc32c": [{"name": "bytes"}, {"name": "crc32c"}],
    "gzip in zstd": [
        {"name": "bytes"},
        {"name": "gzip", "configuration": {"level": 1}},
        {"name": "zstd", "configuration": {"level": 1}},
    ],
}
V2 = ("blosc", "lz4", "zlib", "bz2", "lzma")


def make_array(folder: Path, kind: str) -> tuple[Path, Path]:
    """Write an array, and return its folder and its only file of pixels."""
    values = np.arange(64 * 64, dtype="u1").reshape(64, 64) % 7
    if kind in V2:
        compressor = {"id": kind}
        document: dict[str, Any] = {
            "zarr_format": 2, "shape": [64, 64], "chunks": [64, 64], "dtype": "|u1", "order": "C",
            "fill_value": 0, "filters": None, "compressor": compressor,
        }  # fmt: skip
        write(folder, {".zarray": json.dumps(document).encode()})
        zarr.open_array(folder, mode="r+")[:] = values
        return folder, folder / "0.0"
    sharded = kind.startswith("shard")
    codecs = CODECS[kind.removeprefix("shard of ")]
    if sharded:
        index = [{"name": "bytes", "configuration": {"endian": "little"}}]
        config = {"chunk_shape": [16, 16], "codecs": codecs, "index_codecs": index}
        codecs = [{"name": "sharding_indexed", "configuration": config}]
    document = {
        "zarr_format": 3, "node_type": "array", "shape": [64, 64], "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [64, 64]}},
        "chunk_key_encoding": {"name": "default"}, "fill_value": 0, "codecs": codecs,
    }  # fmt: skip
    write(folder, {"zarr.json": json.dumps(document).encode()})
    zarr.open_array(folder, mode="r+")[:] = values
    return folder, folder / "c/0/0"


KINDS = [*CODECS, *(f"shard of {kind}" for kind in CODECS), *V2]


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_of_other_bytes(kind: str, tmp_path: Path) -> None:
    store, chunk = make_array(tmp_path / "a.zarr", kind)
    sound = chunk.read_bytes()
    opened = xr.open_dataset(store, engine="hfzarr")
    [name] = opened.data_vars
    outcomes = set()

    @rounds(40)
    @given(broken(sound), st.sampled_from([slice(None), slice(0, 1), slice(60, 64)]))
    def run(data: bytes, rows: slice) -> None:
        chunk.write_bytes(data)
        begun = time.process_time()
        try:
            # Opened anew: the index of a shard is kept.
            fresh = xr.open_dataset(store, engine="hfzarr")
            fresh[name][rows].load()
            outcomes.add("read")
        except HfzarrError as error:
            outcomes.add(type(error).__name__)
        assert time.process_time() - begun < SECONDS

    run()
    assert "ReadError" in outcomes


# Tables

RECORDS: tuple[Callable[[Any], Any], ...] = (
    lambda value: {"image": ["a.zarr", value]},
    lambda value: [{"image": "a.zarr"}, {"image": value}],
    lambda value: [{"image": "a.zarr", "zarr_metadata": value}],
    lambda value: [{"image": {"path": value, "storage_options": {"anon": True}}}],
    lambda value: [{"path": value, "node": value, "level": value}],
    lambda value: [value],
)


@rounds(60)
@given(st.sampled_from(RECORDS), junk())
def test_tables_of_anything(make: Callable[[Any], Any], value: Any) -> None:
    with answered("open_manifest"):
        manifest = hfzarr.open_manifest(make(value))
        repr(manifest)
        manifest._repr_html_()


@rounds(40)
@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3), st.sampled_from(["csv", "jsonl"]))
def test_files_of_anything(names: list[str], kind: str) -> None:
    lines = [json.dumps({"image": name}) for name in names]
    text = "\n".join(lines if kind == "jsonl" else ["image", *names])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"index.{kind}"
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        with answered("open_manifest"):
            repr(hfzarr.open_manifest(str(file)))
