from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from onnxcam.errors import PreprocessError
from onnxcam.imaging import named_preprocess, prepare, preprocess_names
from tests.imaging.frames import box

GREY = Image.new("RGB", (60, 40), (0, 51, 255))


def values(name: str) -> list[float]:
    """What the colours 0, 51, 255 become, in the order of the model's channels."""
    recipe = named_preprocess(name, size=(32, 32), channels=3)
    found: list[float] = prepare(GREY, recipe).array[0, :, 16, 16].tolist()
    return found


def test_the_names() -> None:
    assert preprocess_names() == ["imagenet", "caffe", "tf", "unit", "raw", "clip"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("imagenet", [-0.485 / 0.229, (0.2 - 0.456) / 0.224, (1 - 0.406) / 0.225]),
        ("caffe", [255 - 103.939, 51 - 116.779, -123.68]),
        ("tf", [-1, -0.6, 1]),
        ("unit", [0, 0.2, 1]),
        ("raw", [0, 51, 255]),
        ("clip", [-0.48145466 / 0.26862954, (0.2 - 0.4578275) / 0.26130258, (1 - 0.40821073) / 0.27577711]),
    ],
)
def test_pixel_values(name: str, expected: list[float]) -> None:
    assert values(name) == pytest.approx(expected, abs=1e-5)


def test_geometry_of_imagenet_is_256_to_224() -> None:
    recipe = named_preprocess("imagenet", size=(224, 224), channels=3)
    assert (recipe.resize.how, recipe.resize.to, recipe.crop) == ("short_side", 256, (224, 224))
    assert named_preprocess("imagenet", size=(299, 299), channels=3).resize.to == 342
    assert named_preprocess("clip", size=(336, 336), channels=3).resize.to == 336


def test_an_oblong_input_is_covered() -> None:
    recipe = named_preprocess("clip", size=(100, 50), channels=3)
    geometry = prepare(Image.new("RGB", (30, 60), "red"), recipe).geometry
    assert box(geometry) == (0, 0, 100, 50)


def test_exact_takes_width_before_height() -> None:
    prepared = prepare(GREY, named_preprocess("unit", size=(20, 10), channels=3, layout="NHWC", dtype="float16"))
    assert prepared.array.shape == (1, 10, 20, 3)
    assert prepared.array.dtype == np.float16


def test_grey_models_take_grey() -> None:
    recipe = named_preprocess("unit", size=(4, 4), channels=1)
    luma = 0.299 * 0 + 0.587 * 51 + 0.114 * 255
    np.testing.assert_allclose(prepare(GREY, recipe).array, np.full((1, 1, 4, 4), round(luma) / 255, np.float32))


@pytest.mark.parametrize(
    ("name", "channels", "dtype", "says"),
    [
        ("imagenette", 3, "float32", "'imagenette'; did you mean imagenet"),
        ("caffe", 1, "float32", "3 channels, the model takes 1; use unit"),
        ("unit", 4, "float32", "1 or 3 channels, the model takes 4"),
        ("unit", 3, "uint8", "use raw"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, channels: int, dtype: str, says: str) -> None:
    with pytest.raises(PreprocessError, match=says):
        named_preprocess(name, size=(8, 8), channels=channels, dtype=dtype)
