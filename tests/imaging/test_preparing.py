from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxcam.errors import PreprocessError
from onnxcam.imaging import Geometry, Preprocess, decode, place, prepare
from onnxcam.imaging.preparing import RESIZERS
from onnxcam.imaging.recipe import FILTERS, HOWS
from tests.imaging.frames import box, to_photo

RNG = np.random.default_rng(0)


def recipe(resize: dict[str, object], **keys: object) -> Preprocess:
    data = {"channels": "RGB", "scale": 1, "resize": resize, **keys}
    return Preprocess.from_json(data, name="test")


def photo(width: int, height: int) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_every_how_has_its_function_and_every_filter_its_enum() -> None:
    assert tuple(RESIZERS) == HOWS
    assert {name.upper() for name in FILTERS} <= set(Image.Resampling.__members__)


def test_none_is_the_photo() -> None:
    image = photo(5, 3)
    prepared = prepare(image, recipe({"how": "none"}))
    assert prepared.array.dtype == np.float32
    np.testing.assert_array_equal(prepared.array[0], np.asarray(image).transpose(2, 0, 1))
    assert prepared.geometry == Geometry.identity(5, 3)


def test_mean_and_std_follow_the_listed_channels() -> None:
    image = Image.new("RGB", (2, 1), (10, 20, 30))
    keys = {"channels": "BGR", "scale": 0.1, "mean": [1, 2, 3], "std": [1, 2, 4]}
    array = prepare(image, recipe({"how": "none"}, **keys)).array
    np.testing.assert_allclose(array[0, :, 0, 0], [(3 - 1) / 1, (2 - 2) / 2, (1 - 3) / 4], atol=1e-6)


def test_layouts_and_dtypes() -> None:
    image = photo(4, 3)
    for dtype in ("float16", "float32", "float64"):
        array = prepare(image, recipe({"how": "none"}, layout="NHWC", dtype=dtype, scale=0.5)).array
        assert array.dtype == dtype
        np.testing.assert_array_equal(array[0], np.asarray(image) / 2)


def test_uint8_is_rounded_and_clipped() -> None:
    image = Image.fromarray(np.array([[[0, 100, 255]]], np.uint8))
    array = prepare(image, recipe({"how": "none"}, scale=1.5, mean=0.4, dtype="uint8")).array
    assert array.dtype == np.uint8
    assert array[0, :, 0, 0].tolist() == [0, 150, 255]


def test_luma_is_that_of_ycbcr() -> None:
    image = photo(6, 4)
    array = prepare(image, recipe({"how": "none"}, channels="Y")).array
    expected = np.asarray(image.convert("YCbCr"))[..., 0]
    np.testing.assert_array_equal(array, expected[None, None].astype(np.float32))


def test_a_grey_photo_feeds_a_colour_model() -> None:
    array = prepare(Image.new("L", (2, 2), 7), recipe({"how": "none"})).array
    np.testing.assert_array_equal(array, np.full((1, 3, 2, 2), 7, np.float32))


def test_short_side_rounds_and_the_crop_floors() -> None:
    image = photo(451, 300)
    prepared = prepare(image, recipe({"how": "short_side", "to": 256}, crop=[224, 224]))
    resized = np.asarray(image.resize((385, 256), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(prepared.array[0], resized[16:240, 80:304].transpose(2, 0, 1))
    assert prepared.geometry.offset == (-80, -16)
    assert prepared.geometry.scale == (385 / 451, 256 / 300)


@pytest.mark.parametrize(
    ("how", "size", "made"),
    [("height", (60, 80), (36, 48)), ("height", (300, 7), (2057, 48)), ("width", (60, 80), (48, 64))],
)
def test_one_side_keeps_the_aspect(how: str, size: tuple[int, int], made: tuple[int, int]) -> None:
    prepared = prepare(photo(*size), recipe({"how": how, "to": 48}))
    assert prepared.array.shape == (1, 3, *made[::-1])
    assert prepared.geometry.scale == (made[0] / size[0], made[1] / size[1])


def test_short_side_floor_is_torchvisions() -> None:
    image = photo(451, 300)
    prepared = prepare(image, recipe({"how": "short_side_floor", "to": 256}, crop=[224, 224]))
    resized = np.asarray(image.resize((384, 256), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(prepared.array[0], resized[16:240, 80:304].transpose(2, 0, 1))
    tiny = prepare(photo(900, 1), recipe({"how": "short_side_floor", "to": 2}))
    assert tiny.array.shape == (1, 3, 2, 1800)


def test_a_crop_larger_than_the_photo_puts_black_around_it() -> None:
    image = photo(5, 4)
    prepared = prepare(image, recipe({"how": "none"}, crop=[8, 2], mean=1))
    expected = np.zeros((2, 8, 3))
    expected[:, 1:6] = np.asarray(image)[1:3]
    np.testing.assert_array_equal(prepared.array[0], expected.transpose(2, 0, 1) - 1)
    assert box(prepared.geometry) == (1, 0, 6, 2)
    assert to_photo(prepared.geometry, 1, 0) == (0, 1)


@pytest.mark.parametrize(("anchor", "left"), [("top-left", 0), ("center", 2)])
def test_letterbox_pads_before_normalizing(anchor: str, left: int) -> None:
    image = Image.new("RGB", (10, 20), (200, 0, 0))
    keys = {"how": "letterbox", "to": [10, 10], "pad": 114, "anchor": anchor}
    prepared = prepare(image, recipe(keys, mean=14))
    expected = np.full((10, 10), 100.0)
    expected[:, left : left + 5] = 186
    np.testing.assert_array_equal(prepared.array[0, 0], expected)
    assert box(prepared.geometry) == (left, 0, left + 5, 10)


def test_height_pad_pads_after_normalizing() -> None:
    image = Image.new("RGB", (30, 20), (200, 0, 0))
    prepared = prepare(image, recipe({"how": "height_pad", "to": [40, 10]}, mean=14))
    assert prepared.array.shape == (1, 3, 10, 40)
    assert (prepared.array[0, 0, :, :15] == 186).all()
    assert (prepared.array[0, 0, :, 15:] == 0).all()
    assert box(prepared.geometry) == (0, 0, 15, 10)


def test_height_pad_squeezes_what_is_too_wide() -> None:
    prepared = prepare(photo(300, 10), recipe({"how": "height_pad", "to": [40, 10]}))
    assert prepared.array.shape == (1, 3, 10, 40)
    assert prepared.geometry.scale == (40 / 300, 1)


@pytest.mark.parametrize(
    "keys",
    [
        {"resize": {"how": "exact", "to": [50, 70]}},
        {"resize": {"how": "short_side", "to": 60}, "crop": [50, 50]},
        {"resize": {"how": "short_side", "to": 40}, "crop": [64, 64]},
        {"resize": {"how": "letterbox", "to": [64, 64], "anchor": "center"}},
        {"resize": {"how": "letterbox", "to": [90, 30]}},
        {"resize": {"how": "height_pad", "to": [150, 40]}},
        {"resize": {"how": "none"}, "crop": [50, 50]},
    ],
)
def test_a_bright_spot_comes_back_to_its_place(keys: dict[str, object]) -> None:
    dark = np.zeros((100, 160, 3), np.uint8)
    dark[40:46, 70:78] = 255
    prepared = prepare(
        Image.fromarray(dark), Preprocess.from_json({"channels": "RGB", "scale": 1, **keys}, name="test")
    )
    placed = place(prepared.array[0, 0].astype(np.float32), prepared.geometry)
    assert placed.shape == (100, 160)
    ys, xs = np.mgrid[:100, :160] + 0.5
    centre = (placed * xs).sum() / placed.sum(), (placed * ys).sum() / placed.sum()
    assert centre == pytest.approx((74, 43), abs=0.35)


def test_a_resize_beyond_all_measure_is_refused() -> None:
    with pytest.raises(PreprocessError, match="30000 x 1 pixels 30000000 x 1000"):
        prepare(Image.new("L", (30000, 1)), recipe({"how": "short_side", "to": 1000}))


def test_what_the_real_models_were_fed(shared: Path) -> None:
    """The mean, deviation and extremes of the input that somebody else's code made for the same photos."""
    for entry in json.loads((shared / "models" / "manifest.json").read_text())["models"]:
        if "input_check" not in entry:
            continue
        image = decode(shared / entry["image"])
        array = prepare(image, Preprocess.from_json(entry["preprocess"], name=entry["file"])).array.astype(np.float64)
        told = entry["input_check"]
        found = [array.mean(), array.std(), array.min(), array.max()]
        assert list(array.shape) == told["shape"]
        assert found == pytest.approx([told[key] for key in ("mean", "std", "min", "max")], abs=2e-5, rel=2e-6)


@pytest.mark.parametrize(
    ("size", "expected"), [((300, 200), (768, 512)), ((100, 330), (512, 1696)), ((5, 3), (864, 512))]
)
def test_both_sides_may_be_multiples(size: tuple[int, int], expected: tuple[int, int]) -> None:
    made = recipe({"how": "short_side", "to": 512, "multiple": 32})
    prepared = prepare(photo(*size), made)
    assert prepared.array.shape[:1:-1] == expected
    assert prepared.geometry == Geometry.resized(size, expected)
    assert Preprocess.from_json(made.to_json(), name="test") == made
