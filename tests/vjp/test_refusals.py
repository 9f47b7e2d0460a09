"""What a rule does not cover is refused, and the line says which node and why."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxcam.errors import UnsupportedOpError
from onnxcam.vjp import differentiate
from tests.nets import net
from tests.nets import normal as normal_array
from tests.vjp.case import Case, case, fed, held, index, ints, normal, positive, values
from tests.vjp.harness import build, draw

CROP = held(values([0.1, 0, 0.9, 1]))
VECTOR, ROI = held(normal(3)), held(values([0, 0, 0, 0, 1, 1, 1, 1]))
REFUSED = [
    ("its ratio depends", case("Dropout", normal(2, 3), values(0.5), index(True, bool), outputs=2)),
    ("its slope is larger than its input", case("PRelu", normal(3), normal(2, 3))),
    ("its slope is larger than its input", case("PRelu", normal(2, 1), normal(3))),
    ("SAME padding is negative", case("AveragePool", normal(1, 1, 9, 9), kernel_shape=[1, 1], strides=[3, 3],
                                      auto_pad="SAME_UPPER")),
    ("SAME padding is negative", case("AveragePool", normal(1, 1, 3), kernel_shape=[2], strides=[3], dilations=[2],
                                      auto_pad="SAME_UPPER", opset=19)),
    ("SAME padding is negative", case("AveragePool", normal(1, 1, "W"), kernel_shape=[2], strides=[3], dilations=[2],
                                      auto_pad="SAME_UPPER", opset=19)),
    ("SAME padding is negative", case("Conv", normal(1, 1, "H", "W"), held(normal(1, 1, 1, 1)), strides=[3, 1],
                                      auto_pad="SAME_LOWER")),
    ("its axis 3 is none of 2", case("LayerNormalization", normal(2, 3), held(normal(3)), axis=3, opset=17)),
    ("its mode 'none' is none of", case("GridSample", normal(1, 1, 3, 3), held(normal(1, 2, 2, 2)), mode="none")),
    ("its images have 4 axes", case("GridSample", normal(*[1] * 6), held(normal(1, 1, 1, 1, 1, 4)), opset=20)),
    ("its kernel is [3]", case("DeformConv", normal(1, 1, 5), held(normal(1, 1, 3)), normal(1, 6, 3), opset=19)),
    ("its offset groups are 0", case("DeformConv", normal(1, 1, 5, 5), held(normal(1, 1, 3, 3)), normal(1, 18, 3, 3),
                                     offset_group=0, opset=19)),
    ("half a spectrum", case("DFT", normal(2, 5, 2), index(7), inverse=1, onesided=1)),
    ("half a spectrum", case("DFT", normal(2, 5, 2), fed(index(8)), inverse=1, onesided=1)),
    ("half a spectrum", case("DFT", normal(2, 5, 2), index(9), fed(index(1)), opset=20, onesided=1, inverse=1)),
    ("takes their maximum", case("RoiAlign", normal(1, 1, 3, 3), positive(1, 4), index([0]), mode="max")),
    ("asks for -1 bins", case("RoiAlign", normal(1, 1, 3, 3), positive(1, 4), index([0]), output_height=-1)),
    ("asks for 1099511627776 bins", case("MaxRoiPool", normal(1, 1, 3, 3), held(normal(1, 5)),
                                         pooled_shape=[1, 2**40])),
    ("its window is", case("LpPool", normal(1, 1, 4, 4), kernel_shape=[2**40, 2**40], auto_pad="SAME_UPPER", opset=18)),
    ("no axes to normalize over", case("InstanceNormalization", normal(2, 3), held(normal(3)), held(normal(3)))),
    ("the size of its matrices", case("Det", normal("N", "N"))),
    ("the aspect ratio of a region", case("Resize", normal(1, 1, 3, 5), CROP, None, ints(6, 6), opset=18, axes=[2, 3],
                                          coordinate_transformation_mode="tf_crop_and_resize",
                                          keep_aspect_ratio_policy="not_larger")),
    ("one query with a past", case("Attention", normal(1, 1, 1, 2), *[normal(1, 1, 3, 2)] * 2, None,
                                   *[normal(1, 1, 1, 2)] * 2, opset=23, outputs=3, is_causal=1)),
    ("with respect to a value downstream of it", case("Unique", normal(3, 3))),
]  # fmt: skip


@pytest.mark.parametrize(("why", "row"), REFUSED, ids=[f"{row.op}: {why}" for why, row in REFUSED])
def test_refused(why: str, row: Case) -> None:
    model = build(row, draw(row, 0))
    wrt = [f"x{i}" for i, arg in enumerate(row.args) if arg and arg.role == "wrt"]
    with pytest.raises(UnsupportedOpError) as caught:
        differentiate(model, of=f"y{row.of}", wrt=wrt)
    assert why in str(caught.value)
    assert (caught.value.op, caught.value.node, caught.value.opset) == (row.op, "node", row.opset)
    assert "\n" not in str(caught.value)


def test_what_does_not_depend_on_wrt_needs_no_rule() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[3, 3] x, float[3] z) => (float[3] y) {
        u = Unique(x) d = ReduceSum(u) y = Mul(d, z) }"""
    model = onnx.parser.parse_model(text)
    assert list(differentiate(model, of="y", wrt="z").gradients) == ["z"]
    with pytest.raises(UnsupportedOpError, match="no gradient for Unique"):
        differentiate(model, of="y", wrt="x")


HIDDEN = [
    ("QuantizeLinear", "float[1, 2] s = {1, 2}, int8[1, 2] z = {0, 0}",
     "q = QuantizeLinear<block_size = 2, axis = 0>(x, s, z) y = DequantizeLinear<block_size = 2, axis = 0>(q, s, z)"),
    ("SequenceAt", "float k = {1}",
     "t = SequenceConstruct(x, x) m = ReduceMax<keepdims = 0>(x) i = Cast<to = 7>(m) "
     "c = SequenceAt(t, i) y = Mul(c, k)"),
    ("QuantizeLinear", "int8 z = {0}, float s = {1}",
     "a = ReduceMax<keepdims = 0>(x) q = QuantizeLinear(x, a, z) y = DequantizeLinear(q, s, z)"),
    ("Resize", "float[2, 2] k = {1, 2, 3, 4}, int64[1] i = {-1}",
     "f = Reshape(x, i) s, t = Split<num_outputs = 2>(f) y = Resize(k, , s)"),
    ("Unique", "float k = {1}", "u, i = Unique(x) y = Mul(u, k)"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "weights", "body"), HIDDEN)
def test_no_zeros_in_silence(op: str, weights: str, body: str) -> None:
    """In integers and sequences a gradient could get lost, and look like zero."""
    head = '<ir_version: 10, opset_import: ["" : 21]>'
    model = onnx.parser.parse_model(f"{head} g (float[2, 2] x) => (float[] y) <{weights}> {{ {body} }}")
    with pytest.raises(UnsupportedOpError, match=f"no gradient for {op}"):
        differentiate(model, of="y", wrt="x")


def test_bits_there_and_back_are_no_zeros() -> None:
    """The identity, by way of integers that no small change of x leaves alone."""
    head = '<ir_version: 13, opset_import: ["" : 26]>'
    body = "b = BitCast<to = 6>(x) y = BitCast<to = 1>(b)"
    model = onnx.parser.parse_model(f"{head} g (float[2] x) => (float[2] y) {{ {body} }}")
    with pytest.raises(UnsupportedOpError, match="no gradient for BitCast"):
        differentiate(model, of="y", wrt="x")


ODD = {
    "Clip": ("y = Clip(x, none, one)", "its input 1 is no single number, but 0"),
    "Pad": ("y = Pad(x, pads, , axis)", "it has 4 numbers of padding for 0 axes"),
    "Resize": ("y = Resize(x, , scales)", "it says how large 2 axes become, not 2"),
}


@pytest.mark.parametrize("op", ODD)
def test_constants_that_make_no_sense(op: str) -> None:
    """As a damaged file has them: ONNX Runtime refuses the model, but only when it runs."""
    body, why = ODD[op]
    weights = {
        "none": np.zeros(0, np.float32), "one": np.float32(1), "pads": np.array([1] * 4), "axis": np.zeros(0, np.int64),
        "scales": np.ones((2, 1), np.float32),
    }  # fmt: skip
    model = net(f"(float[2, 2] x) => (float[a, b] y) {{ {body} }}", weights, opset=18)
    with pytest.raises(UnsupportedOpError, match=why):
        differentiate(model, of="y", wrt="x")


def test_an_operator_out_of_scope_says_why() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[3] x) => (float[] y) { u = Unique(x) y = Exp(u) }"""
    why = "the number of its outputs' elements depends on the input"
    with pytest.raises(UnsupportedOpError, match=why):
        differentiate(onnx.parser.parse_model(text), of="y", wrt="x")


UNLIKE = {  # operators that ONNX Runtime computes otherwise than they say
    "FusedMatMul": ("com.microsoft.FusedMatMul<transA = 1>(x, v)", "a matrix in front of a vector"),
    "MatMulNBits": (
        "com.microsoft.MatMulNBits<bits = 2, K = 16, N = 1, block_size = 16>(x, packed, one, , order)", "kernels do",
    ),
    "MultiHeadAttention": (
        "com.microsoft.MultiHeadAttention<num_heads = 1>(t, t, t, , , , past, past)", "without which ONNX Runtime reads"
    ),
}  # fmt: skip


@pytest.mark.parametrize("op", UNLIKE)
def test_what_onnxruntime_computes_otherwise_is_refused(op: str) -> None:
    body, why = UNLIKE[op]
    weights = {
        "v": normal_array(3), "packed": np.zeros((1, 1, 4), np.uint8), "one": np.ones(1, np.float32),
        "order": np.arange(16, dtype=np.int32) // 16, "past": normal_array(1, 1, 2, 16),
    }  # fmt: skip
    model = net(f"(float[3, 16] x) => (float[] y) {{ t = Unsqueeze(x, o) y = {body} }}", weights | {"o": np.array([0])})
    with pytest.raises(UnsupportedOpError, match=why):
        differentiate(model, of="y", wrt="x")
