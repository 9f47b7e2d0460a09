"""Every adapter against ONNX Runtime on the old node; against NumPy where ONNX Runtime has no kernel for that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxcam.graph.upgrade import upgrade
from tests.graph.upgrading import RNG, Array, assert_same, f32, floats, ints, model_of, run, upgraded

X, IMAGE, MATRIX = floats(2, 3, 4), floats(2, 3, 4, 5), floats(3, 4)


class Case(NamedTuple):
    op: str
    opset: int
    data: Array  # fed
    constants: Sequence[Array] = ()
    attributes: Mapping[str, Any] = {}
    outputs: int = 1

    def __str__(self) -> str:
        settings = ",".join(f"{k}={v}" for k, v in self.attributes.items())
        return f"{self.op}-{self.opset}({'x'.join(map(str, self.data.shape))};{settings})"


def case_model(case: Case, knowledge: str) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The node alone; `hidden` puts an operator before it that stops shape inference."""
    names = [f"c{i}" for i in range(len(case.constants))]
    outputs = [f"y{i}" for i in range(case.outputs)]
    source, nodes = "x", []
    if knowledge == "hidden":
        nodes = [helper.make_node("Gelu", ["x"], ["h"], domain="com.microsoft")]
        source = "h"
    nodes.append(helper.make_node(case.op, [source, *names], outputs, **case.attributes))
    constants = dict(zip(names, case.constants, strict=True))
    return model_of(nodes, {"x": case.data}, outputs, case.opset, constants, knowledge == "symbolic"), {"x": case.data}


# -- against ONNX Runtime -------------------------------------------------------------------------------

SOFTMAXES = [
    Case(op, opset, data, (), {} if axis is None else {"axis": axis})
    for op in ("Softmax", "LogSoftmax", "Hardmax")
    for opset in (7, 11)
    for data in (MATRIX, X, IMAGE, floats(2, 5, 1, 1), floats(1, 1, 1))
    for axis in (None, 0, 1, 2, -1)
    if (axis or 1) < data.ndim
]
UPSAMPLINGS = [
    Case(op, opset, IMAGE, constants, {"mode": mode, **attributes})
    for op, opset, constants, attributes in [
        ("Upsample", 7, [], {"scales": [1.0, 1.0, 2.0, 3.0]}),
        ("Upsample", 8, [], {"scales": [1.0, 1.0, 1.3, 2.7]}),
        ("Upsample", 9, [f32([1, 1, 1.7, 1.1])], {}),
        ("Resize", 10, [f32([1, 1, 2, 2])], {}),
        ("Resize", 10, [f32([1, 1, 1.3, 2.7])], {}),
        ("Resize", 10, [f32([1, 1, 0.6, 0.35])], {}),
        ("Resize", 10, [f32([1, 1, 0.6, 2.3])], {}),
    ]
    for mode in ("nearest", "linear")
]
CASES = [
    *SOFTMAXES,
    *UPSAMPLINGS,
    *(Case("Clip", opset, f32([-np.inf, -2, 0.5, 3, np.inf]), (), bounds)
      for opset in (6, 10) for bounds in ({}, {"min": 0.0}, {"max": 1.0}, {"min": -1.0, "max": 6.0})),
    *(Case("Clip", 10, X.astype(np.float16), (), {"min": low, "max": 0.3}) for low in (-0.1, -3.4028234663852886e38)),
    *(Case("Pad", opset, IMAGE, (), {"pads": [0, 0, 1, 2, 0, 0, 2, 1], **mode})
      for opset in (2, 10)
      for mode in ({}, {"value": -1.5}, {"mode": "reflect"}, {"mode": "edge"}, {"mode": "constant", "value": 0.5})),
    Case("Pad", 10, X, (), {"pads": [0, -1, 1, 0, 0, 0]}),
    Case("Pad", 10, X.astype(np.float64), (), {"pads": [0, 1, 1, 0, 0, 0], "value": 0.1}),
    *(Case(op, opset, IMAGE, (), attributes)
      for op, opset in (("ReduceSum", 1), ("ReduceSum", 12))
      for attributes in ({}, {"keepdims": 0}, {"axes": [1]}, {"axes": [2, 3], "keepdims": 0})),
    *(Case("Squeeze", opset, floats(1, 3, 1, 2), (), attributes)
      for opset in (1, 12) for attributes in ({}, {"axes": [0]}, {"axes": [0, 2]})),
    Case("Unsqueeze", 1, X, (), {"axes": [0, 3]}),
    Case("Unsqueeze", 12, X, (), {"axes": [-1]}),
    Case("Reshape", 1, X, (), {"shape": [0, -1]}),
    *(Case("Slice", opset, IMAGE, (), attributes)
      for opset in (1, 9)
      for attributes in (
          {"starts": [1], "ends": [2]}, {"starts": [0, 1], "ends": [9, -1]},
          {"starts": [-2], "ends": [2**31 - 1], "axes": [3]},
          {"starts": [-9, 1], "ends": [2, 3], "axes": [2, 1]},
      )),
    *(Case("Split", opset, floats(2, 6), (), {"axis": 1, **lengths}, outputs)
      for opset in (2, 12) for lengths, outputs in (({}, 3), ({"split": [1, 2, 3]}, 3), ({}, 2))),
    Case("Split", 12, floats(6, 2), (), {}, 2),
    *(Case("TopK", opset, f32([[1, 3, 3, 2, 3], [0, 0, 1, 5, 5]]), (), {"k": 3, **axis}, 2)
      for opset in (1, 9) for axis in ({}, {"axis": 1})),
    Case("Scatter", 9, floats(3, 4), (np.array([[0, 2], [1, 0]]), floats(2, 2)), {"axis": 1}),
    Case("Scatter", 10, floats(3, 4), (np.array([[0, 2, 1, 1]]), floats(1, 4))),
    *(Case("RoiAlign", opset, IMAGE, (f32([[0, 0, 3, 3], [1, 0.5, 4, 2.2]]), ints(0, 1)),
           {"output_height": 2, "output_width": 3, "spatial_scale": 0.8, "sampling_ratio": ratio})
      for opset in (10, 15) for ratio in (0, 2)),
    *(Case("BatchNormalization", opset, IMAGE, (floats(3), floats(3), floats(3), f32([0.5, 1, 2])), {"epsilon": 1e-3})
      for opset in (7, 9, 13)),
    Case("BatchNormalization", 7, IMAGE, (floats(3), floats(3), floats(3), f32([0.5, 1, 2])), {"spatial": 1}),
    *(Case("Dropout", opset, X, (), {"ratio": 0.7}, outputs) for opset in (7, 9, 10, 11) for outputs in (1, 2)),
    Case("Selu", 6, X),
    Case("ImageScaler", 9, IMAGE, (), {"scale": 0.5, "bias": [1.0, -2.0, 3.0]}),
    Case("ImageScaler", 7, IMAGE, (), {"bias": [1.0, -2.0, 3.0]}),
    Case("Affine", 9, X, (), {"alpha": 2.0, "beta": -3.0}),
    Case("Affine", 9, X),
    Case("Scale", 9, X, (), {"scale": 3.0}),
    Case("ParametricSoftplus", 9, X, (), {"alpha": 2.0, "beta": 0.5}),
    Case("ScaledTanh", 9, X, (), {"alpha": 2.0, "beta": 0.5}),
    *(Case("Crop", 9, IMAGE, (), attributes)
      for attributes in ({"border": [1, 0, 2, 1]}, {"border": [0] * 4}, {"border": [1, 1, 9, 9], "scale": [2, 3]})),
    Case("DynamicSlice", 9, IMAGE, (ints(1), ints(2))),
    Case("DynamicSlice", 9, IMAGE, (np.array([-3, 0], np.int32), np.array([-1, 2], np.int32))),
    Case("DynamicSlice", 9, IMAGE, (ints(1, 0), ints(3, 2), ints(3, 1))),
    *(Case("MeanVarianceNormalization", 8, data, (), {"across_channels": across, "normalize_variance": variance})
      for data in (IMAGE, X) for across in (0, 1) for variance in (0, 1)),
    Case("ThresholdedRelu", 9, X, (), {"alpha": 0.3}),
    # as written, though their schemas changed
    Case("OneHot", 9, ints(0, -1, 2, 5, -7), (np.array(3), f32([0, 1]))),
    Case("QuantizeLinear", 10, IMAGE, (f32(0.37), np.array(7, np.int8))),
    Case("ConvTranspose", 10, IMAGE, (floats(3, 2, 3, 3),), {"auto_pad": "SAME_UPPER", "strides": [2, 3]}),
    Case("ConvTranspose", 1, IMAGE, (floats(3, 2, 3, 3),), {"output_shape": [8, 11], "strides": [2, 2]}),
    Case("AveragePool", 7, IMAGE, (), {"kernel_shape": [3, 2], "auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    Case("MaxPool", 8, IMAGE, (), {"kernel_shape": [2, 2], "pads": [1, 0, 0, 1]}, 2),
    Case("NonMaxSuppression", 10, RNG.random((1, 9, 4)).astype(np.float32),
         (RNG.random((1, 2, 9)).astype(np.float32), ints(4), f32([0.3]), f32([0.2]))),
    Case("Resize", 11, IMAGE, (f32([]), f32([]), ints(2, 3, 6, 7)), {"mode": "cubic"}),
    Case("LayerNormalization", 11, X, (floats(4), floats(4)), {"axis": -1}),
]  # fmt: skip


KNOWLEDGE = [
    pytest.param(case, knowledge, id=f"{case}-{knowledge}")
    for case in CASES
    for knowledge in ("static", "symbolic", "hidden")
    if knowledge != "hidden" or case.data.dtype == np.float32  # what the operator that hides types takes
]


@pytest.mark.parametrize(("case", "knowledge"), KNOWLEDGE)
def test_same_values_as_the_old_node_in_onnx_runtime(case: Case, knowledge: str) -> None:
    old, feeds = case_model(case, knowledge)
    expected = run(old, feeds)
    if case.op == "LayerNormalization":  # no ONNX has it before 17: the checker knows it neither before nor after
        upgrade(old)
        assert_same(run(old, feeds), expected)
    else:
        assert_same(run(upgraded(old, expected), feeds), expected)


@pytest.mark.parametrize("scales", [[1, 1, 2, 3], [1, 1, 0.6, 0.35], [1, 1, 0.6, 2.3], [1, 1, 1, 1]], ids=str)
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_whose_scales_are_computed(mode: str, scales: list[float]) -> None:
    nodes = [helper.make_node("Identity", ["s"], ["t"]), helper.make_node("Resize", ["x", "t"], ["y"], mode=mode)]
    feeds = {"x": floats(1, 2, 5, 6), "s": f32(scales)}
    old = model_of(nodes, feeds, ["y"], 10)
    expected = run(old, feeds)
    assert_same(run(upgraded(old, expected), feeds), expected)


@pytest.mark.parametrize("opset", [7, 9, 13])
@pytest.mark.parametrize("read", [["y"], ["y", "mean", "var"]], ids=len)
def test_batch_norm_with_more_outputs_still_uses_the_statistics_of_the_batch(opset: int, read: list[str]) -> None:
    node = helper.make_node(
        "BatchNormalization", ["x", "s", "b", "m", "v"], ["y", "mean", "var", "m1", "v1"], momentum=0.8
    )
    values = {"s": floats(3), "b": floats(3), "m": floats(3), "v": f32([0.5, 1, 2])}
    old = model_of([node], {"x": IMAGE}, read, opset, values)
    expected = run(old, {"x": IMAGE})
    new = upgraded(old, expected)
    assert list(new.graph.node[-1].output) == ["y", "mean", "var"]
    assert_same(run(new, {"x": IMAGE}), expected)


def test_unread_outputs_of_dropout_are_dropped() -> None:
    old = model_of([helper.make_node("Dropout", ["x"], ["y", "mask"])], {"x": X}, ["y"], 9)
    new = upgraded(old, [X])
    assert [(node.op_type, list(node.output), list(node.attribute)) for node in new.graph.node] == [
        ("Dropout", ["y"], [])
    ]


# -- against NumPy: ONNX Runtime has no kernel for these ------------------------------------------------


def legacy(a: Array, b: Array, axis: int) -> Array:
    """B placed at `axis` of A."""
    return b.reshape(b.shape + (1,) * (a.ndim - axis - b.ndim))


BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Pow": np.power,
    "And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor,
    "Equal": np.equal, "Greater": np.greater, "Less": np.less,
}  # fmt: skip


def expect(node: onnx.NodeProto, opset: int, feeds: dict[str, Array], expected: Array) -> onnx.ModelProto:
    """Upgrades a node that ONNX Runtime cannot run and holds its first output against `expected`."""
    first = next(name for name in node.output if name)
    new = upgraded(model_of([node], feeds, [first], opset), [expected])
    (actual,) = run(new, feeds)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    return new


def operands(op: str, *shapes: tuple[int, ...]) -> list[Array]:
    if op in ("And", "Or", "Xor"):
        return [np.asarray(floats(*shape) > 0) for shape in shapes]
    if op == "Equal":
        return [np.asarray(RNG.integers(0, 2, shape)) for shape in shapes]
    return [np.asarray(np.abs(floats(*shape)) + 0.1, np.float32) for shape in shapes]


@pytest.mark.parametrize("opset", [1, 6])
@pytest.mark.parametrize("op", BINARY)
def test_legacy_broadcasting(op: str, opset: int) -> None:
    for shape, axis in [((3,), 1), ((3, 4), 1), ((4, 5), 2), ((2,), 0), ((2, 3, 4, 5), 0), ((1,), 3), ((), 2)]:
        a, b = operands(op, (2, 3, 4, 5), shape)
        node = helper.make_node(op, ["a", "b"], ["y"], broadcast=1, axis=axis)
        expect(node, opset, {"a": a, "b": b}, BINARY[op](a, legacy(a, b, axis)))
    a, b = operands(op, (2, 3, 4), (3, 4))
    expect(helper.make_node(op, ["a", "b"], ["y"], broadcast=1), opset, {"a": a, "b": b}, BINARY[op](a, b))
    expect(helper.make_node(op, ["a", "b"], ["y"]), opset, {"a": a, "b": a}, BINARY[op](a, a))


@pytest.mark.parametrize(("shape", "axis"), [((3,), 1), ((4, 5), 2), ((2, 3, 4, 5), 0), ((1, 1, 1, 1), 2)])
def test_legacy_broadcasting_of_ranks_that_only_the_run_tells(shape: tuple[int, ...], axis: int) -> None:
    nodes = [helper.make_node("Reshape", [name, f"{name}_shape"], [f"{name}_hidden"]) for name in "ab"]
    nodes.append(helper.make_node("Sub", ["a_hidden", "b_hidden"], ["y"], broadcast=1, axis=axis))
    a, b = IMAGE, floats(*shape)
    feeds = {"a": a, "b": b, "a_shape": ints(*a.shape), "b_shape": ints(*b.shape)}
    new = upgraded(model_of(nodes, feeds, ["y"], 6, symbolic=True), [a])
    assert "Range" in {node.op_type for node in new.graph.node}
    expected = a - (b if b.size == 1 else legacy(a, b, axis))
    np.testing.assert_array_equal(run(new, feeds)[0], expected)


@pytest.mark.parametrize("slope", [f32([0.5]), f32([0.1, 0.2, 0.3])], ids=len)
def test_slopes_of_prelu_belong_to_channels(slope: Array) -> None:
    node = helper.make_node("PRelu", ["x", "s"], ["y"])
    expected = np.where(IMAGE < 0, IMAGE * slope.reshape(-1, 1, 1), IMAGE)
    expect(node, 6, {"x": IMAGE, "s": slope}, expected)


HALF = f32([[-1, 0.5], [2, -3]])
UNKNOWN_TO_ONNX_RUNTIME = [
    (helper.make_node("Relu", ["x"], ["y"], consumed_inputs=[0]), 1, {"x": HALF}, f32([[0, 0.5], [2, 0]])),
    (helper.make_node("Sum", ["x", "x"], ["y"], consumed_inputs=[0, 0]), 1, {"x": HALF}, 2 * HALF),
    (helper.make_node("Clip", ["x"], ["y"], consumed_inputs=[0], max=1.0), 1, {"x": HALF}, np.minimum(HALF, 1)),
    (helper.make_node("Selu", ["x"], ["y"]), 1, {"x": HALF},
     1.0507 * np.where(HALF > 0, HALF, 1.6732 * (np.exp(HALF) - 1))),
    (helper.make_node("Concat", ["x", "x"], ["y"]), 1, {"x": HALF}, np.concatenate([HALF, HALF], 1)),
    (helper.make_node("Cast", ["x"], ["y"], to="INT32"), 1, {"x": HALF}, HALF.astype(np.int32)),
    (helper.make_node("Pad", ["x"], ["y"], paddings=[0, 1, 0, 0], value=9.0), 1, {"x": HALF},
     f32([[9, -1, 0.5], [9, 2, -3]])),
    (helper.make_node("Tile", ["x", "n", "a"], ["y"]), 1, {"x": HALF, "n": f32([3]), "a": f32([1])},
     np.tile(HALF, (1, 3))),
    (helper.make_node("Tile", ["x", "n", "a"], ["y"]), 1, {"x": HALF, "n": f32(2), "a": f32(0)}, np.tile(HALF, (2, 1))),
    (helper.make_node("Split", ["x"], ["y", "z"], axis=1, split=[1, 1]), 1, {"x": HALF}, HALF[:, :1]),
    (helper.make_node("Split", ["x", "n"], ["y", "z"], axis=0), 1, {"x": HALF, "n": f32([1, 1])}, HALF[:1]),
    (helper.make_node("Upsample", ["x"], ["y"], height_scale=2.0, width_scale=3.0), 1, {"x": HALF[None, None]},
     HALF.repeat(2, 0).repeat(3, 1)[None, None]),
    (helper.make_node("Upsample", ["x"], ["y"], height_scale=1.0, width_scale=2.0, mode="bilinear"), 1,
     {"x": f32([[[[1, 3]]]])}, f32([[[[1, 2, 3, 3]]]])),
    (helper.make_node("GlobalLpPool", ["x"], ["y"], p=2.0), 1, {"x": f32([[[[3, 4]]]])}, f32([[[[5]]]])),
    (helper.make_node("LpPool", ["x"], ["y"], p=1.0, kernel_shape=[1, 2]), 1, {"x": f32([[[[3, -4, 1]]]])},
     f32([[[[7, 5]]]])),
    (helper.make_node("Gemm", ["x", "x", "c"], ["y"], broadcast=1), 6, {"x": HALF, "c": f32([1, 2])},
     HALF @ HALF + f32([1, 2])),
    (helper.make_node("Gemm", ["x", "x", "x"], ["y"], transB=1, beta=2.0), 1, {"x": HALF}, HALF @ HALF.T + 2 * HALF),
    (helper.make_node("Dropout", ["x"], ["y", "mask"], is_test=1), 6, {"x": HALF}, HALF),
    (helper.make_node("BatchNormalization", ["x", "c", "c", "c", "c"], ["y"], is_test=1, epsilon=0.0), 6,
     {"x": f32([[2, 5]]), "c": f32([1, 4])}, f32([[2, 6]])),
    (helper.make_node("BatchNormalization", list("xsbmv"), ["y", "rm", "rv", "sm", "sv"], epsilon=0.0), 6,
     {"x": f32([[2, 5], [4, 1]]), "s": f32([1, 4]), "b": f32([1, 2]), "m": f32([9, 9]), "v": f32([7, 7])},
     f32([[0, 6], [2, -2]])),
    (helper.make_node("RNN", ["x", "w", "w"], ["", "y"], hidden_size=1, output_sequence=0), 1,
     {"x": f32([[[1]], [[2]]]), "w": f32([[[0.5]]])}, np.tanh(0.5 * np.tanh(f32([[[0.5]]])) + 1)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("node", "opset", "feeds", "expected"),
    UNKNOWN_TO_ONNX_RUNTIME,
    ids=[f"{row[0].op_type}-{row[1]}" for row in UNKNOWN_TO_ONNX_RUNTIME],
)
def test_same_values_as_the_specification(
    node: onnx.NodeProto, opset: int, feeds: dict[str, Array], expected: Array
) -> None:
    expect(node, opset, feeds, expected)
