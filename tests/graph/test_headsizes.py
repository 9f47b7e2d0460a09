"""Sizes read off the input, told again by the layer that a head starts from."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

import onnxcam
from onnxcam.graph import features, head
from onnxcam.graph.cut import ROWS
from onnxcam.graph.headsizes import retold
from tests.graph.building import CONVS, TAIL, exactly, graph_of, image_for, recomputed, vit
from tests.nets import net, normal

CONSTANTS = CONVS | {
    "first": np.array(0), "zero": np.array([0]), "one": np.array([1]), "rest": np.array([-1]),
    "wide": np.array([4, 16]), "two": np.array([2]), "three": np.array([3]),
}  # fmt: skip
RESHAPES = {
    "view(N, -1), N off the input": """
  s = Shape(x)
  n = Gather(s, first)
  v = Unsqueeze(n, zero)
  to = Concat<axis=0>(v, rest)""",
    "Slice instead of Gather": """
  s = Shape(x)
  v = Slice(s, zero, one)
  to = Concat<axis=0>(v, rest)""",
    "Slice with axes and steps": """
  s = Shape(x)
  v = Slice(s, zero, two, zero, two)
  to = Concat<axis=0>(v, rest)""",
    "Shape with its own limits": """
  v = Shape<start=0,end=1>(x)
  to = Concat<axis=0>(v, rest)""",
    "arithmetic": """
  v = Shape<start=0,end=1>(x)
  w = Mul(v, two)
  u = Div(w, two)
  to = Concat<axis=0>(u, rest)""",
    "fixed sizes beside it": """
  s = Shape(a0)
  some = Gather(s, zero)
  others = Slice(s, one, two)
  to0 = Concat<axis=0>(some, others)
  early = ReduceProd<axes=[0],keepdims=1>(others)
  left = Mul(early, wide)
  tail = ReduceMax<axes=[0],keepdims=1>(left)
  to = Concat<axis=0>(some, tail)""",
}


@pytest.mark.parametrize("batch", ["N", "1"])
@pytest.mark.parametrize("how", RESHAPES)
def test_a_size_read_off_the_input_is_told_by_the_layer(how: str, batch: str) -> None:
    model = net(
        f"""(float[{batch},3,4,4] x) => (float[{batch},5] y) {{
  c0 = Conv<pads=[1,1,1,1]>(x, w0)
  a0 = Relu(c0)
  c1 = Conv<pads=[1,1,1,1]>(a0, w1)
  last = Relu(c1)
{RESHAPES[how]}
  f = Reshape(last, to)
  y = MatMul(f, flat)
}}""",
        CONSTANTS,
    )
    graph = graph_of(model)
    part = head(graph, "last", "y")
    assert part.extra == ()
    rows = 3 if batch == "N" else 1
    values = exactly(features(graph, ["last"]), {"x": image_for(model, rows)})
    np.testing.assert_array_equal(recomputed(part, values), values["y"])
    if batch == "N":
        assert part.graph.shape("y") == (ROWS, 5) or how == "arithmetic"
        alone = {"last": values["last"][1:2]}  # as many rows as are asked for, not as many as the image run had
        np.testing.assert_allclose(recomputed(part, alone), values["y"][1:2], rtol=1e-5)


def test_tokens_made_anew_for_every_row() -> None:
    """The class token is expanded to the batch of the image; a layer before it makes the head do so itself."""
    graph = graph_of(vit("token"))
    part = head(graph, "conv", "logits")
    assert part.extra == ()
    values = exactly(features(graph, ["conv", "logits"]), {"x": image_for(vit("token"), 3)})
    np.testing.assert_array_equal(recomputed(part, values), values["logits"])


def test_a_size_that_only_the_image_has_is_read_as_it_is() -> None:
    """The height of the image is no row of anything, and the layer does not tell it: it is the same for all rows."""
    text = f"""(float[N,3,H,W] x) => (float[N,5] y) {{
  c0 = Conv<pads=[1,1,1,1],strides=[2,2]>(x, w0)
  last = Relu(c0)
  s = Shape(x)
  h = Slice(s, two, three)
  f = Cast<to=1>(h)
  scaled = Mul(last, f)
{TAIL.replace("(last)", "(scaled)")}"""
    model = net(text, CONSTANTS)
    part = head(graph_of(model), "last", "logits")
    assert (part.extra, part.still) == (("f",), {"f"})
    x = normal(2, 3, 8, 6)
    found = [onnxcam.Explainer(model)(x, 2, layer="last", gradient=how) for how in ("symbolic", "numeric")]
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one.map, other.map, atol=2e-3 * np.abs(one.map).max())


def test_a_random_value_is_not_told_again() -> None:
    text = f"""(float[N,3,4,4] x) => (float[N,5] y) {{
  c0 = Conv<pads=[1,1,1,1]>(x, w0)
  last = Relu(c0)
  s = Shape(x)
  zeros = ConstantOfShape(s)
  noise = RandomNormalLike(zeros)
  some = GlobalAveragePool(noise)
  less = Slice(some, zero, one, one)
  noisy = Add(last, less)
{TAIL.replace("(last)", "(noisy)")}"""
    assert head(graph_of(net(text, CONSTANTS)), "last", "logits").extra == ("less",)


# -- what can be told ---------------------------------------------------------------------------------------------

node = helper.make_node


def test_only_what_is_asked_for_is_told() -> None:
    text = """(float[N,3,4,4] x) => (float[N,3,4,4] y) {
  y = Relu(x)
  s = Shape(x)
  n = Gather(s, first)
  twice = Add(n, n)
  other = Mul(n, first)
}"""
    graph = graph_of(net(text, {"first": np.array(0)}))
    found = retold(graph, "y", {"twice", "x"})
    assert found.names == {"twice"}
    assert [n.op_type for n in found.nodes] == ["Shape", "Concat", "Gather", "Add"]
    assert retold(graph, "y", {"x"}).nodes == []
