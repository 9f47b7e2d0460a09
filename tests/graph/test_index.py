"""The graph by value name: who makes what, who reads it, what is fixed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxcam.errors import ModelError
from onnxcam.graph import Graph, attributes, load, read_graph
from onnxcam.graph.normalize import normalize
from tests.graph.building import graph_of, nodes_model, plain, residual
from tests.nets import net, normal

Array = npt.NDArray[Any]
node = helper.make_node


def test_producers_and_consumers() -> None:
    graph = graph_of(residual())
    made = {name: graph.nodes[i].op_type for name, i in graph.producer.items()}
    assert {name: made[name] for name in ("stem", "a", "sum", "y")} == {
        "stem": "Conv", "a": "Relu", "sum": "Add", "y": "Softmax"
    }  # fmt: skip
    assert [graph.nodes[i].output[0] for i in graph.consumers["a"]] == ["b1", "sum"]
    assert "fc" in graph
    assert "nothing" not in graph


def test_a_value_read_twice_by_one_node_has_one_reader() -> None:
    graph = graph_of(nodes_model([node("Mul", ["x", "x"], ["y"])]))
    assert graph.consumers == {"x": [0]}


def test_inputs_left_out_are_no_values() -> None:
    graph = graph_of(nodes_model([node("Clip", ["x", "", "x"], ["y"])]))
    assert graph.consumers == {"x": [0]}


def test_absent_outputs_are_no_values() -> None:
    graph = graph_of(nodes_model([node("Dropout", ["x"], ["y", ""])]))
    assert graph.producer == {"y": 0}


def test_names_to_avoid_are_those_of_subgraphs_too() -> None:
    body = helper.make_graph(
        [node("Mul", ["x", "inner_weight"], ["inner"], name="inner_node")], "b", [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones(4, np.float32), "inner_weight")],
    )  # fmt: skip
    nodes = [node("If", ["always"], ["y"], then_branch=body, else_branch=body, name="outer")]
    model = load(nodes_model(nodes, {"always": np.array(True)}))
    graph = Graph(model, normalize(model))
    assert {"x", "y", "always", "outer", "inner", "inner_node", "inner_weight"} <= graph.names


def test_node_names_may_repeat_or_be_missing() -> None:
    nodes = [node("Neg", ["x"], ["a"], name="same"), node("Abs", ["a"], ["b"], name="same"), node("Exp", ["b"], ["y"])]
    graph = graph_of(nodes_model(nodes))
    assert list(graph.producer) == ["a", "b", "y"]
    assert [graph.describe(i) for i in range(3)] == ["Neg 'same'", "Abs 'same'", "Exp 'y'"]


def test_an_output_may_be_listed_twice_be_an_input_or_a_weight() -> None:
    model = nodes_model([node("Neg", ["x"], ["y"])], {"w": np.ones(4, np.float32)}, outputs=("y", "y", "x", "w"))
    assert graph_of(model).outputs == ["y", "y", "x", "w"]


def test_ancestors_end_at_the_values_told() -> None:
    graph = graph_of(residual())

    def made(names: set[int]) -> set[str]:
        return {graph.nodes[i].output[0] for i in names}

    assert made(graph.ancestors(["sum"])) == {"stem", "a", "b1", "b2", "b3", "sum"}
    assert made(graph.ancestors(["sum"], stop=["a"])) == {"b1", "b2", "b3", "sum"}
    assert graph.ancestors(["a"], stop=["a"]) == set()
    assert graph.ancestors(["x", "fc"]) == set()


def test_constants_are_what_no_input_moves() -> None:
    weights: dict[str, Array] = {"w": normal(3, 2), "shape": np.array([2, 3], np.int64), "big": normal(100, 100)}
    graph = graph_of(
        net(
            """(float[N,2] x) => (float[N,3] y) {
  turned = Reshape(w, shape)
  doubled = Add(turned, turned)
  squared = MatMul(big, big)
  noise = RandomNormalLike(w)
  noisy = Add(w, noise)
  y = MatMul(x, doubled)
}""",
            weights,
        )
    )
    doubled = graph.constant("doubled")
    assert doubled is not None
    np.testing.assert_array_equal(doubled, 2 * weights["w"].reshape(2, 3))
    np.testing.assert_array_equal(graph.constant("big"), weights["big"])
    assert graph.constant("squared") is None  # too large to be worked out while the graph is read
    assert graph.constant("y") is None
    assert graph.constant("ghost") is None
    assert {"w", "doubled", "squared", "big"} <= graph.fixed
    assert not graph.fixed & {"x", "y", "noise", "noisy"}


def test_weights_that_are_computed() -> None:
    """CNTK reshapes them, Caffe2 fills them, quantizers unpack them."""
    weights: dict[str, Array] = {
        "flat": normal(2, 1, 1, 3), "to": np.array([2, 3], np.int64), "dims": np.array([3, 2], np.int64),
        "q": np.array([[-2, 4], [6, 8], [0, 1]], np.int8), "scale": np.array(0.5, np.float32),
    }  # fmt: skip
    graph = graph_of(
        net(
            """(float[N,2] x) => (float[N,2] y) {
  w1 = Reshape(flat, to)
  w2 = ConstantOfShape<value = float[1] {0.25}>(dims)
  w3 = DequantizeLinear(q, scale)
  w4 = Transpose<perm=[1,0]>(w2)
  w5 = Cast<to=1>(w4)
  a = MatMul(x, w1)
  b = MatMul(a, w2)
  c = MatMul(b, w5)
  y = MatMul(c, w3)
}""",
            weights,
        )
    )
    for name, value in {
        "w1": weights["flat"].reshape(2, 3), "w2": np.full((3, 2), 0.25), "w3": weights["q"] * 0.5,
        "w5": np.full((2, 3), 0.25),
    }.items():  # fmt: skip
        np.testing.assert_array_equal(graph.constant(name), value)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(None, None, [2, 3, 4]), (1, None, [3, 4]), (0, -1, [2, 3]), (-1, None, [4]), (5, 9, [])],
)
def test_the_shape_of_a_value_of_fixed_shape_is_fixed(start: int, end: int, expected: list[int]) -> None:
    limits: dict[str, Any] = {key: value for key, value in {"start": start, "end": end}.items() if value is not None}
    nodes = [node("Shape", ["x"], ["s"], **limits), node("Neg", ["x"], ["y"])]
    np.testing.assert_array_equal(graph_of(nodes_model(nodes, shape=(2, 3, 4))).constant("s"), expected)
    free = graph_of(nodes_model(nodes, shape=("N", 3, 4))).constant("s")
    assert free is None if 2 in expected else np.array_equal(free, expected)


def test_of_two_weights_with_one_name_the_last_counts() -> None:
    model = nodes_model([node("Mul", ["x", "w"], ["y"])], {"w": np.ones(4, np.float32)})
    model.graph.initializer.append(numpy_helper.from_array(np.full(4, 5, np.float32), "w"))
    np.testing.assert_array_equal(graph_of(model).constant("w"), [5, 5, 5, 5])


def test_attributes_as_python_values() -> None:
    made = node("Op", [], [], name="n", i=3, f=0.5, s="text", ints=[1, 2], floats=[0.5], strings=["a"])
    assert attributes(made) == {"i": 3, "f": 0.5, "s": "text", "ints": [1, 2], "floats": [0.5], "strings": ["a"]}


def test_a_weight_whose_data_does_not_fill_its_shape() -> None:
    model = plain()
    next(tensor for tensor in model.graph.initializer if tensor.name == "w0").dims[0] = 13
    with pytest.raises(ModelError, match="'w0' of the model is damaged"):
        read_graph(load(model)).constant("w0")


def test_reading_changes_nothing() -> None:
    model = residual()
    before = model.SerializeToString()
    graph = graph_of(model)
    _ = graph.types, graph.small_constants, graph.names, graph.fixed
    assert model.SerializeToString() == before
    assert isinstance(graph.proto, onnx.ModelProto)
