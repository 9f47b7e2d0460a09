"""Maps of targets: on two objects, of differences and sums of classes, in lists, by label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from onnxcam import Explainer, Explanation, TargetError, export
from onnxcam.explainer.recipes import choose_labels, choose_recipe
from onnxcam.imaging import Resize
from onnxcam.runtime import ImageInput
from onnxcam.targets import ClassTarget, DifferenceTarget, Spec, WeightedTarget
from tests.nets import Array, as_array, net, normal

RED, GREEN, BLUE = 0, 1, 2
BOXES = {RED: (2, 2, 5, 5), BLUE: (4, 6, 7, 8)}  # top, left, bottom, right, in cells of 4x4 pixels


@pytest.fixture(scope="module")
def two_objects() -> Array:
    """A red and a blue object on grey, a little noise over everything."""
    x = np.full((3, 32, 32), 0.5) + 0.02 * normal(3, 32, 32)
    for which, (top, left, bottom, right) in BOXES.items():
        x[:, 4 * top : 4 * bottom, 4 * left : 4 * right] = np.eye(3)[which][:, None, None]
    return as_array(x.astype(np.float32))


def share(heat: Array, box: tuple[int, int, int, int]) -> float:
    """The part of a map's positive energy that lies in a box of cells."""
    top, left, bottom, right = (side * heat.shape[0] // 8 for side in box)
    kept = np.maximum(heat, 0)
    return float(kept[top:bottom, left:right].sum() / kept.sum())


@pytest.mark.parametrize("method", ["gradcam", "cam", "hirescam", "layercam", "gradcam++", "guidedgradcam"])
def test_the_map_of_each_class_lies_on_its_object(tiny: Explainer, two_objects: Array, method: str) -> None:
    for e, own, other in zip(
        tiny(two_objects, target=["red", "blue"], method=method), (RED, BLUE), (BLUE, RED), strict=True
    ):
        heat = e.map if e.attribution is None else np.abs(e.attribution).sum(axis=0)
        assert share(heat, BOXES[own]) > 0.85
        assert share(heat, BOXES[other]) < 0.01


def test_the_counterfactual_of_a_class_lies_on_the_other_object(tiny: Explainer, two_objects: Array) -> None:
    plain, counter = (tiny(two_objects, target=RED, method=method) for method in ("gradcam", "counterfactual"))
    np.testing.assert_array_equal(counter.map, -plain.map)
    assert share(counter.map, BOXES[BLUE]) > 0.9
    assert share(counter.map, BOXES[RED]) == 0


def test_the_box_around_an_object(tiny: Explainer, two_objects: Array) -> None:
    for which, (top, left, bottom, right) in BOXES.items():
        (box,) = tiny(two_objects, target=which).boxes()
        found = (box.y0, box.x0, box.y1, box.x1)
        assert found == pytest.approx((4 * top, 4 * left, 4 * bottom, 4 * right), abs=3)


# -- lists ------------------------------------------------------------------------------------------


def names(found: Sequence[Explanation]) -> list[str]:
    return [e.target.name for e in found]


def test_a_list_of_targets_gives_a_list_in_that_order(tiny: Explainer, two_objects: Array) -> None:
    asked: list[Spec] = ["blue", 0, "label:GREEN", "2", DifferenceTarget(0, 1), 0]
    found = tiny(two_objects, target=asked)
    assert names(found) == ["blue", "red", "green", "blue", "class 0 and not 1", "red"]
    for one, target in zip(found, asked, strict=True):
        np.testing.assert_allclose(one.map, tiny(two_objects, target=target).map, rtol=0, atol=1e-7)


def test_top_k_gives_a_list_by_score(tiny: Explainer, two_objects: Array) -> None:
    found = tiny(two_objects, target="top:3")
    assert [e.target.index for e in found] == list(np.argsort(-found[0].scores))
    assert names(tiny(two_objects, target=" top:1")) == [tiny(two_objects).target.name]
    assert names(tiny(two_objects, target=["green", "top:2"])) == ["green", *names(found[:2])]


def test_one_target_gives_one_explanation_and_a_list_of_one_a_list(tiny: Explainer, two_objects: Array) -> None:
    assert isinstance(tiny(two_objects, target=1), Explanation)
    assert isinstance(tiny(two_objects, target=ClassTarget(1)), Explanation)
    assert names(tiny(two_objects, target=[1])) == names(tiny(two_objects, target=(1,))) == ["green"]
    assert names(tiny(two_objects, target=range(3))) == ["red", "green", "blue"]


def test_of_several_images_each_has_its_own_highest_score(tiny: Explainer, two_objects: Array) -> None:
    green = np.zeros_like(two_objects)
    green[GREEN] = 1
    found = tiny([two_objects, green, two_objects[::-1].copy()])
    assert [e.label for e in found] == ["red", "green", "blue"]
    assert [[e.label for e in each] for each in tiny([green, two_objects], target="top:1")] == [["green"], ["red"]]


def test_explained_is_what_the_model_says(tiny: Explainer, two_objects: Array) -> None:
    found = tiny(two_objects, target=range(3))
    softmax = np.exp(found[0].scores) / np.exp(found[0].scores).sum()
    for e in found:
        assert e.score == e.scores[e.target.index]
        assert e.probability == pytest.approx(softmax[e.target.index], rel=1e-5)
        assert e.probability_of(BLUE) == pytest.approx(softmax[BLUE], rel=1e-5)


# -- the gradient is linear in the target ------------------------------------------------------------

WEIGHTS = (0.5, -2.0, 3.0)


@pytest.mark.parametrize("method", ["gradcam", "cam", "counterfactual", "hirescam", "inputxgradient"])
def test_maps_of_sums_are_sums_of_maps(tiny: Explainer, two_objects: Array, method: str) -> None:
    targets: list[Spec] = [0, 1, 2, DifferenceTarget(0, 2), WeightedTarget(WEIGHTS, "mixture")]
    red, green, blue, difference, mixture = (e.map for e in tiny(two_objects, target=targets, method=method))
    scale = float(np.abs(mixture).max())
    np.testing.assert_allclose(difference, red - blue, rtol=0, atol=1e-6 * scale)
    np.testing.assert_allclose(mixture, 0.5 * red - 2 * green + 3 * blue, rtol=0, atol=1e-6 * scale)


def test_and_so_on_a_trained_network(squeezenet: Explainer, samples: Path) -> None:
    photo = samples / "chelsea.png"
    cat, tiger, difference = squeezenet(photo, target=[285, 282, DifferenceTarget(285, 282)])
    np.testing.assert_allclose(difference.map, cat.map - tiger.map, rtol=0, atol=1e-5 * float(cat.map.max()))
    assert difference.score == pytest.approx(cat.score - tiger.score, abs=1e-5)
    assert (difference.probability, difference.label, difference.target.index) == (None, None, None)


def test_a_target_without_a_class_by_the_head_of_every_layout() -> None:
    """The seed has the score's own shape: [N, K, 1, 1] here, and Grad-CAM++ is not linear in it but runs."""
    text = """(float[N, 3, 8, 8] x) => (float[N, K, 1, 1] y) {
        c = Conv(x, stem) a = Relu(c) p = GlobalAveragePool(a) y = Conv(p, kernel) }"""
    explainer = Explainer(net(text, {"stem": normal(4, 3, 3, 3), "kernel": normal(5, 4, 1, 1)}))
    x = normal(2, 3, 8, 8)
    for row in explainer(x, target=[3, 1, DifferenceTarget(3, 1)]):
        np.testing.assert_allclose(row[2].map, row[0].map - row[1].map, rtol=0, atol=1e-6)
        assert explainer(x[0], target=DifferenceTarget(3, 1), method="gradcam++").status == "ok"


# -- labels -----------------------------------------------------------------------------------------


def test_labels_are_given_or_the_models_own(samples: Path, tmp_path: Path, two_objects: Array) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("rot\ngrün\nblau\n\n\n", encoding="utf-8")
    for labels in (path, str(path), ["rot", "grün", "blau"]):
        assert Explainer(samples / "tiny_cnn.onnx", labels=labels)(two_objects, target="BLAU").target.index == BLUE


def test_two_classes_of_one_name_are_refused_with_their_indices(samples: Path, two_objects: Array) -> None:
    explainer = Explainer(samples / "tiny_cnn.onnx", labels=["crane", "crane", "7"])
    with pytest.raises(TargetError, match=r"several classes are called 'crane' \(0, 1\): give the index"):
        explainer(two_objects, target="crane")
    assert explainer(two_objects, target="label:7").target.index == 2
    assert explainer(two_objects, target=1).label == "crane"


def test_imagenets_names_are_a_guess_that_is_announced(squeezenet: Explainer, samples: Path) -> None:
    assert squeezenet(samples / "chelsea.png", target="egyptian CAT").target.index == 285
    assert squeezenet.labels_guessed
    with pytest.raises(TargetError, match=r"several classes are called 'crane' \(134, 517\)"):
        squeezenet(samples / "chelsea.png", target="crane")


def test_a_models_labels_that_are_too_few_are_not_used(two_objects: Array, samples: Path) -> None:
    import onnx

    proto = onnx.load(samples / "tiny_cnn.onnx")
    for entry in proto.metadata_props:
        if entry.key == "onnxcam.labels":
            entry.value = "red\ngreen"
    assert Explainer(proto)(two_objects).label is None


def test_a_head_that_mixes_images_is_not_proved_apart_by_two_targets_of_one() -> None:
    """The features keep images apart, so does the head for one image; its mean over the batch shows with another."""
    text = """(float[N, 3, 8, 8] x) => (float[N, 5] y) {
  c = Conv(x, stem) a = Relu(c) p = GlobalAveragePool(a) f = Flatten(p)
  m = ReduceMean<axes = [0], keepdims = 1>(f) t = Mul(m, ten) r = Round(t) s = Mul(f, r) y = Gemm<transB = 1>(s, w)
}"""
    model = net(text, {"stem": normal(4, 3, 3, 3), "w": normal(5, 4), "ten": np.array(10, np.float32)})
    explainer, images = Explainer(model), normal(2, 3, 8, 8)
    explainer(images[:1], target=[1, 2])
    for e, image in zip(explainer(images, target=1), images, strict=True):
        np.testing.assert_allclose(e.map, Explainer(model)(image, target=1).map, rtol=1e-5)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(3, ["0", "90", "180"]), (4, ["blank", "0", "90", "180"]), (5, ["blank", "0", "90", "180", " "]), (6, None)],
)
def test_letters_in_the_metadata(count: int, expected: list[str] | None) -> None:
    """As PaddleOCR's files carry them: of readers without the blank in front, and often the space behind."""
    found = choose_labels(None, [count], {"character": "0\n90\n180"})
    assert (found.names, found.unfit) == (expected, 0 if expected else 3)


def test_names_that_a_zipmap_holds(two_objects: Array, samples: Path, tmp_path: Path) -> None:
    """As converters of scikit-learn and Custom Vision write them; `export` keeps them."""
    proto = onnx.load(samples / "tiny_cnn.onnx")
    del proto.metadata_props[:]
    names = ["red  fish", "green", "blue"]
    zipped = onnx.helper.make_node(
        "ZipMap", [proto.graph.output[0].name], ["zipped"], domain="ai.onnx.ml", classlabels_strings=names
    )
    proto.graph.node.append(zipped)
    of_names = onnx.helper.make_map_type_proto(
        onnx.TensorProto.STRING, onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
    )
    proto.graph.output.append(onnx.helper.make_value_info("zipped", onnx.helper.make_sequence_type_proto(of_names)))
    proto.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", 1))
    explainer = Explainer(proto)
    assert explainer.labels(3) == ["red fish", "green", "blue"]
    assert explainer(two_objects, target="red fish").target.index == 0
    export(proto, tmp_path / "exported.onnx")
    assert Explainer(tmp_path / "exported.onnx").labels(3) == ["red fish", "green", "blue"]


@pytest.mark.parametrize(
    ("size", "placed", "resize", "crop"),
    [
        ((224, 224), False, Resize("short_side", 256), (224, 224)),
        ((224, 224), True, Resize("exact", (224, 224)), None),
        ((None, None), False, Resize("short_side", 256), (224, 224)),
        ((None, None), True, Resize("short_side", 512, multiple=32), None),
        ((160, 60), False, Resize("exact", (160, 60)), None),
        ((None, 48), True, Resize("height", 48), None),
        ((48, None), False, Resize("width", 48), None),
    ],
)
@pytest.mark.parametrize("given", [None, "imagenet"])
def test_lines_of_text_and_maps_lose_nothing_to_a_crop(
    given: str | None, size: Any, placed: bool, resize: Resize, crop: Any
) -> None:
    """And what is announced as a guess is the same recipe when it is said."""
    chosen = choose_recipe(given, ImageInput("x", "NCHW", size, 3, "float32", None), {}, places=placed)
    assert chosen.guess == (given is None)
    assert (chosen.recipe.name, chosen.recipe.resize, chosen.recipe.crop) == ("imagenet", resize, crop)


def test_a_line_of_any_height_has_the_usual_one() -> None:
    image = ImageInput("x", "NCHW", (None, 48), 3, "float32", None)
    chosen = choose_recipe(None, image, {}, places=True)
    assert (chosen.recipe.resize, chosen.recipe.crop) == (Resize("height", 48), None)


def test_a_free_width_keeps_the_aspect_by_any_name() -> None:
    chosen = choose_recipe("tf", ImageInput("x", "NCHW", (None, 32), 3, "float32", None), {})
    assert (chosen.recipe.resize, chosen.recipe.crop) == (Resize("height", 32), None)


@pytest.mark.parametrize(
    ("white", "dtype", "size", "name"),
    [
        (255.0, "float32", 224, "raw"),
        (1.0, "float32", 224, "unit"),
        (255.0, "float32", 32, "raw"),
        (1.0, "uint8", 224, "raw"),
        (None, "float32", 224, "tf"),
        (None, "float32", 32, "unit"),
    ],
)
def test_the_guess_is_what_a_model_wants_that_normalizes_it_itself(
    white: float | None, dtype: str, size: int, name: str
) -> None:
    chosen = choose_recipe(None, ImageInput("x", "NHWC", (size, size), 3, dtype, None, white), {})
    assert (chosen.recipe.name, chosen.recipe.resize, chosen.guess) == (name, Resize("exact", (size, size)), True)
    assert (
        choose_recipe("imagenet", ImageInput("x", "NHWC", (size, size), 3, "float32", None, white), {}).guess is False
    )


def test_a_map_of_free_size_shows_all_of_the_photo(tmp_path: Path) -> None:
    text = "(float[N,3,H,W] x) => (float[N,2,H,W] y) { a = Conv(x, w) r = Relu(a) y = Conv(r, v) }"
    explainer = Explainer(net(text, {"w": normal(4, 3, 1, 1), "v": normal(2, 4, 1, 1)}))
    Image.new("RGB", (300, 200)).save(tmp_path / "photo.png")
    assert explainer.item(tmp_path / "photo.png").row.shape == (3, 512, 768)
