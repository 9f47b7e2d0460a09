"""The forms of MaxPool's adjoint give the same: full of ties, against ONNX Runtime's own indices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import onnxcam
from onnxcam.runtime import Session
from onnxcam.vjp import DECONVNET, GUIDED, STANDARD, RuleSet
from onnxcam.vjp.rules import max_pooling
from tests.nets import net, normal, run

FORMS = [
    ((2, 3, 8, 12), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ((1, 2, 9, 6), {"kernel_shape": [3, 2], "strides": [3, 2]}),
    ((2, 3, 9, 12), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ((2, 3, 9, 12), {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    ((1, 3, 13, 13), {"kernel_shape": [3, 3], "strides": [2, 2]}),
    ((2, 3, 12, 11), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((1, 3, 12, 14), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ((1, 3, 7, 9), {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1]}),
    ((1, 2, 9, 8), {"kernel_shape": [5, 5], "strides": [1, 1], "pads": [2, 2, 2, 2]}),
    ((1, 2, 11, 10), {"kernel_shape": [5, 4], "strides": [2, 3], "pads": [2, 1, 1, 0]}),
    ((1, 2, 11, 10), {"kernel_shape": [1, 3], "strides": [1, 2]}),
    ((1, 2, 10, 11), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ((1, 2, 10, 11), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    ((1, 2, 9, 9), {"kernel_shape": [2, 2], "strides": [3, 3]}),
    ((1, 2, 9, 9), {"kernel_shape": [3, 3], "strides": [1, 1], "dilations": [2, 2]}),
    ((1, 2, 12, 11), {"kernel_shape": [3, 2], "strides": [1, 1], "dilations": [2, 3], "pads": [2, 1, 2, 1]}),
    ((1, 2, 13, 12), {"kernel_shape": [3, 4], "strides": [2, 2], "dilations": [3, 1], "pads": [2, 3, 2, 3]}),
    ((1, 2, 13, 12), {"kernel_shape": [3, 3], "strides": [2, 2], "dilations": [2, 2]}),
    ((1, 2, 1, 2), {"kernel_shape": [3, 5], "strides": [1, 1], "pads": [1, 2, 1, 2]}),
    ((1, 2, 1, 3), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((1, 2, 6, 2), {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [2, 2, 2, 2]}),
    ((1, 2, 16, 2), {"kernel_shape": [3, 3], "strides": [4, 4], "pads": [1, 1, 1, 1]}),
    ((1, 2, 7, 9), {"kernel_shape": [3, 3], "strides": [1, 1], "dilations": [2, 2], "auto_pad": "SAME_UPPER"}),
    ((1, 2, 7, 9), {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
    ((2, 3, 11), {"kernel_shape": [3], "strides": [2], "pads": [1, 0]}),
    ((1, 2, 6, 7, 8), {"kernel_shape": [3, 2, 3], "strides": [2, 2, 1], "pads": [0, 0, 1, 1, 1, 1]}),
    ((1, 2, 4, 6, 8), {"kernel_shape": [2, 3, 2], "strides": [2, 3, 2]}),
]


def gradient(shape: tuple[int | str, ...], x: np.ndarray, attrs: dict[str, Any], front: str) -> np.ndarray:
    """d <random, MaxPool x> / d x."""
    typed = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    nodes = [helper.make_node(front, ["x"], ["f"]), helper.make_node("MaxPool", ["f"], ["y"], **attrs)]
    graph = helper.make_graph(nodes, "g", typed, out)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)])
    found = onnxcam.differentiate(model, of="y", wrt="x")
    session = Session(found.model.SerializeToString())
    y = Session(model.SerializeToString()).run({"x": x})["y"]
    ct = np.random.default_rng(5).integers(-8, 9, y.shape).astype(np.float32)  # sums of these are exact
    return session.run({"x": x, found.seed: ct})[found.gradients["x"]]


@pytest.mark.parametrize(("shape", "attrs"), FORMS, ids=lambda value: str(value))
@pytest.mark.parametrize("front", ["Identity", "Relu"])  # behind a Relu there is no infinity
@pytest.mark.parametrize("values", ["ties", "distinct", "negative", "masked", "least"])
def test_every_form_agrees_with_the_indices(
    shape: tuple[int, ...], attrs: dict[str, Any], values: str, front: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    made = {
        "ties": rng.integers(0, 3, shape),
        "distinct": rng.permutation(np.prod(shape)).reshape(shape),
        "negative": -1 - rng.integers(0, 3, shape),
        "masked": np.where(rng.random(shape) < 0.2, rng.integers(0, 3, shape), -np.inf),
        "least": np.where(rng.random(shape) < 0.2, rng.integers(0, 3, shape), np.finfo(np.float32).min),
    }
    x = made[values].astype(np.float32)
    by_indices = gradient(shape, x, attrs, front)
    monkeypatch.setattr(max_pooling, "AXIS", 0)
    monkeypatch.setattr(max_pooling, "RANKS", 0)
    monkeypatch.setattr(max_pooling, "AXES", 0)
    np.testing.assert_array_equal(gradient(shape, x, attrs, front), by_indices)
    free = ("N", "C", *shape[2:])
    np.testing.assert_array_equal(gradient(free, x, attrs, front), by_indices)


@pytest.mark.parametrize("rules", [STANDARD, GUIDED, DECONVNET], ids=lambda r: r.name)
@pytest.mark.parametrize(("shape", "attrs"), FORMS[:6], ids=lambda value: str(value))
def test_what_a_relu_stops_is_stopped_by_the_pool_behind_it(
    shape: tuple[int, ...], attrs: dict[str, Any], rules: RuleSet
) -> None:
    """As where the Relu's own cotangent is asked for too, which is not masked."""
    nodes = [helper.make_node("Relu", ["x"], ["f"]), helper.make_node("MaxPool", ["f"], ["y"], **attrs)]
    typed = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    graph = helper.make_graph(nodes, "g", typed, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)])
    rng = np.random.default_rng(7)
    x = rng.integers(-3, 2, shape).astype(np.float32)
    y = Session(model.SerializeToString()).run({"x": x})["y"]
    ct = rng.integers(-8, 9, y.shape).astype(np.float32)
    slopes = []
    for wrt in (["x"], ["x", "f"]):
        found = onnxcam.differentiate(model, of="y", wrt=wrt, rules=rules)
        slopes.append(Session(found.model.SerializeToString()).run({"x": x, found.seed: ct}))
    alone, both = (one[found.gradients["x"]] for one in slopes)
    np.testing.assert_array_equal(alone, both)
    assert np.any(slopes[1][found.gradients["f"]][x <= 0])  # windows of zeros do pass something to the Relu


def test_float64_is_differentiated_at_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime has no Resize in float64, by which windows that tile are differentiated in float32."""
    monkeypatch.setattr(max_pooling, "AXIS", 0)
    monkeypatch.setattr(max_pooling, "RANKS", 0)
    monkeypatch.setattr(max_pooling, "AXES", 0)
    typed = [helper.make_tensor_value_info("x", TensorProto.DOUBLE, (1, 1, 4, 4))]
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2])
    graph = helper.make_graph([node], "g", typed, [helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)])
    found = onnxcam.differentiate(model, of="y", wrt="x")
    x, seed = np.arange(16.0).reshape(1, 1, 4, 4), np.ones((1, 1, 2, 2))
    slope = Session(found.model.SerializeToString()).run({"x": x, found.seed: seed})[found.gradients["x"]]
    np.testing.assert_array_equal(slope[0, 0], np.kron(np.ones((2, 2)), [[0, 0], [0, 1]]))


def test_small_pools_keep_to_the_indices_and_large_ones_do_not() -> None:
    def operators(size: int) -> set[str]:
        typed = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, size, size])]
        node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2])
        graph = helper.make_graph([node], "g", typed, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
        model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)])
        return {made.op_type for made in onnxcam.differentiate(model, of="y", wrt="x").model.graph.node}

    assert "ScatterElements" in operators(15)
    assert "ScatterElements" not in operators(113)


def test_sizes_that_no_image_has_go_by_the_indices() -> None:
    """One node a tap, and sizes beyond int64, are not to be written for what a stranger's file declares."""
    for size, kernel in ((2**62, 3), (2**20, 4001)):
        typed = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, size, 64])]
        node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[kernel, 3], strides=[2, 2])
        graph = helper.make_graph([node], "g", typed, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
        model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)])
        nodes = onnxcam.differentiate(model, of="y", wrt="x").model.graph.node
        assert "ScatterElements" in {made.op_type for made in nodes}
        assert len(nodes) < 20


@pytest.mark.parametrize("rectifier", ["Relu(x)", "Clip(x, zero)"])
def test_a_root_of_nothing_has_no_gradient_behind_a_rectifier(rectifier: str) -> None:
    """The root's slope is infinite there, and the rectifier's 0."""
    text = f"""(float[1, 8, 64, 64] x) => (float[1, 8, 32, 32] y) {{ r = {rectifier}
      p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r) y = Sqrt(p) }}"""
    model = net(text, {"zero": np.array(0, np.float32)})
    x = np.where(np.arange(64) < 32, -1, normal(1, 8, 64, 64)).astype(np.float32)
    both = onnxcam.differentiate(model, of="y", wrt="x")
    y, dx = run(both.model, {"x": x, both.seed: np.ones((1, 8, 32, 32), np.float32)}).values()
    assert np.isfinite(dx).all()
    assert dx.sum() == pytest.approx(float((0.5 / y[y > 0]).sum()), rel=1e-4)


@pytest.mark.parametrize("size", ["1", "W"])
def test_a_window_that_steps_over_all_pixels_passes_nothing_on(size: str) -> None:
    """Out of padding, by dilation: ONNX Runtime gives the least number, and -1 for its place."""
    attrs = "kernel_shape = [2], dilations = [2], pads = [1, 1]"
    model = net(f"(float[1,1,{size}] x) => (float[1,1,w] y) {{ y = MaxPool<{attrs}>(x) }}")
    result = onnxcam.differentiate(model, of="y", wrt="x")
    feeds = {"x": np.full((1, 1, 1), 5, np.float32), result.seed: np.ones((1, 1, 1), np.float32)}
    np.testing.assert_array_equal(run(result.model, feeds)[result.gradients["x"]], [[[0]]])
