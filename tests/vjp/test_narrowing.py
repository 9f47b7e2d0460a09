"""What a score reads at a few positions alone is worked out at those, and comes to the same."""

from __future__ import annotations

import numpy as np
import pytest

from onnxcam.graph import Graph, Head, head, load, read_graph
from onnxcam.vjp import SEED, differentiate, seeded_gradient
from onnxcam.vjp.narrowing import narrowed
from tests.nets import Array, net, normal, run

TOKENS, WIDTH = 9, 6
WEIGHTS: dict[str, Array] = {
    "w": normal(WIDTH, WIDTH), "w1": normal(WIDTH, WIDTH, seed=6), "b": normal(WIDTH, seed=1),
    "qkv": normal(WIDTH, 3 * WIDTH, seed=2), "head": normal(WIDTH, 5, seed=3),
    "position": normal(1, TOKENS, WIDTH, seed=4), "kernel": normal(TOKENS, TOKENS, 3, seed=5),
    "mask": np.tril(np.ones((TOKENS, TOKENS))).astype(bool),
    "none": np.array(-np.inf, np.float32), "half": np.array(0.5, np.float32), "fine": np.array(0.02, np.float32),
    "mid": np.array(128, np.uint8), "first": np.array(0), "last_but_one": np.array(-2), "i0": np.array([0]),
    "i1": np.array([1]), "i2": np.array([2]), "i3": np.array([3]), "i5": np.array([5]), "i8": np.array([8]),
    "halves": np.array([0, TOKENS, 2, 3]), "vector": normal(3, seed=7),
    "ones": np.array([1, 1, 1]), "thirds": np.array([WIDTH] * 3), "parts": np.array([0, TOKENS, 3, 2, 3]),
    "merged": np.array([0, TOKENS, WIDTH]), "flat": np.array([-1, WIDTH]), "back": np.array([-1, TOKENS, WIDTH]),
}  # fmt: skip
TAKEN = " s = Gather<axis = 1>(z, first) y = MatMul(s, head)"
FEED_FORWARD = "n = LayerNormalization({0}, b, b) m = MatMul(n, w) e = Add(m, b) f = Sigmoid(e) z = Add({0}, f)"
ATTENTION = (
    "h = MatMul(t, qkv) q, k, v = Split<axis = -1>(h, thirds) kt = Transpose<perm = [0, 2, 1]>(k) l = MatMul(q, kt) "
    "{0} p = Softmax({1}) o = MatMul(p, v) {2} = MatMul(o, {3}) {4} = Add(t, {2})"
)
HEADS = (
    "h = MatMul(t, qkv) r = Reshape(h, parts) x3 = Transpose<perm = [2, 0, 3, 1, 4]>(r) q1, k1, v1 = Split(x3, ones) "
    "q = Squeeze(q1, i0) k = Squeeze(k1, i0) v = Squeeze(v1, i0) kt = Transpose<perm = [0, 1, 3, 2]>(k) "
    "l = MatMul(q, kt) p = Softmax(l) o = MatMul(p, v) u = Transpose<perm = [0, 2, 1, 3]>(o) g = Reshape(u, merged) "
    "m = MatMul(g, w) z = Add(t, m)"
)
BOTH = FEED_FORWARD.format("t") + " s = Gather<axis = 1>(z, first) r = Gather<axis = 1>(z, last_but_one) "
CASES = {  # from tokens t [N, 9, 6] to y, and at how many of them the product m is made
    "feed-forward": (FEED_FORWARD.format("t") + TAKEN, 1),
    "attention": (ATTENTION.format("", "l", "m", "w", "z") + TAKEN, 1),
    "attention of heads": (HEADS + TAKEN, 1),
    "attention with a mask": (ATTENTION.format("c = Where(mask, l, none)", "c", "m", "w", "z") + TAKEN, 1),
    "a block": (ATTENTION.format("", "l", "j", "w1", "i") + FEED_FORWARD.format("i") + TAKEN, 1),
    "a normalization in parts": (
        "a = ReduceMean<axes = [-1]>(t) d = Sub(t, a) q = Mul(d, d) v = ReduceMean<axes = [-1]>(q) r = Sqrt(v) "
        "n = Div(d, r) m = MatMul(n, w) z = Mul(m, half)" + TAKEN, 1),
    "a normalization with a scale for each token": (
        "m = MatMul(t, w) n = LayerNormalization(m, position, position) z = Tanh(n)" + TAKEN, 1),
    "positions added": ("c = Add(t, position) m = MatMul(c, w) z = Tanh(m)" + TAKEN, 1),
    "two tokens": (BOTH + "a = Add(s, r) y = MatMul(a, head)", 2),
    "some tokens": (FEED_FORWARD.format("t") + " s = Slice(z, i2, i5, i1) y = MatMul(s, head)", 3),
    "some tokens, and one of them": (
        FEED_FORWARD.format("t") + " s = Slice(z, i2, i5, i1) r = Slice(z, i3, i5, i1) a = Tanh(r) "
        "c = Concat<axis = 1>(s, a) y = MatMul(c, head)", 3),
    "quantized": (
        "n = QuantizeLinear(t, fine, mid) d = DequantizeLinear(n, fine, mid) m = MatMul(d, w) z = Relu(m)" + TAKEN, 1),
    "read whole elsewhere": (
        "m = MatMul(t, w) z = Tanh(m) s = Gather<axis = 1>(z, first) g = ReduceMean<axes = [1], keepdims = 0>(m) "
        "a = Add(s, g) y = MatMul(a, head)", TOKENS),
    "most tokens": (FEED_FORWARD.format("t") + " s = Slice(z, i2, i8, i1) y = MatMul(s, head)", TOKENS),
    "all tokens": (FEED_FORWARD.format("t") + " y = MatMul(z, head)", TOKENS),
    "times a vector": (
        "m = MatMul(t, w) r = Reshape(m, halves) d = MatMul(r, vector) s = Gather<axis = 1>(d, first) y = Tanh(s)",
        TOKENS),
    "mixed by a softmax": ("m = MatMul(t, w) z = Softmax<axis = 1>(m)" + TAKEN, TOKENS),
    "mixed by a normalization": ("m = MatMul(t, w) z = LayerNormalization<axis = 1>(m, position)" + TAKEN, TOKENS),
    "mixed by a convolution": ("m = MatMul(t, w) z = Conv<pads = [1, 1]>(m, kernel)" + TAKEN, TOKENS),
    "merged with the rows": (
        "r = Reshape(t, flat) m = MatMul(r, w) c = Tanh(m) z = Reshape(c, back)" + TAKEN, TOKENS),
}  # fmt: skip


def head_of(name: str) -> Head:
    """The head behind the tokens."""
    text = CASES[name][0]
    graph = read_graph(
        load(net(f"(float[N, {TOKENS}, {WIDTH}] x) => (float[N, K] y) {{ t = Tanh(x) {text} }}", WEIGHTS))
    )
    return head(graph, "t", "y")


def positions_of_product(graph: Graph) -> int:
    """At how many positions the product with `w` is made."""
    (made,) = [node for node in graph.nodes if node.op_type == "MatMul" and node.input[1] == "w"]
    shape = graph.shape(made.output[0]) or ()
    return int(shape[1]) if len(shape) == 3 and isinstance(shape[1], int) else TOKENS


@pytest.mark.parametrize("name", CASES)
def test_the_same_comes_out(name: str) -> None:
    part, t = head_of(name), normal(3, TOKENS, WIDTH, seed=10)
    small = narrowed(part.graph, "y", "t")
    expected = run(part.graph.proto, {"t": t})["y"]
    np.testing.assert_allclose(run(small.proto, {"t": t})["y"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_no_more_positions_than_are_read(name: str) -> None:
    part = head_of(name)
    small = narrowed(part.graph, "y", "t")
    assert positions_of_product(small) == CASES[name][1]


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_that_of_the_whole_head(name: str) -> None:
    part, t = head_of(name), normal(3, TOKENS, WIDTH, seed=11)
    seed = normal(*run(part.graph.proto, {"t": t})["y"].shape, seed=12)
    small = seeded_gradient(part, taps=())
    whole = differentiate(part.graph.proto, of="y", wrt="t")
    expected = run(whole.model, {"t": t, whole.seed: seed})[whole.gradients["t"]]
    found = run(small.proto, {"t": t, SEED: seed})[small.output]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_a_head_of_which_all_is_read_stays_as_it_is() -> None:
    graph = head_of("all tokens").graph
    assert narrowed(graph, "y", "t") is graph


def test_what_the_gradient_is_asked_for_stays_whole() -> None:
    small = narrowed(head_of("feed-forward").graph, "y", "m")
    assert positions_of_product(small) == TOKENS
