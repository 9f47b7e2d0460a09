"""A normalization of a sum that also gives the sum out is no sibling of it: it is behind."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxcam import differentiate
from onnxcam.graph import load, read_graph
from tests.nets import Array, net, normal, run

WEIGHTS: dict[str, Array] = {"scale": normal(4), "shift": normal(4, seed=1), "bias": normal(4, seed=2)}
FEEDS = {"x": normal(2, 3, 4), "k": normal(2, 3, 4, seed=3)}
LAYER = "n = LayerNormalization<axis = -1, epsilon = 0.1>(r, {0})"
PAIRS = {
    "with a shift": ("SkipLayerNormalization", "scale, shift", "r = Add(x, k) " + LAYER.format("scale, shift")),
    "without": ("SkipLayerNormalization", "scale", "r = Add(x, k) " + LAYER.format("scale")),
    "with a bias": (
        "SkipLayerNormalization", "scale, shift, bias",
        "u = Add(x, k) r = Add(u, bias) " + LAYER.format("scale, shift")),
    "simplified": (
        "SkipSimplifiedLayerNormalization", "scale, bias",
        "u = Add(x, k) r = Add(u, bias) q = Mul(r, r) m = ReduceMean<axes = [-1]>(q) e = Add(m, tenth) d = Sqrt(e) "
        "s = Div(r, d) n = Mul(s, scale)"),
}  # fmt: skip


def model(body: str) -> onnx.ModelProto:
    text = f"(float[N, 3, 4] x, float[N, 3, 4] k) => (float[N, 3, 4] y) {{ {body} y = Add(n, r) }}"
    proto = net(text, {**WEIGHTS, "tenth": np.float32(0.1)})
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return proto


@pytest.mark.parametrize("case", PAIRS)
def test_the_gradient_goes_through_the_sum(case: str) -> None:
    op, inputs, plain = PAIRS[case]
    fused = f"n, mean, inverse, r = com.microsoft.{op}<epsilon = 0.1>(x, k, {inputs})"
    seed, found = normal(2, 3, 4, seed=4), []
    for body in (plain, fused):
        made = differentiate(model(body), of="y", wrt=["r", "x"])
        values = run(made.model, {**FEEDS, made.seed: seed})
        found.append([values["y"], *(values[name] for name in made.gradients.values())])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("outputs", "kept"), [("n", True), ("n, mean, inverse, r", False)])
def test_the_fused_operator_stays_where_its_sum_is_not_read(outputs: str, kept: bool) -> None:
    body = f"{outputs} = com.microsoft.SkipLayerNormalization(x, k, scale) "
    proto = model(body + ("r = Identity(x)" if kept else ""))
    operators = [node.op_type for node in read_graph(load(proto)).nodes]
    assert ("SkipLayerNormalization" in operators) == kept
