"""What batches of some sizes tell of the sizes that inference leaves open."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxcam import differentiate
from onnxcam.graph import inference
from onnxcam.graph.types import ValueType
from tests.graph.building import graph_of
from tests.nets import net, normal, run

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


def test_batches_are_smaller_where_all_pixels_are_one_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    """onnx's inference writes out every element of a vector: 38 million here for a batch of 4,093."""
    seen = list[int]()
    infer = inference.inferred_types

    def watched(proto: onnx.ModelProto) -> dict[str, ValueType]:
        found = infer(proto)
        seen.extend(size for value in found.values() for size in (value.shape or ()) if isinstance(size, int))
        return found

    monkeypatch.setattr(inference, "inferred_types", watched)
    text = """(float[batch,3,56,56] x) => (float[batch,9408] y) {
        s = Shape(x) n = Gather(s, first) flat = Reshape(x, rest) double = Add(flat, flat)
        back = Concat<axis=0>(n, rest) y = Reshape(double, back) }"""
    graph = graph_of(net(text, SIZES))
    assert (graph.shape("double"), graph.shape("y")) == (("9408*batch",), ("batch", 9408))
    assert 9408 * 38 < max(seen) <= 2**20


def test_a_long_vector_that_does_not_grow_leaves_large_batches() -> None:
    """Rows cut off at 300 are no batch, however many numbers a bias has."""
    text = """(float[N,4] x) => (float[M,600] y) {
        a = MatMul(x, wide) b = Add(a, bias) c = Slice(b, first, far) y = Relu(c) }"""
    weights = {"wide": normal(4, 600), "bias": normal(600), "first": np.array([0]), "far": np.array([300])}
    shape = graph_of(net(text, weights)).shape("y")
    assert shape is not None
    assert shape[0] != "N"


def test_a_model_for_batches_of_two_alone() -> None:
    text = """(float[batch,4] x) => (float[A,B] y) {
        a = Reshape(x, four) s = Shape(a) t = Mul(s, ones) b = Reshape(a, t) y = Add(b, eight) }"""
    weights = {"four": np.array([4, 2]), "ones": np.array([1, 1]), "eight": np.ones((4, 2), np.float32)}
    assert graph_of(net(text, weights)).shape("y") == (4, 2)


CODED = {
    "w": normal(4, 4, 3, seed=1), "v": normal(4, 4, 2, seed=2), "front": np.array([0]), "two": np.array([2]),
    "one": np.array([1]), "four": np.array([4]), "rest": np.array([-1]), "many": np.array([300]),
}  # fmt: skip
DOUBLED = """t = Transpose<perm=[1, 0]>(x) u = Unsqueeze(t, front) uu = Concat<axis=2>(u, u) s = Shape(uu)
    c = Conv<strides=[2], kernel_shape=[3], pads=[1, 1]>(u, w) e = Tanh(c)
    d = ConvTranspose<strides=[4], kernel_shape=[2]>(e, v) y = Resize<mode="linear">(d, , , s)"""
REFOLDED = """s = Shape(x) n = Gather(s, front) m = Mod(n, two) a = Mul(n, m) b = Sub(one, m) k = Add(a, b)
    to = Concat<axis=0>(k, rest, four) r = Reshape(x, to) y = ReduceMean<axes=[1], keepdims=0>(r)"""
LIMITED = """s = Shape(x) n = Gather(s, front) k = Mul(n, two) over = Greater(n, many) r = Where(over, one, k)
    m = ReduceMean<axes=[0], keepdims=1>(x) to = Concat<axis=0>(r, four) e = Expand(m, to) xx = Concat<axis=0>(x, x)
    y = Mul(e, xx)"""


@pytest.mark.parametrize("text", [DOUBLED, DOUBLED.replace("uu = Concat<axis=2>(u, u)", "uu = Identity(u)"), REFOLDED])
@pytest.mark.parametrize("size", [7, 8])
def test_what_holds_for_odd_sizes_is_not_believed_of_all(text: str, size: int) -> None:
    """A decoder that comes to 2 T for odd T and to 2 T - 2 for even, in front of a resize to 2 T."""
    check_free_as_fixed(text, size, "x")


@pytest.mark.parametrize("size", [300, 301])
def test_what_holds_for_few_rows_is_not_believed_of_many(size: int) -> None:
    check_free_as_fixed(LIMITED, size, "e")


def check_free_as_fixed(text: str, size: int, wrt: str) -> None:
    """The gradient of a model of a free size is that of the same model of this size."""
    x, found = normal(size, 4), []
    for first in ("T", size):
        model = net(f"(float[{first},4] x) => (float[A,B] y) {{ {text} }}", CODED)
        model.graph.output[0].type.tensor_type.ClearField("shape")
        made = differentiate(model, of="y", wrt=wrt)
        seed = normal(*run(model, {"x": x})["y"].shape, seed=3)
        found.append(run(made.model, {"x": x, made.seed: seed})[made.gradients[wrt]])
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def test_a_multiple_is_not_confused_with_a_symbol_of_the_model() -> None:
    text = """(float[N,4] x, float[M,2] z) => (float[A,B] y) {
        s = Shape(x) n = Gather(s, front) k = Mul(n, two) to = Concat<axis=0>(k, two) r = Reshape(x, to)
        y = Mul(r, z) }"""
    model = net(text, CODED)
    assert graph_of(model).shape("r") == ("2*N", 2)
    model.graph.input[1].type.tensor_type.shape.dim[0].dim_param = "2*N"
    graph = graph_of(model)
    assert graph.shape("r") != graph.shape("z")
