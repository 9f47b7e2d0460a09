"""What ONNX Runtime is asked about a graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxcam.errors import ModelError
from onnxcam.runtime import oracle
from tests.graph.building import nodes_model
from tests.nets import net, normal

node = helper.make_node


def types(model: onnx.ModelProto) -> dict[str, tuple[int, tuple[int | str | None, ...] | None]]:
    return oracle.value_types(model.SerializeToString(), None)


def test_types_and_shapes_of_contributed_operators() -> None:
    model = nodes_model([node("Gelu", ["x"], ["y"], domain="com.microsoft")], shape=("N", 4, 6, 6))
    assert types(model) == {"y": (TensorProto.FLOAT, ("N", 4, 6, 6))}


@pytest.mark.parametrize("name", sorted(set(oracle.ELEM_TYPES) - {"string", "bfloat16"}))
def test_every_element_type(name: str) -> None:
    kind = oracle.ELEM_TYPES[name]
    model = nodes_model([node("Cast", ["x"], ["y"], to=kind)])
    model.graph.output[0].type.tensor_type.elem_type = kind
    assert types(model) == {"y": (kind, ("N", 4))}


def test_the_names_of_the_element_types_are_onnx_s() -> None:
    spelled = {"float": "FLOAT", "double": "DOUBLE"}
    for name, kind in oracle.ELEM_TYPES.items():
        assert TensorProto.DataType.Value(spelled.get(name, name.upper())) == kind


def test_an_unknown_rank_is_no_scalar() -> None:
    text = "(float[N,4] x, int64[k] to) => (float[a,b] y) { y = Reshape(x, to) }"
    model = net(text)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert types(model) == {"y": (TensorProto.FLOAT, None)}


def test_what_is_no_tensor_is_left_out() -> None:
    model = nodes_model([node("SequenceConstruct", ["x", "x"], ["s"]), node("Neg", ["x"], ["y"])])
    model.graph.output.append(helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None))
    assert set(types(model)) == {"y"}


def test_weights_beside_the_model_are_found(tmp_path: Path) -> None:
    model = nodes_model([node("MatMul", ["x", "w"], ["y"])], {"w": normal(4, 7)})
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    assert oracle.value_types(path.read_bytes(), str(tmp_path)) == {"y": (TensorProto.FLOAT, ("N", 7))}
    with pytest.raises(ModelError):
        oracle.value_types(path.read_bytes(), None)


def test_constants_are_worked_out() -> None:
    graph = helper.make_graph(
        [node("Range", ["a", "b", "c"], ["r"]), node("Mul", ["r", "r"], ["s"])], "constants", [],
        [onnx.ValueInfoProto(name="r"), onnx.ValueInfoProto(name="s")],
        [helper.make_tensor(name, TensorProto.INT64, [], [value]) for name, value in (("a", 1), ("b", 7), ("c", 2))],
    )  # fmt: skip
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    first, second = oracle.evaluate(model.SerializeToString())
    np.testing.assert_array_equal(first, [1, 3, 5])
    np.testing.assert_array_equal(second, [1, 9, 25])
