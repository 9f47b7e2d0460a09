"""What is refused by name before anything reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnxcam.errors import ModelError
from onnxcam.graph import PerilError, load, read_graph
from onnxcam.graph.normalize import normalize
from tests.graph.building import graph_of, nodes_model
from tests.nets import net

node = helper.make_node


@pytest.mark.parametrize(
    "broken",
    [
        node("Relu", [], ["y"]),
        node("Relu", ["x"], []),
        node("Relu", ["x", "x"], ["y"]),
        node("Relu", [""], ["y"]),
        node("Concat", ["x", "x"], ["y"]),
        node("Concat", ["x", "x"], ["y"], axis=1, unknown=2),
        node("Transpose", ["x"], ["y"], perm=1.5),
        node("Softmax", ["x"], ["y"], axis=[1]),
    ],
)
def test_a_malformed_node(broken: onnx.NodeProto) -> None:
    nodes = [broken] if "y" in broken.output else [broken, node("Neg", ["x"], ["y"])]
    with pytest.raises(ModelError, match=f"{broken.op_type} .* is malformed") as caught:
        graph_of(nodes_model(nodes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("op", ["Softmax", "Constant"])
def test_a_reference_to_an_attribute_of_no_function(op: str) -> None:
    proto = net(
        "(float[N,2] x) => (float[N,2] y) { c = Constant<value_float = 1.0>() s = Softmax<axis = 1>(x) y = Add(s, c) }"
    )
    (node,) = (node for node in proto.graph.node if node.op_type == op)
    node.attribute[0].ref_attr_name = "axis"
    with pytest.raises(ModelError, match=rf"^the model is broken: {op} 'node\d' refers to an attribute of no function"):
        normalize(load(proto))


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (helper.make_node("Einsum", ["x"], ["y"], equation="....->...."), "Einsum 'y' has an equation that is none"),
        (
            helper.make_node("Einsum", ["x"], ["y"], equation="a" * 5000 + "!"),
            "Einsum 'y' has an equation that is none",
        ),
        (
            helper.make_node("Einsum", ["x"], ["y"], equation="aa," * 60 + "a!"),  # of which a pattern may try all ways
            "Einsum 'y' has an equation that is none",
        ),
        (
            helper.make_node("LayerNormalization", ["x", "kernel"], ["y", "mean"], axis=2**31),
            "LayerNormalization 'y' names an axis that no tensor has",
        ),
        (helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=2**62), "DepthToSpace 'y' has blocks of 4611"),
        (helper.make_node("Slice", ["x", "zero", "zero", "zero", "far"], ["y"]), "Slice 'y' takes steps of more than"),
        (helper.make_node("Slice", ["x", "zero", "zero", "zero", "most"], ["y"]), "Slice 'y' takes steps of more than"),
        (
            helper.make_node("Slice", ["x", "zero", "zero", "zero", "max32"], ["y"]),
            "Slice 'y' takes steps of more than",
        ),
        (helper.make_node("ConvTranspose", ["x", "kernel"], ["y"], group=0), "ConvTranspose 'y' has 0 groups"),
        (helper.make_node("FusedConv", ["x", "kernel"], ["y"], domain="com.microsoft", group=-1), "has -1 groups"),
        (helper.make_node("OneHot", ["zero", "none", "ends"], ["y"]), "OneHot 'y' has a depth that is no number"),
        (helper.make_node("Range", ["start", "limit", "step"], ["y"]), "Range 'y' makes a vector of 1,099,511,627,776"),
    ],
)
def test_what_would_end_or_hang_the_process_is_refused(made: onnx.NodeProto, says: str) -> None:
    """onnx or ONNX Runtime loops for ever, divides by zero, or counts beyond its memory."""
    weights = {
        "zero": np.array([0]), "far": np.array([2**63 - 1]), "most": np.array([2**31 - 1]),
        "max32": np.array([2**31 - 1], np.int32), "kernel": np.ones((4, 4, 1, 1), np.float32),
        "start": np.array(0), "limit": np.array(2**40), "step": np.array(1),
        "none": np.zeros(0, np.int64), "ends": np.array([0, 1], np.float32),
    }  # fmt: skip
    with pytest.raises(ModelError, match=says):
        read_graph(load(nodes_model([made], weights, shape=(1, 4, 2, 2))))


def test_sizes_put_together_without_end_are_refused() -> None:
    nodes = [node("Shape", ["x"], ["v0"]), *(node("Concat", [f"v{i}"] * 2, [f"v{i + 1}"], axis=0) for i in range(40))]
    with pytest.raises(PerilError, match=r"Concat 'v2\d' makes a vector of \d,\d{3},\d{3} numbers"):
        graph_of(nodes_model([*nodes, node("Expand", ["x", "v40"], ["y"])]))


@pytest.mark.parametrize("inside", [False, True], ids=["in the graph", "in a branch"])
def test_sizes_put_together_by_way_of_views_are_refused(inside: bool) -> None:
    """Each node for itself makes no more than may be; onnx's inference holds them all."""
    views = "".join(
        f"c{i} = Concat<axis = 0>(v{i}, v{i}) u{i} = Unsqueeze(c{i}, zero) v{i + 1} = Squeeze(u{i}, zero) "
        for i in range(21)
    )
    chain = f"v0 = Shape(x) {views} " + "".join(f"v{i + 1} = Add(v{i}, v{i}) " for i in range(21, 60))
    other = "else_branch = b () => (int64[1] z) { z = Identity(zero) }"
    body = f"y = If(yes) <then_branch = a () => (int64[n] v60) {{ {chain} }}, {other}>"
    body = body if inside else f"{chain} y = Identity(v60)"
    model = net(f"(float[1] x) => (int64[m] y) {{ {body} }}", {"zero": np.array([0]), "yes": np.array(True)})
    with pytest.raises(PerilError, match="makes a vector of"):
        graph_of(model)


def test_a_detector_that_finds_among_millions_is_no_peril() -> None:
    """Vectors of scores and places, of lengths that are told: nothing puts sizes together there."""
    text = "(float[4000000] x, int64[4000000] at) => (float[m] y) { " + " ".join(
        f"g{i} = Gather(x, at) n{i} = Cast<to = 7>(g{i})" for i in range(8)
    )
    assert graph_of(net(f"{text} y = Identity(g7) }}")).shape("y") == (4000000,)


def test_more_axes_than_any_tensor_are_refused() -> None:
    with pytest.raises(PerilError, match="'x' has 20,000 axes, more than any tensor"):
        graph_of(nodes_model([node("Relu", ["x"], ["y"])], shape=tuple(f"d{i}" for i in range(20_000))))


def test_numbers_of_very_many_digits_are_told() -> None:
    """Python writes out none of them."""
    model = nodes_model([node("Relu", ["x"], ["y"])])
    sparse = model.graph.sparse_initializer.add(dims=[2**62] * 300)
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "s"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.zeros(1, np.int64), "i"))
    with pytest.raises(ModelError, match="take over 1,000,000,000,000,000 MB with their zeros"):
        graph_of(model)


@pytest.mark.parametrize("sizes", ["Concat<axis = 0>(many, many)", "Identity(many)", "Range(zero, count, one)"])
def test_sizes_that_take_more_memory_than_there_is_are_refused(sizes: str) -> None:
    """Each is to be an axis: onnx's inference writes them out, or ONNX Runtime's."""
    text = f"(float[1] x, int64[1099511627776] many, int64[3000000000, 1] long) => (float[1] y) {{ s = {sizes} " + (
        "e = Expand(x, s) y = ReduceSum<keepdims = 0>(e) }"
    )
    text = text.replace("{ s", "{ l = Shape(long) count = ReduceMax<keepdims = 0>(l) s")
    proto = net(text, {"zero": np.array(0), "one": np.array(1)})
    with pytest.raises(
        PerilError, match=r"take more memory than those of any model|makes a vector of [0-9,]{17} numbers"
    ):
        _ = graph_of(proto).types


def test_perils_of_old_opsets_are_refused_before_these_are_adapted() -> None:
    proto = net("(float[2, 2] x) => (float[2, 2] y) { y = Softmax(e) }", opset=12)
    proto.graph.node.insert(0, node("Einsum", ["x"], ["e"], equation="......->"))
    with pytest.raises(PerilError, match="Einsum 'e' has an equation that is none"):
        graph_of(proto)


@pytest.mark.parametrize("limit", [float("nan"), float("inf"), -5.0, 100.0])
def test_ranges_that_are_harmless(limit: float) -> None:
    numbers = {"start": np.float32(0), "limit": np.float32(limit), "step": np.float32(1)}
    graph_of(nodes_model([node("Range", ["start", "limit", "step"], ["r"]), node("Neg", ["x"], ["y"])], numbers))


def test_a_range_whose_numbers_lie_in_another_file(tmp_path: Path) -> None:
    numbers = {"start": np.float32(0), "limit": np.float32(4), "step": np.float32(1)}
    model = nodes_model([node("Range", ["start", "limit", "step"], ["r"]), node("Add", ["x", "r"], ["y"])], numbers)
    path = tmp_path / "range.onnx"
    onnx.save(model, path, save_as_external_data=True, location="numbers.bin", size_threshold=0)
    with pytest.raises(ModelError, match="Cannot parse data from external tensors"):  # ONNX Runtime's own words
        _ = read_graph(load(path)).types


def test_a_weight_of_endless_axes_is_refused() -> None:
    model = nodes_model([node("Neg", ["x"], ["y"])], {"w": np.zeros(3, np.float32)})
    model.graph.initializer[0].dims[:] = [2**62] * 1000
    with pytest.raises(ModelError, match="the weight 'w' of the model has 1,000 axes, which no tensor has"):
        load(model)


def test_sparse_weights_that_are_too_large_together_are_refused() -> None:
    """Three of 2^25 floats with their zeros: 384 MB. One alone would do, but nobody makes it here."""
    model = nodes_model([node("MatMul", ["x", "w0"], ["y"])])
    values, indices = (numpy_helper.from_array(array) for array in (np.ones(2, np.float32), np.array([1, 6])))
    for i in range(3):
        model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4, 2**23]))
        model.graph.sparse_initializer[i].values.name = f"w{i}"
    with pytest.raises(ModelError, match="take 384 MB with their zeros"):
        graph_of(model)


@pytest.mark.parametrize(("attribute", "value"), [("auto_pad", 3), ("pads", "1"), ("activation", 1.0), ("strides", 2)])
def test_attributes_of_an_operator_that_onnx_does_not_know_are_of_their_kind(attribute: str, value: Any) -> None:
    odd = node("FusedConv", ["x", "k"], ["y"], domain="com.microsoft", **{attribute: value})
    proto = net("(float[1,1,4,4] x) => (float[A] z) { z = Identity(y) }", {"k": np.ones((1, 1, 1, 1), np.float32)})
    proto.graph.node.insert(0, odd)
    with pytest.raises(ModelError, match=rf"FusedConv 'y' is malformed \(its {attribute} is of another kind\)"):
        read_graph(load(proto))
