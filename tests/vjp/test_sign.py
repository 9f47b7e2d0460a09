"""What cannot be negative is proved from the graph alone."""

from __future__ import annotations

import numpy as np
import pytest

from onnxcam.graph import Graph, head, load, read_graph
from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.sign import never_negative
from tests.nets import net

WEIGHTS = {
    "s": np.array(0.5, np.float32), "low": np.array(0, np.uint8), "mid": np.array(9, np.uint8),
    "least": np.array(-128, np.int8), "zero": np.array(0, np.float32), "half": np.array([0.5, 0.5], np.float32),
    "minus": np.array([0.5, -0.5], np.float32),
}  # fmt: skip


@pytest.mark.parametrize(
    ("body", "proved"),
    [
        ("y = Relu(x)", True),
        ("y = Neg(x)", False),
        ("y = Clip(x, zero)", True),
        ("y = Clip(x, s)", True),
        ("a = Relu(x) b = Sigmoid(x) y = Add(a, b)", True),
        ("a = Relu(x) y = Add(a, x)", False),
        ("a = Relu(x) y = Mul(a, half)", True),
        ("a = Relu(x) y = Mul(a, minus)", False),
        ("q = QuantizeLinear(x, s, low) y = DequantizeLinear(q, s, low)", True),
        ("q = QuantizeLinear(x, s, least) y = DequantizeLinear(q, s, least)", True),
        ("q = QuantizeLinear(x, s) y = DequantizeLinear(q, s)", True),
        ("q = QuantizeLinear(x, s, mid) y = DequantizeLinear(q, s, mid)", False),
        ("y = Identity(x)", False),
        ("b = Less(x, zero) y = Where(b, half, zero)", True),
        ("b = Less(x, zero) y = Where(b, x, zero)", False),
        ("b = Less(x, zero) y = Where(b, minus, zero)", False),
    ],
)
def test_never_negative(body: str, proved: bool) -> None:
    assert never_negative(Emitter(graph_of(body)), "y") is proved


def test_what_was_written_counts_too() -> None:
    g = Emitter(graph_of("y = Sigmoid(x)"))
    half, minus = g.const(0.5, np.float32), g.const(-0.5, np.float32)
    assert never_negative(g, g.op("Mul", "y", half))
    assert not never_negative(g, g.op("Mul", "y", minus))


def graph_of(body: str) -> Graph:
    return read_graph(load(net(f"(float[2] x) => (float[2] y) {{ {body} }}", WEIGHTS)))


@pytest.mark.parametrize("layer", ["a", "p"])
@pytest.mark.parametrize(("body", "expected"), [("Relu", True), ("Neg", False)])
def test_of_what_a_head_reads_the_whole_model_tells(body: str, expected: bool, layer: str) -> None:
    """Else a quantizer behind it would be taken for a Relu, and means that round to 0 have no gradient."""
    text = f"""(float[N,3,4,4] x) => (float[N,3] y) {{
        a = {body}(x) p = MaxPool<kernel_shape = [2, 2]>(a) m = GlobalAveragePool(p) y = Flatten(m) }}"""
    behind = head(read_graph(load(net(text))), layer, "y").graph
    assert never_negative(Emitter(behind), "m") is expected
