from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxcam.errors import OutputError, UsageError
from onnxcam.imaging import Box, colormap, overlay, save_png

LEGEND = ["gradcam, target 285 'Egyptian cat'", "score 17.61 (logit)", "layer features.18/Relu6"]


def draw(photo: Image.Image, heat: np.ndarray | None = None, **options: object) -> Image.Image:
    heat = np.zeros((photo.height, photo.width), np.float32) if heat is None else heat
    settings: dict[str, object] = {"legend": LEGEND, "bar": (0.0, 2.5), **options}
    return overlay(photo, heat, **settings)  # type: ignore[arg-type]


def test_the_map_is_blended_over_the_photo_in_the_corner() -> None:
    heat = np.zeros((260, 300), np.float32)
    heat[10, 20] = 1
    pixels = np.asarray(draw(Image.new("RGB", (300, 260), (100, 100, 100)), heat, alpha=0.5, colormap="jet")).astype(
        int
    )
    table = colormap("jet").astype(int)
    assert np.abs(pixels[10, 20] - (100 + table[255]) / 2).max() <= 1
    assert np.abs(pixels[259, 299] - (100 + table[0]) / 2).max() <= 1


def test_alpha_is_the_opacity_of_the_map() -> None:
    photo = Image.new("RGB", (300, 260), (9, 99, 199))
    assert draw(photo, alpha=0.0).getpixel((5, 5)) == (9, 99, 199)
    assert draw(photo, alpha=1.0).getpixel((5, 5)) == tuple(colormap("viridis")[0])


def test_a_signed_map_is_clear_at_zero_red_above_and_blue_below() -> None:
    heat = np.zeros((260, 300), np.float32)
    heat[0, 0], heat[0, 1], heat[0, 2] = 1, -1, 0.5
    pixels = np.asarray(draw(Image.new("RGB", (300, 260), (100, 100, 100)), heat, signed=True)).astype(int)
    red, blue, half, clear = pixels[0, 0], pixels[0, 1], pixels[0, 2], pixels[100, 100]
    assert clear.tolist() == [100, 100, 100]
    assert np.abs(red - (0.2 * 100 + 0.8 * colormap("diverging")[255].astype(int))).max() <= 1
    assert np.abs(blue - (0.2 * 100 + 0.8 * colormap("diverging")[0].astype(int))).max() <= 1
    assert np.abs(half - (0.6 * 100 + 0.4 * colormap("diverging")[191].astype(int))).max() <= 2


def test_what_is_not_finite_counts_as_zero() -> None:
    heat = np.full((260, 300), np.nan, np.float32)
    heat[0] = np.inf
    zero = draw(Image.new("RGB", (300, 260)))
    assert draw(Image.new("RGB", (300, 260)), heat).tobytes() == zero.tobytes()


@pytest.mark.parametrize(
    "size",
    [
        (640, 480),
        (480, 640),
        (512, 512),
        (257, 256),
        (256, 257),
        (2000, 10),
        (10, 2000),
        (1, 1),
        (2, 1),
        (1, 3),
        (300, 20),
    ],
)
@pytest.mark.parametrize("legend", [LEGEND, [], ["x" * 5000, "word " * 900] * 20])
def test_the_picture_keeps_the_photos_orientation(size: tuple[int, int], legend: list[str]) -> None:
    picture = draw(Image.new("RGB", size), legend=legend)
    assert picture.mode == "RGB"
    assert picture.width >= size[0]
    assert picture.height >= size[1]
    if size[0] != size[1]:
        assert (picture.width > picture.height) == (size[0] > size[1])
    else:
        assert picture.width <= picture.height
    assert max(picture.size) <= 2 * max(*size, 256)


def test_a_small_photo_is_enlarged_by_a_whole_factor() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 30, 3), dtype=np.uint8)
    picture = draw(Image.fromarray(pixels), alpha=0.0)
    enlarged = np.asarray(picture)[: 28 * 9, : 30 * 9]  # 9 = ceil(256 / 30)
    np.testing.assert_array_equal(enlarged, pixels.repeat(9, 0).repeat(9, 1))


def test_a_large_photo_keeps_its_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 256, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(draw(Image.fromarray(pixels), alpha=0.0))[:90, :256], pixels)


def test_a_grey_photo_is_drawn_in_colour() -> None:
    assert draw(Image.new("L", (300, 200), 50), alpha=0.0).getpixel((0, 0)) == (50, 50, 50)


def test_the_colour_bar_runs_from_the_lowest_to_the_highest_colour() -> None:
    for options in ({"colormap": "turbo"}, {"signed": True, "bar": (-1.0, 1.0)}):
        table = colormap(options.get("colormap", "diverging"))  # type: ignore[arg-type]
        panel = np.asarray(draw(Image.new("RGB", (300, 300)), **options))[300:]
        first, last = (np.argwhere((panel == table[end]).all(axis=2)) for end in (0, 255))
        assert len(first) > 0
        assert len(last) > 0
        assert first[:, 1].mean() < 50
        assert last[:, 1].mean() > 250


def test_text_and_numbers_change_the_panel_and_nothing_else() -> None:
    photo = Image.new("RGB", (400, 300), "navy")
    one, other, third = draw(photo), draw(photo, legend=["something else"]), draw(photo, bar=(0.0, 9.0))
    assert len({one.tobytes(), other.tobytes(), third.tobytes()}) == 3
    corner = (0, 0, *photo.size)
    assert one.crop(corner).tobytes() == other.crop(corner).tobytes() == third.crop(corner).tobytes()


def test_hostile_text_is_drawn_as_question_marks() -> None:
    photo = Image.new("RGB", (400, 300))
    assert draw(photo, legend=["a\x1b\x07\u202eb"]).tobytes() == draw(photo, legend=["a???b"]).tobytes()


def test_boxes_are_outlined_within_their_pixels() -> None:
    photo = Image.new("RGB", (300, 260), (100, 100, 100))
    plain = np.asarray(draw(photo, alpha=0.0)).astype(int)
    drawn = np.asarray(draw(photo, alpha=0.0, boxes=[Box(50, 60, 90, 100, 0.5)])).astype(int)
    ys, xs = np.nonzero((plain != drawn).any(axis=2))
    assert (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) == (50, 60, 90, 100)
    assert drawn[60, 70].tolist() == [255, 255, 255]
    assert drawn[80, 70].tolist() == [100, 100, 100]


def test_boxes_follow_the_enlargement_and_may_be_one_pixel() -> None:
    drawn = np.asarray(draw(Image.new("RGB", (32, 32), (100, 100, 100)), alpha=0.0, boxes=[Box(3, 4, 4, 5, 1.0)]))
    changed = np.argwhere((drawn[:256, :256] != 100).any(axis=2))
    assert changed.min(axis=0).tolist() == [32, 24]
    assert changed.max(axis=0).tolist() == [39, 31]


def test_a_map_of_another_size_and_an_unknown_colour_map_are_refused() -> None:
    with pytest.raises(UsageError, match=r"\(2, 3\) does not fit a photo of \(3, 2\)"):
        draw(Image.new("RGB", (2, 3)), np.zeros((2, 3), np.float32))
    with pytest.raises(UsageError, match="colour map 'rainbow'"):
        draw(Image.new("RGB", (2, 3)), colormap="rainbow")


def test_save_png_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    path.write_text("old")
    save_png(Image.new("RGB", (3, 2), "red"), path)
    with Image.open(path) as saved:
        assert (saved.format, saved.size, saved.getpixel((0, 0))) == ("PNG", (3, 2), (255, 0, 0))
    assert [file.name for file in tmp_path.iterdir()] == ["out.png"]


def test_save_png_that_fails_names_the_path_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "folder.png"
    folder.mkdir()
    for path in (folder, tmp_path / "none" / "out.png", tmp_path / ("x" * 300 + ".png")):
        with pytest.raises(OutputError, match=f"{path.name} cannot be written"):
            save_png(Image.new("L", (2, 2)), path)
    assert [file.name for file in tmp_path.iterdir()] == ["folder.png"]
