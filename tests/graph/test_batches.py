"""What batches of some sizes tell of the sizes that inference leaves open."""

from __future__ import annotations

import numpy as np
import pytest

from onnxcam import differentiate
from onnxcam.graph import inference
from tests.graph.building import graph_of
from tests.nets import net

SIZES = {"first": np.array([0]), "last": np.array([3]), "half": np.array([2]), "rest": np.array([-1])}


def test_sizes_behind_arithmetic_on_sizes_are_told_by_what_batches_make_of_them() -> None:
    text = """(float[batch,3,8,8] x) => (float[batch,4,48] y) {
        s = Shape(x) n = Gather(s, first) w = Gather(s, last) v = Div(w, half) to = Concat<axis=0>(n, v, half, rest)
        folded = Reshape(x, to) again = Shape(folded) m = Gather(again, first) flat = Concat<axis=0>(m, v, rest)
        y = Reshape(folded, flat) }"""
    graph = graph_of(net(text, SIZES))
    assert graph.shape("folded") == ("batch", 4, 2, 24)
    assert graph.shape("y") == ("batch", 4, 48)


def test_windows_of_a_batch_are_so_many_times_the_batch() -> None:
    """Four windows an image, cut out of sizes that the graph works out: no gradient asks how long such axes are."""
    text = """(float[batch,8,8,3] x) => (float[batch,8,8,3] y) {
        s = Shape(x) n = Gather(s, first) k = Concat<axis=0>(n, cut) c = Reshape(x, k)
        t = Transpose<perm=[0, 1, 3, 2, 4, 5]>(c) w = Reshape(t, windows)
        o = Neg(t) v = Reshape(o, windows) b = Mul(w, v) y = Reshape(b, back) }"""
    weights = {"cut": np.array([2, 4, 2, 4, 3]), "windows": np.array([-1, 16, 3]), "back": np.array([-1, 8, 8, 3])}
    model = net(text, SIZES | weights)
    assert graph_of(model).shape("b") == ("4*batch", 16, 3)
    added = differentiate(model, of="y", wrt="x").model.graph.node[len(model.graph.node) :]
    assert {node.op_type for node in added} == {"Mul", "Neg", "Reshape", "Transpose", "Add", "Identity"}


def test_batches_tell_what_onnxruntime_alone_knows() -> None:
    """It loses the batch at the first Reshape, which cannot be told from the other size without trying."""
    text = """(float[batch,3,8,8] x) => (float[batch,4,48] y) {
        a = com.microsoft.FastGelu(x) s = Shape(a) n = Gather(s, first) w = Gather(s, last) v = Div(w, half)
        to = Concat<axis=0>(n, v, half, rest) folded = Reshape(a, to) b = com.microsoft.FastGelu(folded)
        again = Shape(b) m = Gather(again, first) flat = Concat<axis=0>(m, v, rest) y = Reshape(b, flat) }"""
    graph = graph_of(net(text, SIZES))
    assert graph.shape("b") == ("batch", 4, 2, 24)
    assert graph.shape("y") == ("batch", 4, 48)


@pytest.mark.parametrize("signature", ["float[batch,3] x, int64[2] to", "float[batch,3] x, float[K,3] other"])
def test_a_batch_of_one_may_be_broadcast(signature: str) -> None:
    body = "y = Expand(x, to)" if "to" in signature else "y = Add(x, other)"
    graph = graph_of(net(f"({signature}) => (float[A,B] y) {{ {body} }}"))
    assert (graph.shape("y") or ("",))[0] != "batch"


def test_batches_are_tried_of_one_free_size_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each trial would try those of the next: 3^n inferences."""
    made = []
    init = inference.Inference.__init__
    monkeypatch.setattr(
        inference.Inference,
        "__init__",
        lambda self, *given, **named: [made.append(self), init(self, *given, **named)][1],
    )
    inputs = ", ".join(f"float[N{i},3] x{i}" for i in range(4))
    graph = graph_of(net(f"({inputs}, int64[2] to) => (float[A,B] y) {{ y = Reshape(x0, to) }}"))
    assert (graph.shape("y") is not None, len(made)) == (True, 4)


def test_a_model_for_batches_of_two_alone() -> None:
    text = """(float[batch,4] x) => (float[A,B] y) {
        a = Reshape(x, four) s = Shape(a) t = Mul(s, ones) b = Reshape(a, t) y = Add(b, eight) }"""
    weights = {"four": np.array([4, 2]), "ones": np.array([1, 1]), "eight": np.ones((4, 2), np.float32)}
    assert graph_of(net(text, weights)).shape("y") == (4, 2)
