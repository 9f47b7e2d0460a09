"""Sizes that onnx calls 0 because it does not know them: no gradient is left out for that."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx.parser
import pytest

from onnxcam.graph import load, read_graph
from onnxcam.vjp import differentiate
from tests.vjp.harness import session

TEXT = """<ir_version: 10, opset_import: ["" : {opset}]>
  g (float[1, 3, 8] q, float[1, 4, 8] k, float[{v}] v) => (float[] y)
  {{ y = Attention<q_num_heads = 2, kv_num_heads = 2>(q, k, v) }}"""


def gradients(opset: int, v: str) -> list[npt.NDArray[np.float32]]:
    model = onnx.parser.parse_model(TEXT.format(opset=opset, v=v))
    result = differentiate(model, of="y", wrt=["q", "k", "v"])
    rng = np.random.default_rng(0)
    shapes = {"q": (1, 3, 8), "k": (1, 4, 8), "v": (1, 4, 8), result.seed: (1, 3, 8)}
    feeds = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return session(result.model).run([result.gradients[name] for name in "qkv"], feeds)


@pytest.mark.parametrize("opset", [23, 24])
@pytest.mark.parametrize("v", ["1, S, D", "B, S, D"])
def test_an_attention_of_unknown_width_has_its_gradient(opset: int, v: str) -> None:
    for found, wanted in zip(gradients(opset, v), gradients(opset, "1, 4, 8"), strict=True):
        assert np.abs(wanted).max() > 0
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_its_width_is_not_told() -> None:
    graph = read_graph(load(onnx.parser.parse_model(TEXT.format(opset=23, v="1, S, D"))))
    shape = graph.shape("y")
    assert shape is not None
    assert 0 not in shape
