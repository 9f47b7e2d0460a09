"""Softmax of old opsets, over axes that turn out to be the last one alone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxcam.graph import find_score, load, read_graph
from tests.nets import net, normal, run

WEIGHTS = {"zero": np.array(0), "rest": np.array([8, 24]), "w": normal(24, 5), "first": np.array([0])}
SIZES = "s = Shape(x) n = Gather(s, zero) v = Unsqueeze<axes = [0]>(n) t = Concat<axis = 0>(v, rest) "
X = normal(2, 3, 8, 8, seed=1)


def model(axis: int, *, op: str = "Softmax", more: str = "") -> onnx.ModelProto:
    body = f"{SIZES} r = Reshape(x, t) m = MatMul(r, w) y = {op}<axis = {axis}>(m) {more}"
    outputs = "float[N, 8, 5] y" + (", float[] z" if more else "")
    return net(f"(float[N, 3, 8, 8] x) => ({outputs}) {{ {body} }}", WEIGHTS, opset=11)


def operators(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in read_graph(load(proto)).nodes]


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("axis", [2, -1])
def test_the_last_axis_alone(op: str, axis: int) -> None:
    graph = read_graph(load(model(axis, op=op)))
    kinds = [node.op_type for node in graph.nodes]
    assert op in kinds
    assert not {"Flatten"} & set(kinds)
    np.testing.assert_array_equal(run(graph.proto, {"x": X})["y"], run(model(axis, op=op), {"x": X})["y"])


def test_the_score_is_the_models_own_value() -> None:
    graph = read_graph(load(model(2)))
    score = find_score(graph)
    assert (score.name, score.squash) == ("m", "softmax")


def test_several_axes_stay_flattened() -> None:
    assert "Flatten" in operators(model(1))
    np.testing.assert_allclose(
        run(read_graph(load(model(1))).proto, {"x": X})["y"], run(model(1), {"x": X})["y"], rtol=1e-5
    )
