from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from onnxcam.imaging import Geometry, place
from tests.imaging.frames import box, to_input, to_photo


def delta(height: int, width: int, row: int, column: int) -> np.ndarray:
    map = np.zeros((height, width), np.float32)
    map[row, column] = 1
    return map


def centroid(heat: np.ndarray) -> tuple[float, float]:
    """x, y in continuous coordinates."""
    ys, xs = np.mgrid[: heat.shape[0], : heat.shape[1]] + 0.5
    return float((heat * xs).sum() / heat.sum()), float((heat * ys).sum() / heat.sum())


# a photo of 400 x 200, its short side to 100, the middle 100 x 100 cut out
CROPPED = Geometry.resized((400, 200), (200, 100)).framed(50, 0, (100, 100))
# a photo of 200 x 100 in a frame of 100 x 100, top left and centred
TOP_LEFT = Geometry.resized((200, 100), (100, 50)).framed(0, 0, (100, 100))
CENTRED = Geometry.resized((200, 100), (100, 50)).framed(0, -25, (100, 100))


def test_points_go_there_and_back() -> None:
    assert to_input(CROPPED, 225, 75) == (62.5, 37.5)
    assert to_photo(CROPPED, 62.5, 37.5) == (225, 75)
    assert to_photo(CENTRED, 62.5, 37.5) == (125, 25)


def test_the_box_is_where_photo_is_seen() -> None:
    assert box(CROPPED) == (0, 0, 100, 100)
    assert box(TOP_LEFT) == (0, 0, 100, 50)
    assert box(CENTRED) == (0, 25, 100, 75)
    assert box(Geometry.identity(7, 5)) == (0, 0, 7, 5)


@pytest.mark.parametrize(("geometry", "centre"), [(CROPPED, (225, 75)), (TOP_LEFT, (125, 75)), (CENTRED, (125, 25))])
def test_a_cell_lands_where_it_was_seen(geometry: Geometry, centre: tuple[float, float]) -> None:
    placed = place(delta(4, 4, 1, 2), geometry)
    assert placed.shape == geometry.photo_size[::-1]
    assert placed.dtype == np.float32
    x, y = int(centre[0]), int(centre[1])
    assert placed[y, x] == placed.max()
    if geometry is CROPPED:  # padding cuts the others' tent
        assert centroid(placed) == pytest.approx(centre)


def test_what_a_crop_cut_away_is_zero() -> None:
    placed = place(np.ones((3, 3), np.float32), CROPPED)
    assert (placed[:, 100:300] == 1).all()
    assert (placed[:, :100] == 0).all()
    assert (placed[:, 300:] == 0).all()


def test_what_the_model_saw_of_padding_is_left_out() -> None:
    below = np.zeros((4, 4), np.float32)
    below[2:] = 1  # the lower half of the input is padding
    assert (place(below, TOP_LEFT)[:74] < 0.5).all()
    assert place(below, TOP_LEFT)[-1] == pytest.approx(0.49, abs=1e-6)  # 0.25 photo rows off the border of two cells


def test_upsampling_is_bilinear_with_half_pixel_centres() -> None:
    map = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    expected = np.asarray(Image.fromarray(map).resize((70, 33), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(place(map, Geometry.identity(70, 33)), expected, atol=1e-5)


def test_two_cells_by_hand() -> None:
    map = np.array([[0.0, 1.0]], np.float32)
    np.testing.assert_allclose(place(map, Geometry.identity(4, 1)), [[0, 0.25, 0.75, 1]])


def test_a_map_of_input_size_is_itself_under_identity() -> None:
    map = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    np.testing.assert_array_equal(place(map, Geometry.identity(4, 6)), map)


def test_shape_gives_the_whole_photo_at_another_resolution() -> None:
    placed = place(np.ones((3, 3), np.float32), CROPPED, shape=(20, 40))
    assert placed.shape == (20, 40)
    assert np.flatnonzero(placed[0]).tolist() == list(range(10, 30))


def test_one_cell_covers_all() -> None:
    assert (place(np.full((1, 1), 2.0), Geometry.identity(9, 4)) == 2).all()
