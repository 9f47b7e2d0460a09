"""Methods that need only the gradient's mean over positions get it another way; it is the mean of the gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

from onnxcam.explainer import Ask, Explainer, TargetLayer
from onnxcam.runtime import Layout, Session
from onnxcam.targets import ClassTarget, DifferenceTarget
from onnxcam.vjp import CLASS, class_gradient, differentiate
from tests.explainer.test_tokens import COLUMNS, PATCHES, ROWS, TOKEN, WEIGHTS, attention
from tests.nets import net, normal, run, tapped

IMAGES = {
    "pooled and linear": "p = GlobalAveragePool(last) f = Flatten(p) y = Gemm(f, fc)",
    "pooled, then not linear": "p = ReduceMean<axes = [2, 3]>(last) f = Flatten(p) t = Tanh(f) y = Gemm(t, fc)",
    "pooled twice": "p = GlobalAveragePool(last) q = GlobalMaxPool(last) s = Add(p, q) f = Flatten(s) y = Gemm(f, fc)",
    "class maps": "m = Conv(last, maps) r = Relu(m) p = GlobalAveragePool(r) y = Flatten(p)",
    "channels last": """n = Transpose<perm = [0, 2, 3, 1]>(last) t = Tanh(n)
        p = ReduceMean<axes = [1, 2], keepdims = 0>(t) y = Gemm(p, fc)""",
}
TOKENS = {
    "a mean with the class token in it": TOKEN + attention("z0", "z1", 1)
    + "f = ReduceMean<axes = [1], keepdims = 0>(z1) y = Gemm<transB = 1>(f, w, b)",
    "a mean of the patches": PATCHES + "z0 = Add(e, places) " + attention("z0", "z1", 1)
    + "f = ReduceMean<axes = [1], keepdims = 0>(z1) y = Gemm<transB = 1>(f, w, b)",
}  # fmt: skip


def classifier(tail: str) -> onnx.ModelProto:
    text = f"(float[N, 3, 6, 8] x) => (float[N, 5] y) {{ c = Conv<pads = [1, 1, 1, 1]>(x, w) last = Relu(c) {tail} }}"
    return net(text, {"w": normal(4, 3, 3, 3), "fc": normal(4, 5), "maps": normal(5, 4, 1, 1)})


def transformer(body: str) -> onnx.ModelProto:
    return net(f"(float[1, 3, {4 * ROWS}, {4 * COLUMNS}] x) => (float[1, 5] y) {{ {body} }}", WEIGHTS)


MODELS = {name: classifier(tail) for name, tail in IMAGES.items()} | {n: transformer(b) for n, b in TOKENS.items()}


@pytest.mark.parametrize("name", MODELS)
def test_the_mean_is_that_of_the_whole_gradient(name: str) -> None:
    explainer = Explainer(MODELS[name])
    subject = explainer.subject
    at = subject.target_layer(None, "gradcam")
    only = replace(at, mean_only=True)
    width, height = subject.image.size
    x = normal(1, 3, height, width)
    ask = Ask([0, 0], [ClassTarget(1), ClassTarget(4)])
    whole = subject.layer_gradient(at, subject.see(x, at, "symbolic"), ask)
    mean = subject.layer_gradient(only, subject.see(x, only, "symbolic"), ask)
    expected = whole.mean(axis=(2, 3), keepdims=True)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(mean.mean(axis=(2, 3), keepdims=True), expected, rtol=1e-4, atol=1e-6)


def test_no_gradient_of_the_layer_s_size_is_made_where_the_mean_will_do() -> None:
    for name in IMAGES:
        subject = Explainer(MODELS[name]).subject
        only = replace(subject.target_layer(None, "gradcam"), mean_only=True)
        mean = subject.layer_gradient(
            only, subject.see(normal(1, 3, 6, 8), only, "symbolic"), Ask([0], [ClassTarget(0)])
        )
        assert mean.shape == (1, 4, 1, 1)


def test_the_mean_is_taken_before_a_pointwise_convolution_s_product() -> None:
    part = Explainer(MODELS["class maps"]).subject.sessions.head(TargetLayer("last", Layout("NCHW")))
    nodes = [node.op_type for node in class_gradient(part, 1, mean=(2, 3)).proto.graph.node]
    assert nodes.index("ReduceMean") < len(nodes) - 1 - nodes[::-1].index("MatMul")
    assert "Abs" not in nodes  # one class's row times cotangents of one sign: nothing can cancel


def test_a_mean_that_no_image_decides_is_worked_out_once_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[list[str]] = []
    inner = Session.run

    def counted(self: Session, feeds: Any, outputs: Any = None) -> Any:
        runs.append(sorted(feeds))
        return inner(self, feeds, outputs)

    monkeypatch.setattr(Session, "run", counted)
    explainer = Explainer(MODELS["pooled and linear"])
    images = [normal(1, 3, 6, 8, seed=seed) for seed in (1, 2)]
    first = [explainer(image, target=which).map for image in images for which in (1, 4, 1)]
    assert runs.count([CLASS]) == 2
    again = [Explainer(MODELS["pooled and linear"])(image, target=which).map for image in images for which in (1, 4, 1)]
    np.testing.assert_array_equal(first, again)
    several = Explainer(MODELS["pooled and linear"])(images[0], target=[4, 1, 4])
    np.testing.assert_allclose([e.map for e in several], [first[1], first[0], first[1]], rtol=1e-6)


SOFT_ARGMAX = """(float[N, 3, 8, 8] x) => (float[N, 2] y) {
  c = Conv<pads = [1, 1, 1, 1]>(x, stem) a = Relu(c) m = Conv(a, one) f = Reshape(m, flat)
  p = Softmax<axis = -1>(f) y = MatMul(p, grid) }"""
NORMALIZED = """(float[N, 3, 8, 8] x) => (float[N, 5] y) {
  c = Conv<pads = [1, 1, 1, 1]>(x, stem) a = Relu(c) i = InstanceNormalization(a, ones, zeros)
  s = Sigmoid(i) f = Flatten(s) y = MatMul(f, w) }"""


@pytest.mark.parametrize("target", [1, DifferenceTarget(0, 1)], ids=["in the graph", "of a whole gradient"])
@pytest.mark.parametrize("text", [SOFT_ARGMAX, NORMALIZED])
def test_means_that_cancel_give_no_map_of_their_rounding(text: str, target: Any) -> None:
    """Adding to a channel everywhere changes nothing in front of a normalization over positions."""
    weights = {
        "stem": normal(4, 3, 3, 3), "one": normal(1, 4, 1, 1), "flat": np.array([0, -1]), "grid": normal(64, 2, seed=1),
        "ones": np.ones(4, np.float32), "zeros": np.zeros(4, np.float32), "w": normal(256, 5, seed=2),
    }  # fmt: skip
    explainer = Explainer(net(text, weights))
    e = explainer(normal(3, 8, 8), target=target, layer="a")
    assert (e.status, np.abs(e.map).max()) == ("blank", 0)
    assert explainer(normal(3, 8, 8), target=target, layer="a", method="hirescam").status == "ok"


@pytest.mark.parametrize(("method", "layer"), [("gradcam", "a"), ("cam", "r")])
def test_what_reads_a_layer_need_be_no_pool(method: str, layer: str) -> None:
    """A product whose left factor is the weight: its first input has other axes."""
    text = """(float[1, 3, 8, 8] x) => (float[1, 5] y) { c = Conv<pads = [1, 1, 1, 1]>(x, stem) a = Relu(c)
      f = Reshape(a, flat) m = MatMul(w, f) r = Relu(m) y = ReduceMean<axes = [2], keepdims = 0>(r) }"""
    model = net(text, {"stem": normal(4, 3, 3, 3), "flat": np.array([1, 4, 64]), "w": normal(5, 4)})
    assert Explainer(model)(normal(3, 8, 8), method=method).layer == layer


def test_a_channel_that_does_not_cancel_is_shown_however_small() -> None:
    """The first is normalized over positions, at 1e4 times the gradient of the second, which is pooled."""
    text = """(float[N, 2, 8, 8] x) => (float[N, 1] y) { a = Relu(x) f, s = Split<axis = 1>(a) f1 = Mul(f, gain)
      i = InstanceNormalization(f1, one, zero) q = Mul(i, weight) t = Sigmoid(q) u = ReduceSum<keepdims = 0>(t, axes)
      p = ReduceMean<axes = [2, 3], keepdims = 0>(s) v = Mul(p, small) y = Add(u, v) }"""
    weights = {
        "gain": np.array(1e-3, np.float32), "one": np.ones(1, np.float32), "zero": np.zeros(1, np.float32),
        "weight": normal(1, 1, 8, 8), "axes": np.array([2, 3]), "small": np.array(2e-3, np.float32),
    }  # fmt: skip
    x = np.abs(normal(2, 8, 8))
    e = Explainer(net(text, weights))(x, target=0, layer="a")
    np.testing.assert_allclose(e.map, x[1] * 2e-3 / 64, rtol=0.1)


def test_a_pointwise_convolution_spelled_as_a_product_is_judged_at_the_layer() -> None:
    """Its weights turn cotangents of 1e4, which a normalization cancels, into nothing."""
    text = """(float[1, 3, 8, 8] x) => (float[1, 1] y) { c = Conv<pads = [1, 1, 1, 1]>(x, stem) a = Relu(c)
      f = Reshape(a, flat) m = MatMul(w, f) n, o = Split<axis = 1>(m, one_each) i = InstanceNormalization(n, one, zero)
      q = Mul(i, weight) t = Sigmoid(q) u = ReduceSum<keepdims = 0>(t, last)
      p = ReduceMean<axes = [2], keepdims = 0>(o) y = Add(u, p) }"""
    weights = {
        "stem": normal(4, 3, 3, 3), "flat": np.array([1, 4, 64]), "one": np.ones(1, np.float32),
        "w": np.concatenate([1e-4 * normal(1, 4), np.abs(normal(1, 4))]), "zero": np.zeros(1, np.float32),
        "weight": normal(1, 1, 64), "last": np.array([2]), "one_each": np.array([1, 1]),
    }  # fmt: skip
    model, x = net(text, weights), normal(3, 8, 8)
    model.graph.node[5].attribute.add(name="epsilon", f=1e-12, type=onnx.AttributeProto.FLOAT)
    assert model.graph.node[5].op_type == "InstanceNormalization"
    found = Explainer(model)(x, target=0, layer="a")
    both = differentiate(model, of="y", wrt="a")
    g = run(both.model, {"x": x[None], both.seed: np.ones((1, 1), np.float32)})[both.gradients["a"]]
    a = run(tapped(model, "a"), {"x": x[None]})["a"]
    np.testing.assert_allclose(found.map, (g.mean(axis=(2, 3), keepdims=True) * a).sum(axis=1)[0], rtol=1e-2)


@pytest.mark.parametrize("layer", ["last", "t"])
def test_a_pool_over_the_channels_of_tokens_is_not_taken_for_the_mean(layer: str) -> None:
    """There are as many channels as positions, so that no shape tells."""
    model = net("""(float[N, 3, 4, 4] x) => (float[N, 5] y) { c = Conv<pads = [1, 1, 1, 1]>(x, w) last = Relu(c)
        r = Reshape(last, rows) t = Transpose<perm = [0, 2, 1]>(r) p = GlobalAveragePool(t) f = Flatten(p)
        y = Gemm(f, fc) }""",
        {"w": normal(16, 3, 3, 3), "fc": normal(16, 5), "rows": np.array([0, 16, 16])})  # fmt: skip
    x, both = normal(1, 3, 4, 4), differentiate(model, of="y", wrt="last")
    a = run(tapped(model, "last"), {"x": x})["last"]
    g = run(both.model, {"x": x, both.seed: np.eye(5, dtype=np.float32)[[1]]})[both.gradients["last"]]
    expected = (g.mean(axis=(2, 3), keepdims=True) * a).sum(axis=1)[0]
    found = Explainer(model)(x, target=1, method="gradcam", layer=layer).map
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
