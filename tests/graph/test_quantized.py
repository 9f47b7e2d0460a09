"""Where integers are read as floats, under which names, and what runs stays as it was."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxcam.graph import Graph, dequantized, load, quantizer, read_graph, rounded, sources, unquantized
from onnxcam.graph.integers import drop_unread, surface
from onnxcam.graph.quantized import read_point, twins
from tests.nets import net

STEPS = {"s": np.array(0.5, np.float32), "t": np.array(0.25, np.float32), "z": np.array(3, np.uint8)}


def graph_of(body: str, weights: dict[str, np.ndarray] = STEPS, outputs: str = "float[4] y") -> Graph:
    return read_graph(load(net(f"(float[4] x) => ({outputs}) {{ {body} }}", weights)))


def test_a_value_is_read_behind_its_quantizer() -> None:
    graph = graph_of("a = Neg(x) q = QuantizeLinear(a, s, z) d = DequantizeLinear(q, s, z) y = Neg(d)")
    assert [dequantized(graph, name) for name in ("a", "q", "d", "y")] == ["d", "d", None, None]
    assert quantizer(graph, "x") is None
    assert unquantized(graph, "d") == "a"
    assert sources(graph, "d") == ["q"]


@pytest.mark.parametrize(
    "body",
    [
        "q = QuantizeLinear(a, s, z) d = DequantizeLinear(q, t, z) y = Neg(d)",
        "q = QuantizeLinear(a, s, z) d = DequantizeLinear(q, s, z) y = Add(a, d)",
    ],
    ids=["another scale", "read as it is besides"],
)
def test_a_value_that_is_read_or_scaled_otherwise_is_itself(body: str) -> None:
    graph = graph_of("a = Neg(x) " + body)
    assert dequantized(graph, "a") is None
    assert read_point(graph, "a") == "a"


def test_a_relu_in_front_of_a_quantizer_is_part_of_the_kernel() -> None:
    graph = graph_of("a = Neg(x) r = Relu(a) q = QuantizeLinear(r, s, z) d = DequantizeLinear(q, s, z) y = Neg(d)")
    assert [read_point(graph, name) for name in ("a", "r", "q", "d")] == ["d", "d", "d", "d"]


@pytest.mark.parametrize(
    "body",
    [
        "q = QuantizeLinear(a, s, z) d = DequantizeLinear(q, s, z) e = DequantizeLinear(q, s, z) y = Add(d, e)",
        "q = QuantizeLinear(a, s, z) p = QuantizeLinear(a, s, z) d = DequantizeLinear(q, s, z) "
        "e = DequantizeLinear(p, s, z) y = Add(d, e)",
        "q = QuantizeLinear(a, s, z) p = Identity(q) d = DequantizeLinear(q, s, z) e = DequantizeLinear(p, s, z) "
        "y = Add(d, e)",
    ],
    ids=["two readings", "two quantizers", "handed on"],
)
def test_what_dequantizes_the_same_integers_is_the_same_value(body: str) -> None:
    graph = graph_of("a = Neg(x) " + body)
    assert (twins(graph, "d"), twins(graph, "e")) == (["e"], ["d"])


INTEGERS = "q = QuantizeLinear(x, s, z) o = com.microsoft.QLinearSigmoid(q, s, z, s, z) f = Identity(o) "


def test_integers_get_a_place_to_be_read_which_goes_where_nobody_reads_it() -> None:
    model = net(f"(float[4] x) => (float[4] y) {{ {INTEGERS} y = DequantizeLinear(f, s, z) }}", STEPS)
    proto = surface(onnx.ModelProto.FromString(model.SerializeToString()))
    assert [node.output[0] for node in proto.graph.node] == ["q", "o", "o_dequantized", "f", "y"]
    drop_unread(proto, ())
    assert [node.output[0] for node in proto.graph.node] == ["q", "o", "f", "y"]


def test_no_place_to_be_read_takes_the_name_of_a_weight() -> None:
    weights = {**STEPS, "o_dequantized": np.ones(4, np.float32)}
    graph = graph_of(INTEGERS + "e = DequantizeLinear(f, s, z) y = Add(e, o_dequantized)", weights)
    assert "o_dequantized" in graph.initializers
    assert dequantized(graph, "f") == "e"


def test_the_integers_of_a_score_go_back_to_what_makes_them() -> None:
    graph = graph_of(INTEGERS + "y = DequantizeLinear(f, s, z)")
    assert rounded(graph, "y") == {"f", "o"}
    assert rounded(graph, "x") == set()
