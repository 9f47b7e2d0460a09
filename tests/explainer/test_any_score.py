"""Scores of any shape: segmentation, detection, sequences, embeddings, several outputs, several inputs.

Grad-CAM by the symbolic gradient is held against Grad-CAM by differences of the target's own value: another route.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onnxcam import Explainer, Explanation, check
from onnxcam.errors import ImageError, LayerError, ModelError, PreprocessError, TargetError, UsageError
from onnxcam.targets import DifferenceTarget, ElementTarget, NegatedTarget, RegionTarget, SimilarityTarget
from tests.nets import net, normal, run, tapped

STEM = "c = Conv<pads = [1, 1, 1, 1]>(x, stem) a = Relu(c) "
WEIGHTS = {
    "stem": normal(4, 3, 3, 3), "k": normal(5, 4, 3, 3, seed=1), "one": normal(1, 4, 1, 1, seed=2), "b": normal(5),
    "fc": normal(4, 6, seed=3), "fc1": normal(4, 1, seed=4), "fc2": normal(4, 6, seed=8),
    "wide": normal(6, 4, 1, 1, seed=5),
    "scales": np.array([1, 1, 2, 2], np.float32), "rows": np.array([0, 6, -1]), "flat": np.array([-1, 6]),
    "first": np.array([0]), "axis1": np.array([1]), "drop": np.array([2, 3]), "word": normal(3, 4, seed=6),
}  # fmt: skip
BODIES = {  # name -> outputs, nodes behind the activation `a` of shape [N, 4, 8, 8]
    "maps": ("float[N, 5, 16, 16] y", "m = Conv<pads = [1, 1, 1, 1]>(a, k, b) "
             "y = Resize<mode = \"linear\">(m, , scales)"),
    "nhwc": ("float[N, 8, 8, 5] y", "m = Conv<pads = [1, 1, 1, 1]>(a, k, b) t = Transpose<perm = [0, 2, 3, 1]>(m) "
             "y = Softmax<axis = -1>(t)"),
    "map": ("float[N, 1, 8, 8] y", "m = Conv(a, one) y = Sigmoid(m)"),
    "rows": ("float[N, 64, 6] y", "m = Conv(a, wide) r = Reshape(m, rows) "
             "t = Transpose<perm = [0, 2, 1]>(r) y = Sigmoid(t)"),
    "steps": ("float[N, 8, 6] y", "p = ReduceMean<axes = [2], keepdims = 0>(a) t = Transpose<perm = [0, 2, 1]>(p) "
              "m = MatMul(t, fc) y = LogSoftmax<axis = -1>(m)"),
    "embedding": ("float[N, 6] y", "p = ReduceMean<axes = [2, 3], keepdims = 0>(a) y = MatMul(p, fc)"),
    "number": ("float[N] y", "p = ReduceMean<axes = [2, 3], keepdims = 0>(a) m = MatMul(p, fc1) y = Squeeze(m, axis1)"),
    "sigmoid": ("float[N, 1] y", "p = ReduceMean<axes = [2, 3], keepdims = 0>(a) m = MatMul(p, fc1) y = Sigmoid(m)"),
    "steps in front": ("float[8, N, 6] y", "p = ReduceMean<axes = [2], keepdims = 0>(a) "
              "t = Transpose<perm = [2, 0, 1]>(p) m = MatMul(t, fc) y = LogSoftmax<axis = -1>(m)"),
    "heads": ("float[N, 6] y", "p = ReduceMean<axes = [2, 3], keepdims = 0>(a) m = MatMul(p, fc) r = MatMul(p, fc2) "
              "m1 = Unsqueeze(m, first) r1 = Unsqueeze(r, first) s = Concat<axis = 0>(m1, r1) q = Mul(s, s) "
              "y = ReduceSum<keepdims = 0>(q, first)"),
}  # fmt: skip
X = normal(3, 8, 8, seed=7)


def explainer_of(name: str, batch: str = "N", **options: Any) -> Explainer:
    outputs, body = BODIES[name]
    text = f"(float[{batch}, 3, 8, 8] x) => ({outputs.replace('N', batch)}) {{ {STEM}{body} }}"
    return Explainer(net(text, WEIGHTS), **options)


def close(one: Explanation, other: Explanation) -> None:
    assert (one.layer, one.target.name, one.score) == (other.layer, other.target.name, other.score)
    np.testing.assert_allclose(one.map, other.map, atol=2e-3 * np.abs(one.map).max())


TARGETS = [
    ("maps", None), ("maps", "4"), ("maps", "2@all"), ("maps", "y[1,3:9,:]"), ("maps", "3 not 1"), ("nhwc", None),
    ("nhwc", "y[2,5,1]"), ("map", None), ("map", "not 0"), ("rows", "3"), ("rows", "y[17,2]"), ("rows", "y[:,0:3]"),
    ("rows", "2 not 4"), ("steps", "ctc"), ("steps", "tokens:3,1,0"), ("steps", "token:7,5"), ("embedding", None),
    ("embedding", "y[0:3]"), ("number", None), ("number", "not 0"), ("sigmoid", "0"), ("sigmoid", "not 0"),
    ("steps in front", "ctc"), ("steps in front", "token:7,5"), ("steps in front", "y[3,2]"),
    ("heads", "2"), ("heads", "3 not 1"),
]  # fmt: skip


@pytest.mark.parametrize("batch", ["N", "1"])
@pytest.mark.parametrize(("name", "target"), TARGETS)
def test_the_gradient_is_that_of_the_targets_value(name: str, target: str | None, batch: str) -> None:
    explainer = explainer_of(name, batch)
    one = explainer(X, target=target, layer="a")
    assert np.abs(one.map).max() > 0
    close(one, explainer(X, target=target, layer="a", gradient="numeric"))


def test_a_segmentation_by_hand() -> None:
    """Class 4 over the region R where it is highest: weights are the mean over all positions of the sum over R."""
    text = f"(float[N, 3, 8, 8] x) => (float[N, 5, 8, 8] y) {{ {STEM} y = Conv(a, w) }}"
    w = normal(5, 4, 1, 1, seed=9)
    w[4] += 1
    model = net(text, {**WEIGHTS, "w": w})
    values = run(tapped(model, "a"), {"x": X[None]})
    region = values["y"][0].argmax(axis=0) == 4
    e = Explainer(model)(X, target=4)
    assert (e.layer, e.target.name, e.scores.shape, e.score_kind) == (
        "a",
        "class 4 over its own region",
        (5, 8, 8),
        "output",
    )
    assert e.score == pytest.approx(values["y"][0, 4][region].sum(), rel=1e-5)
    expected = np.tensordot(w[4, :, 0, 0] * region.mean(), values["a"][0], 1)
    np.testing.assert_allclose(e.map, expected, rtol=1e-4, atol=1e-6)
    assert (e.probability, e.target.index) == (None, None)


def test_input_level_methods_explain_any_score() -> None:
    for name, target in TARGETS:
        e = explainer_of(name)(X, target=target, method="inputxgradient")
        assert e.map.shape == (8, 8)
        assert np.abs(e.map).max() > 0


def test_images_share_a_run_and_targets_of_one_image_too() -> None:
    explainer = explainer_of("maps")
    images = normal(2, 3, 8, 8, seed=8)
    found = explainer(images, target=["2@all", "y[0,1,2]", "0@all"])
    assert [[e.target.name for e in row] for row in found] == [
        ["class 2 over the whole image", "y[0,1,2]", "class 0 over the whole image"]
    ] * 2
    for row, image in zip(found, images, strict=True):
        for e, target in zip(row, ["2@all", "y[0,1,2]", "0@all"], strict=True):
            np.testing.assert_allclose(e.map, explainer(image, target=target).map, rtol=1e-4, atol=1e-6)


def test_likeness_to_another_image() -> None:
    explainer = explainer_of("embedding")
    other = normal(3, 8, 8, seed=8)
    e = explainer(X, target="y[0]")
    there = explainer(other).scores
    target = SimilarityTarget(there, "to the other")
    found = explainer(X, target=target)
    assert found.score == pytest.approx(e.scores @ there / np.linalg.norm(e.scores) / np.linalg.norm(there), rel=1e-5)
    close(found, explainer(X, target=target, gradient="numeric"))
    assert found.legend()[1].startswith("cosine ")


def test_likeness_to_another_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / name)
    explainer = explainer_of("embedding", preprocess="unit")
    e = explainer(tmp_path / "a.png", target=f"similar:{tmp_path}/b.png")
    one, other = (explainer(tmp_path / name).scores for name in ("a.png", "b.png"))
    assert e.score == pytest.approx(one @ other / np.linalg.norm(one) / np.linalg.norm(other), rel=1e-5)
    assert e.target.name == "similarity to b.png"
    same = explainer(tmp_path / "a.png", target=f"similar:{tmp_path}/a.png")
    assert (same.score, same.status) == (pytest.approx(1), "saturated")  # its map is of rounding alone
    assert explainer(tmp_path / "a.png", target=f"not similar:{tmp_path}/a.png").status == "saturated"
    assert explainer(tmp_path / "a.png", target=f"dot:{tmp_path}/a.png").status == "ok"


HEADS = (
    STEM + "d = Conv<strides = [2, 2]>(a, wide) e = Relu(d) fine = Conv(a, wide) coarse = Conv(e, back) "
    "f = Reshape(fine, rows) g = Reshape(coarse, rows) j = Concat<axis = 2>(f, g) y = Transpose<perm = [0, 2, 1]>(j)"
)


def two_heads(outputs: str = "float[N, 80, 6] y") -> Explainer:
    weights = {**WEIGHTS, "back": normal(6, 6, 1, 1, seed=8)}
    return Explainer(net(f"(float[N, 3, 8, 8] x) => ({outputs}) {{ {HEADS} }}", weights))


def test_the_layer_is_that_of_the_head_which_the_target_is_of() -> None:
    explainer = two_heads()
    fine, coarse, both = explainer(X, target=["y[63,0]", "y[64,0]", "y[63:65,0]"])
    assert [e.layer for e in (fine, coarse, both)] == ["a", "e", "a"]  # e is on all ways to rows 64 to 79 alone
    assert [e.map.shape for e in (fine, coarse, both)] == [(8, 8), (4, 4), (8, 8)]
    for e, target in ((fine, "y[63,0]"), (coarse, "y[64,0]")):
        close(e, explainer(X, target=target, gradient="numeric"))
    assert explainer(X, target="y[64,0]", layer="a").layer == "a"


def test_several_outputs() -> None:
    explainer = two_heads("float[N, 80, 6] y, float[N, 6, 8, 8] fine, float[N, 6, 4, 4] coarse")
    with pytest.raises(
        ModelError, match=r"several outputs that could be explained: choose with --score .*'y' \[N, 80, 6\]"
    ):
        explainer(X)
    found = explainer(X, target=["coarse[0,1,2]", ElementTarget("3,4,5", "fine"), "y[64,0]", "coarse[5]"])
    assert [(e.scored.name, e.target.name) for e in found] == [
        ("coarse", "coarse[0,1,2]"), ("fine", "fine[3,4,5]"), ("y", "y[64,0]"), ("coarse", "coarse[5]"),
    ]  # fmt: skip
    assert explainer.provider == "cpu"
    assert explainer(X, target="e[0]").scored.name == "e"  # any value that the model works out
    with pytest.raises(LayerError, match="the model has no value 'coarsest' to explain; did you mean coarse"):
        explainer(X, target="coarsest[0]")
    with pytest.raises(TargetError, match=r"the index \[0,9,9\] does not fit 'coarse', which holds 6 x 4 x 4 numbers"):
        explainer(X, target="coarse[0,9,9]")


def test_rows_without_an_axis_of_images() -> None:
    """A detector for one image, whose boxes took the axis of images in; it keeps a number of them that is not fixed."""
    body = "m = Conv(a, wide) t = Transpose<perm = [0, 2, 3, 1]>(m) y = Reshape(t, flat)"
    text = f"(float[1, 3, 8, 8] x) => (float[64, 6] y, float[K, 6] kept) {{ {STEM}{body} {KEPT} }}"
    explainer = Explainer(net(text, {**WEIGHTS, "zero": np.array(0, np.float32), "col": np.array([0])}))
    one = explainer(X, target="y[40,2]")
    assert one.scores.shape == (64, 6)
    close(one, explainer(X, target="y[40,2]", gradient="numeric"))
    kept = explainer(X, target="kept[0,1]")
    positive = np.flatnonzero(one.scores[:, 0] > 0)
    np.testing.assert_array_equal(kept.scores, one.scores[positive])
    np.testing.assert_allclose(kept.map, explainer(X, target=f"y[{positive[0]},1]").map, rtol=1e-4, atol=1e-7)


KEPT = (
    "s = Gather<axis = 1>(y, col) f = Squeeze(s, axis1) over = Greater(f, zero) n = NonZero(over) "
    "i = Squeeze(n, first) kept = Gather<axis = 0>(y, i)"
)


SELECTED = (
    "m = Conv(a, wide) small = Mul(m, tenth) r = Reshape(small, rows) t = Transpose<perm = [0, 2, 1]>(r) "
    "box, score = Split<axis = 2>(t, parts) p = Sigmoid(score) s = Transpose<perm = [0, 2, 1]>(p) "
)
DETECTORS = {
    "nms": ("float[K, 4] boxes, float[K] scores", SELECTED + "far = Mul(places, spread) "
            "n = NonMaxSuppression(far, s, most, iou, least) at = Gather<axis = 1>(n, two) bs = Squeeze(box, zeroth) "
            "ss = Gather<axis = 1>(s, which) f = Squeeze(ss, both) "
            "boxes = Gather<axis = 0>(bs, at) scores = Gather<axis = 0>(f, at)"),
    "topk": ("float[1, 3] scores, float[1, 3, 4] boxes", SELECTED + "q = ReduceMax<axes = [1], keepdims = 0>(s) "
             "scores, i = TopK<axis = 1>(q, three) u = Unsqueeze(i, last) e = Expand(u, like) "
             "boxes = GatherElements<axis = 1>(box, e)"),
}  # fmt: skip
PARTS = {
    "tenth": np.array(0.1, np.float32),
    "parts": np.array([4, 2]), "two": np.array(2), "zeroth": np.array([0]), "which": np.array(1), "both": np.array([0]),
    "most": np.array(3), "iou": np.array(0.5, np.float32), "least": np.array(0.0, np.float32), "three": np.array([3]),
    "last": np.array([2]), "like": np.array([1, 3, 4]), "spread": np.array(10, np.float32),
    "places": (np.arange(64)[None, :, None] + np.array([0, 0, 0.5, 0.5])).astype(np.float32),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "target"), [("nms", "boxes[0,1]"), ("nms", "scores[1]"), ("topk", "boxes[2,3]"), ("topk", "scores[0]")]
)
def test_what_the_model_picks_itself_is_explained_where_it_was_picked(name: str, target: str) -> None:
    """Non-maximum suppression and top k: as if the rows that the forward pass chose had been named in front of it."""
    outputs, body = DETECTORS[name]
    model = net(f"(float[1, 3, 8, 8] x) => ({outputs}) {{ {STEM}{body} }}", {**WEIGHTS, **PARTS})
    values = run(tapped(model, "box", "p"), {"x": X[None]})
    best = np.argsort(-values["p"][0].max(axis=1), kind="stable")
    if name == "nms":  # the first class's best three come first: their boxes lie apart
        best = np.argsort(-values["p"][0, :, 0], kind="stable")
    which, _, inner = target.partition("[")
    at = [int(i) for i in inner.rstrip("]").split(",")]
    row = best[at[0]]
    before = (
        f"box[{row},{at[1]}]"
        if which == "boxes"
        else f"p[{row},{values['p'][0, row].argmax() if name == 'topk' else 1}]"
    )
    explainer = Explainer(model)
    one, other = explainer(X, target=target), explainer(X, target=before)
    assert (one.layer, one.score) == ("a", pytest.approx(other.score))
    assert np.abs(one.map).max() > 0
    np.testing.assert_allclose(one.map, other.map, rtol=1e-4, atol=1e-6 * np.abs(one.map).max())


def test_the_other_inputs_are_fed() -> None:
    """What is asked of the image: the word picks the weights. As torch would have it: feeds are constants."""
    text = (
        f"(float[N, 3, 8, 8] x, int64[1] word_id, float[N, 2] scale) => (float[N, 4] y) {{ {STEM} "
        "p = ReduceMean<axes = [2, 3], keepdims = 0>(a) e = Gather(word, word_id) m = Mul(p, e) "
        "s = ReduceMean<axes = [1], keepdims = 1>(scale) y = Mul(m, s) }"
    )
    model = net(text, WEIGHTS)
    with pytest.raises(
        ModelError, match=r"needs more than the image 'x': also 'word_id' int64 \[1\], 'scale' float32 \[N, 2\]"
    ):
        Explainer(model)
    explainer = Explainer(model, feeds={"word_id": np.array([2]), "scale": np.array([2, 4])})
    e = explainer(X, target=3, layer="a")
    activations = run(
        tapped(model, "a"), {"x": X[None], "word_id": np.array([2]), "scale": np.ones((1, 2), np.float32)}
    )["a"]
    np.testing.assert_allclose(e.map, 3 * WEIGHTS["word"][2, 3] * activations[0, 3] / 64, rtol=1e-4, atol=1e-7)
    both = explainer(np.stack([X, -X]), target=3, layer="a")
    np.testing.assert_allclose(both[0].map, e.map, rtol=1e-5)
    with pytest.raises(UsageError, match="no input 'words' to feed; did you mean word_id"):
        Explainer(model, feeds={"words": np.array([2])})


@pytest.mark.parametrize("name", ["maps", "rows", "steps", "embedding", "number"])
def test_check_covers_any_score(name: str) -> None:
    outputs, body = BODIES[name]
    results = check(net(f"(float[N, 3, 8, 8] x) => ({outputs}) {{ {STEM}{body} }}", WEIGHTS))
    assert all(result.ok for result in results), results


VOLUME = "(float[N, 1, 4, 6, 8] x) => (float[N, 5] y) { c = Conv<pads = [1, 1, 1, 1, 1, 1]>(x, cube) a = Relu(c) "
CUBES = {"cube": normal(4, 1, 3, 3, 3), "w": normal(5, 4)}
POOLED = "p = GlobalAveragePool(a) f = Flatten(p) y = Gemm<transB = 1>(f, w) }"


def test_a_volume_from_a_file_and_no_picture(tmp_path: Path) -> None:
    explainer, x = Explainer(net(VOLUME + POOLED, CUBES)), normal(1, 4, 6, 8)
    np.save(tmp_path / "scan.npy", x[None])
    e = explainer(tmp_path / "scan.npy", target=2)
    assert (e.image, e.preprocess) == (str(tmp_path / "scan.npy"), "array as given")
    np.testing.assert_array_equal(e.map, explainer(x, target=2).map)
    Image.new("L", (8, 6)).save(tmp_path / "slice.png")
    with pytest.raises(PreprocessError, match=r"a photo has no depth: give an array, or a \.npy file"):
        explainer(tmp_path / "slice.png")
    with pytest.raises(ImageError, match=r"the image has shape \[1, 4, 6, 9\], .* takes \[1, any, 6, 8\] \(CDHW\)"):
        explainer(normal(1, 4, 6, 9))
    (tmp_path / "bad.npy").write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"bad\.npy cannot be read as an array"):
        explainer(tmp_path / "bad.npy")
    with pytest.raises(ImageError, match=r"none\.npy cannot be read as an array: No such file"):
        explainer(tmp_path / "none.npy")


def test_probabilities_next_to_their_ends_are_saturated() -> None:
    """Rows of a softmax that the user asks for as they are: next to 1 the gradient is rounding."""
    body = "m = Conv(a, wide) r = Reshape(m, rows) t = Transpose<perm = [0, 2, 1]>(r) y = Softmax(t)"
    text = f"(float[N, 3, 8, 8] x) => (float[N, 64, 6] y) {{ {STEM}{body} }}"
    model = net(text, WEIGHTS)
    p = run(model, {"x": X[None]})["y"][0]
    sure = np.argwhere((p > 1 - 9e-7) & (p < 1))
    unsure = np.argwhere((p > 0.2) & (p < 0.8))
    explainer = Explainer(model, score="y")
    for found, status in ((sure, "saturated"), (unsure, "ok")):
        row, which = found[0]
        e = explainer(X, target=ElementTarget(f"{row},{which}"))
        assert (e.score_kind, e.status) == ("probability", status)
        assert Explainer(model)(X, target=f"y[{row},{which}]").status == "ok"  # the logit behind it


@pytest.mark.parametrize("batch", ["N", "1"])
def test_steps_in_front_are_read_as_steps_behind(batch: str) -> None:
    one, other = (
        explainer_of(name, batch)(X, target="tokens:3,1,0", layer="a") for name in ("steps", "steps in front")
    )
    assert one.score == pytest.approx(other.score, rel=1e-5)
    np.testing.assert_allclose(one.map, other.map, rtol=1e-4, atol=1e-6)


TWO_OUTPUTS = (
    f"(float[N, 3, 8, 8] x) => (float[N, 6] y, float[N, 6] aux) {{ {STEM}"
    "p = ReduceMean<axes = [2, 3], keepdims = 0>(a) y = MatMul(p, fc) aux = MatMul(p, fc2) }"
)


def test_a_difference_within_another_output_is_of_that_output() -> None:
    explainer = Explainer(net(TWO_OUTPUTS, WEIGHTS), score="y")
    one, other = explainer(X, target=["aux[0]", "aux[1]"])
    as_object = DifferenceTarget(ElementTarget("0", "aux"), ElementTarget("1", "aux"))
    for target in ("aux[0] not 1", "aux[0] not aux[1]", as_object):
        both = explainer(X, target=target)
        assert both.score_name == "aux"
        np.testing.assert_allclose(both.map, one.map - other.map, atol=1e-5)
    with pytest.raises(TargetError, match=r"'aux\[0\] not y\[1\]' reads two outputs, 'aux' and 'y'"):
        explainer(X, target="aux[0] not y[1]")
    negative = explainer(X, target=NegatedTarget(ElementTarget("0", "aux")))
    np.testing.assert_allclose(negative.map, -one.map, atol=1e-6)


@pytest.mark.parametrize("first", ["gradcam", "hirescam"])
def test_methods_that_read_other_values_of_the_features_follow_each_other(first: str) -> None:
    text = f"""(float[N, 3, 8, 8] x) => (float[N, 6] y) {{ {STEM}
      p = GlobalAveragePool(a) f = Flatten(p) h = MatMul(f, square) t = Tanh(h) y = MatMul(t, fc) }}"""
    model = net(text, {**WEIGHTS, "square": normal(4, 4, seed=9)})
    explainer = Explainer(model)
    explainer(X, target="0 not 1", method=first)
    for method in ("gradcam", "hirescam"):
        alone = Explainer(model)(X, target="0 not 1", method=method)
        np.testing.assert_allclose(explainer(X, target="0 not 1", method=method).map, alone.map, atol=1e-6)


def test_a_score_that_is_the_image_itself() -> None:
    """The model is nothing but a softmax."""
    explainer = Explainer(net("(float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y) { y = Softmax<axis = 1>(x) }"))
    assert (explainer(X, target="0@all", method="saliency").map == 1).all()
    with pytest.raises(LayerError, match="no layer with a grid of positions"):
        explainer(X, target="0@all")


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "hirescam", "guidedgradcam"])
def test_a_layer_without_channels_is_refused(method: str) -> None:
    text = f"""(float[N, 3, 8, 8] x) => (float[N, 6] y) {{ {STEM} z = Slice(a, first, first, axis1)
      s = ReduceSum<keepdims = 0>(z, rest) u = Unsqueeze(s, axis1)
      p = ReduceMean<axes = [2, 3], keepdims = 0>(a) m = MatMul(p, fc) y = Add(m, u) }}"""
    explainer = Explainer(net(text, {**WEIGHTS, "rest": np.array([1, 2, 3])}))
    with pytest.raises(LayerError, match=r"^the layer 'z' is empty: its shape is \[1, 0, 8, 8\]$"):
        explainer(X, target=0, method=method, layer="z")


def test_a_target_s_index_and_output_are_what_they_have_to_be() -> None:
    class Odd(ElementTarget):
        index = 9999

    with pytest.raises(TargetError, match="target 9999 is out of range"):
        explainer_of("embedding")(X, target=Odd("0"))
    with pytest.raises(TargetError, match="the output of a target is a name, not list"):
        explainer_of("embedding")(X, target=ElementTarget("0", ["y"]))  # type: ignore[arg-type]


def test_a_branch_whose_part_is_stacked_on_the_others() -> None:
    """A transformer of two scales: the mean over a stack of what its heads say, one of which is explained."""
    text = """(float[N, 3, 8, 8] x) => (float[N, 6] y) { c = Conv<pads = [1, 1, 1, 1]>(x, stem) a = Relu(c)
      p = ReduceMean<axes = [2, 3], keepdims = 0>(a) m = MatMul(p, fc) m1 = Unsqueeze(m, first)
      d = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, stem) deep = Relu(d)
      q = ReduceMean<axes = [2, 3], keepdims = 0>(deep) n = MatMul(q, fc2) n1 = Unsqueeze(n, first)
      s = Concat<axis = 0>(m1, n1) y = ReduceMean<axes = [0], keepdims = 0>(s) }"""
    for batch in ("N", "1"):
        model = net(text.replace("[N,", f"[{batch},"), WEIGHTS)
        found = Explainer(model)(X, target=2, layer="deep")
        half = WEIGHTS["fc2"][:, 2] / 2 / 16
        relu = run(tapped(model, "deep"), {"x": X[None]})["deep"][0]
        np.testing.assert_allclose(found.map, np.tensordot(half, relu, 1), atol=1e-5)


@pytest.mark.parametrize("classes", [3, 1])
def test_a_class_of_a_volume_over_its_region(classes: int) -> None:
    """As in two dimensions: where it is the highest, or over one half; a box goes through all slices."""
    weights = {"w": normal(4, 1, 3, 3, 3), "v": normal(classes, 4, 1, 1, 1, seed=1)}
    squash = "Sigmoid" if classes == 1 else "Softmax<axis = 1>"
    explainer = Explainer(net(f"""(float[N,1,4,6,8] x) => (float[N,{classes},4,6,8] y) {{
        c = Conv<pads = [1,1,1,1,1,1]>(x, w) a = Relu(c) l = Conv(a, v) y = {squash}(l) }}""", weights))  # fmt: skip
    volume = normal(1, 1, 4, 6, 8, seed=2)
    scores = explainer(volume, target="l[:]").scores
    own = scores[0] > 0 if classes == 1 else scores.argmax(0) == classes - 1
    assert 0 < own.sum() < own.size
    box = np.zeros(own.shape, bool)
    box[:, 2:5, 1:4] = True
    for target, mask in (
        (classes - 1, own),
        (f"{classes - 1}@1,2,4,5", box),
        (f"{classes - 1}@all", np.ones_like(box)),
    ):
        found, wanted = explainer(volume, target=target), explainer(volume, target=RegionTarget(classes - 1, mask))
        assert found.map.shape == (4, 6, 8)
        assert found.score == wanted.score == pytest.approx(scores[classes - 1][mask].sum(), rel=1e-4)
        np.testing.assert_allclose(found.map, wanted.map, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("body", ["age = MatMul(f, fc1)", "l = MatMul(f, fc1) age = Sigmoid(l)"])
def test_a_single_number_is_called_by_the_name_of_its_output(body: str) -> None:
    """It is no class 0 of several."""
    text = f"(float[N,3,8,8] x) => (float[N,1] age) {{ {STEM} p = GlobalAveragePool(a) f = Flatten(p) {body} }}"
    explainer = Explainer(net(text, WEIGHTS))
    e = explainer(X)
    assert (e.target.name, e.label, e.target.index) == ("age", None, 0)
    assert [one.target.name for one in explainer(X, target=[0, "not 0"])] == ["age", "not age"]
    assert Explainer(net(text, WEIGHTS), labels=["old"])(X).target.name == "old"
