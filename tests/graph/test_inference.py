"""Which values that no input moves are worked out while a graph is read, and which are not."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxcam.errors import ModelError
from onnxcam.graph import inference
from onnxcam.graph.types import ValueType
from onnxcam.runtime import oracle
from tests.graph.building import graph_of
from tests.nets import net, run

WEIGHTS = {
    "thousands": np.array(3000), "zero": np.array(0), "one": np.array(1), "ones": np.array([1]), "ten": np.array(10),
    "yes": np.array(True), "half": np.float32(0.5), "w": np.ones((4, 2), np.float32), "bits": np.array([1, 0, 1, 1]),
    "many": np.ones(2000, np.int64),
}  # fmt: skip
STRANGE = {
    "a loop": "c = Loop(ten, yes, one)<body = body (int64 i, bool go, int64 b) => (bool on, int64 d)"
    "{ on = Identity(go) d = Add(b, b) }>",
    "a branch": "c = If(yes)<then_branch = then () => (float[4] a) { a = RandomNormal<shape=[4]>() },"
    " else_branch = other () => (float[4] b) { b = RandomNormal<shape=[4]>() }>",
    "elements dropped": "c = Dropout(w, half, yes)",
    "a range too long": "n = Mul(thousands, thousands) c = Range(zero, n, one)",
    "a tiling too long": "n = Mul(thousands, thousands) a = Reshape(n, ones) c = Tile(ones, a)",
    "sizes multiplied": "a = NonZero(many) b = Transpose(a) c = Add(a, b)",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(STRANGE))
def test_what_may_be_endless_or_drawn_or_large_is_not_worked_out(name: str) -> None:
    """9,000,000 elements that somebody else's model asks for; a loop of ten rounds might be one of 2^62."""
    tail = "f = CastLike(c, x) r = ReduceSum<keepdims=0>(f) y = Mul(x, r)"
    graph = graph_of(net(f"(float[N,4] x) => (float[N,4] y) {{ {STRANGE[name]} {tail} }}", WEIGHTS))
    assert "c" not in graph.small_constants


def test_constants_of_unknown_size_are_worked_out_step_by_step() -> None:
    """The range is as long as the number of ones, which no inference tells: 3."""
    text = """(float[N,4] x) => (float[N,4] y) {
        a = NonZero(bits) b = Shape(a) n = ReduceMax<keepdims=0>(b) c = Range(zero, n, one)
        d = Unique(c) f = Cast<to=1>(d) r = ReduceSum<keepdims=0>(f) y = Mul(x, r) }"""
    graph = graph_of(net(text, WEIGHTS))
    np.testing.assert_array_equal(graph.small_constants["a"], [[0, 2, 3]])
    np.testing.assert_array_equal(graph.small_constants["c"], [0, 1, 2])
    assert graph.small_constants["r"] == 3


@pytest.mark.parametrize("kind", [TensorProto.BFLOAT16, TensorProto.FLOAT8E4M3FN, TensorProto.INT4])
def test_constants_that_numpy_does_not_have_are_not_worked_out(kind: int) -> None:
    """ONNX Runtime hands them over as bytes, or not at all."""
    text = f"(float[N,4] x) => (float[N,4] y) {{ a = Cast<to={kind}>(c) b = Cast<to=1>(a) y = Mul(x, b) }}"
    graph = graph_of(net(text, {"c": np.array([1, 2, 3, 4], np.float32)}, opset=21, ir=10))
    assert graph.type("a") == ValueType(kind, (4,))
    assert "a" not in graph.small_constants


def test_rounds_of_inference_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each Mod takes a round, for its numbers are no sizes to onnx; twelve of them are more than ten rounds."""
    step = "s{i} = Shape(x{i}) m{i} = Mod(s{i}, many4) x{j} = Reshape(x{i}, m{i})"
    steps = " ".join(step.format(i=i, j=i + 1) for i in range(12))
    model = net(
        f"(float[1,3,4,4] x) => (float[1,K] y) {{ x0 = Neg(x) {steps} y = Flatten(x12) }}",
        {"many4": np.full(4, 1000, np.int64)},
    )
    assert graph_of(model).shape("x12") == (1, 3, 4, 4)
    monkeypatch.setattr(inference, "MOST_INFERRED", 1)
    with pytest.raises(ModelError, match="not settled after 10 rounds"):
        _ = graph_of(model).types


def test_crops_of_a_region_each_have_a_rank() -> None:
    """Which ONNX Runtime's own operator does not tell; a mean over their pixels asks for it."""
    text = """(float[N, 3, 8, 8] x, float[R, 4] rois, int32[R] which) => (float[a, b] y) {
  t = com.microsoft.CropAndResize(x, rois, which, size)
  y = ReduceMean<axes = [2, 3], keepdims = 0>(t)
}"""
    graph = graph_of(net(text, {"size": np.array([2, 2], np.int32)}))
    assert (graph.shape("t") or ())[:2] == ("R", 3)
    assert (graph.rank("t"), graph.shape("y")) == (4, ("R", 3))


def test_keys_and_values_that_an_attention_gives_out_have_a_rank() -> None:
    """Without a past neither onnx nor ONNX Runtime tells, and what reads them would not be known either."""
    text = """(float[N, 3, 4] x) => (float[N, 3, 4] y, float[] k) {
  y, both = com.microsoft.Attention<num_heads = 2>(x, qkv, bias)
  k = Gather<axis = 0>(both, zero)
}"""
    graph = graph_of(net(text, {**WEIGHTS, "qkv": np.ones((4, 12), np.float32), "bias": np.ones(12, np.float32)}))
    assert (graph.rank("both"), graph.rank("k")) == (5, 4)


def test_lengths_that_are_padded_to_a_size_are_no_constants() -> None:
    """Short batches are alike there: 128 for 1, for 61 and for 127."""
    pad = "n = Shape<start = 0, end = 1>(x) m = Add(n, most) d = Div(m, step) p = Mul(d, step) r = Sub(p, n) "
    pads = "z = Concat<axis = 0>(o, o, r, o) l = Pad(x, z) q = Shape<start = 0, end = 1>(l) "
    weights = {"most": np.array([127]), "step": np.array([128]), "o": np.array([0])}
    graph = graph_of(net(f"(float[T,4] x) => (float[] l, int64[1] q) {{ {pad}{pads} }}", weights))
    assert not isinstance((graph.shape("l") or (0,))[0], int)
    assert "q" not in graph.small_constants


def test_an_lstm_of_quantized_weights_keeps_steps_and_rows() -> None:
    """onnx does not know the operator, and ONNX Runtime is asked too late for what computes with its shape."""
    weights = {"w": np.zeros((1, 4, 8), np.int8), "r": np.zeros((1, 2, 8), np.int8), "s": np.ones(1, np.float32),
               "z": np.zeros(1, np.int8)}  # fmt: skip
    body = "q, h, c = com.microsoft.DynamicQuantizeLSTM<hidden_size = 2>(x, w, r, , , , , , s, z, s, z) y = Squeeze(q)"
    graph = graph_of(net(f"(float[T, N, 4] x) => (float[] y) {{ {body} }}", weights))
    assert graph.shape("q") == ("T", 1, "N", 2)
    assert graph.shape("h") == graph.shape("c") == (1, "N", 2)


GELU = "a = com.microsoft.FastGelu(x)"


def test_onnxruntime_is_asked_for_more_than_the_rank_that_a_reader_tells() -> None:
    """That the Conv takes four axes says nothing of their sizes, nor does onnx, which knows no Gelu before the Cast."""
    text = f"(float[N,8,6,6] x) => (float[] y) {{ {GELU} d = Cast<to = 1>(a) y = Conv(d, w) }}"
    graph = graph_of(net(text, {"w": np.ones((8, 8, 3, 3), np.float32)}))
    assert [graph.shape(name) for name in "ady"] == [("N", 8, 6, 6), ("N", 8, 6, 6), ("N", 8, 4, 4)]


def test_onnx_and_onnxruntime_tell_each_other_in_turn() -> None:
    """ONNX Runtime alone knows a and y, constants what the Reshape between them makes."""
    text = f"""(float[2,8,6] x) => (float[] y) {{
        {GELU} s = Shape(a) t = Div(s, parts) r = Reshape(a, t) y = com.microsoft.FastGelu(r) }}"""
    graph = graph_of(net(text, {"parts": np.array([2, 1, -6])}))
    assert [graph.shape(name) for name in "ary"] == [(2, 8, 6), (1, 8, 12), (1, 8, 12)]


def test_onnxruntime_is_not_believed_where_it_computes_another_size_than_it_infers() -> None:
    """A transposed convolution with SAME padding makes 8 of 4, whatever padding of its output it asks for."""
    up = 't = ConvTranspose<strides = [2,2], output_padding = [1,1], auto_pad = "SAME_UPPER">(a, w)'
    model = net(
        f"(float[N,3,4,4] x) => (float[] y) {{ {GELU} {up} y = com.microsoft.FastGelu(t) }}",
        {"w": np.ones((3, 8, 2, 2), np.float32)},
    )
    assert [graph_of(model).shape(name) for name in "ty"] == [("N", 8, 8, 8), ("N", 8, 8, 8)]
    assert run(model, {"x": np.ones((2, 3, 4, 4), np.float32)})["y"].shape == (2, 8, 8, 8)


def test_a_pool_is_spelled_otherwise_where_its_input_is_told_late() -> None:
    pool = "p = MaxPool<kernel_shape = [1,1], strides = [2,2], ceil_mode = 1>(a)"
    graph = graph_of(net(f"(float[N,8,6,6] x) => (float[] y) {{ {GELU} {pool} y = Relu(p) }}"))
    assert {attribute.name for node in graph.nodes for attribute in node.attribute}.isdisjoint(["ceil_mode"])


@pytest.mark.parametrize("kind", [TensorProto.INT16, TensorProto.UINT16, TensorProto.INT4, TensorProto.UINT8])
def test_quantizers_of_onnxruntime_keep_shapes(kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to be asked for them, nor for the sizes of what they give."""
    monkeypatch.setattr(oracle, "value_types", None)
    text = """(float16[N,8,6] x) => (float16[] y) {
        q = com.microsoft.QuantizeLinear(x, s, z) d = com.microsoft.DequantizeLinear(q, s, z) n = Shape(d)
        e = com.microsoft.QuantizeLinear(x, s) y = Reshape(d, n) }"""
    model = net(text, {"s": np.float16(0.5)})
    model.graph.initializer.append(helper.make_tensor("z", kind, [], [0]))
    graph = graph_of(model)
    assert graph.type("q") == ValueType(kind, ("N", 8, 6))
    assert graph.type("e") == ValueType(TensorProto.UINT8, ("N", 8, 6))
    assert graph.type("d") == graph.type("y") == ValueType(TensorProto.FLOAT16, ("N", 8, 6))
