"""An If whose condition is known."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

from onnxcam.errors import ModelError
from onnxcam.graph import Graph, load, read_graph, with_branches
from tests.nets import net
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


def test_a_new_name_is_none_of_a_body_that_stays() -> None:
    """`s` is renamed for the other branch's sake, and the loop in its own branch has an `s_1`."""
    body = """v = If (t) <then_branch = a () => (p) { s = Cos(x) n = Constant <value = int64 {2}> ()
        p = Loop(n, t, x) <body = l (int64 i, bool go, float[2, 3] b) => (bool on, float[2, 3] d)
            { on = Identity(go) s_1 = Mul(b, b) d = Add(s_1, s) }> }, else_branch = b () => (q) { q = Sin(x) }>
        least = ReduceMin<keepdims = 0>(x) most = ReduceMax<keepdims = 0>(x) open = Equal(least, most)
        u = If (open) <then_branch = c () => (r) { s = Neg(x) r = Exp(s) }, else_branch = d () => (w) { w = Abs(x) }>
        y = Add(u, v)"""
    model, graph = read(body)
    assert [node.op_type for node in graph.nodes].count("If") == 1
    same(model, graph)


def test_a_condition_worked_out_from_a_static_shape() -> None:
    body = """h = Shape(x) i = Constant <value = int64 {0}> () d = Gather(h, i) two = Constant <value = int64 {2}> ()
        c = Equal(d, two)
        y = If (c) <then_branch = a () => (p) { p = Neg(x) }, else_branch = b () => (q) { q = Abs(x) }>"""
    model, graph = read(body)
    assert "If" not in [node.op_type for node in graph.nodes]
    same(model, graph)


def test_a_condition_worked_out_from_a_size_in_32_bits() -> None:
    """As tf2onnx writes Keras's Resizing(pad_to_aspect_ratio=True): the size is known, that of the batch is not."""
    model = net(
        """(float[N,3,4] x) => (float[N,3,4] y) {
  sizes = Shape(x)
  turned = Gather(sizes, order)
  narrow = Cast<to=6>(turned)
  size = Slice(narrow, zero, one)
  half = Div(size, two)
  c = Greater(half, one32)
  scalar = Squeeze(c)
  y = If (scalar) <then_branch = a () => (p) { p = Neg(x) }, else_branch = b () => (q) { q = Abs(x) }>
}""",
        {"order": np.array([2, 0, 1]), "zero": np.array([0]), "one": np.array([1]), "two": np.int32([2]),
         "one32": np.int32([1])},
    )  # fmt: skip
    graph = read_graph(load(model))
    assert "Neg" in [node.op_type for node in graph.nodes]
    assert "If" not in [node.op_type for node in graph.nodes]
    size = graph.constant("size")
    assert size is not None
    assert (size.dtype, size.tolist()) == (np.int32, [4])


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


# -- conditions that hang on sizes --------------------------------------------------------------------------------

BRANCHES = "<then_branch = a () => (v) { v = Neg(u) }, else_branch = b () => (v) { v = Abs(u) }>"
CONSTANTS = {"zero": np.array(0), "one": np.array(1), "two": np.array(2), "six": np.array([6])}


def sized(body: str, *sizes: int | None) -> tuple[Graph, Graph]:
    """A graph of images of any size, and the same with the branches that some sizes take."""
    graph = read_graph(load(net(f"(float[N,3,H,W] x) => (float[] y) {{ {body} }}", CONSTANTS)))
    return graph, with_branches(graph, {"x": sizes})


def operators(graph: Graph) -> list[str]:
    return [node.op_type for node in graph.nodes]


def test_a_size_that_is_known_decides_whatever_is_free() -> None:
    body = f"u = Relu(x) s = Shape(u) c = Gather(s, one) q = Equal(c, two) y = If (q) {BRANCHES}"
    graph, same = sized(body, None, 3, 8, 8)
    assert operators(graph)[-1] == "Abs"
    assert same is graph


@pytest.mark.parametrize(("height", "op"), [(2, "Neg"), (5, "Abs")])
def test_a_free_size_decides_once_it_is_known(height: int, op: str) -> None:
    body = f"u = Relu(x) s = Shape(u) h = Gather(s, two) q = Equal(h, two) y = If (q) {BRANCHES}"
    graph, found = sized(body, None, 3, height, 4)
    assert operators(graph)[-1] == "If"
    assert operators(found)[-1] == op
    assert found.shape("y") == ("N", 3, "H", "W")


def test_a_branch_decides_another() -> None:
    body = f"""u = Relu(x) s = Shape(u) h = Gather(s, two) q = Equal(h, one) i = Reshape(two, minus)
        rows = If (q) <then_branch = c () => (m) {{ m = Squeeze(u, i) }},
                       else_branch = d () => (n) {{ n = Identity(u) }}>
        r = Shape(rows) k = Size(r) three = Add(one, two) z = Equal(k, three) y = If (z) {BRANCHES}"""
    model = net(f"(float[N,3,H,W] x) => (float[] y) {{ {body} }}", {**CONSTANTS, "minus": np.array([-1])})
    graph = read_graph(load(model))
    ends = [operators(with_branches(graph, {"x": (None, 3, height, 4)}))[-1] for height in (1, 2)]
    assert (operators(graph).count("If"), ends) == (2, ["Neg", "Abs"])


@pytest.mark.parametrize(
    "condition",
    [
        "n = Gather(s, zero) q = Equal(n, one)",  # the batch
        "t = Reshape(u, flat) r = Shape(t) k = Gather(r, zero) q = Equal(k, one)",  # batch and sizes together
        "m = ReduceMax<keepdims = 0>(x) q = Greater(m, nought)",  # what the image shows
        "n = Slice(s, o, i) k = Mul(n, six) d = Div(k, n) e = Squeeze(d) l = Range(zero, e, one) r = Shape(l)"
        " q = Equal(r, six)",  # six for every batch that is tried, which proves nothing
    ],
)
def test_what_another_image_may_decide_otherwise_stays(condition: str) -> None:
    body = f"u = Relu(x) s = Shape(u) {condition} y = If (q) {BRANCHES}"
    more = {"flat": np.array([-1, 32]), "nought": np.array(0, np.float32), "o": np.array([0]), "i": np.array([1])}
    for sizes in ("N,3,H,W", "N,3,4,8"):
        read = read_graph(load(net(f"(float[{sizes}] x) => (float[] y) {{ {body} }}", {**CONSTANTS, **more})))
        graph = Graph(read.model, read.proto)
        _ = graph.types  # batches are tried
        assert with_branches(graph, {"x": (None, 3, 4, 8)}) is graph
        assert "If" in operators(graph)


def test_a_size_that_does_not_fit() -> None:
    body = "u = Relu(x) s = Shape(u) h = Gather(s, two) q = Equal(h, two) "
    body += "v = If (q) <then_branch = a () => (p) { p = Squeeze(u) }, else_branch = b () => (r) { r = Abs(u) }> "
    with pytest.raises(ModelError, match=r"Transpose 'node5' turns 3 axes of 'v' \[N, 3, 4, 4\]"):
        sized(body + "y = Transpose<perm = [1, 0, 2]>(v)", None, 3, 4, 4)
