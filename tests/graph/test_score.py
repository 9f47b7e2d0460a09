"""What is explained."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxcam.errors import LayerError, ModelError
from onnxcam.graph import behind_output, class_axis, find_score, image_input
from onnxcam.runtime import Score
from tests.graph.building import (
    CONVS,
    class_maps,
    graph_of,
    plain,
)
from tests.nets import net, normal

node = helper.make_node


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
        (LOGITS + "s = Sqrt(logits)\n y = Identity(s)\n}", "y", ""),
    ],
)  # fmt: skip
def test_the_score_behind_the_output(tail: str, score: str, squash: str) -> None:
    found = find_score(graph_of(plain(tail)))
    assert found == Score(score, "logit" if squash else "output", squash, "y")


DISPLAYED = {
    "kept from 0 and 1": "y = Clip(p, e, o)",
    "kept from 0 and 1, spelled": "m = Max(p, e) y = Min(o, m)",
    "per cent": "y = Mul(hundred, p)",
    "per cent by division": "y = Div(p, hundredth)",
    "two decimals": "m = Mul(hundred, p) r = Round(m) y = Div(r, hundred)",
    "decided": "y = Round(p)",
    "logarithm": "y = Log(p)",
    "logarithm of more than nothing": "a = Add(p, e) y = Log(a)",
}
OTHERWISE = {
    "pixels": "y = Mul(p, bytes)",
    "less": "y = Sub(p, e)",
    "added to": "y = Add(p, o)",
    "one over": "y = Div(e, p)",
    "cut off": "y = Clip(p, e, half)",
    "cut off from below": "y = Max(p, half)",
    "cut off from above": "y = Min(half, p)",
    "over infinity": "y = Div(p, endless)",
    "weighted": "y = Mul(p, each)",
    "the other way round": "y = Mul(p, minus)",
}
NUMBERS = {
    "e": np.float32(1e-7), "o": np.float32(1 - 1e-7), "hundred": np.float32(100), "hundredth": np.float32(0.01),
    "bytes": np.float32(255), "half": np.float32(0.5), "endless": np.float32(np.inf), "minus": np.float32(-100),
    "each": np.array([100.0, 100, 100], np.float32),
}  # fmt: skip


def displayed(squash: str, text: str) -> Score:
    body = f"p = {squash}(x) {text}"
    return find_score(graph_of(net(f"(float[N, 3] x) => (float[N, 3] y) {{ {body} }}", NUMBERS)))


@pytest.mark.parametrize("name", DISPLAYED)
def test_probabilities_that_are_displayed(name: str) -> None:
    text, scaled = DISPLAYED[name], "per cent" in name or "decimals" in name
    assert displayed("Softmax", text) == Score("x", "logit", "softmax", "y")
    of_sigmoid = Score("y", "output", "", "y") if scaled else Score("x", "logit", "sigmoid", "y")
    assert displayed("Sigmoid", text) == of_sigmoid


@pytest.mark.parametrize("name", OTHERWISE)
def test_probabilities_that_something_else_is_made_of(name: str) -> None:
    assert displayed("Softmax", OTHERWISE[name]) == Score("y", "output", "", "y")


def test_the_score_behind_a_decision_alone() -> None:
    for tail in ("y = ArgMax<axis=1,keepdims=0>(logits)", "i = ArgMax<axis=1,keepdims=0>(logits)\n y = Cast<to=6>(i)"):
        kind = "int32" if "Cast" in tail else "int64"
        assert find_score(
            graph_of(several(f"{kind}[N] y", LOGITS.replace("Gemm(features, fc, bias)", "MatMul(features, fc)") + tail))
        ) == Score("logits", "logit", "softmax", "y", guess=True)


TWO = "two = Constant<value_float=2.0>()\n"
PROBABILITIES = LOGITS + "p = Softmax(logits)\n"
CUT = "a = Constant<value_ints=[1]>()\n b = Constant<value_ints=[3]>()\n"


@pytest.mark.parametrize(
    "tail",
    [
        FEATURES + "y = Gemm(features, fc, bias)",
        LOGITS + "y = Identity(logits)",
        FEATURES + "m = MatMul(features, fc)\n y = Add(m, bias)",
        LOGITS + TWO + "y = Div(logits, two)",
        LOGITS + "r = Relu(logits)\n y = Identity(r)",
        LOGITS + "other = Gemm(features, fc)\n both = Add(logits, other)\n" + TWO + "y = Div(both, two)",
        "mean = Conv(last, w2)\n pool = GlobalAveragePool(mean)\n y = Flatten(pool)",
        "pool = GlobalAveragePool(last)\n mean = Conv(pool, w2)\n y = Flatten(mean)",
    ],
)
def test_a_product_of_features_is_taken_for_logits(tail: str) -> None:
    """What a classifier that was exported without its softmax ends in: a guess, if nobody named it."""
    graph = graph_of(rows_of_classes(tail))
    assert find_score(graph) == Score("y", "logit", "softmax", "y", guess=True)
    assert find_score(graph, "y") == Score("y", "output", "", "y")


@pytest.mark.parametrize(
    ("tail", "kind"),
    [
        (PROBABILITIES + SCALE + "y = Mul(p, s)", "output"),
        (PROBABILITIES + "square = MatMul(p, mix)\n y = Identity(square)", "output"),
        (PROBABILITIES + "q = Sigmoid(features_)\n y = Mul(p, q)".replace("features_", "logits"), "output"),
        (LOGITS + "p = Sigmoid(logits)\n t = Greater(p, bias)\n y = Cast<to=1>(t)", "output"),
        (LOGITS + "y = Exp(logits)", "output"),
        (LOGITS + "y = Tanh(logits)", "output"),
        (LOGITS + TWO + "y = Div(two, logits)", "output"),
        (LOGITS + "y = Mul(logits, logits)", "output"),
        (PROBABILITIES + "i = Cast<to=7>(p)\n y = Cast<to=1>(i)", "output"),
        (PROBABILITIES + CUT + "y = Slice(p, a, b, a)", "probability"),
        (LOGITS + "p = Sigmoid(logits)\n y = Gather<axis=1>(p, turned)", "probability"),
    ],
)
def test_what_is_neither_logits_nor_left_as_a_softmax_made_it_has_no_probability(tail: str, kind: str) -> None:
    tail = "turned = Constant<value_ints=[2, 1, 0]>()\n" + tail
    graph = graph_of(rows_of_classes(tail))
    if "Cast<to=7>" in tail:  # its logits are found behind; the numbers that it gives out are whole
        assert find_score(graph).name == "logits"
        assert find_score(graph, "y").kind == kind
    else:
        assert find_score(graph) == Score("y", kind, "", "y")


@pytest.mark.parametrize("tail", [AXIS + SPELLED, AXIS + UNGUARDED, "y = Softmax(logits)\n}", "y = Sigmoid(logits)\n}"])
def test_a_score_is_the_same_whoever_names_it(tail: str) -> None:
    graph = graph_of(plain(LOGITS + tail))
    found, named = find_score(graph), find_score(graph, "logits")
    assert (found.name, found.kind, found.squash) == (named.name, named.kind, named.squash)
    assert found.squash


def test_a_score_of_integers_is_the_same_whoever_names_it() -> None:
    tail = """s = Constant<value = float {0.1}>() z = Constant<value = uint8 {128}>() q = QuantizeLinear(logits, s, z)
        l = DequantizeLinear(q, s, z) p = com.microsoft.QLinearSoftmax<axis = 1, opset = 13>(q, s, z, s, z)
        y = DequantizeLinear(p, s, z)"""
    graph = graph_of(several("float[N,5] y", LOGITS + tail))
    assert find_score(graph) == Score("l", "logit", "softmax", "y")
    assert find_score(graph, "l") == Score("l", "logit", "softmax", "l")


def test_floats_that_are_quantized_for_a_softmax_of_integers() -> None:
    tail = """s = Constant<value = float {0.1}>() z = Constant<value = uint8 {128}>() q = QuantizeLinear(logits, s, z)
        p = com.microsoft.QLinearSoftmax<axis = 1, opset = 13>(q, s, z, s, z) y = DequantizeLinear(p, s, z)"""
    assert find_score(graph_of(several("float[N,5] y", LOGITS + tail))) == Score("logits", "logit", "softmax", "y")


OVER_IMAGES = (AXIS + SPELLED).replace("int64[1] {1}", "int64[1] {0}").replace("axes=[1]", "axes=[0]").rstrip("}\n")


@pytest.mark.parametrize(
    "tail", [LOGITS + "y = Softmax<axis=0>(logits)", LOGITS + "y = LogSoftmax<axis=0>(logits)", LOGITS + OVER_IMAGES]
)
def test_a_softmax_over_images_is_none_of_classes(tail: str) -> None:
    """Of one image it makes 1 of every class, whatever the classes' own softmax would say."""
    graph = graph_of(rows_of_classes(tail))
    kind = "output" if "Log" in tail else "probability"
    assert find_score(graph) == Score("y", kind, "", "y")
    assert find_score(graph, "logits") == Score("logits", "output", "", "logits")


def test_one_number_is_no_row_of_logits() -> None:
    graph = graph_of(net(f"(float[N,3,4,4] x) => (float[N,1] y) {{ {STEM}{FEATURES} y = MatMul(features, one) }}",
                         {**CONVS, "one": CONVS["fc"][:, :1]}))  # fmt: skip
    assert find_score(graph) == Score("y", "output", "", "y")


STEM = "c = Conv<pads=[1,1,1,1]>(x, w0)\n last = Relu(c)\n"


def rows_of_classes(tail: str) -> onnx.ModelProto:
    weights = {**CONVS, "mix": np.eye(5, dtype=np.float32)}
    return net(f"(float[N,3,4,4] x) => (float[N,K] y) {{\n{STEM}{tail}\n}}", weights)


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


def several(outputs: str, tail: str, rows: str = "N") -> onnx.ModelProto:
    text = f"(float[{rows},3,4,4] x) => ({outputs}) {{\n c = Conv<pads=[1,1,1,1]>(x, w0)\n last = Relu(c)\n{tail}\n}}"
    return net(text, CONVS)


def several_with(outputs: str, tail: str) -> onnx.ModelProto:
    """The same with a few more weights."""
    text = f"(float[N,3,4,4] x) => ({outputs}) {{\n c0 = Conv<pads=[1,1,1,1]>(x, w0)\n last = Relu(c0)\n{tail}\n}}"
    return net(text, CONVS | {"three": np.array([3]), "super": normal(5, 3)})


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


@pytest.mark.parametrize(("other", "keepdims"), [("float[N,1] age", 1), ("float[N] age", 0)])
def test_a_row_of_classes_comes_before_a_single_number(other: str, keepdims: int) -> None:
    tail = f"{FEATURES}{AXIS}age = ReduceSum<keepdims={keepdims}>(features, axis)\n raw = MatMul(features, fc)\n"
    classes = several(f"{other}, float[N,5] classes", tail + "classes = Softmax(raw)")
    assert find_score(graph_of(classes)).name == "raw"
    with pytest.raises(ModelError, match="several outputs"):  # which may be anything: an embedding
        find_score(graph_of(several(f"{other}, float[N,5] raw", tail)))


def test_a_sigmoid_of_one_number_is_a_class() -> None:
    tail = FEATURES + AXIS + "l = ReduceSum<keepdims=1>(features, axis)\n p = Sigmoid(l)\n e = MatMul(features, fc)"
    with pytest.raises(ModelError, match="several outputs"):
        find_score(graph_of(several("float[N,1] p, float[N,5] e", tail)))


@pytest.mark.parametrize("squash", ["Sigmoid", "Identity"])
def test_boxes_beside_the_rows_of_classes_are_no_score(squash: str) -> None:
    """As a DETR gives them out: the boxes squashed, the classes not."""
    weights = {"classes": normal(3, 7), "corners": normal(3, 4), "order": np.array([0, 3, 16])}
    model = net(f"""(float[N,3,4,4] x) => (float[N,16,4] boxes, float[N,16,7] logits) {{
        r = Reshape(x, order) t = Transpose<perm = [0, 2, 1]>(r)
        logits = MatMul(t, classes) b = MatMul(t, corners) boxes = {squash}(b) }}""", weights)  # fmt: skip
    assert find_score(graph_of(model)).name == "logits"


@pytest.mark.parametrize(
    "outputs",
    [
        "p = Softmax(c) q = Identity(d)",  # three classes and none, beside hidden states
        "p = Identity(c) q = Identity(d)",  # quaternions beside translations
        "p = Sigmoid(c) q = Identity(d) r = Identity(b)",  # four classes, hidden states, boxes
    ],
)
def test_rows_of_four_that_may_be_anything(outputs: str) -> None:
    weights = {"w4": normal(3, 4), "v4": normal(3, 4), "w8": normal(3, 8)}
    declared = "float[N,16,4] p, float[N,16,8] q" + (", float[N,16,4] r" if "r =" in outputs else "")
    model = net(
        f"(float[N,16,3] x) => ({declared}) {{ c = MatMul(x, w4) b = MatMul(x, v4) d = MatMul(x, w8) {outputs} }}",
        weights,
    )
    if "Identity(c)" in outputs:
        with pytest.raises(ModelError, match="several outputs"):
            find_score(graph_of(model))
    else:
        assert find_score(graph_of(model)).name == "c"


@pytest.mark.parametrize("called", ["logits", "classes"])
def test_hidden_states_beside_rows_of_classes_and_boxes_are_no_score(called: str) -> None:
    """Hugging Face's DETR gives them out too."""
    weights = {"to": normal(3, 7), "corners": normal(3, 4), "order": np.array([0, 3, 16])}
    outputs = f"float[N,16,7] {called}, float[N,16,4] boxes, float[N,16,3] last_hidden_state, float[N,3,16] before"
    model = net(f"""(float[N,3,4,4] x) => ({outputs}) {{
        h = Relu(x) before = Reshape(h, order) last_hidden_state = Transpose<perm = [0, 2, 1]>(before)
        {called} = MatMul(last_hidden_state, to)
        b = MatMul(last_hidden_state, corners) boxes = Sigmoid(b) }}""", weights)  # fmt: skip
    assert find_score(graph_of(model)).name == called


@pytest.mark.parametrize(
    ("other", "made"),
    [
        ("float[N,3] v", "v, i = TopK(c, three)"),
        ("float[N,1] v", "v = ReduceLogSumExp<axes = [1]>(c)"),
        ("float[N,3] v", "q = Softmax(c) v = MatMul(q, super)"),
    ],
    ids=["the highest", "an energy", "a superclass"],
)
def test_what_is_made_of_a_row_of_classes_is_not_taken_for_it(other: str, made: str) -> None:
    """Ranks are no classes, and a confidence is no score of the image's: the user says which."""
    body = f"g = GlobalAveragePool(last) f = Flatten(g) c = Gemm(f, fc) {made}"
    graph = graph_of(several_with(f"float[N,5] c, {other}", body))
    with pytest.raises(ModelError, match="several outputs"):
        find_score(graph)


def test_a_row_of_classes_comes_before_what_is_called_logits() -> None:
    body = "logits = Identity(last) g = GlobalAveragePool(last) f = Flatten(g) l = Gemm(f, fc) p = Softmax(l)"
    assert find_score(graph_of(several_with("float[N,4,4,4] logits, float[N,5] p", body))).name == "l"


def test_what_the_model_calls_its_logits_comes_before_squashed_others() -> None:
    tail = ROWS + "r = Reshape(t, to)\n other = Sigmoid(r)\n logits = Mul(r, r)"
    assert find_score(graph_of(several("float[N,16,4] other, float[N,16,4] logits", tail))).output == "logits"


def test_scores_that_the_image_does_not_move_are_none() -> None:
    """The embedding of a text that is fed, and noise of the image's size."""
    text = """(float[N,3,4,4] x, float[T,5] text) => (float[N,3] e, float[T,5] t, float[N,3] noise) {
        p = GlobalAveragePool(x) e = Flatten(p) t = Relu(text) noise = RandomUniformLike(e) }"""
    graph = graph_of(net(text))
    assert find_score(graph, image=image_input(graph)).name == "e"


@pytest.mark.parametrize("order", ["per_image, per_text", "per_text, per_image"])
def test_likenesses_of_images_to_texts_are_read_by_image(order: str) -> None:
    """CLIP's two outputs are one score turned, beside what they are made of."""
    shapes = {"per_image": "float[N,T]", "per_text": "float[T,N]"}
    outputs = ", ".join(f"{shapes[name]} {name}" for name in order.split(", "))
    text = f"""(float[N,3,4,4] x, float[T,3] text) => ({outputs}, float[N,3] e) {{
        p = GlobalAveragePool(x) f = Flatten(p) e = LpNormalization<axis = 1>(f) u = Transpose(e)
        per_text = MatMul(text, u)
        per_image = Transpose(per_text) }}"""
    graph = graph_of(net(text))
    assert find_score(graph, image=image_input(graph)).name == "per_image"


def test_rows_of_four_alone_are_a_score() -> None:
    model = net(
        "(float[N,16,4] x) => (float[N,16,4] y, float[N,3,4] z) { y = Sigmoid(x) z = Slice(x, a, b, a) }",
        {"a": np.array([1]), "b": np.array([4])},
    )
    assert find_score(graph_of(model)).output == "y"


def test_a_tie_is_asked() -> None:
    tail = FEATURES + "age = MatMul(features, fc)\n other = MatMul(features, fc)"
    graph = graph_of(several("float[N,5] age, float[N,5] other", tail))
    with pytest.raises(ModelError, match=r"several outputs .*--score.*'age' .*'other'"):
        find_score(graph)
    assert find_score(graph, "other") == Score("other", "output", "", "other")


def test_many_outputs_are_named_for_short() -> None:
    """As many as a line holds, by the names that the model gives them."""
    outputs = ", ".join(f"float[N,16,4] level_{i}" for i in range(12))
    tails = "r = Reshape(t, to)\n" + "".join(f"u{i} = Mul(r, r)\n level_{i} = Sigmoid(u{i})\n" for i in range(12))
    with pytest.raises(
        ModelError, match=r"NAME\[INDEX\] says what of which \('level_0' \[N, 16, 4\], .*'level_8' .*\] and 3 more\)$"
    ) as error:
        find_score(graph_of(several(outputs, ROWS + tails)))
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("size", ["4,4", "H,W"])
@pytest.mark.parametrize(("channels", "alike"), [(1, 2), (2, 0)])
def test_of_maps_of_one_form_the_first_is_explained(size: str, channels: int, alike: int) -> None:
    """The side outputs of a network that is trained at every depth; other maps are asked for."""
    text = f"""(float[N,3,{size}] x) => (float[N,1,{size}] y, float[N,{channels},{size}] z) {{
        a = Conv(x, one) y = Sigmoid(a) b = Conv(x, other) z = Sigmoid(b) }}"""
    graph = graph_of(net(text, {"one": normal(1, 3, 1, 1), "other": normal(channels, 3, 1, 1)}))
    if alike:
        found = find_score(graph, image=image_input(graph))
        assert found == Score("a", "logit", "sigmoid", "y", "CHW", alike=alike)
    else:
        with pytest.raises(ModelError, match="several outputs"):
            find_score(graph)


def test_a_tie_names_what_is_before_the_softmax() -> None:
    """To name the output would be to explain its probability."""
    tail = FEATURES + "logits = MatMul(features, fc)\n age = Softmax(logits)\n box = MatMul(features, fc)"
    graph = graph_of(several("float[N,5] age, float[N,5] box", tail))
    with pytest.raises(ModelError, match=r"\('logits' \[N, 5\] before the softmax of 'age', 'box' \[N, 5\]\)$"):
        find_score(graph)
    assert find_score(graph, "logits").kind == "logit"
    assert find_score(graph, "age").kind == "probability"


EMBEDDINGS = {
    "torch": "n = ReduceL2<axes=[1]>(v)\n k = Clip(n, tiny)\n to = Shape(v)\n d = Expand(k, to)\n y = Div(v, d)",
    "TensorFlow": "q = Mul(v, v)\n n = ReduceSum(q, one)\n k = Max(n, tiny)\n d = Sqrt(k)\n i = Reciprocal(d)\n"
    " y = Mul(v, i)",
    "Keras": "q = Mul(v, v)\n n = ReduceSum(q, one)\n d = Sqrt(n)\n i = Reciprocal(d)\n huge = Reciprocal(tiny)\n"
    " k = Min(i, huge)\n y = Mul(v, k)",
    "Hugging Face": "t = Constant<value_float=2.0>()\n q = Pow(v, t)\n n = ReduceSum(q, one)\n"
    " h = Constant<value_float=0.5>()\n d = Pow(n, h)\n y = Div(v, d)",
    "ONNX": "y = LpNormalization<axis=1>(v)",
}


@pytest.mark.parametrize(
    ("tail", "kind"),
    [
        *((tail, "embedding") for tail in EMBEDDINGS.values()),
        ("n = ReduceL2<axes=[1]>(features)\n y = Div(v, n)", "output"),
        ("q = Mul(v, v)\n n = ReduceSum(q, one)\n y = Div(v, n)", "output"),
        ("n = Mul(v, v)\n k = Add(n, tiny)\n y = Div(v, k)", "output"),
        ("y = Mul(v, v)", "output"),
    ],
)
@pytest.mark.parametrize("rows", ["N", "1"])
def test_what_is_scaled_to_length_1_is_an_embedding(rows: str, tail: str, kind: str) -> None:
    text = (
        FEATURES + "v = Gemm(features, fc)\n tiny = Constant<value_float=1e-12>()\n one = Constant<value_ints=[1]>()\n"
    )
    graph = graph_of(several(f"float[{rows},5] y", text + tail, rows))
    assert find_score(graph, "y").kind == kind
    assert (find_score(graph).kind == "embedding") == (kind == "embedding")


@pytest.mark.parametrize("outputs", ["float[N,5] y, float[N,5] p", "float[N,5] p, float[N,5] y"])
def test_logits_and_their_probabilities_are_one_score(outputs: str) -> None:
    tail = FEATURES + "logits = MatMul(features, fc)\n y = Identity(logits)\n p = Softmax(logits)"
    assert find_score(graph_of(several(outputs, tail))) == Score("logits", "logit", "softmax", "p")


ROWS = "t = Transpose<perm=[0,2,3,1]>(last)\n to = Constant<value_ints=[0,16,4]>()\n"


SQUASHED = "r = Reshape(t, to)\n y = Softmax<axis=1>(r)"


@pytest.mark.parametrize(
    ("outputs", "tail", "expected"),
    [
        ("float[N,4,4,4] y", "y = Sigmoid(last)", Score("last", "logit", "sigmoid", "y", "CHW")),
        ("float[N,4,4,4] y", "y = Softmax<axis=1>(last)", Score("last", "logit", "softmax", "y", "CHW")),
        ("float[N,4,4,4] y", "y = Transpose<perm=[0,2,3,1]>(last)", Score("y", "output", "", "y", "HWC")),
        ("int64[N,1,4,4] y", "y = ArgMax<axis=1>(last)", Score("last", "output", "", "y", "CHW")),
        ("float[N,16,4] y", ROWS + "y = Reshape(t, to)", Score("y", "output", "", "y", "RC")),
        ("float[N,16,4] y", ROWS + SQUASHED, Score("r", "logit", "softmax", "y", "CR")),
    ],
)  # fmt: skip
def test_scores_that_are_no_row_of_classes(outputs: str, tail: str, expected: Score) -> None:
    """Segmentation, detection, sequences: what each axis means is told with them."""
    graph = graph_of(several(outputs, tail))
    assert find_score(graph, image=image_input(graph)) == expected


JOINED = "a = Reshape(last, flat)\n p = AveragePool<kernel_shape=[2,2], strides=[2,2]>(last)\n b = Reshape(p, flat)\n"


@pytest.mark.parametrize("size", ["4,4", "H,W"])
@pytest.mark.parametrize(
    ("tail", "axes"),
    [
        ("y = Concat<axis=2>(a, b)", "CR"),
        ("j = Concat<axis=2>(a, b)\n y = Transpose<perm=[0,2,1]>(j)", "RC"),
        ("j = Concat<axis=2>(a, b)\n y = ReduceSum<keepdims=1>(j, one)", "CR"),
    ],
)
def test_rows_are_where_places_of_the_image_lie(tail: str, axes: str, size: str) -> None:
    """Detectors' grids, end to end. One class alone does not make the rows a row of classes."""
    weights = {"w0": normal(4, 3, 1, 1), "flat": np.array([0, 4, -1]), "one": np.array([1])}
    graph = graph_of(net(f"(float[N,3,{size}] x) => (float[] y) {{ last = Conv(x, w0)\n {JOINED}{tail} }}", weights))
    assert find_score(graph, image=image_input(graph)) == Score("y", "output", "", "y", axes)


@pytest.mark.parametrize("size", ["24,40", "H,W"])
def test_maps_without_padding_are_maps_at_any_size(size: str) -> None:
    """Where on the image they start hangs on its size, which of their axes is which does not."""
    weights = {"w0": normal(2, 3, 9, 9)}
    text = f"(float[N,{size},3] x) => (float[] y) {{ t = Transpose<perm=[0,3,1,2]>(x)\n last = Conv(t, w0)\n "
    graph = graph_of(net(text + "y = Transpose<perm=[0,2,3,1]>(last) }", weights))
    assert find_score(graph, image=image_input(graph)) == Score("y", "output", "", "y", "HWC")


def test_anchors_of_one_class_are_rows() -> None:
    weights = {"w0": normal(2, 3, 1, 1), "to": np.array([0, -1, 1])}
    text = "last = Conv(x, w0)\n t = Transpose<perm=[0,2,3,1]>(last)\n y = Reshape(t, to)"
    graph = graph_of(net(f"(float[N,3,4,4] x) => (float[N,32,1] y) {{ {text} }}", weights))
    assert find_score(graph, image=image_input(graph)) == Score("y", "output", "", "y", "RC")


def test_a_model_without_numbers_to_explain_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no output of floating-point numbers to explain .*'y'") as caught:
        find_score(graph_of(several("int64[4] y", "y = Shape(last)")))
    assert "\n" not in str(caught.value)


MERGED = "to = Constant<value_ints=[-1,4]>()\n t = Transpose<perm=[0,2,3,1]>(last)\n rows = Reshape(t, to)\n"


def test_rows_that_took_in_the_axis_of_images_are_one_images() -> None:
    """UltraFace: scores [boxes, classes] of a model that takes one image; its softmax moves no element."""
    back = "back = Constant<value_ints=[1,16,4]>()\n p = Softmax<axis=-1>(rows)\n y = Reshape(p, back)"
    stem = "c = Conv<pads=[1,1,1,1]>(x, w0)\n last = Relu(c)\n"
    graph = graph_of(net(f"(float[1,3,4,4] x) => (float[1,16,4] y) {{ {stem}{MERGED}{back} }}", CONVS))
    expected = Score("rows", "logit", "softmax", "y", "RC", rows=False)
    assert find_score(graph, image=image_input(graph)) == expected
    assert behind_output(graph, "y", image=image_input(graph)) == expected  # y[3,1] is the logit rows[3,1]


def test_an_indexed_output_is_itself_where_its_elements_move() -> None:
    graph = graph_of(several("float[N,4,4,4] y", "p = Sigmoid(last)\n y = Transpose<perm=[0,2,3,1]>(p)"))
    assert behind_output(graph, "y", image=image_input(graph)) == Score("y", "probability", "", "y", "HWC")
    assert behind_output(graph, "c", image=image_input(graph)).name == "c"
    with pytest.raises(LayerError, match="no value 'yy'"):
        behind_output(graph, "yy")


def test_a_score_that_the_user_names() -> None:
    graph = graph_of(plain())
    assert find_score(graph, "logits") == Score("logits", "logit", "softmax", "logits")
    assert find_score(graph, "y") == Score("y", "probability", "", "y")
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
