"""Which nodes a gradient is written with, where fewer do: the same numbers, and what is not there."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import pytest

import onnxcam
from onnxcam.runtime import Session

Array = npt.NDArray[np.float32]


def model(text: str, inputs: str, outputs: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> g ({inputs}) => ({outputs}) {{ {text} }}')


def differentiated(proto: onnx.ModelProto, x: Array, ct: Array, wrt: str = "x") -> tuple[Array, Counter[str]]:
    """The gradient, and how many nodes of each operator it took."""
    found = onnxcam.differentiate(proto, of="y", wrt=wrt)
    added = Counter(node.op_type for node in found.model.graph.node)
    added.subtract(Counter(node.op_type for node in proto.graph.node))
    slope = Session(found.model.SerializeToString()).run({"x": x, found.seed: ct})[found.gradients[wrt]]
    return slope, +added


def random(*shape: int) -> Array:
    return np.random.default_rng(5).normal(size=shape).astype(np.float32)


def test_small_weights_are_turned_around_while_the_graph_is_made() -> None:
    proto = model("y = Conv <pads = [1, 1, 1, 1]> (x, w)", "float[1, 16, 4, 4] x", "float[1, 16, 4, 4] y")
    weight = random(16, 16, 3, 3)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    x, ct = random(1, 16, 4, 4), np.zeros((1, 16, 4, 4), np.float32)
    ct[0, 2, 1, 1] = 1
    slope, added = differentiated(proto, x, ct)
    assert added == {"Conv": 1, "Identity": 1}
    np.testing.assert_allclose(slope[0, :, :3, :3], weight[2], rtol=1e-6)


def test_large_weights_are_left_where_they_are() -> None:
    proto = model("y = Conv <pads = [1, 1, 1, 1]> (x, w)", "float[1, 32, 4, 4] x", "float[1, 32, 4, 4] y")
    proto.graph.initializer.append(onnx.numpy_helper.from_array(random(32, 32, 3, 3), "w"))
    _, added = differentiated(proto, random(1, 32, 4, 4), random(1, 32, 4, 4))
    assert added == {"Transpose": 1, "Slice": 1, "Conv": 1, "Identity": 1}


def test_a_large_matrix_is_not_turned_around() -> None:
    """ONNX Runtime would hold it a second time: a Dense layer behind a flattened grid has hundreds of megabytes."""
    proto, weight = model("y = MatMul (x, w)", "float[2, 100] x", "float[2, 90] y"), random(100, 90)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    ct = random(2, 90)
    slope, added = differentiated(proto, random(2, 100), ct)
    assert added == {"Gemm": 1, "Identity": 1}
    np.testing.assert_allclose(slope, ct @ weight.T, rtol=1e-4, atol=1e-4)


def test_a_gradient_that_is_constant_is_still_an_output_that_a_node_makes() -> None:
    slope, added = differentiated(model("y = Sign (x)", "float[2] x", "float[2] y"), random(2), random(2))
    assert added["Identity"] == 1
    np.testing.assert_array_equal(slope, [0, 0])


@pytest.mark.parametrize("behind", ["y = Identity (c)", "y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)"])
def test_relus_that_are_put_together_are_stopped_together(behind: str) -> None:
    """As where one of them is asked for too, so that each is stopped by itself."""
    text = f"a = Relu (x) n = Neg (x) b = Relu (n) c = Concat <axis = 1> (a, b) {behind}"
    proto = model(text, "float[2, 3, 4, 4] x", "float[2, 6, H, W] y")
    x = random(2, 3, 4, 4).round(0)
    ct = random(*(2, 6, 2, 2) if "Pool" in behind else (2, 6, 4, 4))
    together, added = differentiated(proto, x, ct)
    assert added["Greater"] == 1
    found = onnxcam.differentiate(proto, of="y", wrt=["x", "a"])
    apart = Session(found.model.SerializeToString()).run({"x": x, found.seed: ct})
    assert Counter(node.op_type for node in found.model.graph.node)["Greater"] == 2
    np.testing.assert_array_equal(together, apart[found.gradients["x"]])


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("y = Concat <axis = 1> (c, a, b)", True),
        ("y = Concat <axis = 1> (c, b)", False),  # something is missing
        ("m = Mul (x, x) y = Concat <axis = 1> (m, a, c, b)", True),
        ("d = Slice (x, two, four, one) y = Concat <axis = 1> (a, b, c, d)", False),  # something is there twice
    ],
)
def test_slices_side_by_side_are_put_together(text: str, joined: bool) -> None:
    proto = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 18]> g (float[2, 6] x) => (float[2, K] y)
        <int64[1] none = {{0}}, int64[1] one = {{1}}, int64[1] two = {{2}}, int64[1] four = {{4}}, int64[1] all = {{6}}>
        {{
            a = Slice (x, none, one, one) b = Slice (x, one, four, one) c = Slice (x, four, all, one) {text}
        }}"""
    )
    x = random(2, 6)
    ct = random(*Session(proto.SerializeToString()).run({"x": x})["y"].shape)
    slope, added = differentiated(proto, x, ct)
    assert ("Pad" not in added) == joined
    step = 2**-10
    for row, column in np.ndindex(2, 6):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[row, column] += sign * step
            ends.append(
                float((Session(proto.SerializeToString()).run({"x": moved})["y"].astype(np.float64) * ct).sum())
            )
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope[row, column], abs=2e-3)


def test_a_small_pool_whose_windows_tile_takes_the_two_operators_that_onnx_has_for_it() -> None:
    proto = model(
        "y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)", "float[N, 1, 4, 4] x", "float[N, 1, 2, 2] y"
    )
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    slope, added = differentiated(proto, x, np.array([[[[1, 2], [3, 4]]]], np.float32))
    assert added == {"MaxPool": 1, "MaxUnpool": 1, "Identity": 1}
    np.testing.assert_array_equal(slope[0, 0], [[0, 0, 0, 0], [0, 1, 0, 2], [0, 0, 0, 0], [0, 3, 0, 4]])


def test_a_normalization_over_the_last_axes_is_one_kernel() -> None:
    proto = model(
        "y = InstanceNormalization (x, s, b)", "float[N, 3, H, W] x, float[3] s, float[3] b", "float[N, 3, H, W] y"
    )
    found = onnxcam.differentiate(proto, of="y", wrt="x")
    assert "Sqrt" not in {node.op_type for node in found.model.graph.node}


def test_a_gather_that_only_rearranges_is_undone_by_another() -> None:
    proto = model(
        "i = Constant <value_ints = [2, -4, 1, 3]> () y = Gather <axis = 1> (x, i)", "float[2, 4] x", "float[2, 4] y"
    )
    slope, added = differentiated(proto, random(2, 4), np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32))
    assert added == {"Gather": 1, "Identity": 1}
    np.testing.assert_array_equal(slope, [[2, 3, 1, 4], [6, 7, 5, 8]])


def test_a_clip_is_masked_strictly_within_its_bounds() -> None:
    text = "lo = Constant <value_float = 0.0> () hi = Constant <value_float = 6.0> () y = Clip (x, lo, hi)"
    x = np.array([-1, 0, 1e-37, 3, np.nextafter(np.float32(6), np.float32(0)), 6, 7, np.nan], np.float32)
    slope, added = differentiated(model(text, "float[8] x", "float[8] y"), x, np.ones(8, np.float32))
    assert added == {"Clip": 1, "Equal": 1, "Where": 1, "Identity": 1}
    np.testing.assert_array_equal(slope, [0, 0, 1, 1, 1, 0, 0, 0])
