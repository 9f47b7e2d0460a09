"""Features and head: together they are the model, bit for bit."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxcam
from onnxcam.errors import LayerError, ModelError
from onnxcam.graph import (
    candidates,
    declared,
    features,
    find_score,
    free_taps,
    head,
    image_input,
    named_layer,
    packing_pays,
    pruned,
)
from onnxcam.graph.cut import MANY_WEIGHTS, ROWS, likely_has_rows
from onnxcam.graph.types import Shape
from onnxcam.runtime import Session
from tests.graph.building import (
    CONVS,
    TAIL,
    channels_last,
    exactly,
    graph_of,
    image_for,
    inception,
    layers_of,
    nodes_model,
    plain,
    recomputed,
    residual,
    squeeze_excite,
    vit,
)
from tests.nets import net, normal, run, tapped

node = helper.make_node
NETS = {
    "plain": plain(), "residual": residual(), "inception": inception(), "squeeze": squeeze_excite(),
    "channels last": channels_last(), "vit token": vit("token"), "vit mean": vit("mean"),
}  # fmt: skip


# -- features -----------------------------------------------------------------------------------------------------


def test_features_are_the_original_nodes_and_outputs_with_taps_behind_them() -> None:
    model = residual()
    proto = features(graph_of(model), ["a", "sum", "logits"])
    assert list(proto.graph.node) == list(model.graph.node)
    assert list(proto.graph.initializer) == list(model.graph.initializer)
    assert [value.name for value in proto.graph.output] == ["y", "a", "sum", "logits"]
    assert (proto.opset_import, proto.ir_version) == (model.opset_import, model.ir_version)
    x = {"x": image_for(model)}
    found, expected = run(proto, x), run(tapped(model, "a", "sum", "logits"), x)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_an_old_model_is_run_as_it_is() -> None:
    model = net(
        "(float[N,4] x) => (float[N,5] y) { l = MatMul(x, fc)\n y = Softmax(l) }", {"fc": CONVS["fc"]}, opset=9, ir=3
    )
    proto = features(graph_of(model), ["l"])
    assert (proto.opset_import[0].version, proto.ir_version) == (9, 3)
    assert len(proto.graph.node[1].attribute) == 0  # Softmax flattens here


def test_a_tap_has_type_and_shape() -> None:
    graph = graph_of(nodes_model([node("Cast", ["x"], ["h"], to=10), node("Gelu", ["x"], ["g"], domain="com.microsoft"),
                                  node("Cast", ["h"], ["y"], to=1)]))  # fmt: skip
    proto = features(graph, ["h", "g"])
    assert list(proto.graph.output)[1:] == [
        helper.make_tensor_value_info("h", TensorProto.FLOAT16, ["N", 4]),
        helper.make_tensor_value_info("g", TensorProto.FLOAT, ["N", 4]),
    ]


def test_what_is_an_output_is_not_one_twice() -> None:
    model = residual()
    model.graph.output.append(model.graph.output[0])
    proto = features(graph_of(model), ["y", "last", "last"])
    assert [value.name for value in proto.graph.output] == ["y", "y", "last"]
    run(proto, {"x": image_for(model)})


def test_a_tap_inside_a_function_takes_the_inlined_graph() -> None:
    body = [node("Neg", ["a"], ["inner"]), node("Relu", ["inner"], ["b"])]
    function = helper.make_function("local", "Block", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    model = nodes_model([node("Block", ["x"], ["h"], domain="local"), node("Exp", ["h"], ["y"])], functions=(function,))
    graph = graph_of(model)
    inner = next(name for name in graph.producer if name not in ("h", "y"))
    assert [n.op_type for n in features(graph, ["h"]).graph.node] == ["Block", "Exp"]
    proto = features(graph, [inner])
    assert [n.op_type for n in proto.graph.node] == ["Neg", "Relu", "Exp"]
    x = normal(2, 4)
    found = run(proto, {"x": x})
    np.testing.assert_array_equal(found[inner], -x)
    np.testing.assert_array_equal(found["y"], run(model, {"x": x})["y"])


def test_names_with_odd_characters_can_be_tapped() -> None:
    odd = ["a b", "x:0", "line\nbreak", "größe/日本", "n" * 10_000]
    nodes = [node("Relu", [before], [after]) for before, after in zip(["x", *odd], [*odd, "y"], strict=True)]
    graph = graph_of(nodes_model(nodes))
    found = run(features(graph, odd), {"x": normal(2, 4)})
    assert set(found) == {"y", *odd}
    np.testing.assert_array_equal(recomputed(head(graph, odd[1], "y"), found), found["y"])


# -- heads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_the_head_of_every_layer_gives_the_score_bit_for_bit(name: str) -> None:
    model = NETS[name]
    graph, score = graph_of(model), find_score(graph_of(model)).name
    for layer in layers_of(model):
        part = head(graph, layer.name, score)
        assert part.extra == ()
        assert part.graph.inputs == [layer.name]
        assert part.graph.opsets == graph.opsets
        assert part.graph.proto.ir_version >= 8
        values = exactly(features(graph, [layer.name, score]), {"x": image_for(model)})
        np.testing.assert_array_equal(recomputed(part, values), values[score])


def test_a_layer_beside_a_skip_connection_needs_what_goes_around_it() -> None:
    graph = graph_of(residual())
    part = head(graph, named_layer(graph, "b2").name, "logits")
    assert part.extra == ("a",)
    values = exactly(features(graph, ["b2", "a", "logits"]), {"x": image_for(residual())})
    np.testing.assert_array_equal(recomputed(part, values), values["logits"])
    other = normal(*values["a"].shape, seed=9)
    assert not np.array_equal(recomputed(part, {**values, "a": other}), values["logits"])


def test_a_head_holds_its_own_weights_alone() -> None:
    part = head(graph_of(residual()), "last", "logits")
    assert [n.op_type for n in part.graph.nodes] == ["GlobalAveragePool", "Flatten", "Gemm"]
    assert set(part.graph.initializers) == {"fc", "bias"}
    assert part.graph.shape("logits") == (ROWS, 5)


def test_the_head_of_the_score_itself() -> None:
    part = head(graph_of(residual()), "logits", "logits")
    assert part.graph.nodes == []
    assert part.graph.inputs == ["logits"]


def test_a_score_that_does_not_depend_on_the_layer() -> None:
    model = plain()
    model.graph.node.append(node("Neg", ["a0"], ["aside"]))
    with pytest.raises(ModelError, match="'logits' does not depend on the layer 'aside'"):
        head(graph_of(model), "aside", "logits")


def test_of_several_values_without_rows_the_first_is_named() -> None:
    makers = " ".join(f"m{i} = ReduceMax<keepdims = 0>(x) n{i + 1} = Mul(n{i}, m{i})" for i in range(9))
    text = f"c = Conv(x, w) n0 = ReduceMean<axes = [2, 3], keepdims = 0>(c) {makers} y = Neg(n9)"
    graph = graph_of(net(f"(float[2,3,4,4] x) => (float[2,5] y) {{ {text} }}", {"w": normal(5, 3, 1, 1)}))
    with pytest.raises(LayerError, match="also reads 'm0', which has no row"):
        head(graph, "c", "y")


def test_a_head_with_a_branch_that_captures_the_layer() -> None:
    def branch(op: str) -> onnx.GraphProto:
        made = helper.make_tensor_value_info("t", TensorProto.FLOAT, None)
        return helper.make_graph([node(op, ["last"], ["u"]), node("Mul", ["u", "factor"], ["t"])], op, [], [made])

    model = plain(TAIL.replace("GlobalAveragePool(last)", "GlobalAveragePool(chosen)"))
    model.graph.node.insert(4, node("If", ["always"], ["chosen"], then_branch=branch("Exp"), else_branch=branch("Neg")))
    for name, value in {"always": np.array(True), "factor": np.float32(0.5)}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    graph = graph_of(model)
    values = exactly(features(graph, ["last", "logits"]), {"x": image_for(model)})
    part = head(graph, "last", "logits")
    assert part.extra == ()
    np.testing.assert_array_equal(recomputed(part, values), values["logits"])


@pytest.mark.parametrize(
    ("shape", "free"), [([1, 24], True), ([1, -1], True), ([1, 3, 8], True), ([-1, 24], True), ([24, 1], False)]
)
def test_a_head_of_a_model_of_one_image_takes_any_number_of_rows(shape: list[int], free: bool) -> None:
    """An exporter bakes the batch in, as a 1."""
    model = net(
        "(float[1, 3, 2, 4] x) => (float[1, 5] y) { a = Relu(x) f = Reshape(a, shape) g = Tanh(f) "
        "c = Reshape(g, flat) y = MatMul(c, w) }",
        {"shape": np.array(shape), "flat": np.array([1, 24]), "w": normal(24, 5)},
    )
    part, rows = head(graph_of(model), "a", "y"), np.abs(normal(3, 3, 2, 4))
    if free:
        alone = [run(model, {"x": row[None]})["y"] for row in rows]
        np.testing.assert_allclose(run(part.graph.proto, {"a": rows})["y"], np.concatenate(alone), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(run(part.graph.proto, {"a": rows[:1]})["y"], run(model, {"x": rows[:1]})["y"])


# -- small tools ----------------------------------------------------------------------------------------------------


def test_declared_values_have_a_free_first_axis() -> None:
    graph = graph_of(plain(batch="1"))
    assert declared(graph, "last") == helper.make_tensor_value_info("last", TensorProto.FLOAT, [ROWS, 4, 4, 4])


def test_free_taps() -> None:
    model = plain(TAIL.replace("logits = ", "h = Cast<to=10>(features)\n h2 = Relu(h)\n i = Cast<to=7>(h)\n logits = "))
    assert free_taps(graph_of(model)) == {"a0", "last", "pool", "h2"}


def weighted(op: str, rows: int, columns: int) -> bool:
    """Whether packing pays for a head of one product."""
    tail = f"f = Flatten(last) y = {op}(f, big) }}" if op != "tokens" else "y = MatMul(last, big) }"
    model = net(
        f"(float[N,3,4,4] x) => (float[] y) {{ last = Relu(x) {tail}", {"big": np.ones((rows, columns), np.float32)}
    )
    return packing_pays(head(graph_of(model), "last", "y").graph)


def test_weights_are_packed_but_where_they_meet_one_row() -> None:
    """ONNX Runtime would hold them twice, for nothing."""
    wide = MANY_WEIGHTS // 48 + 1
    assert [weighted(op, 48, wide) for op in ("Gemm", "MatMul")] == [False, False]
    assert weighted("Gemm", 48, wide - 2)
    assert weighted("tokens", 4, MANY_WEIGHTS // 4 + 1)


def test_free_taps_are_rows_of_images() -> None:
    """A stack of what several heads say has another axis in front."""
    stack = """
  axis = Constant<value_ints = [0]>()
  one = Unsqueeze(features, axis)
  stack = Concat<axis = 0>(one, one)
  both = ReduceSum<keepdims = 0>(stack, axis)
  logits = """
    model = plain(TAIL.replace("logits = ", stack, 1).replace("(features, fc", "(both, fc"))
    assert free_taps(graph_of(model)) == {"a0", "last", "pool"}
    scalar = "m = ReduceMean<keepdims = 0>(features) r = Relu(m) k = Add(features, r) logits = "
    model = plain(TAIL.replace("logits = ", scalar, 1).replace("(features, fc", "(k, fc"))
    assert free_taps(graph_of(model)) == {"a0", "last", "pool"}


@pytest.mark.parametrize("shape", [None, (None, 4), ("unk__0", 4), (f"2*{ROWS}", 4), (2, 4), (ROWS,), (ROWS, 4)])
def test_a_first_size_that_nobody_knows_or_that_is_several_rows_is_not_taken_for_the_images(
    shape: Shape | None,
) -> None:
    assert likely_has_rows(shape) == (shape is not None and shape[0] == ROWS)


def names(values: Any) -> list[str]:
    return [value.name for value in values]


def test_pruned_keeps_what_the_outputs_need() -> None:
    proto = graph_of(residual()).proto
    proto.graph.output.append(onnx.ValueInfoProto(name="a"))
    cut = pruned(proto, ["a"])
    assert [n.op_type for n in cut.graph.node] == ["Conv", "Relu"]
    assert (names(cut.graph.input), names(cut.graph.initializer), names(cut.graph.output)) == (["x"], ["w0"], ["a"])
    assert set(run(cut, {"x": image_for(residual())})) == {"a"}


def test_pruned_keeps_a_node_for_its_other_output() -> None:
    """What is given already is not made twice."""
    text = """(float[N,3,4,4] x) => (float[N,3,2,2] y) {
  p, i = MaxPool<kernel_shape=[2,2],strides=[2,2]>(x)
  f = CastLike(i, p)
  y = Add(p, f)
}"""
    graph = graph_of(net(text))
    x = normal(1, 3, 4, 4)
    expected = run(graph.proto, {"x": x})["y"]
    proto = pruned(graph.proto, ["y"], [declared(graph, "p")])  # in place
    assert names(proto.graph.input) == ["x", "p"]
    pooled = x.reshape(1, 3, 2, 2, 2, 2).max(axis=(3, 5))
    found = Session(proto.SerializeToString()).run({"x": x, "p": pooled})["y"]
    np.testing.assert_allclose(found, expected)


def test_pruned_takes_values_as_inputs() -> None:
    graph = graph_of(residual())
    proto = pruned(graph.proto, ["y"], [declared(graph, "sum"), declared(graph, "stem")])
    assert [n.op_type for n in proto.graph.node] == ["Relu", "GlobalAveragePool", "Flatten", "Gemm", "Softmax"]
    assert names(proto.graph.input) == ["sum"]
    assert set(names(proto.graph.initializer)) == {"fc", "bias"}


def test_pruned_is_not_led_astray_by_absent_outputs() -> None:
    nodes = [node("Dropout", ["x"], ["aside", ""]), node("Clip", ["x", "", "top"], ["y"])]
    proto = pruned(graph_of(nodes_model(nodes, {"top": np.array(1, np.float32)})).proto, ["y"])
    assert [n.op_type for n in proto.graph.node] == ["Clip"]


# -- loops ----------------------------------------------------------------------------------------


def test_a_loop_between_layer_and_score_is_differentiated() -> None:
    carried = [helper.make_tensor_value_info(n, t, s) for n, t, s in (("i", 7, []), ("c", 9, []), ("v", 1, None))]
    body = helper.make_graph(
        [node("Identity", ["c"], ["c2"]), node("Relu", ["v"], ["v2"])], "body", carried,
        [helper.make_tensor_value_info("c2", 9, []), helper.make_tensor_value_info("v2", 1, None)],
    )  # fmt: skip
    model = plain(TAIL.replace("GlobalAveragePool(last)", "GlobalAveragePool(looped)"))
    model.graph.node.insert(4, node("Loop", ["times", "", "last"], ["looped"], name="loop", body=body))
    model.graph.initializer.append(numpy_helper.from_array(np.array(2), "times"))
    graph = graph_of(model)
    values = exactly(features(graph, ["last", "logits"]), {"x": image_for(model)})
    np.testing.assert_array_equal(recomputed(head(graph, "last", "logits"), values), values["logits"])
    seeds = normal(2, 5, seed=6)
    through, around = (onnxcam.differentiate(made, of="logits", wrt="last") for made in (model, plain()))
    slopes = [
        exactly(found.model, {"x": image_for(model), found.seed: seeds})[found.gradients["last"]]
        for found in (through, around)
    ]
    np.testing.assert_allclose(slopes[0], slopes[1] * (values["last"] > 0), rtol=1e-6)  # two more Relus behind one


@pytest.mark.slow
def test_the_heads_of_real_models_give_their_scores(shared: Path) -> None:
    checked = 0
    for path in sorted((shared / "models").glob("**/*.onnx")):
        graph = graph_of(path)
        with suppress(onnxcam.OnnxCamError):  # several outputs, no class scores, no layer: refused
            image, score = image_input(graph), find_score(graph)
            layer = next((layer for layer in candidates(graph, image, score) if layer.automatic), None)
            if layer is None:
                continue
            part = head(graph, layer.name, score.name)
            width, height = image.size
            sizes = {"N": image.batch or 1, "C": image.channels or 3, "H": height or 64, "W": width or 64}
            x = normal(*(sizes[axis] for axis in image.layout)).astype(image.dtype)
            (made,) = part.graph.outputs  # in front of the score's rounding, where it has one
            taps = [layer.name, made, *part.extra]
            opened = [
                Session(graph.model.portable(proto), folder=graph.model.folder, optimize=False)
                for proto in (features(graph, taps), part.graph.proto)
            ]
            values = opened[0].run({image.name: x})
            found = opened[1].run({name: values[name] for name in part.graph.inputs})[made]
            expected = values[made].astype(np.float64)
            assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max(), path
            checked += 1
    assert checked > 10
