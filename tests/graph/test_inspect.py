"""What a stranger's model means: its image, its score, its layers."""

from __future__ import annotations

import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnxcam
from onnxcam.errors import LayerError, ModelError
from onnxcam.graph import class_axis, find_score, image_input, list_layers, named_layer
from onnxcam.runtime import ImageInput, Layout, Score
from tests.graph.building import (
    CONVS,
    TAIL,
    automatic,
    channels_last,
    graph_of,
    inception,
    layers_of,
    nodes_model,
    plain,
    reason_of,
    residual,
    squeeze_excite,
    vit,
)
from tests.nets import net, normal, run

node = helper.make_node


# -- the image ------------------------------------------------------------------------------------------------


def image_of(signature: str, body: str = "y = Identity(x)") -> ImageInput:
    return image_input(graph_of(net(f"({signature} x) => (float[a] y) {{ {body} }}")))


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        ("float[N,3,224,320]", ImageInput("x", "NCHW", (320, 224), 3, "float32", None)),
        ("float[1,3,224,224]", ImageInput("x", "NCHW", (224, 224), 3, "float32", 1)),
        ("float[N,224,320,3]", ImageInput("x", "NHWC", (320, 224), 3, "float32", None)),
        ("float[4,28,28,1]", ImageInput("x", "NHWC", (28, 28), 1, "float32", 4)),
        ("float[3,224,320]", ImageInput("x", "CHW", (320, 224), 3, "float32", 1)),
        ("float[224,320,3]", ImageInput("x", "HWC", (320, 224), 3, "float32", 1)),
        ("uint8[N,H,W,3]", ImageInput("x", "NHWC", (None, None), 3, "uint8", None)),
        ("float16[N,1,32,H]", ImageInput("x", "NCHW", (None, 32), 1, "float16", None)),
        ("double[N,C,H,W]", ImageInput("x", "NCHW", (None, None), None, "float64", None)),
        ("float[N,10,64,64]", ImageInput("x", "NCHW", (64, 64), 10, "float32", None)),
    ],
)
def test_the_image_input(signature: str, expected: ImageInput) -> None:
    assert image_of(signature) == expected


def test_a_transpose_tells_where_the_channels_are_when_sizes_do_not() -> None:
    assert image_of("float[N,H,W,C]", "y = Transpose<perm=[0,3,1,2]>(x)").layout == "NHWC"
    assert image_of("float[N,4,4,3]", "y = Transpose<perm=[0,3,1,2]>(x)").layout == "NHWC"
    assert image_of("float[N,4,4,3]", "y = Transpose<perm=[0,2,3,1]>(x)").layout == "NCHW"
    assert image_of("float[H,W,C]", "y = Transpose<perm=[2,0,1]>(x)").layout == "HWC"


@pytest.mark.parametrize(
    "signature", ["float[N,100]", "int64[N,3,8,8]", "float[N,16,8]", "bool[N,3,8,8]", "float[N,3,8,8,8]"]
)
def test_inputs_that_are_no_image(signature: str) -> None:
    with pytest.raises(ModelError, match=r"no input that takes an image .*'x'"):
        image_of(signature)


def test_inputs_of_other_kinds_are_refused() -> None:
    model = nodes_model([node("SequenceAt", ["x", "zero"], ["y"])], {"zero": np.array(0)})
    model.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8]))
    with pytest.raises(ModelError, match="no input that takes an image"):
        image_input(graph_of(model))


def test_two_images() -> None:
    model = net("(float[N,3,8,8] left, float[N,3,8,8] right) => (float[N,3,8,8] y) { y = Sub(left, right) }")
    with pytest.raises(ModelError, match=r"several inputs that could take the image .*'left'.*'right'"):
        image_input(graph_of(model))


def test_more_inputs_than_the_image() -> None:
    model = net(
        "(float[N,3,8,8] image, float[N,2] im_shape) => (float[N,5] y) {\n"
        " f = Flatten(image)\n y = Concat<axis=1>(f, im_shape) }"
    )
    with pytest.raises(ModelError, match="also 'im_shape'"):
        image_input(graph_of(model))


def test_an_optional_input_is_not_asked_for() -> None:
    model = nodes_model([node("Mul", ["x", "scale"], ["y"])], {"scale": np.ones(1, np.float32)}, shape=("N", 3, 8, 8))
    model.graph.input.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, [1]))
    assert image_input(graph_of(model)).name == "x"


# -- the score --------------------------------------------------------------------------------------------------

FEATURES = "pool = GlobalAveragePool(last)\n features = Flatten(pool)\n"
LOGITS = FEATURES + "logits = Gemm(features, fc, bias)\n"
SPELLED = """
  top = ReduceMax<axes=[1],keepdims=1>(logits)
  less = Sub(logits, top)
  e = Exp(less)
  total = ReduceSum(e, axis)
  y = Div(e, total)
}"""
UNGUARDED = SPELLED.replace("less = Sub(logits, top)", "").replace("Exp(less)", "Exp(logits)")
SCALE = "s = Constant<value_float=0.00392>()\n"
AXIS = "axis = Constant<value = int64[1] {1}>()\n"


@pytest.mark.parametrize(
    ("tail", "score", "squash"),
    [
        (LOGITS + "y = Softmax(logits)\n}", "logits", "softmax"),
        (LOGITS + "y = Softmax<axis=-1>(logits)\n}", "logits", "softmax"),
        (LOGITS + "y = LogSoftmax(logits)\n}", "logits", "softmax"),
        (LOGITS + "y = Sigmoid(logits)\n}", "logits", "sigmoid"),
        (LOGITS + "r = Relu(logits)\n y = LogSoftmax(r)\n}", "r", "softmax"),
        (LOGITS + "two = Constant<value_float=2.0>()\n t = Div(logits, two)\n y = Softmax(t)\n}", "t", "softmax"),
        (LOGITS + AXIS + SPELLED, "logits", "softmax"),
        (LOGITS + AXIS + UNGUARDED, "logits", "softmax"),
        (LOGITS + AXIS + SPELLED.replace("1>(logits)", "1>(features)"), "less", "softmax"),
        (LOGITS + "p = Softmax(logits)\n h = Cast<to=10>(p)\n y = Cast<to=1>(h)\n}", "logits", "softmax"),
        (LOGITS + "p = Softmax(logits)\n i = Identity(p)\n y = Dropout(i)\n}", "logits", "softmax"),
        (LOGITS + SCALE + "p = Softmax(logits)\n q = QuantizeLinear(p, s)\n y = DequantizeLinear(q, s)\n}",
         "logits", "softmax"),
        (LOGITS + "p = Softmax(logits)\n y = ArgMax<axis=1>(p)\n}", "logits", "softmax"),
        (LOGITS + "k = Constant<value_ints=[3]>()\n p = Softmax(logits)\n v, y = TopK(p, k)\n}", "logits", "softmax"),
        (LOGITS + "k = Constant<value_ints=[3]>()\n y, i = TopK(logits, k)\n}", "y", ""),
        (LOGITS + "y = Identity(logits)\n}", "y", ""),
        (FEATURES + "y = Gemm(features, fc, bias)\n}", "y", ""),
    ],
)  # fmt: skip
def test_the_score_behind_the_output(tail: str, score: str, squash: str) -> None:
    found = find_score(graph_of(plain(tail)))
    assert found == Score(score, "logit" if squash else "output", squash, "y")


def test_the_score_behind_a_decision_alone() -> None:
    for tail in ("y = ArgMax<axis=1,keepdims=0>(logits)", "i = ArgMax<axis=1,keepdims=0>(logits)\n y = Cast<to=6>(i)"):
        kind = "int32" if "Cast" in tail else "int64"
        assert find_score(
            graph_of(several(f"{kind}[N] y", LOGITS.replace("Gemm(features, fc, bias)", "MatMul(features, fc)") + tail))
        ) == Score("logits", "output", "", "y")


def class_maps(tail: str) -> onnx.ModelProto:
    """A net whose classifier is a convolution (SqueezeNet): class maps, then their mean."""
    text = f"""(float[N,3,8,8] x) => (float[N,5] y) {{
  c = Conv<pads=[1,1,1,1]>(x, w0)
  a = Relu(c)
  pooled = MaxPool<kernel_shape=[2,2],strides=[2,2]>(a)
  maps = Conv(pooled, classes)
  active = Relu(maps)
  mean = GlobalAveragePool(active)
  {tail}
}}"""
    return net(text, CONVS | {"classes": normal(5, 4, 1, 1, seed=6), "to": np.array([0, -1])})


@pytest.mark.parametrize(
    ("tail", "score"),
    [
        ("s = Softmax<axis=1>(mean)\n y = Flatten(s)", "mean"),
        ("f = Flatten(mean)\n y = Softmax(f)", "f"),
        ("y = Flatten(mean)", "y"),
        ("s = Softmax<axis=1>(mean)\n y = Reshape(s, to)", "mean"),
        ("y = Sigmoid(mean)", "mean"),
    ],
)
def test_scores_of_four_axes(tail: str, score: str) -> None:
    assert find_score(graph_of(class_maps(tail))).name == score


def test_a_softmax_of_an_old_opset() -> None:
    model = net(
        "(float[N,4] x) => (float[N,5] y) { l = MatMul(x, fc)\n y = Softmax(l) }", {"fc": CONVS["fc"]}, opset=9, ir=4
    )
    assert find_score(graph_of(model)) == Score("l", "logit", "softmax", "y")


def test_the_score_behind_a_zipmap() -> None:
    """CoreML's converters give labels and a sequence of maps, no tensor of floats."""
    model = plain(LOGITS + "y = Softmax(logits)\n}")
    names = [b"a", b"b", b"c", b"d", b"e"]
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    model.graph.node.append(node("ZipMap", ["y"], ["maps"], domain="ai.onnx.ml", classlabels_strings=names))
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name="maps"))
    assert find_score(graph_of(model)) == Score("logits", "logit", "softmax", "maps")


def several(outputs: str, tail: str) -> onnx.ModelProto:
    text = f"(float[N,3,4,4] x) => ({outputs}) {{\n c = Conv<pads=[1,1,1,1]>(x, w0)\n last = Relu(c)\n{tail}\n}}"
    return net(text, CONVS)


def test_of_several_outputs_the_one_of_the_shape_of_classes() -> None:
    tail = (
        FEATURES
        + "logits = MatMul(features, fc)\n p = Softmax(logits)\n top = ArgMax<axis=1>(logits)\n map = Identity(last)"
    )
    model = several("float[N,4,4,4] map, float[N,5] p", tail)
    assert find_score(graph_of(model)).name == "logits"


def test_two_outputs_of_one_score_are_no_tie() -> None:
    tail = FEATURES + "logits = MatMul(features, fc)\n p = Softmax(logits)\n q = Softmax<axis=-1>(logits)"
    assert find_score(graph_of(several("float[N,5] p, float[N,5] q", tail))).name == "logits"


def test_a_tie_is_asked() -> None:
    tail = FEATURES + "age = MatMul(features, fc)\n other = MatMul(features, fc)"
    graph = graph_of(several("float[N,5] age, float[N,5] other", tail))
    with pytest.raises(ModelError, match=r"several outputs .*--score.*'age' .*'other'"):
        find_score(graph)
    assert find_score(graph, "other") == Score("other", "output", "", "other")


def test_models_without_class_scores_are_refused() -> None:
    """Segmentation and detection; their scores are not rows of classes."""
    for outputs, tail in (
        ("float[N,4,4,4] y", "y = Sigmoid(last)"),
        ("float[N,4,4,4] y", "y = Softmax<axis=1>(last)"),
        (
            "float[N,16,4] y",
            "t = Transpose<perm=[0,2,3,1]>(last)\n to = Constant<value_ints=[0,16,4]>()\n y = Reshape(t, to)",
        ),
    ):
        with pytest.raises(ModelError, match=r"no output of class scores, shape \[N, classes\] .*'y'") as caught:
            find_score(graph_of(several(outputs, tail)))
        assert "\n" not in str(caught.value)


def test_a_score_that_the_user_names() -> None:
    graph = graph_of(plain())
    assert find_score(graph, "logits") == Score("logits", "logit", "softmax", "logits")
    assert find_score(graph, "y") == Score("y", "output", "", "y")
    assert find_score(graph, "last").name == "last"
    with pytest.raises(LayerError, match=r"no value 'logit'.*logits"):
        find_score(graph, "logit")


def test_a_named_score_has_to_be_floating_point() -> None:
    graph = graph_of(several("int64[N,1] y", LOGITS + "y = ArgMax<axis=1>(logits)"))
    with pytest.raises(LayerError, match="'y' is not floating point"):
        find_score(graph, "y")


@pytest.mark.parametrize(
    ("shape", "axis"),
    [(("N", 5), 1), (("N", 5, 1, 1), 1), (("N", 1, 5), 2), ((5,), 0), (("N", 1), 1), (("N", 1, 1, 1), 1), ((1, "K"), 1),
     (("N", 4, 4), None), (("N", 5, 7, 7), None), ((), None), (None, None)],
)  # fmt: skip
def test_the_axis_of_the_classes(shape: Any, axis: int | None) -> None:
    assert class_axis(shape) == axis


# -- layers -----------------------------------------------------------------------------------------------------


def names(model: onnx.ModelProto) -> list[str]:
    return [layer.name for layer in layers_of(model)]


def test_a_residual_block_offers_what_lies_on_all_paths() -> None:
    assert names(residual()) == ["last", "sum", "a", "stem"]  # b1, b2, b3 lie beside the skip connection
    assert automatic(residual()) == "last"


def test_branches_are_offered_where_they_are_joined() -> None:
    assert names(inception()) == ["last", "a", "stem"]


def test_a_gate_is_one_more_path() -> None:
    assert names(squeeze_excite()) == ["last", "a", "stem"]


def test_what_a_layer_says_of_itself() -> None:
    first, *others = list_layers(residual())
    assert (first.name, first.op, first.node, first.shape) == ("last", "Relu", "node6", ("N", 4, 8, 8))
    assert (first.layout, first.grid, first.automatic) == (Layout("NCHW"), (8, 8), True)
    assert first.reason == "the last grid on all paths to the score"
    assert {layer.reason for layer in others} == {"earlier"}
    assert not any(layer.automatic for layer in others)


def test_channels_last() -> None:
    first = layers_of(channels_last())[0]
    assert (first.name, first.layout, first.grid, first.automatic) == ("last", Layout("NHWC"), (8, 8), True)
    assert names(channels_last()) == ["last", "biased", "a0", "c0"]  # not nhwc, which shows a0 again


def test_class_maps_and_pools_are_skipped() -> None:
    """Behind the last weights there is nothing to weigh channels with; a pool only coarsens."""
    model = class_maps("y = Flatten(mean)")
    assert automatic(model) == "a"
    assert (
        reason_of(model, "maps")
        == reason_of(model, "active")
        == "holds class maps: no weights between it and the score"
    )
    assert reason_of(model, "pooled") == "a pool: what it pools is finer"
    assert "mean" not in names(model)  # one position is no grid


def test_a_layer_of_unknown_size_is_offered() -> None:
    text = f"""(float[N,3,H,W] x) => (float[N,5] y) {{
  c = Conv<pads=[1,1,1,1]>(x, w0)
  last = Relu(c)
{TAIL}"""
    (first, *_) = layers_of(net(text, CONVS))
    assert (first.name, first.grid, first.automatic) == ("last", None, True)


def test_flattening_alone_keeps_every_position() -> None:
    assert automatic(plain("f = Flatten(last)\n y = MatMul(f, flat)\n}")) == "last"


def test_an_image_that_is_not_convolved_has_no_layer() -> None:
    model = net("(float[N,3,4,4] x) => (float[N,5] y) { f = Flatten(x)\n y = MatMul(f, w) }", {"w": normal(48, 5)})
    assert layers_of(model) == []


# -- transformers -------------------------------------------------------------------------------------------------


def patch_gradients(model: onnx.ModelProto, *values: str) -> dict[str, np.ndarray[Any, Any]]:
    """Largest |d logits / d value| of each token of some values."""
    found = onnxcam.differentiate(model, of="logits", wrt=list(values))
    feeds = {"x": normal(1, 3, 16, 16, seed=7), found.seed: normal(1, 5, seed=8)}
    outputs = run(found.model, feeds)
    return {name: np.abs(outputs[found.gradients[name]][0]).max(axis=-1) for name in values}


def test_with_a_class_token_the_layer_lies_before_the_last_attention() -> None:
    model = vit("token")
    assert automatic(model) == "between"
    later = ["attended2", "final", "normed"]
    for name in later:
        assert reason_of(model, name) == "only some positions reach the score from here"
    gradients = patch_gradients(model, "between", *later)
    assert (gradients["between"] > 1e-6).all()
    for name in later:
        assert gradients[name][0] > 1e-6
        assert not gradients[name][1:].any()


def test_the_grid_of_tokens() -> None:
    layer = layers_of(vit("token"))[0]
    assert (layer.shape, layer.layout, layer.grid) == (("N", 17, 8), Layout("NPC", (4, 4), 1), (4, 4))


def test_with_mean_pooling_the_layer_is_the_last() -> None:
    model = vit("mean")
    assert automatic(model) == "normed"
    assert (patch_gradients(model, "normed")["normed"] > 1e-6).all()


# -- named layers -------------------------------------------------------------------------------------------------


def test_a_layer_named_by_value_or_by_node() -> None:
    graph = graph_of(residual())
    by_value, by_node = named_layer(graph, "b2"), named_layer(graph, "node2")
    assert (by_value.name, by_value.grid, by_value.reason) == ("b2", (8, 8), "named")
    assert by_node.name == "b1"
    assert not by_value.automatic


def test_a_value_comes_before_a_node_of_the_same_name() -> None:
    model = residual()
    model.graph.node[0].name = "last"
    assert named_layer(graph_of(model), "last").op == "Relu"


def test_an_unknown_layer_names_its_neighbours() -> None:
    with pytest.raises(LayerError, match="no layer 'lst'; did you mean last"):
        named_layer(graph_of(residual()), "lst")
    with pytest.raises(LayerError, match=r"no layer 'conv5_x' \(see `onnxcam layers`\)"):
        named_layer(graph_of(residual()), "conv5_x")


@pytest.mark.parametrize(
    ("name", "says"),
    [("pool", "no grid"), ("features", "no grid"), ("logits", "no grid"), ("x", "input-level"), ("w0", "no layer")],
)
def test_a_value_without_a_grid(name: str, says: str) -> None:
    with pytest.raises(LayerError, match=says):
        named_layer(graph_of(residual()), name)


def test_a_value_whose_layout_is_not_known_is_guessed_from_its_shape() -> None:
    text = """(float[N,3,8,8] x) => (float[N,M] y) {
  four = Relu(x)
  t = Reshape(x, tokens)
  square = Relu(t)
  skewed = Reshape(x, oblong)
  y = Flatten(x)
}"""
    constants = {"tokens": np.array([0, 64, 3]), "oblong": np.array([0, 8, 24])}
    graph = graph_of(net(text, constants))
    assert named_layer(graph, "four").layout == Layout("NCHW")
    assert named_layer(graph, "square").layout == Layout("NPC", (8, 8))
    with pytest.raises(LayerError, match="no grid"):
        named_layer(graph, "skewed")


# -- oddities -----------------------------------------------------------------------------------------------------

ODD = ["a b", "x:0", "semi;colon", "line\nbreak", "größe/日本", "n" * 10_000]


def test_names_are_never_parsed() -> None:
    nodes = [node("Conv", ["x", "w0"], [ODD[0]], pads=[1, 1, 1, 1])]
    for before, after in pairwise(ODD):
        nodes.append(node("Relu", [before], [after], name=f"node {after}"))
    nodes += [node("GlobalAveragePool", [ODD[-1]], ["-p"]), node("Flatten", ["-p"], ["y"])]
    model = nodes_model(nodes, {"w0": CONVS["w0"]}, shape=("N", 3, 4, 4))
    graph = graph_of(model)
    assert [layer.name for layer in layers_of(model)] == ODD[::-1]
    for name in ODD:
        assert named_layer(graph, name).name == name


def test_layers_of_a_chain_of_five_thousand_nodes() -> None:
    count = 5000
    nodes = [node("Conv", ["x", "w0"], ["v0"], pads=[1, 1, 1, 1])]
    nodes += [node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(count)]
    nodes += [
        node("GlobalAveragePool", [f"v{count}"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("MatMul", ["f", "fc"], ["y"]),
    ]
    model = nodes_model(nodes, {"w0": CONVS["w0"], "fc": CONVS["fc"]}, shape=("N", 3, 4, 4))
    started = time.perf_counter()
    layers = layers_of(model)
    assert time.perf_counter() - started < 5
    assert layers[0].name == f"v{count}"
    assert len(layers) == count + 1


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_other_precisions(kind: int) -> None:
    """A converter to float16 leaves the ends float32, and casts."""
    inner = {name: value.astype(helper.tensor_dtype_to_np_dtype(kind)) for name, value in CONVS.items()}
    text = f"""(float[N,3,4,4] x) => (float[N,5] y) {{
  h = Cast<to={kind}>(x)
  c = Conv<pads=[1,1,1,1]>(h, w0)
  last = Relu(c)
  pool = GlobalAveragePool(last)
  f = Flatten(pool)
  l = Gemm(f, fc, bias)
  y = Cast<to=1>(l)
}}"""
    model = net(text, inner)
    assert automatic(model) == "last"
    assert find_score(graph_of(model)).name == "y"


def test_bytes_that_are_scaled_inside() -> None:
    """uint8 [N, H, W, 3]: Cast, Transpose, Div."""
    text = f"""(uint8[N,8,8,3] x) => (float[N,5] y) {{
  f = Cast<to=1>(x)
  t = Transpose<perm=[0,3,1,2]>(f)
  d = Div(t, by)
  c = Conv<pads=[1,1,1,1]>(d, w0)
  last = Relu(c)
{TAIL}"""
    model = net(text, {**CONVS, "by": np.array(255, np.float32)})
    assert image_input(graph_of(model)) == ImageInput("x", "NHWC", (8, 8), 3, "uint8", None)
    assert automatic(model) == "last"


QUANTIZED = {
    **CONVS, "s": np.array(0.05, np.float32), "z": np.array(0, np.uint8), "zs": np.array(0, np.int8),
    "sw": np.array(0.01, np.float32), "wq": np.clip(CONVS["w0"] / 0.01, -127, 127).astype(np.int8),
}  # fmt: skip


def test_quantized_models_have_no_automatic_layer_yet() -> None:
    """What a user names is what the integers stand for, behind DequantizeLinear."""
    text = f"""(float[N,3,8,8] x) => (float[N,5] y) {{
  qx = QuantizeLinear(x, s, z)
  dx = DequantizeLinear(qx, s, z)
  w = DequantizeLinear(wq, sw, zs)
  c = Conv<pads=[1,1,1,1]>(dx, w)
  r = Relu(c)
  qr = QuantizeLinear(r, s, z)
  last = DequantizeLinear(qr, s, z)
{TAIL}"""
    model = net(text, QUANTIZED)
    assert layers_of(model) == []
    with pytest.raises(LayerError, match="no layer with a grid"):
        onnxcam.Explainer(model)(normal(3, 8, 8))
    assert named_layer(graph_of(model), "last").grid == (8, 8)
    with pytest.raises(LayerError, match=r"'qr' .* has no grid"):
        named_layer(graph_of(model), "qr")


def test_integers_without_a_rule_are_refused_by_name() -> None:
    text = f"""(float[N,3,8,8] x) => (float[N,5] y) {{
  qx = QuantizeLinear(x, s, z)
  qc = QLinearConv<pads=[1,1,1,1]>(qx, s, z, wq, sw, zs, s, z)
  last = DequantizeLinear(qc, s, z)
{TAIL}"""
    model = net(text, QUANTIZED)
    assert named_layer(graph_of(model), "last").grid == (8, 8)
    with pytest.raises(LayerError):
        named_layer(graph_of(model), "qc")
    with pytest.raises(onnxcam.OnnxCamError, match="QLinearConv") as caught:
        onnxcam.differentiate(model, of="logits", wrt="x")
    assert "\n" not in str(caught.value)


def test_branches_and_loops_are_passed_in_one_value_or_refused() -> None:
    """The value behind an If lies on all paths; the gradient through it is refused, naming it."""

    def branch(op: str) -> onnx.GraphProto:
        made = helper.make_tensor_value_info("t", TensorProto.FLOAT, None)
        return helper.make_graph([node(op, ["last"], ["t"])], op, [], [made])

    model = plain(TAIL.replace("GlobalAveragePool(last)", "GlobalAveragePool(chosen)"))
    model.graph.node.insert(
        4, node("If", ["always"], ["chosen"], name="choice", then_branch=branch("Relu"), else_branch=branch("Neg"))
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "always"))
    assert automatic(model) is not None
    with pytest.raises(onnxcam.OnnxCamError, match=r"If .*'choice'"):
        onnxcam.differentiate(model, of="logits", wrt="last")


@pytest.mark.slow
def test_every_real_file_is_read_or_refused_in_one_line(shared: Path) -> None:
    read = 0
    for path in sorted(shared.glob("**/*.onnx")):
        with suppress(onnxcam.OnnxCamError):
            read += bool(list_layers(path))
    assert read > 30
