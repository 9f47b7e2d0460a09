"""An If whose condition is known."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

from onnxcam.errors import ModelError
from onnxcam.graph import Graph, load, read_graph
from tests.vjp.harness import declared, session

TEXT = """<ir_version: 8, opset_import: ["" : 17]> g (float[2, 3] x) => (float[] y) <bool t = {1}, bool f = {0}> {
    %s }"""
CHOICE = """If (%s) <then_branch = a () => (p) { w = Constant <value = float {2}> () s = Mul(x, w) p = Relu(s) },
                     else_branch = b () => (p) { s = Neg(x) p = Exp(s) }>"""


def read(body: str) -> tuple[onnx.ModelProto, Graph]:
    model = declared(onnx.parser.parse_model(TEXT % body))
    return model, read_graph(load(model))


def same(model: onnx.ModelProto, graph: Graph) -> None:
    feeds = {"x": np.array([[1, -2, 3], [0.5, -0.5, 0]], np.float32)}
    before, after = (session(proto).run(["y"], feeds)[0] for proto in (model, graph.proto))
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize(("condition", "ops"), [("t", ["Mul", "Relu"]), ("f", ["Neg", "Exp"])])
def test_the_branch_that_is_taken_lies_in_the_main_graph(condition: str, ops: list[str]) -> None:
    model, graph = read(f"y = {CHOICE % condition}")
    assert [node.op_type for node in graph.nodes] == ops
    assert graph.nodes[0].output[0] == "s"
    assert graph.outputs == ["y"]
    same(model, graph)


def test_names_of_several_branches_do_not_collide() -> None:
    model, graph = read(f"u = {CHOICE % 't'} v = {CHOICE % 'f'} y = Add(u, v)")
    assert [node.output[0] for node in graph.nodes] == ["s_1", "u", "s", "v", "y"]
    same(model, graph)


def test_a_condition_worked_out_from_a_static_shape() -> None:
    body = """h = Shape(x) i = Constant <value = int64 {0}> () d = Gather(h, i) two = Constant <value = int64 {2}> ()
        c = Equal(d, two)
        y = If (c) <then_branch = a () => (p) { p = Neg(x) }, else_branch = b () => (q) { q = Abs(x) }>"""
    model, graph = read(body)
    assert "If" not in [node.op_type for node in graph.nodes]
    same(model, graph)


def test_an_output_that_no_node_of_the_branch_makes() -> None:
    body = """u, v = If (t) <then_branch = a () => (k, n) <float k = {3}> { n = Neg(x) },
                           else_branch = b () => (q, r) { q = Neg(x) r = Neg(x) }>
        y = Mul(u, v)"""
    model, graph = read(body)
    assert [node.op_type for node in graph.nodes] == ["Neg", "Identity", "Mul"]
    np.testing.assert_array_equal(graph.constant("u"), 3)
    same(model, graph)


def test_branches_within_branches() -> None:
    inner = "If (f) <then_branch = c () => (m) { m = Sin(e) }, else_branch = d () => (n) { n = Cos(e) }>"
    body = f"""y = If (t) <then_branch = a () => (p) {{ e = Exp(x) p = {inner} }},
                           else_branch = b () => (q) {{ q = Abs(x) }}>"""
    model, graph = read(body)
    assert [node.op_type for node in graph.nodes] == ["Exp", "Cos"]
    same(model, graph)


def test_a_condition_that_depends_on_the_input_stays() -> None:
    body = "m = ReduceMax <keepdims = 0> (x) z = Constant <value = float {0}> () c = Greater(m, z) y = " + CHOICE % "c"
    model, graph = read(body)
    assert "If" in [node.op_type for node in graph.nodes]
    same(model, graph)


@pytest.mark.parametrize(
    "body",
    [
        "y = If (t) <then_branch = a () => (p) { p = Neg(x) }>",
        "y = If (t) <then_branch = a () => (p, p) { p = Neg(x) }, else_branch = b () => (q) { q = Neg(x) }>",
        "y = Loop (, t, x) <body = b (int64 i, bool c) => (bool c, float[] x) { k = Neg(x) }>",
        "y = Scan <body = b (float[3] r) => (float[3] u) { u = Neg(r) }> (x)",
        """y = Scan <num_scan_inputs = 1, scan_input_axes = [0, 1],
           body = b (float[3] r) => (float[3] u) { u = Neg(r) }> (x)""",
    ],
)
def test_a_broken_control_flow_node_is_refused(body: str) -> None:
    model = onnx.parser.parse_model(TEXT % body)
    with pytest.raises(ModelError, match=r"the model is broken: (If|Loop|Scan) 'y' does not"):
        read_graph(load(model))
