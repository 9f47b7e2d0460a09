"""Regions of a photo on the grid of a model's scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import onnxcam
from onnxcam.errors import ImageError, InputError, TargetError
from onnxcam.explainer.regions import seen_region
from onnxcam.imaging import Geometry
from tests.nets import net, normal, run

PHOTO = Geometry.resized((8, 4), (16, 8))  # twice as large in the model
CROPPED = PHOTO.framed(4, 0, (8, 8))  # of which the model sees columns 2 to 6 of the photo
PADDED = PHOTO.framed(0, -4, (16, 16))  # grey above and below
WEIGHT = normal(2, 3, 9, 9)


def test_a_box_takes_the_positions_whose_centres_lie_in_it() -> None:
    expected = np.zeros((4, 8), bool)
    expected[1:3, 2:5] = True
    np.testing.assert_array_equal(seen_region(PHOTO, (4, 8), (2, 1, 5, 3)), expected)
    np.testing.assert_array_equal(seen_region(PHOTO, (4, 8), (1.6, 0.6, 4.6, 2.6)), expected)
    np.testing.assert_array_equal(seen_region(PHOTO, (2, 4), (0, 0, 2, 4)), [[1, 0, 0, 0], [1, 0, 0, 0]])


def test_crops_and_padding_are_heeded() -> None:
    np.testing.assert_array_equal(seen_region(CROPPED, (1, 4), (2, 0, 4, 4)), [[1, 1, 0, 0]])
    np.testing.assert_array_equal(seen_region(PADDED, (4, 1), (0, 0, 8, 2)), [[0], [1], [0], [0]])
    assert not seen_region(CROPPED, (4, 4), (0, 0, 2, 4)).any()  # cut away


@pytest.mark.parametrize("size", ["20,20", "H,W"])
def test_a_region_of_scores_that_leave_a_margin_out(size: str) -> None:
    """A kernel of 9 without padding: the first of 12 cells looks at pixels 0 to 9, its centre lies at 4.5."""
    model = net(f"(float[N,3,{size}] x) => (float[N,2,A,B] y) {{ r = Relu(x) y = Conv(r, w) }}", {"w": WEIGHT})
    x = normal(3, 20, 20)
    e = onnxcam.Explainer(model)(x, "1@8,8,12,10", method="inputxgradient")
    scores = run(model, {"x": x[None]})["y"][0]
    assert e.target.value(scores) == pytest.approx(scores[1, 4:6, 4:8].sum(), rel=1e-6)


def test_a_window_may_run_backwards() -> None:
    """As of a model that flips the image: the photo's first column is the grid's last."""
    np.testing.assert_array_equal(seen_region(PHOTO, (1, 4), (0, 0, 2, 4), ((0.0, 1.0), (1.0, 0.0))), [[0, 0, 0, 1]])


@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_a_mask_is_read_at_the_centres(tmp_path: Path, suffix: str) -> None:
    mask = np.zeros((4, 8), np.uint8)
    mask[0:2, 4:] = 255
    path = str(tmp_path / f"mask{suffix}")
    if suffix == ".png":
        Image.fromarray(mask).save(path)
    else:
        np.save(path, mask)
    np.testing.assert_array_equal(seen_region(PHOTO, (4, 8), path), mask > 0)
    np.testing.assert_array_equal(seen_region(PADDED, (4, 2), path), [[0, 0], [0, 1], [0, 0], [0, 0]])


def test_what_is_no_mask_of_the_photo_is_refused(tmp_path: Path) -> None:
    Image.new("L", (8, 5)).save(tmp_path / "tall.png")
    with pytest.raises(InputError, match=r"tall\.png has 8 x 5 pixels, the photo 8 x 4: give one of the photo's size"):
        seen_region(PHOTO, (4, 8), str(tmp_path / "tall.png"))
    with pytest.raises(ImageError, match="none"):
        seen_region(PHOTO, (4, 8), str(tmp_path / "none.png"))
    np.save(tmp_path / "line.npy", np.ones(4))
    with pytest.raises(TargetError, match=r"line\.npy has shape \[4\]: it should be \(height, width\)"):
        seen_region(PHOTO, (4, 8), str(tmp_path / "line.npy"))
    (tmp_path / "bad.npy").write_bytes(b"nothing")
    with pytest.raises(TargetError, match=r"bad\.npy cannot be read"):
        seen_region(PHOTO, (4, 8), str(tmp_path / "bad.npy"))
