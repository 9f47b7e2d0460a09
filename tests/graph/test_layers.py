"""Layers, ranked."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnxcam
from onnxcam.errors import LayerError
from onnxcam.graph import BRANCH, find_score, image_input, list_layers, named_layer
from onnxcam.graph.layers import BY_ITSELF, IN_PART
from onnxcam.runtime import ImageInput, Layout
from tests.graph.building import (
    CONVS,
    TAIL,
    automatic,
    channels_last,
    class_maps,
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
STEM = "c = Conv<pads = [1, 1, 1, 1]>(x, w0) a = Relu(c)"


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


DISTANCES = {
    "squares": "d = Sub(u, points) s = Mul(d, d) y = ReduceSum<keepdims = 0>(s, last_axis)",
    "lengths": "d = Sub(u, points) n = ReduceL2<axes = [2], keepdims = 0>(d) y = Neg(n)",
    "means": "d = Mul(u, points) y = ReduceMean<axes = [-1], keepdims = 0>(d)",
}


@pytest.mark.parametrize("name", DISTANCES)
def test_what_is_held_against_prototypes_is_a_layer(name: str) -> None:
    """No weights follow, but what follows adds up the channels: they are no classes."""
    weights = {**CONVS, "points": normal(1, 5, 4), "last_axis": np.array([2]), "first": np.array([1])}
    body = f"{STEM} m = GlobalAveragePool(a) f = Flatten(m) u = Unsqueeze(f, first) {DISTANCES[name]}"
    assert automatic(net(f"(float[N,3,4,4] x) => (float[N,5] y) {{ {body} }}", weights)) == "a"


CLASS_MAPS = {
    "mean over as many positions": "y = ReduceMean<axes = [2, 3], keepdims = 0>(maps)",
    "mean over as many of the highest": (
        "f = Reshape(maps, flat) t, i = TopK(f, five) y = ReduceMean<axes = [2], keepdims = 0>(t)"
    ),
    "softmax, spelled": (
        "e = Exp(maps) s = ReduceSum(e, one) d = Div(e, s) y = ReduceMean<axes = [2, 3], keepdims = 0>(d)"
    ),
    "less their mean": "p = GlobalAveragePool(maps) m = ReduceMean<axes = [1]>(p) d = Sub(p, m) y = Flatten(d)",
}


@pytest.mark.parametrize("name", CLASS_MAPS)
def test_class_maps_whose_channels_something_is_summed_of(name: str) -> None:
    """What is worked out of them all goes back to each of them; or it is no sum over channels."""
    weights = {
        **CONVS,
        "w5": normal(5, 4, 1, 1),
        "flat": np.array([0, 5, -1]),
        "five": np.array([5]),
        "one": np.array([1]),
    }
    body = f"{STEM} maps = Conv(a, w5) {CLASS_MAPS[name]}"
    assert automatic(net(f"(float[N,3,5,5] x) => (float[N,5] y) {{ {body} }}", weights)) == "a"


def test_patches_that_are_merged_to_one_all_arrive() -> None:
    rows = " ".join(f"r{i} = Slice(a, {i}, far, two, two)" for i in ("zero", "one"))
    weights = {**CONVS, "zero": np.array([0]), "one": np.array([1]), "two": np.array([2]), "far": np.array([9])}
    body = f"{STEM} {rows} h = Add(rzero, rone) f = Flatten(h) y = MatMul(f, wide)"
    model = net(f"(float[N,3,2,1] x) => (float[N,5] y) {{ {body} }}", {**weights, "wide": normal(4, 5)})
    assert automatic(model) == "a"


def test_the_frame_of_a_film_that_is_picked() -> None:
    """Its own layer has no axis for the frames; what it is picked from is one still."""
    weights = {"k3": normal(4, 3, 1, 1, 1), "w": normal(4, 4, 1, 1), "fc": normal(4, 5), "two": np.array(2)}
    model = net("""(float[N,3,4,8,8] x) => (float[N,5] y) {
        c = Conv(x, k3) a = Relu(c) f = Gather<axis = 2>(a, two) m = Conv(f, w) r = Relu(m) p = GlobalAveragePool(r)
        v = Flatten(p) y = MatMul(v, fc) }""", weights)  # fmt: skip
    assert automatic(model) == "a"


PICKS = {
    "the last token": "g = Gather<axis = 1>(n, one)",
    "a cut": "s = Slice(n, three, four, first) g = Squeeze(s, first)",
}


@pytest.mark.parametrize("pick", PICKS)
def test_the_last_layer_all_of_whose_places_are_read(pick: str) -> None:
    """One token is read behind the last attention, of which all others are keys: in front of it they all arrive."""
    weights = {
        "patch": normal(4, 3, 2, 2), "order": np.array([0, 4, -1]), "q": normal(4, 4), "fc": normal(4, 5),
        "one": np.array(3), "three": np.array([3]), "four": np.array([4]), "first": np.array([1]),
        "gain": np.ones(4, np.float32),
    }  # fmt: skip
    model = net(f"""(float[N,3,4,4] x) => (float[N,5] y) {{
        c = Conv<strides = [2, 2]>(x, patch) r = Reshape(c, order) t = Transpose<perm = [0, 2, 1]>(r)
        k = MatMul(t, q) kt = Transpose<perm = [0, 2, 1]>(k) w = MatMul(k, kt) p = Softmax(w) v = MatMul(p, t)
        a = Add(t, v) n = LayerNormalization(a, gain) {PICKS[pick]} y = MatMul(g, fc) }}""", weights)  # fmt: skip
    assert automatic(model) == "c"
    assert reason_of(model, "n") == IN_PART


def test_no_layer_is_taken_where_one_place_alone_is_read() -> None:
    body = f"{STEM} g = Gather<axis = 2>(a, two) h = Gather<axis = 2>(g, two) y = MatMul(h, fc)"
    model = net(f"(float[N,3,4,4] x) => (float[N,5] y) {{ {body} }}", {**CONVS, "two": np.array(2)})
    assert automatic(model) is None
    with pytest.raises(LayerError, match=r"no layer all of whose positions reach its score .*: use an input-level"):
        onnxcam.explain(model, np.ones((3, 4, 4), np.float32))


@pytest.mark.parametrize("pool", ["AveragePool", "MaxPool"])
def test_what_is_picked_from_pools_alone_is_a_pool(pool: str) -> None:
    """As Keras writes adaptive pools: windows of two sizes at every place, of which some are taken."""
    model = net(
        f"""(float[1,3,8,8] x) => (float[1,5] y) {{
  {STEM}
  small = {pool}<kernel_shape = [3, 8]>(a)
  large = {pool}<kernel_shape = [4, 8]>(a)
  j = Concat<axis = 2>(small, large)
  t = Transpose<perm = [0, 2, 3, 1]>(j)
  picked = Gather<axis = 1>(t, some)
  f = Flatten(picked)
  y = MatMul(f, fc)
}}""",
        {**CONVS, "some": np.array([0, 8, 5]), "fc": normal(12, 5)},
    )
    assert automatic(model) == "a"
    assert reason_of(model, "picked") == "a pool: what it pools is finer"


def test_pools_of_several_branches_are_their_first_common_grid() -> None:
    model = net(
        f"""(float[1,3,8,8] x) => (float[1,5] y) {{
  {STEM}
  b = Conv(a, w1)
  d = Conv(a, w2)
  p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(b)
  q = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(d)
  last = Concat<axis = 1>(p, q)
  m = GlobalAveragePool(last)
  f = Flatten(m)
  y = MatMul(f, fc)
}}""",
        {**CONVS, "fc": normal(8, 5)},
    )
    assert automatic(model) == "last"


def test_padding_is_skipped() -> None:
    model = net(
        f"""(float[1,3,8,8] x) => (float[1,5] y) {{
  {STEM}
  p = Pad(a, around)
  m = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(p)
  f = Flatten(m)
  y = MatMul(f, fc)
}}""",
        {**CONVS, "around": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "fc": normal(64, 5)},
    )
    assert automatic(model) == "a"
    assert reason_of(model, "p") == "padded: what it pads is all that it shows"


POWERS = {
    "torch": ("low = Clip(a, least)\n up = Pow(low, three)\n m = GlobalAveragePool(up)\n g = Pow(m, third)", "a"),
    "Keras": ("low = Max(a, least)\n t = Transpose<perm=[0,2,3,1]>(low)\n up = Pow(t, three)\n"
              "m = ReduceMean<axes=[1,2]>(up)\n g = Pow(m, third)", "a"),
    "a learned power": ("up = Pow(a, three)\n m = GlobalAveragePool(up)\n r = Reciprocal(three)\n g = Pow(m, r)", "a"),
    "an activation of two ends": ("low = Clip(a, least, three)\n up = Pow(low, three)\n m = GlobalAveragePool(up)\n"
                                  "g = Pow(m, third)", "low"),
    "another root": ("up = Pow(a, three)\n m = GlobalAveragePool(up)\n g = Pow(m, half)", "up"),
    "no root": ("up = Pow(a, three)\n g = GlobalAveragePool(up)", "up"),
    "not of all positions": ("up = Pow(a, three)\n m = AveragePool<kernel_shape=[4,4]>(up)\n g = Pow(m, third)", "g"),
}  # fmt: skip


@pytest.mark.parametrize(("pool", "expected"), POWERS.values(), ids=POWERS)
def test_what_a_generalized_mean_is_made_of_is_part_of_the_pool(pool: str, expected: str) -> None:
    text = f"(float[1,3,8,8] x) => (float[1,5] y) {{ {STEM}\n{pool}\n f = Flatten(g)\n y = MatMul(f, fc) }}"
    numbers = {
        "least": np.float32(1e-6),
        "three": np.float32([3]),
        "third": np.float32([1 / 3]),
        "half": np.float32(0.5),
    }
    model = net(text, {**CONVS, **numbers, "fc": normal(4 if expected != "g" else 100, 5)})
    assert automatic(model) == expected
    if expected == "a":
        assert reason_of(model, "up") == "inside a pool that averages powers: what it pools comes before"


def test_a_branch_that_ends_in_a_generalized_mean_ends_in_what_that_pools() -> None:
    model = net(
        f"""(float[1,3,8,8] x) => (float[1,5] y) {{
  {STEM}
  b = Conv(a, w1)
  d = Conv(a, w2)
  up = Pow(b, three)
  m = GlobalAveragePool(up)
  g = Pow(m, third)
  p = GlobalAveragePool(d)
  j = Concat<axis = 1>(g, p)
  f = Flatten(j)
  y = MatMul(f, fc)
}}""",
        {**CONVS, "three": np.float32([3]), "third": np.float32([1 / 3]), "fc": normal(8, 5)},
    )
    assert {layer.name for layer in list_layers(model) if layer.reason == BRANCH} == {"b", "d"}


INTEGERS = "q, qs, qz = DynamicQuantizeLinear(f) "
HEADS = {
    "Einsum": 'y = Einsum<equation = "nc,ck->nk">(f, fc)',
    "DynamicQuantizeMatMul": "y = com.microsoft.DynamicQuantizeMatMul(f, fcq, s, z)",
    "MatMulIntegerToFloat": INTEGERS + "y = com.microsoft.MatMulIntegerToFloat(q, fcq, qs, s, qz, z)",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_any_operator_with_weights_weighs_the_channels(head: str) -> None:
    weights = {**CONVS, "fcq": np.ones((4, 5), np.uint8), "s": np.ones(1, np.float32), "z": np.zeros(1, np.uint8)}
    text = f"{STEM} p = GlobalAveragePool(a) f = Flatten(p) {head}"
    model = net(f"(float[1,3,8,8] x) => (float[1,5] y) {{ {text} }}", weights)
    assert automatic(model) == "a"
    if "Einsum" not in head:
        assert find_score(graph_of(model)).guess  # the logits of a softmax that was left out


GATE = "largest = ReduceMax<keepdims = 0>(x) bright = Greater(largest, nought)"
POSITIONS = "r = Reshape(a, rows) t = Transpose<perm = [2, 0, 1]>(r)"
BODIES = {
    "Scan": f"""{STEM} {POSITIONS}
        y = Scan<num_scan_inputs = 1, body = step (float[1,5] sum, float[1,4] row) => (float[1,5] next) {{
        made = MatMul(row, fc) next = Add(sum, made) }}>(start, t)""",
    "If": f"""{GATE} {STEM}
        y = If(bright) <then_branch = g () => (p) {{ u = GlobalAveragePool(a) v = Flatten(u) p = MatMul(v, fc) }},
                        else_branch = h () => (q) {{ w = GlobalMaxPool(a) z = Flatten(w) q = MatMul(z, fc) }}>""",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_weights_in_a_body_weigh_the_channels(body: str) -> None:
    weights = {**CONVS, "rows": np.array([1, 4, 64]), "start": normal(1, 5), "nought": np.array(0, np.float32)}
    model = net(f"(float[1,3,8,8] x) => (float[1,5] y) {{ {body} }}", weights)
    assert automatic(model) == "a"


@pytest.mark.parametrize("text", [f"{GATE} {STEM}", f"{STEM} {GATE}"], ids=["early", "late"])
def test_a_condition_is_no_path_wherever_it_stands(text: str) -> None:
    text += "p = GlobalAveragePool(a) f = Flatten(p) z = MatMul(f, fc) open = Cast<to = 1>(bright) y = Mul(z, open)"
    model = net(f"(float[1,3,8,8] x) => (float[1,5] y) {{ {text} }}", {**CONVS, "nought": np.array(0, np.float32)})
    assert automatic(model) == "a"


def test_where_more_is_read_than_rows_the_layer_before_that_is_taken() -> None:
    """As by an unpooling that is spelled with flat indices: the pool's are read again behind the convolution."""
    text = f"""(float[2,3,8,8] x) => (float[2,4,8,8] y) {{ {STEM}
      v, i = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a) b = Conv<pads = [1, 1, 1, 1]>(v, mix)
      k = Reshape(i, flat) j = Unsqueeze(k, one) r = Relu(b) u = Reshape(r, flat)
      s = ScatterND(zeros, j, u) t = Reshape(s, whole) y = Conv(t, out) }}"""
    model = net(text, {
        **CONVS, "mix": normal(4, 4, 3, 3), "flat": np.array([-1]), "one": np.array([1]), "out": normal(4, 4, 1, 1),
        "zeros": np.zeros(512, np.float32), "whole": np.array([2, 4, 8, 8]),
    })  # fmt: skip
    assert automatic(model) == "a"
    assert reason_of(model, "r") == BY_ITSELF


def test_a_body_without_weights_weighs_nothing() -> None:
    body = BODIES["If"].replace("MatMul(v, fc)", "Neg(v)").replace("MatMul(z, fc)", "Neg(z)")
    model = net(f"(float[1,3,8,8] x) => (float[1,4] y) {{ {body} }}", {**CONVS, "nought": np.array(0, np.float32)})
    assert reason_of(model, "a") == "holds class maps: no weights between it and the score"


def test_weights_in_attributes_are_weights() -> None:
    """A classifier of scikit-learn behind the features."""
    model = net(f"(float[N,3,8,8] x) => (float[N,3] y) {{ {STEM} p = GlobalAveragePool(a) f = Flatten(p) }}", CONVS)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    weights = {"coefficients": [0.5] * 12, "intercepts": [0.0] * 3, "classlabels_ints": [0, 1, 2]}
    model.graph.node.append(node("LinearClassifier", ["f"], ["l", "y"], "linear", domain="ai.onnx.ml", **weights))
    assert automatic(model) == "a"


def test_the_last_layers_of_branches_are_listed_behind() -> None:
    """Two heads joined at the end, as a detector's: no layer of theirs explains the whole score."""
    heads = "".join(
        f"c{i} = Conv(stem, k) a{i} = Relu(c{i}) b{i} = Conv(a{i}, out) t{i} = Reshape(b{i}, flat) " for i in (1, 2)
    )
    weights = {
        "w0": normal(4, 3, 1, 1),
        "k": normal(4, 4, 1, 1),
        "out": normal(2, 4, 1, 1),
        "flat": np.array([0, 2, -1]),
    }
    text = f"f = Conv(x, w0) stem = Relu(f) {heads} y = Concat<axis = 2>(t1, t2)"
    layers = list_layers(net(f"(float[N,3,8,8] x) => (float[N,2,128] y) {{ {text} }}", weights))
    assert [(layer.name, layer.automatic, layer.reason) for layer in layers] == [
        ("stem", True, "the last grid on all paths to the score"),
        ("f", False, "earlier"),
        ("a2", False, BRANCH),
        ("a1", False, BRANCH),
    ]


def test_layers_are_listed_as_a_run_finds_them() -> None:
    """What convolutions without padding leave out of an image hangs on its size, which a run knows."""
    weights = {"k": normal(8, 3, 9, 9), "l": normal(4, 8, 9, 9), "w": normal(4, 5)}
    body = "c = Conv(x, k) a = Relu(c) d = Conv(a, l) last = Relu(d) g = GlobalAveragePool(last) f = Flatten(g)"
    first, *_ = list_layers(net(f"(float[N, 3, H, W] x) => (float[N, 5] y) {{ {body} y = MatMul(f, w) }}", weights))
    assert (first.name, first.grid, first.automatic) == ("last", None, True)
    assert first.shape[:2] == ("N", 4)
    assert not any(isinstance(size, int) for size in first.shape[2:])


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
    layers = layers_of(model)
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


def test_a_quantized_layer_is_what_its_integers_stand_for() -> None:
    """Listed once, read behind DequantizeLinear, told by the operator that makes it."""
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
    (layer,) = layers_of(model)
    assert (layer.name, layer.op, layer.node, layer.grid, layer.automatic) == ("last", "Relu", "node4", (8, 8), True)
    for name in ("last", "qr", "r", "c", "node3", "node4", "node5"):
        assert named_layer(graph_of(model), name).name == "last"


def test_a_layer_of_integers_alone_is_read_dequantized() -> None:
    """In QOperator format no float stands behind an operator: a DequantizeLinear is put there, for the layer alone."""
    text = """(float[N,3,8,8] x) => (float[N,5] y) {
  qx = QuantizeLinear(x, s, z)
  qc = QLinearConv<pads=[1,1,1,1]>(qx, s, z, wq, sw, zs, s, z)
  qp = com.microsoft.QLinearGlobalAveragePool(qc, s, z, s, z)
  pooled = DequantizeLinear(qp, s, z)
  features = Flatten(pooled)
  y = Gemm(features, fc, bias)
}"""
    model = net(text, QUANTIZED)
    (layer,) = layers_of(model)
    assert (layer.name, layer.op, layer.grid, layer.automatic) == ("qc_dequantized", "QLinearConv", (8, 8), True)
    for name in ("qc", "qc_dequantized", "node1"):
        assert named_layer(graph_of(model), name).name == "qc_dequantized"
    gradient = onnxcam.differentiate(model, of="y", wrt="x").model
    assert not any("qc_dequantized" in node.output for node in gradient.graph.node)


def test_a_layer_behind_what_onnxruntime_alone_knows() -> None:
    """Only that it has four axes was told of d, and all behind it had sizes without numbers: c was taken."""
    text = """(float[1,3,8,8] x) => (float[1,4] y) {
        c = Conv<pads = [1,1,1,1]>(x, w) q = QuantizeLinear(c, s, z)
        a = com.microsoft.QLinearAdd(q, s, z, q, s, z, s, z) d = DequantizeLinear(a, s, z)
        e = Conv<pads = [1,1,1,1]>(d, v) r = Relu(e) p = GlobalAveragePool(r) f = Flatten(p) y = MatMul(f, fc) }"""
    weights = {"w": normal(8, 3, 3, 3), "v": normal(8, 8, 3, 3), "fc": normal(8, 4), "s": np.float32(0.1)}
    model = net(text, {**weights, "z": np.uint8(0)})
    assert automatic(model) == "r"
    assert graph_of(model).shape("r") == (1, 8, 8, 8)


def test_a_branch_is_passed() -> None:
    """Where the condition is known, the branch is like any other node; the gradient passes either way."""

    def branch(op: str) -> onnx.GraphProto:
        made = helper.make_tensor_value_info("t", TensorProto.FLOAT, None)
        return helper.make_graph([node(op, ["last"], ["t"])], op, [], [made])

    model = plain(TAIL.replace("GlobalAveragePool(last)", "GlobalAveragePool(chosen)"))
    model.graph.node.insert(
        4, node("If", ["always"], ["chosen"], name="choice", then_branch=branch("Relu"), else_branch=branch("Neg"))
    )
    computed = onnx.ModelProto()
    computed.CopyFrom(model)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "always"))
    computed.graph.node.insert(4, node("ReduceMax", ["last"], ["most"], keepdims=0))
    computed.graph.node.insert(5, node("Greater", ["most", "most"], ["always"]))
    assert automatic(model) == "chosen"
    assert onnxcam.differentiate(model, of="logits", wrt="last").gradients
    assert onnxcam.differentiate(computed, of="logits", wrt="last").gradients


@pytest.mark.slow
def test_every_real_file_is_read_or_refused_in_one_line(shared: Path) -> None:
    read = 0
    for path in sorted(shared.glob("**/*.onnx")):
        with suppress(onnxcam.OnnxCamError):
            read += bool(list_layers(path))
    assert read > 30


def test_views_that_are_quantized_again_show_what_was_quantized() -> None:
    """A reader of columns: behind the pool of rows the same values stand in other axes, quantized at every step."""
    text = """(float[N, 1, 8, 32] x) => (float[16, N, 5] y) { c = Conv<pads = [1, 1, 1, 1]>(x, k) r = Relu(c)
        p = MaxPool<kernel_shape = [8, 2], strides = [8, 2]>(r) q = QuantizeLinear(p, s, z)
        d = DequantizeLinear(q, s, z) f = Squeeze(d, two) u = QuantizeLinear(f, s, z) e = DequantizeLinear(u, s, z)
        t = Transpose<perm = [2, 0, 1]>(e) v = QuantizeLinear(t, s, z) g = DequantizeLinear(v, s, z)
        y = MatMul(g, w) }"""
    weights = {"k": normal(4, 1, 3, 3), "s": np.float32(0.1), "z": np.uint8(0), "two": np.array([2]), "w": normal(4, 5)}
    (taken,) = (layer for layer in onnxcam.list_layers(net(text, weights)) if layer.automatic)
    assert taken.name == "r"
