"""The result: what it says of itself, the map on the photo, and how it is kept."""

from __future__ import annotations

import dataclasses
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxcam import Explainer, OutputError, UsageError, explain
from onnxcam.explainer import Explanation
from tests.nets import Array, as_array, net, normal


@pytest.fixture(scope="module")
def blobs(tiny: Explainer, samples: Path) -> Explanation:
    """Grad-CAM of red: 0.25 on the red square of 3x3 cells of 4 pixels, negative on the other two."""
    found: Explanation = tiny(samples / "blobs.png")
    return found


def red_square(samples: Path) -> Array:
    with Image.open(samples / "blobs.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    return as_array(np.all(pixels == (255, 0, 0), axis=-1))


def test_the_heatmap_is_the_map_on_the_photo(blobs: Explanation, samples: Path) -> None:
    """1 in the middle of the red square, nothing elsewhere, a slope of one cell at its edge."""
    red, heat = red_square(samples), blobs.heatmap
    assert heat.dtype == np.float32
    assert heat.shape == red.shape
    assert red.sum() == 144
    assert heat.max() == 1
    np.testing.assert_array_equal(heat[red] > 0, True)
    top, left = np.argwhere(red).min(axis=0)
    np.testing.assert_array_equal(heat[top + 2 : top + 10, left + 2 : left + 10], 1)
    assert heat[~red].sum() < 0.5 * heat[red].sum()


def test_the_heatmap_follows_the_crop_and_the_photos_size(samples: Path, tmp_path: Path) -> None:
    """A wide photo, of which the model sees the middle third, twice as large."""
    middle = Image.open(samples / "blobs.png").convert("RGB").resize((64, 64), Image.Resampling.NEAREST)
    wide = Image.new("RGB", (192, 64), "white")
    wide.paste(middle, (64, 0))
    recipe = {
        "load": "RGB", "resize": {"how": "short_side", "to": 32}, "filter": "box", "crop": [32, 32], "channels": "RGB",
        "scale": 1 / 255, "mean": [0, 0, 0], "std": [1, 1, 1], "layout": "NCHW", "dtype": "float32",
    }  # fmt: skip
    e = Explainer(samples / "tiny_cnn.onnx", preprocess=recipe)(wide)
    assert e.heatmap.shape == (64, 192)
    assert not e.heatmap[:, :64].any()
    assert not e.heatmap[:, 128:].any()
    (box,) = e.boxes()
    red = np.argwhere(red_square(samples))
    np.testing.assert_allclose((box.y0, box.x0), 2 * red.min(axis=0) + (0, 64), atol=6)
    np.testing.assert_allclose((box.y1, box.x1), 2 * red.max(axis=0) + (2, 66), atol=6)


def test_what_it_says_of_itself(blobs: Explanation, samples: Path) -> None:
    assert blobs.legend() == ["red (0)", "logit 1.25", "probability 0.765", "Grad-CAM", "layer excess"]
    assert (blobs.model, blobs.image) == (str(samples / "tiny_cnn.onnx"), str(samples / "blobs.png"))
    assert (blobs.provider, blobs.preprocess, blobs.method.name) == ("cpu", "from the model", "gradcam")
    assert blobs.probability is not None
    assert blobs.probability_of(1) == pytest.approx((1 - blobs.probability) / 2, rel=1e-6)
    with pytest.raises(dataclasses.FrozenInstanceError):
        blobs.layer = "other"  # type: ignore[misc]


def test_a_name_without_a_label_is_the_index(tiny: Explainer) -> None:
    plain = Explainer(net(TWO_CLASSES, WEIGHTS))
    assert plain(normal(3, 6, 6), target=1).legend()[0] == "class 1"


WEIGHTS = {"stem": normal(4, 3, 3, 3), "w": normal(2, 4), "stem12": normal(4, 12, 3, 3), "stem1": normal(4, 1, 3, 3)}
TWO_CLASSES = """(float[N, 3, H, W] x) => (float[N, 2] y) {
    c = Conv<pads = [1, 1, 1, 1]>(x, stem) a = Relu(c) p = GlobalAveragePool(a)
    f = Flatten(p) y = Gemm<transB = 1>(f, w) }"""


def test_control_characters_of_a_name_do_not_reach_the_legend(samples: Path) -> None:
    explainer = Explainer(samples / "tiny_cnn.onnx", labels=["r\x1b[31med\n", "g", "b"])
    assert explainer(samples / "blobs.png").legend()[0].isprintable()


@pytest.mark.parametrize(("channels", "weight"), [(3, "stem"), (12, "stem12"), (1, "stem1")])
def test_an_array_is_shown_too(channels: int, weight: str) -> None:
    text = TWO_CLASSES.replace("3, H", f"{channels}, H").replace("stem", weight)
    e = Explainer(net(text, WEIGHTS))(normal(channels, 20, 30))
    assert e.photo.size == (30, 20)
    assert e.heatmap.shape == (20, 30)
    assert e.picture(with_boxes=True).size[0] >= 30


# -- kept -------------------------------------------------------------------------------------------


def test_saved_as_a_picture_and_as_numbers(blobs: Explanation, tmp_path: Path) -> None:
    for name in ("map.npy", "again.NPY"):
        blobs.save(tmp_path / name)
        np.testing.assert_array_equal(np.load(tmp_path / name), blobs.map)
    blobs.save(str(tmp_path / "map.PNG"), with_boxes=True, colormap="jet")
    with Image.open(tmp_path / "map.PNG") as picture:
        assert picture.format == "PNG"
        assert np.array_equal(np.asarray(picture), np.asarray(blobs.picture(with_boxes=True, colormap="jet")))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.NPY", "map.PNG", "map.npy"]


def test_shown_in_a_notebook(blobs: Explanation) -> None:
    with Image.open(io.BytesIO(blobs._repr_png_())) as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(blobs.picture()))


def test_another_suffix_is_refused(blobs: Explanation, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^'map\.jpg' should end in \.png \(a picture\) or \.npy \(the raw map\)$"):
        blobs.save(tmp_path / "map.jpg")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["map.npy", "map.png"])
def test_where_the_disk_says_no_nothing_is_left(
    blobs: Explanation, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*names: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / name).mkdir()
    for path in (tmp_path / "missing" / name, tmp_path / name):
        with pytest.raises(OutputError, match=rf"{name} cannot be written: (No such file|it is a folder)"):
            blobs.save(path)
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OutputError, match="cannot be written: Permission denied"):
        blobs.save(tmp_path / f"other-{name}")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_unknown_colour_map_is_refused(blobs: Explanation) -> None:
    with pytest.raises(UsageError, match="rainbow"):
        blobs.picture(colormap="rainbow")


# -- the function ------------------------------------------------------------------------------------


def test_explain_is_an_explainer_used_once(tiny: Explainer, samples: Path) -> None:
    e = explain(
        samples / "tiny_cnn.onnx", samples / "blobs.png", target="ROT", method="layercam", layer="excess",
        gradient="auto", labels=["rot", "grün", "blau"], preprocess="unit",
    )  # fmt: skip
    np.testing.assert_array_equal(e.map, tiny(samples / "blobs.png", target=0, method="layercam").map)
    assert (e.label, e.preprocess) == ("rot", "unit")
    assert len(explain(samples / "tiny_cnn.onnx", samples / "blobs.png", target="top:2")) == 2
