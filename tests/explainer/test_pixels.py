"""Bytes that are moved before they are numbers: the usual stem of a deployed model."""

from __future__ import annotations

import numpy as np
import pytest

from onnxcam import Explainer, check
from tests.nets import Array, net, normal

WEIGHTS: dict[str, Array] = {
    "k": normal(4, 3, 3, 3) / 255, "w": normal(4, 5), "bgr": np.array([2, 1, 0]), "from": np.array([1, 1]),
    "to": np.array([7, 9]), "axes": np.array([1, 2]),
}  # fmt: skip
STEMS = {
    "turned": "t = Transpose<perm = [0, 3, 1, 2]>(x) b = Cast<to = 1>(t)",
    "channels the other way": "g = Gather<axis = 3>(x, bgr) f = Cast<to = 1>(g) b = Transpose<perm = [0, 3, 1, 2]>(f)",
    "cut": "s = Slice(x, from, to, axes) t = Transpose<perm = [0, 3, 1, 2]>(s) b = Cast<to = 1>(t)",
}
BEHIND = (
    """c = Conv<pads = [1, 1, 1, 1]>(b, k) a = Relu(c) p = GlobalAveragePool(a) f1 = Flatten(p) y = MatMul(f1, w)"""
)


@pytest.mark.parametrize("stem", STEMS)
def test_the_last_layer_is_found_and_the_image_has_a_gradient(stem: str) -> None:
    model = net(f"(uint8[N, 8, 10, 3] x) => (float[N, 5] y) {{ {STEMS[stem]} {BEHIND} }}", WEIGHTS)
    photo = np.random.default_rng(0).integers(0, 256, (8, 10, 3), np.uint8)
    explainer = Explainer(model)
    assert explainer(photo).layer == "a"
    assert explainer(photo, method="saliency").status == "ok"
    as_floats = net(f"(float[N, 8, 10, 3] x) => (float[N, 5] y) {{ {STEMS[stem]} {BEHIND} }}", WEIGHTS)
    for method in ("gradcam", "saliency"):
        one, other = explainer(photo, 1, method), Explainer(as_floats)(photo.astype(np.float32), 1, method)
        np.testing.assert_allclose(one.map, other.map, rtol=1e-4, atol=1e-7)
    assert all(row.ok for row in check(model, photo))
