"""The global mean of a layer, where that is all that a head reads of it."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from onnxcam.graph import Graph, named_layer, pooled_value
from onnxcam.runtime import Layout
from tests.graph.building import CONVS, channels_last, graph_of, plain, vit
from tests.nets import net, normal


def pooled(graph: Graph, layer: str, score: str = "logits") -> str | None:
    return pooled_value(graph, layer, named_layer(graph, layer).layout, score)


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ("p = GlobalAveragePool(last)\n f = Flatten(p)\n logits = Gemm(f, fc, bias)", "p"),
        ("p = GlobalAveragePool(last)\n f = Reshape(p, to)\n logits = MatMul(f, fc)", "p"),
        ("p = ReduceMean<axes=[2,3],keepdims=0>(last)\n l = MatMul(p, fc)\n logits = Add(l, bias)", "p"),
        ("p = ReduceMean<axes=[-1,-2]>(last)\n f = Flatten(p)\n logits = MatMul(f, fc)", "p"),
        ("p = AveragePool<kernel_shape=[4,4]>(last)\n f = Flatten(p)\n logits = MatMul(f, fc)", "p"),
        ("p = GlobalAveragePool(last)\n f = Flatten(p)\n g = Mul(f, two)\n logits = MatMul(g, fc)", "p"),
        ("p = GlobalAveragePool(last)\n f = Flatten(p)\n g = Div(f, two)\n logits = MatMul(g, fc)", "p"),
        ("p = GlobalAveragePool(last)\n f = Flatten(p)\n l = MatMul(f, fc)\n logits = Div(two, l)", None),
        ("p = GlobalAveragePool(last)\n f = Flatten(p)\n r = Relu(f)\n logits = MatMul(r, fc)", None),
        ("p = GlobalAveragePool(last)\n f = Flatten(p)\n g = Mul(f, f)\n logits = MatMul(g, fc)", None),
        ("p = GlobalMaxPool(last)\n f = Flatten(p)\n logits = MatMul(f, fc)", None),
        ("p = AveragePool<kernel_shape=[2,2],strides=[2,2]>(last)\n f = GlobalMaxPool(p)\n g = Flatten(f)\n"
         "logits = MatMul(g, fc)", None),
        ('p = AveragePool<kernel_shape=[4,4],auto_pad="SAME_UPPER">(last)\n f = Flatten(p)\n'
         "logits = MatMul(f, flat)", None),
        ("p = ReduceMean<axes=[1],keepdims=1>(last)\n f = Flatten(p)\n logits = MatMul(f, flat1)", None),
        ("f = Flatten(last)\n logits = MatMul(f, flat)", None),
        ("p = GlobalAveragePool(last)\n f = Flatten(p)\n i = Cast<to=7>(f)\n g = Cast<to=1>(i)\n"
         "logits = MatMul(g, fc)", None),
        ("p = GlobalAveragePool(last)\n f = Flatten(p)\n l = MatMul(f, fc)\n m = ReduceMean<axes=[2,3]>(last)\n"
         "e = Flatten(m)\n k = MatMul(e, fc)\n logits = Add(l, k)", None),
    ],
)  # fmt: skip
def test_the_pooled_value_of_heads_that_are_linear(tail: str, expected: str | None) -> None:
    model = plain(tail + "\n y = Softmax(logits)\n}")
    for name, value in {"to": np.array([0, -1]), "two": np.array(2, np.float32), "flat1": normal(16, 5)}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    assert pooled(graph_of(model), "last") == expected


def test_the_pooled_value_of_channels_last_and_of_tokens() -> None:
    assert pooled(graph_of(channels_last()), "last") == "pooled"
    assert pooled(graph_of(vit("mean")), "normed") == "picked"
    assert pooled(graph_of(vit("mean")), "final") is None
    assert pooled_value(graph_of(channels_last()), "last", Layout("NCHW"), "logits") is None


@pytest.mark.parametrize(
    ("view", "features"),
    [("t = Transpose<perm=[0,2,3,1]>(last)", 4), ("r = Reshape(last, rows) t = Transpose<perm=[0,2,1]>(r)", 16)],
)
def test_a_global_pool_over_channels_is_no_mean_over_positions(view: str, features: int) -> None:
    """Of [N, H, W, C] and of [N, positions, C] a GlobalAveragePool averages the channels."""
    text = f"""(float[N,3,4,4] x) => (float[N,5] logits) {{ c = Conv<pads=[1,1,1,1]>(x, w) last = Relu(c) {view}
        p = GlobalAveragePool(t) f = Flatten(p) logits = MatMul(f, fc) }}"""
    weights = {"w": normal(16, 3, 3, 3), "fc": normal(features, 5), "rows": np.array([0, 16, 16])}
    graph = graph_of(net(text, weights))
    assert pooled(graph, "last") is None
    assert pooled(graph, "t") is None


def test_normalizing_with_the_batch_is_not_linear() -> None:
    text = """(float[N,3,4,4] x) => (float[N,5] logits) {
  last = Conv<pads=[1,1,1,1]>(x, w0)
  p = GlobalAveragePool(last)
  n, m, v = BatchNormalization<training_mode=1>(p, ones, ones, ones, ones)
  f = Flatten(n)
  logits = MatMul(f, fc)
}"""
    graph = graph_of(net(text, CONVS | {"ones": np.ones(4, np.float32)}))
    assert pooled(graph, "last") is None
