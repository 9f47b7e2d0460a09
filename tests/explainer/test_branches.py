"""An If that hangs on the image's size: each image is explained with the branch that it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import PIL.Image
import pytest

import onnxcam
from onnxcam.exporting import export
from onnxcam.imaging import Resize
from onnxcam.vjp.coverage import blocking_operators
from tests.nets import Array, as_array, net, normal, run

EITHER = """(double[N,3,H,W] x) => (double[N,4] y) {
  t = Transpose<perm=[0,2,3,1]>(x)
  m = MatMul(t, w)
  r = Tanh(m)
  last = Transpose<perm=[0,3,1,2]>(r)
  s = Shape(last)
  h = Gather(s, two)
  high = Greater(h, four)
  f = If (high) <
    then_branch = a () => (p) { k = Mul(last, last) p = ReduceMean<axes=[2,3]>(k) },
    else_branch = b () => (q) { k = Sin(last) q = ReduceSum(k, space) }>
  v = Flatten(f)
  y = MatMul(v, fc)
}"""
SIZES = {
    "w": normal(3, 6).astype(np.float64), "fc": normal(6, 4).astype(np.float64), "two": np.array(2),
    "four": np.array(4), "space": np.array([2, 3]),
}  # fmt: skip
HIGH, LOW = normal(3, 6, 5).astype(np.float64), normal(3, 3, 4).astype(np.float64)

READER = """(float[N,3,H,W] x) => (float[] probs) {
  c = Conv<pads=[1,1,1,1],strides=[4,1]>(x, w0)
  r = Relu(c)
  d = Conv<pads=[0,1,0,1]>(r, w1)
  last = Relu(d)
  s = Shape(last)
  h = Gather(s, two)
  one_high = Equal(h, one)
  flat = If (one_high) <
    then_branch = a () => (p) { p = Squeeze(last, two) },
    else_branch = b () => (q) { q = Identity(last) }>
  steps = Transpose<perm=[0,2,1]>(flat)
  logits = MatMul(steps, fc)
  probs = Softmax<axis=-1>(logits)
}"""
READING = {
    "w0": normal(4, 3, 3, 3), "w1": normal(6, 4, 8, 3), "two": np.array([2]), "one": np.array([1]),
    "fc": normal(6, 5),
}  # fmt: skip


def differences(model: onnx.ModelProto, x: Array, index: int) -> Array:
    """d y[index] / d x of one image, by differences of the model as given."""
    found = np.empty_like(x)
    for at in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[at] = 1e-5
        ends = [run(model, {"x": (x + sign * step)[None]})["y"][0, index] for sign in (1, -1)]
        found[at] = (ends[0] - ends[1]) / 2e-5
    return found


def gradient(e: Any, x: Array) -> Array:
    """The gradient behind input x gradient."""
    return as_array(e.attribution) / x


def of_fixed_size(model: onnx.ModelProto, *shape: int) -> onnx.ModelProto:
    """The model for images of one size, where each If is settled as it is read."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for dim, size in zip(fixed.graph.input[0].type.tensor_type.shape.dim[1:], shape, strict=True):
        dim.dim_value = size
    return fixed


def test_images_of_two_sizes_take_two_branches() -> None:
    model = net(EITHER, SIZES)
    explainer = onnxcam.Explainer(model)
    images = [HIGH, LOW, HIGH + 0.25, LOW[:, :, ::-1].copy()]
    found = explainer(images, 2, method="inputxgradient")
    for x, e in zip(images, found, strict=True):
        np.testing.assert_allclose(gradient(e, x), differences(model, x, 2), rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(e.scores, run(model, {"x": x[None]})["y"][0], rtol=1e-12)
    assert explainer.provider == "cpu"


def test_two_images_of_one_size_run_together() -> None:
    model = net(EITHER, SIZES)
    pair = np.stack([LOW, 1 - LOW])
    for x, e in zip(pair, onnxcam.Explainer(model)(pair, 1, method="inputxgradient"), strict=True):
        np.testing.assert_allclose(gradient(e, x), differences(model, x, 1), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("x", [HIGH, LOW])
@pytest.mark.parametrize("layer", ["last", "k"])
def test_a_layer_in_the_branch_that_is_taken(x: Array, layer: str) -> None:
    explainer = onnxcam.Explainer(net(EITHER, SIZES))
    found = [explainer(x, 2, layer=layer, gradient=how) for how in ("symbolic", "numeric")]
    assert found[0].layer == layer
    np.testing.assert_allclose(found[0].map, found[1].map, atol=1e-5)
    np.testing.assert_allclose(found[0].map, onnxcam.Explainer(of_fixed_size(net(EITHER, SIZES), *x.shape))(
        x, 2, layer=layer).map, rtol=1e-12)  # fmt: skip


@pytest.mark.parametrize("method", ["gradcam", "hirescam", "layercam", "saliency"])
@pytest.mark.parametrize("target", ["ctc", "probs[3,2]"])
def test_a_reader_of_lines_of_any_size(method: str, target: str) -> None:
    model = net(READER, READING)
    explainer = onnxcam.Explainer(model)
    for size in ((3, 32, 9), (3, 31, 12)):
        x = normal(*size)
        static = onnxcam.Explainer(of_fixed_size(model, *size))
        e, fixed = (one(x, target, method=method) for one in (explainer, static))
        np.testing.assert_array_equal(e.map, fixed.map)
        assert (e.target.name, e.layer, e.scored) == (fixed.target.name, fixed.layer, fixed.scored)


def test_a_photo_is_read_at_the_height_of_a_line() -> None:
    explainer = onnxcam.Explainer(net(READER, READING))
    e = explainer(PIL.Image.new("RGB", (200, 50), "white"), "probs[3,2]")
    assert (explainer.preprocess.recipe.resize, explainer.preprocess.guess) == (Resize("height", 32), True)
    assert e.map.shape == (1, 128)
    assert explainer(PIL.Image.new("RGB", (60, 80), "white"), "probs[3,2]").map.shape == (1, 24)


def test_sizes_that_take_the_same_branches_share_sessions() -> None:
    explainer = onnxcam.Explainer(net(READER, READING))
    one, other = (explainer.subject.for_size((3, 32, width)) for width in (9, 12))
    assert one is other is not explainer.subject


def test_a_size_that_the_model_does_not_take() -> None:
    explainer = onnxcam.Explainer(net(READER, READING))
    with pytest.raises(onnxcam.InputError, match=r"image of shape \[3, 64, 9\]: .* Transpose 'node8' turns 3"):
        explainer(normal(3, 64, 9))


def test_layers_and_operators_are_those_of_a_run_at_a_usual_size() -> None:
    either, reader = net(EITHER, SIZES), net(READER, READING)
    assert {layer.name: layer.shape for layer in onnxcam.list_layers(either)}["k"] == ("N", 6, "H", "W")
    (first, *_) = onnxcam.list_layers(reader)
    assert (first.name, first.automatic, first.grid) == ("last", True, None)
    found = blocking_operators(reader)
    assert {use.name for use in found.operators} == {"Conv", "Relu", "Squeeze", "Transpose", "MatMul"}
    assert not any(row.blocker for row in found.layers)


def test_likeness_to_an_image_of_another_size(tmp_path: Path) -> None:
    model = net(EITHER, SIZES)
    np.save(tmp_path / "low.npy", LOW)
    e = onnxcam.Explainer(model)(HIGH, f"dot:{tmp_path / 'low.npy'}", method="inputxgradient")
    low = run(model, {"x": LOW[None]})["y"][0]
    each = [differences(model, HIGH, index) for index in range(4)]
    np.testing.assert_allclose(gradient(e, HIGH), np.tensordot(low, each, 1), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("model", [net(READER, READING), net(EITHER, SIZES)])
def test_check_knows_the_size(model: onnx.ModelProto) -> None:
    x = normal(3, 32, 12) if model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT else LOW
    assert all(result.ok for result in onnxcam.check(model, x))


def test_an_exported_file_takes_either_branch(tmp_path: Path) -> None:
    model = net(EITHER, SIZES)
    explainer = onnxcam.Explainer(model)
    exported = onnxcam.Explainer(export(model, tmp_path / "out.onnx", layer="last"))
    for x in (HIGH, LOW):
        np.testing.assert_allclose(exported(x, 1).map, explainer(x, 1, layer="last").map, rtol=1e-5, atol=1e-7)


def test_what_only_a_run_can_tell_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(onnxcam.ModelError, match="cannot be told before the model runs"):
        export(net(READER, READING), tmp_path / "out.onnx")
