"""Detectors whose heads are joined in rows of boxes, the batch among them or not there at all."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxcam import Explainer, differentiate
from tests.nets import net, normal, run, tapped

WEIGHTS = {
    "k": normal(4, 3, 3, 3), "f": normal(4, 4, 3, 3, seed=1), "c": normal(4, 4, 3, 3, seed=2),
    "fo": normal(5, 4, 1, 1, seed=3), "co": normal(5, 4, 1, 1, seed=4), "flat": np.array([-1, 5]),
    "folded": np.array([1, -1, 5]),
}  # fmt: skip
X = normal(2, 3, 8, 8, seed=5)
FORMS = {  # how the boxes of a head are laid out, where they are joined, and the shapes of input and output
    "without a batch": ("flat", 0, "1", "80, 5"),
    "in a batch of one": ("folded", 1, "1", "1, 80, 5"),
    "folded into one": ("folded", 1, "N", "1, R, 5"),
}


def detector(form: str) -> onnx.ModelProto:
    """Two heads of 8 x 8 and 4 x 4 places: rows 0 to 63 are of the fine one."""
    shape, axis, batch, out = FORMS[form]
    text = f"""(float[{batch}, 3, 8, 8] x) => (float[{out}] y) {{
        s = Conv<pads = [1, 1, 1, 1]>(x, k) stem = Relu(s)
        m = Conv<pads = [1, 1, 1, 1]>(stem, f) fine = Relu(m)
        n = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(stem, c) coarse = Relu(n)
        a = Conv(fine, fo) b = Conv(coarse, co)
        ta = Transpose<perm = [0, 2, 3, 1]>(a) tb = Transpose<perm = [0, 2, 3, 1]>(b)
        ra = Reshape(ta, {shape}) rb = Reshape(tb, {shape}) y = Concat<axis = {axis}>(ra, rb) }}"""
    return net(text, WEIGHTS)


@pytest.mark.parametrize(("row", "layer"), [(5, "fine"), (70, "coarse")])
@pytest.mark.parametrize("form", FORMS)
def test_the_head_that_holds_the_box_is_explained(form: str, row: int, layer: str) -> None:
    explainer, made = Explainer(detector(form)), differentiate(detector(form), of="y", wrt=layer)
    both = explainer(list(X), target=f"y[{row},3]")
    for x, e in zip(X, both, strict=True):
        y = run(detector(form), {"x": x[None]})["y"]
        seed = np.zeros_like(y)
        seed[..., row, 3] = 1
        values = run(tapped(made.model, layer), {"x": x[None], made.seed: seed})
        weights = values[made.gradients[layer]].mean(axis=(2, 3), keepdims=True)
        assert e.layer == layer
        np.testing.assert_allclose(e.map, (weights * values[layer]).sum(axis=1)[0], rtol=1e-4, atol=1e-6)
        assert np.abs(e.map).max() > 0
