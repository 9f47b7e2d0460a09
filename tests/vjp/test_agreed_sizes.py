"""What ONNX Runtime infers of another size than it computes: the gradient loads, and is that of differences.

Pools that round up, drop their last window or let it hang over the edge, transposed convolutions that pad both ways or
say their size, and resizes whose scales are quotients of no sizes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnxcam.vjp import differentiate
from onnxcam.vjp.rules import max_pooling
from tests.nets import normal, run
from tests.vjp.case import Array

COUNTED: dict[str, Any] = {"ceil_mode": 1, "count_include_pad": 1}
KEPT: dict[str, Any] = {"ceil_mode": 1, "pads": [1, 1, 1, 1]}
ROI = np.array([0, 0, 0.1, -0.1, 1, 1, 0.9, 1.2], np.float32)
CASES: dict[str, tuple[str, tuple[int, ...], int, dict[str, Any]]] = {
    "average, the last dropped": ("AveragePool", (8, 5), 17, COUNTED | {"kernel_shape": [1, 2], "strides": [3, 2]}),
    "average, one dropped, one hanging": (
        "AveragePool", (6, 6), 19,
        COUNTED | {"kernel_shape": [2, 3], "strides": [3, 2], "pads": [0, 0, 0, 1]},
    ),
    "average, padding dropped": (
        "AveragePool", (5, 5), 17, COUNTED | KEPT | {"kernel_shape": [2, 2], "strides": [2, 2]},
    ),
    "average of less than a window": (
        "AveragePool", (5, 3), 17, {"count_include_pad": 1, "kernel_shape": [7, 4], "strides": [7, 2]},
    ),
    "average of a line": ("AveragePool", (9,), 19, COUNTED | {"kernel_shape": [2], "strides": [3], "dilations": [2]}),
    "average of a volume": (
        "AveragePool", (5, 4, 5), 17,
        COUNTED | {"kernel_shape": [3, 1, 1], "strides": [3, 3, 2], "pads": [0, 0, 0, 2, 0, 0]},
    ),
    "average, dilated": (
        "AveragePool", (6, 4), 19, {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [0, 1, 0, 0], "ceil_mode": 1,
                                    "dilations": [1, 3]},
    ),
    "average, SAME, dilated, counted": (
        "AveragePool", (5, 4, 5), 22,
        COUNTED | {"kernel_shape": [3, 3, 2], "strides": [2, 3, 2], "dilations": [3, 1, 2], "auto_pad": "SAME_LOWER"},
    ),
    "maximum, dilated, dropped": (
        "MaxPool", (8, 8), 17,
        {"kernel_shape": [1, 2], "strides": [3, 3], "pads": [0, 0, 0, 1], "dilations": [1, 3], "ceil_mode": 1},
    ),
    "maximum, dilated, one dropped, one hanging": (
        "MaxPool", (6, 7), 17,
        {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [0, 0, 2, 0], "dilations": [1, 2], "ceil_mode": 1},
    ),
    "maximum of a line": ("MaxPool", (8,), 17, {"kernel_shape": [2], "strides": [3], "dilations": [3], "ceil_mode": 1}),
    "p-norm, dilated": (
        "LpPool", (4, 5), 18, {"kernel_shape": [1, 3], "strides": [2, 3], "pads": [0, 0, 0, 1], "ceil_mode": 1,
                               "dilations": [1, 2]},
    ),
    "p-norm, SAME, dilated": (
        "LpPool", (5, 4), 22, {"kernel_shape": [2, 2], "dilations": [3, 2], "auto_pad": "SAME_UPPER", "p": 3},
    ),
    "transposed, SAME": (
        "ConvTranspose", (2, 3), 17, {"strides": [2, 3], "output_padding": [1, 2], "auto_pad": "SAME_UPPER"},
    ),
    "transposed, SAME, dilated": (
        "ConvTranspose", (2, 3), 17,
        {"strides": [2, 3], "output_padding": [1, 0], "auto_pad": "SAME_LOWER", "dilations": [2, 1]},
    ),
    "transposed to a shape": (
        "ConvTranspose", (3, 4), 17, {"strides": [2, 2], "output_padding": [1, 0], "output_shape": [5, 9]},
    ),
    "transposed to a shape, SAME": (
        "ConvTranspose", (3, 4), 17, {"strides": [3, 2], "auto_pad": "SAME_UPPER", "output_shape": [9, 7]},
    ),
    "transposed to less than the input": ("ConvTranspose", (5, 4), 17, {"strides": [1, 2], "output_shape": [3, 9]}),
    "scales": ("Resize", (10, 9), 19, {"nearest_mode": "ceil"}),
    "scales of a region": (
        "Resize", (10, 9), 19, {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"},
    ),
}  # fmt: skip


def model(name: str, sizes: list[int | str], front: str) -> onnx.ModelProto:
    """Behind `front`, and in front of what reads its value beside the gradient's."""
    op, _, opset, attrs = CASES[name]
    crops = "crop" in attrs.get("coordinate_transformation_mode", "")
    reads = {"ConvTranspose": ["t"], "Resize": ["roi" if crops else "", "scales"]}.get(op, [])
    weights = {"t": normal(2, 2, 2, 3), "scales": np.array([1, 1, 1.3, 0.6], np.float32), "roi": ROI}
    nodes = [
        helper.make_node(front, ["x"], ["a"]),
        helper.make_node(op, ["a", *reads], ["b"], **attrs),
        helper.make_node("Mul", ["b", "b"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 2, *sizes])]
    out = [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)]
    constants = [numpy_helper.from_array(value, key) for key, value in weights.items() if key in reads]
    graph = helper.make_graph(nodes, "g", ports, out, constants)
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", opset)])


def slope(proto: onnx.ModelProto, x: Array, seed: Array) -> Array:
    """By differences of ONNX Runtime's own forward pass, a square of what is linear near x."""
    units = np.eye(x.size, dtype=np.float32).reshape(-1, *x.shape[1:]) / 64
    high, low = (run(proto, {"x": x + sign * units})["y"].astype(np.float64) for sign in (1, -1))
    return ((high - low) * 32 * seed).sum(axis=tuple(range(1, high.ndim))).reshape(x.shape)


@pytest.mark.parametrize("free", ["no size", "the first", "all sizes"])
@pytest.mark.parametrize("front", ["Identity", "Relu"])
@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_that_of_differences(name: str, front: str, free: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int | str] = list(CASES[name][1])
    count = {"no size": 0, "the first": 1, "all sizes": len(sizes)}[free]
    proto = model(name, [*"DHW"[:count], *sizes[count:]], front)
    shape = (1, 2, *CASES[name][1])
    x = (np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape) / 8 - 2.03).astype(np.float32)
    given = run(proto, {"x": x})["y"]
    seed = normal(*given.shape)
    expected = slope(proto, x, seed)
    for least in (2**20, 1):  # of pixels, for the forms of a max pool's adjoint
        monkeypatch.setattr(max_pooling, "RANKS", least)
        monkeypatch.setattr(max_pooling, "AXES", least)
        found = differentiate(proto, of="y", wrt="x")
        both = run(found.model, {"x": x, found.seed: seed})
        np.testing.assert_array_equal(both["y"], given)
        np.testing.assert_allclose(both[found.gradients["x"]], expected, atol=3e-3 * max(np.abs(expected).max(), 1))


@pytest.mark.parametrize("name", ["average, the last dropped", "maximum, dilated, dropped", "scales"])
def test_between_quantizers_the_sizes_are_told_behind_them(name: str) -> None:
    """As in floats: no value is cut off, and the largest of a window stays the largest."""
    proto = model(name, list(CASES[name][1]), "Identity")
    shape = (1, 2, *CASES[name][1])
    x = (np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape) + 3).astype(np.float32)
    plain = onnx.ModelProto()
    plain.CopyFrom(proto)
    plain.graph.node[2].CopyFrom(helper.make_node("Relu", ["b"], ["y"]))
    expected = differentiate(plain, of="y", wrt="x")
    quantized = onnx.ModelProto()
    quantized.CopyFrom(plain)
    nodes = list(plain.graph.node)
    nodes[1].input[0] = "d"
    nodes[2].input[0] = "e"
    del quantized.graph.node[:]
    for node, (read, made) in zip(nodes, (("a", "d"), ("b", "e"), ("", "")), strict=True):
        quantized.graph.node.append(node)
        if read:
            quantized.graph.node.append(helper.make_node("QuantizeLinear", [read, "s", "z"], [f"{read}/q"]))
            quantized.graph.node.append(helper.make_node("DequantizeLinear", [f"{read}/q", "s", "z"], [made]))
    for key, value in (("s", np.float32(1)), ("z", np.uint8(10))):
        quantized.graph.initializer.append(numpy_helper.from_array(np.asarray(value), key))
    given = run(quantized, {"x": x})["y"]
    seed = normal(*given.shape)
    found = differentiate(quantized, of="y", wrt="x")
    both = run(found.model, {"x": x, found.seed: seed})
    np.testing.assert_array_equal(both["y"], given)
    exact = run(expected.model, {"x": x, expected.seed: seed})[expected.gradients["x"]]
    np.testing.assert_allclose(both[found.gradients["x"]], exact, rtol=1e-5, atol=1e-6)
