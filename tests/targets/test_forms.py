"""What a class is in each form of scores, what is explained when nobody says, and the spellings of the rest."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxcam.errors import InputError, OnnxCamError, TargetError
from onnxcam.targets import (
    DifferenceTarget,
    ElementTarget,
    NegatedTarget,
    ProductTarget,
    Reading,
    RegionTarget,
    SimilarityTarget,
    TokensTarget,
    class_counts,
    named_output,
    resolve,
    some_target,
)
from tests.nets import Array

VOC = ["background", "cat", "dog"]
# 2 x 3 positions, 3 classes: background on top of four positions, cat on none, dog on two
MAPS = np.array([[[5, 5, 5], [5, 0, 0]], [[1, 1, 1], [1, 1, 1]], [[0, 0, 0], [0, 4, 6]]], np.float32)
SEEN = np.array([[0, 0, 0], [0, 1, 1]], bool)
# four boxes: x y w h, objectness, two classes
BOXES = np.array(
    [[1, 2, 3, 4, 0.9, 0.8, 0.1], [1, 2, 3, 4, 0.5, 0.9, 0.2], [1, 2, 3, 4, 0.8, 0.1, 0.7], [0, 0, 0, 0, 0, 1, 1]],
    np.float32,
)  # fmt: skip
# four steps of three tokens, 0 the blank: blank, 2, 2, 1
STEPS = np.array([[3, 0, 0], [0, 0, 2], [0, 1, 2], [0, 5, 0]], np.float32)


def maps(**changes: Any) -> Reading:
    return Reading(**{"scores": MAPS, "axes": "CHW", "labels": VOC, **changes})


def boxes(**changes: Any) -> Reading:
    return Reading(**{"scores": BOXES, "axes": "RC", "labels": ["cat", "dog"], **changes})


def one(spec: Any, reading: Reading) -> Any:
    (target,) = resolve(spec, reading)
    return target


@pytest.mark.parametrize(
    ("scores", "axes", "axis"), [(MAPS, "CHW", 0), (MAPS.transpose(1, 2, 0), "HWC", 2)], ids=["NCHW", "NHWC"]
)
def test_a_segmentations_class_is_summed_where_the_model_says_it(scores: Array, axes: str, axis: int) -> None:
    target = one("dog", maps(scores=scores, axes=axes))
    assert (target.which, target.axis, target.label, target.name) == (2, axis, "dog", "dog over its own region")
    np.testing.assert_array_equal(target.mask, SEEN)
    assert target.value(scores) == 10
    for other in (2, "2", "DOG"):
        assert one(other, maps(scores=scores, axes=axes)).value(scores) == 10


def test_a_class_that_is_nowhere_is_refused_with_what_to_say() -> None:
    with pytest.raises(InputError, match=r"the model sees cat nowhere in this image: say where, 1@X0,Y0,X1,Y1"):
        resolve("cat", maps())
    assert one("cat@all", maps()).value(MAPS) == 6


def test_behind_a_sigmoid_a_class_is_where_its_probability_is_over_one_half() -> None:
    scores = np.array([[[-1, 2], [3, -4]]], np.float32)
    target = one(None, Reading(scores, "CHW", "sigmoid"))
    assert (target.value(scores), target.name) == (5, "the map over its own region")
    assert one(None, Reading(scores[0], "HW", "sigmoid")).value(scores[0]) == 5
    many = np.concatenate([scores, -scores])  # several labels may hold at one place
    assert [one(i, Reading(many, "CHW", "sigmoid")).value(many) for i in (0, 1)] == [5, 5]


def test_probabilities_themselves_say_where_a_class_is() -> None:
    scores = np.array([[0.1, 0.9], [0.6, 0.5]], np.float32)
    assert one(None, Reading(scores, "HW", probability=True)).value(scores) == pytest.approx(1.5)


def test_one_map_of_any_range_has_no_region_of_its_own() -> None:
    for spec, message in (
        (None, "'score' holds 2 x 3 numbers for an image: say .*@all"),
        (0, "of any range: say where, 0@X0"),
    ):
        with pytest.raises(TargetError, match=message):
            resolve(spec, Reading(MAPS[0], "HW", score="score"))
    assert one("0@all", Reading(MAPS[0], "HW")).value(MAPS[0]) == 20


def test_a_segmentations_default_is_the_class_of_most_positions_the_background_aside() -> None:
    assert one(None, maps()).which == 2
    assert one(None, maps(labels=["sky", "cat", "dog"])).which == 0
    assert one(None, maps(labels=None)).which == 0
    assert one(None, maps(scores=MAPS[:, :1])).which == 0  # nothing but background


def test_a_region_of_the_photo() -> None:
    asked = []

    def region(where: Any) -> Array:
        asked.append(where)
        return SEEN

    reading = maps(region=region)
    target = one("cat@10,20,30.5,40", reading)
    assert (asked, target.which, target.name) == ([(10, 20, 30.5, 40)], 1, "cat over 10,20,30.5,40")
    assert target.value(MAPS) == 2
    assert one("1@folder/mask.png", reading).name == "cat over mask.png"
    assert asked[-1] == "folder/mask.png"
    with pytest.raises(InputError, match="covers nothing that the model sees"):
        resolve("cat@0,0,1,1", maps(region=lambda _: np.zeros((2, 3), bool)))
    with pytest.raises(TargetError, match="CLASS@REGION is for models that give maps: 'the score' holds 4 x 7"):
        resolve("cat@all", boxes())


def test_a_detectors_class_is_its_surest_box() -> None:
    """Objectness times class: .72, .45, .08, 0 for the cat."""
    cat, dog = one("cat", boxes()), one("dog", boxes())
    assert (cat.elements, cat.name, cat.label, cat.unit) == (((0, 5), (0, 4)), "cat in row 0", "cat", "confidence")
    assert cat.value(BOXES) == pytest.approx(0.72)
    assert (dog.elements, dog.value(BOXES)) == (((2, 6), (2, 4)), pytest.approx(0.56))
    assert one(None, boxes()) == cat


def test_without_objectness_the_class_score_alone() -> None:
    """YOLOv8: four numbers of a box, then the classes, rows along the last axis: the labels tell."""
    scores = np.delete(BOXES, 4, axis=1).T
    cat = one("cat", boxes(scores=scores))
    assert (cat.elements, cat.name, cat.value(scores)) == (((4, 3),), "cat in row 3", 1)
    plain = one(1, Reading(STEPS, "RC"))  # no labels: it may be a class, or a number of a box
    assert (plain.elements, plain.name) == (((3, 1),), "column 1 in row 3")
    assert one(1, Reading(STEPS, "RC", "softmax")).name == "class 1 in row 3"  # nor is a box behind a softmax


def test_a_detectors_default_takes_labels_or_a_single_class() -> None:
    for reading in (boxes(labels=None), boxes(squash="softmax", labels=["b", "c", "d", "e", "f", "g", "h"])):
        with pytest.raises(
            TargetError, match=r"^no target was named, and none suggests itself: 'the score' holds 4 x 7"
        ):
            resolve(None, reading)
    assert one(None, Reading(STEPS[:, 1:2], "RC")).name == "class 0 in row 3"


def test_an_alphabets_default_is_what_is_read() -> None:
    letters = Reading(STEPS, "RC", "softmax", ["blank", "a", "b"])
    assert one(None, letters) == one("ctc", letters)
    assert one(None, letters).name == 'what is read in 3 steps: "ba"'
    with pytest.raises(InputError, match=r"^the model reads nothing: token 0, the blank, is the likeliest at every"):
        resolve(None, Reading(np.eye(1, 3) + 0 * STEPS, "RC", "softmax", ["blank", "a", "b"]))
    boxed = Reading(np.pad(STEPS, [(0, 0), (4, 0)]), "RC", "sigmoid", ["blank", "a", "b"])
    assert one(None, boxed).name == "a in row 3"  # of a detector it is a class as any other


FINISHED = np.array(
    [[1, 2, 3, 4, 0.9, 1], [1, 2, 3, 4, 0.5, 0], [9, 9, 9, 9, 0.7, 0], [0, 0, 0, 0, 0, 2]], np.float32
)  # box, score, class; the last row fills up


def test_finished_detections_name_their_class() -> None:
    reading = Reading(FINISHED, "RD", labels=["cat", "dog", "eel"])
    cat = one("cat", reading)
    assert (cat.elements, cat.name, cat.label, cat.unit) == (((2, 4),), "cat in row 2", "cat", None)
    assert cat.value(FINISHED) == pytest.approx(0.7)
    assert one(None, reading).name == "dog in row 0"
    assert one("cat not dog", reading).name == "cat in row 2 and not dog in row 0"
    assert one(1, Reading(FINISHED, "RD")).name == "class 1 in row 0"
    with pytest.raises(InputError, match="the model detects no eel in this image: name another class"):
        resolve("eel", reading)
    with pytest.raises(InputError, match="the model detects nothing in this image"):
        resolve(None, Reading(FINISHED[3:], "RD"))
    with pytest.raises(InputError, match="the model detects nothing in this image"):
        resolve(None, Reading(FINISHED[:0], "RD"))
    with pytest.raises(TargetError, match=r"tokens are explained .*: say CLASS \(in its best row\), top:K, or NAME"):
        resolve("ctc", reading)


@pytest.mark.parametrize(
    ("scores", "kinds", "row", "of_two"),
    [
        ([-0.1, -0.9, -0.4], [3, 2, 2], 0, 2),  # logarithms of probabilities
        ([0.3, -2.0, 1.5], [2, 2, 3], 2, 0),  # logits: what is below 0 is not there where others are above
        ([0.9, -1.0, -1.0], [3, 2, -1], 0, None),  # filled up with -1
        ([0.9, 0.0, 0.2], [3, 2, 1.9999], 0, 2),
        ([-1.0, -1.0, -1.0], [-1, -1, -1], None, None),
        ([0.0, 0.0, 0.0], [0, 2, 2], None, None),
    ],
)
def test_no_detection_speaks_for_another_class(
    scores: list[float], kinds: list[float], row: int | None, of_two: int | None
) -> None:
    table = np.concatenate([np.zeros((3, 4)), np.transpose([scores, kinds])], 1).astype(np.float32)
    for reading in (Reading(table, "RD"), Reading(table, "RD", labels=["a", "b", "c", "d"])):
        for spec, expected in ((None, row), (2, of_two)):
            if expected is None:
                with pytest.raises(InputError, match="the model detects no"):
                    resolve(spec, reading)
            else:
                target = one(spec, reading)
                assert isinstance(target, ProductTarget)
                assert target.elements == ((expected, 4),)


def test_a_class_that_no_detection_says_is_not_there_however_large() -> None:
    with pytest.raises(InputError, match=r"^the model detects no class 84 in this image"):
        resolve(84, Reading(FINISHED, "RD"))
    with pytest.raises(TargetError, match="target 84 is out of range"):
        resolve(84, Reading(FINISHED, "RD", labels=["cat", "dog", "eel"]))


def test_a_class_below_zero_is_none() -> None:
    with pytest.raises(TargetError, match="target -1 is out of range"):
        resolve(-1, Reading(FINISHED, "RD"))


def test_the_surest_detections() -> None:
    found = [target.name for target in resolve("top:7", Reading(FINISHED, "RD", labels=["cat", "dog", "eel"]))]
    assert found == ["dog in row 0", "cat in row 2", "cat in row 1"]
    with pytest.raises(InputError, match="the model detects nothing in this image"):
        resolve("top:2", Reading(FINISHED[3:], "RD"))


def test_this_and_not_that_in_the_same_place() -> None:
    there = one("dog not cat", maps())
    assert (there.name, there.value(MAPS)) == ("dog over its own region and not cat over the same region", 10 - 2)
    assert one("dog and not cat", maps()).value(MAPS) == 8
    box = one("cat not dog", boxes())
    assert (box.name, box.value(BOXES)) == ("cat in row 0 and not dog in row 0", pytest.approx(0.72 - 0.09))
    row = Reading(np.array([1.0, 5.0, 2.0]), labels=["tabby", "lynx", "not a cat"])
    assert one("lynx not tabby", row).value(row.scores) == 4
    assert one("1 not 2", row).value(row.scores) == 3
    assert one("lynx not label:tabby", row).name == "lynx and not tabby"
    assert one("not a cat", row).index == 2  # a label, letter by letter
    assert isinstance(one("not lynx", row), NegatedTarget)
    assert one("not 0", Reading(np.array([-3.0]), squash="sigmoid")).value(np.array([-3.0])) == 3
    assert isinstance(one("0 not 1", row), DifferenceTarget)


def test_what_is_read_is_spelled_where_there_are_labels() -> None:
    """A letter that comes twice is one, unless a blank is between."""
    scores = np.eye(4, dtype=np.float32)[[1, 1, 0, 1, 2, 0, 3]]
    letters = ["blank", "l", "o", "!"]
    assert one("ctc", Reading(scores, "RC", labels=letters)).name == 'what is read in 5 steps: "llo!"'
    assert one("ctc", Reading(scores, "RC")).name == "what is read in 5 steps"
    many = np.eye(4, dtype=np.float32)[[1, 2] * 40]  # longer than a name shows
    assert one("ctc", Reading(many, "RC", labels=letters)).name.endswith(f'"{"lo" * 30}..."')


def test_tokens() -> None:
    reading = Reading(STEPS, "RC", labels=["-", "a", "b"])
    exact = STEPS.astype(np.float64)
    logs = exact - np.log(np.exp(exact).sum(axis=1, keepdims=True))
    word = one("token:3,a", reading)
    assert (word.steps, word.tokens, word.name) == ((3,), (1,), "'a' at step 3")
    assert word.value(STEPS) == pytest.approx(logs[3, 1])
    assert one("token:3,1", reading) == TokensTarget((3,), (1,), "'1' at step 3")
    words = one("tokens:0, 2,b", reading)
    assert (words.steps, words.tokens, words.name) == ((0, 1, 2), (0, 2, 2), "'0 2 b' at steps 0 to 2")
    read = one("ctc", reading)
    assert (read.steps, read.tokens, read.name) == ((1, 2, 3), (2, 2, 1), 'what is read in 3 steps: "ba"')
    assert read.value(STEPS) == pytest.approx(logs[1, 2] + logs[2, 2] + logs[3, 1])
    assert one("ctc:2", reading).steps == (0, 3)
    with pytest.raises(TargetError, match="target 500 is out of range"):
        resolve("ctc:500", reading)
    at_the_end = one("ctc", Reading(STEPS[[1, 2, 3, 1, 2]], "RC", labels=["a", "b", "-"]))
    assert (at_the_end.steps, at_the_end.name) == ((2,), 'what is read in 1 step, blank 2: "b"')
    with pytest.raises(InputError, match="the model reads nothing: token 0, the blank, is the likeliest"):
        resolve("ctc", Reading(STEPS[:1], "RC"))
    for spec in ("ctc", "token:0,1", "tokens:1"):
        with pytest.raises(
            TargetError, match="tokens are explained in a sequence of steps: 'the score' holds 3 x 2 x 3"
        ):
            resolve(spec, maps())


def test_likeness_to_another_image() -> None:
    reading = Reading(np.array([3.0, 4.0]), scores_of=lambda path: np.array([4.0, 3.0]) if path == "a/b.png" else None)
    target = one("similar:a/b.png", reading)
    assert isinstance(target, SimilarityTarget)
    assert (target.name, target.value(reading.scores)) == ("similarity to b.png", pytest.approx(0.96))
    assert one("dot:a/b.png", reading).value(reading.scores) == 24
    with pytest.raises(TargetError, match="this target needs the image and the model"):
        resolve("similar:b.png", Reading(np.array([3.0, 4.0])))


def test_an_output_that_is_named() -> None:
    for spec, output in {
        "boxes[3,4]": "boxes", " scores[0, :] ": "scores", "x:0[1]": "x:0", "not boxes[3,4]": "boxes", "gene [b]": None,
        "boxes[3] not 1": "boxes", "label:gene[1]": None, "similar:a[1]": None, "3": None, "dog@all": None, "": None,
    }.items():  # fmt: skip
        assert named_output(spec) == output
    assert [named_output(spec) for spec in (None, 3)] == [None, None]
    assert one("not boxes[3,4]", boxes()) == NegatedTarget(ElementTarget("3,4", "boxes"))
    assert named_output(ElementTarget("1", "boxes")) == "boxes"
    assert one("boxes[3,4]", boxes()) == ElementTarget("3,4", "boxes")


def test_scores_of_no_known_form_are_indexed() -> None:
    reading = Reading(np.ones((2, 3, 4, 5)), score="heads")
    for spec in (None, 1):
        with pytest.raises(
            TargetError, match=r"'heads' holds 2 x 3 x 4 x 5 numbers .*: say NAME\[INDEX\] with --target"
        ):
            resolve(spec, reading)
    assert one("heads[0,1,2,3]", reading).value(reading.scores) == 1
    scores = -np.arange(120.0).reshape(2, 3, 4, 5)
    assert some_target(Reading(scores)) == ElementTarget("1,2,3,4")  # the farthest from zero
    assert isinstance(some_target(maps()), RegionTarget)
    assert isinstance(some_target(boxes()), ProductTarget)
    assert some_target(Reading(FINISHED[3:], "RD")) == ElementTarget("0,5")  # nothing is detected


WORDS = st.sampled_from(
    ["cat", "dog", "0", "-1", "99", "not", "and", "@", "all", "[", "]", ":", ",", "...", "top:", "label:", "token:",
     "tokens:", "ctc", "similar:", "1,2,3,4", "0.5", " ", "\n", "\0", "²", "none.png"]
)  # fmt: skip


@given(st.lists(WORDS, max_size=6).map("".join))
def test_any_text_is_a_target_or_refused(text: str) -> None:
    row = Reading(np.array([1.0, 2.0]), labels=["cat", "dog"])
    for reading in (row, maps(), boxes(), Reading(STEPS, "RC", "softmax"), Reading(np.ones((2, 3, 4, 5)))):
        with contextlib.suppress(OnnxCamError):
            for target in resolve(text, reading):
                assert np.isfinite(target.value(reading.scores))


def test_how_many_labels_fit() -> None:
    assert class_counts((5,), "") == (5,)
    assert class_counts((3, 7, 9), "CHW") == (3,)
    assert class_counts((7, 9, 3), "HWC") == (3,)
    assert class_counts((7, 9), "HW") == (1,)
    assert class_counts((84, 85), "RC") == (84, 80, 79, 85, 81, 80)
    assert class_counts((2, 3, 4, 5), "") == ()


def test_top_is_for_classes() -> None:
    with pytest.raises(TargetError, match="top:K is for models that score classes"):
        resolve("top:2", maps())
