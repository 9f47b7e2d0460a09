"""Layers that a user names."""

from __future__ import annotations

import numpy as np
import pytest

from onnxcam.errors import LayerError
from onnxcam.graph import named_layer
from onnxcam.runtime import Layout
from tests.graph.building import graph_of, residual
from tests.nets import net, normal


def test_a_layer_named_by_value_or_by_node() -> None:
    graph = graph_of(residual())
    by_value, by_node = named_layer(graph, "b2"), named_layer(graph, "node2")
    assert (by_value.name, by_value.grid, by_value.reason) == ("b2", (8, 8), "named")
    assert by_node.name == "b1"
    assert not by_value.automatic


def test_a_value_comes_before_a_node_of_the_same_name() -> None:
    model = residual()
    model.graph.node[0].name = "last"
    assert named_layer(graph_of(model), "last").op == "Relu"


def test_an_unknown_layer_names_its_neighbours() -> None:
    with pytest.raises(LayerError, match="no layer 'lst'; did you mean last"):
        named_layer(graph_of(residual()), "lst")
    with pytest.raises(LayerError, match=r"no layer 'conv5_x' \(see `onnxcam layers`\)"):
        named_layer(graph_of(residual()), "conv5_x")


@pytest.mark.parametrize(
    ("name", "says"),
    [("pool", "no grid"), ("features", "no grid"), ("logits", "no grid"), ("x", "input-level"), ("w0", "no layer")],
)
def test_a_value_without_a_grid(name: str, says: str) -> None:
    with pytest.raises(LayerError, match=says):
        named_layer(graph_of(residual()), name)


def test_a_value_whose_layout_is_not_known_is_guessed_from_its_shape() -> None:
    text = """(float[N,3,8,8] x) => (float[N,M] y) {
  four = GridSample(x, where)
  t = Reshape(four, tokens)
  square = Relu(t)
  skewed = Reshape(four, oblong)
  rows = Reshape(four, sequence)
  torn = Reshape(x, tokens)
  y = Flatten(x)
}"""
    constants = {"tokens": np.array([0, 64, 3]), "oblong": np.array([0, 8, 24]), "sequence": np.array([64, -1, 3]),
                 "where": normal(1, 8, 8, 2)}  # fmt: skip
    graph = graph_of(net(text, constants))
    assert named_layer(graph, "four").layout == Layout("NCHW", followed=False)
    assert named_layer(graph, "square").layout == Layout("NPC", (8, 8), followed=False)
    for name in ("skewed", "rows", "torn"):  # torn: a row of tokens there is a row of colours of neighbours
        with pytest.raises(LayerError, match="no grid"):
            named_layer(graph, name)


MOVED = {
    "a roll that stays": (
        "a = Slice(x, five, far, axis) b = Slice(x, zero, five, axis) m = Concat<axis=3>(a, b)", "Concat 'moved'"
    ),
    "a product with a permutation": ("m = MatMul(x, turn)", "MatMul 'moved'"),
    "a flip of a free size": ("m = Slice(x, minus, low, axis, minus)", "Slice 'moved'"),
    "copies in the batch": ("f = Slice(x, minus, low, axis, minus) m = Concat<axis=0>(x, f)", "Concat 'moved'"),
}  # fmt: skip


@pytest.mark.parametrize("way", MOVED)
def test_where_positions_are_lost_is_said_and_what_works(way: str) -> None:
    body, node = MOVED[way]
    size = "H, W" if "free" in way else "8, 8"
    constants = {"five": [5], "far": [99], "axis": [3], "zero": [0], "minus": [-1], "low": [-99]}
    model = net(
        f"(float[N,3,{size}] x) => (float[N,4,h,w] y) {{ {body} c = Conv<pads=[1,1,1,1]>(m, k) y = Relu(c) }}",
        {"k": normal(4, 3, 3, 3), "turn": np.eye(8, dtype=np.float32)[::-1].copy(),
         **{name: np.array(value) for name, value in constants.items()}},
    )  # fmt: skip
    next(n for n in model.graph.node if n.output[0] == "m").name = "moved"
    with pytest.raises(LayerError) as caught:
        named_layer(graph_of(model), "c")
    assert str(caught.value).endswith(
        f"positions cannot be followed through {node}): use an input-level method (saliency)"
    )


def test_an_earlier_layer_is_named_where_there_is_one() -> None:
    with pytest.raises(LayerError, match=r"through GlobalAveragePool.*: choose an earlier one, such as 'last'$"):
        named_layer(graph_of(residual()), "logits")
