"""What ONNX Runtime saved in blocks of channels computes the same without them, and is explained as before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam.errors import LayerError, ModelError, OnnxCamError
from onnxcam.graph import named_layer
from onnxcam.graph.load import load
from onnxcam.graph.nodes import attributes
from onnxcam.graph.normalize import normalize
from onnxcam.graph.unblocked import WRITTEN_BACK, unblocked
from tests.graph.building import graph_of, saved_by_runtime
from tests.nets import net, normal
from tests.vjp.harness import session

NCHWC = "com.microsoft.nchwc"
WAYS = {  # from r (N, 16, 8, 8) and wide (N, 64, 8, 8) to last (N, 16, H, W)
    "activations": "a = HardSigmoid<alpha=0.3>(r) b = Conv(a, k) c = LeakyRelu(b) d = Conv(c, k) "
    "last = Clip(d, low, high)",
    "depthwise": "a = Conv<group=16, pads=[1,1,1,1]>(r, each) last = Relu(a)",
    "groups": "a = Conv<group=2>(wide, parts) b = Conv(a, narrow) last = Relu(b)",
    "a sum": "a = Conv(r, k) b = Add(a, r) last = Relu(b)",
    "channels filled up": "a = Conv(r, to24) b = Relu(a) c = Conv(b, from24) last = Relu(c)",
    "channels filled up on the way in": "a = Conv(r, to24) b = Softplus(a) e = Transpose<perm=[0,1,3,2]>(b) "
    "c = Conv(e, from24) last = Relu(c)",
    "pools": "a = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(r) "
    "b = AveragePool<kernel_shape=[2,2], pads=[1,0,0,1], count_include_pad=1>(a) c = Conv(b, k) last = Relu(c)",
    "squeeze and excite": "p = GlobalAveragePool(r) q = Conv(p, k) s = Sigmoid(q) a = Mul(r, s) c = Conv(a, k) "
    "last = Relu(c)",
    "a number for each channel added": "p = GlobalAveragePool(r) q = Conv(p, k) e = Conv(r, k) a = Add(e, q) "
    "last = Relu(a)",
    "nearest": 'a = Resize<coordinate_transformation_mode="asymmetric", nearest_mode="floor">(r, , twice) '
    "b = Conv(a, k) last = Relu(b)",
    "linear": 'a = Resize<mode="linear">(r, , twice) b = Conv(a, k) last = Relu(b)',
    "aligned": 'a = Resize<mode="linear", coordinate_transformation_mode="align_corners">(r, , twice) '
    "b = Conv(a, k) last = Relu(b)",
    "joined": "a = Concat<axis=1>(r, wide) b = Conv(a, from80) last = Relu(b)",
    "channels last": "t = Transpose<perm=[0,2,3,1]>(r) a = Relu(t) e = MatMul(a, fc16) "
    "u = Transpose<perm=[0,3,1,2]>(e) c = Conv(u, k) last = Relu(c)",
    "taken out in between": "a = Conv(r, k) b = Softplus(a) c = Conv(b, k) last = Relu(c)",
}
WEIGHTS: dict[str, Any] = {
    "w": normal(16, 3, 3, 3), "v": normal(64, 16, 1, 1), "k": normal(16, 16, 1, 1), "each": normal(16, 1, 3, 3),
    "parts": normal(64, 32, 1, 1), "narrow": normal(16, 64, 1, 1), "to24": normal(24, 16, 1, 1),
    "from24": normal(16, 24, 1, 1), "from80": normal(16, 80, 1, 1), "fc16": normal(16, 16), "fc": normal(16, 5),
    "bias": normal(5), "low": np.float32(-0.5), "high": np.float32(4), "twice": np.array([1, 1, 2, 2], np.float32),
}  # fmt: skip


def plain(way: str) -> onnx.ModelProto:
    """A classifier that goes a way."""
    text = f"""(float[N,3,8,8] x) => (float[N,5] logits) {{ f = Conv<pads=[1,1,1,1]>(x, w) r = Relu(f) g = Conv(r, v)
        wide = Relu(g) {way} pooled = GlobalAveragePool(last) flat = Flatten(pooled) logits = Gemm(flat, fc, bias) }}"""
    return net(
        text,
        {name: value for name, value in WEIGHTS.items() if name in text.replace(",", " ").replace(")", " ").split()},
    )


def optimized(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The same as ONNX Runtime saves it, in blocks of channels."""
    saved = saved_by_runtime(model, folder)
    if not any(node.domain == NCHWC for node in saved.graph.node):
        pytest.skip("this CPU has no blocked kernels")
    return saved


@pytest.mark.parametrize("way", WAYS)
def test_the_same_comes_out_without_blocks(tmp_path: Path, way: str) -> None:
    model = load(optimized(plain(WAYS[way]), tmp_path))
    found = unblocked(model, normalize(model))
    assert all(node.domain != NCHWC for node in found.graph.node)
    in_blocks = {name for node in model.proto.graph.node if node.domain == NCHWC for name in node.output}
    taken_out = {node.output[0] for node in model.proto.graph.node if node.op_type == "ReorderOutput"}
    assert not in_blocks & {name for node in found.graph.node for name in node.output} - taken_out
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    (y,) = session(found).run(["logits"], {"x": x})
    (wanted,) = session(plain(WAYS[way])).run(["logits"], {"x": x})
    np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_it_is_explained_as_before(tmp_path: Path, way: str) -> None:
    model = plain(WAYS[way])
    saved = optimized(model, tmp_path)
    x = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    for method in ("gradcam", "saliency"):
        one, other = (onnxcam.Explainer(m)(x, 2, method=method) for m in (model, saved))
        np.testing.assert_allclose(other.map, one.map, rtol=1e-3, atol=1e-4 * np.abs(one.map).max())


def test_the_ways_lead_through_all_operators(tmp_path: Path) -> None:
    met = {
        (node.op_type, *(key for key in ("channels_last", "activation") if attributes(node).get(key)))
        for way in WAYS.values()
        for node in optimized(plain(way), tmp_path).graph.node
        if node.domain == NCHWC
    }
    assert {name for name, *_ in met} | {"GlobalMaxPool"} == WRITTEN_BACK.keys()
    assert {("ReorderInput", "channels_last"), ("ReorderOutput", "channels_last"), ("Conv", "activation")} <= met


def test_a_value_in_blocks_is_no_layer(tmp_path: Path) -> None:
    """Its shape says that it is one, but a map of it as the file gives it out would be wrong."""
    model = optimized(plain(WAYS["depthwise"]), tmp_path)
    (inner,) = (node.output[0] for node in model.graph.node if attributes(node).get("group") == 16)
    assert f"{inner}_plain" in {layer.name for layer in onnxcam.list_layers(model)}
    with pytest.raises(LayerError):
        named_layer(graph_of(model), inner)


def computed(model: onnx.ModelProto, conv: onnx.NodeProto) -> None:
    conv.input[1] = "computed"
    model.graph.node.insert(0, onnx.helper.make_node("Identity", [model.graph.initializer[0].name], ["computed"]))


def viewed(model: onnx.ModelProto, conv: onnx.NodeProto) -> None:
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, -1]), "columns"))
    model.graph.node.append(onnx.helper.make_node("Reshape", [conv.output[0], "columns"], ["view"]))


def given_out(model: onnx.ModelProto, conv: onnx.NodeProto) -> None:
    model.graph.output.append(onnx.helper.make_tensor_value_info(conv.output[0], onnx.TensorProto.FLOAT, None))


def of_another_kind(model: onnx.ModelProto, conv: onnx.NodeProto) -> None:
    conv.op_type = "Unheard"


def softened(model: onnx.ModelProto, conv: onnx.NodeProto) -> None:
    model.graph.node.append(onnx.helper.make_node("Softmax", [conv.output[0]], ["soft"], axis=1))


def without_weight(model: onnx.ModelProto, conv: onnx.NodeProto) -> None:
    del conv.input[1:]


def of_no_channels(model: onnx.ModelProto, conv: onnx.NodeProto) -> None:
    (taken,) = (node for node in model.graph.node if node.op_type == "ReorderOutput")
    del taken.attribute[:]


CURE = "the model was optimised offline for one kind of CPU: use the original"
UNTOLD: list[tuple[Callable[[onnx.ModelProto, onnx.NodeProto], None], str]] = [
    (computed, CURE), (viewed, CURE), (given_out, CURE), (softened, CURE), (of_another_kind, "cannot load"),
    (without_weight, "cannot load"), (of_no_channels, "cannot load"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "told"), UNTOLD)
def test_what_is_not_told_leaves_it_in_blocks(
    tmp_path: Path, change: Callable[[onnx.ModelProto, onnx.NodeProto], None], told: str
) -> None:
    saved = optimized(plain(WAYS["a sum"]), tmp_path)
    change(saved, next(node for node in saved.graph.node if node.domain == NCHWC and node.op_type == "Conv"))
    model = load(saved)
    normal_form = normalize(model)
    assert unblocked(model, normal_form) is normal_form
    with pytest.raises(ModelError, match=told):
        onnxcam.list_layers(saved, score="logits")
    with pytest.raises(OnnxCamError, match=told):
        onnxcam.differentiate(saved, of="logits", wrt="x")
