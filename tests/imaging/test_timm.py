from __future__ import annotations

from typing import Any

import pytest

from onnxcam.errors import PreprocessError
from onnxcam.imaging import Preprocess, Resize

CONFIG: dict[str, Any] = {
    "input_size": [3, 288, 288], "interpolation": "bicubic", "crop_pct": 0.95, "crop_mode": "center",
    "mean": [0.5, 0.4, 0.3], "std": [0.5, 0.25, 0.2], "num_classes": 1000, "pool_size": [9, 9], "tag": "a1_in1k",
}  # fmt: skip


def read(data: object) -> Preprocess:
    return Preprocess.from_json(data, name="config.json")


@pytest.mark.parametrize(
    "data",
    [
        CONFIG,
        {"architecture": "resnet50", "pretrained_cfg": CONFIG},
        {"image_processor_type": "TimmWrapperImageProcessor", "pretrained_cfg": CONFIG},
    ],
)
def test_as_its_evaluation_reads_a_photo(data: object) -> None:
    assert read(data) == Preprocess(
        load="RGB", resize=Resize("short_side_floor", 303), filter="bicubic", crop=(288, 288), channels="RGB",
        scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2), layout="NCHW", dtype="float32", name="config.json",
    )  # fmt: skip


def test_what_is_not_said() -> None:
    recipe = read({"pretrained_cfg": {"input_size": [3, 224, 224], "mean": 0.5, "std": 0.5}})
    assert (recipe.resize, recipe.filter, recipe.crop) == (Resize("short_side_floor", 256), "bilinear", (224, 224))
    assert (recipe.mean, recipe.std) == ((0.5,) * 3, (0.5,) * 3)


def test_squashed() -> None:
    recipe = read(CONFIG | {"crop_mode": "squash", "input_size": [3, 200, 100], "crop_pct": 1.0})
    assert (recipe.resize, recipe.crop) == (Resize("exact", (100, 200)), (100, 200))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"input_size": [1, 28, 28]}, r"input_size has to be \[3, height, width\]"),
        ({"input_size": [3, 224]}, r"input_size has to be \[channels, height, width\]"),
        ({"input_size": [3, 0.5, 224]}, r"input_size has to be \[channels, height, width\]"),
        ({"input_size": None, "mean": 0}, "input_size"),
        ({"input_size": [3, 200, 100]}, "input_size has to be a square"),
        ({"crop_mode": "border"}, "crop_mode has to be one of center, squash"),
        ({"crop_pct": 1.2}, "crop_pct has to be a share from 0.01 to 1"),
        ({"crop_pct": 5e-324}, "crop_pct has to be a share from 0.01 to 1"),
        ({"interpolation": "random"}, "interpolation has to be one of bilinear"),
        ({"mean": "imagenet"}, "mean has to be a list of finite numbers"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, object], says: str) -> None:
    with pytest.raises(PreprocessError, match=rf"^preprocessing config.json: pretrained_cfg.{says}"):
        read({"pretrained_cfg": CONFIG | change})
