"""Damage to models: bytes changed, moved or lost, and fields set to what nobody expects there."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import numpy_helper

WHOLE = [0, 1, -1, 2, 3, 7, 13, 255, 2**15, 2**31 - 1, 2**31, 2**40, 2**63 - 1, -(2**63), 1000]
REAL = [0.0, -1.0, 1e-40, 1e38, float("inf"), float("nan")]
WORDS = [
    "", "x", "\x1b[31mred\x1b[0m", "a\nb\r", "\u202eleft", "../../etc/passwd", "%s%n", "N", "Loop", "If",
    "k" * 3000, "Scan", "Reshape", "Gather", "Resize", "Softmax", "com.microsoft", "QuantizeLinear", "Einsum",
    "onnxcam/class", "onnxcam/seed",
]  # fmt: skip


def damaged(data: bytes, seed: int) -> bytes:
    """A model with one to four things wrong: every other one in its bytes, the rest in its fields."""
    random = Random(seed)
    if seed % 2:
        return bytes_changed(data, random)
    proto = onnx.ModelProto.FromString(data)
    for _ in range(random.randint(1, 4)):
        change_a_field(proto, random)
    return bytes(proto.SerializeToString())


def with_odd_constant(data: bytes, seed: int) -> bytes:
    """A model one constant of which has another size, and data that fill it."""
    random, proto = Random(seed), onnx.ModelProto.FromString(data)
    tensor = random.choice(proto.graph.initializer)
    values = numpy_helper.to_array(tensor)
    shapes = [(0,), (), (1,), (2,), (values.size + 1,), (0, 2), (1, 1, 1), (*values.shape, 1), (*values.shape[1:], 3)]
    odd = np.resize(values, random.choice([shape for shape in shapes if shape != values.shape]))
    tensor.CopyFrom(numpy_helper.from_array(odd.astype(values.dtype), tensor.name))
    return bytes(proto.SerializeToString())


def bytes_changed(data: bytes, random: Random) -> bytes:
    """Bytes flipped, replaced, copied elsewhere, or cut off."""
    found = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(found))
        match random.randrange(5):
            case 0:
                found[at] ^= 1 << random.randrange(8)
            case 1:
                found[at] = random.randrange(256)
            case 2:
                start = random.randrange(len(found))
                found[at : at + 1] = found[start : start + random.randrange(30)]
            case 3:
                del found[at : at + random.randrange(1, 40)]
            case _:
                found[at:at] = bytes(random.randrange(256) for _ in range(random.randrange(1, 12)))
        if not found:
            return b""
    return bytes(found if random.random() < 0.9 else found[: random.randrange(len(found))])


def messages(message: Message) -> Iterator[Message]:
    """A message and all in it."""
    yield message
    for descriptor, value in message.ListFields():
        if descriptor.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in [value] if isinstance(value, Message) else value:
                yield from messages(inner)


def texts(message: Message) -> list[str]:
    """Every string in a message: names that another field may take."""
    found = []
    for one in messages(message):
        for descriptor, value in one.ListFields():
            if descriptor.type == FieldDescriptor.TYPE_STRING:
                found += [value] if isinstance(value, str) else list(value)
    return found


def change_a_field(proto: onnx.ModelProto, random: Random) -> None:
    """Some field of some message."""
    held = random.choice(list(messages(proto)))
    fields = held.ListFields() if random.random() < 0.8 else [(d, None) for d in held.DESCRIPTOR.fields]
    if not fields:
        return
    descriptor = random.choice(fields)[0]
    value = getattr(held, descriptor.name)
    if hasattr(value, "extend"):
        change_a_list(value, descriptor, proto, random)
    elif descriptor.type == FieldDescriptor.TYPE_MESSAGE:
        held.ClearField(descriptor.name)
    else:
        assign(held, descriptor, proto, random)


def change_a_list(values: Any, descriptor: FieldDescriptor, proto: onnx.ModelProto, random: Random) -> None:
    """An element lost, doubled, moved or replaced."""
    if not len(values):
        return
    at, action = random.randrange(len(values)), random.randrange(4)
    if action == 0:
        del values[at]
    elif action == 1:
        values.extend([values[at]])
    elif descriptor.type == FieldDescriptor.TYPE_MESSAGE:
        values[at].CopyFrom(random.choice(list(values)))
    else:
        values[at] = replacement(descriptor, proto, random)


def assign(held: Message, descriptor: FieldDescriptor, proto: onnx.ModelProto, random: Random) -> None:
    """Another value for a single field; left alone where protobuf does not take it."""
    try:
        setattr(held, descriptor.name, replacement(descriptor, proto, random))
    except (ValueError, TypeError):
        held.ClearField(descriptor.name)


def replacement(descriptor: FieldDescriptor, proto: onnx.ModelProto, random: Random) -> Any:
    """A value of a field's type that nobody expects there."""
    if descriptor.type == FieldDescriptor.TYPE_STRING:
        return random.choice(WORDS + texts(proto))
    if descriptor.type == FieldDescriptor.TYPE_BYTES:
        return bytes(random.randrange(256) for _ in range(random.choice([0, 1, 4, 64])))
    if descriptor.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return random.choice(REAL)
    if descriptor.type == FieldDescriptor.TYPE_ENUM:
        return random.choice([value.number for value in descriptor.enum_type.values])
    small = descriptor.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64)
    return random.choice([n for n in WHOLE if 0 <= n < 2**31] if small else WHOLE)
