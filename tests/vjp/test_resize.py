"""Resampling that leaves nothing of a row: a product over nothing is whatever was in memory."""

from __future__ import annotations

import numpy as np

from onnxcam.vjp import differentiate
from tests.nets import net, normal
from tests.vjp.harness import session

HALVED = """(float[N,1,H,4] x) => (float[N,1,R,4] y) {
    half = Constant<value_floats = [1.0, 1.0, 0.5, 1.0]>() r = Resize<mode = "linear">(x, , half)
    y = Concat<axis = 2>(x, r) }"""


def test_half_a_row_adds_nothing() -> None:
    result = differentiate(net(HALVED), of="y", wrt="x")
    back = session(result.model)
    for count in (1, 4, 16) * 30:
        x = normal(count, 1, 1, 4)
        seed = np.full(x.shape, 7, np.float32)
        (found,) = back.run([result.gradients["x"]], {"x": x, result.seed: seed})
        np.testing.assert_array_equal(found, seed)
