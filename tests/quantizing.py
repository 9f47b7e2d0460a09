"""A small float classifier, its quantized siblings, and the kernels that ONNX Runtime makes of a model."""

from __future__ import annotations

import logging
from collections import Counter
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

Array = npt.NDArray[Any]
SIZE, CHANNELS, CLASSES = 32, 16, 10
FORMS: dict[str, dict[str, Any]] = {
    "int8": {},
    "uint8 activations": {"activation_type": QuantType.QUInt8},
    "uint8": {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QUInt8},
    "a scale for each channel": {"per_channel": True},
    "a pair for each reader": {"extra_options": {"DedicatedQDQPair": True}},
    "int16 activations": {"activation_type": QuantType.QInt16},
}


def image(seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)


class Writer:
    """A network with random weights, written operator by operator."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, *shape: int, scale: float) -> str:
        array = (self.rng.normal(size=shape) * scale).astype(np.float32)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def op(self, op: str, inputs: list[str], output: str, **attrs: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"{output}_node", **attrs))
        return output

    def conv(self, x: str, name: str, before: int, after: int, size: int, stride: int = 1, group: int = 1) -> str:
        fan = before // group * size * size
        kernel = self.weight(f"{name}_w", after, before // group, size, size, scale=(2 / fan) ** 0.5)
        bias = self.weight(f"{name}_b", after, scale=0.1)
        pads = [size // 2] * 4
        return self.op("Conv", [x, kernel, bias], name, pads=pads, strides=[stride] * 2, group=group)


@cache
def float_net() -> onnx.ModelProto:
    """Conv, depthwise Conv, a residual Add, two more Convs, each with Relu; global pooling, Gemm `logits`, Softmax."""
    net, c = Writer(), CHANNELS
    stem = net.op("Relu", [net.conv("x", "c1", 3, c, 3, stride=2)], "a1")
    deep = net.op("Relu", [net.conv(stem, "c2", c, c, 3, group=c)], "a2")
    joined = net.op("Add", [stem, net.conv(deep, "c3", c, c, 1)], "sum")
    a3 = net.op("Relu", [joined], "a3")
    a4 = net.op("Relu", [net.conv(a3, "c4", c, 2 * c, 3, stride=2)], "a4")
    last = net.op("Relu", [net.conv(a4, "c5", 2 * c, 2 * c, 3)], "last")
    flat = net.op("Flatten", [net.op("GlobalAveragePool", [last], "pooled")], "flat")
    weight = net.weight("fc_w", CLASSES, 2 * c, scale=(1 / c) ** 0.5)
    net.op("Gemm", [flat, weight, net.weight("fc_b", CLASSES, scale=0.1)], "logits", transB=1)
    net.op("Softmax", ["logits"], "probabilities")
    return model(net)


def model(net: Writer) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3, SIZE, SIZE])]
    outputs = [helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["N", CLASSES])]
    graph = helper.make_graph(net.nodes, "net", inputs, outputs, net.weights)
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.images = iter([{"x": image(seed)} for seed in range(16)])

    def get_next(self) -> dict[str, Array] | None:  # type: ignore[override]
        return next(self.images, None)


@cache
def quantized(form: str = "int8") -> onnx.ModelProto:
    """`float_net` between QuantizeLinear and DequantizeLinear, as onnxruntime's static quantizer writes it."""
    return statically(form, QuantFormat.QDQ)


@cache
def operators(form: str = "int8") -> onnx.ModelProto:
    """`float_net` in operators that compute with integers."""
    return statically(form, QuantFormat.QOperator)


def statically(form: str, quantizer: QuantFormat) -> onnx.ModelProto:
    with TemporaryDirectory() as folder:
        before, after = Path(folder, "float.onnx"), Path(folder, "quantized.onnx")
        onnx.save(float_net(), before)
        quiet(quantize_static, before, after, Calibration(), quant_format=quantizer, **FORMS[form])
        return onnx.load(after)


@cache
def dynamically_quantized() -> onnx.ModelProto:
    """`float_net` with ranges that are measured as it runs."""
    return dynamically(float_net())


def dynamically(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model with ranges that are measured as it runs."""
    with TemporaryDirectory() as folder:
        before, after = Path(folder, "float.onnx"), Path(folder, "quantized.onnx")
        onnx.save(model, before)
        quiet(quantize_dynamic, before, after, op_types_to_quantize=["Conv", "Gemm", "MatMul"])
        return onnx.load(after)


def quiet(function: Any, *args: Any, **options: Any) -> None:
    """The quantizer logs a warning at every call."""
    logging.disable(logging.WARNING)
    try:
        function(*args, **options)
    finally:
        logging.disable(logging.NOTSET)


def kernels(proto: onnx.ModelProto) -> Counter[str]:
    """The operators that ONNX Runtime runs for a model, before it chooses layouts for one CPU."""
    with TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(Path(folder, "optimized.onnx"))
        onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


FUSED = {"DynamicQuantizeMatMul": "MatMulInteger", "MatMulIntegerToFloat": "MatMulInteger"}  # and what scales it


def integer_kernels(proto: onnx.ModelProto) -> dict[str, int]:
    """Those that compute with integers."""
    found: Counter[str] = Counter()
    for op, n in kernels(proto).items():
        name = FUSED.get(op, op)
        if name.startswith(("QLinear", "QGemm")) or name.endswith("Integer"):
            found[name] += n
    return dict(sorted(found.items()))


def cosine(one: Array, other: Array) -> float:
    a, b = one.ravel().astype(np.float64), other.ravel().astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
