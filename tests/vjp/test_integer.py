"""Operators that compute with integers have the gradient of what they stand for."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from onnxcam.errors import UnsupportedOpError
from onnxcam.vjp import differentiate
from tests.nets import net, run
from tests.quantizing import integer_kernels
from tests.vjp.case import Array
from tests.vjp.cases.integer import INTEGERS, STEP, Integer

SMALL = 1e-5


def truth(row: Integer, seed: Array) -> dict[str, Array]:
    """d <seed, y> / d every element by float64 differences of the float graph."""
    model = row.model(row.plain)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    evaluator = ReferenceEvaluator(model)
    feeds = {name: array.astype(np.float64) for name, array in row.feeds.items()}

    def score(name: str, at: int, step: float) -> float:
        moved = feeds[name].copy()
        moved.flat[at] += step
        return float(np.sum(seed * evaluator.run(None, {**feeds, name: moved})[0]))

    found = {}
    for name, array in feeds.items():
        slopes = [(score(name, i, SMALL) - score(name, i, -SMALL)) / (2 * SMALL) for i in range(array.size)]
        found[name] = np.reshape(slopes, array.shape)
    return found


@pytest.mark.parametrize("row", INTEGERS, ids=str)
def test_the_gradient_is_the_float_graphs(row: Integer) -> None:
    model = row.quantized()
    before = run(model, row.feeds)["y"]
    seed = np.random.default_rng(1).normal(size=before.shape).astype(np.float32)
    gradient = differentiate(model, of="y", wrt=list(row.feeds))
    after = run(gradient.model, {**row.feeds, gradient.seed: seed})
    np.testing.assert_array_equal(after["y"], before)
    assert integer_kernels(gradient.model) == integer_kernels(model)
    for name, expected in truth(row, seed.astype(np.float64)).items():
        found = after[gradient.gradients[name]]
        scale = float(np.max(np.abs(expected)))
        np.testing.assert_allclose(found, expected, atol=row.tolerance * scale, err_msg=f"d/d{name}")


@pytest.mark.parametrize(("point", "expected"), [(128, [1, 1, 1, 1]), (0, [1, 1, 0, 0])])
def test_what_a_rectifier_cut_off_in_the_range_of_an_output_has_no_gradient(point: int, expected: list[int]) -> None:
    """By what the deployed operator gives. The ends of other ranges hold what was not cut off, too."""
    row = next(row for row in INTEGERS if row.op == "com.microsoft.QLinearAdd")
    model = row.quantized()
    feeds = {"x": np.zeros(row.x, np.float32), "z": np.zeros(row.x, np.float32)}
    feeds["x"].flat[:3] = [7.9, 7.9, -8]
    feeds["z"].flat[:3] = [0, 7.9, -8]
    for tensor in model.graph.initializer:
        if tensor.name == "coarse":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.float32(STEP), "coarse"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.uint8(point), "point"))
    for node in model.graph.node[-2:]:
        node.input[-1] = "point"
    gradient = differentiate(model, of="y", wrt="x")
    found = run(gradient.model, {**feeds, gradient.seed: np.ones(row.x, np.float32)})[gradient.gradients["x"]]
    np.testing.assert_array_equal(found.flat[:4], expected)


def test_a_division_by_a_zero_of_a_quantizer_lets_nothing_through() -> None:
    """Though infinity is cut off only later: x / (1 + exp -x) in a coarse range, behind a pool."""
    weights = {"s": np.float32(1), "fine": np.float32(0.01), "z": np.uint8(0)}
    body = (
        "p = QuantizeLinear(x, s, z) b = DequantizeLinear(p, s, z) r = Div(x, b) m = MaxPool<kernel_shape = [1]>(r) "
        "q = QuantizeLinear(m, fine, z) y = DequantizeLinear(q, fine, z)"
    )
    x = np.array([[[0, 0.25, 1.25, 2]]], np.float32)
    gradient = differentiate(net(f"(float[1,1,4] x) => (float[1,1,4] y) {{ {body} }}", weights), of="y", wrt="x")
    found = run(gradient.model, {"x": x, gradient.seed: np.ones_like(x)})[gradient.gradients["x"]]
    np.testing.assert_allclose(found, [[[0, 0, 1 - 1.25, 0.5 - 0.5]]], atol=1e-6)


@pytest.mark.parametrize(("width", "hangs"), [(4, False), (5, True), ("W", True)])
def test_an_average_of_integers_that_hangs_over_the_edge_is_refused(width: int | str, hangs: bool) -> None:
    """It counts all of its last window, of which AveragePool counts what is there."""
    attrs = "kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1, count_include_pad = 1"
    text = f"""(uint8[1,1,4,{width}] q) => (uint8[1,1,A,B] r) {{
        x = DequantizeLinear(q, s, z) k = QuantizeLinear(x, s, z)
        r = com.microsoft.QLinearAveragePool<{attrs}>(k, s, z, s, z) y = DequantizeLinear(r, s, z) }}"""
    model = net(text, {"s": np.float32(1), "z": np.uint8(0)})
    if hangs:
        with pytest.raises(UnsupportedOpError, match="a window that reaches beyond its padding"):
            differentiate(model, of="y", wrt="x")
    else:
        gradient = differentiate(model, of="y", wrt="x")
        feeds = {"q": np.full((1, 1, 4, 4), 9, np.uint8), gradient.seed: np.ones((1, 1, 2, 2), np.float32)}
        np.testing.assert_array_equal(run(gradient.model, feeds)[gradient.gradients["x"]], np.full((1, 1, 4, 4), 0.25))


def test_a_scale_that_is_fed_without_a_zero_point() -> None:
    model = net(
        "(float[6] x, float s) => (float[6] y) { q = QuantizeLinear(x, s) y = DequantizeLinear(q, s) }", opset=21
    )
    gradient = differentiate(model, of="y", wrt="x")
    feeds = {"x": np.float32([-1, 0, 3, 10, 25.4, 26]), "s": np.array(0.1, np.float32)}
    found = run(gradient.model, {**feeds, gradient.seed: np.ones(6, np.float32)})[gradient.gradients["x"]]
    np.testing.assert_allclose(found, [0, 1, 1, 1, 1, 0], rtol=1e-6)


def test_blocks_along_the_only_axis() -> None:
    """Their scales have one axis, as those of slices have."""
    text = "(float[3] s) => (float[6] y) { y = DequantizeLinear<block_size = 2, axis = 0>(q, s) }"
    gradient = differentiate(net(text, {"q": np.arange(1, 7, dtype=np.int8)}, opset=21), of="y", wrt="s")
    feeds = {"s": np.ones(3, np.float32), gradient.seed: np.ones(6, np.float32)}
    np.testing.assert_array_equal(run(gradient.model, feeds)[gradient.gradients["s"]], [3, 7, 11])
