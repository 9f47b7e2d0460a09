"""`x[:, [2, 1, 0]]` as torch's newer exporter writes it: positions are followed through it."""

from __future__ import annotations

import numpy as np
import pytest

from onnxcam import Explainer
from onnxcam.graph import load, read_graph
from tests.nets import Array, net, normal

WEIGHTS: dict[str, Array] = {
    "k": normal(4, 3, 3, 3), "w": normal(4, 5), "bgr": np.array([[2], [1], [0]]), "plain": np.array([2, 1, 0]),
}  # fmt: skip
TEXT = """(float[N, 3, 6, 8] x) => (float[N, 5] y) {{ t = Transpose<perm = [1, 0, 2, 3]>(x) g = {0}
    b = Transpose<perm = [1, 0, 2, 3]>(g) c = Conv<pads = [1, 1, 1, 1]>(b, k) a = Relu(c) p = GlobalAveragePool(a)
    f = Flatten(p) y = MatMul(f, w) }}"""


def test_the_map_is_that_of_a_gather() -> None:
    picked, gathered = (net(TEXT.format(how), WEIGHTS) for how in ("GatherND(t, bgr)", "Gather(t, plain)"))
    x = normal(3, 6, 8)
    one, other = Explainer(picked)(x, target=1), Explainer(gathered)(x, target=1)
    assert (one.layer, one.placed) == (other.layer, "followed")
    np.testing.assert_allclose(one.map, other.map, rtol=1e-6)


@pytest.mark.parametrize("how", ["GatherND<batch_dims = 1>(t, bgr)", "GatherND(t, computed)"])
def test_others_stay_as_they_are(how: str) -> None:
    text = """(float[3, 2, 6, 8] t, int64[3, 1] computed) => (float[R, H, W] y) {{ g = {0} y = Identity(g) }}"""
    nodes = read_graph(load(net(text.format(how), WEIGHTS))).nodes
    assert [node.op_type for node in nodes if node.op_type.startswith("Gather")] == ["GatherND"]
