"""What nodes that measure values tell before the model runs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxcam.graph.measures import measured
from tests.graph.building import graph_of, nodes_model
from tests.nets import net

node = helper.make_node


@pytest.mark.parametrize(
    ("picking", "expected"),
    [
        (node("Shape", ["x"], ["p"]), ["N", 3, "H", 7]),
        (node("Shape", ["x"], ["p"], start=-2), ["H", 7]),
        (node("Shape", ["x"], ["p"], start=1, end=-1), [3, "H"]),
        (node("Gather", ["s", "one"], ["p"]), 3),
        (node("Gather", ["s", "last"], ["p"]), [7, "N"]),
        (node("Slice", ["s", "zeros", "twos"], ["p"]), ["N", 3]),
        (node("Slice", ["s", "zeros", "far", "zeros", "twos"], ["p"]), ["N", "H"]),
        (node("Gather", ["s", "far"], ["p"]), None),
        (node("Gather", ["s", "fed"], ["p"]), None),
        (node("Gather", ["s", "half"], ["p"]), None),
        (node("Gather", ["s", "yes"], ["p"]), None),
        (node("Gather", ["s"], ["p"]), None),
        (node("Slice", ["s", "zeros"], ["p"]), None),
        (node("Slice", ["s", "zeros", "far", "", "twos"], ["p"]), ["N", "H"]),
        (node("Slice", ["s", "zeros", "far", "zeros", "zeros"], ["p"]), None),
        (node("Slice", ["s", "half", "far"], ["p"]), None),
        (node("Slice", ["s", "last", "far"], ["p"]), None),
        (node("Size", ["x"], ["p"]), None),
        (node("Size", ["w"], ["p"]), 6),
        (node("Size", ["s"], ["p"]), 4),
        (node("Neg", ["s"], ["p"]), None),
        (node("Gather", ["n", "one"], ["p"]), None),
        (node("Slice", ["turned", "zeros", "twos"], ["p"]), [7, "N"]),
        (node("Gather", ["turned", "last"], ["p"]), ["N", 7]),
        (node("Gather", ["size", "one"], ["p"]), None),
        (node("Slice", ["again", "zeros", "twos"], ["p"]), None),
        (node("Shape", ["x"], ["p"], domain="com.acme"), None),
    ],
)
def test_what_shape_gather_and_slice_give(picking: onnx.NodeProto, expected: object) -> None:
    constants = {
        "one": np.array(1), "last": np.array([-1, 0]), "zeros": np.array([0]), "twos": np.array([2]),
        "far": np.array([99]), "w": np.ones((2, 3)), "half": np.array([0.5]), "yes": np.array([True]),
    }  # fmt: skip
    nodes = [node("Shape", ["x"], ["s"]), node("Neg", ["s"], ["n"]), node("Neg", ["x"], ["y"])]
    nodes += [node("Gather", ["s", "last"], ["turned"]), node("Gather", ["turned", "last"], ["again"])]
    nodes += [node("Size", ["x"], ["size"])]
    model = nodes_model(nodes, constants, shape=("N", 3, "H", 7))
    model.graph.input.append(helper.make_tensor_value_info("fed", onnx.TensorProto.INT64, [1]))
    graph = graph_of(model)
    found = measured(picking, graph.shape, graph.maker, graph.constant)
    assert (None if found is None else found.tolist()) == expected


def test_a_size_that_is_known_is_a_constant_among_free_ones() -> None:
    text = """(float[N,3,H,7] x) => (float[N,3,H,7] y) {
  y = Relu(x)
  s = Shape(x)
  c = Gather(s, one)
  w = Slice(s, three, four)
  h = Gather(s, two)
  rank = Size(s)
  all = Size(x)
  both = Mul(c, rank)
}"""
    graph = graph_of(
        net(text, {name: np.array(at) for name, at in (("one", 1), ("two", 2), ("three", [3]), ("four", [4]))})
    )
    known = {name: value.tolist() for name, value in graph.small_constants.items() if name in graph.producer}
    assert known == {"c": 3, "w": [7], "rank": 4, "both": 12}
