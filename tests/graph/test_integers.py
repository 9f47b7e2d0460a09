"""What stands behind operators that compute with integers."""

from __future__ import annotations

import onnx

from onnxcam.graph.integers import surface
from tests.nets import net


def test_a_node_without_inputs_or_outputs_is_left_alone() -> None:
    """ONNX Runtime's own DequantizeLinear and NhwcMaxPool are checked by nobody before."""
    model = net("(float[1] x) => (float[1] y) { y = Identity(x) }")
    for op in ("DequantizeLinear", "NhwcMaxPool", "QLinearAdd"):
        model.graph.node.add(op_type=op, domain="com.microsoft")
    before = onnx.ModelProto()
    before.CopyFrom(model)
    assert surface(model) == before
