"""The head of one class: the same number, the same gradient, and only that class's row of the weights."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from onnxcam.graph import Head, class_axis, find_score, head, load, read_graph
from onnxcam.vjp import CLASS, SEED, RowGraph, class_gradient, class_score, seeded_gradient
from tests.nets import Array, net, normal, run, tapped

CLASSES, CHANNELS = 5, 6
W, B = normal(CLASSES, CHANNELS), normal(CLASSES, seed=1)
WEIGHTS: dict[str, Array] = {
    "stem": normal(CHANNELS, 3, 3, 3),
    "w": W,
    "wt": np.ascontiguousarray(W.T),
    "b": B,
    "row": B[None],
    "two": np.array(2, np.float32),
    "zero": np.array(0, np.float32),
    "other": normal(CLASSES, CHANNELS, seed=2),
    "w1": normal(7, CHANNELS, seed=3),
    "b1": normal(7, seed=4),
    "w2": normal(CLASSES, 7, seed=5),
    "large": normal(CHANNELS, 5000),
    "largeb": normal(5000),
    "flat": normal(CLASSES, CHANNELS * 16, seed=6),
    "kernel": W.reshape(CLASSES, CHANNELS, 1, 1),
    "kernel3": normal(CLASSES, CHANNELS, 3, 3),
    "grouped": normal(4, 3, 1, 1),
    "wq": normal(6, 6, seed=7),
    "wk": normal(6, 6, seed=8),
    "wv": normal(6, 6, seed=9),
    "i0": np.array([0]),
    "i1": np.array([1]),
    "i2": np.array([2]),
    "i4": np.array([4]),
    "i5": np.array([5]),
    "m3": np.array([-3]),
    "i23": np.array([2, 3]),
    "last": np.array([-1, -2]),
    "first": np.array(0),
    "tokens": np.array([0, 6, -1]),
    "square": np.array([-1, 5, 1, 1]),
    "w8": np.round(W * 40).astype(np.int8),
    "w8t": np.round(W.T * 40).astype(np.int8),
    "kernel8": np.round(W * 40).astype(np.int8).reshape(CLASSES, CHANNELS, 1, 1),
    "each": np.linspace(0.01, 0.03, CLASSES).astype(np.float32),
    "noughts": np.zeros(CLASSES, np.int8),
    "fine": np.array(0.02, np.float32),
    "low": np.array(0, np.uint8),
    "mid": np.array(128, np.uint8),
    "mids": np.full(CLASSES, 128, np.uint8),
    "coarse": np.array(0.05, np.float32),
    "b32": np.array([50, -30, 0, 200, 7], np.int32),
    "kernelu": np.round(W * 40 + 128).clip(0, 255).astype(np.uint8).reshape(CLASSES, CHANNELS, 1, 1),
}

POOL = "p = GlobalAveragePool(a) f = Flatten(p) "  # [N, 6]
TOKENS = "r = Reshape(a, tokens) t = Transpose<perm = [0, 2, 1]>(r) "  # [N, 16, 6]
ATTENTION = TOKENS + (
    "q = MatMul(t, wq) k = MatMul(t, wk) kt = Transpose<perm = [0, 2, 1]>(k) l = MatMul(q, kt) o = Softmax(l) "
    "v = MatMul(t, wv) z = MatMul(o, v) m = Add(t, z) "
)
LAST = "t = Transpose<perm = [0, 2, 3, 1]>(a) "
GAP = " p = GlobalAveragePool(c) y = Flatten(p)"

MOVED = {  # heads from a [N, 6, 4, 4] to y, in which the choice of the class arrives at the weights
    "Gemm, transB, bias": POOL + "y = Gemm<transB = 1>(f, w, b)",
    "Gemm, transB": POOL + "y = Gemm<transB = 1>(f, w)",
    "Gemm, bias": POOL + "y = Gemm(f, wt, b)",
    "Gemm": POOL + "y = Gemm(f, wt)",
    "Gemm, alpha and beta": POOL + "y = Gemm<transB = 1, alpha = 2.5, beta = -0.5>(f, w, b)",
    "Gemm, bias [1, K]": POOL + "y = Gemm<transB = 1>(f, w, row)",
    "Gemm, bias []": POOL + "y = Gemm<transB = 1>(f, w, two)",
    "Gemm, weights behind a Transpose": POOL + "x1 = Transpose(w) y = Gemm(f, x1, b)",
    "MatMul": POOL + "y = MatMul(f, wt)",
    "MatMul, Add": POOL + "m = MatMul(f, wt) y = Add(m, b)",
    "Add, bias in front": POOL + "m = MatMul(f, wt) y = Add(b, m)",
    "Sub, the score subtracted": POOL + "m = MatMul(f, wt) y = Sub(b, m)",
    "temperature": POOL + "m = MatMul(f, wt) y = Div(m, two)",
    "a scale for each class": POOL + "m = MatMul(f, wt) y = Mul(m, row)",
    "weights that stay in the file": POOL + "m = MatMul(f, large) y = Add(m, largeb)",
    "two heads added": POOL + "m = MatMul(f, wt) n = Gemm<transB = 1>(f, other, b) y = Add(m, n)",
    "MatMul of three axes": TOKENS + "g = ReduceMean<axes = [1]>(t) m = MatMul(g, wt) y = Squeeze(m, i1)",
    "1x1 convolution": "c = Conv(a, kernel, b)" + GAP,
    "1x1 convolution, Relu": "d = Conv(a, kernel, b) c = Relu(d)" + GAP,
    "1x1 convolution, Relu6, maximum": (
        "d = Conv(a, kernel) c = Clip(d, zero, two) p = GlobalMaxPool(c) y = Squeeze(p, i23)"
    ),
    "1x1 convolution, ReduceMean": "c = Conv(a, kernel, b) y = ReduceMean<axes = [2, 3], keepdims = 0>(c)",
    "1x1 convolution, ReduceSum": "c = Conv(a, kernel, b) y = ReduceSum<keepdims = 0>(c, last)",
    "1x1 convolution, AveragePool": ("c = Conv(a, kernel, b) p = AveragePool<kernel_shape = [4, 4]>(c) y = Flatten(p)"),
    "1x1 convolution behind the pool": "p = GlobalAveragePool(a) c = Conv(p, kernel, b) y = Flatten(c)",
    "score [N, K, 1, 1]": "p = GlobalAveragePool(a) y = Conv(p, kernel, b)",
    "score [N, 1, K]": TOKENS + "g = ReduceMean<axes = [1]>(t) m = MatMul(g, wt) y = Add(m, b)",
    "score by Reshape": POOL + "m = Gemm<transB = 1>(f, w, b) y = Reshape(m, square)",
    "score [N, K, 1]": (POOL + "m = Gemm<transB = 1>(f, w, b) u = Unsqueeze(m, i1) y = Transpose<perm = [0, 2, 1]>(u)"),
    "the first of more classes": POOL + "m = Gemm<transB = 1>(f, w, b) y = Slice(m, i0, i4, i1)",
    "the first of more maps": (
        "k = Conv(a, kernel, b) n = Slice(k, i0, i4, m3, i1) p = GlobalAveragePool(n) y = Flatten(p)"
    ),
    "several Gemms with Relu": POOL + "h = Gemm<transB = 1>(f, w1, b1) r = Relu(h) y = Gemm<transB = 1>(r, w2, b)",
    "flattened, not pooled": "f = Flatten(a) y = Gemm<transB = 1>(f, flat, b)",
    "activations on the score": POOL + "m = Gemm<transB = 1>(f, w, b) t = Tanh(m) y = LeakyRelu<alpha = 0.3>(t)",
    "channels last": LAST + "g = ReduceMean<axes = [1, 2], keepdims = 0>(t) m = MatMul(g, wt) y = Add(m, b)",
    "tokens, mean": ATTENTION + "g = ReduceMean<axes = [1], keepdims = 0>(m) h = MatMul(g, wt) y = Add(h, b)",
    "tokens, one of them": ATTENTION + "g = Gather<axis = 1>(m, first) y = Gemm(g, wt, b)",
}
Q = "{1} = QuantizeLinear({0}, fine, {2}) {1}d = DequantizeLinear({1}, fine, {2}) "
IN, OUT = Q.format("f", "g", "low"), Q.format("m", "q", "mid") + "y = LeakyRelu<alpha = 0.3>(qd)"
QUANTIZED = {  # the same of integers, of which differences say nothing
    "quantized Gemm, one scale": POOL + IN + "v = DequantizeLinear(w8, fine) m = Gemm<transB = 1>(gd, v, b) " + OUT,
    "quantized Gemm, a scale per class": (
        POOL + IN + "v = DequantizeLinear<axis = 0>(w8, each, noughts) m = Gemm<transB = 1>(gd, v, b) " + OUT
    ),
    "quantized MatMul, a scale per class": (
        POOL + IN + "v = DequantizeLinear(w8t, each, noughts) m = MatMul(gd, v) " + OUT
    ),
    "quantized 1x1 convolution": (
        "v = DequantizeLinear<axis = 0>(kernel8, each, noughts) k = Conv(a, v, b) "
        + Q.format("k", "r", "low") + "p = GlobalAveragePool(rd) m = Flatten(p) " + OUT
    ),
    "1x1 convolution of integers, a scale per class": (
        "i = QuantizeLinear(a, fine, low) q = QLinearConv(i, fine, low, kernel8, each, noughts, coarse, mid, b32) "
        "k = DequantizeLinear(q, coarse, mid) r = Relu(k) p = GlobalAveragePool(r) m = Flatten(p) "
        "y = LeakyRelu<alpha = 0.3>(m)"
    ),
    "1x1 convolution and pool of integers, one scale": (
        "i = QuantizeLinear(a, fine, low) q = QLinearConv(i, fine, low, kernelu, fine, mid, coarse, mid) "
        "u = com.microsoft.QLinearGlobalAveragePool(q, coarse, mid, fine, mid) k = DequantizeLinear(u, fine, mid) "
        "y = Flatten(k)"
    ),
}  # fmt: skip
STAIRS = {  # and some in which the choice has to be made earlier
    "a scale per class of the scores": (
        POOL + "m = Gemm<transB = 1>(f, w, b) q = QuantizeLinear(m, each, mids) d = DequantizeLinear(q, each, mids) "
        "y = Tanh(d)"
    ),
}
DENSE = {  # heads in which the choice has to be made earlier
    "weights computed from the image": (
        POOL
        + "u = ReduceMean<axes = [0], keepdims = 0>(f) n = Unsqueeze(u, i0) e = Mul(w, n) y = Gemm<transB = 1>(f, e)"
    ),
    "the last classes": POOL + "m = Gemm<transB = 1>(f, w, b) y = Slice(m, i1, i5, i1)",
    "the first rows of class maps": (
        "k = Conv(a, kernel, b) n = Slice(k, i0, i4, i2) p = GlobalAveragePool(n) y = Flatten(p)"
    ),
    "Gemm, transA": POOL + "t = Transpose<perm = [1, 0]>(f) y = Gemm<transA = 1>(t, wt)",
    "3x3 convolution of class maps": "c = Conv<pads = [1, 1, 1, 1]>(a, kernel3, b)" + GAP,
    "grouped convolution": "c = Conv<group = 2>(a, grouped)" + GAP,
    "1x1 convolution with stride": "c = Conv<strides = [2, 2]>(a, kernel)" + GAP,
    "channels last, class maps": (
        LAST + "m = MatMul(t, wt) d = Add(m, b) c = Relu(d) y = ReduceMean<axes = [1, 2], keepdims = 0>(c)"
    ),
    "classes mixed by a norm": POOL + "m = MatMul(f, wt) y = LayerNormalization(m, b)",
    "classes mixed by a Softmax": POOL + "m = MatMul(f, wt) n = Softmax(m) y = Mul(m, n)",
}
SMOOTH = MOVED | DENSE
HEADS = SMOOTH | QUANTIZED | STAIRS
every_head = pytest.mark.parametrize("name", HEADS)


def head_of(name: str) -> tuple[Head, int]:
    """The head behind `a`, and the classes' axis of its score."""
    body = HEADS[name]
    stem = "s = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, stem) a = Relu(s)"
    proto = net(f"(float[N, 3, 8, 8] x) => (float[N, K] y) {{ {stem} {body} }}", WEIGHTS)
    proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    graph = read_graph(load(proto))
    score = find_score(graph)
    axis = class_axis(graph.shape(score.name))
    assert score.name == "y"
    assert axis is not None
    return head(graph, "a", "y"), axis


def activations(rows: int, zero: float = 0.0) -> Array:
    """What a Relu gives: some exact zeros, or another number in their place."""
    a = np.maximum(normal(rows, CHANNELS, 4, 4), 0)
    return np.where(a == 0, np.float32(zero), a)


def forward(part: Head, a: Array) -> Array:
    """The head itself in float64."""
    proto = onnx.ModelProto()
    proto.CopyFrom(part.graph.proto)
    for tensor in part.graph.model.embed(proto).graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    (y,) = ReferenceEvaluator(proto).run(None, {"a": a.astype(np.float64)})
    return np.asarray(y)


def backward_run(part: Head, backward: RowGraph, a: Array, **others: Array) -> Array:
    """A backward graph, fed with what it reads of a run of the primal head."""
    portable = part.graph.model.portable
    taps = [name for name in backward.inputs if name in part.graph.producer]
    known = {"a": a, **others, **run(portable(tapped(part.graph.proto, *taps)), {"a": a})}
    return run(portable(backward.proto), {name: known[name] for name in backward.inputs})[backward.output]


@every_head
def test_the_score_of_the_class(name: str) -> None:
    part, axis = head_of(name)
    a = activations(3)
    y = forward(part, a) if name in SMOOTH else run(part.graph.model.portable(part.graph.proto), {"a": a})[part.score]
    classes = np.array([4, 0, 2]) % y.shape[axis]
    chosen = backward_run(part, class_score(part, axis), a, **{CLASS: classes})
    assert chosen.shape == tuple(1 if i == axis else size for i, size in enumerate(y.shape))
    np.testing.assert_allclose(chosen.ravel(), y.reshape(3, -1)[range(3), classes], rtol=1e-5, atol=1e-5)


@every_head
def test_class_rows_and_dense_seeds_give_one_gradient(name: str) -> None:
    part, axis = head_of(name)
    a = activations(3)
    y = run(part.graph.model.portable(part.graph.proto), {"a": a})[part.score]
    classes = np.array([4, 0, 2]) % y.shape[axis]
    seed = np.zeros((3, y.shape[axis]), np.float32)
    seed[range(3), classes] = 1
    rows = backward_run(part, class_gradient(part, axis), a, **{CLASS: classes})
    dense = backward_run(part, seeded_gradient(part), a, **{SEED: seed.reshape(y.shape)})
    assert rows.shape == dense.shape == a.shape
    np.testing.assert_allclose(rows, dense, rtol=0, atol=2e-6 * float(np.abs(dense).max()))


@pytest.mark.parametrize("name", SMOOTH)
def test_the_gradient_is_that_of_the_head(name: str) -> None:
    """Against differences in float64; summed over the rows, for some heads mix them."""
    part, axis = head_of(name)
    a, classes, step = activations(2, zero=0.1), np.array([1, 3]), 1e-6
    gradient = backward_run(part, class_gradient(part, axis), a, **{CLASS: classes})
    direction = normal(*a.shape, seed=11).astype(np.float64)
    ahead, behind = (forward(part, a + sign * step * direction).reshape(2, -1) for sign in (1, -1))
    expected = float((ahead - behind)[range(2), classes].sum()) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(expected, rel=2e-5, abs=2e-5)


@every_head
def test_the_choice_arrives_at_the_weights(name: str) -> None:
    part, axis = head_of(name)
    ops = {node.op_type for node in class_score(part, axis).proto.graph.node}
    assert ("GatherElements" not in ops) == (name in MOVED | QUANTIZED)


def test_each_value_is_chosen_from_once() -> None:
    """A value that is read twice at each of 40 levels has 2^40 paths up to it."""
    levels = " ".join(f"s{i} = Sigmoid(y{i}) y{i + 1} = Mul(y{i}, s{i})" for i in range(40))
    proto = net(
        f"(float[N, 6, 4, 4] x) => (float[N, K] y40) {{ a = Relu(x) {POOL} y0 = MatMul(f, wt) {levels} }}", WEIGHTS
    )
    nodes = class_score(head(read_graph(load(proto)), "a", "y40"), 1).proto.graph.node
    assert sum(node.op_type == "Sigmoid" for node in nodes) == 40
    assert sum(node.op_type == "Gather" for node in nodes) == 1


@pytest.mark.parametrize("name", QUANTIZED)
def test_only_the_row_of_quantized_weights_is_dequantized(name: str) -> None:
    part, axis = head_of(name)
    nodes = class_score(part, axis).proto.graph.node
    assert not {"w8", "w8t", "kernel8"} & {node.input[0] for node in nodes if node.op_type == "DequantizeLinear"}


@pytest.mark.parametrize("opset", [17, 21])
def test_int8_activations_before_the_score(opset: int) -> None:
    """What is dequantized is reshaped for the product with the class's row, which ONNX Runtime may refuse."""
    body = Q.format("f", "g", "naught") + "m = MatMul(gd, wt) y = Add(m, b)"
    weights = {**WEIGHTS, "naught": np.array(0, np.int8)}
    proto = net(f"(float[N, 6, 4, 4] x) => (float[N, K] y) {{ a = Relu(x) {POOL} {body} }}", weights, opset=opset)
    part, a, classes = head(read_graph(load(proto)), "a", "y"), activations(2), np.array([3, 1])
    y = run(part.graph.proto, {"a": a})["y"]
    chosen = run(class_score(part, 1).proto, {"a": a, CLASS: classes}).values()
    np.testing.assert_allclose(np.ravel(*chosen), y[range(2), classes], rtol=1e-5)
    found = backward_run(part, class_gradient(part, 1), a, **{CLASS: classes})
    np.testing.assert_allclose(found[:, :, 0, 0], W[classes] / 16, rtol=1e-5)
