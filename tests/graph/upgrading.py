"""What the tests of `upgrade` share: small old models, ONNX Runtime before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from onnxcam.graph.upgrade import upgrade

Array = npt.NDArray[Any]
RNG = np.random.default_rng(16)


def floats(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def f32(values: Any) -> Array:
    return np.array(values, np.float32)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    feeds: Mapping[str, Array],
    outputs: Sequence[str],
    opset: int,
    constants: Mapping[str, Array] | None = None,
    symbolic: bool = False,
) -> onnx.ModelProto:
    inputs = [
        helper.make_tensor_value_info(
            name,
            helper.np_dtype_to_tensor_dtype(value.dtype),
            [f"{name}{i}" for i in range(value.ndim)] if symbolic else value.shape,
        )
        for name, value in feeds.items()
    ]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    results = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph(nodes, "old", inputs, results, initializers)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def run(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))


def upgraded(model: onnx.ModelProto, like: Sequence[Array]) -> onnx.ModelProto:
    """A copy at opset 16 that passes onnx's checker; `like` gives the types of its outputs."""
    new = onnx.ModelProto()
    new.CopyFrom(model)
    for output, value in zip(new.graph.output, like, strict=True):
        dims = [f"{output.name}{i}" for i in range(value.ndim)]
        output.CopyFrom(helper.make_tensor_value_info(output.name, helper.np_dtype_to_tensor_dtype(value.dtype), dims))
    upgrade(new)
    assert [(entry.domain, entry.version) for entry in new.opset_import if not entry.domain] == [("", 16)]
    onnx.checker.check_model(new)
    return new


def assert_same(actual: Sequence[Any], expected: Sequence[Any]) -> None:
    """Equal numbers up to rounding, also in maps; equal labels."""
    for new, old in zip(actual, expected, strict=True):
        if isinstance(old, np.ndarray) and old.dtype != object:
            assert new.dtype == old.dtype
            assert new.shape == old.shape
            np.testing.assert_allclose(new, old, rtol=1e-6, atol=1e-6)
        else:
            for new_item, old_item in zip(new, old, strict=True):
                if isinstance(old_item, dict):
                    assert new_item == pytest.approx(old_item, rel=1e-5)
                else:
                    assert list(new_item) == list(old_item)
