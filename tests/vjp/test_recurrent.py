"""What reads a recurrent node, or nobody, changes nothing of how it goes on with its own states."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxcam.vjp import differentiate
from tests.nets import normal, run
from tests.vjp.case import Array

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STEP, ZERO = np.float32(1 / 16), np.int8(0)


def recurrent(kind: str, outputs: list[str], *behind: onnx.NodeProto, dtype: type = np.float32) -> onnx.ModelProto:
    """Six steps of two rows of three numbers, five units."""
    weights = {"W": normal(1, 5 * GATES[kind], 3), "R": normal(1, 5 * GATES[kind], 5)}
    constants = {"s": STEP, "z": ZERO} | {name: value.astype(dtype) for name, value in weights.items()}
    used = {name for node in behind for name in node.input} | set(weights)
    elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [helper.make_node(kind, ["X", "W", "R"], outputs, hidden_size=5), *behind],
        "g",
        [helper.make_tensor_value_info("X", elem_type, [6, 2, 3])],
        [helper.make_tensor_value_info([*outputs, *(node.output[0] for node in behind)][-1], elem_type, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in used],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def slope(model: onnx.ModelProto, x: Array, seed: Array) -> Array:
    found = differentiate(model, of=model.graph.output[0].name, wrt="X")
    return run(found.model, {"X": x, found.seed: seed})[found.gradients["X"]]


@pytest.mark.parametrize("kind", GATES)
def test_a_quantizer_behind_it_does_not_round_its_states(kind: str) -> None:
    rounding = [
        helper.make_node("QuantizeLinear", ["Y", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
    ]
    x, seed = normal(6, 2, 3).astype(np.float32), normal(6, 1, 2, 5).astype(np.float32)
    plain = slope(recurrent(kind, ["Y"]), x, seed)  # no state reaches the ends of the integers
    np.testing.assert_allclose(slope(recurrent(kind, ["Y"], *rounding), x, seed), plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", GATES)
def test_float16_whose_states_nobody_reads(kind: str) -> None:
    x, seed = normal(6, 2, 3), normal(1, 2, 5)
    half = recurrent(kind, ["", "last"], dtype=np.float16)
    whole = recurrent(kind, ["", "last"])
    assert half.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT16
    found = slope(half, x.astype(np.float16), seed.astype(np.float16))
    np.testing.assert_allclose(found, slope(whole, x.astype(np.float32), seed.astype(np.float32)), atol=2e-2)
