"""A serialized model without its large weights, cut out before it is parsed."""

from __future__ import annotations

import onnx

from onnxcam.runtime import wire

LARGE = 16 * 1024  # bytes; smaller tensors stay inline: they are shapes, scales, biases that rules read
GRAPH, INITIALIZER = 7, 5  # fields of ModelProto and GraphProto
DATA_TYPE, FLOAT_DATA, RAW_DATA = 2, 4, 9  # fields of TensorProto
DATA_FIELDS = {FLOAT_DATA, 5, 6, 7, RAW_DATA, 10, 11, 13, 14}  # every field that holds elements or says where they lie


def skeleton(data: wire.Buffer, location: str) -> bytes:
    """The serialized model with every large initializer's data replaced by a reference to `location`."""
    parts: list[bytes] = []
    for part in wire.fields(data, 0, len(data)):
        if part.number == GRAPH and part.wire_type == wire.BYTES:
            parts.append(wire.encode_bytes(GRAPH, lean_graph(data, part.start, part.end, location)))
        else:
            parts.append(bytes(data[part.tag : part.end]))
    return b"".join(parts)


def lean_graph(data: wire.Buffer, start: int, end: int, location: str) -> bytes:
    """A serialized GraphProto without the data of its large initializers."""
    parts: list[bytes] = []
    copied = start  # everything before is in `parts`
    for part in wire.fields(data, start, end):
        if part.number == INITIALIZER and part.wire_type == wire.BYTES and part.end - part.start > LARGE:
            stub = lean_tensor(data, part.start, part.end, location)
            if stub is not None:
                parts += [bytes(data[copied : part.tag]), wire.encode_bytes(INITIALIZER, stub)]
                copied = part.end
    return b"".join([*parts, bytes(data[copied:end])])


def lean_tensor(data: wire.Buffer, start: int, end: int, location: str) -> bytes | None:
    """The TensorProto without its data; None when that is not one contiguous run of little-endian elements."""
    holders = [part for part in wire.fields(data, start, end) if part.number in DATA_FIELDS]
    if len(holders) != 1 or holders[0].wire_type != wire.BYTES or holders[0].number not in (RAW_DATA, FLOAT_DATA):
        return None
    held = holders[0]
    if held.end - held.start <= LARGE or (held.number == FLOAT_DATA and not holds_float(data, start, end)):
        return None
    stub = onnx.TensorProto()
    for key, value in (("location", location), ("offset", held.start), ("length", held.end - held.start)):
        stub.external_data.add(key=key, value=str(value))
    stub.data_location = onnx.TensorProto.EXTERNAL
    return bytes(data[start : held.tag]) + bytes(data[held.end : end]) + bytes(stub.SerializeToString())


def holds_float(data: wire.Buffer, start: int, end: int) -> bool:
    """Whether a serialized TensorProto says float32 (float_data also holds complex numbers)."""
    kinds = [
        wire.varint(data, part.start, part.end)[0] for part in wire.fields(data, start, end) if part.number == DATA_TYPE
    ]
    return kinds == [onnx.TensorProto.FLOAT]
