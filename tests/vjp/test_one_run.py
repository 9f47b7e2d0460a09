"""Features and a class's gradient in one graph: the same values as apart, or nothing is changed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxcam.graph import Graph, features, head, load, read_graph
from onnxcam.runtime import HIGHEST
from onnxcam.vjp import ASKED, CLASS, GRADIENT, RowGraph, class_gradient, in_one_run
from tests.nets import Array, net, normal, run

MAPS = "m = Conv(a, kernel, b) r = Relu(m) p = GlobalAveragePool(r) y = Flatten(p)"
HIDDEN = "p = GlobalAveragePool(a) f = Flatten(p) h = Gemm(f, hidden) t = Tanh(h) y = Gemm(t, last)"
WEIGHTS = {
    "stem": normal(4, 3, 3, 3), "kernel": normal(5, 4, 1, 1), "b": normal(5) / 10, "hidden": normal(4, 6),
    "last": normal(6, 5),
}  # fmt: skip
X = normal(4, 3, 6, 6) + 5 * normal(4, 3, 1, 1, seed=2)


def classifier(tail: str, *, opset: int = 17, **weights: Array) -> onnx.ModelProto:
    text = f"(float[N, 3, 6, 6] x) => (float[N, 5] y) {{ c = Conv<pads = [1, 1, 1, 1]>(x, stem) a = Relu(c) {tail} }}"
    return net(text, {**WEIGHTS, **weights}, opset=opset)


def parts(proto: onnx.ModelProto) -> tuple[Graph, onnx.ModelProto, RowGraph]:
    graph = read_graph(load(proto))
    return graph, features(graph, ["y", "a"]), class_gradient(head(graph, "a", "y"), 1)


@pytest.mark.parametrize("asked", [[HIGHEST] * 4, [3] * 4, [HIGHEST, 0, 4, HIGHEST]])
def test_the_gradient_is_that_of_the_head_alone_and_the_outputs_stay(asked: list[int]) -> None:
    graph, front, backward = parts(classifier(MAPS))
    before = run(front, {"x": X})
    assert in_one_run(graph, front, backward, "y", 1)
    onnx.checker.check_model(front, full_check=True)
    found = run(front, {"x": X, ASKED: np.array(asked)})
    np.testing.assert_array_equal(found["y"], before["y"])
    highest = before["y"].argmax(axis=1)
    classes = np.where(np.array(asked) == HIGHEST, highest, asked)
    assert len(set(highest)) > 1
    expected = run(backward.proto, {"a": before["a"], CLASS: classes})[GRADIENT]
    np.testing.assert_allclose(found[GRADIENT], expected, rtol=1e-6)
    assert np.abs(expected).max() > 0


def test_the_highest_class_is_the_default_and_of_equals_the_first() -> None:
    graph, front, backward = parts(classifier(MAPS, b=np.ones(5, np.float32)))
    assert in_one_run(graph, front, backward, "y", 1)
    grey = np.zeros((1, 3, 6, 6), np.float32)
    by_default, *classes = (
        run(front, {"x": grey, **asked}) for asked in ({}, *({ASKED: np.array([i])} for i in (0, 1)))
    )
    assert len(set(by_default["y"].ravel())) == 1
    np.testing.assert_array_equal(by_default[GRADIENT], classes[0][GRADIENT])
    assert not np.array_equal(classes[0][GRADIENT], classes[1][GRADIENT])


def renamed(proto: onnx.ModelProto, old: str, new: str) -> onnx.ModelProto:
    for node in proto.graph.node:
        for held in (node.input, node.output):
            held[:] = [new if name == old else name for name in held]
    return proto


def first_written(proto: onnx.ModelProto) -> str:
    _, _, backward = parts(proto)
    return str(backward.proto.graph.node[0].output[0])


REFUSED = {
    "makes values of the head again": lambda: classifier(HIDDEN.replace("Tanh", "Softsign")),
    "is written for another opset": lambda: classifier(MAPS, opset=13),
    "takes a name of the model's": lambda: renamed(classifier(MAPS), "c", first_written(classifier(MAPS))),
}


@pytest.mark.parametrize("case", REFUSED)
def test_nothing_is_changed_where_the_gradient(case: str) -> None:
    graph, front, backward = parts(REFUSED[case]())
    before = front.SerializeToString(deterministic=True)
    assert not in_one_run(graph, front, backward, "y", 1)
    assert front.SerializeToString(deterministic=True) == before
