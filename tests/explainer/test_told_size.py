"""Models that leave height and width free, but whose head has weights for the places of one size."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from PIL import Image

import onnxcam
from onnxcam import Explainer
from onnxcam.errors import InputError
from tests.nets import net, normal

TEXT = """(float[N, 3, H, W] x) => (float[N, 5] y) {
  a = Conv<kernel_shape = [3, 3], strides = [4, 4], pads = [1, 1, 1, 1]>(x, k) r = Relu(a) f = Flatten(r)
  y = Gemm(f, w) }"""


def model(columns: int, rows: int) -> onnx.ModelProto:
    """Whose head takes grids of so many cells, of 4 pixels a side."""
    return net(TEXT, {"k": normal(8, 3, 3, 3), "w": normal(8 * columns * rows, 5, seed=1)})


def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (120, 150, 3), np.uint8).astype(np.uint8))


@pytest.mark.parametrize("side", [32, 96, 256])
def test_photos_are_prepared_for_the_usual_size_that_fits(side: int) -> None:
    explainer = Explainer(model(side // 4, side // 4))
    found = explainer(photo(), 2)
    assert found.item.row.shape == (3, side, side)
    assert (found.layer, found.map.shape, found.status) == ("r", (side // 4, side // 4), "ok")
    (layer,) = (row for row in onnxcam.list_layers(model(side // 4, side // 4)) if row.automatic)
    assert layer.name == "r"


def test_an_array_of_another_size_that_fits_is_taken() -> None:
    found = Explainer(model(10, 5))(normal(1, 3, 20, 40), 2)
    assert (found.layer, found.map.shape) == ("r", (5, 10))


def test_what_fits_no_usual_size_says_what_does_not_fit() -> None:
    with pytest.raises(InputError, match="does not run on this input"):
        Explainer(model(50, 16))(photo())
    assert not any(row.automatic for row in onnxcam.list_layers(model(50, 16)))


def test_an_exported_file_knows_the_size(tmp_path: object) -> None:
    path = onnxcam.export(model(24, 24), f"{tmp_path}/out.onnx")
    found = Explainer(path)(photo(), 2)
    np.testing.assert_allclose(found.map, Explainer(model(24, 24))(photo(), 2).map, rtol=1e-5, atol=1e-6)
