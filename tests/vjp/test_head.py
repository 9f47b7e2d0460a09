"""Gradients as explanations run them: of the head behind a layer, and of the whole model, the class chosen inside."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from onnxcam.graph import Graph, Head, head, load, read_graph
from onnxcam.vjp import (
    CLASS,
    GRADIENT,
    GUIDED,
    SEED,
    STANDARD,
    RowGraph,
    all_scores,
    class_gradient,
    seeded_gradient,
    whole_class_gradient,
    whole_seeded_gradient,
)
from tests.nets import Array, net, normal, run, tapped

W, B = normal(5, 4), normal(5)
WEIGHTS = {"stem": normal(4, 3, 3, 3), "w": W, "b": B, "kernel": W.reshape(5, 4, 1, 1)}
STEM = "c = Conv<pads = [1, 1, 1, 1]>(x, stem) a = Relu(c) "
POOLED = STEM + "g = GlobalAveragePool(a) f = Flatten(g) y = Gemm<transB = 1>(f, w, b) "
TEXTS = {
    "gap": f"(float[N, 3, 6, 6] x) => (float[N, 5] p) {{ {POOLED} p = Softmax(y) }}",
    "class maps": (
        f"(float[N, 3, 6, 6] x) => (float[N, 5] y) {{ {STEM} m = Conv(a, kernel, b) r = Relu(m) "
        "g = GlobalAveragePool(r) y = Flatten(g) }"
    ),
}
MODELS = {name: net(text, WEIGHTS) for name, text in TEXTS.items()}
X = normal(3, 3, 6, 6)


def graph_of(model: str) -> Graph:
    return read_graph(load(MODELS[model]))


def head_of(model: str, layer: str) -> Head:
    return head(graph_of(model), layer, "y")


def values(model: str, *names: str, x: Array = X) -> dict[str, Array]:
    return run(tapped(MODELS[model], *names), {"x": x})


def gradient_of(backward: RowGraph, feeds: Mapping[str, Array]) -> Array:
    return run(backward.proto, {name: feeds[name] for name in backward.inputs})[GRADIENT]


def test_behind_pooling_and_a_linear_layer_the_gradient_is_the_row_of_the_weights() -> None:
    classes = np.array([3, 0, 4])
    found = gradient_of(class_gradient(head_of("gap", "a"), 1), {**values("gap", "a", "g"), CLASS: classes})
    np.testing.assert_allclose(found, np.broadcast_to((W[classes] / 36)[:, :, None, None], (3, 4, 6, 6)), rtol=1e-6)


def test_an_image_may_have_several_targets() -> None:
    one = values("class maps", "a", "m", "r", x=X[:1])
    feeds = {name: np.repeat(value, 5, axis=0) for name, value in one.items()}
    found = gradient_of(class_gradient(head_of("class maps", "a"), 1), {**feeds, CLASS: np.arange(5)})
    fires = one["m"][0] > 0  # a map for every class
    np.testing.assert_allclose(found, W[:, :, None, None] * fires[:, None] / 36, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("model", "layer", "rows"), [("gap", "a", W), ("class maps", "r", np.eye(5))])
def test_the_gradient_of_a_value_behind_the_layer(model: str, layer: str, rows: Array) -> None:
    """What CAM reads: d score / d pooled feature, also where the features are the scores themselves."""
    classes = np.array([2, 1, 4])
    backward = class_gradient(head_of(model, layer), 1, wrt="g")
    found = gradient_of(backward, {**values(model, layer), CLASS: classes})
    np.testing.assert_allclose(found.reshape(3, -1), rows[classes], rtol=1e-6, atol=1e-7)


def test_taps_are_inputs_and_change_nothing() -> None:
    part = head_of("class maps", "a")
    plain, handed = seeded_gradient(part, taps=()), seeded_gradient(part, taps={"r"})
    assert (set(plain.inputs), set(handed.inputs)) == ({"a", SEED}, {"r", SEED})
    feeds = {**values("class maps", "a", "r"), SEED: normal(3, 5)}
    np.testing.assert_array_equal(gradient_of(plain, feeds), gradient_of(handed, feeds))


def test_whole_gradients_keep_the_original_outputs() -> None:
    classes, before = np.array([1, 2, 3]), run(MODELS["gap"], {"x": X})["p"]
    by_class = run(whole_class_gradient(graph_of("gap"), "y", 1, "a").proto, {"x": X, CLASS: classes})
    seed = np.eye(5, dtype=np.float32)[classes]
    by_seed = run(whole_seeded_gradient(graph_of("gap"), "y", "a").proto, {"x": X, SEED: seed})
    for found in (by_class, by_seed):
        np.testing.assert_array_equal(found["p"], before)
        np.testing.assert_allclose(found[GRADIENT][:, :, 0, 0], W[classes] / 36, rtol=1e-6)


def test_minus_one_is_the_highest_score_and_one_class_serves_all_rows() -> None:
    proto = whole_class_gradient(graph_of("gap"), "y", 1, "a").proto
    x = X * np.array([1, 0, 1], np.float32)[:, None, None, None]  # of the black image only the biases are left
    best = run(MODELS["gap"], {"x": x})["p"].argmax(axis=1)
    assert len(set(best)) > 1
    for asked, rows in (([-1], best), ([2], [2, 2, 2]), ([-1, 0, -1], [best[0], 0, best[2]])):
        found = run(proto, {"x": x, CLASS: np.array(asked)})[GRADIENT]
        np.testing.assert_allclose(found[:, :, 0, 0], W[rows] / 36, rtol=1e-6)


def test_a_class_that_there_is_none_of_fails() -> None:
    """A gradient of zeros would look like a blank map."""
    proto = whole_class_gradient(graph_of("gap"), "y", 1, "a").proto
    with pytest.raises(InvalidArgument, match="out of data bounds"):
        run(proto, {"x": X, CLASS: np.array([5])})
    with pytest.raises(InvalidArgument, match="out of data bounds"):
        run(proto, {"x": X, CLASS: np.array([-6])})
    assert np.isnan(run(proto, {"x": X, CLASS: np.array([-2])})[GRADIENT]).any()  # Gather counts from the end


def test_of_equal_scores_the_first_is_the_highest() -> None:
    rows = W[[0, 1, 1, 0, 1]]
    model = net(TEXTS["gap"], {**WEIGHTS, "w": rows, "b": np.zeros(5, np.float32)})
    proto = whole_class_gradient(read_graph(load(model)), "y", 1, "b").proto
    found = run(proto, {"x": X[:1], CLASS: np.array([-1])})
    first = 0 if found["p"][0, 0] >= found["p"][0, 1] else 1
    np.testing.assert_array_equal(found[GRADIENT], np.eye(5)[first])


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_the_classes_axis_may_be_any(axis: int) -> None:
    shape = np.insert([-1, 1, 1], axis, 5)
    text = f"(float[N, 3, 6, 6] x) => (float[N, K, L, M] z) {{ {POOLED} z = Reshape(y, shape) }}"
    graph = read_graph(load(net(text, {**WEIGHTS, "shape": shape})))
    found = run(whole_class_gradient(graph, "z", axis, "a").proto, {"x": X, CLASS: np.array([-1, 3, 1])})
    best = int(found["z"][0].argmax())
    np.testing.assert_allclose(found[GRADIENT][:, :, 0, 0], W[[best, 3, 1]] / 36, rtol=1e-6)


def test_what_the_score_does_not_depend_on_has_a_gradient_of_zeros() -> None:
    text = TEXTS["gap"].replace("p = Softmax(y)", "e = Relu(x) p = Softmax(y)")
    proto = whole_class_gradient(read_graph(load(net(text, WEIGHTS))), "y", 1, "e").proto
    np.testing.assert_array_equal(run(proto, {"x": X, CLASS: np.array([-1])})[GRADIENT], np.zeros_like(X))


def test_the_rules_may_be_replaced() -> None:
    """Guided: the negative part of the cotangent does not pass the Relu."""
    graph, feeds = graph_of("gap"), {"x": X, SEED: np.eye(5, dtype=np.float32)[[3, 0, 4]]}
    plain, guided = (
        run(whole_seeded_gradient(graph, "y", "c", rules=rules).proto, feeds)[GRADIENT] for rules in (STANDARD, GUIDED)
    )
    assert (plain < 0).any()
    np.testing.assert_array_equal(guided, np.maximum(plain, 0))


def test_integers_that_the_head_alone_reads_once_load() -> None:
    """ONNX Runtime makes a lone int8 pair uint8, and refuses it where the model says that it is int8."""
    text = """(float[N, 4, 6, 6] a) => (float[N, 4] y, float[N, 4, 6, 6] z) { t = Tanh(a)
      q = QuantizeLinear<output_dtype = 3>(t, s, i) d = DequantizeLinear(q, s, i) e = DequantizeLinear(q, twice, i)
      g = GlobalAveragePool(d) y = Flatten(g) z = Tanh(e) }"""
    weights = {"s": np.array(0.1, np.float32), "twice": np.array(0.2, np.float32), "i": np.array(3, np.int8)}
    model, x = net(text, weights, opset=21), normal(2, 4, 6, 6)
    part = head(read_graph(load(model)), "t", "y")
    found = run(all_scores(part).proto, {"t": np.tanh(x)})["y"]
    np.testing.assert_allclose(found, run(model, {"a": x})["y"], rtol=1e-5, atol=1e-6)
