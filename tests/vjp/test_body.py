"""Operators differentiated through what they do in simpler ones."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest

from onnxcam.errors import UnsupportedOpError
from onnxcam.vjp import GUIDED, STANDARD, RuleSet, differentiate
from onnxcam.vjp.body import lowered
from onnxcam.vjp.registry import Rule
from tests.vjp.harness import Rewritten

HEAD = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>'
WEIGHTS = "float[2] k = {2, 3}"


def parsed(body: str, *, weights: str = WEIGHTS, outputs: str = "float[] y") -> onnx.ModelProto:
    return onnx.parser.parse_model(f"{HEAD} g (float[2, 2] x) => ({outputs}) <{weights}> {{ {body} }}")


def added(model: onnx.ModelProto, rules: RuleSet = STANDARD) -> list[str]:
    """The operators that differentiating adds."""
    both = Counter(node.op_type for node in differentiate(model, of="y", wrt="x", rules=rules).model.graph.node)
    return sorted((both - Counter(node.op_type for node in model.graph.node)).elements())


def test_the_deployed_node_stays_and_is_read() -> None:
    """The body of a fused Conv is not computed again: Relu's mask reads the fused output."""
    weights = "float[1, 1, 1, 1] w = {2}"
    body = 'i = Unsqueeze(x, a) c = com.microsoft.FusedConv<activation = "Relu">(i, w) y = Squeeze(c, a)'
    model = parsed(body, weights=f"{weights}, int64[2] a = {{0, 1}}")
    assert "FusedConv" in [node.op_type for node in differentiate(model, of="y", wrt="x").model.graph.node]
    assert Counter(added(model))["Relu"] == 0
    assert Counter(added(model))["Conv"] <= 1  # the adjoint


def test_what_nothing_reads_is_not_written() -> None:
    """LayerNormalization's adjoint reads its input, so of the body the sum alone is made again."""
    names = added(parsed("y = com.microsoft.SkipLayerNormalization(x, x, k)"))
    assert names.count("LayerNormalization") == 1  # the twin that gives mean and deviation
    assert "SkipLayerNormalization" not in names


def test_an_input_that_is_read_twice_gets_both_cotangents() -> None:
    model = parsed("s = com.microsoft.SkipLayerNormalization(x, x, k) t = Mul(s, x) y = ReduceSum<keepdims = 0>(t)")
    feeds = {"x": np.array([[1, 2], [3, -1]], np.float32)}
    result = Rewritten(model, "y", ["x"]).run(feeds, np.ones(()))
    # normalizing two numbers gives -1 and 1, whatever they are: d sum(s k x) = s k
    np.testing.assert_allclose(result.gradients["x"], [[-2, 3], [2, -3]], rtol=1e-5)


def test_an_output_that_lets_no_gradient_pass_is_refused() -> None:
    half = lowered(lambda w, n: [w.op("Neg", n.x()), None])
    rules = STANDARD.replace("half", {("", "Split"): Rule(half, frozenset([13]))})
    body = "a, b = Split(x, k) y = Concat<axis = 0>({})"
    assert differentiate(parsed(body.format("a, a"), weights="int64[2] k = {1, 1}"), of="y", wrt="x", rules=rules)
    with pytest.raises(UnsupportedOpError, match=r"no gradient for Split .* its output 1 is used"):
        differentiate(parsed(body.format("a, b"), weights="int64[2] k = {1, 1}"), of="y", wrt="x", rules=rules)


def test_other_rules_count_inside() -> None:
    body = 'i = Unsqueeze(x, a) c = com.microsoft.FusedConv<activation = "Relu">(i, w) y = Squeeze(c, a)'
    model = parsed(body, weights="float[1, 1, 1, 1] w = {2}, int64[2] a = {0, 1}")
    feeds = {"x": np.array([[1, 2], [-3, 4]], np.float32)}
    seed = np.array([[1, -1], [1, 1]])
    plain = Rewritten(model, "y", ["x"]).run(feeds, seed).gradients["x"]
    guided = Rewritten(model, "y", ["x"], rules=GUIDED).run(feeds, seed).gradients["x"]
    np.testing.assert_array_equal(plain, [[2, -2], [0, 2]])
    np.testing.assert_array_equal(guided, [[2, 0], [0, 2]])
