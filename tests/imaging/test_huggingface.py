from __future__ import annotations

import pytest

from onnxcam.errors import PreprocessError
from onnxcam.imaging import Preprocess, Resize

STATISTICS = {"do_normalize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 0.2]}
VIT = {"do_resize": True, "size": 224, "resample": 2, "feature_extractor_type": "ViTFeatureExtractor", **STATISTICS}


def read(data: object) -> Preprocess:
    return Preprocess.from_json(data, name="preprocessor_config.json")


def test_vit_as_it_was_saved_first() -> None:
    assert read(VIT) == Preprocess(
        load="RGB",
        resize=Resize("exact", (224, 224)),
        filter="bilinear",
        crop=None,
        channels="RGB",
        scale=1 / 255,
        mean=(0.5, 0.4, 0.3),
        std=(0.5, 0.25, 0.2),
        layout="NCHW",
        dtype="float32",
        name="preprocessor_config.json",
    )


DO = {"do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, **STATISTICS}


@pytest.mark.parametrize(
    ("keys", "resize", "crop", "filter"),
    [
        # ViT, today's spelling
        (
            {"image_processor_type": "ViTImageProcessorFast", "size": {"height": 200, "width": 224}, "resample": 3},
            Resize("exact", (224, 200)),
            None,
            "bicubic",
        ),
        # DeiT resizes straight to a square, then crops
        (
            {"feature_extractor_type": "DeiTFeatureExtractor", "size": 256, "do_center_crop": True, "crop_size": 224},
            Resize("exact", (256, 256)),
            (224, 224),
            "bicubic",
        ),
        # CLIP's number is the short side
        (
            {"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "do_center_crop": True, "crop_size": 224},
            Resize("short_side_floor", 224),
            (224, 224),
            "bicubic",
        ),
        (
            {
                "image_processor_type": "CLIPImageProcessor",
                "size": {"shortest_edge": 256},
                "do_center_crop": True,
                "crop_size": {"height": 220, "width": 224},
                "resample": 2,
            },
            Resize("short_side_floor", 256),
            (224, 220),
            "bilinear",
        ),
        # ConvNeXT and ResNet: below 384 what crop_pct leaves is cut off, from 384 on the photo is warped
        (
            {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 224, "crop_pct": 0.875, "resample": 3},
            Resize("short_side_floor", 256),
            (224, 224),
            "bicubic",
        ),
        (
            {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}, "crop_pct": None},
            Resize("short_side_floor", 256),
            (224, 224),
            "bicubic",
        ),
        (
            {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}, "crop_pct": 1.0},
            Resize("exact", (384, 384)),
            None,
            "bicubic",
        ),
        # PoolFormer: crop_pct with a crop of its own
        (
            {
                "image_processor_type": "PoolFormerImageProcessor",
                "size": {"shortest_edge": 224},
                "crop_pct": 0.9,
                "do_center_crop": True,
                "crop_size": {"height": 224, "width": 224},
            },
            Resize("short_side_floor", 248),
            (224, 224),
            "bicubic",
        ),
        # LeViT enlarges its short side by 256 / 224
        (
            {"feature_extractor_type": "LevitFeatureExtractor", "size": 224, "do_center_crop": True, "crop_size": 224},
            Resize("short_side_floor", 256),
            (224, 224),
            "bicubic",
        ),
        # no type told
        ({"size": 224}, Resize("exact", (224, 224)), None, "bilinear"),
        (
            {"size": 256, "do_center_crop": True, "crop_size": 224, "resample": 1},
            Resize("short_side_floor", 256),
            (224, 224),
            "lanczos",
        ),
        # switched off
        ({"size": 224, "do_resize": False, "crop_size": None, "do_pad": False}, Resize(), None, "bilinear"),
    ],
)
def test_geometry(keys: dict[str, object], resize: Resize, crop: tuple[int, int] | None, filter: str) -> None:
    recipe = read({**DO, **keys})
    assert (recipe.resize, recipe.crop, recipe.filter) == (resize, crop, filter)


def test_values_without_rescaling_or_normalizing() -> None:
    assert read(VIT | {"do_rescale": False}).scale == 1
    plain = read(VIT | {"do_normalize": False})
    assert (plain.mean, plain.std) == ((0.0,) * 3, (1.0,) * 3)
    assert read(VIT | {"image_mean": 0.5, "image_std": 0.5}).mean == (0.5,) * 3


@pytest.mark.parametrize("factor", [1 / 127.5, 1 / 255])
def test_efficientnet_shifts_by_one_whatever_the_factor_and_divides_twice(factor: float) -> None:
    recipe = read(VIT | {"rescale_factor": factor, "rescale_offset": True, "include_top": True})
    pixel, at = 51, 2
    slowly = (pixel * factor - 1 - 0.3) / 0.2 / 0.2
    assert (pixel * recipe.scale - recipe.mean[at]) / recipe.std[at] == pytest.approx(slowly)


def test_mobilevit_flips_the_channels() -> None:
    recipe = read(VIT | {"do_flip_channel_order": True})
    assert recipe.channels == "BGR"
    assert recipe.mean == (0.3, 0.4, 0.5)


def test_processor_config_wraps_the_same() -> None:
    assert read({"image_processor": VIT, "processor_class": "X"}) == read(VIT)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"do_pad": True}, "unknown key 'do_pad'"),
        ({"size_divisor": 32}, "unknown key 'size_divisor'"),
        ({"size": None}, "size is missing"),
        ({"size": "224"}, "size has to be a whole number"),
        ({"size": {"height": 224}}, "size.width is missing"),
        ({"size": {"height": 224, "width": 224, "depth": 3}}, "unknown key 'size.depth'"),
        ({"size": {"shortest_edge": 800, "longest_edge": 1333}}, "size.longest_edge has to be left out"),
        ({"size": 0}, "resize.to has to lie in 1..20000"),
        ({"resample": 6}, "resample has to be a number of Pillow's filters"),
        ({"resample": "bilinear"}, "resample has to be a whole number"),
        ({"image_mean": None}, "image_mean is missing"),
        ({"image_std": [1, 2]}, "image_std has to be a number for each of 3 channels"),
        ({"image_std": [0, 1, 1]}, "std has to be finite and not zero"),
        ({"do_resize": "yes"}, "do_resize has to be true or false"),
        ({"do_center_crop": True}, "crop_size is missing"),
        ({"crop_pct": 0}, "crop_pct has to be a share"),
        ({"rescale_factor": "1/255"}, "rescale_factor has to be a finite number"),
        ({"image_processor_type": 3}, "image_processor_type has to be a string"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, object], says: str) -> None:
    with pytest.raises(PreprocessError, match=f"^preprocessing preprocessor_config.json: {says}"):
        read(VIT | change)
