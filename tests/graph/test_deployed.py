"""What is made of a model runs as it did."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

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


@pytest.mark.parametrize("domain", ["", "com.microsoft."])
def test_a_shifted_pair_gives_the_same_values(domain: str) -> None:
    body = f"q = {domain}QuantizeLinear(x, s, i) d = {domain}DequantizeLinear(q, s, j) y = Relu(d)"
    graph = graph_of(body)
    x = np.array([-80, -0.3, 0.8, 90], np.float32)
    before = onnx.ModelProto()
    before.CopyFrom(graph.proto)
    after = as_deployed(graph, onnx.ModelProto.FromString(graph.proto.SerializeToString()))
    kinds = {tensor.data_type for tensor in after.graph.initializer if "uint8" in tensor.name}
    assert kinds == ({onnx.TensorProto.UINT8} if shifts_int8() else set())
    for proto in (before, after):
        np.testing.assert_array_equal(run(proto, {"x": x})["y"], [0, 0, 1, 65])


VIEWS = {
    "Transpose": "v = Transpose(d)",
    "Reshape": "v = Reshape(d, flat)",
    "Reshape and Unsqueeze": "u = Reshape(d, flat) v = Unsqueeze(u, first)",
    "Slice": "v = Slice(d, first, second)",
    "MaxPool": "u = Unsqueeze(d, first) v = MaxPool<kernel_shape = [2]>(u)",
}


@pytest.mark.parametrize("readers", [1, 2])
@pytest.mark.parametrize("view", VIEWS)
def test_what_is_viewed_of_int8_loads(view: str, readers: int) -> None:
    """ONNX Runtime quantizes behind the view as well, and contradicts itself from opset 21 on."""
    weights = {**SIGNED, "flat": np.array([-1]), "first": np.array([0]), "second": np.array([1])}
    body = f"q = QuantizeLinear(x, s, i) d = DequantizeLinear(q, s, i) {VIEWS[view]} y = Softplus(v)"
    body += " z = Relu(d)" * (readers - 1)
    outputs = "float[K] y" + ", float[2, 3] z" * (readers - 1)
    x = np.array([[-80, -0.3, 0.8], [90, 2.2, 1.4]], np.float32)
    expected = run(net(f"(float[2, 3] x) => ({outputs}) {{ {body} }}", weights), {"x": x})
    graph = read_graph(load(net(f"(float[2, 3] x) => ({outputs}) {{ {body} }}", weights, opset=21)))
    found = run(as_deployed(graph, onnx.ModelProto.FromString(graph.proto.SerializeToString())), {"x": x})
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6)
