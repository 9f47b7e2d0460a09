"""Models that make one score of all images of a batch."""

from __future__ import annotations

import numpy as np
import pytest

from onnxcam import Explainer
from onnxcam.errors import ImageError, ModelError
from tests.nets import net, normal

WEIGHTS = {"k": normal(4, 3, 3, 3), "w": normal(4, 5, seed=1), "zero": np.array([0])}
ROWS = "c = Conv(x, k) r = Relu(c) p = GlobalAveragePool(r) f = Flatten(p) s = Gemm(f, w)"
BAG = f"{ROWS} y = ReduceMax<axes = [0], keepdims = 1>(s)"


def test_a_bag_of_a_fixed_size_is_refused() -> None:
    with pytest.raises(ModelError, match="one score 'y' of 6 images together"):
        Explainer(net(f"(float[6, 3, 8, 8] x) => (float[1, 5] y) {{ {BAG} }}", WEIGHTS))(normal(6, 3, 8, 8))


def test_images_of_a_bag_of_any_size_come_alone() -> None:
    explainer = Explainer(net(f"(float[N, 3, 8, 8] x) => (float[1, 5] y) {{ {BAG} }}", WEIGHTS))
    with pytest.raises(ImageError, match="one score of the 2 images together"):
        explainer(normal(2, 3, 8, 8))
    assert explainer(normal(1, 3, 8, 8)).status == "ok"


@pytest.mark.parametrize("declared", ["1, 5", "N, 5"])
def test_a_row_an_image_is_none_whatever_is_declared(declared: str) -> None:
    """Exports often name the batch at the input alone."""
    explainer = Explainer(net(f"(float[N, 3, 8, 8] x) => (float[{declared}] y) {{ {ROWS} y = Identity(s) }}", WEIGHTS))
    assert len(explainer(normal(2, 3, 8, 8))) == 2
