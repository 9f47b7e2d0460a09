"""Integers are compared as what they stand for would be."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxcam.graph import load, read_graph
from onnxcam.vjp import differentiate
from onnxcam.vjp.comparing import integer_bound
from onnxcam.vjp.emitter import Emitter
from tests.nets import Array, net, normal, run

SCALE = np.array(0.0235, np.float32)
READING = helper.make_node("DequantizeLinear", ["q", "s", "z"], ["x"])
KINDS = {np.uint8: TensorProto.UINT8, np.int8: TensorProto.INT8, np.int16: TensorProto.INT16}


@pytest.mark.parametrize("op_type", ["Greater", "Less"])
@pytest.mark.parametrize("bound", [-0.5, 0.0, 0.0117, 0.0235, 1.0, 2.5])
@pytest.mark.parametrize(("kind", "point"), [(np.uint8, 0), (np.uint8, 114), (np.int8, -7), (np.int16, 3)])
def test_every_integer(kind: type[np.integer], point: int, bound: float, op_type: str) -> None:
    constants: dict[str, Array] = {"s": SCALE, "z": np.array(point, kind)}
    found = integer_bound(op_type, READING, KINDS[kind], float(np.float32(bound)), constants.get)
    every = np.arange(np.iinfo(kind).min, np.iinfo(kind).max + 1)
    numbers = (every - point).astype(np.float32) * SCALE
    test = np.greater if op_type == "Greater" else np.less
    expected = test(numbers, np.float32(bound))
    if found is None:
        assert expected.all()
    else:
        assert found.dtype == kind
        np.testing.assert_array_equal(test(every, int(found)), expected)


@pytest.mark.parametrize(
    ("kind", "scale", "point"),
    [
        (TensorProto.UINT8, np.array([0.1, 0.2], np.float32), np.array([1, 2], np.uint8)),
        (TensorProto.UINT8, None, np.array(1, np.uint8)),
        (TensorProto.UINT8, SCALE, None),
        (TensorProto.INT4, SCALE, np.array(0, np.int8)),
        (TensorProto.UINT8, np.array(0.1, np.float16), np.array(1, np.uint8)),
    ],
    ids=["a scale per channel", "unknown scale", "unknown point", "4 bits", "half precision"],
)
def test_what_one_integer_does_not_say(kind: int, scale: Array | None, point: Array | None) -> None:
    constants = {"s": scale, "z": point}
    assert integer_bound("Greater", READING, kind, 0.0, constants.get) is None


def test_tests_that_are_there_already_are_not_written_again() -> None:
    g = Emitter(read_graph(load(net("(float[2] x) => (float[2] y) { y = Relu(x) }", {}))))
    zero, one = g.const(0, np.float32), g.const(1, np.float32)
    low, high = g.op("Greater", "x", zero), g.op("Less", "x", one)
    both = g.op("And", low, high)
    assert g.op("And", both, low) == g.op("And", high, both) == both
    inner = g.op("Where", both, "y", zero)
    assert g.op("Where", low, inner, zero) == inner
    assert g.op("Where", high, g.op("Where", low, "y", zero), zero) == g.op("Where", both, "y", zero)
    assert g.op("Where", low, g.op("Where", high, "y", one), zero) != inner


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_a_quantized_rectifier_s_mask_reads_no_floats(kind: type[np.integer]) -> None:
    """Relu6 and the quantizer behind it make one mask, of the integers alone."""
    text = """(float[1, 3, 8, 8] x) => (float[1, 4, 6, 6] y) { c = Conv(x, w) r = Clip(c, zero, six)
      q = QuantizeLinear(r, s, z) d = DequantizeLinear(q, s, z) y = Mul(d, d) }"""
    least = np.iinfo(kind).min
    weights = {
        "w": normal(4, 3, 3, 3), "zero": np.array(0, np.float32), "six": np.array(6, np.float32),
        "s": np.array(6.5 / 255, np.float32), "z": np.array(least, kind),
    }  # fmt: skip
    found = differentiate(net(text, weights), of="y", wrt="x")
    ours = [node.op_type for node in found.model.graph.node if node.name.startswith("onnxcam/")]
    assert "DequantizeLinear" not in ours
    assert ours.count("Where") == 1
    x = 2 * normal(1, 3, 8, 8)
    values = run(found.model, {"x": x, found.seed: np.ones((1, 4, 6, 6), np.float32)})
    inside = (values["y"] > 0) & (values["y"] < 35.9)
    slope = np.where(inside, 2 * np.sqrt(values["y"]), 0)
    linear = differentiate(
        net("(float[1, 3, 8, 8] x) => (float[1, 4, 6, 6] y) { y = Conv(x, w) }", weights), of="y", wrt="x"
    )
    expected = run(linear.model, {"x": x, linear.seed: slope})[linear.gradients["x"]]
    np.testing.assert_allclose(values[found.gradients["x"]], expected, rtol=1e-4, atol=1e-4)
