"""Element types and shapes, as far as they can be known before the model runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxcam.errors import ModelError
from onnxcam.graph import Shape, ValueType
from onnxcam.graph.types import FLOATS
from tests.graph.building import graph_of, nodes_model, plain
from tests.nets import net, normal, run

node = helper.make_node


def shapes(text: str, *names: str, **weights: Any) -> list[Shape | None]:
    graph = graph_of(net(text, {name: np.asarray(value) for name, value in weights.items()}))
    return [graph.shape(name) for name in names]


def test_types_of_inputs_weights_and_values() -> None:
    graph = graph_of(plain())
    assert graph.type("x") == ValueType(TensorProto.FLOAT, ("N", 3, 4, 4))
    assert graph.type("fc") == ValueType(TensorProto.FLOAT, (4, 5))
    assert graph.type("last") == ValueType(TensorProto.FLOAT, ("N", 4, 4, 4))
    assert graph.type("ghost") == ValueType(0, None)
    assert (graph.rank("last"), graph.rank("ghost")) == (4, None)


def test_what_is_floating_point() -> None:
    text = """(float[N,4] x) => (float[N,4] y) {
  h = Cast<to=10>(x)
  i = Cast<to=7>(x)
  b = Cast<to=9>(x)
  d = Cast<to=11>(x)
  y = Cast<to=1>(h)
}"""
    graph = graph_of(net(text))
    assert [graph.is_float(name) for name in "xhibdy"] == [True, True, False, False, True, True]
    assert {TensorProto.BFLOAT16, TensorProto.FLOAT8E4M3FN} < FLOATS


def test_onnxruntime_is_asked_where_onnx_stops() -> None:
    nodes = [
        node("Gelu", ["x"], ["g"], domain="com.microsoft"),
        node("Relu", ["g"], ["r"]),
        node("Flatten", ["r"], ["y"]),
    ]
    graph = graph_of(nodes_model(nodes, shape=("N", 4, 6, 6)))
    assert graph.type("g") == ValueType(TensorProto.FLOAT, ("N", 4, 6, 6))
    assert graph.type("r") == ValueType(TensorProto.FLOAT, ("N", 4, 6, 6))
    assert graph.shape("y") == ("N", 144)


def test_the_batch_of_a_flattening_reshape() -> None:
    """torch's view(N, -1): Shape, Gather, Unsqueeze, Concat, Reshape."""
    text = """(float[N,3,8,8] x) => (float[N,192] y) {
  s = Shape(x)
  n = Gather(s, first)
  v = Unsqueeze(n, zero)
  t = Concat<axis=0>(v, rest)
  y = Reshape(x, t)
}"""
    assert shapes(text, "y", first=0, zero=[0], rest=[-1]) == [("N", 192)]


@pytest.mark.parametrize(
    ("to", "expected"),
    [([-1, 192], ("N", 192)), ([0, -1], ("N", 192)), ([0, 192], ("N", 192)), ([0, 3, -1], ("N", 3, 64)),
     ([1, -1], (1, None)), ([2, -1], (2, None)), ([-1, 3, 8, 8], ("N", 3, 8, 8)), ([0, 3, 8, 8, 1], ("N", 3, 8, 8, 1))],
)  # fmt: skip
def test_what_minus_one_stands_for(to: list[int], expected: tuple[Any, ...]) -> None:
    (shape,) = shapes("(float[N,3,8,8] x) => (float[N,M] y) { y = Reshape(x, to) }", "y", to=to)
    assert shape is not None
    assert [dim if isinstance(dim, int) or dim == "N" else None for dim in shape] == list(expected)


def test_sizes_that_follow_from_one_another() -> None:
    text = """(float[N,3,8,8] x) => (float[N,8,k] y) {
  s = Shape(x)
  v = Slice(s, zero, one)
  t = Concat<axis=0>(v, eight, rest)
  r = Reshape(x, t)
  y = Concat<axis=2>(r, r)
}"""
    assert shapes(text, "r", "y", zero=[0], one=[1], eight=[8], rest=[-1]) == [("N", 8, 24), ("N", 8, 48)]


def test_minus_one_of_a_fixed_shape() -> None:
    assert shapes("(float[2,3,8,8] x) => (float[N,M] y) { y = Reshape(x, to) }", "y", to=[-1, 48]) == [(8, 48)]


def test_a_class_token_joined_to_the_patches() -> None:
    text = """(float[N,16,8] x) => (float[N,17,8] y) {
  s = Shape<start=0,end=1>(x)
  t = Concat<axis=0>(s, rest)
  e = Expand(token, t)
  joined = Concat<axis=1>(e, x)
  y = Add(joined, position)
}"""
    found = shapes(text, "joined", "y", token=np.ones((1, 1, 8), "f"), rest=[1, 8], position=np.ones((1, 17, 8), "f"))
    assert found == [("N", 17, 8), ("N", 17, 8)]


def test_an_input_named_like_onnx_names_the_unknown() -> None:
    """tf2onnx calls free sizes unk__31; taken for inference's own they would be solved for."""
    text = "(float[unk__0,3,8,8] x, float[unk__1,3,8,8] z) => (float[N,M] y) { s = Add(x, z)\n y = Reshape(s, to) }"
    graph = graph_of(net(text, {"to": np.array([0, -1])}))
    assert graph.shape("x") == ("x.0", 3, 8, 8)
    assert graph.shape("z") == ("z.0", 3, 8, 8)


def test_the_weights_have_their_own_shapes_not_the_declared_ones() -> None:
    model = nodes_model([node("MatMul", ["x", "w"], ["y"])], {"w": normal(4, 7)})
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 9]))
    assert graph_of(model).shape("y") == ("N", 7)


def test_padding_that_follows_the_size_of_the_image() -> None:
    """The output is known when it runs; 27 18 18 12 on ones says at which end the odd pixel is padded."""
    text = '(float[N,1,H,W] x) => (float[N,1,h,w] y) { y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w) }'
    model = net(text, {"w": np.ones((1, 3, 3, 3), "f")[:, :1] * 3})
    shape = graph_of(model).shape("y")
    assert shape is not None
    assert [dim if isinstance(dim, int) else None for dim in shape] == [None, 1, None, None]
    assert run(model, {"x": np.ones((1, 1, 4, 4), "f")})["y"].ravel().tolist() == [27, 18, 18, 12]


def test_shapes_that_contradict_each_other() -> None:
    text = "(float[N,3,8,8] x) => (float[N,5] y) { f = Flatten(x)\n y = MatMul(f, w) }"
    with pytest.raises(ModelError) as caught:
        shapes(text, "y", w=normal(7, 5))
    assert "\n" not in str(caught.value)


def test_a_node_that_nobody_can_type_is_named_by_onnxruntime() -> None:
    graph = graph_of(nodes_model([node("Mystery", ["x"], ["h"], domain="com.acme"), node("Relu", ["h"], ["y"])]))
    with pytest.raises(ModelError, match="Mystery"):
        _ = graph.types


def test_a_transpose_of_other_axes_than_there_are_is_refused() -> None:
    """onnx infers a shape all the same, and what follows positions would not know what to make of it."""
    with pytest.raises(ModelError, match=r"Transpose 'node0' turns 3 axes of 'x' \[N, 3, 4, 5\]"):
        shapes("(float[N,3,4,5] x) => (float[] y) { y = Transpose<perm = [0, 2, 1]>(x) }", "y")
