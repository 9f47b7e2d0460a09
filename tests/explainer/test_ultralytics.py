"""What Ultralytics' exports say of themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from onnxcam import Explainer
from onnxcam.explainer.ultralytics import names, recipe, sides
from onnxcam.imaging import Resize
from onnxcam.runtime import ImageInput
from tests.nets import net, normal

SAID = {"stride": "32", "imgsz": "[32, 64]", "names": "{0: 'cat', 1: 'dog'}", "task": "detect"}
ANY = ImageInput("images", "NCHW", (None, None), 3, "float32", None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{0: 'cat', 1: 'dog'}", ["cat", "dog"]),
        ("{1: 'dog', 0: 'cat'}", ["cat", "dog"]),
        ("['cat', 'dog']", ["cat", "dog"]),
        ("{0: 'cat', 2: 'dog'}", None),
        ("{0: 1}", None),
        ("{}", None),
        ("cat, dog", None),
        ("__import__('os').getcwd()", None),
        ("[" * 5000, None),
        ("[" + "'a'," * 2**16 + "]", None),  # 600 bytes of memory a character
        ("", None),
    ],
)
def test_names_are_a_literal_or_nothing(text: str, expected: list[str] | None) -> None:
    assert names({**SAID, "names": text}) == expected
    assert names({"names": text}) is None  # somebody else's entry


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[32, 64]", (32, 64)),
        ("320", (320, 320)),
        ("[0, 64]", (640, 640)),
        ("[1, 2, 3]", (640, 640)),
        ("big", (640, 640)),
    ],
)
def test_the_size(text: str, expected: tuple[int, int]) -> None:
    assert sides({**SAID, "imgsz": text}) == expected


def test_its_own_preprocessing() -> None:
    found = recipe(SAID, ANY)
    assert found is not None
    assert (found.resize, found.crop, found.scale) == (Resize("letterbox", (64, 32), 114, "center"), None, 1 / 255)
    classifier = recipe({**SAID, "task": "classify"}, ImageInput("images", "NCHW", (48, 48), 3, "float32", 1))
    assert classifier is not None
    assert (classifier.resize, classifier.crop) == (Resize("short_side", 48), (48, 48))
    assert recipe({}, ANY) is None
    assert recipe(SAID, ImageInput("images", "NCHW", (None, None), 1, "float32", None)) is None


def yolo() -> onnx.ModelProto:
    """[N, 4 + 2, 8]: rows along the last axis, as YOLOv8 has them; the classes behind a sigmoid, inside."""
    model = net(
        """(float[N, 3, H, W] images) => (float[N, 6, P] output0) {
  c = Conv<strides = [16, 16]>(images, stem)
  a = Relu(c)
  b = Conv(a, boxes)
  s = Conv(a, classes)
  p = Sigmoid(s)
  all = Concat<axis = 1>(b, p)
  output0 = Reshape(all, to)
}""",
        {"stem": normal(5, 3, 16, 16), "boxes": normal(4, 5, 1, 1), "classes": normal(2, 5, 1, 1, seed=1),
         "to": np.array([0, 6, -1])},
    )  # fmt: skip
    onnx.helper.set_model_props(model, SAID)
    return model


def test_a_detector_is_explained_without_flags(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    explainer = Explainer(yolo())
    cat = explainer(tmp_path / "photo.png", target="cat")
    assert not explainer.preprocess.guess
    assert cat.scores.shape == (6, 8)
    row = int(cat.scores[4].argmax())
    assert (cat.target.name, cat.label, cat.score) == (f"cat in row {row}", "cat", pytest.approx(cat.scores[4, row]))
    assert cat.map.shape == (2, 4)
    sure = np.unravel_index(cat.scores[4:].argmax(), (2, 8))
    assert explainer(tmp_path / "photo.png").target.name == f"{['cat', 'dog'][sure[0]]} in row {sure[1]}"
    by_differences = explainer(tmp_path / "photo.png", target="cat", gradient="numeric")
    np.testing.assert_allclose(cat.map, by_differences.map, atol=2e-3 * np.abs(cat.map).max())
