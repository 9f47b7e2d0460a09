"""Float16 graphs in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from onnxcam.graph import load, read_graph, widened
from onnxcam.graph.nodes import all_graphs
from tests.nets import net, normal, run

BODIES = {
    "weights": "y = MatMul(x, w)",
    "casts": "f = Cast<to = 1>(x) p = Softmax(f) h = Cast<to = 10>(p) y = MatMul(h, w)",
    "constants": "n = Shape(x) o = ConstantOfShape<value = float16[1] {14336}>(n) p = Add(o, x) y = MatMul(p, w)",
    "eye": "m = MatMul(x, w) e = EyeLike<dtype = 10>(w) i = MatMul(e, e) y = MatMul(m, i)",
    "quantizer": "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = MatMul(d, w)",
    "sequences": """m = ReduceMax(x) big = Greater(m, naught)
        held = If(big) <then_branch = a () => (seq(float16[2, 4]) p) { p = SequenceConstruct(x, x) },
                     else_branch = b () => (seq(float16[2, 4]) q) { n = Neg(x) q = SequenceConstruct(n, x) }>
        t = SequenceAt(held, first) y = MatMul(t, w)""",
    "branches": """m = ReduceMax(x) big = Greater(m, naught)
        y = If(big) <then_branch = a () => (float16[2, 4] p) { p = MatMul(x, w) },
                     else_branch = b () => (float16[2, 4] q) { q = Relu(x) }>""",
}
WEIGHTS = {
    "w": normal(4, 4, seed=1).astype(np.float16), "s": np.float16(0.05), "z": np.uint8(120), "naught": np.float16(0),
    "first": np.int64(0),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_the_same_but_for_roundings(name: str) -> None:
    opset = 21 if name == "quantizer" else 17
    model = net(f"(float16[2, 4] x) => (float16[2, 4] y) {{ {BODIES[name]} }}", WEIGHTS, opset=opset)
    half = read_graph(load(model)).proto
    full = widened(onnx.ModelProto.FromString(half.SerializeToString()))
    told = str([value.type for graph in all_graphs(full.graph) for value in (*graph.input, *graph.output)])
    assert f"elem_type: {TensorProto.FLOAT}\n" in told
    assert f"elem_type: {TensorProto.FLOAT16}\n" not in told
    x = normal(2, 4).astype(np.float16)
    expected, found = run(half, {"x": x})["y"], run(full, {"x": x.astype(np.float32)})["y"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.astype(np.float32), rtol=4e-3, atol=4e-3)


def test_what_is_not_narrow_stays() -> None:
    model = net("(float[2, 4] x) => (float[2, 4] y) { y = MatMul(x, w) }", {"w": normal(4, 4)})
    assert widened(onnx.ModelProto.FromString(model.SerializeToString())) == model


def test_weights_stay_in_their_file(tmp_path: Path) -> None:
    model = net("(float16[2, 4] x) => (float16[2, 4] y) { y = MatMul(x, w) }", WEIGHTS)
    onnx.save(model, tmp_path / "half.onnx", save_as_external_data=True, location="half.bin", size_threshold=0)
    proto = onnx.load(tmp_path / "half.onnx", load_external_data=False)
    (stored,) = [tensor for tensor in widened(proto).graph.initializer if tensor.dims == [4, 4]]
    assert stored.data_type == TensorProto.FLOAT16
    assert stored.external_data
    assert not stored.raw_data
    assert numpy_helper.to_array(stored, str(tmp_path)).dtype == np.float16
