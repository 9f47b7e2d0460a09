"""Small changes in place."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxcam.graph import (
    default_to,
    expose,
    forget_authors,
    rename,
    restore_interface,
    without_idle_weights,
    write_metadata,
)
from tests.graph.building import graph_of, nodes_model, residual
from tests.nets import net, normal, run

node = helper.make_node


def test_renaming_inputs_outputs_and_what_reads_them() -> None:
    proto = nodes_model([node("Neg", ["x"], ["h"]), node("Add", ["h", "x"], ["y"])])
    rename(proto, {"x": "image", "h": "inner", "y": "scores"})
    assert [(list(n.input), list(n.output)) for n in proto.graph.node] == [
        (["image"], ["inner"]), (["inner", "image"], ["scores"])
    ]  # fmt: skip
    assert (proto.graph.input[0].name, proto.graph.output[0].name) == ("image", "scores")


def test_an_input_with_a_default_need_not_be_fed() -> None:
    text = "(float[N,4] x, int64[k] which) => (float[N,k] y) { y = Gather<axis=1>(x, which) }"
    proto = net(text)
    default_to(proto, "which", -1)
    x = normal(2, 4)
    np.testing.assert_array_equal(run(proto, {"x": x})["y"], x[:, -1:])
    np.testing.assert_array_equal(run(proto, {"x": x, "which": np.array([2])})["y"], x[:, 2:3])


def test_exposed_values_have_type_and_shape_and_are_listed_once() -> None:
    graph = graph_of(residual())
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    expose(graph, proto, ["sum", "sum", "y", "logits"])
    assert [value.name for value in proto.graph.output] == ["y", "sum", "logits"]
    assert proto.graph.output[1] == helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["N", 4, 8, 8])
    run(proto, {"x": normal(2, 3, 8, 8)})


def test_the_interface_is_restored_as_it_was_declared() -> None:
    model = residual()
    model.graph.input[0].doc_string = "a photo"
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "?"
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "classes"
    graph = graph_of(model)
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    expose(graph, proto, ["sum"])
    assert proto.graph.input[0] != model.graph.input[0]
    restore_interface(graph, proto)
    assert proto.graph.input[0] == model.graph.input[0]
    assert proto.graph.output[0] == model.graph.output[0]


def test_an_output_without_a_type_gets_the_one_worked_out() -> None:
    model = residual()
    model.graph.output[0].ClearField("type")
    graph = graph_of(model)
    restore_interface(graph, graph.proto)
    assert graph.proto.graph.output[0] == helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])


def test_stack_traces_are_not_carried_on() -> None:
    model = residual()
    for n in model.graph.node:
        entry = n.metadata_props.add()
        entry.key, entry.value = "pkg.torch.onnx.stack_trace", "File /home/author/secret.py"
        n.doc_string = "/home/author"
    forget_authors(model)
    assert b"author" not in model.SerializeToString()
    assert [n.name for n in model.graph.node] == [n.name for n in residual().graph.node]


def test_metadata_is_set_and_kept() -> None:
    model = residual()
    for key, value in (("stride", "32"), ("", ""), ("onnxcam.labels", "old")):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    write_metadata(model, {"onnxcam.labels": "cat\ndog", "onnxcam.manifest": "{}"})
    assert [(entry.key, entry.value) for entry in model.metadata_props] == [
        ("stride", "32"), ("", ""), ("onnxcam.labels", "cat\ndog"), ("onnxcam.manifest", "{}")
    ]  # fmt: skip


def test_weights_that_nothing_reads_are_left_out_of_a_copy() -> None:
    """Read: by a node, inside a branch, as an output, or by whoever feeds the model, whose input it is."""
    text = """(float[2] x, bool t, float[2] fed) => (float[2] y, float[2] given) {
  s = Add(x, used)
  y = If(t)<
    then_branch = a () => (float[2] p) { p = Add(s, inside) }, else_branch = b () => (float[2] q) { q = Neg(s) }
  >
}"""
    proto = net(text)
    names = ["used", "inside", "given", "fed", "idle", "idle2"]
    proto.graph.initializer.extend(numpy_helper.from_array(normal(2), name) for name in names)
    before = proto.SerializeToString()
    lean = without_idle_weights(proto)
    assert [tensor.name for tensor in lean.graph.initializer] == names[:4]
    assert proto.SerializeToString() == before
    assert without_idle_weights(lean) is lean
    feeds = {"x": normal(2), "t": np.array(True)}
    np.testing.assert_array_equal(run(lean, feeds)["y"], run(proto, feeds)["y"])
