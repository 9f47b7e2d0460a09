"""What is made of a model runs as it did."""

from __future__ import annotations

import numpy as np
import onnx

from onnxcam.graph import Graph, as_deployed, load, read_graph
from onnxcam.graph.deployed import lone_pairs, shifts_int8
from tests.nets import net, run

SIGNED = {"s": np.array(0.5, np.float32), "i": np.array(-3, np.int8), "j": np.array(-3, np.int8)}


def graph_of(body: str) -> Graph:
    return read_graph(load(net(f"(float[4] x) => (float[4] y) {{ {body} }}", SIGNED)))


def test_only_lone_int8_pairs_are_shifted() -> None:
    """As ONNX Runtime does: a pair that is read twice stays."""
    graph = graph_of(
        "q = QuantizeLinear(x, s, i) d = DequantizeLinear(q, s, j) r = Relu(d) "
        "p = QuantizeLinear(r, s, i) e = DequantizeLinear(p, s, i) f = DequantizeLinear(p, s, i) y = Add(e, f)"
    )
    assert lone_pairs(graph) == {"q"}


def test_a_shifted_pair_gives_the_same_values() -> None:
    body = "q = QuantizeLinear(x, s, i) d = DequantizeLinear(q, s, j) y = Relu(d)"
    graph = graph_of(body)
    x = np.array([-80, -0.3, 0.8, 90], np.float32)
    before = onnx.ModelProto()
    before.CopyFrom(graph.proto)
    after = as_deployed(graph, onnx.ModelProto.FromString(graph.proto.SerializeToString()))
    kinds = {tensor.data_type for tensor in after.graph.initializer if "uint8" in tensor.name}
    assert kinds == ({onnx.TensorProto.UINT8} if shifts_int8() else set())
    for proto in (before, after):
        np.testing.assert_array_equal(run(proto, {"x": x})["y"], [0, 0, 1, 65])
