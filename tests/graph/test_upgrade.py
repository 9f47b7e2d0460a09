"""The walk of `upgrade`: names, subgraphs, imports, what is proved about shapes, refusals, real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxcam.errors import ModelError
from onnxcam.graph.upgrade import upgrade
from tests.graph.upgrading import Array, assert_same, floats, ints, model_of, run, upgraded

X = floats(2, 3, 4)


# -- form of the result ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axis", "expected"),
    [((2, 5), 1, 1), ((2, 5, 1, 1), 1, 1), ((2, 1, 5), 1, 2), ((2, 3, 4), 2, 2), ((1, 1), 0, 0), ((2, 3, 4), -1, 2)],
)
def test_softmax_over_one_long_axis_stays_a_softmax(shape: tuple[int, ...], axis: int, expected: int) -> None:
    data = floats(*shape)
    old = model_of([helper.make_node("Softmax", ["x"], ["y"], axis=axis)], {"x": data}, ["y"], 9)
    (node,) = upgraded(old, [data]).graph.node
    assert [(a.name, a.i) for a in node.attribute] == [("axis", expected)]


def test_a_stale_shape_proves_nothing() -> None:
    nodes = [helper.make_node("Reshape", ["x", "s"], ["h"]), helper.make_node("Softmax", ["h"], ["y"])]
    feeds = {"x": X, "s": ints(2, 3, 4)}
    old = model_of(nodes, feeds, ["y"], 11, symbolic=True)
    expected = run(old, feeds)
    old.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, [2, 12]))
    new = upgraded(old, expected)
    del new.graph.value_info[:]
    assert_same(run(new, feeds), expected)


def test_values_and_nodes_keep_their_names_and_new_names_are_free() -> None:
    inner = helper.make_graph(
        [helper.make_node("Identity", ["y"], ["y_Constant"])], "then", [], [onnx.ValueInfoProto(name="y_Constant")]
    )
    nodes = [
        helper.make_node("Clip", ["x"], ["y"], name="bound", min=0.0),
        helper.make_node("Relu", ["y"], ["z"], name="same"),
        helper.make_node("If", ["c"], ["w"], then_branch=inner, else_branch=inner),
    ]
    old = model_of(nodes, {"x": X, "c": np.array(True)}, ["y", "z"], 9)
    untouched = old.graph.node[1].SerializeToString()
    upgrade(old)
    assert [(node.op_type, node.name, list(node.output)) for node in old.graph.node] == [
        ("Constant", "", ["y_Constant_2"]),
        ("Clip", "bound", ["y"]),
        ("Relu", "same", ["z"]),
        ("If", "", ["w"]),
    ]
    assert old.graph.node[2].SerializeToString() == untouched
    assert list(old.graph.node[1].input) == ["x", "", "y_Constant_2"] or list(old.graph.node[1].input) == [
        "x",
        "y_Constant_2",
    ]


def branch(name: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
    result = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    return helper.make_graph(nodes, name, [], [result])


def test_subgraphs_are_upgraded_too() -> None:
    deepest = branch("deepest", helper.make_node("Softmax", ["x"], ["d"], axis=1))
    plain = branch("plain", helper.make_node("Clip", ["x"], ["p"], max=0.5))
    then = branch("then", helper.make_node("If", ["c"], ["t"], then_branch=deepest, else_branch=plain))
    otherwise = branch("otherwise", helper.make_node("Unsqueeze", ["x"], ["u"], axes=[0]),
                       helper.make_node("Squeeze", ["u"], ["e"], axes=[0]))  # fmt: skip
    nodes = [helper.make_node("If", ["o"], ["y"], then_branch=then, else_branch=otherwise)]
    for outer in (True, False):
        for inner in (True, False):
            feeds = {"x": X, "o": np.array(outer), "c": np.array(inner)}
            old = model_of(nodes, feeds, ["y"], 10)
            expected = run(old, feeds)
            assert_same(run(upgraded(old, expected), feeds), expected)


def test_names_that_branches_share_with_different_types_prove_nothing() -> None:
    wide = branch("wide", helper.make_node("Identity", ["x"], ["h"]), helper.make_node("Softmax", ["h"], ["y1"]))
    flat = branch("flat", helper.make_node("Flatten", ["x"], ["h"]), helper.make_node("Softmax", ["h"], ["y2"]))
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=wide, else_branch=flat)]
    for choice in (True, False):
        feeds = {"x": X, "c": np.array(choice)}
        old = model_of(nodes, feeds, ["y"], 11)
        expected = run(old, feeds)
        assert_same(run(upgraded(old, expected), feeds), expected)


def test_bodies_of_loops_are_upgraded() -> None:
    typed = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Clip", ["state"], ["clipped"], max=2.0), helper.make_node("Add", ["clipped", "x"], ["next"]),
         helper.make_node("Identity", ["go"], ["go_on"])],
        "body",
        [typed("i", TensorProto.INT64, []), typed("go", TensorProto.BOOL, []),
         typed("state", TensorProto.FLOAT, [2, 3, 4])],
        [typed("go_on", TensorProto.BOOL, []), typed("next", TensorProto.FLOAT, [2, 3, 4])],
    )  # fmt: skip
    old = model_of([helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)], {"n": np.array(3), "x": X}, ["y"], 9)
    feeds = {"n": np.array(3), "x": X}
    expected = run(old, feeds)
    new = upgraded(old, expected)
    assert_same(run(new, feeds), expected)
    assert [node.op_type for node in new.graph.node[-1].attribute[0].g.node] == ["Constant", "Clip", "Add", "Identity"]


def test_a_stale_shape_inside_a_branch_proves_nothing() -> None:
    then = branch("then", helper.make_node("Reshape", ["x", "s"], ["h"]), helper.make_node("Softmax", ["h"], ["y1"]))
    then.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, [2, 12]))
    otherwise = branch("otherwise", helper.make_node("Identity", ["x"], ["y2"]))
    feeds = {"x": X, "s": ints(2, 3, 4), "c": np.array(True)}
    node = helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=otherwise)
    old = model_of([node], feeds, ["y"], 11, symbolic=True)
    upgrade(old)
    (body,) = [a.g for a in old.graph.node[0].attribute if a.name == "then_branch"]
    assert [node.op_type for node in body.node] == ["Reshape", "Flatten", "Softmax", "Shape", "Reshape"]


@pytest.mark.parametrize("opset", [16, 17, 20])
def test_newer_models_are_left_alone(opset: int) -> None:
    model = model_of([helper.make_node("Softmax", ["x"], ["y"], axis=1)], {"x": X}, ["y"], opset)
    model.ir_version = 7
    before = model.SerializeToString(deterministic=True)
    upgrade(model)
    assert model.SerializeToString(deterministic=True) == before


def test_other_domains_and_both_spellings_of_the_default_one() -> None:
    nodes = [
        helper.make_node("Clip", ["x"], ["h"], domain="ai.onnx", min=0.0),
        helper.make_node("Clip", ["h"], ["y"], domain="org.example", min=0.0),
    ]
    model = model_of(nodes, {"x": X}, ["y"], 11)
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("org.example", 3), helper.make_opsetid("ai.onnx", 10)])
    model.ir_version = 4
    foreign = model.graph.node[1].SerializeToString()
    upgrade(model)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 16), ("org.example", 3)]
    assert model.ir_version == 8
    assert model.graph.node[-1].SerializeToString() == foreign
    assert list(model.graph.node[-2].input) == ["x", "h_Constant"]


# -- refusals -------------------------------------------------------------------------------------------

STATISTICS = ["x", "c", "c", "c", "c"]
REFUSED = [
    (helper.make_node("Scan", ["", "x", "x"], ["y"], num_scan_inputs=1, body=helper.make_graph([], "b", [], [])), 8,
     "batch axis of its own"),
    (helper.make_node("BatchNormalization", STATISTICS, ["y"], spatial=0), 8, "set spatial=1"),
    (helper.make_node("BatchNormalization", STATISTICS, ["y"]), 6, "set is_test=1"),
    (helper.make_node("BatchNormalization", STATISTICS, ["a", "b", "c1", "y", "e"]), 9, "output 'y' is read"),
    (helper.make_node("Dropout", ["x"], ["y"]), 6, "set is_test=1"),
    (helper.make_node("Split", ["x"], ["y", "z"]), 1, "which axis"),
    (helper.make_node("LpPool", ["x"], ["y"], kernel_shape=[1], p=1.5), 1, "p = 1.5 is no integer"),
    (helper.make_node("Cast", ["x"], ["y"], to="FLOTE"), 1, "no element type 'FLOTE'"),
    (helper.make_node("Add", ["x", "x"], ["y"], broadcast=1, axis=-1), 6, "count it from the front"),
    (helper.make_node("Upsample", ["x"], ["y"], scales=[1.0, 2.0], mode="cubic"), 7, "use nearest or linear"),
    (helper.make_node("Upsample", ["x", "s"], ["y"]), 10, "no such operator at this opset"),
    (helper.make_node("GivenTensorFill", ["x"], ["y"]), 9, "no such operator at this opset"),
    (helper.make_node("Affine", ["x"], ["y"]), 10, "no such operator at this opset"),
    (helper.make_node("Gelu", ["x"], ["y"]), 15, "no such operator at this opset"),
    (helper.make_node("Slice", ["x"], ["y"], starts=[0]), 9, "malformed"),
    (helper.make_node("Clip", ["x", "x"], ["y"]), 6, "malformed"),
    (helper.make_node("Softmax", ["x"], ["y"], axis=1.5), 9, "malformed"),
    (helper.make_node("Crop", ["x"], ["y"], border=[1, 2]), 9, "four numbers"),
    (helper.make_node("ImageScaler", ["x"], ["y"]), 9, "`bias` is missing"),
    (helper.make_node("ImageScaler", [], ["y"]), 9, "0 inputs instead of 1"),
    (helper.make_node("DynamicSlice", ["x"], ["y"]), 9, "starts, ends"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("node", "opset", "reason"), REFUSED, ids=[f"{node.op_type}-{opset}-{reason}" for node, opset, reason in REFUSED]
)
def test_what_cannot_be_adapted_is_refused_in_one_line_and_left_as_it_was(
    node: onnx.NodeProto, opset: int, reason: str
) -> None:
    clip = (
        helper.make_node("Clip", ["y"], ["clipped"], min=0.0) if opset < 11 else helper.make_node("Clip", ["y"], ["c2"])
    )
    model = model_of([clip, node], {"x": X, "c": floats(3)}, ["y"], opset)
    before = model.SerializeToString(deterministic=True)
    with pytest.raises(ModelError) as refused:
        upgrade(model)
    message = str(refused.value)
    assert message.startswith(
        f"{node.op_type} (opset {opset}) at node '{node.output[0]}' cannot be brought to opset 16: "
    )
    assert reason in message
    assert "\n" not in message
    assert model.SerializeToString(deterministic=True) == before


def test_an_opset_that_never_was_is_refused() -> None:
    model = model_of([helper.make_node("Pad", ["x"], ["y"])], {"x": X}, ["y"], 0)
    with pytest.raises(ModelError, match="no such operator at this opset"):
        upgrade(model)


# -- real files -----------------------------------------------------------------------------------------

FILES = [
    "graphs/onnxruntime/java/testdata/cnn_mnist_pytorch.onnx",
    "graphs/onnxruntime/onnxruntime/test/testdata/transform/fp16model_loop.onnx",
    "graphs/onnxruntime/winml/test/collateral/models/squeezenet_tensor_input.onnx",
    "graphs/ort/tests/data/upsample.onnx",
    "models/allconv_cifar10.onnx",
    "models/mnist_cntk_op8.onnx",
    "models/nanodet_m_320_coco.onnx",
    "models/selfie_segmentation_landscape.onnx",
]


def random_feeds(model: onnx.ModelProto) -> dict[str, Array]:
    weights = {tensor.name for tensor in model.graph.initializer}
    rng = np.random.default_rng(0)
    return {
        value.name: rng.standard_normal(
            [dim.dim_value if dim.dim_value > 0 else 1 for dim in value.type.tensor_type.shape.dim]
        ).astype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        for value in model.graph.input
        if value.name not in weights
    }


@pytest.mark.parametrize("file", FILES)
def test_real_files_compute_the_same(shared: Path, file: str) -> None:
    if not (shared / file).is_file():
        pytest.skip(f"no {file}")
    model = onnx.load(shared / file)
    feeds = random_feeds(model)
    expected = run(model, feeds)
    upgrade(model)
    assert_same(run(model, feeds), expected)
