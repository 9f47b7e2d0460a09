"""The paper's theorem: where the head is global average pooling and a linear layer, Grad-CAM is CAM up to 1/Z.

Selvaraju et al. 2020, section 3.1, generalizing Zhou et al. 2016. CAM is worked out here from the weights in the file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxcam import Explainer, LayerError
from tests.nets import Array, as_array, net, normal, run, tapped

K, C, SIDE = 5, 6, 7
Z = SIDE * SIDE
W = normal(K, C)
WEIGHTS: dict[str, Array] = {
    "stem": normal(C, 3, 3, 3),
    "w": W,
    "wt": np.ascontiguousarray(W.T),
    "b": normal(K, seed=1),
    "kernel": W.reshape(K, C, 1, 1),
    "scale": normal(C, seed=2),
    "shift": normal(C, seed=3),
    "mean": normal(C, seed=4),
    "variance": np.abs(normal(C, seed=5)) + 0.1,
    "half": np.array(0.5, np.float32),
    "axes": np.array([2, 3]),
    "sizes": np.array([0, -1]),
}
STEM = "c = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, stem) a = Relu(c) "
TO_NHWC = STEM.replace("a =", "r =") + "a = Transpose<perm = [0, 2, 3, 1]>(r) "
HEADS = {
    "Gemm": STEM + "p = GlobalAveragePool(a) f = Flatten(p) y = Gemm<transB = 1>(f, w, b)",
    "MatMul": STEM + "p = GlobalAveragePool(a) f = Reshape(p, sizes) m = MatMul(f, wt) y = Add(m, b) q = Softmax(y)",
    "ReduceMean": STEM + "f = ReduceMean<axes = [2, 3], keepdims = 0>(a) y = Gemm<transB = 1>(f, w, b)",
    "AveragePool": STEM + "p = AveragePool<kernel_shape = [7, 7]>(a) f = Squeeze(p, axes) y = Gemm(f, wt)",
    "1x1 convolution": STEM + "p = GlobalAveragePool(a) d = Dropout(p) v = Conv(d, kernel, b) y = Flatten(v)",
    "channels last": (
        TO_NHWC + "f = ReduceMean<axes = [1, 2], keepdims = 0>(a) m = MatMul(f, wt) y = Add(m, b) q = Sigmoid(y)"
    ),
    "two linear layers, temperature": (
        STEM + "p = GlobalAveragePool(a) n = BatchNormalization(p, scale, shift, mean, variance) f = Flatten(n) "
        "m = MatMul(f, wt) y = Div(m, half) q = Softmax(y)"
    ),
}  # fmt: skip
X = normal(2, 3, 13, 13)


def model_of(head: str) -> onnx.ModelProto:
    body = HEADS[head]
    return net(f"(float[N, 3, 13, 13] x) => (float[N, K] {'q' if 'q =' in body else 'y'}) {{ {body} }}", WEIGHTS)


def by_hand(head: str) -> Array:
    """CAM of every class, (rows, K, 7, 7)."""
    rows: Array = W
    if head.startswith("two"):  # y = 2 (n W'), n = (p - mean) s + shift with s = scale / sqrt(variance + 1e-5)
        rows = 2 * W * WEIGHTS["scale"] / np.sqrt(WEIGHTS["variance"] + 1e-5)
    return as_array(np.einsum("kc,ncij->nkij", rows, run(tapped(model_of(head), "c"), {"x": X})["c"].clip(0)))


@pytest.mark.parametrize("head", HEADS)
def test_cam_is_what_the_weights_say(head: str) -> None:
    explainer = Explainer(model_of(head))
    for maps, expected in zip(explainer(X, target=range(K), method="cam"), by_hand(head), strict=True):
        for e, one in zip(maps, expected, strict=True):
            np.testing.assert_allclose(e.map, one, rtol=0, atol=2e-6 * float(np.abs(expected).max()))
            assert e.score_name == "y"


@pytest.mark.parametrize("head", HEADS)
def test_grad_cam_is_cam_over_z_and_so_is_hirescam(head: str) -> None:
    explainer = Explainer(model_of(head))
    for method in ("gradcam", "hirescam"):
        for maps, expected in zip(explainer(X, target=range(K), method=method), by_hand(head), strict=True):
            for e, one in zip(maps, expected, strict=True):
                np.testing.assert_allclose(e.map, one / Z, rtol=0, atol=2e-6 * float(np.abs(expected).max()) / Z)


def test_the_map_adds_up_to_the_score_less_its_bias() -> None:
    for e in Explainer(model_of("Gemm"))(X[0], target=range(K), method="cam"):
        assert e.score == pytest.approx(e.map.mean() + WEIGHTS["b"][e.target.index], abs=1e-5)


# -- class maps: the classifier is a convolution, and the pooling comes last -------------------------

MAPS = STEM + "m = Conv(a, kernel, b) r = Relu(m) p = GlobalAveragePool(r) y = Flatten(p) q = Softmax(y)"


def test_behind_a_classifier_convolution_cam_takes_the_class_maps() -> None:
    model = net(f"(float[N, 3, 13, 13] x) => (float[N, K] q) {{ {MAPS} }}", WEIGHTS)
    maps = run(tapped(model, "r"), {"x": X})["r"]
    for row, explained in enumerate(Explainer(model)(X, target=range(K), method="cam")):
        for which, e in enumerate(explained):
            assert e.layer == "r"
            np.testing.assert_allclose(e.map, maps[row, which], rtol=0, atol=1e-6)
            assert e.score == pytest.approx(float(e.map.mean()), abs=1e-5)


def test_there_grad_cam_takes_the_features_before_it() -> None:
    """Its weights count only the positions at which the class's own map fires."""
    model = net(f"(float[N, 3, 13, 13] x) => (float[N, K] q) {{ {MAPS} }}", WEIGHTS)
    values = run(tapped(model, "a", "m"), {"x": X[:1]})
    for which, e in enumerate(Explainer(model)(X[0], target=range(K))):
        fires = (values["m"][0, which] > 0).sum() / Z
        assert e.layer == "a"
        np.testing.assert_allclose(e.map, fires / Z * np.tensordot(W[which], values["a"][0], 1), rtol=0, atol=1e-6)


def test_squeezenets_cam_is_its_class_map(squeezenet: Explainer, samples: Path) -> None:
    """The published network has this form: conv10, Relu, global average pooling."""
    proto = onnx.load(samples / "squeezenet11.onnx")
    e = squeezenet(samples / "chelsea.png", method="cam")
    features = run(tapped(proto, "fire9/concat"), {"data": e.item.row[None]})["fire9/concat"][0]
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    kernel, bias = weights["conv10.weight"][285, :, 0, 0], weights["conv10.bias"][285]
    expected = np.maximum(np.tensordot(kernel, features, 1) + bias, 0)
    np.testing.assert_allclose(e.map, expected, rtol=0, atol=1e-4 * float(expected.max()))
    assert e.score == pytest.approx(float(e.map.mean()), rel=1e-5)


# -- where there is no CAM ---------------------------------------------------------------------------

WITHOUT = {
    "flattened": STEM + "f = Flatten(a) y = Gemm<transB = 1>(f, flat)",
    "a hidden layer": STEM + "p = GlobalAveragePool(a) f = Flatten(p) h = Gemm(f, square) r = Relu(h) y = Gemm(r, wt)",
    "maximum": STEM + "p = GlobalMaxPool(a) f = Flatten(p) y = Gemm(f, wt)",
    "divided by": STEM + "p = GlobalAveragePool(a) f = Flatten(p) m = MatMul(f, wt) y = Div(half, m)",
    "multiplied by itself": STEM + "p = GlobalAveragePool(a) f = Flatten(p) m = MatMul(f, wt) y = Mul(m, m)",
}


@pytest.mark.parametrize("head", WITHOUT)
def test_another_head_is_refused(head: str) -> None:
    weights = {**WEIGHTS, "flat": normal(K, C * Z), "square": normal(C, C)}
    explainer = Explainer(net(f"(float[N, 3, 13, 13] x) => (float[N, K] y) {{ {WITHOUT[head]} }}", weights))
    with pytest.raises(
        LayerError, match=r"^cam needs a head of global average pooling and linear layers, this model has none"
    ):
        explainer(X[0], method="cam")
    assert explainer(X[0]).layer == "a"


def test_a_named_layer_that_is_not_pooled_is_refused() -> None:
    body = HEADS["Gemm"].replace("p = GlobalAveragePool(a)", "s = Sigmoid(a) p = GlobalAveragePool(s)")
    explainer = Explainer(net(f"(float[N, 3, 13, 13] x) => (float[N, K] y) {{ {body} }}", WEIGHTS))
    with pytest.raises(
        LayerError, match=r"cam needs a layer that goes straight into global average pooling.*'a' does not"
    ):
        explainer(X[0], method="cam", layer="a")
    assert explainer(X[0], method="cam").layer == "s"
