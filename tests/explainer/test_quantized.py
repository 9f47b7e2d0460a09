"""Quantized models against their float siblings: the same weights, the truth for what no difference can tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxcam import Explainer, differentiate, export
from onnxcam.graph import features, load, read_graph
from tests.nets import net, normal, run, tapped
from tests.quantizing import (
    CLASSES,
    FORMS,
    cosine,
    dynamically_quantized,
    float_net,
    image,
    integer_kernels,
    operators,
    quantized,
)

SAMPLES = Path(__file__).resolve().parents[2] / "sample_models"
X = image(99)
forms = pytest.mark.parametrize("form", FORMS)


@forms
@pytest.mark.parametrize("method", ["gradcam", "cam", "gradcam++", "layercam", "hirescam", "counterfactual"])
def test_cam_of_a_quantized_model_is_its_siblings(form: str, method: str) -> None:
    for target in (2, 5):
        ours, theirs = (Explainer(model)(X, target=target, method=method) for model in (quantized(form), float_net()))
        assert ours.layer == "last_DequantizeLinear_Output"
        assert cosine(ours.map, theirs.map) > 0.99


@forms
@pytest.mark.parametrize("layer", ["a1", "a2", "c3", "a3", "a4"])
def test_grad_cam_at_every_layer(form: str, layer: str) -> None:
    """Also where several readers each have a quantizer or DequantizeLinear of their own."""
    ours, theirs = (Explainer(model)(X, target=2, layer=layer) for model in (quantized(form), float_net()))
    assert ours.layer.startswith(f"{layer}_DequantizeLinear_Output")
    assert cosine(ours.map, theirs.map) > 0.98


@forms
def test_input_gradient(form: str) -> None:
    for method in ("saliency", "inputxgradient"):
        ours, theirs = (Explainer(model)(X, target=2, method=method) for model in (quantized(form), float_net()))
        assert cosine(ours.map, theirs.map) > 0.95


@forms
def test_the_integer_kernels_stay(form: str) -> None:
    model = quantized(form)
    deployed = integer_kernels(model)
    subject = Explainer(model).subject
    layers = [subject.target_layer(layer, "gradcam").name for layer in (None, "a1", "a2")]
    assert deployed.get("QLinearConv", 0) >= (0 if form == "int16 activations" else 3)
    assert integer_kernels(features(read_graph(load(model)), [*layers, subject.score.name])) == deployed
    gradient = differentiate(model, of="probabilities", wrt="x")
    assert integer_kernels(gradient.model) == deployed
    seed = {gradient.seed: np.ones((1, CLASSES), np.float32)}
    given = run(gradient.model, {"x": X, **seed})["probabilities"]
    np.testing.assert_array_equal(given, run(model, {"x": X})["probabilities"])


def test_an_exported_file_says_the_same(tmp_path: Path) -> None:
    path = export(quantized("a pair for each reader"), tmp_path / "out.onnx", layer="a1")
    assert integer_kernels(onnx.load(path)) == integer_kernels(quantized("a pair for each reader"))
    ours, theirs = (Explainer(model)(X, target=2, layer=layer) for model, layer in
                    ((path, None), (quantized("a pair for each reader"), "a1")))  # fmt: skip
    np.testing.assert_allclose(ours.map, theirs.map, rtol=1e-5, atol=1e-7)


def test_a_saturated_score_has_a_gradient() -> None:
    """The score is quantized too: where its code is the largest, the gradient in front of that code is taken."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 1, 4, 4] x) => (float[N, 2] scores) <
      float[2, 1, 3, 3] w = {1,1,1,1,1,1,1,1,1, 1,0,0,0,0,0,0,0,0}, float s = {0.1}, uint8 z = {0},
      float[2, 2] v = {1, 2, 3, 4}, float coarse = {0.01}>
    {
      qx = QuantizeLinear(x, s, z)
      dx = DequantizeLinear(qx, s, z)
      c = Conv<pads = [1, 1, 1, 1]>(dx, w)
      a = Relu(c)
      qa = QuantizeLinear(a, s, z)
      da = DequantizeLinear(qa, s, z)
      p = GlobalAveragePool(da)
      f = Flatten(p)
      l = Gemm(f, v)
      ql = QuantizeLinear(l, coarse, z)
      scores = DequantizeLinear(ql, coarse, z)
    }"""
    model = onnx.parser.parse_model(text)
    x = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4) / 16
    e = Explainer(model)(x, target=1)
    assert (e.score, e.status, e.layer) == (np.float32(2.55), "ok", "da")  # 255 codes of 0.01: cut off
    activations = run(tapped(model, "da"), {"x": x})["da"]
    np.testing.assert_allclose(e.map, (2 * activations[0, 0] + 4 * activations[0, 1]) / 16, rtol=1e-5)
    assert np.abs(Explainer(model)(x, target=1, method="saliency").map).max() > 0


@forms
def test_a_relu_inside_a_quantizer_is_rectified(form: str) -> None:
    """onnxruntime's quantizer drops a Relu where its range begins at 0; the rule sets find it there."""
    model = quantized(form)
    assert not any(node.op_type == "Relu" for node in model.graph.node)
    guided, sibling, plain = (
        Explainer(source)(X, target=2, method=method).map
        for source, method in ((model, "guidedbackprop"), (float_net(), "guidedbackprop"), (model, "saliency"))
    )
    assert cosine(guided, sibling) > 0.97
    assert cosine(np.abs(guided), plain) < 0.97


OPERATOR_FORMS = [form for form in FORMS if form not in ("a pair for each reader", "int16 activations")]


@pytest.mark.parametrize("form", OPERATOR_FORMS)
@pytest.mark.parametrize("method", ["gradcam", "cam", "hirescam", "saliency", "guidedbackprop"])
def test_operators_of_integers_are_explained_as_their_float_sibling(form: str, method: str) -> None:
    model = operators(form)
    assert any(node.op_type == "QLinearConv" for node in model.graph.node)
    ours, theirs = (Explainer(source)(X, target=2, method=method) for source in (model, float_net()))
    assert ours.layer in ("c5_quantized_dequantized", "x")
    assert cosine(ours.map, theirs.map) > (0.99 if theirs.layer == "last" else 0.95)


@pytest.mark.parametrize(("name", "layer"), {"c1": "a1", "c2": "a2", "c3": "c3", "sum": "a3", "c4": "a4"}.items())
def test_every_layer_of_integers(name: str, layer: str) -> None:
    """An operator of integers holds the Relu behind it."""
    ours = Explainer(operators("uint8"))(X, target=2, layer=f"{name}_quantized")
    theirs = Explainer(float_net())(X, target=2, layer=layer)
    assert ours.layer == f"{name}_quantized_dequantized"
    assert cosine(ours.map, theirs.map) > 0.98


@pytest.mark.parametrize("method", ["gradcam", "hirescam", "saliency", "guidedbackprop"])
def test_dynamically_quantized(method: str) -> None:
    ours, theirs = (Explainer(model)(X, target=2, method=method) for model in (dynamically_quantized(), float_net()))
    assert ours.layer == theirs.layer
    assert cosine(ours.map, theirs.map) > (0.99 if theirs.layer == "last" else 0.95)


@pytest.mark.parametrize("model", [operators("uint8"), dynamically_quantized()], ids=["QOperator", "dynamic"])
def test_the_integer_kernels_of_operators_stay(model: onnx.ModelProto) -> None:
    deployed = integer_kernels(model)
    assert sum(deployed.values()) >= 6
    at = Explainer(model).subject.target_layer(None, "gradcam")
    assert integer_kernels(features(read_graph(load(model)), [at.name])) == deployed
    gradient = differentiate(model, of="probabilities", wrt="x")
    assert integer_kernels(gradient.model) == deployed
    given = run(gradient.model, {"x": X, gradient.seed: np.ones((1, CLASSES), np.float32)})["probabilities"]
    np.testing.assert_array_equal(given, run(model, {"x": X})["probabilities"])


@pytest.mark.parametrize("method", ["gradcam", "cam", "hirescam", "guidedbackprop"])
def test_the_sample_in_integers_is_explained_as_in_floats(method: str) -> None:
    ours, theirs = (
        Explainer(SAMPLES / name)(SAMPLES / "chelsea.png", target=285, method=method)
        for name in ("squeezenet11_int8.onnx", "squeezenet11.onnx")
    )
    assert ours.status == "ok"
    assert ours.preprocess == theirs.preprocess
    assert cosine(ours.map, theirs.map) > (0.9 if theirs.layer == "data" else 0.99)


def test_a_saturated_score_of_integers_has_a_gradient() -> None:
    """There is no value in front of its codes; that the largest one was cut off does not count."""
    text = """<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
    net (float[N, 1, 4, 4] x) => (float[N, 2] scores) <
      int8[2, 1, 3, 3] w = {1,1,1,1,1,1,1,1,1, 1,0,0,0,0,0,0,0,0}, float s = {0.1}, uint8 z = {0}, int8 zero = {0},
      int8[2, 2] v = {1, 2, 3, 4}, float coarse = {0.01}, float one = {1}>
    {
      qx = QuantizeLinear(x, s, z)
      qc = QLinearConv<pads = [1, 1, 1, 1]>(qx, s, z, w, one, zero, s, z)
      qp = com.microsoft.QLinearGlobalAveragePool(qc, s, z, s, z)
      qf = Flatten(qp)
      ql = com.microsoft.QGemm(qf, s, z, v, one, zero, , coarse, z)
      qr = Reshape(ql, shape)
      scores = DequantizeLinear(qr, coarse, z)
    }"""
    model = onnx.parser.parse_model(text.replace("float one = {1}>", "float one = {1}, int64[2] shape = {-1, 2}>"))
    x = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4) / 16
    e = Explainer(model)(x, target=1)
    assert (e.score, e.status, e.layer) == (np.float32(2.55), "ok", "qc_dequantized")
    codes = run(tapped(model, "qc"), {"x": x})["qc"].astype(np.float32) * np.float32(0.1)
    np.testing.assert_allclose(e.map, (2 * codes[0, 0] + 4 * codes[0, 1]) / 16, rtol=1e-5)
    assert np.abs(Explainer(model)(x, target=1, method="saliency").map).max() > 0


@pytest.mark.parametrize("name", ["logits", "logits_QuantizeLinear_Output", "logits_DequantizeLinear_Output"])
def test_a_score_named_inside_a_kernel_is_read_behind_it(name: str) -> None:
    model = quantized("uint8")
    score = Explainer(model, score=name).subject.score
    assert (score.name, score.kind, score.squash) == ("logits_DequantizeLinear_Output", "logit", "softmax")
    assert integer_kernels(features(read_graph(load(model)), [score.name])) == integer_kernels(model)


@pytest.mark.parametrize("axis", [0, None], ids=["a scale a class", "one scale"])
def test_weights_of_four_bits(axis: int | None) -> None:
    """ONNX Runtime chooses no row of such integers: all are dequantized, and the row is chosen then."""
    text = """(float[N, 3, 6, 8] x) => (float[N, 5] y) { c = Conv<pads = [1, 1, 1, 1]>(x, k) a = Relu(c)
        p = GlobalAveragePool(a) f = Flatten(p) d = DequantizeLinear<axis = 0>(w, scales)
        y = Gemm<transB = 1>(f, d) }"""
    integers = np.arange(20).reshape(5, 4) % 16 - 8
    scales = np.linspace(0.1, 0.3, 5, dtype=np.float32) if axis is not None else np.float32(0.2)
    packed = net(text, {"k": normal(4, 3, 3, 3), "scales": scales}, opset=21, ir=10)
    packed.graph.initializer.append(onnx.helper.make_tensor("w", onnx.TensorProto.INT4, [5, 4], integers.ravel()))
    weights = (integers * (scales[:, None] if axis is not None else scales)).astype(np.float32)
    plain = net(
        text.replace("d = DequantizeLinear<axis = 0>(w, scales)", "d = Identity(w)"),
        {"k": normal(4, 3, 3, 3), "w": weights},
    )
    for target in (0, 4):
        ours, theirs = (Explainer(model)(normal(3, 6, 8, seed=3), target=target) for model in (packed, plain))
        np.testing.assert_allclose(ours.map, theirs.map, rtol=1e-5, atol=1e-7)


def test_what_is_quantized_again_behind_a_view_is_not_cut_again() -> None:
    """onnxruntime's quantizer writes a second pair behind a Flatten: its lower end is no Relu."""
    text = """(float[1, 1, 2, 2] x) => (float[1, 2] y) { c = Conv(x, k) a = Relu(c) q = QuantizeLinear(a, s, z)
        d = DequantizeLinear(q, s, z) f = Flatten(d) %s y = Gemm(%s, w) }"""
    weights = {"k": np.ones((1, 1, 1, 1), np.float32), "s": np.float32(0.1), "z": np.uint8(0),
               "w": np.array([[1, 0], [1, 0], [1, 0], [-1, 1]], np.float32)}  # fmt: skip
    x = np.array([[[1, -1], [2, -3]]], np.float32)
    again = text % ("r = QuantizeLinear(f, s, z) e = DequantizeLinear(r, s, z)", "e")
    gradients = []
    for body in (text % ("", "f"), again):
        made = differentiate(net(body, weights), of="y", wrt="d")
        gradients.append(
            run(made.model, {"x": x[None], made.seed: np.array([[1, 0]], np.float32)})[made.gradients["d"]]
        )
    np.testing.assert_array_equal(gradients[0].ravel(), [1, 1, 1, -1])
    np.testing.assert_array_equal(gradients[1], gradients[0])
