"""What Ultralytics' exports say of themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from onnxcam import Explainer, list_layers
from onnxcam.errors import InputError, TargetError
from onnxcam.explainer.ultralytics import finished, names, recipe, sides
from onnxcam.imaging import Resize
from onnxcam.runtime import ImageInput
from tests.nets import net, normal, run

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


def detector(
    takes_and_gives: str, behind: str, columns: int, said: dict[str, str], **weights: np.ndarray
) -> onnx.ModelProto:
    """A box b and class probabilities p at each place, and what is made of them."""
    stem = """c = Conv<strides = [16, 16]>(images, stem)
  a = Relu(c)
  b = Conv(a, boxes)
  s = Conv(a, classes)
  p = Sigmoid(s)"""
    held = {"stem": normal(5, 3, 16, 16), "boxes": normal(4, 5, 1, 1), "classes": normal(2, 5, 1, 1, seed=1),
            "to": np.array([0, columns, -1]), **weights}  # fmt: skip
    model = net(f"{takes_and_gives} {{ {stem} {behind} }}", held)
    onnx.helper.set_model_props(model, said)
    return model


def yolo() -> onnx.ModelProto:
    """[N, 4 + 2, 8]: rows along the last axis, as YOLOv8 has them; the classes behind a sigmoid, inside."""
    joined = "all = Concat<axis = 1>(b, p) output0 = Reshape(all, to)"
    return detector("(float[N, 3, H, W] images) => (float[N, 6, P] output0)", joined, 6, SAID)


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


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"end2end": "True"}, True),
        ({"end2end": "False", "args": "{'nms': True}"}, True),
        ({"end2end": "False", "args": "{'nms': False}"}, False),
        ({"args": "[]"}, False),
        ({"end2end": "True", "names": "{}"}, False),
        ({}, False),
    ],
)
def test_whether_rows_are_finished_detections(said: dict[str, str], expected: bool) -> None:
    assert finished({**SAID, **said}) is expected
    assert not finished({"end2end": "True", "names": SAID["names"]})  # somebody else's entry


def end_to_end(**said: str) -> onnx.ModelProto:
    """[N, 8, 6]: a row per place, of a box, the score of its best class, and which class that is."""
    chosen = """best = ReduceMax<axes = [1]>(p)
  i = ArgMax<axis = 1>(p)
  f = Cast<to = 1>(i)
  all = Concat<axis = 1>(b, best, f)
  r = Reshape(all, to)
  output0 = Transpose<perm = [0, 2, 1]>(r)"""
    said = {**SAID, "end2end": "True", **said}
    return detector("(float[N, 3, H, W] images) => (float[N, P, 6] output0)", chosen, 6, said)


X = normal(3, 32, 64, seed=4)


def test_a_class_of_finished_detections_is_the_score_of_its_surest_row() -> None:
    """Two names and a box happen to fit six columns; a column is no class there."""
    explainer = Explainer(end_to_end())
    rows = explainer(X).scores
    for which, name in enumerate(["cat", "dog"]):
        own = np.flatnonzero(rows[:, 5] == which)
        row = own[rows[own, 4].argmax()]
        e = explainer(X, target=which, layer="a")
        assert (e.target.name, e.label, e.score) == (f"{name} in row {row}", name, rows[row, 4])
        np.testing.assert_allclose(e.map, explainer(X, target=f"output0[{row},4]", layer="a").map)
        by_differences = explainer(X, target=f"p[{which},{row // 4},{row % 4}]", layer="a", gradient="numeric")
        np.testing.assert_allclose(e.map, by_differences.map, atol=2e-3 * np.abs(e.map).max())
    assert explainer(X).target.name.endswith(f" in row {rows[:, 4].argmax()}")
    assert explainer(X, target="dog not cat").target.name.count(" in row ") == 2  # a row is of one class


def test_finished_detections_have_the_labels_that_the_model_has_classes() -> None:
    three = end_to_end(names="['cat', 'dog', 'eel']")
    assert Explainer(three)(X, target="dog").label == "dog"
    assert Explainer(three, labels=["a", "b", "c"])(X, target="b").label == "b"
    with pytest.raises(InputError, match=r"^the model detects no eel in this image: name another class$"):
        Explainer(three)(X, target="eel")
    with pytest.raises(TargetError, match="target 3 is out of range: the model has classes 0 to 2"):
        Explainer(three)(X, target=3)
    with pytest.raises(TargetError, match="2 labels for a model of 3 classes"):
        Explainer(three, labels=["a", "b"])(X)


def test_values_within_the_model_are_no_finished_detections() -> None:
    explainer = Explainer(end_to_end(), score="r")
    assert explainer(X, target="r[4,0]").scored.axes != "RD"


def test_names_that_fit_no_axis_are_told() -> None:
    explainer = Explainer(end_to_end(end2end="False", names="['ant', 'bee', 'cat', 'dog', 'eel']"))
    with pytest.raises(
        TargetError, match="'cat' is a label, but the 5 class names fit no axis of 'output0', 8 x 6: give --labels FILE"
    ):
        explainer(X, target="cat")
    assert explainer(X, target=5).target.name.startswith("column 5 in row ")
    assert explainer.labels_unfit == 5


HEADS = """
  c = Conv<pads = [1, 1, 1, 1], strides = [8, 8]>(images, w)
  fine = Relu(c)
  d = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(fine, v)
  coarse = Relu(d)
  f = Conv(fine, of_fine)
  g = Conv(coarse, of_coarse)
  fr = Reshape(f, to)
  gr = Reshape(g, to)
  j = Concat<axis = 2>(fr, gr)
  rows = Transpose<perm = [0, 2, 1]>(j)"""
THREE_SUREST = """
  box, p = Split<axis = 2>(rows, parts)
  scores, order = TopK<axis = 1>(p, three)
  at = Expand(order, like)
  boxes = GatherElements<axis = 1>(box, at)
  kinds = Mul(scores, zero)
  output0 = Concat<axis = 2>(boxes, scores, kinds)"""


def test_a_finished_detection_is_explained_at_the_head_that_made_it() -> None:
    """What the model chose is known once it ran: as of the rows that it chose from, image by image."""
    weights = {
        "w": normal(5, 3, 3, 3), "v": normal(6, 5, 3, 3, seed=1) / 4, "of_fine": normal(5, 5, 1, 1, seed=2) / 9,
        "of_coarse": normal(5, 6, 1, 1, seed=3) / 3, "to": np.array([0, 5, -1]), "parts": np.array([4, 1]),
        "three": np.array([3]), "like": np.array([1, 3, 4]), "zero": np.float32(0),
    }  # fmt: skip
    signature = "(float[N, 3, 32, 64] images) => (float[N, 3, 6] output0, float[N, 40, 5] rows)"
    model = net(f"{signature} {{ {HEADS} {THREE_SUREST} }}", weights)
    onnx.helper.set_model_props(model, {**SAID, "end2end": "True", "names": "['cat']"})
    explainer = Explainer(model, score="output0")
    images = [normal(3, 32, 64, seed=seed) for seed in range(8)]
    found = explainer(images, target="output0[0,4]", method="hirescam")
    for x, e in zip(images, found, strict=True):
        rows = run(model, {"images": x[None]})["rows"][0]
        best = rows[:, 4].argmax()
        plain = explainer(x, target=f"rows[{best},4]", method="hirescam")
        assert e.layer == plain.layer == ("fine" if best < 32 else "coarse")
        np.testing.assert_allclose(e.map, plain.map, rtol=1e-5, atol=1e-7)
    assert {e.layer for e in found} == {"fine", "coarse"}


# -- rows that go on behind the class scores -------------------------------------------------------------


def segmenting(**said: str) -> onnx.ModelProto:
    """[N, 4 + 2 + 3, 8]: a box, two classes, three coefficients of masks; beside it what these weigh."""
    masked = """m = Conv(a, masks)
  all = Concat<axis = 1>(b, p, m)
  output0 = Reshape(all, to)
  output1 = Sigmoid(m)"""
    return detector(
        "(float[N, 3, 32, 64] images) => (float[N, 9, 8] output0, float[N, 3, 2, 4] output1)",
        masked, 9, {**SAID, "task": "segment", **said},
        classes=normal(2, 5, 1, 1, seed=1) / 9, masks=9 * normal(3, 5, 1, 1, seed=2),
    )  # fmt: skip


def test_what_follows_the_classes_is_none() -> None:
    explainer = Explainer(segmenting())
    scores = explainer(X, target="cat").scores
    assert scores.shape == (9, 8)
    for which, name in enumerate(["cat", "dog"]):
        row = int(scores[4 + which].argmax())
        assert explainer(X, target=name).target.name == explainer(X, target=which).target.name == f"{name} in row {row}"
    which, row = np.unravel_index(scores[4:6].argmax(), (2, 8))
    assert explainer(X).target.name == f"{['cat', 'dog'][which]} in row {row}"
    with pytest.raises(TargetError, match="target 2 is out of range: the model has classes 0 to 1"):
        explainer(X, target=2)
    with pytest.raises(TargetError, match="2"):
        Explainer(segmenting(), labels=["a", "b", "c"])(X, target="a")


def test_the_rows_are_what_is_explained() -> None:
    assert list_layers(segmenting())[0].name == "a"
    assert Explainer(segmenting()).subject.score.name == "output0"
    assert Explainer(segmenting(task="detect")).subject.score.name != "output0"  # the only one behind a sigmoid
