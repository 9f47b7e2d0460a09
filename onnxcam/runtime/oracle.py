"""What graph/ may ask ONNX Runtime: types that onnx cannot infer, constants worked out, what it makes of a graph."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from onnxcam.runtime.session import Session

ELEM_TYPES = {
    "float": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "string": 8, "bool": 9,
    "float16": 10, "double": 11, "uint32": 12, "uint64": 13, "bfloat16": 16,
    "float8e4m3fn": 17, "float8e4m3fnuz": 18, "float8e5m2": 19, "float8e5m2fnuz": 20, "uint4": 21, "int4": 22,
}  # fmt: skip


def value_types(model: bytes, folder: str | None) -> dict[str, tuple[int, tuple[int | str | None, ...] | None]]:
    """Element type and shape of every output of a model, as ONNX Runtime infers them; others are left out.

    A size of 0 is left open: some of its own operators infer a part of an unknown size so.
    """
    session = Session(model, folder=folder, optimize=False)
    found = {}
    for port in session.outputs:
        kind = re.fullmatch(r"tensor\((\w+)\)", port.type)
        if kind:
            shape = tuple(dim or None for dim in port.shape) or None  # () stands for "unknown" too
            found[port.name] = (ELEM_TYPES.get(kind[1], 0), shape)
    return found


def evaluate(model: bytes, name: str = "the model") -> list[Any]:
    """The outputs of a model without inputs; `name`: what messages call it."""
    session = Session(model, optimize=False, name=name)
    return list(session.run({}).values())


def optimized(model: bytes) -> bytes:
    """The graph that ONNX Runtime runs for a model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        Session(model, keep=path)
        return path.read_bytes()
