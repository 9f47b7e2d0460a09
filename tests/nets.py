"""Small networks for tests, written in ONNX's own text format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import numpy_helper

Array = npt.NDArray[Any]


def net(text: str, weights: Mapping[str, Array] | None = None, *, opset: int = 17, ir: int = 8) -> onnx.ModelProto:
    """A model of `(inputs) => (outputs) { nodes }`; those of `weights` that it names are initializers."""
    proto = onnx.parser.parse_model(f'<ir_version: {ir}, opset_import: ["" : {opset}]> net {text}')
    words = set(re.findall(r"\w+", text))
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items() if name in words
    )
    for i, node in enumerate(proto.graph.node):
        node.name = f"node{i}"
    return proto


def session(model: onnx.ModelProto | str | bytes) -> onnxruntime.InferenceSession:
    """Plain ONNX Runtime, quiet, on one thread."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run(model: onnx.ModelProto | str | bytes, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Every output of one run."""
    opened = session(model)
    names = [port.name for port in opened.get_outputs()]
    return dict(zip(names, opened.run(names, dict(feeds)), strict=True))


def tapped(model: onnx.ModelProto, *names: str) -> onnx.ModelProto:
    """The model with inner values as further outputs."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    there = {value.name for value in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    return proto


def as_array(value: Any) -> Array:
    """What NumPy computed, as an array."""
    return np.asarray(value)


def normal(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Normal numbers, the same at every call."""
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)
