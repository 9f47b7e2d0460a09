"""x s(x), a product with the sigmoid of its other factor: one formula in place of two paths."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest

from onnxcam.vjp import STANDARD, differentiate
from onnxcam.vjp.registry import ZERO, Rule
from tests.nets import Array
from tests.vjp.harness import Rewritten

HEAD = '<ir_version: 8, opset_import: ["" : 17]> g (float[2, 3] x) => (float[2, 3] y)'
X = np.array([[1, -2, 0], [0.25, 4, -0.5]], np.float32)
SEED = np.arange(1, 7).reshape(2, 3).astype(np.float64)
S = 1 / (1 + np.exp(-X.astype(np.float64)))
SLOPE = S * (1 + X * (1 - S))


def gradients(body: str, wrt: list[str]) -> dict[str, Array]:
    model = onnx.parser.parse_model(f"{HEAD} {{ {body} }}")
    return Rewritten(model, "y", wrt).run({"x": X}, SEED).gradients


@pytest.mark.parametrize("factors", ["x, s", "s, x"])
def test_in_four_nodes(factors: str) -> None:
    body = f"s = Sigmoid(x) y = Mul({factors})"
    np.testing.assert_allclose(gradients(body, ["x"])["x"], SEED * SLOPE, rtol=1e-5, atol=1e-7)
    model = onnx.parser.parse_model(f"{HEAD} {{ {body} }}")
    added = Counter(node.op_type for node in differentiate(model, of="y", wrt="x").model.graph.node[2:])
    assert added == {"Sub": 1, "Add": 1, "Mul": 2, "Identity": 1}


def test_the_sigmoid_has_its_own_cotangent_where_that_is_asked_for() -> None:
    found = gradients("s = Sigmoid(x) y = Mul(x, s)", ["x", "s"])
    np.testing.assert_allclose(found["s"], SEED * X, rtol=1e-6)
    np.testing.assert_allclose(found["x"], SEED * SLOPE, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(gradients("s = Sigmoid(x) y = Mul(x, s)", ["s"])["s"], SEED * X, rtol=1e-6)


def test_a_product_that_is_rounded_behind_is_not_read() -> None:
    quantized = "s = Sigmoid(x) p = Mul(x, s) q = QuantizeLinear(p, c, o) y = DequantizeLinear(q, c, o)"
    text = quantized.replace("s = ", "c = Constant<value_float = 0.1>() o = Constant<value = int8 {0}>() s = ", 1)
    np.testing.assert_allclose(gradients(text, ["x"])["x"], SEED * SLOPE, rtol=1e-5, atol=1e-7)


def test_a_rule_set_with_another_sigmoid_is_heeded() -> None:
    blocked = STANDARD.replace("blocked", {("", "Sigmoid"): Rule(lambda g, n, ct: [ZERO], frozenset([13]))})
    model = onnx.parser.parse_model(f"{HEAD} {{ s = Sigmoid(x) y = Mul(x, s) }}")
    found = Rewritten(model, "y", ["x"], rules=blocked).run({"x": X}, SEED).gradients["x"]
    np.testing.assert_allclose(found, SEED * S, rtol=1e-5)


def test_what_else_reads_the_sigmoid_counts_too() -> None:
    found = gradients("s = Sigmoid(x) a = Mul(x, s) y = Add(a, s)", ["x"])["x"]
    np.testing.assert_allclose(found, SEED * (SLOPE + S * (1 - S)), rtol=1e-5)
