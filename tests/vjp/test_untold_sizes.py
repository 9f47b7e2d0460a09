"""Sizes that onnx calls 0 because it does not know them: no gradient is left out for that."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx.parser
import pytest

from onnxcam.graph import load, read_graph
from onnxcam.vjp import differentiate
from tests.nets import net, normal
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


def test_scores_of_an_attention_are_of_the_past_too() -> None:
    """onnx, and ONNX Runtime, infer that they are of the new keys alone."""
    reads = "float[B,2,S,2] q, float[B,2,3,2] k, float[B,2,3,3] v, float[B,2,P,2] old, float[B,2,P,3] past"
    body = "y, keys, values, scores = Attention(q, k, v, , old, past)"
    model = net(f"({reads}) => (float[B,2,S,T] scores) {{ {body} }}", opset=23, ir=10)
    result = differentiate(model, of="scores", wrt="q")
    feeds = {"q": normal(2, 2, 3, 2), "k": normal(2, 2, 3, 2, seed=1), "v": normal(2, 2, 3, 3)}
    feeds |= {"old": normal(2, 2, 4, 2, seed=2), "past": normal(2, 2, 4, 3), result.seed: normal(2, 2, 3, 7, seed=3)}
    (found,) = session(result.model).run([result.gradients["q"]], feeds)
    wanted = feeds[result.seed] @ np.concatenate([feeds["old"], feeds["k"]], 2) / np.sqrt(2)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [np.float32, np.bool_])
def test_an_attention_that_gives_its_scores_out(kind: type[np.generic]) -> None:
    """ONNX Runtime infers that there are none where the number of keys is free."""
    text = "(float[B, 2, S, 2] q, float[B, 2, L, 2] k, float[B, 2, L, 3] v) => (float[B, 2, S, 3] y) "
    weights = {"m": (normal(3, 5) > 0).astype(kind)}
    plain, other = (
        differentiate(net(f"{text} {{ {outputs} = Attention(q, k, v, m) }}", weights, opset=23, ir=10), of="y", wrt="q")
        for outputs in ("y", "y, keys, values, scores")
    )
    feeds = {
        "q": normal(2, 2, 3, 2),
        "k": normal(2, 2, 5, 2, seed=1),
        "v": normal(2, 2, 5, 3),
        plain.seed: normal(2, 2, 3, 3),
    }
    wanted, found = (session(one.model).run([one.gradients["q"]], feeds)[0] for one in (plain, other))
    assert np.abs(wanted).max() > 0
    np.testing.assert_array_equal(found, wanted)
