"""What cannot be read is refused by an error of our own.

It names the store, the node, what was found and what to do; it is never a KeyError from inside,
and there is never an empty Dataset instead.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

import hfzarr
from rawstores import (
    image_attrs,
    scaled,
    write_array,
    write_group,
    write_image,
    write_json,
)

BOTH = (xr.open_dataset, xr.open_datatree)


@dataclass
class Refused:
    """A store or a request that cannot be served, and what the error is to say."""

    write: Callable[[Path], Any]
    error: type[hfzarr.HfzarrError]
    node: str
    """The node that the error names."""
    found: str
    """What it says was found."""
    remedy: str
    """What it says to do."""
    options: dict[str, Any] = field(default_factory=dict)
    openers: tuple[Any, ...] = BOTH


def array_in_group(zarr_format: int, **fields: Any) -> Callable[[Path], Any]:
    """Return a writer of a group with a sound array, and one with these fields."""

    def write(store: Path) -> None:
        write_group(store, {}, zarr_format)
        for name, changes in (("good", {}), ("bad", fields)):
            write_array(store / name, (4,), zarr_format, dims=["x"], **changes)
            if zarr_format == 2:
                write_json(store / name / ".zattrs", {"_ARRAY_DIMENSIONS": ["x"]})

    return write


def truncated(*parts: str, zarr_format: int = 2) -> Callable[[Path], Any]:
    """Return a writer of a sound image with one document cut in half."""

    def write(store: Path) -> None:
        write_image(store, zarr_format)
        document = store.joinpath(*parts)
        text = document.read_text("utf-8")
        document.write_text(text[: len(text) // 2], "utf-8")

    return write


def truncated_consolidated(store: Path) -> None:
    write_group(store, {})
    (store / ".zmetadata").write_text('{"metadata": {".zgroup": {"zarr_for', "utf-8")


def old_draft_root(store: Path) -> None:
    """Write the entry point of the v3 draft of 2020, which lies in ``zarr.json`` too."""
    write_json(
        store / "zarr.json",
        {
            "zarr_format": "https://purl.org/zarr/spec/protocol/core/3.0",
            "metadata_encoding": "https://purl.org/zarr/spec/protocol/core/3.0",
            "extensions": [],
        },
    )


def no_levels(store: Path) -> None:
    write_group(store, image_attrs())


def sound(store: Path) -> None:
    write_image(store)


def two_images(store: Path) -> None:
    write_group(store, {"bioformats2raw.layout": 3})
    write_image(store / "0")
    write_image(store / "1")


def empty_plate(store: Path) -> None:
    well = {"path": "A/1", "rowIndex": 0, "columnIndex": 0}
    plate = {"rows": [{"name": "A"}], "columns": [{"name": "1"}], "wells": [well]}
    write_group(store, {"plate": {"version": "0.4", "name": "p", **plate}})


def nothing(store: Path) -> None:
    """Write no store."""


def empty_folder(store: Path) -> None:
    store.mkdir()


def folder_of_stores(store: Path) -> None:
    write_image(store / "cells.zarr")


def text_file(store: Path) -> None:
    store.write_text("not a store", "utf-8")


def half_a_zip(store: Path) -> None:
    with zipfile.ZipFile(store, "w") as archive:
        archive.writestr("zarr.json", "{}" * 1000)
    store.write_bytes(store.read_bytes()[:500])


UNKNOWN_V3 = [{"name": "bytes"}, {"name": "secret.codec", "configuration": {"level": 3}}]
TRANSFORMER = [{"name": "chunk-manifest-json", "configuration": {}}]
Unsupported, Invalid = hfzarr.UnsupportedError, hfzarr.InvalidMetadataError
NoStore, NoNode = hfzarr.StoreNotFoundError, hfzarr.NodeNotFoundError
CASES = {
    "unknown codec, v2": Refused(
        array_in_group(2, compressor={"id": "secret"}),
        Unsupported, "bad", "secret", "drop_variables",
    ),
    "unknown filter, v2": Refused(
        array_in_group(2, filters=[{"id": "secret"}]),
        Unsupported, "bad", "secret", "drop_variables",
    ),
    "unknown codec, v3": Refused(
        array_in_group(3, codecs=UNKNOWN_V3), Unsupported, "bad", "secret.codec", "drop_variables"
    ),
    "unknown data type, v3": Refused(
        array_in_group(3, data_type="int128"), Unsupported, "bad", "int128", "drop_variables"
    ),
    "storage transformer": Refused(
        array_in_group(3, storage_transformers=TRANSFORMER),
        Unsupported, "bad", "chunk-manifest-json", "drop_variables",
    ),
    "old draft of a v3 array": Refused(
        array_in_group(3, chunk_memory_layout="C", compressor=None),
        Unsupported, "bad", "old draft of Zarr v3", "Rewrite it",
    ),
    "old draft of a v3 store": Refused(
        old_draft_root, Unsupported, "/", "https://purl.org/zarr/spec/protocol/core/3.0",
        "rewrite it",
    ),
    "extension that must be understood": Refused(
        array_in_group(3, mystery={"name": "mystery", "must_understand": True}),
        Unsupported, "bad", "mystery", "drop_variables",
    ),
    "extension that says nothing of it": Refused(
        array_in_group(3, mystery={"name": "mystery"}),
        Unsupported, "bad", "mystery", "drop_variables",
    ),
    "pickle codec": Refused(
        array_in_group(2, dtype="|O", filters=[{"id": "pickle", "protocol": 5}]),
        Unsupported, "bad", "pickle", "another encoding",
    ),
    "array without a shape": Refused(
        array_in_group(3, shape=None), Invalid, "bad", "'shape'", "drop_variables"
    ),
    "truncated zarr.json": Refused(
        truncated("zarr.json", zarr_format=3), Invalid, "/", "not valid JSON", "sound copy"
    ),
    "truncated zarr.json of a level": Refused(
        truncated("0", "zarr.json", zarr_format=3), Invalid, "0", "not valid JSON", "sound copy"
    ),
    "truncated .zattrs": Refused(
        truncated(".zattrs"), Invalid, "/", "not valid JSON", "sound copy"
    ),
    "truncated .zarray of a level": Refused(
        truncated("1", ".zarray"), Invalid, "1", "not valid JSON", "sound copy"
    ),
    "truncated .zmetadata": Refused(
        truncated_consolidated, Invalid, "/", "not valid JSON", "consolidated=False",
    ),
    "no levels": Refused(
        no_levels, Invalid, "/", "none of the levels ['0', '1'] is there", "group="
    ),
    "no wells": Refused(
        empty_plate, Invalid, "/", "A/1", "copied in part",
    ),
    "no store": Refused(
        nothing, NoStore, "wild.zarr", "No such file or directory", "Check the path"
    ),
    "an empty folder": Refused(
        empty_folder, NoStore, "wild.zarr", "no zarr.json", "Check the path"
    ),
    "a folder of stores": Refused(
        folder_of_stores, NoStore, "wild.zarr", "cells.zarr", "Open one of them"
    ),
    "a file that is no zip": Refused(
        text_file, hfzarr.TargetError, "wild.zarr", "neither a zip", "A store is"
    ),
    "half a zip": Refused(
        half_a_zip, hfzarr.TargetError, "wild.zarr", "neither a zip", "cut short"
    ),
    "no group": Refused(
        sound, NoNode, "masks", "['0', '1']", "group=", options={"group": "masks"}
    ),
    "no group, deeper": Refused(
        sound, NoNode, "a/b/c", "no group or array", "group=", options={"group": "a/b/c"}
    ),
    "level out of range": Refused(
        sound, NoNode, "/", "['0', '1']", "level= as 0 to 1", options={"level": 2}
    ),
    "level below range": Refused(
        sound, NoNode, "/", "['0', '1']", "-1 to -2", options={"level": -3}
    ),
    "level of no such name": Refused(
        sound, NoNode, "/", "'full'", "level= as", options={"level": "full"}
    ),
    "image out of range": Refused(
        sound, NoNode, "/", "['cells']", "image= as", options={"image": 1}
    ),
    "image of no such name": Refused(
        sound, NoNode, "/", "'nuclei'", "image= as", options={"image": "nuclei"}
    ),
    "image not in the collection": Refused(
        two_images, NoNode, "/", "'nuclei'", "image=0 or image='0'", options={"image": "nuclei"}
    ),
    "one of several images": Refused(
        two_images, hfzarr.AmbiguousTargetError, "/", "holds 2 images", "Choose one with image=",
        openers=(xr.open_dataset,),
    ),
    "a level of what has none": Refused(
        array_in_group(3), hfzarr.TargetError, "/", "level= was given", "Leave it out",
        options={"level": 1}, openers=(xr.open_dataset,),
    ),
    "consolidated metadata on demand": Refused(
        sound, Invalid, "wild.zarr", "there is none", "consolidate_metadata",
        options={"consolidated": True},
    ),
}  # fmt: skip
ALL = [
    pytest.param(case, opener, id=f"{name}, {opener.__name__}")
    for name, case in CASES.items()
    for opener in case.openers
]


@pytest.mark.parametrize(("case", "opener"), ALL)
def test_it_is_refused_by_name(case: Refused, opener: Callable[..., Any], tmp_path: Path) -> None:
    store = tmp_path / "wild.zarr"
    case.write(store)
    with pytest.raises(case.error) as caught:
        opener(store, engine="hfzarr", **case.options)
    assert type(caught.value) is case.error
    message = str(caught.value)
    assert str(store) in message
    assert f"'{case.node}" in message or f"/{case.node}'" in message
    assert case.found in message
    assert case.remedy in message
    assert "Error:" not in message.partition(":")[0], "words, not the repr of an exception"


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_rest_opens_without_what_cannot_be_read(zarr_format: int, tmp_path: Path) -> None:
    """The remedy that the errors name works."""
    store = tmp_path / "a.zarr"
    fields = {2: {"compressor": {"id": "secret"}}, 3: {"codecs": UNKNOWN_V3}}[zarr_format]
    array_in_group(zarr_format, **fields)(store)
    for opener in BOTH:
        with opener(store, engine="hfzarr", drop_variables="bad", consolidated=False) as opened:
            assert list(opened.data_vars) == ["good"]


@pytest.mark.parametrize("opener", BOTH)
def test_a_level_that_cannot_be_read_can_be_left_out(opener: Any, tmp_path: Path) -> None:
    """The error names drop_variables= for the levels of an image, too."""
    store = write_image(tmp_path / "a.zarr")
    write_array(store / "1", (4, 8), compressor={"id": "secret"})
    with opener(store, engine="hfzarr", drop_variables="1") as opened:
        pixels = opened["image"] if opener is xr.open_dataset else opened["0/image"]
        assert pixels.shape == (8, 16)


def test_extension_that_may_be_ignored_is_ignored(tmp_path: Path) -> None:
    fields = {"mystery": {"name": "mystery", "must_understand": False}}
    array_in_group(3, **fields)(tmp_path / "a.zarr")
    opened = xr.open_dataset(tmp_path / "a.zarr", engine="hfzarr", consolidated=False)
    assert set(opened.data_vars) == {"good", "bad"}


def test_truncated_consolidated_metadata_can_be_passed_by(tmp_path: Path) -> None:
    write_image(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / ".zmetadata").write_text('{"metadata": {', "utf-8")
    opened = xr.open_dataset(tmp_path / "a.zarr", engine="hfzarr", consolidated=False)
    assert opened["image"].shape == (8, 16)


def test_truncated_document_does_not_matter_where_nothing_asks_for_it(tmp_path: Path) -> None:
    """A level that is damaged does not keep another from opening, when only that is asked for."""
    store = write_image(tmp_path / "a.zarr", datasets=[scaled("0", 0.5, 0.25)])
    (store / "1" / ".zarray").write_text("{", "utf-8")
    assert xr.open_dataset(store, engine="hfzarr")["image"].shape == (8, 16)


def test_errors_are_also_the_built_in_ones(tmp_path: Path) -> None:
    """Code written for another engine keeps catching them."""
    with pytest.raises(FileNotFoundError):
        xr.open_dataset(tmp_path / "none.zarr", engine="hfzarr")
    write_image(tmp_path / "a.zarr")
    with pytest.raises(KeyError) as caught:
        xr.open_dataset(tmp_path / "a.zarr", engine="hfzarr", group="none")
    assert isinstance(caught.value, hfzarr.HfzarrError)
    write_array(tmp_path / "b.zarr", (2,), 3)
    with pytest.raises(ValueError, match="level"):
        xr.open_dataset(tmp_path / "b.zarr", engine="hfzarr", level=1)


def test_a_chunk_that_is_cut_short_is_named(tmp_path: Path) -> None:
    store = write_group(tmp_path / "a.zarr", {}, 3)
    codecs = [{"name": "bytes"}, {"name": "gzip", "configuration": {"level": 1}}]
    write_array(store / "v", (4,), 3, dims=["x"], codecs=codecs)
    (store / "v" / "c").mkdir()
    (store / "v" / "c" / "0").write_bytes(b"\x1f\x8b\x08\x00")
    opened = xr.open_dataset(store, engine="hfzarr", consolidated=False)
    with pytest.raises(hfzarr.ReadError) as caught:
        opened["v"].load()
    message = str(caught.value)
    assert "a.zarr" in message
    assert "v/c/0" in message
