"""Values that are the same along an axis, whatever the input: a softmax over them has no gradient."""

from __future__ import annotations

import numpy as np
import pytest

from onnxcam.graph import load, read_graph
from onnxcam.vjp import differentiate
from onnxcam.vjp.uniform import same_along
from tests.nets import Array, net, normal, run

ONES = np.full((4, 3), 1.5, np.float32)
WEIGHTS: dict[str, Array] = {
    "w": ONES,
    "b": np.full(4, 2, np.float32),
    "wt": ONES.T.copy(),
    "uneven": np.arange(4, dtype=np.float32),
    "varied": normal(4, 3),
    "kernel": np.ones((4, 3, 3, 3), np.float32),
    "each": np.ones((4, 1, 1, 1), np.float32),
    "shape": np.array([0, 2, 2]),
    "sizes": np.array([4, 3]),
    "fours": np.array([-1, 4]),
    "half": np.array(0.5, np.float32),
    "on": np.array(True),
    "off": np.array(False),
}
FLAT = "p = GlobalAveragePool(x) f = Flatten(p) "
SAME = {
    "Gemm": FLAT + "y = Gemm<transB = 1>(f, w, b)",
    "Gemm without bias, then Relu": FLAT + "h = Gemm<transB = 1>(f, w) y = Relu(h)",
    "MatMul": FLAT + "y = MatMul(f, wt)",
    "Conv, pool, Flatten": "c = Conv(x, kernel) p = GlobalAveragePool(c) y = Flatten(p)",
    "Dropout": "c = Conv(x, kernel) d = Dropout(c, half, off) p = GlobalAveragePool(d) y = Flatten(p)",
    "ConstantOfShape": FLAT + "v = ConstantOfShape(sizes) y = Gemm<transB = 1>(f, v)",
}
DIFFERENT = {
    "a bias for each class": FLAT + "y = Gemm<transB = 1>(f, w, uneven)",
    "elements dropped": "c = Conv(x, kernel) d, m = Dropout(c, half, on) p = GlobalAveragePool(d) y = Flatten(p)",
    "other weights": FLAT + "y = Gemm<transB = 1>(f, varied)",
    "a group for each class": (
        "s = Concat<axis = 1>(x, m) c = Conv<group = 4>(s, each) p = GlobalAveragePool(c) y = Flatten(p)"
    ),
    "weights computed from the image": FLAT + "t = Transpose(f) y = MatMul(f, t)",
    "rows made of positions": "c = Conv(x, kernel) y = Reshape(c, fours)",
    "classes made of positions": FLAT + "h = Gemm<transB = 1>(f, w) y = Reshape(h, shape)",
    "the input": "y = Identity(x)",
}


def text(body: str) -> str:
    mean = "m = ReduceMean<axes = [1]>(x) " if "x, m" in body else ""
    return f"(float[2, 3, 5, 5] x) => (float[N, K] y) {{ {mean}{body} }}"


@pytest.mark.parametrize("name", [*SAME, *DIFFERENT])
def test_told_from_the_graph(name: str) -> None:
    graph = read_graph(load(net(text((SAME | DIFFERENT)[name]), WEIGHTS)))
    assert same_along(graph, "y", 1) == (name in SAME)


@pytest.mark.parametrize("name", SAME)
def test_and_so_it_is(name: str) -> None:
    y = run(net(text(SAME[name]), WEIGHTS), {"x": normal(2, 3, 5, 5)})["y"]
    assert (y == y[:, :1]).all()


def test_not_along_the_rows() -> None:
    assert not same_along(read_graph(load(net(text(SAME["Gemm"]), WEIGHTS))), "y", 0)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_the_gradient_behind_a_softmax_is_exactly_zero(op: str) -> None:
    body = SAME["Conv, pool, Flatten"].replace("y =", "h =") + f" y = {op}(h)"
    result = differentiate(net(text(body), WEIGHTS), of="y", wrt="x")
    feeds = {"x": normal(2, 3, 5, 5), result.seed: normal(2, 4, seed=1)}
    assert not run(result.model, feeds)[result.gradients["x"]].any()
