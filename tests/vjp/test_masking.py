"""Infinite derivatives, and those of nothing, where a Where keeps them out of the model's output."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxcam.vjp import differentiate
from tests.nets import Array, net, normal
from tests.vjp.harness import Rewritten

HEAD = '<ir_version: 8, opset_import: ["" : 17]> g (float[2, 3] x) => (float[2, 3] y)'
WEIGHTS = (
    "<float o = {0}, float one = {1}, float hundred = {100}, int64[1] flat = {6}, int64[2] back = {2, 3}, "
    "float[1, 3] row = {1, 0, 2}>"
)
X = np.array([[1, -2, 0], [0.25, 4, -0.5]], np.float32)
OVER = X > 0
MASKED = {  # what is masked, and its derivative at the places that are left
    "l = Log(x)": lambda x: 1 / x,
    "l = Sqrt(x)": lambda x: 0.5 / np.sqrt(x),
    "l = Reciprocal(x)": lambda x: -1 / x**2,
    "a = Sub(one, x) b = Abs(x) l = Div(a, b)": lambda x: -1 / x**2,
    "h = Constant<value_float = 0.5>() l = Pow(x, h)": lambda x: 0.5 / np.sqrt(x),
    "a = Mul(x, hundred) b = Neg(a) l = Exp(b)": lambda x: -100 * np.exp(-100 * x),
    "f = Sqrt(x) a = Reshape(f, flat) b = Neg(a) l = Reshape(b, back)": lambda x: -0.5 / np.sqrt(x),
    "a = Log(x) b = Exp(a) l = Neg(b)": lambda x: -np.ones_like(x),
}


def parsed(body: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f"{HEAD} {WEIGHTS} {{ {body} }}")


def gradient(body: str, x: Array, seed: Array) -> Array:
    return Rewritten(parsed(body), "y", ["x"]).run({"x": x}, seed).gradients["x"]


@pytest.mark.parametrize("body", MASKED)
def test_what_a_where_leaves_has_no_slope(body: str) -> None:
    found = gradient(f"c = Greater(x, o) {body} y = Where(c, l, o)", X, np.full(X.shape, 3.0))
    np.testing.assert_allclose(found[OVER], 3 * MASKED[body](X[OVER]), rtol=1e-5)
    np.testing.assert_array_equal(found[~OVER], 0)


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax"])
def test_rows_that_are_masked_as_a_whole(op_type: str) -> None:
    x = np.array([[1, -np.inf, 0.5], [-np.inf] * 3], np.float32)
    found = gradient(f"s = {op_type}(x) n = IsNaN(s) y = Where(n, o, s)", x, np.array([[1, 0, 0]] * 2))
    p = 1 / (1 + np.exp(-0.5))
    slope = p * (1 - p) if op_type == "Softmax" else 1 - p
    np.testing.assert_allclose(found, [[slope, 0, -slope], [0, 0, 0]], atol=1e-6)


@pytest.mark.parametrize("held", [True, False], ids=["mask held", "mask fed"])
def test_queries_that_a_mask_of_numbers_shuts_out(held: bool) -> None:
    """Attention gives 0 for them, as with a mask that says what counts, where a softmax of nothing is none."""
    allowed = np.array([[1, 0, 1], [0, 0, 0]], bool)
    mask = np.where(allowed, np.float32(0), np.float32(-np.inf))
    feeds = {"q": normal(1, 1, 2, 2), "k": normal(1, 1, 3, 2, seed=1), "v": normal(1, 1, 3, 2, seed=2)}
    text = "float[1,1,2,2] q, float[1,1,3,2] k, float[1,1,3,2] v"
    shape, body = "(float[1,1,2,2] y)", "{ y = Attention(q, k, v, m) }"
    number = net(f"({text}{'' if held else ', float[2,3] m'}) => {shape} {body}", {"m": mask} if held else {}, opset=23)
    plain = net(f"({text}) => {shape} {body}", {"m": allowed}, opset=23)
    seed = normal(1, 1, 2, 2, seed=3)
    found = Rewritten(number, "y", list(feeds)).run(feeds if held else {**feeds, "m": mask}, seed).gradients
    wanted = Rewritten(plain, "y", list(feeds)).run(feeds, seed).gradients
    for name in feeds:
        assert np.abs(wanted[name]).max() > 0
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "body", ["y = Sqrt(x)", "r = Add(row, one) a = Div(x, r) c = Greater(x, o) y = Where(c, a, o)"]
)
def test_nothing_is_added_where_nothing_can_be_infinite(body: str) -> None:
    model = parsed(body)
    added = differentiate(model, of="y", wrt="x").model.graph.node[len(model.graph.node) :]
    assert "Equal" not in [node.op_type for node in added]
