"""Protobuf's wire format, against protobuf itself."""

from __future__ import annotations

import mmap
from pathlib import Path

import onnx
import pytest
from onnx import helper

from onnxcam.runtime import wire
from tests.graph.building import residual


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, b"\x00"),
        (1, b"\x01"),
        (127, b"\x7f"),
        (128, b"\x80\x01"),
        (300, b"\xac\x02"),
        (2**35, b"\x80" * 5 + b"\x01"),
    ],
)
def test_varints_there_and_back(value: int, encoded: bytes) -> None:
    assert wire.encode_varint(value) == encoded
    assert wire.varint(b"pad" + encoded + b"more", 3, 3 + len(encoded)) == (value, 3 + len(encoded))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 10, b"\x80\x80", b"\x80" * 10 + b"\x01"])
def test_a_varint_that_does_not_end(data: bytes) -> None:
    with pytest.raises(ValueError, match="cut off"):
        wire.varint(data, 0, len(data))


def test_the_fields_of_a_model_put_together_again_are_the_model() -> None:
    data = residual().SerializeToString()
    parts = list(wire.fields(data, 0, len(data)))
    assert b"".join(data[part.tag : part.end] for part in parts) == data
    graph = next(part for part in parts if part.number == 7)
    assert onnx.GraphProto.FromString(data[graph.start : graph.end]) == residual().graph


def test_every_wire_type() -> None:
    data = b"\x08\x96\x01" + b"\x11" + bytes(8) + wire.encode_bytes(3, b"abc") + b"\x25" + bytes(4)
    assert [(p.number, p.wire_type, p.end - p.start) for p in wire.fields(data, 0, len(data))] == [
        (1, wire.VARINT, 2), (2, wire.FIXED64, 8), (3, wire.BYTES, 3), (4, wire.FIXED32, 4)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [
        b"\x0b",  # a group
        b"\x0f",  # wire type 7
        b"\x00\x00",  # field number 0
        b"\x0a\x05abc",  # longer than what is left
        b"\x0d\x00",  # half a fixed32
        b"\x09" + bytes(7),  # most of a fixed64
        b"\x0a" + b"\xff" * 9 + b"\x01",  # 2^64 bytes
    ],
)
def test_bytes_that_are_no_message(data: bytes) -> None:
    with pytest.raises(ValueError, match="malformed protobuf"):
        list(wire.fields(data, 0, len(data)))


def test_a_field_stays_inside_the_message_that_holds_it() -> None:
    inner = wire.encode_bytes(1, b"abcdef")
    with pytest.raises(ValueError, match="reaches beyond"):
        list(wire.fields(inner + b"more of the file", 0, len(inner) - 2))


def test_metadata_is_found_without_parsing(tmp_path: Path) -> None:
    model = residual()
    helper.set_model_props(model, {"onnxcam.labels": "cat\ndog", "": "junk", "empty": "", "grüße": "日本"})
    entry = model.metadata_props.add()
    entry.key = "onnxcam.labels"
    entry.value = "the last one counts"
    data = model.SerializeToString()
    expected = {"onnxcam.labels": "the last one counts", "": "junk", "empty": "", "grüße": "日本"}
    assert wire.metadata(data) == expected
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert wire.metadata(mapped) == expected


def test_metadata_that_is_not_utf8_is_shown_as_well_as_can_be() -> None:
    data = wire.encode_bytes(14, wire.encode_bytes(1, b"k") + wire.encode_bytes(2, b"a\xffb"))
    assert wire.metadata(data) == {"k": "a\ufffdb"}
