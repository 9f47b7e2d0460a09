"""Protobuf's wire format, read without parsing: where the fields of a message lie."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import NamedTuple

Buffer = bytes | mmap.mmap

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
METADATA_PROPS = 14  # of ModelProto: repeated {key = 1, value = 2}


class WireField(NamedTuple):
    """One field of a message: its number, wire type, and where its tag and its payload lie in the buffer."""

    number: int
    wire_type: int
    tag: int
    start: int
    end: int


def varint(data: Buffer, at: int, end: int) -> tuple[int, int]:
    """A base-128 integer and the position behind it; ValueError when it is cut off."""
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("malformed protobuf: a number is cut off")


def fields(data: Buffer, start: int, end: int) -> Iterator[WireField]:
    """The fields of the message in data[start:end], in file order; ValueError when the bytes are no message."""
    at = start
    while at < end:
        tag = at
        key, at = varint(data, at, end)
        number, wire_type = key >> 3, key & 7
        if wire_type == VARINT:
            _, after = varint(data, at, end)
        elif wire_type == BYTES:
            length, at = varint(data, at, end)
            after = at + length
        elif wire_type in (FIXED64, FIXED32):
            after = at + (8 if wire_type == FIXED64 else 4)
        else:
            raise ValueError(f"malformed protobuf: wire type {wire_type}")
        if number == 0 or after > end:
            raise ValueError("malformed protobuf: a field reaches beyond its message")
        yield WireField(number, wire_type, tag, at, after)
        at = after


def encode_varint(value: int) -> bytes:
    """A non-negative integer in base 128."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def encode_bytes(number: int, payload: bytes) -> bytes:
    """A length-delimited field."""
    return encode_varint(number << 3 | BYTES) + encode_varint(len(payload)) + payload


def metadata(data: Buffer) -> dict[str, str]:
    """The metadata_props of a serialized ModelProto, found without parsing the model; ValueError on other bytes."""
    found = {}
    for field in fields(data, 0, len(data)):
        if field.number == METADATA_PROPS and field.wire_type == BYTES:
            entry = {
                part.number: bytes(data[part.start : part.end]).decode(errors="replace")
                for part in fields(data, field.start, field.end)
                if part.wire_type == BYTES
            }
            found[entry.get(1, "")] = entry.get(2, "")
    return found
