"""The rules of Zarr's own documents and of CF: one fault at a time, and another validator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfzarr.model.cf_rules import CfVariable, cf_faults
from hfzarr.model.core_rules import v2_array_faults, v3_array_faults, v3_group_faults
from hfzarr.model.fill_rules import v3_fill_fault

# --- Zarr's own documents -------------------------------------------------------------------------

V3 = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [4, 6],
    "data_type": "uint8",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 3]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0,
    "codecs": [
        {"name": "bytes"},
        {"name": "zstd", "configuration": {"level": 3, "checksum": False}},
    ],
    "dimension_names": ["y", None],
    "attributes": {"title": "a"},
}
V2 = {
    "zarr_format": 2,
    "shape": [4, 6],
    "chunks": [2, 3],
    "dtype": "<u2",
    "compressor": {"id": "zlib", "level": 1},
    "fill_value": 0,
    "order": "C",
    "filters": None,
    "dimension_separator": "/",
}


def sharded(**changed: Any) -> dict[str, Any]:
    inner = [{"name": "bytes"}]
    index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    config = {"chunk_shape": [1, 3], "codecs": inner, "index_codecs": index} | changed
    return V3 | {"codecs": [{"name": "sharding_indexed", "configuration": config}]}


def grid(*lengths: Any) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": list(lengths)}}


@pytest.mark.parametrize(
    ("doc", "said"),
    [
        (V3 | {"shape": [4, -6]}, "shape: MUST list integers"),
        (V3 | {"shape": [4, 6.0]}, "shape: MUST list integers"),
        (V3 | {"shape": 4}, "shape: MUST list integers"),
        (V3 | {"data_type": 8}, "data_type: MUST be a name"),
        (V3 | {"chunk_grid": {}}, "chunk_grid: MUST be an object"),
        (V3 | {"chunk_grid": grid(2)}, "'chunk_shape' MUST list"),
        (V3 | {"chunk_grid": grid(2, 0)}, "'chunk_shape' MUST list"),
        (V3 | {"chunk_grid": grid(2, True)}, "'chunk_shape' MUST list"),
        (V3 | {"chunk_key_encoding": {"name": "v2", "configuration": {"separator": "-"}}}, "'sep"),
        (V3 | {"chunk_key_encoding": None}, "chunk_key_encoding: MUST be"),
        (V3 | {"fill_value": 256}, "an integer from 0 to 255"),
        (V3 | {"fill_value": None}, "an integer from 0 to 255"),
        (V3 | {"data_type": "bool"}, "true or false"),
        (V3 | {"data_type": "float32", "fill_value": "nan"}, "a number, NaN"),
        (V3 | {"data_type": "complex64", "fill_value": 0}, "a list of two"),
        (V3 | {"data_type": "r16", "fill_value": [0]}, "a list of 2 integers"),
        (V3 | {"codecs": []}, "exactly one MUST make bytes"),
        (V3 | {"codecs": [{"name": "zstd"}, {"name": "bytes"}]}, "those of arrays before it"),
        (V3 | {"codecs": ["bytes", {"configuration": {}}]}, "codecs: MUST list names"),
        (V3 | {"codecs": {"name": "bytes"}}, "codecs: MUST list names"),
        (V3 | {"dimension_names": ["y"]}, "dimension_names: MUST list"),
        (V3 | {"dimension_names": ["y", 1]}, "dimension_names: MUST list"),
        (V3 | {"attributes": []}, "'attributes' MUST be an object"),
        (V3 | {"zarr_format": "3"}, "'zarr_format' MUST be 3"),
        (V3 | {"storage_transformers": {}}, "storage_transformers: MUST be a list"),
        (V3 | {"compressor": None}, "must_understand false"),
        (V3 | {"extra": {"must_understand": True}}, "must_understand false"),
        (sharded(chunk_shape=[2, 2]), "MUST divide the shape of the shard"),
        (sharded(chunk_shape=[1]), "MUST divide the shape of the shard"),
        (sharded(index_location="middle"), "'index_location' MUST be"),
        (sharded(codecs=[]), "exactly one MUST make bytes"),
    ],
)
def test_a_v3_document_with_one_fault(doc: dict[str, Any], said: str) -> None:
    ((rule, found),) = v3_array_faults(doc)
    assert said in rule
    assert found


@pytest.mark.parametrize(
    "doc",
    [
        V3,
        sharded(),
        sharded(index_location="start"),
        V3 | {"extra": {"must_understand": False, "anything": 1}},
        V3 | {"data_type": {"name": "numpy.datetime64", "configuration": {}}, "fill_value": -1},
        V3 | {"data_type": "float64", "fill_value": "0x7ff8000000000000"},
        V3 | {"codecs": ["bytes", "a-codec-of-a-lab"]},
        V3 | {"chunk_grid": {"name": "rectangular", "configuration": {}}},
        V3 | {"shape": [], "chunk_grid": grid(), "dimension_names": []},
    ],
)
def test_a_v3_document_without_fault(doc: dict[str, Any]) -> None:
    assert list(v3_array_faults(doc)) == []


@pytest.mark.parametrize(
    ("doc", "said"),
    [
        (V2 | {"zarr_format": 3}, "'zarr_format' MUST be 2"),
        (V2 | {"shape": "4"}, "'shape' MUST list"),
        (V2 | {"chunks": [2]}, "'chunks' MUST list"),
        (V2 | {"chunks": [2, 0]}, "'chunks' MUST list"),
        (V2 | {"dtype": "uint16"}, "'dtype' MUST be a NumPy typestr"),
        (V2 | {"dtype": [["a"]]}, "'dtype' MUST be a NumPy typestr"),
        (V2 | {"order": "c"}, "'order' MUST be"),
        (V2 | {"compressor": "zlib"}, "'compressor' MUST be"),
        (V2 | {"filters": [{"name": "delta"}]}, "'filters' MUST list"),
        (V2 | {"dimension_separator": "-"}, "'dimension_separator' MUST be"),
        (V2 | {"fill_value": "0"}, "an integer, or null"),
        (V2 | {"dtype": "<f4", "fill_value": "nan"}, "a number, NaN"),
        ({key: one for key, one in V2.items() if key != "order"}, "MUST be there"),
    ],
)
def test_a_v2_document_with_one_fault(doc: dict[str, Any], said: str) -> None:
    ((rule, found),) = v2_array_faults(doc)
    assert said in rule
    assert found


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
@given(data=st.data())
def test_integers_fit_their_data_type(bits: int, data: st.DataObject) -> None:
    signed = data.draw(st.booleans())
    name = f"int{bits}" if signed else f"uint{bits}"
    info = np.iinfo(name)
    value = data.draw(st.integers(int(info.min) - 3, int(info.max) + 3))
    inside = int(info.min) <= value <= int(info.max)
    assert (v3_fill_fault(name, value) is None) == inside


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 3), st.text(max_size=3), st.floats(),
    st.just([]), st.just({}), st.lists(st.integers(-1, 2), max_size=3),
)  # fmt: skip


@given(key=st.sampled_from(sorted(V3)), junk=JUNK)
def test_any_document_gets_a_verdict_v3(key: str, junk: Any) -> None:
    for doc in (V3 | {key: junk}, sharded() | {key: junk}, sharded(**{key: junk})):
        assert all(rule and found for rule, found in v3_array_faults(doc))
        assert all(rule and found for rule, found in v3_group_faults(doc))


@given(key=st.sampled_from(sorted(V2)), junk=JUNK)
def test_any_document_gets_a_verdict_v2(key: str, junk: Any) -> None:
    assert all(rule and found for rule, found in v2_array_faults(V2 | {key: junk}))


# Another validator of Zarr's documents, by other authors.


def strangers() -> Any:
    return pytest.importorskip("zarr_metadata.model", reason="needs zarr-metadata")


def test_another_validator_agrees_on_every_real_document(realdata: Path) -> None:
    other = strangers()
    readers: dict[str, tuple[Any, Any]] = {
        "array": (other.read_array_metadata_v3, v3_array_faults),
        "group": (other.read_group_metadata_v3, v3_group_faults),
        ".zarray": (other.read_array_metadata_v2, v2_array_faults),
    }
    count = 0
    for name in ("zarr.json", ".zarray"):
        for path in realdata.rglob(name):
            try:
                doc = json.loads(path.read_text("utf-8"))
            except ValueError:
                continue
            theirs, ours = readers[doc.get("node_type", name) if name == "zarr.json" else name]
            assert bool(theirs(doc).problems) == bool(list(ours(doc))), path
            count += 1
    assert count > 700


@given(key=st.sampled_from(["shape", "chunk_grid", "codecs", "fill_value", "dimension_names"]),
       junk=JUNK)  # fmt: skip
def test_another_validator_agrees_on_junk(key: str, junk: Any) -> None:
    doc = V3 | {key: junk}
    # A bare name is a codec or a grid that may be an extension; the other one knows which exist.
    if isinstance(junk, str):
        return
    assert bool(strangers().read_array_metadata_v3(doc).problems) == bool(
        list(v3_array_faults(doc))
    )


# --- CF -------------------------------------------------------------------------------------------


def cf(name: str, *dims: str, **attrs: Any) -> dict[str, CfVariable]:
    return {name: CfVariable(name=name, dims=dims, shape=(2,) * len(dims), attrs=attrs)}


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (cf("t", "y", coordinates="lat lon"), "no 'lat'; no 'lon'"),
        (cf("t", "y", grid_mapping="crs"), "no 'crs'"),
        (cf("t", "y", grid_mapping="crs: y") | cf("y", "y"), "no 'crs'"),
        (cf("t", "y", cell_measures="area: cells"), "no 'cells'"),
        (cf("t", "y", formula_terms="a: a b: p0") | cf("a"), "no 'p0'"),
        (cf("t", "y", bounds="b") | cf("b", "y"), "bounds 'b' of shape (2,)"),
        (cf("t", "y", bounds="b") | cf("b", "x", "n"), "bounds 'b' of shape (2, 2)"),
        (cf("t", "y", flag_values=[1, 2], flag_meanings="one"), "2 for 1"),
        (cf("t", "y", units=1), "units 1"),
        (cf("t", "y", coordinates=["lat"]), "coordinates ['lat']"),
    ],
)
def test_a_fault_in_cf(variables: dict[str, CfVariable], said: str) -> None:
    found = [found for _, _, found in cf_faults(variables, ())]
    assert "; ".join(one.rpartition("there is ")[2] for one in found) == said or said in found[0]


def test_what_cf_allows() -> None:
    sound = (
        cf("t", "y", coordinates="lat", grid_mapping="crs: y lat", cell_measures="area: far",
           bounds="b", ancillary_variables="/other/q")
        | cf("b", "y", "n") | cf("crs") | cf("y", "y")
    )  # fmt: skip
    assert list(cf_faults(sound, ["lat"], ["far"])) == []
